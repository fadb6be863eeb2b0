//! Handlers in C and Zig: their builds, and what the SDK does on a host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use jackfield::toolchain::{Job, Profile, SourceLanguage};
use jackfield::world::World;

use tempfile::TempDir;

use crate::harness::{Server, Site, component, manifest, project_component};

/// The handlers of this repository in C and in Zig.
pub const ECHO: [&str; 2] = ["plugins/echo-c/build/echo.wasm", "plugins/echo-zig/build/echo.wasm"];
pub const CHAT: [&str; 2] = ["plugins/chat-c/build/chat.wasm", "plugins/chat-zig/build/chat.wasm"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn serve(component: &Path, keys: &str) -> Server {
    Site::new(&manifest(component, "", keys)).serve()
}

/// Writes a source into a new folder, and builds it there.
struct Scratch {
    folder: TempDir,
}

impl Scratch {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    fn build(&self, source: &str, world: World, profile: Profile) -> anyhow::Result<PathBuf> {
        let (source, work) = (self.folder.path().join(source), self.folder.path().join("work"));
        let language = if source.extension().is_some_and(|end| end == "zig") || source.join("handler.zig").exists() {
            SourceLanguage::Zig
        } else {
            SourceLanguage::C
        };
        let output = self.folder.path().join("build/component.wasm");
        fs::create_dir_all(&work).unwrap();
        language.build(&Job { name: "guest", world, profile, source: &source, output: &output, work: &work })?;
        Ok(output)
    }

    fn plugin(&self, source: &str) -> PathBuf {
        self.build(source, World::RouteHandler, Profile::Dev).unwrap()
    }
}

#[tokio::test]
async fn the_echo_of_c_and_zig_is_the_one_of_rust() {
    for echo in ECHO {
        let component = fs::read(project_component(echo)).unwrap();
        let imports_wasi = component.windows(8).any(|bytes| bytes == b"wasi:io/");
        assert!(!imports_wasi, "{echo}: a handler that does not use WASI does not import it");
        let server = serve(&project_component(echo), "");
        let mut peer = server.connect("").await;
        for (message, reply) in [
            ("hello", "hello"),
            (r#"{"action":"echo","content":"a\u00e4\n"}"#, "a\u{e4}\n"),
            (r#"{"action":"echo","content":"x","more":[1,{"a":null}]}"#, "x"),
            (r#"{"action":"other","content":"x"}"#, r#"{"action":"other","content":"x"}"#),
            (r#"{"action":"echo","content":1}"#, r#"{"action":"echo","content":1}"#),
            (r#"{"action":"echo","content":"\ud800"}"#, r#"{"action":"echo","content":"\ud800"}"#),
        ] {
            assert_eq!(peer.ask(message).await, reply, "{echo}: {message}");
        }
    }
}

/// A handler whose messages select what it does.
const BEHAVIOURS: [(&str, &str); 2] = [
    (
        "handler.c",
        r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jackfield.h>

static int count;

static int depth_of(volatile int *depth) {
    volatile char frame[1024] = {0};
    return ++*depth > 1000000 ? frame[0] : depth_of(depth) + frame[1];
}

jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
    jackfield_text text = message->body.content;
    if (jackfield_text_equals(text, JACKFIELD_TEXT("count"))) return jackfield_reply_text(jackfield_format("%d", ++count));
    if (jackfield_text_equals(text, JACKFIELD_TEXT("fail"))) return jackfield_fail(JACKFIELD_TEXT("the reason of C"));
    if (jackfield_text_equals(text, JACKFIELD_TEXT("gone"))) {
        jackfield_payload payload = jackfield_text_payload(JACKFIELD_TEXT("x"));
        return jackfield_fail_with(jackfield_post_to_connection(JACKFIELD_TEXT("no id"), payload));
    }
    if (jackfield_text_equals(text, JACKFIELD_TEXT("panic"))) {
        fprintf(stderr, "the panic of C\n");
        abort();
    }
    if (jackfield_text_equals(text, JACKFIELD_TEXT("index"))) return jackfield_status((uint16_t)text.data[0] + 1000);
    if (jackfield_text_equals(text, JACKFIELD_TEXT("recurse"))) {
        volatile int depth = 0;
        return jackfield_status((uint16_t)depth_of(&depth));
    }
    if (text.length > 6 && memcmp(text.data, "stack ", 6) == 0) {
        size_t kib = (size_t)atoi(jackfield_format("%.*s", (int)text.length - 6, text.data + 6).data);
        volatile char *frame = __builtin_alloca(kib * 1024);
        for (size_t i = 0; i < kib; i++) frame[i * 1024] = 1;
        return jackfield_reply_text(JACKFIELD_TEXT("enough"));
    }
    if (jackfield_text_equals(text, JACKFIELD_TEXT("use"))) {
        // More than the static region has, together with buckets, what the host returns, and memory of malloc.
        jackfield_bucket bucket;
        bool found;
        jackfield_bytes value;
        for (int i = 0; i < 20; i++) {
            if (jackfield_kv_open(JACKFIELD_TEXT("data"), &bucket)) return jackfield_fail(JACKFIELD_TEXT("no bucket"));
        }
        memset(jackfield_alloc(200000), 1, 200000);
        jackfield_kv_set(bucket, context->connection_id, (jackfield_bytes){jackfield_alloc(50000), 50000});
        jackfield_kv_get(bucket, context->connection_id, &found, &value);
        void *own = malloc(100000);
        memset(own, 1, 100000);
        free(own);
        return jackfield_reply_text(jackfield_format("%zu", value.length));
    }
    return jackfield_reply_text(jackfield_format("%zu pages", __builtin_wasm_memory_size(0)));
}
"#,
    ),
    (
        "handler.zig",
        r#"
const std = @import("std");
const jackfield = @import("jackfield");

comptime {
    jackfield.plugin(@This());
}

pub const panic = jackfield.panic;

var count: u32 = 0;

fn depthOf(depth: *volatile u32) u32 {
    var frame: [1024]u8 = @splat(0);
    const first: *volatile u8 = &frame[0];
    depth.* += 1;
    return if (depth.* > 1000000) first.* else depthOf(depth) + first.*;
}

pub fn onMessage(context: jackfield.Context, message: jackfield.Message) !jackfield.Response {
    const text = message.body.text;
    if (std.mem.eql(u8, text, "count")) {
        count += 1;
        return .text(try std.fmt.allocPrint(jackfield.allocator, "{d}", .{count}));
    }
    if (std.mem.eql(u8, text, "fail")) return jackfield.fail("the reason of Zig");
    if (std.mem.eql(u8, text, "gone")) try jackfield.postToConnection("no id", .{ .text = "x" });
    if (std.mem.eql(u8, text, "panic")) @panic("the panic of Zig");
    if (std.mem.eql(u8, text, "index")) return .status(text[text.len + count - 5 ..][5]);
    if (std.mem.eql(u8, text, "recurse")) {
        var depth: u32 = 0;
        return .status(@intCast(depthOf(&depth)));
    }
    if (std.mem.eql(u8, text, "use")) {
        var bucket = try jackfield.kv.open("data");
        for (0..19) |_| bucket = try jackfield.kv.open("data");
        @memset(try jackfield.allocator.alloc(u8, 200000), 1);
        try bucket.set(context.connection_id, try jackfield.allocator.alloc(u8, 50000));
        const value = (try bucket.get(context.connection_id)).?;
        return .text(try std.fmt.allocPrint(jackfield.allocator, "{d}", .{value.len}));
    }
    return .text(try std.fmt.allocPrint(jackfield.allocator, "{d} pages", .{@wasmMemorySize(0)}));
}
"#,
    ),
];

#[tokio::test]
async fn a_failure_and_a_panic_are_in_the_log_and_the_next_event_is_served() {
    for ((source, text), language) in BEHAVIOURS.into_iter().zip(["C", "Zig"]) {
        let scratch = Scratch::new(&[(source, text)]);
        let server = serve(&scratch.plugin(source), "reuse = 100\ngrants = [\"connections\"]");
        let mut peer = server.connect("").await;
        for (message, line) in [
            ("fail", format!("the reason of {language}")),
            ("gone", if language == "C" { "gone".to_owned() } else { "Gone".to_owned() }),
            ("panic", format!("the panic of {language}")),
            ("recurse", "failed".to_owned()),
            ("index", if language == "C" { "failed".to_owned() } else { "index out of bounds".to_owned() }),
        ] {
            assert!(peer.ask(message).await.contains("Internal server error"), "{language}: {message}");
            server.log.wait_for_line(&[&line]).await;
        }
        assert_eq!(peer.ask("count").await, "1");
    }
}

#[tokio::test]
async fn the_stack_has_256_kib_and_an_overflow_ends_only_its_event() {
    let (source, text) = BEHAVIOURS[0];
    let scratch = Scratch::new(&[(source, text)]);
    let server = serve(&scratch.plugin(source), "");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("stack 240").await, "enough");
    assert!(peer.ask("stack 257").await.contains("Internal server error"));
    assert_eq!(peer.ask("count").await, "1");
}

#[tokio::test]
async fn a_sandbox_that_is_reused_for_many_events_does_not_grow() {
    const EVENTS: usize = 10_000;
    for (source, text) in BEHAVIOURS {
        let scratch = Scratch::new(&[(source, text)]);
        let component = scratch.build(source, World::RouteHandler, Profile::Release).unwrap();
        let server = serve(&component, "reuse = 1000000\nbuckets = [\"data\"]");
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask("use").await, "50000");
        let pages = peer.ask("pages").await;
        for _ in 1..EVENTS {
            assert_eq!(peer.ask("use").await, "50000", "{source}");
        }
        assert_eq!(peer.ask("pages").await, pages, "{source}");
        // All of them ran in one sandbox.
        assert_eq!(peer.ask("count").await, "1");
        assert_eq!(peer.ask("count").await, "2");
    }
}

const AUTHORIZERS: [(&str, &str); 2] = [
    (
        "handler.c",
        r#"
#include <jackfield.h>

jackfield_decision jackfield_authorize(const jackfield_context *context, const jackfield_connect *request) {
    (void)context;
    const jackfield_text *password = jackfield_query(request, "password");
    static const jackfield_field fields[] = {{{"room", 4}, {"cave", 4}}};
    if (!password) return jackfield_unauthorized();
    if (jackfield_text_equals(*password, JACKFIELD_TEXT("fail"))) return jackfield_authorizer_fail(JACKFIELD_TEXT("no"));
    if (!jackfield_text_equals(*password, JACKFIELD_TEXT("sesame"))) return jackfield_deny();
    return jackfield_allow(JACKFIELD_TEXT("ali"), (jackfield_fields){fields, 1});
}
"#,
    ),
    (
        "handler.zig",
        r#"
const std = @import("std");
const jackfield = @import("jackfield");

comptime {
    jackfield.authorizer(@This());
}

pub fn authorize(_: jackfield.Context, request: jackfield.Connect) !jackfield.Decision {
    const password = request.query("password") orelse return .unauthorized;
    if (std.mem.eql(u8, password, "fail")) return jackfield.fail("no");
    if (!std.mem.eql(u8, password, "sesame")) return .deny;
    return .{ .allow = .{ .principal_id = "ali", .context = &.{.{ .name = "room", .value = "cave" }} } };
}
"#,
    ),
];

#[tokio::test]
async fn an_authorizer_admits_or_rejects_a_peer() {
    for (source, text) in AUTHORIZERS {
        let scratch = Scratch::new(&[(source, text)]);
        let authorizer = scratch.build(source, World::RequestAuthorizer, Profile::Dev).unwrap();
        let guest = project_component("host/tests/guests/conformance-c/build/guest.wasm");
        let server = Site::new(&format!(
            "[authorizers.login]\ncomponent = {authorizer:?}\n[integrations.guest]\ncomponent = {guest:?}\n\
             buckets = [\"conformance\"]\n[routes]\n\"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n\
             \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
        ))
        .serve();
        for (query, status) in [("", 401), ("?password=open", 403), ("?password=fail", 500)] {
            assert_eq!(server.try_connect(query, &[]).await.err(), Some(status), "{source}: {query}");
        }
        let mut peer = server.connect("?password=sesame").await;
        let reply = peer.ask(r#"{"calls":[{"call":"current-connection.context"}]}"#).await;
        assert!(reply.contains(r#"["room","cave"]"#) && reply.contains(r#""ali""#), "{source}: {reply}");
    }
}

#[test]
fn a_callback_with_a_misspelled_name_is_reported() {
    let site = Site::new("");
    for (language, file, name, misspelled, expected) in [
        ("c", "handler.c", "on_message", "on_mesage", "no previous prototype for function 'jackfield_on_mesage'"),
        (
            "zig",
            "handler.zig",
            "onMessage",
            "onMesage",
            "the plugin has no callback: expected a public function onConnect",
        ),
    ] {
        assert_eq!(site.run(&["new", language, language]).0, 0);
        let (source, manifest) = (site.path().join(language).join(file), format!("{language}/jackfield.toml"));
        let (code, _, text) = site.run(&["build", &manifest]);
        assert_eq!((code, &*text), (0, ""), "{language}");
        let wrong = fs::read_to_string(&source).unwrap().replace(name, misspelled);
        fs::write(&source, wrong).unwrap();
        let (_, _, text) = site.run(&["build", &manifest]);
        assert!(text.contains(expected), "{language}: {text}");
    }
}

#[test]
fn a_source_with_an_error_leaves_the_component_as_it_is() {
    for (source, text) in BEHAVIOURS {
        let scratch = Scratch::new(&[(source, text)]);
        let component = scratch.plugin(source);
        let before = fs::read(&component).unwrap();
        fs::write(scratch.folder.path().join(source), "not a program").unwrap();
        let error = scratch.build(source, World::RouteHandler, Profile::Dev).unwrap_err();
        assert!(format!("{error:#}").contains("its messages are above"), "{error:#}");
        assert_eq!(fs::read(&component).unwrap(), before);
    }
}

#[tokio::test]
async fn a_source_may_be_a_folder() {
    for files in [
        [
            (
                "src/handler.c",
                "#include \"deep/name.h\"\n#include <jackfield.h>\njackfield_response jackfield_on_message(const jackfield_context *c, const jackfield_message *m) { (void)c, (void)m; return jackfield_reply_text(jackfield_text_from(name())); }\n",
            ),
            ("src/deep/name.h", "const char *name(void);\n"),
            ("src/deep/name.c", "#include \"name.h\"\nconst char *name(void) { return \"C\"; }\n"),
        ],
        [
            (
                "src/handler.zig",
                "const jackfield = @import(\"jackfield\");\ncomptime { jackfield.plugin(@This()); }\npub fn onMessage(_: jackfield.Context, _: jackfield.Message) jackfield.Response { return .text(@import(\"deep/name.zig\").name); }\n",
            ),
            ("src/deep/name.zig", "pub const name = \"Zig\";\n"),
            ("src/unused.zig", "not a program\n"),
        ],
    ] {
        let scratch = Scratch::new(&files);
        let server = serve(&scratch.plugin("src"), "");
        let reply = server.connect("").await.ask("name").await;
        assert_eq!(reply, if files[0].0.ends_with(".c") { "C" } else { "Zig" });
    }
}

/// Runs a command to its end in a folder, and returns whether it succeeded, with what it printed.
fn run(command: &mut Command, folder: &Path) -> (bool, String) {
    let output = command.current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The command of Zig that the builds use.
fn zig() -> Command {
    let command = env::var("JACKFIELD_ZIG").unwrap_or_else(|_| "zig".to_owned());
    let mut words = command.split_whitespace();
    let mut zig = Command::new(words.next().unwrap());
    zig.args(words);
    zig
}

/// Packs the SDK as a release has it: the files that `new` writes, without tests.
fn pack(archive: &Path) {
    let sdk = root().join("sdk/c");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--exclude=./tests", "--exclude=./.zig-cache", "--file"]).arg(archive).arg(".");
    let (packed, text) = run(&mut tar, &sdk);
    assert!(packed, "{text}");
}

#[tokio::test]
async fn a_new_project_in_c_and_zig_is_tested_built_and_served_with_the_packed_sdk() {
    for language in ["c", "zig"] {
        let site = Site::new("");
        let (code, _, text) = site.run(&["new", language, "hello"]);
        assert_eq!(code, 0, "{text}");
        let folder = site.path().join("hello");
        let archive = site.path().join("jackfield.tar.gz");
        pack(&archive);
        let sdk = folder.join("sdk");
        let written = files_below(&sdk);
        fs::remove_dir_all(&sdk).unwrap();
        fs::create_dir(&sdk).unwrap();
        let (unpacked, text) = run(Command::new("tar").args(["--extract", "--gzip", "--file"]).arg(&archive), &sdk);
        assert!(unpacked, "{text}");
        assert_eq!(files_below(&sdk), written, "the packed SDK is the one that `new` writes");

        let test = if language == "c" { "test/test.c" } else { "test.zig" };
        let mut command = if language == "c" { Command::new("make") } else { zig() };
        let arguments: &[&str] = if language == "c" { &["test"] } else { &["build", "test"] };
        let (passed, text) = run(command.args(arguments), &folder);
        assert!(passed, "{language}: {text}");
        let wrong = fs::read_to_string(folder.join(test)).unwrap().replacen("\"hello\"", "\"other\"", 1);
        fs::write(folder.join(test), wrong).unwrap();
        let (passed, text) = run(&mut command, &folder);
        assert!(!passed, "{language}: {text}");

        // The SDK of the project is the one that the build uses.
        let marked = if language == "c" { "sdk/include/jackfield.h" } else { "sdk/zig/jackfield.zig" };
        let original = fs::read_to_string(folder.join(marked)).unwrap();
        let manifest = folder.join("jackfield.toml");
        fs::write(folder.join(marked), "@ no program").unwrap();
        let (code, _, text) = site.run(&["build", manifest.to_str().unwrap()]);
        assert!(code != 0 && text.contains(marked), "{language}: {text}");
        fs::write(folder.join(marked), original).unwrap();
        let (code, _, text) = site.run(&["build", manifest.to_str().unwrap()]);
        assert_eq!(code, 0, "{language}: {text}");
        let server = serve(&folder.join("build/hello.wasm"), "");
        assert_eq!(server.connect("").await.ask("hello").await, "hello");
    }
}

/// The paths of all files below a folder, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_json_reader_and_the_test_double_of_c_pass_their_tests() {
    let folder = tempfile::tempdir().unwrap();
    let sdk = root().join("sdk/c");
    for test in ["json", "double"] {
        let program = folder.path().join(test);
        let sources = ["src", "testing"].map(|folder| {
            let files = files_below(&sdk.join(folder)).into_iter().map(|path| sdk.join(folder).join(path));
            files.filter(|path| path.extension().is_some_and(|end| end == "c")).collect::<Vec<_>>()
        });
        let mut compiler = Command::new("cc");
        compiler.args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover"]);
        compiler.args(["-Iinclude", "-Itesting", "-o"]).arg(&program).arg(format!("tests/{test}.c"));
        let (compiled, text) = run(compiler.args(sources.concat()).arg("-lm"), &sdk);
        assert!(compiled, "{text}");
        let (passed, text) = run(&mut Command::new(program), folder.path());
        assert!(passed, "{test}: {text}");
    }
}

/// Serves a chat with the routes of its manifest.
fn serve_chat(component: &Path) -> Server {
    let route = |key: &str| format!("\"{key}\" = {{ integration = \"chat\", route_response = true }}\n");
    Site::new(&format!(
        "[integrations.chat]\ncomponent = {component:?}\ngrants = [\"connections\", \"connection-store\"]\n[routes]\n\
         \"$connect\" = \"chat\"\n\"$disconnect\" = \"chat\"\n{}{}{}",
        route("sendmessage"),
        route("who"),
        route("$default"),
    ))
    .serve()
}

/// Has a conversation, and returns all messages that the peers have received, in their order.
async fn conversation(component: &Path) -> Vec<String> {
    let server = serve_chat(component);
    let mut received = Vec::new();
    let mut first = server.connect("?userId=%20%C2%85A%C3%A4%E3%80%80%0A").await;
    let name = "b\\\"/\u{1}\u{7f}\u{2028}\u{1f600}";
    let mut other = server.connect("?userId=b%5C%22%2F%01%7F%E2%80%A8%F0%9F%98%80").await;
    received.push(first.text().await);
    for content in ["hello", "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}", "\"\\/\u{7f}\u{80}\u{2029}\u{ffff}\u{1f600}", ""] {
        let message = serde_json::json!({ "action": "sendmessage", "to": name, "content": content });
        first.send(&message.to_string()).await;
        received.push(other.text().await);
    }
    let escaped = r#"{"action":"sendmessage","to":"A\u00e4","content":"\ud83d\ude00\/","more":[1.5e3,{"a":null}]}"#;
    other.send(escaped).await;
    received.push(first.text().await);
    for message in [
        r#"{"action":"sendmessage","to":"Z","content":"x"}"#,
        r#"{"action":"who"}"#,
        r#"{"action":"none\u0001"}"#,
        r#"{"action":7}"#,
        "[]",
        "no json",
    ] {
        received.push(first.ask(message).await);
    }
    other.close(1000, "").await;
    received.push(first.text().await);
    for query in ["?userId=%E3%80%80", &format!("?userId={}", "%C3%A4".repeat(33))] {
        assert_eq!(server.try_connect(query, &[]).await.err(), Some(400), "{query}");
    }
    server.connect(&format!("?userId={}", "%C3%A4".repeat(32))).await;
    received.push(first.text().await);
    received
}

#[tokio::test]
async fn the_chats_in_c_zig_and_go_send_the_same_bytes_as_the_one_in_rust() {
    let expected = conversation(&component(crate::harness::CHAT)).await;
    for chat in CHAT.into_iter().chain([crate::sdk_go::CHAT_GO]) {
        assert_eq!(conversation(&project_component(chat)).await, expected, "{chat}");
    }
}

/// Runs `jackfield build` for a new project, with one environment variable and nothing on `PATH` but these tools.
fn build_project(site: &Site, folder: &str, variable: &str, value: &str, path: &str) -> (bool, String) {
    let manifest = site.path().join(folder).join("jackfield.toml");
    let mut command = site.command(&["build", manifest.to_str().unwrap()]);
    command.env_remove("JACKFIELD_CLANG").env_remove("JACKFIELD_ZIG").env(variable, value).env("PATH", path);
    run(&mut command, site.path())
}

#[tokio::test]
async fn a_missing_or_old_compiler_is_an_error_with_the_command_that_installs_one() {
    let site = Site::new("");
    for language in ["c", "zig"] {
        assert_eq!(site.run(&["new", language, language]).0, 0);
    }
    let no_tools = site.path().to_str().unwrap().to_owned();
    for (language, variable, value, expected) in [
        ("c", "UNUSED", "", "found no clang; run `apt-get install"),
        ("c", "JACKFIELD_CLANG", "/nowhere/clang", "\"/nowhere/clang\", which cannot be run; run `apt-get install"),
        ("c", "JACKFIELD_CLANG", " ", "expected a command"),
        ("c", "JACKFIELD_CLANG", "/bin/echo gcc 12", "\"/bin/echo gcc 12\", which is not clang; run `apt-get install"),
        ("c", "JACKFIELD_CLANG", "/bin/echo clang version 15.0.1", "is clang 15, expected 19 or later; run"),
        ("zig", "UNUSED", "", "found no Zig; run `pip install ziglang==0.17.1`"),
        ("zig", "JACKFIELD_ZIG", "/nowhere/zig", "\"/nowhere/zig\", which cannot be run; run `pip install"),
        ("zig", "JACKFIELD_ZIG", "/bin/echo 0.16.0", "is Zig 0.16.0 version, expected 0.17 or later; run `pip install"),
        ("zig", "JACKFIELD_ZIG", "/bin/true", "\"/bin/true\", which is not Zig; run `pip install"),
    ] {
        let (built, text) = build_project(&site, language, variable, value, &no_tools);
        assert!(!built && text.contains(expected), "{language}, {variable} {value}: {text}");
    }
}

#[tokio::test]
async fn the_compiler_of_zig_also_builds_c() {
    let site = Site::new("");
    assert_eq!(site.run(&["new", "c", "hello"]).0, 0);
    let zig = format!("{} cc", env::var("JACKFIELD_ZIG").unwrap_or_else(|_| "zig".to_owned()));
    let (built, text) = build_project(&site, "hello", "JACKFIELD_CLANG", &zig, &env::var("PATH").unwrap());
    assert!(built, "{text}");
    let server = serve(&site.path().join("hello/build/hello.wasm"), "");
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
}
