//! Sandboxes that are kept from one event to the next, and those that are not.

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component};

/// The hostile guest behind `$default` alone, so that only messages are events.
fn hostile(lines: &str) -> Server {
    let component = component(HOSTILE);
    let manifest = format!(
        "[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n{lines}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    );
    Site::new(&manifest).serve()
}

/// The answers to these orders, given one after the other on one connection.
async fn answers<const N: usize>(server: &Server, orders: [&str; N]) -> [String; N] {
    let mut peer = server.connect("").await;
    let mut answers = [const { String::new() }; N];
    for (answer, order) in answers.iter_mut().zip(orders) {
        *answer = peer.ask(order).await;
    }
    answers
}

#[tokio::test]
async fn each_event_has_a_fresh_sandbox_unless_the_manifest_says_otherwise() {
    for lines in ["", "reuse = 0", "reuse = 1"] {
        assert_eq!(answers(&hostile(lines), ["count"; 4]).await, ["1", "1", "1", "1"], "with {lines:?}");
    }
}

#[tokio::test]
async fn a_sandbox_serves_as_many_events_as_the_manifest_says() {
    assert_eq!(answers(&hostile("reuse = 2"), ["count"; 5]).await, ["1", "2", "1", "2", "1"]);
    assert_eq!(answers(&hostile("reuse = 3"), ["count"; 7]).await, ["1", "2", "3", "1", "2", "3", "1"]);
}

#[tokio::test]
async fn connections_share_what_is_kept_and_each_is_told_its_own_id() {
    let server = hostile("reuse = 100");
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    assert_eq!(first.ask("count").await, "1");
    assert_eq!(second.ask("count").await, "2");
    let (one, other) = (first.id().await, second.id().await);
    assert_ne!(one, other);
    assert_eq!(first.id().await, one);
    assert_eq!(second.ask("count").await, "3");
}

#[tokio::test]
async fn events_at_the_same_time_have_a_sandbox_each() {
    let server = hostile("reuse = 100");
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    assert_eq!(first.ask("count").await, "1");
    first.send("sleep 2000").await;
    // It comes as soon as the first is inside, and finds nothing kept.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(second.ask("count").await, "1");
    assert_eq!(first.text().await, "awake");
}

#[tokio::test]
async fn a_trap_ends_what_was_kept_and_a_failure_does_not() {
    let orders = ["count", "fail", "count", "trap", "count", "exit", "count", "close AAAAAAAAAAAAAAA= 999 x", "count"];
    let [first, _, failed, _, trapped, _, exited, _, refused] = answers(&hostile("reuse = 100"), orders).await;
    assert_eq!([first, failed, trapped, exited, refused], ["1", "2", "1", "1", "1"]);
}

#[tokio::test]
async fn a_limit_that_was_reached_ends_what_was_kept() {
    let server = hostile("reuse = 100\ntimeout = \"1s\"\ncpu_time = \"200ms\"");
    let [first, _, slept, _, spun] = answers(&server, ["count", "sleep 60000", "count", "spin", "count"]).await;
    assert_eq!([first, slept, spun], ["1", "1", "1"]);
}

#[tokio::test]
async fn each_event_has_its_budgets_anew() {
    let server = hostile("reuse = 100\ncpu_time = \"1s\"\nhost_calls = 10");
    let orders =
        ["work 400", "work 400", "work 400", "work 400", "looks 9", "looks 9", "flood 50", "flood 50", "count"];
    let answers = answers(&server, orders).await;
    assert_eq!(answers, ["worked", "worked", "worked", "worked", "9", "9", "flooded", "flooded", "1"]);
    let log = server.log.text();
    assert!(!log.contains("is cut at"), "{log}");
}

#[tokio::test]
async fn memory_that_was_refused_once_is_not_blamed_for_a_later_trap() {
    let server = hostile("reuse = 100");
    let [grown, count, _] = answers(&server, ["grow 200", "count", "trap later"]).await;
    assert!(grown.parse::<usize>().is_ok_and(|grown| grown < 128), "{grown}");
    assert_eq!(count, "1", "the sandbox was kept");
    server.log.line_with(&["WARN the handler trapped: wasm trap"]).await;
    assert!(!server.log.text().contains("refused more than"), "{}", server.log.text());
}

#[tokio::test]
async fn a_line_that_one_event_does_not_end_is_not_the_next_ones() {
    let server = hostile("reuse = 100");
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    let (one, other) = (first.id().await, second.id().await);
    first.ask("whisper mine").await;
    second.ask("whisper yours").await;
    second.ask("say spoken").await;
    server.log.line_with(&["INFO spoken", &other]).await;
    server.log.line_with(&["WARN mine plugin=guest", &one]).await;
    server.log.line_with(&["WARN yours plugin=guest", &other]).await;
}

#[tokio::test]
async fn a_reload_ends_what_was_kept() {
    let server = hostile("reuse = 100");
    let mut peer = server.connect("").await;
    assert_eq!([peer.ask("count").await, peer.ask("count").await], ["1", "2"]);
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), manifest.replace("reuse = 100", "reuse = 101")).unwrap();
    server.signal("HUP");
    server.log.line_with(&["INFO live manifest="]).await;
    assert_eq!([peer.ask("count").await, peer.ask("count").await], ["1", "2"]);
}
