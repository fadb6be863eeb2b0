//! The memory of guests: what counts, how plugins share it, and what happens if there is none.

use std::fs;
use std::time::Instant;

use futures_util::future::join_all;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, TEST_TIMEOUT, component, manifest, serve_module};
use crate::wat;

const INTERNAL: &str = "Internal server error";
const TOO_MANY: &str = "Too Many Requests";

/// Serves the hostile guest. `server` is the section, and `keys` are further keys of the integration.
fn hostile(server: &str, keys: &str) -> Server {
    Site::new(&manifest(&component(HOSTILE), server, &format!("{HOSTILE_GRANTS}\n{keys}"))).serve()
}

/// Serves the hostile guest as two plugins, which have the routes `one` and `other`.
fn two_plugins(keys: &str) -> Server {
    let component = component(HOSTILE);
    Site::new(&format!(
        r#"
[server]
memory_total = "64MiB"

[integrations.one]
component = {component:?}
{HOSTILE_GRANTS}
{keys}

[integrations.other]
component = {component:?}
{HOSTILE_GRANTS}

[routes]
one = {{ integration = "one", route_response = true }}
other = {{ integration = "other", route_response = true }}
"#
    ))
    .serve()
}

async fn run(peer: &mut Peer, plugin: &str, command: &str) -> String {
    peer.ask(&request(plugin, command)).await
}

fn request(plugin: &str, command: &str) -> String {
    format!(r#"{{"action":"{plugin}","do":"{command}"}}"#)
}

async fn peers(server: &Server, count: usize) -> Vec<Peer> {
    join_all((0..count).map(|_| server.connect(""))).await
}

/// Sends one command from each peer at the same time, and returns the answers.
async fn ask_all(peers: &mut [Peer], command: &str) -> Vec<String> {
    join_all(peers.iter_mut().map(|peer| peer.ask(command))).await
}

// ---- what counts ----------------------------------------------------------------------------

// Seen: with `memory = "16MiB"`, an event had the host hold 128 MiB of fields, and 390 MiB of values behind its handles.
#[tokio::test]
async fn what_the_host_holds_for_an_event_counts_as_its_memory() {
    let server = hostile("", r#"memory = "16MiB""#);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("set-bytes big 400000").await, "set");
    // Each request body may have 128 KiB that are not sent yet, and each stream 64 KiB.
    for (what, fits, exceeds) in [
        ("fields", "fields 100 100000", "fields 170 100000"),
        ("paths", "paths 200 60000", "paths 300 60000"),
        ("bodies", "bodies 50 10", "bodies 120 10"),
    ] {
        let count = fits.split(' ').nth(1).unwrap();
        assert_eq!(peer.ask(&format!("holds {fits}")).await, count, "{what}");
        let answer = peer.ask(&format!("holds {exceeds}")).await;
        assert!(answer.contains(INTERNAL), "{what}: {answer}");
        let why = "requested more than 16777216 bytes of memory (memory in the manifest)";
        let request_id = serde_json::from_str::<serde_json::Value>(&answer).unwrap()["requestId"].clone();
        server.log.wait_for_line(&[why, request_id.as_str().unwrap()]).await;
    }
    // Of a value only the hash is kept.
    assert_eq!(peer.ask("holds cas 900").await, "900");
    assert_eq!(peer.ask("echo still here").await, "still here");
}

// What one poll holds is limited by its handles: each entry of its list counts, also one that is there twice.
#[tokio::test]
async fn one_poll_takes_no_more_handles_than_an_event_may_have() {
    let server = hostile("", "");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("holds poll 900 0 1").await, "900");
    let answer = peer.ask("holds poll 1001 0 1").await;
    assert!(answer.contains(INTERNAL), "{answer}");
    server.log.wait_for_line(&["store handle limit exceeded"]).await;
}

#[tokio::test]
async fn the_value_of_a_handle_for_a_swap_is_read_again_and_a_swap_expects_the_value_that_was_read() {
    let server = hostile("", "");
    let mut all = peers(&server, 8).await;
    for _ in 0..5 {
        for answer in ask_all(&mut all, "add-one sum").await {
            assert_eq!(answer, "added");
        }
    }
    assert_eq!(all[0].ask("get sum").await, "40");
}

#[tokio::test]
async fn the_elements_of_tables_count_as_memory() {
    // Of 512 KiB, the memory has 128 KiB. The first 64 KiB of the tables are free, so 57,344 elements fit; some are
    // those of the module's imports.
    let fields = "(table $first 1 funcref)";
    let grows = format!(
        "(i32.ne (table.grow $first (ref.null func) (i32.add (i32.const 57000) (i32.mul (i32.const 1000) {}))) (i32.const -1))",
        wat::LETTER_INDEX
    );
    let server = serve_module(&wat::digit_handler(fields, &grows), r#"memory = "512KiB""#);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "1");
    assert_eq!(peer.ask("b").await, "0");
}

// Seen: a guest with 1.2 MiB was reported with 125.6 MiB, because its memory could not grow further.
#[tokio::test]
async fn growth_that_fails_is_not_counted() {
    // The limit is 16 pages. The second memory and the table may not grow at all.
    let fields = "(memory $second 1 1) (table $full 1 1 funcref)
        (func $ask (local $times i32)
            (loop $again
                (drop (memory.grow $second (i32.const 5)))
                (drop (table.grow $full (ref.null func) (i32.const 50000)))
                (local.set $times (i32.add (local.get $times) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $times) (i32.const 100)))))";
    let grows =
        format!("(call $ask) (i32.ne (memory.grow 0 (i32.add (i32.const 13) {})) (i32.const -1))", wat::LETTER_INDEX);
    let body = format!("(block (result i32) {grows})");
    let server = serve_module(&wat::digit_handler(fields, &body), r#"memory = "1MiB""#);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a").await, "1");
    assert_eq!(peer.ask("b").await, "0");
}

// ---- how plugins share it -------------------------------------------------------------------

#[tokio::test]
async fn a_plugin_that_takes_all_the_memory_it_can_get_leaves_another_one_its_share() {
    let server = two_plugins("");
    let (mut one, mut other) = (server.connect("").await, server.connect("").await);
    // Half of the 64 MiB is reserved, 16 MiB for each plugin.
    assert_eq!(run(&mut other, "other", "grow 40").await, "40");
    one.send(&request("one", "hold 60 600000")).await;
    crate::harness::eventually("the plugin has taken what it can get", async || {
        let mut other = server.connect("").await;
        run(&mut other, "other", "grow 40").await.parse::<usize>().is_ok_and(|grown| grown < 20)
    })
    .await;
    assert_eq!(run(&mut other, "other", "grow 12").await, "12");
    // It has no more than three quarters, so that its next event does not start.
    drop(one);
}

// Seen: with `memory_total = "64MiB"`, six events took the process from 37 MiB to 1 GiB, since 4 MiB of each were free.
#[tokio::test]
async fn an_event_without_memory_waits_and_is_rejected_after_five_seconds() {
    let server = hostile("[server]\nmemory_total = \"2MiB\"", "");
    // There is room for some of these guests, and not for twelve.
    let mut all = peers(&server, 12).await;
    for answer in ask_all(&mut all, "sleep 200").await {
        assert_eq!(answer, "awake");
    }
    let answers = ask_all(&mut all, "sleep 7000").await;
    let awake = answers.iter().filter(|answer| *answer == "awake").count();
    assert!((1..12).contains(&awake), "{answers:?}");
    assert!(answers.iter().all(|answer| answer == "awake" || answer.contains(TOO_MANY)), "{answers:?}");
    server.log.wait_for_line(&["ERROR no memory for another event: waited 5s (memory_total in [server]"]).await;
    assert_eq!(all[0].ask("echo still here").await, "still here");
}

#[tokio::test]
async fn kept_sandboxes_are_dropped_largest_first_before_an_event_lacks_memory() {
    let server = two_plugins("reuse = 100");
    let mut pair = peers(&server, 2).await;
    let mut both = async |command: &str| {
        let command = request("one", command);
        join_all(pair.iter_mut().map(|peer| peer.ask(&command))).await
    };
    assert_eq!(both("later 1000 count").await, ["1", "1"]);
    let mut peer = server.connect("").await;
    // Both sandboxes are used, and one of them grows.
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    first.send(&request("one", "hold 20 1000")).await;
    second.send(&request("one", "hold 4 1000")).await;
    assert_eq!([first.text().await, second.text().await], ["20", "4"]);
    assert_eq!(run(&mut peer, "other", "grow 45").await, "45");
    let mut counts = both("later 1000 count").await;
    counts.sort();
    assert_eq!(counts, ["1", "2"], "the smaller one was kept");
}

#[tokio::test]
async fn an_event_that_waits_gets_the_memory_of_a_sandbox_that_is_kept_meanwhile() {
    let hostile = component(HOSTILE);
    let site = Site::new(&format!(
        r#"
[server]
memory_total = "64MiB"

[integrations.reused]
component = {hostile:?}
{HOSTILE_GRANTS}
reuse = 100

[integrations.large]
component = "large.wasm"

[routes]
reused = {{ integration = "reused", route_response = true }}
large = {{ integration = "large", route_response = true }}
"#
    ));
    // 40 MiB.
    let module = wat::digit_handler("(memory $second 640)", "(i32.const 7)");
    fs::write(site.path().join("large.wasm"), wat::lean_module(&module)).unwrap();
    let server = site.serve();
    let (mut reused, mut large) = (server.connect("").await, server.connect("").await);
    // It is kept, since it uses less than half of the memory. If a large event runs when it grows, there is less for it,
    // and it is asked again.
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut held = String::new();
    while held != "28" {
        assert!(Instant::now() < deadline, "the sandbox never gets 28 MiB; it got {held}");
        reused.send(&request("reused", "hold 28 1500")).await;
        held = loop {
            large.send(&request("large", "")).await;
            tokio::select! {
                answer = large.text() => assert_eq!(answer, "7"),
                held = reused.text() => {
                    // The event that has waited meanwhile.
                    assert_eq!(large.text().await, "7");
                    break held;
                }
            }
        };
    }
    assert_eq!(run(&mut reused, "reused", "count").await, "1", "the sandbox that was kept is dropped");
}

#[tokio::test]
async fn a_plugin_for_which_there_is_no_memory_at_all_is_unavailable_and_all_others_serve() {
    let site = Site::new(
        r#"
[server]
memory_total = "1MiB"

[integrations.large]
component = "large.wasm"

[integrations.globals]
component = "globals.wasm"

[integrations.small]
component = "small.wasm"

[routes]
large = { integration = "large", route_response = true }
globals = { integration = "globals", route_response = true }
"$default" = { integration = "small", route_response = true }
"#,
    );
    // Of the sixteen pages, the other memory has two, the host two, and the structures of the instance one. Each global
    // has 16 bytes.
    let globals = "(global (mut i64) (i64.const 1))".repeat(60_000);
    for (file, fields) in
        [("large.wasm", "(memory $second 13)"), ("globals.wasm", &*globals), ("small.wasm", "(memory $second 11)")]
    {
        let module = wat::lean_module(&wat::digit_handler(fields, "(i32.const 7)"));
        fs::write(site.path().join(file), module).unwrap();
    }
    let server = site.serve();
    server.log.wait_for_line(&["it does not start", "memory_total in [server]"]).await;
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("hello").await, "7");
    for plugin in ["large", "globals"] {
        assert!(run(&mut peer, plugin, "").await.contains(INTERNAL), "{plugin}");
    }
}
