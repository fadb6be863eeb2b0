//! Reuse of sandboxes: which sandboxes are kept from one event to the next, and which are dropped.

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component};

/// Serves the hostile guest behind `$default` only, so that only messages are events. `keys` are further keys of its
/// integration.
fn hostile(keys: &str) -> Server {
    let component = component(HOSTILE);
    let manifest = format!(
        "[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n{keys}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    );
    Site::new(&manifest).serve()
}

/// Sends the commands one after the other on one connection. Returns the answers.
async fn answers<const N: usize>(server: &Server, commands: [&str; N]) -> [String; N] {
    let mut peer = server.connect("").await;
    let mut answers = [const { String::new() }; N];
    for (answer, command) in answers.iter_mut().zip(commands) {
        *answer = peer.ask(command).await;
    }
    answers
}

#[tokio::test]
async fn each_event_has_a_fresh_sandbox_unless_the_manifest_says_otherwise() {
    for keys in ["", "reuse = 0", "reuse = 1"] {
        assert_eq!(answers(&hostile(keys), ["count"; 4]).await, ["1", "1", "1", "1"], "with {keys:?}");
    }
}

#[tokio::test]
async fn a_sandbox_serves_as_many_events_as_the_manifest_says() {
    assert_eq!(answers(&hostile("reuse = 2"), ["count"; 5]).await, ["1", "2", "1", "2", "1"]);
    assert_eq!(answers(&hostile("reuse = 3"), ["count"; 7]).await, ["1", "2", "3", "1", "2", "3", "1"]);
}

#[tokio::test]
async fn connections_share_a_kept_sandbox_and_each_gets_its_own_id() {
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
async fn concurrent_events_have_separate_sandboxes() {
    let server = hostile("reuse = 100");
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    assert_eq!(first.ask("count").await, "1");
    first.send("sleep 2000").await;
    // The second event starts while the first one runs, so no kept sandbox is free.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(second.ask("count").await, "1");
    assert_eq!(first.text().await, "awake");
}

#[tokio::test]
async fn a_trap_drops_the_kept_sandbox_and_a_failure_does_not() {
    let commands =
        ["count", "fail", "count", "trap", "count", "exit", "count", "close AAAAAAAAAAAAAAA= 999 x", "count"];
    let [first, _, failed, _, trapped, _, exited, _, refused] = answers(&hostile("reuse = 100"), commands).await;
    assert_eq!([first, failed, trapped, exited, refused], ["1", "2", "1", "1", "1"]);
}

#[tokio::test]
async fn an_exceeded_limit_drops_the_kept_sandbox() {
    let server = hostile("reuse = 100\ntimeout = \"1s\"\ncpu_time = \"200ms\"");
    let [first, _, slept, _, spun] = answers(&server, ["count", "sleep 60000", "count", "spin", "count"]).await;
    assert_eq!([first, slept, spun], ["1", "1", "1"]);
}

#[tokio::test]
async fn each_event_starts_with_fresh_budgets() {
    let server = hostile("reuse = 100\ncpu_time = \"1s\"\nhost_calls = 10");
    let commands =
        ["work 400", "work 400", "work 400", "work 400", "lookups 9", "lookups 9", "flood 50", "flood 50", "count"];
    let answers = answers(&server, commands).await;
    assert_eq!(answers, ["worked", "worked", "worked", "worked", "9", "9", "flooded", "flooded", "1"]);
    let log = server.log.text();
    assert!(!log.contains("is cut at"), "{log}");
}

#[tokio::test]
async fn memory_that_was_refused_earlier_is_not_reported_as_the_cause_of_a_later_trap() {
    let server = hostile("reuse = 100");
    let [grown, count, _] = answers(&server, ["grow 200", "count", "trap later"]).await;
    assert!(grown.parse::<usize>().is_ok_and(|grown| grown < 128), "{grown}");
    assert_eq!(count, "1", "the sandbox was kept");
    server.log.wait_for_line(&["WARN the handler panicked: as ordered: later"]).await;
    assert!(!server.log.text().contains("requested more than"), "{}", server.log.text());
}

#[tokio::test]
async fn an_unfinished_line_of_one_event_is_not_logged_with_the_next_event() {
    let server = hostile("reuse = 100");
    let (mut first, mut second) = (server.connect("").await, server.connect("").await);
    let (one, other) = (first.id().await, second.id().await);
    first.ask("print-error mine").await;
    second.ask("print-error yours").await;
    second.ask("print spoken").await;
    server.log.wait_for_line(&["INFO spoken", &other]).await;
    server.log.wait_for_line(&["WARN mine plugin=guest", &one]).await;
    server.log.wait_for_line(&["WARN yours plugin=guest", &other]).await;
}

#[tokio::test]
async fn no_sandbox_is_kept_when_memory_is_scarce() {
    let component = component(HOSTILE);
    let site = Site::new(&format!(
        "[server]\nmemory_total = \"64MiB\"\n[integrations.guest]\ncomponent = {component:?}\n\
         {HOSTILE_GRANTS}\nreuse = 100\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    ));
    let server = site.serve();
    let commands = ["count", "grow 20", "count", "grow 60", "count", "count"];
    assert_eq!(answers(&server, commands).await, ["1", "20", "2", "60", "1", "2"]);
}

#[tokio::test]
async fn a_reload_drops_the_kept_sandboxes() {
    let server = hostile("reuse = 100");
    let mut peer = server.connect("").await;
    assert_eq!([peer.ask("count").await, peer.ask("count").await], ["1", "2"]);
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), manifest.replace("reuse = 100", "reuse = 101")).unwrap();
    server.signal("HUP");
    server.log.wait_for_line(&["INFO live manifest="]).await;
    assert_eq!([peer.ask("count").await, peer.ask("count").await], ["1", "2"]);
}
