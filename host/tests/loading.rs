//! Loading of components: which files are accepted, and the error for each that is not.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{CHAT, ECHO, HOSTILE, PRESENCE, Site, TEST_TIMEOUT, component, lean_echo, manifest};
use crate::wat;

/// A site whose only component is `bytes`. `keys` are further keys of its integration.
fn site(bytes: &[u8], keys: &str) -> Site {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", keys));
    fs::write(site.path().join("guest.wasm"), bytes).unwrap();
    site
}

/// Starts the server, which must exit with code 1 and print nothing on stdout. Returns its stderr.
fn startup_error(site: &Site) -> String {
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
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
    let mut stderr = String::new();
    process.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(1), "the server did not refuse to start: {stderr}");
    let mut stdout = String::new();
    process.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "", "the server reported an address");
    stderr
}

/// As `startup_error`, for a site whose only component is `bytes`.
fn component_error(bytes: &[u8]) -> String {
    startup_error(&site(bytes, r#"grants = ["connections", "connection-store"]"#))
}

fn assert_checks(site: &Site) {
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_wasi_import_that_is_not_granted_is_named_with_the_line_to_add() {
    let site = Site::new(&manifest(&component(HOSTILE), "", r#"grants = ["connections"]"#));
    let error = startup_error(&site);
    assert_contains(
        &error,
        &[
            "jackfield.toml:5: [integrations.guest] ",
            "hostile.wasm: it imports wasi:http/outgoing-handler@0.2.",
            r#"which is not granted; to grant it, write in [integrations.guest]: allowed_hosts = ["https://HOST"]"#,
        ],
    );
    assert!(!error.contains("gateway/connection") && !error.contains("keyvalue"), "{error}");
    let (code, _, error) = site.run(&["check"]);
    assert_eq!(code, 1);
    assert_contains(&error, &["outgoing-handler@0.2.", "which is not granted"]);
}

#[test]
fn a_component_loads_without_grants_for_the_interfaces_of_the_host() {
    for name in [CHAT, PRESENCE] {
        assert_checks(&Site::new(&manifest(&component(name), "", "")));
    }
}

#[test]
fn the_error_for_a_component_without_a_handler_lists_its_exports() {
    let error = component_error(&wat::to_binary("(component)"));
    assert_contains(
        &error,
        &["it exports nothing, but not jackfield:gateway/handler@0.1.0", "jackfield:gateway/route-handler"],
    );
    let error = component_error(&wat::to_binary(
        r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#,
    ));
    assert_contains(&error, &["it exports run, but not jackfield:gateway/handler@0.1.0"]);
}

#[test]
fn the_error_for_a_core_module_without_metadata_says_how_to_build_it() {
    let error = component_error(&wat::to_binary("(module)"));
    assert_contains(
        &error,
        &[
            "it is a core module without the metadata of a world",
            "build it for wasm32-wasip2",
            "jackfield build",
            "wasm-tools component embed wit",
        ],
    );
}

#[test]
fn the_error_for_a_program_says_how_to_build_a_library() {
    for module in [
        wat::to_binary("(module (func (export \"_start\")))"),
        wat::lean_module(&wat::digit_handler("(func (export \"_start\"))", "(i32.const 7)")),
    ] {
        let error = component_error(&module);
        assert_contains(&error, &["it is a program with the function _start", "-buildmode=c-shared in Go"]);
    }
    let error = component_error(&wat::to_binary(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.6" (instance $run)))"#,
    ));
    assert_contains(
        &error,
        &["it is a program, which runs once and ends: it exports wasi:cli/run, but not jackfield:"],
    );
}

/// A core module as compilers for wasm32-wasip1 make it. It writes a line, waits for nothing, reads the clock and random
/// bytes, and answers with the number of calls that succeeded, and whether it was initialised.
#[tokio::test]
async fn a_core_module_that_imports_wasi_preview1_is_served_inspected_and_invoked() {
    let imports = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;
    let digit = r#"(i32.add (global.get $initialized) (i32.add
        (i32.eqz (call $write (i32.const 1) (i32.const 2048) (i32.const 1) (i32.const 2100)))
        (i32.add
            (i32.and
                (i32.eqz (call $clock (i32.const 0) (i64.const 1) (i32.const 2112)))
                (i64.gt_u (i64.load (i32.const 2112)) (i64.const 1700000000000000000)))
            (i32.eqz (call $random (i32.const 2120) (i32.const 8))))))"#;
    let fields = r#"
        (data (i32.const 2048) "\08\08\00\00\06\00\00\00from p")
        (global $initialized (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $initialized (i32.const 1)))"#;
    let fields = fields.replace("from p", "hello\\0a");
    let module = wat::digit_handler(&fields, digit).replacen("(module", imports, 1);
    // The adapter allocates its state, and `cabi_realloc` of the module does not grow its memory.
    let module = module.replace("(memory (export \"memory\") 2)", "(memory (export \"memory\") 8)");
    let site = site(&wat::lean_module(&module), "");
    assert_checks(&site);
    let (code, stdout, stderr) = site.run(&["inspect", "guest.wasm"]);
    assert_eq!((code, &*stderr), (0, ""));
    assert!(stdout.contains("\n  world     jackfield:gateway/route-handler@0.1.0\n"), "{stdout}");
    let (code, stdout, stderr) = site.run(&["invoke", "$default", "--body", "hello"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains('4'), "{stdout}");

    let server = site.serve();
    assert_eq!(server.connect("").await.ask("hello").await, "4");
    server.log.wait_for_line(&["hello", "plugin=guest"]).await;
}

#[test]
fn a_core_module_with_metadata_becomes_a_component() {
    let bytes = wat::lean_module(&wat::digit_handler("", "(i32.const 7)"));
    assert_checks(&site(&bytes, ""));
}

#[test]
fn a_truncated_file_is_rejected_wherever_it_was_cut() {
    for whole in [fs::read(component(ECHO)).unwrap(), fs::read(lean_echo()).unwrap()] {
        for length in [9, 100, whole.len() / 2, whole.len() - 1] {
            assert_contains(&component_error(&whole[..length]), &["guest.wasm: it is truncated or damaged"]);
        }
    }
}

#[test]
fn a_file_that_is_not_webassembly_is_rejected() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho hello", b"\x7fELF\x02\x01\x01\0 and more"] {
        assert_contains(&component_error(bytes), &[&format!("it is not WebAssembly: a file of {} bytes", bytes.len())]);
    }
    let error = component_error(b"\0asm\x02\0\0\0");
    assert_contains(&error, &["it is neither a component nor a core module: its version is [02, 00, 00, 00]"]);
}

#[test]
fn a_missing_file_is_rejected() {
    let error = startup_error(&Site::new(&manifest(Path::new("missing.wasm"), "", "")));
    assert_contains(&error, &["jackfield.toml:5: [integrations.guest] missing.wasm: file not found"]);
    let error =
        startup_error(&Site::new(&manifest(Path::new("missing.wasm"), "", "build = \"make\"\nwatch = [\"src\"]")));
    assert_contains(&error, &["file not found; build it: make"]);
}

#[test]
fn a_start_function_that_traps_is_reported_with_its_backtrace() {
    let start = r#"(func $wake_up unreachable) (start $wake_up)"#;
    let error = component_error(&wat::lean_module(&wat::digit_handler(start, "(i32.const 0)")));
    assert_contains(
        &error,
        &["it does not start: the handler trapped", "`unreachable` instruction executed", "wake_up"],
    );
}

#[test]
fn the_name_of_a_function_cannot_use_up_memory_when_it_traps() {
    // As a name of C++, this stands for B<A, A>, then for B<B<A, A>, B<A, A>>, and so on: a text of terabytes. wasmtime
    // converts it to format a backtrace; 25 levels took 9.9 s and all memory.
    let reference = |index: usize| format!("S{}_", char::from(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index]));
    let levels: String = (1..35).map(|level| format!("S0_I{0}{0}E", reference(level))).collect();
    let name = format!("_Z1f1A1BIS_S_E{levels}");
    let start = format!("(func ${name} unreachable) (start ${name})");
    let error = component_error(&wat::lean_module(&wat::digit_handler(&start, "(i32.const 0)")));
    assert_contains(&error, &["`unreachable` instruction executed", "!_Z1f1A1BIS_S_ES0_IS1_S1_E"]);
}

#[test]
fn a_start_function_that_does_not_end_is_reported() {
    let start = r#"(func $wake_up (loop (br 0))) (start $wake_up)"#;
    let bytes = wat::lean_module(&wat::digit_handler(start, "(i32.const 0)"));
    let error = startup_error(&site(&bytes, r#"cpu_time = "50ms""#));
    assert_contains(&error, &["it does not start: the handler used more than 50ms of CPU", "wake_up"]);
}

#[test]
fn a_guest_whose_initial_memory_exceeds_its_limit_is_rejected() {
    // The memory of the handler itself has two pages.
    let bytes = |pages: u32| wat::lean_module(&wat::digit_handler(&format!("(memory $more {pages})"), "(i32.const 0)"));
    assert_checks(&site(&bytes(14), r#"memory = "1MiB""#));
    let error = startup_error(&site(&bytes(15), r#"memory = "1MiB""#));
    assert_contains(&error, &["it does not start: ", "1048576 bytes of memory (memory in the manifest)"]);
}

#[test]
fn a_component_of_another_version_of_the_contract_is_rejected() {
    let module = wat::digit_handler("", "(i32.const 0)");
    let newer = wat::contract().replace("package jackfield:gateway@0.1.0;", "package jackfield:gateway@0.2.0;");
    let error = component_error(&wat::lean_module_for(&newer, &module.replace("@0.1.0#", "@0.2.0#")));
    assert_contains(&error, &["it exports jackfield:gateway/handler@0.2.0, but not jackfield:gateway/handler@0.1.0"]);
}

#[test]
fn a_component_of_a_draft_with_the_same_version_is_rejected() {
    let module = wat::digit_handler("", "(i32.const 0)");
    let draft = wat::contract().replace("    request-time: u64,\n", "    request-time: s64,\n");
    let error = component_error(&wat::lean_module_for(&draft, &module));
    assert_contains(&error, &["its handle has another type: it was built against another version of the contract"]);

    let import = r#"(import "jackfield:gateway/connections@0.1.0" "get-connection" (func (param i32 i32 i32)))"#;
    let module = module.replacen("(module", &format!("(module {import}"), 1);
    let draft = wat::contract().replace("    last-active-at: u64,\n", "");
    let error = component_error(&wat::lean_module_for(&draft, &module));
    assert_contains(&error, &["it was built against another version of the contract: an import has the wrong type"]);
}

#[test]
fn the_error_for_an_asynchronous_component_names_the_target_to_build_for() {
    let error = component_error(&wat::to_binary(
        r#"(component
            (core module $m
                (func (export "run") (result i32) i32.const 0)
                (func (export "again") (param i32 i32 i32) (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func (export "run") async
                (canon lift (core func $i "run") async (callback (core func $i "again")))))"#,
    ));
    assert_contains(&error, &["it uses the asynchronous component model", "build it for WASI 0.2"]);
}

#[test]
fn a_component_with_garbage_collection_is_rejected() {
    let gc = "(type (struct (field i32)))";
    let whole = wat::to_binary(&format!("(component (core module {gc}))"));
    assert_contains(&component_error(&whole), &["it uses garbage collection"]);
    let lean = wat::lean_module(&wat::digit_handler(gc, "(i32.const 0)"));
    assert_contains(&component_error(&lean), &["it uses garbage collection"]);
}

#[test]
fn a_guest_with_too_many_memories_is_rejected() {
    let memories = "(memory 0)".repeat(30);
    let error = component_error(&wat::lean_module(&wat::digit_handler(&memories, "(i32.const 0)")));
    assert_contains(&error, &["memories"]);
}

#[test]
fn a_granted_folder_that_does_not_exist_is_reported() {
    let files = r#"files = [{ host = "books", guest = "/books" }]"#;
    let bytes = wat::lean_module(&wat::digit_handler("", "(i32.const 0)"));
    let site = site(&bytes, files);
    let error = startup_error(&site);
    assert_contains(&error, &["books", "is not a folder", "files"]);
    fs::create_dir(site.path().join("books")).unwrap();
    assert_checks(&site);
}

#[test]
fn a_component_that_asks_for_its_event_while_it_is_started_is_refused() {
    let initialize = r#"(func (export "_initialize") (call $event (i32.const 600)))"#;
    let import = r#"(import "jackfield:gateway/current-connection@0.1.0" "event" (func $event (param i32)))"#;
    let module = wat::digit_handler(initialize, "(i32.const 1)").replacen("(module", &format!("(module {import}"), 1);
    let error = component_error(&wat::lean_module(&module));
    assert_contains(&error, &["it does not start", "current-connection.event: no event is being handled"]);
}
