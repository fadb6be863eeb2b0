//! Ordering: whether the messages of a connection run one after the other, or independently of each other.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jackfield::limits::{BACKLOG_MESSAGES_MAX, UNORDERED_HANDLERS_MAX};

use crate::harness::{Peer, Server, Site, eventually};
use crate::wire::Wire;

const NONE: &str = "[api]\nordering = \"none\"";

/// Routes to the hostile guest, among them `ordered` and `free`. Only the messages of `free` have no order.
fn mixed_routes() -> Site {
    Site::hostile_routes(
        "",
        r#"
"$connect" = "guest"
"$disconnect" = "guest"
"$default" = { integration = "guest", route_response = true }
ordered = { integration = "guest", route_response = true }
free = { integration = "guest", route_response = true, ordering = "none" }
"#,
    )
}

/// Returns a message for one of those routes, with a command for the guest.
fn message_to(route: &str, command: &str) -> String {
    format!(r#"{{"action":"{route}","do":"{command}"}}"#)
}

async fn send_all(peer: &mut Peer, messages: &[&str]) {
    for message in messages {
        peer.send(message).await;
    }
}

async fn texts(peer: &mut Peer, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(peer.text().await);
    }
    texts
}

/// Returns the value that the hostile guest has stored under a key.
async fn stored_value(server: &Server, key: &str) -> String {
    server.connect("").await.ask(&format!("get {key}")).await
}

#[tokio::test]
async fn messages_of_a_connection_run_in_order() {
    for sections in ["", "[api]\nordering = \"connection\""] {
        let server = Site::hostile_with(sections).serve();
        let mut peer = server.connect("").await;
        send_all(&mut peer, &["later 300 echo slow", "echo quick", "later 50 echo slower", "echo last"]).await;
        assert_eq!(texts(&mut peer, 4).await, ["slow", "quick", "slower", "last"]);
    }
}

#[tokio::test]
async fn without_an_order_a_quick_message_overtakes_a_slow_one() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    send_all(&mut peer, &["later 900 echo slow", "later 300 echo quicker", "echo quick"]).await;
    assert_eq!(texts(&mut peer, 3).await, ["quick", "quicker", "slow"]);
}

#[tokio::test]
async fn without_an_order_a_failure_affects_its_own_message_only() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    send_all(&mut peer, &["later 400 echo slow", "trap", "later 200 fail"]).await;
    let failed = r#"{"message": "Internal server error", "#;
    for expected in [failed, failed, "slow"] {
        let text = peer.text().await;
        assert!(text.starts_with(expected), "{text}");
    }
    assert_eq!(peer.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn without_an_order_every_message_is_answered_once() {
    let server = Site::hostile_with(NONE).serve();
    let count = 300;
    let rounds = (0..4).map(|_| async {
        let mut peer = server.connect("").await;
        for number in 0..count {
            peer.send(&format!("echo {number}")).await;
        }
        let mut answers: Vec<usize> = texts(&mut peer, count).await.iter().map(|text| text.parse().unwrap()).collect();
        answers.sort_unstable();
        assert_eq!(answers, (0..count).collect::<Vec<_>>());
    });
    join_all(rounds).await;
}

#[tokio::test]
async fn the_number_of_messages_of_a_connection_that_run_at_once_is_limited() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    let pause = Duration::from_millis(1500);
    let command = format!("sleep {}", pause.as_millis());
    assert_eq!(peer.ask("echo warm").await, "warm");

    let started = Instant::now();
    for _ in 0..UNORDERED_HANDLERS_MAX {
        peer.send(&command).await;
    }
    peer.send("echo one more").await;
    let answers = texts(&mut peer, UNORDERED_HANDLERS_MAX + 1).await;
    let took = started.elapsed();
    assert_eq!(answers[0], "awake", "one more waits for a free slot");
    assert!(took >= pause && took < pause * 2, "not all of them ran at once: {took:?}");
}

#[tokio::test]
async fn the_number_of_waiting_messages_is_bounded_and_then_the_socket_is_not_read() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let received = UNORDERED_HANDLERS_MAX + BACKLOG_MESSAGES_MAX;
    for _ in 0..received {
        peer.send("sleep 1000").await;
    }
    // The close frame comes after one message too many, so the server reads it only when the first of them has ended.
    peer.send("sleep 0").await;
    let started = Instant::now();
    peer.close(1000, "bye").await;
    assert!(started.elapsed() >= Duration::from_millis(500), "the close frame was read before a slot was free");
    assert_eq!(server.wait_for_disconnect(&id).await, "1000 bye");
}

#[tokio::test]
async fn large_responses_wait_for_a_peer_that_reads_late() {
    let server = Site::hostile_with(NONE).serve();
    let mut wire = Wire::dial_with_small_buffer(&server).await;
    wire.upgrade("").await;
    let (count, size) = (2 * UNORDERED_HANDLERS_MAX, 128 * 1024);
    for _ in 0..count {
        wire.send_text(&format!("body {size}")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..count {
        assert_eq!(wire.text().await.len(), size);
    }
    assert_eq!(wire.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn messages_of_ordered_and_unordered_routes_do_not_wait_for_each_other() {
    let server = mixed_routes().serve();
    let mut peer = server.connect("").await;
    send_all(
        &mut peer,
        &[
            &message_to("ordered", "later 800 echo ordered"),
            &message_to("ordered", "echo after it"),
            &message_to("free", "later 400 echo free"),
            &message_to("free", "echo overtakes both"),
        ],
    )
    .await;
    assert_eq!(texts(&mut peer, 4).await, ["overtakes both", "free", "ordered", "after it"]);

    send_all(
        &mut peer,
        &[&message_to("free", "later 500 echo free"), &message_to("ordered", "echo ordered"), "echo default"],
    )
    .await;
    assert_eq!(texts(&mut peer, 3).await, ["ordered", "default", "free"]);
}

#[tokio::test]
async fn a_route_may_have_an_order_where_the_api_has_none() {
    let server = Site::hostile_routes(
        NONE,
        "\"$default\" = { integration = \"guest\", route_response = true }\n\
         ordered = { integration = \"guest\", route_response = true, ordering = \"connection\" }",
    )
    .serve();
    let mut peer = server.connect("").await;
    send_all(
        &mut peer,
        &[
            &message_to("ordered", "later 600 echo one"),
            &message_to("ordered", "echo two"),
            "later 300 echo free",
            "echo overtakes",
        ],
    )
    .await;
    assert_eq!(texts(&mut peer, 4).await, ["overtakes", "free", "one", "two"]);
}

#[tokio::test]
async fn a_reload_changes_the_ordering_of_open_connections() {
    let server = Site::hostile_with("").serve();
    let mut peer = server.connect("").await;
    send_all(&mut peer, &["later 300 echo slow", "echo quick"]).await;
    assert_eq!(texts(&mut peer, 2).await, ["slow", "quick"]);
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), format!("{NONE}\n{manifest}")).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    send_all(&mut peer, &["later 300 echo slow", "echo quick"]).await;
    assert_eq!(texts(&mut peer, 2).await, ["quick", "slow"]);
}

#[tokio::test]
async fn posts_of_a_handler_to_its_own_connection_arrive_before_its_response() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    for _ in 0..20 {
        peer.send("posts 3").await;
        assert_eq!(texts(&mut peer, 4).await, ["x", "x", "x", "3"]);
    }
}

#[tokio::test]
async fn disconnect_runs_after_all_handlers_of_the_connection_have_ended() {
    for site in [Site::hostile_with(NONE), mixed_routes()] {
        let server = site.serve();
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        // There are more messages than may run at once, so that some of them start after the close.
        let count = UNORDERED_HANDLERS_MAX + 4;
        peer.ask("row at-end=keep seen get count").await;
        for _ in 0..count {
            peer.send(&message_to("free", "later 300 add-one count")).await;
        }
        peer.send(&message_to("ordered", "later 500 add-one count")).await;
        peer.close(1000, "bye").await;
        assert_eq!(server.wait_for_disconnect(&id).await, "1000 bye");
        eventually("$disconnect has read the count", || async { stored_value(&server, "seen").await != "none" }).await;
        assert_eq!(stored_value(&server, "seen").await, (count + 1).to_string());
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_all_handlers_of_a_connection() {
    let mut server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    for _ in 0..3 {
        peer.send("later 600 add-one count").await;
    }
    peer.send("echo received").await;
    assert_eq!(peer.text().await, "received");
    server.signal("TERM");
    assert_eq!(peer.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.wait_for_exit().await, Some(0));
    let again = server.site.clone().serve();
    assert_eq!(stored_value(&again, "count").await, "3");
    assert_eq!(again.wait_for_disconnect(&id).await, "1001 Going away");
}
