//! Guests held to their limits, and what the others notice of it: nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use crate::harness::{ECHO, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::wat;

const INTERNAL: &str = "Internal server error";
const TIMED_OUT: &str = "Endpoint request timed out";
const TOO_MANY: &str = "Too Many Requests";

/// The hostile guest, with these lines beside its grants.
fn hostile(lines: &str) -> Server {
    Site::new(&manifest(&component(HOSTILE), "", &format!("{HOSTILE_GRANTS}\n{lines}"))).serve()
}

/// A guest written by hand, behind `$default`.
fn by_hand(module: &str, lines: &str) -> Server {
    let manifest = format!(
        "[integrations.guest]\ncomponent = \"guest.wasm\"\n{lines}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    );
    let site = Site::new(&manifest);
    fs::write(site.path().join("guest.wasm"), wat::lean(module)).unwrap();
    site.serve()
}

/// The request id in an error frame with that message.
fn failed(frame: &str, message: &str) -> String {
    let fields: Value = serde_json::from_str(frame).unwrap_or_else(|_| panic!("no error frame: {frame}"));
    assert_eq!(fields["message"], message, "{frame}");
    fields["requestId"].as_str().unwrap().to_owned()
}

/// Gives an order that must end with that message, and waits until the log says why.
async fn fails(server: &Server, peer: &mut Peer, order: &str, message: &str, why: &str) {
    let request_id = failed(&peer.ask(order).await, message);
    server.log.line_with(&["WARN", why, "plugin=guest", "route=$default", &request_id]).await;
    assert_eq!(peer.ask("echo still here").await, "still here", "after {order}");
}

async fn answers(peer: &mut Peer, order: &str, answer: &str) {
    assert_eq!(peer.ask(order).await, answer, "to {order}");
}

/// What the log has up to a line that a guest now says.
async fn log_so_far(server: &Server, peer: &mut Peer) -> String {
    answers(peer, "say so far", "said").await;
    server.log.line_with(&["so far"]).await;
    server.log.text()
}

// ---- time --------------------------------------------------------------------------------------

#[tokio::test]
async fn an_endless_loop_ends_at_the_cpu_budget() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "work 300", "worked").await;
    let started = Instant::now();
    fails(&server, &mut peer, "spin", INTERNAL, "used more than 1s of CPU (cpu_time in the manifest)").await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_log_says_where_an_endless_loop_was() {
    let server = hostile(r#"cpu_time = "50ms""#);
    let mut peer = server.connect("").await;
    fails(&server, &mut peer, "spin", INTERNAL, "used more than 50ms of CPU").await;
    server.log.line_with(&["hostile::obey"]).await;
}

#[tokio::test]
async fn others_are_answered_promptly_while_guests_spin() {
    let server = hostile("cpu_time = \"60s\"\ntimeout = \"60s\"");
    let mut other = server.connect("").await;
    let cores = std::thread::available_parallelism().unwrap().get();
    for spinning in [1, cores, cores * 3] {
        let mut peers = join_all((0..spinning).map(|_| server.connect(""))).await;
        for peer in &mut peers {
            peer.send("spin").await;
        }
        for _ in 0..10 {
            let asked = Instant::now();
            answers(&mut other, "echo hello", "hello").await;
            let waited = asked.elapsed();
            assert!(waited < Duration::from_secs(3), "{waited:?} while {spinning} guests spun");
        }
        // A new connection finds its way too.
        answers(&mut server.connect("").await, "echo new", "new").await;
        for peer in &mut peers {
            let answer = tokio::time::timeout(Duration::from_millis(1), peer.next()).await;
            assert!(answer.is_err(), "it does not spin any more: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_guest_that_sleeps_ends_at_the_timeout() {
    let server = hostile(r#"timeout = "1s""#);
    let mut peer = server.connect("").await;
    answers(&mut peer, "sleep 100", "awake").await;
    let asked = Instant::now();
    let why = "the handler ran longer than 1s (timeout in the manifest)";
    fails(&server, &mut peer, "sleep 60000", TIMED_OUT, why).await;
    assert!(asked.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn waiting_is_no_computing() {
    let server = hostile(r#"cpu_time = "200ms""#);
    let mut peer = server.connect("").await;
    // Each nap is longer than the grain of the budget.
    answers(&mut peer, "naps 60", "awake").await;
    fails(&server, &mut peer, "spin", INTERNAL, "used more than 200ms of CPU").await;
}

// ---- memory, tables, stack --------------------------------------------------------------------

#[tokio::test]
async fn memory_ends_at_its_limit_over_many_allocations() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "grow 120", "120").await;
    let got: usize = peer.ask("grow 200").await.parse().unwrap();
    assert!((120..128).contains(&got), "{got} MiB of 128");
    answers(&mut peer, "hoard 100", "100").await;
    let why = "trapped after it was refused more than 134217728 bytes of memory (memory in the manifest)";
    fails(&server, &mut peer, "hoard 128", INTERNAL, why).await;
}

#[tokio::test]
async fn all_events_together_have_a_limit_of_memory_too() {
    let server = "[server]\nmemory_total = \"64MiB\"";
    let server = Site::new(&manifest(&component(HOSTILE), server, HOSTILE_GRANTS)).serve();
    let (mut holding, mut other) = (server.connect("").await, server.connect("").await);
    answers(&mut other, "grow 60", "60").await;
    holding.send("hold 50 4000").await;
    eventually("there is not enough for two", async || {
        let mut other = server.connect("").await;
        other.ask("grow 30").await.parse::<usize>().is_ok_and(|grown| grown < 30)
    })
    .await;
    // Those that need little are not concerned.
    answers(&mut other, "grow 2", "2").await;
    let why = "refused more than 67108864 bytes of memory for all events together (memory_total in [server])";
    fails(&server, &mut other, "hoard 30", INTERNAL, why).await;
    assert_eq!(holding.text().await, "50");
    answers(&mut other, "grow 60", "60").await;
}

#[tokio::test]
async fn all_memories_of_a_guest_have_one_limit_together() {
    // Two pages are in the first memory; the limit is 16.
    let fields = "(memory $second 1) (memory $third 1)";
    let grows = format!(
        "(i32.and
            (i32.ne (memory.grow $second (i32.const 6)) (i32.const -1))
            (i32.ne (memory.grow $third (i32.add (i32.const 6) {})) (i32.const -1)))",
        wat::LETTER
    );
    let server = by_hand(&wat::digit(fields, &grows), r#"memory = "1MiB""#);
    let mut peer = server.connect("").await;
    answers(&mut peer, "a", "1").await;
    answers(&mut peer, "b", "0").await;
    answers(&mut peer, "a", "1").await;
}

#[tokio::test]
async fn asking_for_more_memory_than_there_are_numbers_lifts_no_limit() {
    let fields = "(memory $second 12) (memory $huge i64 0)
        (func $ask (local $times i32)
            (loop $again
                (drop (memory.grow $huge (i64.const 0xffffffffffff)))
                (drop (memory.grow $huge (i64.const 0x1000000000000)))
                (drop (memory.grow $huge (i64.const -1)))
                (local.set $times (i32.add (local.get $times) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $times) (i32.const 100)))))";
    let grows =
        format!("(call $ask) (i32.ne (memory.grow $second (i32.add (i32.const 2) {})) (i32.const -1))", wat::LETTER);
    let body = format!("(block (result i32) {grows})");
    let server = by_hand(&wat::digit(fields, &body), r#"memory = "1MiB""#);
    let mut peer = server.connect("").await;
    answers(&mut peer, "a", "1").await;
    answers(&mut peer, "b", "0").await;
    answers(&mut peer, "z", "0").await;
}

#[tokio::test]
async fn all_tables_of_a_guest_have_one_limit_together() {
    // Of 100,000 elements.
    let fields = "(table $first 1 funcref) (table $second 1 funcref)";
    let grows = format!(
        "(i32.and
            (i32.ne (table.grow $first (ref.null func) (i32.const 60000)) (i32.const -1))
            (i32.ne (table.grow $second (ref.null func) (i32.add (i32.const 39998) {})) (i32.const -1)))",
        wat::LETTER
    );
    let trap = format!("(if (result i32) {grows} (then (i32.const 1)) (else unreachable))");
    let server = by_hand(&wat::digit(fields, &trap), "");
    let mut peer = server.connect("").await;
    answers(&mut peer, "a", "1").await;
    let request_id = failed(&peer.ask("b").await, INTERNAL);
    server.log.line_with(&["refused more than 100000 elements of tables", &request_id]).await;
    answers(&mut peer, "a", "1").await;
}

#[tokio::test]
async fn deep_recursion_traps_and_the_server_lives() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert!(peer.ask("descend 1000").await.parse::<u64>().is_ok());
    fails(&server, &mut peer, "descend 100000000", INTERNAL, "call stack exhausted").await;
    // The stack that a guest has in its own memory ends too.
    answers(&mut peer, "recurse 10", "55").await;
    fails(&server, &mut peer, "recurse 100000000", INTERNAL, "out of bounds memory access").await;
}

#[tokio::test]
async fn the_host_has_a_stack_of_its_own_however_deep_the_guest_is_in() {
    // Calls the host in each of its depths, down to the last.
    let fields = r#"
        (func $plunge (param i32) (result i32)
            (call $get (i32.const 600) (i32.const 1) (i32.const 8192))
            (i32.add (local.get 0) (call $plunge (i32.add (local.get 0) (i32.const 1)))))"#;
    let import = r#"(import "jackfield:gateway/connection-store@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let module =
        wat::digit(fields, "(call $plunge (i32.const 0))").replacen("(module", &format!("(module {import}"), 1);
    let server = by_hand(&module, "grants = [\"connection-store\"]\nhost_calls = 1000000\ncpu_time = \"25s\"");
    let mut peer = server.connect("").await;
    for _ in 0..3 {
        let request_id = failed(&peer.ask("a").await, INTERNAL);
        server.log.line_with(&["call stack exhausted", &request_id]).await;
    }
}

// ---- the end of a guest ----------------------------------------------------------------------

#[tokio::test]
async fn a_trap_is_told_with_plugin_version_route_request_and_the_guests_own_backtrace() {
    let server = hostile("");
    let version = blake3::hash(&fs::read(component(HOSTILE)).unwrap()).to_hex()[..12].to_owned();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let request_id = failed(&peer.ask("trap enough of this").await, INTERNAL);
    let said = server.log.line_with(&["enough of this"]).await;
    assert!(
        said.contains(&format!("plugin=guest route=$default connection_id={id} request_id={request_id}")),
        "{said}"
    );
    let trap = server.log.line_with(&["WARN the handler trapped: wasm trap: wasm `unreachable` instruction"]).await;
    let fields =
        format!("plugin=guest version={version} route=$default connection_id={id} request_id={request_id} backtrace=");
    assert!(trap.ends_with(&fields), "{trap}");
    let frame = server.log.line_with(&["hostile::obey"]).await;
    assert!(frame.starts_with("    "), "{frame}");
    server.log.line_with(&["jackfield:gateway/handler@0.1.0#handle"]).await;
}

#[tokio::test]
async fn a_guest_that_exits_has_not_answered() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    fails(&server, &mut peer, "exit 0", INTERNAL, "the handler trapped: Exited with i32 exit status 0").await;
    fails(&server, &mut peer, "exit 3", INTERNAL, "the handler trapped: Exited with i32 exit status").await;
}

#[tokio::test]
async fn a_handlers_own_failure_is_for_the_log_alone() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    let frame = peer.ask("fail a secret").await;
    let request_id = failed(&frame, INTERNAL);
    assert!(!frame.contains("secret"), "{frame}");
    server.log.line_with(&["WARN the handler failed: as told: a secret plugin=guest version=", &request_id]).await;
}

#[tokio::test]
async fn a_connect_handler_that_fails_refuses_with_502_and_a_slow_one_with_504() {
    let server = hostile("timeout = \"1s\"\ncpu_time = \"100ms\"");
    assert_eq!(server.try_connect("?do=trap", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=fail", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=exit", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=spin", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=status%20600", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=sleep%2060000", &[]).await.err(), Some(504));
    answers(&mut server.connect("").await, "echo hello", "hello").await;
}

// ---- host calls --------------------------------------------------------------------------------

#[tokio::test]
async fn host_calls_end_at_their_limit() {
    let server = hostile("host_calls = 10");
    let mut peer = server.connect("").await;
    // Opening the bucket is a call too.
    answers(&mut peer, "looks 9", "9").await;
    fails(
        &server,
        &mut peer,
        "looks 10",
        INTERNAL,
        "the event made more than 10 host calls (host_calls in the manifest)",
    )
    .await;
}

#[tokio::test]
async fn posts_beyond_the_limit_are_refused_and_the_rest_goes_out() {
    let server = hostile("host_calls = 10");
    let mut peer = server.connect("").await;
    for order in ["posts 10", "posts 11", "post-many 10", "post-many 11"] {
        let mut answer = peer.ask(order).await;
        // The answer comes first or the posts do: they are one outbox and one answer.
        let mut posts = 0;
        while posts < 10 {
            if answer != "x" {
                assert!(!peer.text().await.is_empty());
            } else {
                answer = peer.text().await;
            }
            posts += 1;
        }
        let refused = order.ends_with("11");
        assert_eq!(answer.contains("more was sent than the peer takes"), refused, "to {order}: {answer}");
        assert!(answer.starts_with("10"), "to {order}: {answer}");
    }
    answers(&mut peer, "echo nothing more", "nothing more").await;
}

#[tokio::test]
async fn an_event_has_ten_thousand_host_calls_by_default() {
    let server = hostile("cpu_time = \"25s\"");
    let mut peer = server.connect("").await;
    answers(&mut peer, "looks 9999", "9999").await;
    fails(&server, &mut peer, "looks 10000", INTERNAL, "more than 10000 host calls").await;
}

#[tokio::test]
async fn handles_end_at_their_limit() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "handles 1000", "1000").await;
    let refused = peer.ask("handles 1001").await;
    assert!(refused.starts_with("1000 then the bucket failed"), "{refused}");
    answers(&mut peer, "handles 1000", "1000").await;
}

#[tokio::test]
async fn a_value_is_as_large_as_it_may_be_and_no_larger() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "big-value 409600", "set").await;
    let refused = peer.ask("big-value 409601").await;
    assert_eq!(refused, "error: the bucket failed: the value has 409601 bytes; at most 409600 are allowed");
    // What is larger than a call may be is not even copied.
    fails(&server, &mut peer, "big-value 3000000", INTERNAL, "too much data is being copied").await;
}

#[tokio::test]
async fn random_bytes_of_one_call_have_a_limit() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "random 65536", "65536").await;
    fails(&server, &mut peer, "random 65537", INTERNAL, "requested len 65537 exceeds limit 65536").await;
}

// ---- answers ---------------------------------------------------------------------------------

#[tokio::test]
async fn an_answer_is_as_large_as_a_message_and_no_larger() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("body 131072").await.len(), 131_072);
    fails(&server, &mut peer, "body 131073", INTERNAL, "a body of 131073 bytes, at most 131072 are a message").await;
    fails(&server, &mut peer, "body 3000000", INTERNAL, "too much data is being copied").await;
}

#[tokio::test]
async fn where_messages_may_be_larger_answers_and_posts_may_too() {
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
async fn an_answer_has_a_status_that_can_be_sent() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for status in [200, 404, 599] {
        answers(&mut peer, &format!("status {status}"), "a body").await;
    }
    for status in [0, 199, 600, 65535] {
        let why = format!("status {status}, expected 200 to 599");
        fails(&server, &mut peer, &format!("status {status}"), INTERNAL, &why).await;
    }
}

#[tokio::test]
async fn a_small_guest_cannot_make_a_large_answer_by_telling_the_same_bytes_often() {
    // 8,192 headers, of which each name and each value are the same half mebibyte: 8 GiB in all.
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
        answer = wat::ANSWER
    );
    let grown = wat::handler("", &fill).replace(r#"(memory (export "memory") 2)"#, r#"(memory (export "memory") 32)"#);
    let server = by_hand(&grown, "");
    let mut peer = server.connect("").await;
    let request_id = failed(&peer.ask("a").await, INTERNAL);
    server.log.line_with(&["too much data is being copied", &request_id]).await;
}

// ---- the log -----------------------------------------------------------------------------------

#[tokio::test]
async fn an_event_logs_so_much_and_that_it_was_cut_is_said_once() {
    const CUT: &str = "the log of this event is cut at 65536 bytes (log_size in the manifest)";
    let server = hostile("");
    let mut peer = server.connect("").await;
    let lines = |log: &str| log.lines().filter(|line| line.contains("xxxxxxxx")).count();
    answers(&mut peer, "flood 58", "flooded").await;
    let log = log_so_far(&server, &mut peer).await;
    assert_eq!((lines(&log), log.matches(CUT).count()), (58, 0));
    answers(&mut peer, "flood 5000", "flooded").await;
    server.log.line_with(&[CUT]).await;
    answers(&mut peer, "say more", "said").await;
    server.log.line_with(&["INFO more"]).await;
    let log = server.log.text();
    assert_eq!((lines(&log), log.matches(CUT).count()), (58 + 58, 1));
}

#[tokio::test]
async fn the_log_of_an_event_cannot_be_blown_up_by_contexts_or_short_lines() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for order in
        ["log-in-context 60000 100", "log-in-context 1000000 3", "log-short-lines 60000 ", "log-short-lines 30000 x"]
    {
        let before = log_so_far(&server, &mut peer).await.len();
        answers(&mut peer, order, "logged").await;
        let after = log_so_far(&server, &mut peer).await.len();
        assert!(after - before < 2 * 65_536 + 10_000, "{} bytes of log after {order}", after - before);
    }
}

#[tokio::test]
async fn what_a_guest_says_forges_no_line_of_the_log() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    for order in [
        "log one\nFORGED",
        "log one\rFORGED",
        "log one\u{2028}FORGED\u{1b}[31m\u{9b}31m\u{202e}",
        "say one\nFORGED",
        "say one\rFORGED\u{1b}[2J\u{8}",
        "whisper one\nFORGED",
    ] {
        peer.ask(order).await;
    }
    failed(&peer.ask("fail one\nFORGED\u{1b}[31m").await, INTERNAL);
    failed(&peer.ask("trap one\nFORGED\u{1b}[31m").await, INTERNAL);
    server.log.line_with(&["WARN the handler trapped"]).await;
    let log = log_so_far(&server, &mut peer).await;
    assert!(log.contains(r"the handler failed: as told: one\nFORGED\u{1b}[31m"), "{log}");
    assert!(log.contains(r"one\rFORGED\u{1b}[2J\u{8}"), "{log}");
    assert!(log.contains(r"one\u{2028}FORGED\u{1b}[31m\u{9b}31m\u{202e}"), "{log}");
    assert!(log.matches("FORGED").count() >= 8, "{log}");
    for line in log.lines() {
        assert!(line.starts_with("20") || line.starts_with("    "), "a line that nobody wrote: {line:?}");
        assert!(!line.contains(['\u{1b}', '\r', '\u{9b}', '\u{2028}', '\u{202e}']), "{line:?}");
    }
}

#[tokio::test]
async fn the_name_of_a_function_forges_no_line_of_the_log() {
    let name = r"\0aFORGED\1b[31m";
    let fields = format!(r#"(func $"{name}" unreachable)"#);
    let body = format!(r#"(call $"{name}") (i32.const 0)"#);
    let server = by_hand(&wat::handler(&fields, &body), "");
    failed(&server.connect("").await.ask("a").await, INTERNAL);
    let line = server.log.line_with(&["FORGED"]).await;
    assert!(line.starts_with("    ") && !line.contains('\u{1b}'), "{line:?}");
}

#[tokio::test]
async fn a_handler_that_fails_at_length_fails_in_a_short_line() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    let text = "y".repeat(30_000);
    failed(&peer.ask(&format!("fail {text}")).await, INTERNAL);
    let line = server.log.line_with(&["the handler failed"]).await;
    assert!(line.contains("... (30009 bytes in all)") && line.len() < 5_000, "{} bytes", line.len());
}

#[tokio::test]
async fn a_line_that_is_not_ended_is_said_at_the_end_of_the_event() {
    let server = hostile("");
    let mut peer = server.connect("").await;
    answers(&mut peer, "whisper psst", "whispered").await;
    server.log.line_with(&["WARN psst plugin=guest"]).await;
}

// ---- many at once ----------------------------------------------------------------------------

/// So many connections, each of which has just given that order.
async fn all_ordered(server: &Server, count: usize, order: &str) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(server.connect("").await);
    }
    for peer in &mut peers {
        peer.send(order).await;
    }
    peers
}

/// What all of them are answered.
async fn all_answers(peers: &mut [Peer]) -> Vec<String> {
    join_all(peers.iter_mut().map(Peer::text)).await
}

/// A manifest of two integrations: `wide` serves the route of that name, `guest` all else.
fn beside(wide: &Path, lines: &str) -> String {
    let guest = manifest(&component(HOSTILE), "", HOSTILE_GRANTS);
    format!(
        "{guest}\nwide = {{ integration = \"wide\", route_response = true }}\n[integrations.wide]\ncomponent = {wide:?}\n{lines}"
    )
}

#[tokio::test]
async fn of_more_events_than_there_are_places_the_rest_waits_its_turn() {
    let server = hostile("");
    let mut peers = all_ordered(&server, 300, "sleep 2000").await;
    let answers = all_answers(&mut peers).await;
    assert!(answers.iter().all(|answer| answer == "awake"), "{answers:?}");
}

#[tokio::test]
async fn an_event_that_waits_too_long_for_a_place_is_refused() {
    let server = hostile("");
    let mut peers = all_ordered(&server, 300, "sleep 9000").await;
    let mut waiting = peers.split_off(256);
    // The messages of one connection are read in their order, those of several in any.
    let answers = [all_answers(&mut peers).await, all_answers(&mut waiting).await].concat();
    let (awake, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| *answer == "awake");
    assert_eq!((awake.len(), refused.len()), (256, 44));
    for frame in refused {
        let request_id = failed(frame, TOO_MANY);
        server.log.line_with(&["ERROR", "no place was free for it for 5s", &request_id]).await;
    }
    assert_eq!(peers[0].ask("echo hello").await, "hello");
    assert_eq!(waiting[0].ask("echo hello").await, "hello");
}

#[tokio::test]
async fn a_disconnect_waits_for_a_place_as_long_as_it_must() {
    let server = hostile("");
    let mut leaving = server.connect("").await;
    let id = leaving.id().await;
    // Longer than any other event would wait.
    let mut sleeping = all_ordered(&server, 256, "sleep 8000").await;
    leaving.close(4000, "bye").await;
    assert!(all_answers(&mut sleeping).await.iter().all(|answer| answer == "awake"));
    let one = tokio::sync::Mutex::new(sleeping.remove(0));
    eventually("$disconnect has run", async || one.lock().await.ask(&format!("ended {id}")).await == "4000 bye").await;
}

#[tokio::test]
async fn sandboxes_that_are_kept_take_no_place_of_an_event() {
    let site = Site::new(&beside(&component(HOSTILE), &format!("{HOSTILE_GRANTS}\nreuse = 1000")));
    let server = site.serve();
    let mut keeping = all_ordered(&server, 60, r#"{"action":"wide","do":"sleep 1000"}"#).await;
    assert!(all_answers(&mut keeping).await.iter().all(|answer| answer == "awake"));
    let mut fresh = all_ordered(&server, 256, "sleep 3000").await;
    let answers = all_answers(&mut fresh).await;
    assert!(answers.iter().all(|answer| answer == "awake"), "{answers:?}");
}

#[tokio::test]
async fn guests_with_many_memories_leave_the_others_their_places() {
    let memories = "(memory 1)".repeat(19);
    let site = Site::new(&beside(Path::new("wide.wasm"), ""));
    fs::write(site.path().join("wide.wasm"), wat::sleeper(&memories, Duration::from_secs(1))).unwrap();
    let server = site.serve();
    // All together have 1,200 memories, more than the pool has.
    let mut wide = all_ordered(&server, 60, r#"{"action":"wide"}"#).await;
    let mut narrow = all_ordered(&server, 20, "echo hello").await;
    assert!(all_answers(&mut narrow).await.iter().all(|answer| answer == "hello"));
    let answers = all_answers(&mut wide).await;
    assert!(answers.iter().all(|answer| answer == "x"), "{answers:?}");
}

#[tokio::test]
async fn a_component_is_reloaded_while_every_place_is_taken() {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", HOSTILE_GRANTS));
    let path = site.path().join("guest.wasm");
    // Compiled beforehand, so that the reload takes no time.
    fs::copy(component(ECHO), &path).unwrap();
    assert_eq!(site.run(&["check"]).0, 0);
    fs::copy(component(HOSTILE), &path).unwrap();
    let server = site.serve();
    let mut sleeping = all_ordered(&server, 256, "sleep 28000").await;
    fs::copy(component(ECHO), &path).unwrap();
    server.log.line_with(&["INFO live plugin=guest"]).await;
    let still = tokio::time::timeout(Duration::from_millis(1), sleeping[0].next()).await;
    assert!(still.is_err(), "they do not sleep any more: {still:?}");
}
