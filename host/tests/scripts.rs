//! Components that are scripts: loaded by the real engine, live as they are saved.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::components::{ask_until, replace_file};
use crate::deployments::{ADMIN, deployments};
use crate::harness::{Peer, Server, Site, TEST_TIMEOUT, children, eventually};

/// A manifest whose integration is the script `chat.js`. `keys` are further keys of the integration.
fn manifest(keys: &str) -> String {
    manifest_of("chat.js", keys)
}

fn manifest_of(file: &str, keys: &str) -> String {
    format!(
        "[integrations.chat]\ncomponent = {file:?}\n{keys}\n\n\
         [routes]\n\"$default\" = {{ integration = \"chat\", route_response = true }}\n"
    )
}

fn site(source: &str, keys: &str) -> Site {
    let site = Site::new(&manifest(keys));
    fs::write(site.path().join("chat.js"), source).unwrap();
    site
}

fn script(server: &Server) -> PathBuf {
    server.site.path().join("chat.js")
}

/// A script that answers each message with this text and the message.
fn answering(text: &str) -> String {
    format!(
        "import {{ plugin }} from \"jackfield\";\n\
         export default plugin({{ message(event) {{ return {text:?} + \" \" + event.text(); }} }});\n"
    )
}

#[tokio::test]
async fn a_script_answers_messages_without_a_build() {
    let server = site(&answering("echo"), "").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("one").await, "echo one");
    assert_eq!(peer.ask("zwei äöü").await, "echo zwei äöü");
}

#[test]
fn the_first_start_reports_that_it_compiles_the_engine_and_later_ones_have_nothing_to_report() {
    let site = site(&answering("echo"), "");
    let run = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        let output = command.env("XDG_CACHE_HOME", site.path().join("cache")).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        stderr
    };
    let first = run(&["check"]);
    let lines: Vec<_> = first.lines().filter(|line| line.contains("the JavaScript engine")).collect();
    let [compiling, compiled] = lines.as_slice() else { panic!("{first}") };
    assert!(compiling.contains("compiling the JavaScript engine, which takes several seconds"), "{compiling}");
    assert!(compiled.contains("compiled the JavaScript engine took="), "{compiled}");
    for arguments in [&["check"][..], &["invoke", "$default", "--body", "a"]] {
        let later = run(arguments);
        assert!(!later.contains("engine"), "{later}");
    }
}

#[tokio::test]
async fn a_saved_script_is_live_while_sockets_stay_open_and_one_with_an_error_is_not() {
    let server = site(&answering("first"), "").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "first a");
    // Programs save in different ways: in place, and with another file that is renamed.
    fs::write(script(&server), answering("second")).unwrap();
    ask_until(&mut peer, "b", "second b").await;
    replace_file(&script(&server), answering("third"));
    ask_until(&mut peer, "c", "third c").await;

    fs::write(script(&server), "export default plugin({ message( { return 1 } });\n").unwrap();
    server.log.wait_for_line(&["ERROR", "jackfield.toml:2: [integrations.chat] chat.js", "keeps serving"]).await;
    server.log.wait_for_line(&["chat.js:1:"]).await;
    assert_eq!(peer.ask("d").await, "third d");
    fs::write(script(&server), "throw new RangeError(\"not today\");\n").unwrap();
    server.log.wait_for_line(&["ERROR", "not today"]).await;
    eventually("the stack is in the log", async || server.log.text().contains("(chat.js:1:")).await;
    assert_eq!(peer.ask("e").await, "third e");

    fs::write(script(&server), answering("fourth")).unwrap();
    ask_until(&mut peer, "f", "fourth f").await;
}

#[tokio::test]
async fn a_change_of_an_imported_file_is_live_and_so_is_one_that_was_missing() {
    let site = Site::new(&manifest_of("chat.ts", ""));
    let write = |name: &str, text: &str| fs::write(site.path().join(name), text).unwrap();
    let chat = |import: &str| {
        format!(
            "import {{ plugin, type MessageEvent }} from \"jackfield\";\nimport {{ text }} from {import:?};\n\n\
             export default plugin({{\n  message(event: MessageEvent): string {{\n    return text(event.text());\n  }},\n}});\n"
        )
    };
    let text = |word: &str| format!("export const text = (sent: string): string => \"{word} \" + sent;\n");
    write("chat.ts", &chat("./text"));
    write("text.ts", &text("first"));
    let server = site.clone().serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "first a");
    write("text.ts", &text("second"));
    ask_until(&mut peer, "b", "second b").await;

    write("chat.ts", &chat("./other"));
    server.log.wait_for_line(&["ERROR", "chat.ts", "keeps serving"]).await;
    assert_eq!(peer.ask("c").await, "second c");
    write("other.ts", &text("third"));
    ask_until(&mut peer, "d", "third d").await;

    write("other.ts", "export function text(sent: string): string {\n  throw new Error(\"no \" + sent);\n}\n");
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !peer.ask("e").await.contains("Internal server error") {
        assert!(Instant::now() < deadline, "the failing file is never live");
    }
    server.log.wait_for_line(&["at text (other.ts:2:"]).await;
}

#[tokio::test]
async fn the_manifest_names_the_export_that_handles_events() {
    let source = "exports.connect = async () => ({ statusCode: 200 });\n\
                  exports.send = async (event) => ({ statusCode: 200, body: event.requestContext.routeKey + \" \" + event.body });\n";
    let site = Site::new(&manifest_of("chat.cjs", "handler = \"send\""));
    fs::write(site.path().join("chat.cjs"), source).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("hello").await, "$default hello");

    replace_file(&server.site.manifest(), manifest_of("chat.cjs", "handler = \"post\""));
    let error = server.log.wait_for_line(&["ERROR", "[integrations.chat]", "post"]).await;
    assert!(error.contains("connect") && error.contains("send"), "{error}");
    assert_eq!(peer.ask("again").await, "$default again");
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line_and_what_to_do() {
    for (source, message, position) in [
        (
            "import {\n  plugin,\n  gone } from \"jackfield\";\nexport const handler = async () => {};\n",
            "\"jackfield\" has no export \"gone\"; it exports AccessDeniedError,",
            "at chat.js:3:3",
        ),
        (
            "import { randomBites } from \"node:crypto\";\nexport const handler = async () => {};\n",
            "\"node:crypto\" has no export \"randomBites\"; it exports randomBytes",
            "at chat.js:1:10",
        ),
        (
            "const fs = require(\"crypto\");\nexport const handler = async () => {};\n",
            "require is not defined: it is a name of CommonJS, but chat.js is an ES module; use import and export",
            "(chat.js:1:",
        ),
        (
            "export const x = 1;\nexports.handler = async () => {};\n",
            "exports is not defined: it is a name",
            "(chat.js:2:1)",
        ),
        ("const list = [];\n\nlist.ad(1);\n", "TypeError: not a function: list.ad", "(chat.js:3:6)"),
    ] {
        let (code, stdout, stderr) = site(source, "").run(&["check"]);
        assert_eq!(code, 1, "{source}: {stdout}{stderr}");
        assert!(stderr.contains(message) && stderr.contains(position), "{source}: {stderr}");
    }
    let source = "import { routes } from \"jackfield\";\nexport default routes({ send() {} });\n";
    let (_, stdout, stderr) = site(source, "").run(&["invoke", "$default", "--body", "a"]);
    assert!(stdout.contains("routes() has no function for \"$default\"; it has send"), "{stdout}{stderr}");
}

#[test]
fn what_is_wrong_in_an_imported_file_is_said_with_its_line() {
    let site = Site::new(&manifest_of("chat.ts", ""));
    let write = |name: &str, text: &str| fs::write(site.path().join(name), text).unwrap();
    write("package.json", "{}");
    write(
        "users.ts",
        "interface User { name: string }\nconst all: User[] = [];\n\nexport const find = (name: string) =>\n  (all as any).fnd((user: User) => user.name === name);\n",
    );
    let chat = "import { find } from \"./users\";\nexport const handler = async () => find(\"ada\");\n";
    write("chat.ts", chat);
    let (_, stdout, stderr) = site.run(&["invoke", "$default", "--body", "a"]);
    assert!(stdout.contains("TypeError: not a function: all.fnd"), "{stdout}{stderr}");
    assert!(stdout.contains("(users.ts:5:"), "{stdout}{stderr}");

    // The bundler writes this import anew, so it has no position.
    write("chat.ts", &format!("import {{ gone }} from \"jackfield\";\n{chat}console.log(gone);\n"));
    let (_, _, stderr) = site.run(&["check"]);
    assert!(stderr.contains("\"jackfield\" has no export \"gone\"; it exports AccessDeniedError"), "{stderr}");
    assert!(!stderr.contains("\n    at "), "{stderr}");
}

#[tokio::test]
async fn the_environment_is_there_when_the_script_is_loaded_and_a_change_of_it_loads_the_script_again() {
    let source = "const room = process.env.ROOM;\n\
                  export const handler = async (event) => ({ statusCode: 200, body: `${room} ${event.body}` });\n";
    let server = site(source, "env = { ROOM = \"blue\" }").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "blue a");
    replace_file(&server.site.manifest(), manifest("env = { ROOM = \"red\" }"));
    ask_until(&mut peer, "b", "red b").await;
}

#[tokio::test]
async fn a_failure_is_logged_with_the_line_of_the_source() {
    let source = "function fail(text) {\n  throw new Error(\"no room for \" + text);\n}\n\
                  export const handler = async (event) => fail(event.body);\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    assert!(peer.ask("you").await.contains("Internal server error"));
    server.log.wait_for_line(&["no room for you"]).await;
    server.log.wait_for_line(&["at fail (chat.js:2:"]).await;
}

#[tokio::test]
async fn a_top_level_that_computes_without_end_or_takes_too_much_memory_is_not_served() {
    let keys = "memory = \"16MiB\"";
    let server = site(&answering("old"), keys).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "old a");

    let with_memory = |mib: usize| format!("const kept = new Uint8Array({mib} << 20).fill(1);\n{}", answering("new"));
    fs::write(script(&server), with_memory(64)).unwrap();
    server.log.wait_for_line(&["ERROR", "[integrations.chat]", "memory"]).await;
    assert_eq!(peer.ask("b").await, "old b");
    fs::write(script(&server), with_memory(4)).unwrap();
    ask_until(&mut peer, "c", "new c").await;

    fs::write(script(&server), "for (;;) {}\n").unwrap();
    // On a busy machine, 5 s of CPU time take far longer.
    let deadline = Instant::now() + 10 * TEST_TIMEOUT;
    while !server.log.text().contains("its top level used more than 5s of CPU") {
        assert!(Instant::now() < deadline, "the load does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(peer.ask("d").await, "new d");
    let busy = "let sum = 0;\nfor (let i = 0; i < 1e6; i++) sum += i;\n";
    fs::write(script(&server), format!("{busy}{}", answering("computed"))).unwrap();
    ask_until(&mut peer, "e", "computed e").await;
}

#[tokio::test]
async fn a_host_function_is_not_called_while_a_script_is_loaded() {
    let source = "import { connections, plugin } from \"jackfield\";\n\
                  await connections.postToConnection(\"L0SM9cOFvHcCIhw=\", \"x\");\nexport default plugin({});\n";
    let site = site(source, "grants = [\"connections\"]");
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("chat.js") && stderr.contains("handler"), "{stderr}");
}

#[tokio::test]
async fn a_call_that_the_manifest_does_not_grant_is_an_error_of_the_script_and_the_log_names_the_line_to_add() {
    let source = "import { connections, plugin } from \"jackfield\";\n\
                  export default plugin({ async message(event, context) {\n\
                    try { await connections.postToConnection(context.connectionId, \"posted\"); return \"granted\"; }\n\
                    catch (error) { return `denied ${error.statusCode}`; }\n  } });\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "denied 403");
    server.log.wait_for_line(&["WARN", "jackfield:gateway/connections", "grants = [\"connections\"]"]).await;
    let server = site(source, "grants = [\"connections\"]").serve();
    let mut peer = server.connect("").await;
    peer.send("b").await;
    let mut answers = [peer.text().await, peer.text().await];
    answers.sort();
    assert_eq!(answers, ["granted", "posted"]);
}

#[tokio::test]
async fn an_older_version_of_a_script_can_be_served_again() {
    let site = Site::new(&format!("{ADMIN}{}", manifest("")));
    fs::write(site.path().join("chat.js"), answering("first")).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "first a");
    fs::write(script(&server), answering("second")).unwrap();
    ask_until(&mut peer, "b", "second b").await;
    let (code, _, stderr) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!(code, 0, "{stderr}");
    ask_until(&mut peer, "c", "first c").await;
    fs::write(script(&server), answering("third")).unwrap();
    ask_until(&mut peer, "d", "third d").await;
}

#[tokio::test]
async fn a_version_of_a_script_that_keeps_failing_goes_back() {
    let server = site(&answering("good"), "").serve();
    // One peer cannot decide about a version alone.
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(server.connect("").await);
    }
    for peer in &mut peers {
        assert_eq!(peer.ask("a").await, "good a");
    }
    let failing = "export const handler = async () => { throw new Error(\"broken\"); };\n";
    fs::write(script(&server), failing).unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !peers[0].ask("b").await.contains("Internal server error") {
        assert!(Instant::now() < deadline, "the broken version is never live");
    }
    for number in 0..24 {
        peers[number % 4].ask("c").await;
    }
    server.log.wait_for_line(&["ERROR", "returned to the last version that worked", "plugin=chat"]).await;
    ask_until(&mut peers[0], "d", "good d").await;
}

#[tokio::test]
async fn a_script_can_be_an_authorizer_in_both_styles() {
    let ours = "import { authorizer } from \"jackfield\";\n\
                export default authorizer((event) => event.query.get(\"token\") === \"secret\"\n\
                  ? { principalId: \"A\", context: { room: \"blue\" } } : false);\n";
    let lambda = "exports.handler = async (event) => ({\n  principalId: \"A\",\n  context: { room: \"blue\" },\n\
                  policyDocument: { Version: \"2012-10-17\", Statement: [{ Action: \"execute-api:Invoke\",\n\
                  Effect: event.queryStringParameters?.token === \"secret\" ? \"Allow\" : \"Deny\", Resource: event.methodArn }] } });\n";
    for (file, source) in [("gate.mjs", ours), ("gate.cjs", lambda)] {
        let site = Site::new(&format!(
            "[authorizers.gate]\ncomponent = {file:?}\nidentity_sources = [\"route.request.querystring.token\"]\n\
             [integrations.chat]\ncomponent = \"chat.js\"\n[routes]\n\
             \"$connect\" = {{ integration = \"chat\", authorizer = \"gate\" }}\n\
             \"$default\" = {{ integration = \"chat\", route_response = true }}\n"
        ));
        fs::write(site.path().join(file), source).unwrap();
        let handler = "export const handler = async (event) => ({ statusCode: 200,\n\
                       body: `${event.requestContext.authorizer.principalId} ${event.requestContext.authorizer.room}` });\n";
        fs::write(site.path().join("chat.js"), handler).unwrap();
        let server = site.serve();
        assert_eq!(server.try_connect("?token=wrong", &[]).await.err(), Some(403), "{file}");
        let mut peer = server.connect("?token=secret").await;
        assert_eq!(peer.ask("who").await, "A blue", "{file}");
    }
}

#[tokio::test]
async fn each_event_begins_with_the_memory_of_the_load_unless_instances_are_kept() {
    let source = "let count = 0;\nexport const handler = async () => ({ statusCode: 200, body: String(++count) });\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    for _ in 0..3 {
        assert_eq!(peer.ask("count").await, "1");
    }
    let server = site(source, "reuse = 100").serve();
    let mut peer = server.connect("").await;
    for number in 1..=3 {
        assert_eq!(peer.ask("count").await, number.to_string());
    }
}

#[test]
fn without_the_engine_the_error_names_the_command_that_makes_it() {
    let site = site(&answering("echo"), "");
    fs::create_dir(site.path().join("empty")).unwrap();
    for arguments in [&["check"][..], &["invoke", "$default"], &["serve", "--listen", "127.0.0.1:0"]] {
        let (code, _, stderr) = site.run(&[arguments, &["--engines", "empty"]].concat());
        assert_eq!(code, 1, "{arguments:?}");
        assert!(stderr.contains("JavaScript engine") && stderr.contains("cargo xtask engines"), "{stderr}");
    }
}

#[test]
fn the_verbs_work_with_the_source_of_a_script() {
    let site = site(&answering("echo"), "");
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("chat.js\n      exports: default\n"), "{stdout}");
    let (code, stdout, stderr) = site.run(&["invoke", "$default", "--body", "hello"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("body      echo hello"), "{stdout}");
    let (code, stdout, stderr) = site.run(&["inspect", "chat.js"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("exports   default"), "{stdout}");
}

/// Saves in a row of which the test waits for each to be live.
const SAVES: usize = 60;
/// The setting for more saves, to measure.
const SAVES_VARIABLE: &str = "JACKFIELD_SAVES";

/// As large as several versions with their images that may be kept, but far less than that of all saves.
const GROWTH_MIB_MAX: usize = 96;

#[tokio::test]
async fn the_images_of_replaced_versions_are_dropped() {
    let server = site(&saved(0), "").serve();
    let mut peer = server.connect("").await;
    let saves = std::env::var(SAVES_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(SAVES);
    // The deployments that can be restored are full after these.
    let mut took = Vec::new();
    for number in 1..=20 {
        save(&server, &mut peer, number).await;
    }
    let before = resident_mib(&server);
    for number in 21..=20 + saves {
        took.push(save(&server, &mut peer, number).await);
    }
    let after = resident_mib(&server);
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!(
        "{saves} saves: live after {median:.1?} (median), {worst:.1?} (longest); {before} MiB before, {after} MiB after"
    );
    assert!(after < before + GROWTH_MIB_MAX, "{before} MiB before, {after} MiB after {saves} saves");
    assert!(children(server.process.id()).is_empty());
}

/// wasmtime keeps the pages that an event has written in memory for the next one, if they are in at most this many runs.
const KEPT_RUNS_MAX: usize = 32;

#[tokio::test]
async fn an_event_that_waits_writes_to_pages_in_few_runs() {
    let source =
        "export const handler = async (event) => ({ statusCode: 200, body: JSON.parse(event.body).content });\n";
    // The sandbox is kept, so its memory still is as the event has left it.
    let server = site(source, "reuse = 1000").serve();
    let mut peer = server.connect("").await;
    let before = written_pages(server.process.id());
    assert_eq!(peer.ask(r#"{ "content": "hello" }"#).await, "hello");
    let after = written_pages(server.process.id());
    let event = after.iter().find(|(start, pages)| !pages.is_empty() && before.get(*start) != Some(pages));
    let (_, pages) = event.expect("the sandbox of the event has written to its memory");
    let runs = 1 + pages.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(runs <= KEPT_RUNS_MAX, "{} pages in {runs} runs: {pages:?}", pages.len());
}

/// Returns the pages of each mapped image that were written to, by the address of the mapping.
fn written_pages(process: u32) -> BTreeMap<u64, Vec<u64>> {
    let (page_bytes, entry_bytes, present, of_file) = (4096, 8, 1 << 63, 1 << 61);
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let pagemap = fs::File::open(format!("/proc/{process}/pagemap")).unwrap();
    let images = maps.lines().filter(|line| line.contains("memfd:jackfield-image") && line.contains(" rw-p "));
    let mapping = |line: &str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap() / page_bytes);
        let written = (start..end).filter(|page| {
            let mut entry = [0; 8];
            pagemap.read_exact_at(&mut entry, page * entry_bytes).unwrap();
            let entry = u64::from_ne_bytes(entry);
            entry & present != 0 && entry & of_file == 0
        });
        (start, written.collect())
    };
    images.map(mapping).collect()
}

/// A script whose image has 2 MiB more than the engine.
fn saved(number: usize) -> String {
    format!("const kept = new Uint8Array(2 << 20).fill({});\n{}", number % 250 + 1, answering(&number.to_string()))
}

/// Saves a version, and returns after which time a peer was answered by it.
async fn save(server: &Server, peer: &mut Peer, number: usize) -> Duration {
    let source = saved(number);
    let started = Instant::now();
    fs::write(script(server), source).unwrap();
    let answer = format!("{number} x");
    while peer.ask("x").await != answer {
        assert!(started.elapsed() < TEST_TIMEOUT, "version {number} is never live");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

fn resident_mib(server: &Server) -> usize {
    let status = fs::read_to_string(Path::new("/proc").join(server.process.id().to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}
