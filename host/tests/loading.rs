//! What a file must be to be served, and what is said where it is not.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{CHAT, ECHO, HOSTILE, PATIENCE, PRESENCE, Server, Site, component, lean_echo, manifest};
use crate::wat;

/// A site whose one component is `bytes`.
fn site(bytes: &[u8], integration: &str) -> Site {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", integration));
    fs::write(site.path().join("guest.wasm"), bytes).unwrap();
    site
}

/// Starts the server, which must refuse to; what it says, after it ended with exit code 1.
fn refused(site: &Site) -> String {
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            None => {
                process.kill().unwrap();
                break process.wait().unwrap();
            }
        }
    };
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "it did not refuse to start: {said}");
    let mut announced = String::new();
    process.stdout.take().unwrap().read_to_string(&mut announced).unwrap();
    assert_eq!(announced, "", "it said that it listens");
    said
}

fn refused_component(bytes: &[u8]) -> String {
    refused(&site(bytes, r#"grants = ["connections", "connection-store"]"#))
}

fn assert_checks(site: &Site) {
    let (code, _, said) = site.run(&["check"]);
    assert_eq!(code, 0, "{said}");
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "nothing of {part:?} in: {said}");
    }
}

#[test]
fn an_import_that_is_not_granted_is_named_with_the_line_to_add() {
    let nothing = |name| refused(&Site::new(&manifest(&component(name), "", "")));
    assert_says(
        &nothing(CHAT),
        &[
            "jackfield.toml:5: [integrations.guest] ",
            "chat.wasm: it imports jackfield:gateway/connections@0.1.0, which is not granted",
            "it imports jackfield:gateway/connection-store@0.1.0, which is not granted",
            r#"to grant it, write in [integrations.guest]: grants = ["connections", "connection-store"]"#,
        ],
    );
    assert_says(
        &nothing(PRESENCE),
        &[
            "it imports wasi:keyvalue/store@0.2.0-draft2, which is not granted",
            r#"write in [integrations.guest]: grants = ["connection-store"] and buckets = ["NAME"]"#,
        ],
    );
    assert_says(
        &nothing(HOSTILE),
        &[
            "it imports wasi:keyvalue/store@0.2.0-draft, which is not granted",
            "it imports wasi:http/outgoing-handler@0.2.",
            r#"and buckets = ["NAME"] and allowed_hosts = ["https://HOST"]"#,
        ],
    );
}

#[test]
fn a_grant_that_is_there_is_kept_in_the_line_to_add() {
    let said = refused(&Site::new(&manifest(&component(CHAT), "", r#"grants = ["connection-store"]"#)));
    assert_says(
        &said,
        &[r#"to grant it, write in [integrations.guest]: grants = ["connections", "connection-store"]"#],
    );
    assert!(!said.contains("it imports jackfield:gateway/connection-store"), "{said}");
}

#[test]
fn check_tells_the_same_and_ends_with_1() {
    let site = Site::new(&manifest(&component(CHAT), "", ""));
    let (code, _, said) = site.run(&["check"]);
    assert_eq!(code, 1);
    assert_says(&said, &["connections@0.1.0, which is not granted"]);
}

#[test]
fn a_component_without_a_handler_is_told_what_it_exports_instead() {
    let said = refused_component(&wat::binary("(component)"));
    assert_says(
        &said,
        &["it exports nothing, but no jackfield:gateway/handler@0.1.0", "jackfield:gateway/route-handler"],
    );
    let said = refused_component(&wat::binary(
        r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#,
    ));
    assert_says(&said, &["it exports run, but no jackfield:gateway/handler@0.1.0"]);
}

#[test]
fn a_core_module_without_metadata_is_told_how_to_be_built() {
    let said = refused_component(&wat::binary("(module)"));
    assert_says(&said, &["it is a core module that carries no world's metadata", "build it for wasm32-wasip2"]);
}

#[test]
fn a_component_is_made_of_a_core_module_that_carries_metadata() {
    let bytes = wat::lean(&wat::digit("", "(i32.const 7)"));
    assert_checks(&site(&bytes, ""));
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_was_cut() {
    for whole in [fs::read(component(ECHO)).unwrap(), fs::read(lean_echo()).unwrap()] {
        for length in [9, 100, whole.len() / 2, whole.len() - 1] {
            assert_says(&refused_component(&whole[..length]), &["guest.wasm: it is cut off or damaged"]);
        }
    }
}

#[test]
fn what_is_no_webassembly_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho hello", b"\x7fELF\x02\x01\x01\0 and more"] {
        assert_says(&refused_component(bytes), &[&format!("it is no WebAssembly: a file of {} bytes", bytes.len())]);
    }
    let said = refused_component(b"\0asm\x02\0\0\0");
    assert_says(&said, &["it is neither a component nor a core module: its version is [02, 00, 00, 00]"]);
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let said = refused(&Site::new(&manifest(Path::new("missing.wasm"), "", "")));
    assert_says(&said, &["jackfield.toml:5: [integrations.guest] missing.wasm: it is not there"]);
    let said = refused(&Site::new(&manifest(Path::new("missing.wasm"), "", "build = \"make\"\nwatch = [\"src\"]")));
    assert_says(&said, &["it is not there; build it: make"]);
}

#[test]
fn a_start_function_that_traps_is_found_with_its_backtrace() {
    let start = r#"(func $wake_up unreachable) (start $wake_up)"#;
    let said = refused_component(&wat::lean(&wat::digit(start, "(i32.const 0)")));
    assert_says(&said, &["it does not start: the handler trapped", "`unreachable` instruction executed", "wake_up"]);
}

#[test]
fn a_start_function_that_does_not_end_is_found() {
    let start = r#"(func $wake_up (loop (br 0))) (start $wake_up)"#;
    let bytes = wat::lean(&wat::digit(start, "(i32.const 0)"));
    let said = refused(&site(&bytes, r#"cpu_time = "50ms""#));
    assert_says(&said, &["it does not start: the handler used more than 50ms of CPU", "wake_up"]);
}

#[test]
fn a_guest_that_starts_with_more_memory_than_it_may_have_is_refused() {
    // Two pages are in the handler's own memory.
    let bytes = |pages: u32| wat::lean(&wat::digit(&format!("(memory $more {pages})"), "(i32.const 0)"));
    assert_checks(&site(&bytes(14), r#"memory = "1MiB""#));
    let said = refused(&site(&bytes(15), r#"memory = "1MiB""#));
    assert_says(&said, &["it does not start: ", "1048576 bytes of memory (memory in the manifest)"]);
}

#[test]
fn a_component_of_another_version_of_the_contract_is_told_so() {
    let module = wat::digit("", "(i32.const 0)");
    let newer = wat::contract().replace("package jackfield:gateway@0.1.0;", "package jackfield:gateway@0.2.0;");
    let said = refused_component(&wat::lean_against(&newer, &module.replace("@0.1.0#", "@0.2.0#")));
    assert_says(&said, &["it exports jackfield:gateway/handler@0.2.0, but no jackfield:gateway/handler@0.1.0"]);
}

#[test]
fn a_component_of_a_draft_with_the_same_version_is_told_so() {
    let module = wat::digit("", "(i32.const 0)");
    let draft = wat::contract().replace("    request-time: u64,\n", "    request-time: s64,\n");
    let said = refused_component(&wat::lean_against(&draft, &module));
    assert_says(&said, &["its handle has another type: it was built against another version of the contract"]);

    let import = r#"(import "jackfield:gateway/connections@0.1.0" "get-connection" (func (param i32 i32 i32)))"#;
    let module = module.replacen("(module", &format!("(module {import}"), 1);
    let draft = wat::contract().replace("    last-active-at: u64,\n", "");
    let said = refused_component(&wat::lean_against(&draft, &module));
    assert_says(&said, &["it was built against another version of the contract: an import has the wrong type"]);
}

#[test]
fn a_component_of_the_asynchronous_model_is_told_what_to_be_built_for() {
    let said = refused_component(&wat::binary(
        r#"(component
            (core module $m
                (func (export "run") (result i32) i32.const 0)
                (func (export "again") (param i32 i32 i32) (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func (export "run") async
                (canon lift (core func $i "run") async (callback (core func $i "again")))))"#,
    ));
    assert_says(&said, &["it uses the asynchronous component model", "build it for WASI 0.2"]);
}

#[test]
fn a_component_with_garbage_collection_is_told_so() {
    let gc = "(type (struct (field i32)))";
    let whole = wat::binary(&format!("(component (core module {gc}))"));
    assert_says(&refused_component(&whole), &["it uses garbage collection"]);
    let lean = wat::lean(&wat::digit(gc, "(i32.const 0)"));
    assert_says(&refused_component(&lean), &["it uses garbage collection"]);
}

#[test]
fn a_guest_that_nobody_could_hold_is_refused() {
    let memories = "(memory 0)".repeat(30);
    let said = refused_component(&wat::lean(&wat::digit(&memories, "(i32.const 0)")));
    assert_says(&said, &["memories"]);
}

#[test]
fn a_folder_that_is_granted_and_not_there_is_told() {
    let files = r#"files = [{ host = "books", guest = "/books" }]"#;
    let bytes = wat::lean(&wat::digit("", "(i32.const 0)"));
    let site = site(&bytes, files);
    let said = refused(&site);
    assert_says(&said, &["books", "is no folder", "files"]);
    fs::create_dir(site.path().join("books")).unwrap();
    assert_checks(&site);
}

// ---- compiled code ---------------------------------------------------------------------------

/// A site with a cache of its own, whose log tells what comes from it.
struct Cached {
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl Cached {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self { folder: parent.path().join("cache"), _parent: parent }
    }

    fn serve(&self) -> Server {
        let rest = format!("[server]\ncache = {:?}", self.folder);
        let site = Site::new(&manifest(&component(ECHO), &rest, r#"grants = ["connections", "connection-store"]"#));
        site.serve()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

async fn echoes(server: &Server) {
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
}

/// Whether the component was compiled at the start, as the log tells.
async fn compiled(server: &Server) -> bool {
    let line = server.log.line_with(&["loaded", "plugin=guest"]).await;
    !line.contains("compile=cached")
}

#[tokio::test]
async fn the_second_start_compiles_nothing() {
    let cache = Cached::new();
    let first = cache.serve();
    assert!(compiled(&first).await);
    echoes(&first).await;
    drop(first);
    assert_eq!(cache.files().len(), 1);
    let second = cache.serve();
    assert!(!compiled(&second).await);
    echoes(&second).await;
}

#[tokio::test]
async fn compiled_code_is_the_users_alone() {
    let cache = Cached::new();
    echoes(&cache.serve()).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache.folder), 0o700);
    assert_eq!(mode(&cache.files()[0]), 0o600);
}

#[tokio::test]
async fn a_cache_that_others_can_reach_is_not_used_and_serving_goes_on() {
    for mode in [0o750, 0o701, 0o770] {
        let cache = Cached::new();
        fs::DirBuilder::new().mode(0o700).create(&cache.folder).unwrap();
        fs::set_permissions(&cache.folder, fs::Permissions::from_mode(mode)).unwrap();
        let server = cache.serve();
        server.log.line_with(&["WARN", "compiled code is not kept", "others can reach", "chmod 700"]).await;
        assert!(compiled(&server).await);
        echoes(&server).await;
        assert_eq!(cache.files().len(), 0, "mode {mode:o}");
    }
}

#[tokio::test]
async fn compiled_code_that_was_damaged_is_made_anew() {
    let cache = Cached::new();
    drop(cache.serve());
    let path = cache.files().remove(0);
    let whole = fs::read(&path).unwrap();
    let mut one_bit = whole.clone();
    one_bit[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &whole[..10], b"", &one_bit] {
        fs::write(&path, damaged).unwrap();
        let server = cache.serve();
        server.log.line_with(&["WARN", "compiled code is damaged and is made anew"]).await;
        assert!(compiled(&server).await);
        echoes(&server).await;
        drop(server);
        assert_eq!(fs::read(&path).unwrap(), whole, "what it made is not what was there before");
    }
}

#[tokio::test]
async fn what_else_lies_in_the_cache_folder_stays_there() {
    let cache = Cached::new();
    fs::DirBuilder::new().mode(0o700).create(&cache.folder).unwrap();
    let old = |name: String| {
        let path = cache.folder.join(name);
        fs::write(&path, "").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
        path
    };
    let foreign: Vec<_> = (0..70).map(|index| old(format!("letter {index}.txt"))).collect();
    let unused: Vec<_> = (0..70).map(|index| old(format!("{index:064x}-{:016x}.cwasm", 0))).collect();
    echoes(&cache.serve()).await;
    assert!(foreign.iter().all(|path| path.exists()), "a file that is none of ours was removed");
    let left = unused.iter().filter(|path| path.exists()).count();
    assert_eq!(left, 63, "beside the one that was just made");
}
