//! Limits of guests: time, memory, host calls, responses and log. Guests at their limits do not affect others.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jackfield::limits::DEPARTED_PLACES;
use serde_json::Value;

use crate::harness::{
    ECHO, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest, serve_module,
};
use crate::wat;

const INTERNAL: &str = "Internal server error";
const TIMED_OUT: &str = "Endpoint request timed out";
const TOO_MANY: &str = "Too Many Requests";

/// Serves the hostile guest. `keys` are further keys of its integration.
fn hostile(keys: &str) -> Server {
    Site::new(&manifest(&component(HOSTILE), "", &format!("{HOSTILE_GRANTS}\n{keys}"))).serve()
}

/// Asserts that a frame is an error frame with this message. Returns its request id.
fn assert_error(frame: &str, message: &str) -> String {
    let fields: Value = serde_json::from_str(frame).unwrap_or_else(|_| panic!("not an error frame: {frame}"));
    assert_eq!(fields["message"], message, "{frame}");
    fields["requestId"].as_str().unwrap().to_owned()
}

/// Sends a command that must fail with `message`, and waits until the log has `why`. The connection must stay open.
async fn assert_fails(server: &Server, peer: &mut Peer, command: &str, message: &str, why: &str) {
    let request_id = assert_error(&peer.ask(command).await, message);
    server.log.wait_for_line(&["WARN", why, "plugin=guest", "route=$default", &request_id]).await;
    assert_eq!(peer.ask("echo still here").await, "still here", "after {command}");
}

async fn assert_answer(peer: &mut Peer, command: &str, answer: &str) {
    assert_eq!(peer.ask(command).await, answer, "to {command}");
}

/// Returns the log up to a line that a guest prints now.
async fn log_so_far(server: &Server, peer: &mut Peer) -> String {
    assert_answer(peer, "print so far", "printed").await;
    server.log.wait_for_line(&["so far"]).await;
    server.log.text()
}

// ---- time -----------------------------------------------------------------------------------

#[tokio::test]
async fn an_endless_loop_ends_at_the_cpu_budget() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "work 300", "worked").await;
    let started = Instant::now();
    assert_fails(&server, &mut peer, "spin", INTERNAL, "used more than 1s of CPU (cpu_time in the manifest)").await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_log_has_the_backtrace_of_an_endless_loop() {
    let server = hostile(r#"cpu_time = "50ms""#);
    let mut peer = server.connect("").await;
    assert_fails(&server, &mut peer, "spin", INTERNAL, "used more than 50ms of CPU").await;
    server.log.wait_for_line(&["hostile::run_command"]).await;
}

#[tokio::test]
async fn other_connections_are_answered_promptly_while_guests_spin() {
    let server = hostile("cpu_time = \"60s\"\ntimeout = \"60s\"");
    let mut other = server.connect("").await;
    let cores = std::thread::available_parallelism().unwrap().get();
    for spinning in [1, cores, cores * 3] {
        let mut peers = join_all((0..spinning).map(|_| server.connect(""))).await;
        for peer in &mut peers {
            peer.send("spin").await;
        }
        for _ in 0..10 {
            let sent = Instant::now();
            assert_answer(&mut other, "echo hello", "hello").await;
            let waited = sent.elapsed();
            assert!(waited < Duration::from_secs(3), "{waited:?} while {spinning} guests spun");
        }
        // A new connection is served too.
        assert_answer(&mut server.connect("").await, "echo new", "new").await;
        for peer in &mut peers {
            let answer = tokio::time::timeout(Duration::from_millis(1), peer.next()).await;
            assert!(answer.is_err(), "the guest no longer spins: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_guest_that_sleeps_ends_at_the_timeout() {
    let server = hostile(r#"timeout = "1s""#);
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "sleep 100", "awake").await;
    let sent = Instant::now();
    let why = "the handler ran longer than 1s (timeout in the manifest)";
    assert_fails(&server, &mut peer, "sleep 60000", TIMED_OUT, why).await;
    assert!(sent.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn waiting_does_not_use_the_cpu_budget() {
    let server = hostile(r#"cpu_time = "200ms""#);
    let mut peer = server.connect("").await;
    // Each of the sleeps is longer than the interval at which the budget is checked.
    assert_answer(&mut peer, "naps 60", "awake").await;
    assert_fails(&server, &mut peer, "spin", INTERNAL, "used more than 200ms of CPU").await;
}

// ---- memory, tables, stack ------------------------------------------------------------------

#[tokio::test]
async fn many_allocations_together_stay_within_the_memory_limit() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "grow 120", "120").await;
    let grown: usize = peer.ask("grow 200").await.parse().unwrap();
    assert!((120..128).contains(&grown), "{grown} MiB of 128");
    assert_answer(&mut peer, "allocate 100", "100").await;
    let why = "trapped after it requested more than 134217728 bytes of memory (memory in the manifest)";
    assert_fails(&server, &mut peer, "allocate 128", INTERNAL, why).await;
}

#[tokio::test]
async fn all_events_together_have_a_memory_limit() {
    let server = "[server]\nmemory_total = \"64MiB\"";
    let server = Site::new(&manifest(&component(HOSTILE), server, HOSTILE_GRANTS)).serve();
    let (mut holding, mut other) = (server.connect("").await, server.connect("").await);
    assert_answer(&mut other, "grow 60", "60").await;
    holding.send("hold 50 4000").await;
    eventually("there is not enough memory for two", async || {
        let mut other = server.connect("").await;
        other.ask("grow 30").await.parse::<usize>().is_ok_and(|grown| grown < 30)
    })
    .await;
    // Events that need little memory are not affected.
    assert_answer(&mut other, "grow 2", "2").await;
    let why = "requested more than 67108864 bytes of memory for all events together (memory_total in [server])";
    assert_fails(&server, &mut other, "allocate 30", INTERNAL, why).await;
    assert_eq!(holding.text().await, "50");
    assert_answer(&mut other, "grow 60", "60").await;
}

#[tokio::test]
async fn all_memories_of_a_guest_share_one_limit() {
    // The first memory has two pages; the limit is 16.
    let fields = "(memory $second 1) (memory $third 1)";
    let grows = format!(
        "(i32.and
            (i32.ne (memory.grow $second (i32.const 6)) (i32.const -1))
            (i32.ne (memory.grow $third (i32.add (i32.const 6) {})) (i32.const -1)))",
        wat::LETTER_INDEX
    );
    let server = serve_module(&wat::digit_handler(fields, &grows), r#"memory = "1MiB""#);
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "a", "1").await;
    assert_answer(&mut peer, "b", "0").await;
    assert_answer(&mut peer, "a", "1").await;
}

#[tokio::test]
async fn memory_requests_that_would_overflow_do_not_lift_the_limit() {
    let fields = "(memory $second 12) (memory $huge i64 0)
        (func $ask (local $times i32)
            (loop $again
                (drop (memory.grow $huge (i64.const 0xffffffffffff)))
                (drop (memory.grow $huge (i64.const 0x1000000000000)))
                (drop (memory.grow $huge (i64.const -1)))
                (local.set $times (i32.add (local.get $times) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $times) (i32.const 100)))))";
    let grows = format!(
        "(call $ask) (i32.ne (memory.grow $second (i32.add (i32.const 2) {})) (i32.const -1))",
        wat::LETTER_INDEX
    );
    let body = format!("(block (result i32) {grows})");
    let server = serve_module(&wat::digit_handler(fields, &body), r#"memory = "1MiB""#);
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "a", "1").await;
    assert_answer(&mut peer, "b", "0").await;
    assert_answer(&mut peer, "z", "0").await;
}

#[tokio::test]
async fn all_tables_of_a_guest_share_one_limit() {
    // The limit is 100,000 elements.
    let fields = "(table $first 1 funcref) (table $second 1 funcref)";
    let grows = format!(
        "(i32.and
            (i32.ne (table.grow $first (ref.null func) (i32.const 60000)) (i32.const -1))
            (i32.ne (table.grow $second (ref.null func) (i32.add (i32.const 39998) {})) (i32.const -1)))",
        wat::LETTER_INDEX
    );
    let trap = format!("(if (result i32) {grows} (then (i32.const 1)) (else unreachable))");
    let server = serve_module(&wat::digit_handler(fields, &trap), "");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "a", "1").await;
    let request_id = assert_error(&peer.ask("b").await, INTERNAL);
    server.log.wait_for_line(&["requested more than 100000 table elements", &request_id]).await;
    assert_answer(&mut peer, "a", "1").await;
}

#[tokio::test]
async fn deep_recursion_traps_and_the_server_keeps_running() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert!(peer.ask("descend 1000").await.parse::<u64>().is_ok());
    assert_fails(&server, &mut peer, "descend 100000000", INTERNAL, "call stack exhausted").await;
    // The stack that a guest keeps in its own memory is limited too.
    assert_answer(&mut peer, "recurse 10", "55").await;
    assert_fails(&server, &mut peer, "recurse 100000000", INTERNAL, "out of bounds memory access").await;
}

#[tokio::test]
async fn host_calls_do_not_overflow_the_host_however_deep_the_guests_stack_is() {
    // The function calls the host at each depth of its recursion, down to the last.
    let fields = r#"
        (func $plunge (param i32) (result i32)
            (call $get (i32.const 600) (i32.const 1) (i32.const 8192))
            (i32.add (local.get 0) (call $plunge (i32.add (local.get 0) (i32.const 1)))))"#;
    let import = r#"(import "jackfield:gateway/connection-store@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let module =
        wat::digit_handler(fields, "(call $plunge (i32.const 0))").replacen("(module", &format!("(module {import}"), 1);
    let server = serve_module(&module, "grants = [\"connection-store\"]\nhost_calls = 1000000\ncpu_time = \"25s\"");
    let mut peer = server.connect("").await;
    for _ in 0..3 {
        let request_id = assert_error(&peer.ask("a").await, INTERNAL);
        server.log.wait_for_line(&["call stack exhausted", &request_id]).await;
    }
}

// ---- the end of a guest ---------------------------------------------------------------------

#[tokio::test]
async fn a_panic_is_logged_in_two_lines_with_plugin_version_route_request_and_its_place() {
    let server = Site::new(&manifest(&component(HOSTILE), "", HOSTILE_GRANTS)).start(&["dev"]);
    let version = blake3::hash(&fs::read(component(HOSTILE)).unwrap()).to_hex()[..12].to_owned();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let request_id = assert_error(&peer.ask("trap enough of this").await, INTERNAL);
    assert_answer(&mut peer, "print after", "printed").await;
    server.log.wait_for_line(&["INFO after"]).await;
    let log = server.log.text();
    let lines: Vec<&str> = log.lines().skip_while(|line| !line.contains("panicked")).collect();
    let fields =
        format!("plugin=guest version={version} route=$default connection_id={id} request_id={request_id} backtrace=");
    assert!(lines[0].ends_with(&format!("WARN the handler panicked: as ordered: enough of this {fields}")), "{log}");
    assert!(lines[1].starts_with("    at hostile/src/lib.rs:"), "{log}");
    assert!(lines[2].contains("INFO after"), "{log}");
    assert!(!log.contains("RUST_BACKTRACE"), "{log}");
}

#[tokio::test]
async fn the_backtrace_of_a_panic_is_in_the_log_of_the_level_debug() {
    let site = Site::new(&manifest(&component(HOSTILE), "", HOSTILE_GRANTS));
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "debug");
    let server = site.launch(command);
    let mut peer = server.connect("").await;
    let request_id = assert_error(&peer.ask("trap").await, INTERNAL);
    server.log.wait_for_line(&["DEBUG the backtrace of the panic plugin=guest route=$default", &request_id]).await;
    let frame = server.log.wait_for_line(&["hostile::run_command"]).await;
    assert!(frame.starts_with("    "), "{frame}");
    server.log.wait_for_line(&["jackfield:gateway/handler@0.1.0#handle"]).await;
}

#[tokio::test]
async fn the_start_of_a_panic_without_a_trap_is_logged_as_it_was_written() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "print-error thread 'x' panicked at a:1:2:", "printed").await;
    let line = server.log.wait_for_line(&["WARN thread 'x' panicked at a:1:2: plugin=guest"]).await;
    assert!(line.contains("route=$default"), "{line}");
}

/// Serves a guest in WebAssembly text and sends it a message, which must fail. Returns the log from the line with
/// `first` to that of the next event.
async fn log_of_failure(module: &str, first: &str) -> Vec<String> {
    let server = serve_module(module, "");
    let mut peer = server.connect("").await;
    assert_error(&peer.ask("a").await, INTERNAL);
    assert_error(&peer.ask("a").await, INTERNAL);
    let is_first = |line: &&str| line.contains(first);
    eventually("both failures are logged", async || server.log.text().lines().filter(is_first).count() == 2).await;
    let log = server.log.text();
    let mut lines = log.lines().skip_while(|line| !line.contains(first));
    let head = lines.next().unwrap().to_owned();
    [head].into_iter().chain(lines.take_while(|line| !line.contains(first)).map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_panic_without_output_is_logged_with_the_functions_below_it() {
    let fields = "(func $rust_begin_unwind unreachable)
        (func $core::panicking::panic_fmt (call $rust_begin_unwind))
        (func $guest::divide (call $core::panicking::panic_fmt))";
    let module = wat::handler(fields, "(call $guest::divide) (unreachable)");
    let lines = log_of_failure(&module, "WARN the handler panicked").await;
    assert!(
        lines[0].contains("the handler panicked: its target has no output, so the message is unknown"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("    2: ") && lines[1].ends_with("guest::divide"), "{lines:?}");
    assert!(lines[2].starts_with("    3: ") && lines[2].ends_with("!handle"), "{lines:?}");
}

#[tokio::test]
async fn the_stack_of_a_failure_is_logged_with_one_line_for_each_frame() {
    // err; the message of 7 bytes at 740; a stack of 31 bytes at 750
    let failure = r#"(data (i32.const 700) "\01\00\00\00\e4\02\00\00\07\00\00\00\01\00\00\00\ee\02\00\00\1f\00\00\00")
        (data (i32.const 740) "no room")
        (data (i32.const 750) "    at f (a.js:1:2)\n    at \1b[2J")"#;
    let module = wat::handler(failure, "(i32.const 700)");
    let lines = log_of_failure(&module, "WARN the handler failed").await;
    assert!(lines[0].contains("WARN the handler failed: no room plugin=guest"), "{lines:?}");
    assert_eq!(lines[1..], ["    at f (a.js:1:2)", "    at \\u{1b}[2J"]);
}

#[tokio::test]
async fn a_guest_that_exits_has_failed() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_fails(&server, &mut peer, "exit 0", INTERNAL, "the handler trapped: Exited with i32 exit status 0").await;
    assert_fails(&server, &mut peer, "exit 3", INTERNAL, "the handler trapped: Exited with i32 exit status").await;
}

#[tokio::test]
async fn the_text_of_a_handlers_failure_is_only_in_the_log() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    let frame = peer.ask("fail a secret").await;
    let request_id = assert_error(&frame, INTERNAL);
    assert!(!frame.contains("secret"), "{frame}");
    server
        .log
        .wait_for_line(&["WARN the handler failed: as ordered: a secret plugin=guest version=", &request_id])
        .await;
}

#[tokio::test]
async fn a_failing_connect_handler_rejects_with_502_and_a_slow_one_with_504() {
    let server = hostile("timeout = \"1s\"\ncpu_time = \"100ms\"");
    assert_eq!(server.try_connect("?do=trap", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=fail", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=exit", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=spin", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=status%20600", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=sleep%2060000", &[]).await.err(), Some(504));
    assert_answer(&mut server.connect("").await, "echo hello", "hello").await;
}

// ---- host calls -----------------------------------------------------------------------------

#[tokio::test]
async fn an_event_with_more_host_calls_than_allowed_fails() {
    let server = hostile("host_calls = 10");
    let mut peer = server.connect("").await;
    // Opening the bucket is a host call too.
    assert_answer(&mut peer, "lookups 9", "9").await;
    assert_fails(
        &server,
        &mut peer,
        "lookups 10",
        INTERNAL,
        "the event made more than 10 host calls (host_calls in the manifest)",
    )
    .await;
}

#[tokio::test]
async fn posts_beyond_the_limit_are_refused_and_the_others_are_sent() {
    let server = hostile("host_calls = 10");
    let mut peer = server.connect("").await;
    for command in ["posts 10", "posts 11", "post-many 10", "post-many 11"] {
        let mut answer = peer.ask(command).await;
        // This test accepts the response before, between or after the posts.
        let mut posts = 0;
        while posts < 10 {
            if answer != "x" {
                assert!(!peer.text().await.is_empty());
            } else {
                answer = peer.text().await;
            }
            posts += 1;
        }
        let refused = command.ends_with("11");
        assert_eq!(answer.contains("more was sent than the peer takes"), refused, "to {command}: {answer}");
        assert!(answer.starts_with("10"), "to {command}: {answer}");
    }
    assert_answer(&mut peer, "echo nothing more", "nothing more").await;
}

#[tokio::test]
async fn a_call_that_posts_to_all_matching_connections_counts_once_for_each_64_of_them() {
    let server = hostile("host_calls = 1");
    let mut peers = Vec::new();
    for _ in 0..64 {
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask("row room=lobby").await, "added");
        peers.push(peer);
    }
    let mut caller = server.connect("").await;
    assert_eq!(caller.ask("match room=lobby").await, "64");
    for peer in &mut peers {
        assert_eq!(peer.text().await, "matched");
    }
    assert_eq!(caller.ask("row room=lobby").await, "added");
    assert_eq!(caller.ask("match room=lobby").await, "error: more was sent than the peer takes");
    // No connection got a part of it.
    for peer in &mut peers {
        assert_eq!(peer.ask("echo in").await, "in");
    }
}

#[tokio::test]
async fn an_event_may_make_ten_thousand_host_calls_by_default() {
    let server = hostile("cpu_time = \"25s\"");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "lookups 9999", "9999").await;
    assert_fails(&server, &mut peer, "lookups 10000", INTERNAL, "more than 10000 host calls").await;
}

#[tokio::test]
async fn the_number_of_open_handles_is_limited() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "handles 1000", "1000").await;
    let refused = peer.ask("handles 1001").await;
    assert!(refused.starts_with("1000 then the bucket failed"), "{refused}");
    assert_answer(&mut peer, "handles 1000", "1000").await;
}

#[tokio::test]
async fn a_value_may_have_400_kib_and_no_more() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "big-value 409600", "set").await;
    let refused = peer.ask("big-value 409601").await;
    assert_eq!(refused, "error: the bucket failed: the value has 409601 bytes; at most 409600 are allowed");
    // A value that exceeds the limit on copied data is rejected before it is copied.
    assert_fails(&server, &mut peer, "big-value 3000000", INTERNAL, "too much data is being copied").await;
}

#[tokio::test]
async fn random_bytes_of_one_call_have_a_limit() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "random 65536", "65536").await;
    assert_fails(&server, &mut peer, "random 65537", INTERNAL, "requested len 65537 exceeds limit 65536").await;
}

// ---- responses ------------------------------------------------------------------------------

#[tokio::test]
async fn a_response_may_be_as_large_as_a_message_and_no_larger() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("body 131072").await.len(), 131_072);
    assert_fails(&server, &mut peer, "body 131073", INTERNAL, "a body of 131073 bytes, at most 131072 are allowed")
        .await;
    assert_fails(&server, &mut peer, "body 3000000", INTERNAL, "too much data is being copied").await;
}

#[tokio::test]
async fn a_larger_message_size_allows_larger_responses_and_posts() {
    let connection = "[connection]\nmessage_size = \"8MiB\"";
    let server = Site::new(&manifest(&component(HOSTILE), connection, HOSTILE_GRANTS)).serve();
    let mut peer = server.connect("").await;
    let bytes = 8 * 1024 * 1024;
    assert_eq!(peer.ask(&format!("body {bytes}")).await.len(), bytes);
    peer.send(&format!("post-large {bytes}")).await;
    let mut lengths = [peer.text().await.len(), peer.text().await.len()];
    lengths.sort_unstable();
    assert_eq!(lengths, ["posted".len(), bytes]);
}

#[tokio::test]
async fn a_response_with_an_invalid_status_is_a_failure() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for status in [200, 404, 599] {
        assert_answer(&mut peer, &format!("status {status}"), "a body").await;
    }
    for status in [0, 199, 600, 65535] {
        let why = format!("status {status}, expected 200 to 599");
        assert_fails(&server, &mut peer, &format!("status {status}"), INTERNAL, &why).await;
    }
}

#[tokio::test]
async fn a_small_guest_cannot_make_a_huge_response_by_repeating_the_same_bytes() {
    // There are 8,192 headers. Each name and each value is the same half MiB, which makes 8 GiB in all.
    let fill = format!(
        "(local $header i32)
         (local.set $header (i32.const 0x110000))
         (loop $next
            (i32.store (local.get $header) (i32.const 0x20000))
            (i32.store offset=4 (local.get $header) (i32.const 0x80000))
            (i32.store offset=8 (local.get $header) (i32.const 0x20000))
            (i32.store offset=12 (local.get $header) (i32.const 0x80000))
            (local.set $header (i32.add (local.get $header) (i32.const 16)))
            (br_if $next (i32.lt_u (local.get $header) (i32.const 0x130000))))
         (i32.store offset=8 (i32.const {answer}) (i32.const 0x110000))
         (i32.store offset=12 (i32.const {answer}) (i32.const 8192))
         (i32.const {answer})",
        answer = wat::RESPONSE_ADDRESS
    );
    let grown = wat::handler("", &fill).replace(r#"(memory (export "memory") 2)"#, r#"(memory (export "memory") 32)"#);
    let server = serve_module(&grown, "");
    let mut peer = server.connect("").await;
    let request_id = assert_error(&peer.ask("a").await, INTERNAL);
    server.log.wait_for_line(&["too much data is being copied", &request_id]).await;
}

// ---- the log --------------------------------------------------------------------------------

#[tokio::test]
async fn the_log_of_an_event_is_cut_at_its_limit_and_the_cut_is_logged_once() {
    const CUT: &str = "the log of this event is cut at 65536 bytes (log_size in the manifest)";
    let server = hostile("");
    let mut peer = server.connect("").await;
    let lines = |log: &str| log.lines().filter(|line| line.contains("xxxxxxxx")).count();
    assert_answer(&mut peer, "flood 58", "flooded").await;
    let log = log_so_far(&server, &mut peer).await;
    assert_eq!((lines(&log), log.matches(CUT).count()), (58, 0));
    assert_answer(&mut peer, "flood 5000", "flooded").await;
    server.log.wait_for_line(&[CUT]).await;
    assert_answer(&mut peer, "print more", "printed").await;
    server.log.wait_for_line(&["INFO more"]).await;
    let log = server.log.text();
    assert_eq!((lines(&log), log.matches(CUT).count()), (58 + 58, 1));
}

#[tokio::test]
async fn log_contexts_and_short_lines_count_towards_the_log_limit() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for command in
        ["log-in-context 60000 100", "log-in-context 1000000 3", "log-short-lines 60000 ", "log-short-lines 30000 x"]
    {
        let before = log_so_far(&server, &mut peer).await.len();
        assert_answer(&mut peer, command, "logged").await;
        let after = log_so_far(&server, &mut peer).await.len();
        assert!(after - before < 2 * 65_536 + 10_000, "{} bytes of log after {command}", after - before);
    }
}

#[tokio::test]
async fn output_of_a_guest_cannot_forge_log_lines() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for command in [
        "log one\nFORGED",
        "log one\rFORGED",
        "log one\u{2028}FORGED\u{1b}[31m\u{9b}31m\u{202e}",
        "print one\nFORGED",
        "print one\rFORGED\u{1b}[2J\u{8}",
        "print-error one\nFORGED",
    ] {
        peer.ask(command).await;
    }
    assert_error(&peer.ask("fail one\nFORGED\u{1b}[31m").await, INTERNAL);
    assert_error(&peer.ask("trap one\nFORGED\u{1b}[31m").await, INTERNAL);
    server.log.wait_for_line(&[r"WARN the handler panicked: as ordered: one FORGED\u{1b}[31m"]).await;
    let log = log_so_far(&server, &mut peer).await;
    assert!(log.contains(r"the handler failed: as ordered: one\nFORGED\u{1b}[31m"), "{log}");
    assert!(log.contains(r"one\rFORGED\u{1b}[2J\u{8}"), "{log}");
    assert!(log.contains(r"one\u{2028}FORGED\u{1b}[31m\u{9b}31m\u{202e}"), "{log}");
    assert!(log.matches("FORGED").count() >= 8, "{log}");
    for line in log.lines() {
        assert!(line.starts_with("20") || line.starts_with("    "), "a forged line: {line:?}");
        assert!(!line.contains(['\u{1b}', '\r', '\u{9b}', '\u{2028}', '\u{202e}']), "{line:?}");
    }
}

#[tokio::test]
async fn names_of_functions_cannot_forge_log_lines() {
    let name = r"\0aFORGED\1b[31m";
    let fields = format!(r#"(func $"{name}" unreachable)"#);
    let body = format!(r#"(call $"{name}") (i32.const 0)"#);
    let server = serve_module(&wat::handler(&fields, &body), "");
    assert_error(&server.connect("").await.ask("a").await, INTERNAL);
    let line = server.log.wait_for_line(&["FORGED"]).await;
    assert!(line.starts_with("    ") && !line.contains('\u{1b}'), "{line:?}");
}

#[tokio::test]
async fn a_long_failure_text_is_shortened_in_the_log() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    let text = "y".repeat(30_000);
    assert_error(&peer.ask(&format!("fail {text}")).await, INTERNAL);
    let line = server.log.wait_for_line(&["the handler failed"]).await;
    assert!(line.contains("... (30012 bytes in all)") && line.len() < 5_000, "{} bytes", line.len());
}

#[tokio::test]
async fn an_unfinished_line_is_logged_at_the_end_of_the_event() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "print-error psst", "printed").await;
    server.log.wait_for_line(&["WARN psst plugin=guest"]).await;
}

// ---- concurrency ----------------------------------------------------------------------------

/// Opens `count` connections, and then sends the command on each of them.
async fn connect_and_send(server: &Server, count: usize, command: &str) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(server.connect("").await);
    }
    for peer in &mut peers {
        peer.send(command).await;
    }
    peers
}

/// Receives the next text of every peer.
async fn receive_all(peers: &mut [Peer]) -> Vec<String> {
    join_all(peers.iter_mut().map(Peer::text)).await
}

/// Returns a manifest of two integrations: `wide` serves the route of that name, `guest` all others.
fn two_integrations(wide: &Path, keys: &str) -> String {
    let guest = manifest(&component(HOSTILE), "", HOSTILE_GRANTS);
    format!(
        "{guest}\nwide = {{ integration = \"wide\", route_response = true }}\n\
         [integrations.wide]\ncomponent = {wide:?}\n{keys}"
    )
}

#[tokio::test]
async fn events_beyond_the_pool_size_wait_for_a_free_slot() {
    let server = hostile("");
    let mut peers = connect_and_send(&server, 300, "sleep 2000").await;
    let answers = receive_all(&mut peers).await;
    assert!(answers.iter().all(|answer| answer == "awake"), "{answers:?}");
}

#[tokio::test]
async fn an_event_that_waits_too_long_for_a_free_slot_is_rejected() {
    let server = hostile("");
    let mut peers = connect_and_send(&server, 300, "sleep 9000").await;
    let mut waiting = peers.split_off(256);
    // Messages of different connections may run in any order, so any of them may be the rejected ones.
    let answers = [receive_all(&mut peers).await, receive_all(&mut waiting).await].concat();
    let (awake, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| *answer == "awake");
    assert_eq!((awake.len(), refused.len()), (256, 44));
    let request_ids: Vec<String> = refused.into_iter().map(|frame| assert_error(frame, TOO_MANY)).collect();
    // The log has the first 20 failures of the route; the next line counts the others.
    let words = "ERROR too many events run at once: waited 5s for a free slot";
    let is_logged = |line: &str| line.contains(words) && request_ids.iter().any(|id| line.contains(id));
    let logged = || server.log.text().lines().filter(|line| is_logged(line)).count();
    eventually("20 failures are logged", async || logged() >= 20).await;
    assert_eq!(peers[0].ask("echo hello").await, "hello");
    assert_eq!(waiting[0].ask("echo hello").await, "hello");
}

#[tokio::test]
async fn a_disconnect_waits_for_a_free_slot_without_a_time_limit() {
    let server = hostile("");
    let mut leaving = server.connect("").await;
    let id = leaving.id().await;
    // The sleep is longer than any other event would wait for a slot.
    let mut lost = connect_and_send(&server, DEPARTED_PLACES, "row at-end=sleep 8000").await;
    assert!(receive_all(&mut lost).await.iter().all(|answer| answer == "added"));
    drop(lost);
    let other = tokio::sync::Mutex::new(server.connect("").await);
    let ask = async |command: &str| other.lock().await.ask(command).await;
    eventually("every slot is in use", async || ask("ends").await == DEPARTED_PLACES.to_string()).await;
    leaving.close(4000, "bye").await;
    assert_eq!(ask(&format!("ended {id}")).await, "none");
    eventually("$disconnect has run", async || ask(&format!("ended {id}")).await == "4000 bye").await;
}

#[tokio::test]
async fn kept_sandboxes_do_not_occupy_event_slots() {
    let site = Site::new(&two_integrations(&component(HOSTILE), &format!("{HOSTILE_GRANTS}\nreuse = 1000")));
    let server = site.serve();
    let mut keeping = connect_and_send(&server, 60, r#"{"action":"wide","do":"sleep 1000"}"#).await;
    assert!(receive_all(&mut keeping).await.iter().all(|answer| answer == "awake"));
    let mut fresh = connect_and_send(&server, 256, "sleep 3000").await;
    let answers = receive_all(&mut fresh).await;
    assert!(answers.iter().all(|answer| answer == "awake"), "{answers:?}");
}

#[tokio::test]
async fn guests_with_many_memories_do_not_starve_other_guests() {
    let memories = "(memory 1)".repeat(19);
    let site = Site::new(&two_integrations(Path::new("wide.wasm"), ""));
    fs::write(site.path().join("wide.wasm"), wat::sleeping_module(&memories, Duration::from_secs(1))).unwrap();
    let server = site.serve();
    // Together they have 1,200 memories, which is more than the pool has.
    let mut wide = connect_and_send(&server, 60, r#"{"action":"wide"}"#).await;
    let mut narrow = connect_and_send(&server, 20, "echo hello").await;
    assert!(receive_all(&mut narrow).await.iter().all(|answer| answer == "hello"));
    let answers = receive_all(&mut wide).await;
    assert!(answers.iter().all(|answer| answer == "x"), "{answers:?}");
}

#[tokio::test]
async fn a_component_is_reloaded_while_every_slot_is_in_use() {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", HOSTILE_GRANTS));
    let path = site.path().join("guest.wasm");
    // The component is compiled beforehand, so that the reload takes no time.
    fs::copy(component(ECHO), &path).unwrap();
    assert_eq!(site.run(&["check"]).0, 0);
    fs::copy(component(HOSTILE), &path).unwrap();
    let server = site.serve();
    let mut sleeping = connect_and_send(&server, 256, "sleep 28000").await;
    fs::copy(component(ECHO), &path).unwrap();
    server.log.wait_for_line(&["INFO live plugin=guest"]).await;
    let still = tokio::time::timeout(Duration::from_millis(1), sleeping[0].next()).await;
    assert!(still.is_err(), "the events no longer sleep: {still:?}");
}
