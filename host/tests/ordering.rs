//! Which messages of a connection wait for which: all in their order, or none for another.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jackfield::limits::{BACKLOG_MESSAGES_MAX, HANDLERS_BESIDE_MAX};

use crate::harness::{Peer, Server, Site, eventually};
use crate::wire::Wire;

const NONE: &str = "[api]\nordering = \"none\"";

/// Routes to the hostile guest: `ordered` and `free`, of which only the first has an order.
fn mixed() -> Site {
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

/// An order for one of those routes.
fn to(route: &str, order: &str) -> String {
    format!(r#"{{"action":"{route}","do":"{order}"}}"#)
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

/// What the hostile guest has kept under a key.
async fn kept(server: &Server, key: &str) -> String {
    server.connect("").await.ask(&format!("get {key}")).await
}

#[tokio::test]
async fn messages_of_a_connection_run_in_their_order() {
    for rest in ["", "[api]\nordering = \"connection\""] {
        let server = Site::hostile_with(rest).serve();
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
async fn without_an_order_messages_fail_each_for_itself() {
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
async fn so_many_messages_of_a_connection_run_side_by_side_and_no_more() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    let pause = Duration::from_millis(1500);
    let order = format!("sleep {}", pause.as_millis());
    assert_eq!(peer.ask("echo warm").await, "warm");

    let started = Instant::now();
    for _ in 0..HANDLERS_BESIDE_MAX {
        peer.send(&order).await;
    }
    peer.send("echo one more").await;
    let answers = texts(&mut peer, HANDLERS_BESIDE_MAX + 1).await;
    let took = started.elapsed();
    assert_eq!(answers[0], "awake", "one more waits for a place");
    assert!(took >= pause && took < pause * 2, "not all of them ran side by side: {took:?}");
}

#[tokio::test]
async fn what_waits_for_a_place_is_bounded_and_then_the_socket_is_not_read() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let received = HANDLERS_BESIDE_MAX + BACKLOG_MESSAGES_MAX;
    for _ in 0..received {
        peer.send("sleep 1000").await;
    }
    // Its close is behind one message too many, so it is noticed when the first of them has ended.
    peer.send("sleep 0").await;
    let started = Instant::now();
    peer.close(1000, "bye").await;
    assert!(started.elapsed() >= Duration::from_millis(500), "the close was read before there was room");
    assert_eq!(server.end_of(&id).await, "1000 bye");
}

#[tokio::test]
async fn large_answers_wait_for_a_peer_that_reads_late() {
    let server = Site::hostile_with(NONE).serve();
    let mut wire = Wire::dial_narrow(&server).await;
    wire.upgrade("").await;
    let (count, size) = (2 * HANDLERS_BESIDE_MAX, 128 * 1024);
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
async fn messages_of_a_route_without_an_order_and_of_others_do_not_wait_for_each_other() {
    let server = mixed().serve();
    let mut peer = server.connect("").await;
    send_all(
        &mut peer,
        &[
            &to("ordered", "later 800 echo ordered"),
            &to("ordered", "echo after it"),
            &to("free", "later 400 echo free"),
            &to("free", "echo overtakes both"),
        ],
    )
    .await;
    assert_eq!(texts(&mut peer, 4).await, ["overtakes both", "free", "ordered", "after it"]);

    send_all(&mut peer, &[&to("free", "later 500 echo free"), &to("ordered", "echo ordered"), "echo default"]).await;
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
        &[&to("ordered", "later 600 echo one"), &to("ordered", "echo two"), "later 300 echo free", "echo overtakes"],
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
    server.log.line_with(&["live", "manifest="]).await;
    send_all(&mut peer, &["later 300 echo slow", "echo quick"]).await;
    assert_eq!(texts(&mut peer, 2).await, ["quick", "slow"]);
}

#[tokio::test]
async fn what_a_handler_posts_to_its_own_connection_comes_before_its_answer() {
    let server = Site::hostile_with(NONE).serve();
    let mut peer = server.connect("").await;
    for _ in 0..20 {
        peer.send("posts 3").await;
        assert_eq!(texts(&mut peer, 4).await, ["x", "x", "x", "3"]);
    }
}

#[tokio::test]
async fn disconnect_runs_once_all_handlers_of_the_connection_have_ended() {
    for site in [Site::hostile_with(NONE), mixed()] {
        let server = site.serve();
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        // More than run at once, so that some of them begin after the close.
        let count = HANDLERS_BESIDE_MAX + 4;
        peer.ask("row at-end=keep seen get count").await;
        for _ in 0..count {
            peer.send(&to("free", "later 300 add-one count")).await;
        }
        peer.send(&to("ordered", "later 500 add-one count")).await;
        peer.close(1000, "bye").await;
        assert_eq!(server.end_of(&id).await, "1000 bye");
        eventually("$disconnect has looked", || async { kept(&server, "seen").await != "none" }).await;
        assert_eq!(kept(&server, "seen").await, (count + 1).to_string());
    }
}

#[tokio::test]
async fn a_stop_waits_for_all_handlers_of_a_connection() {
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
    assert_eq!(server.ended().await, Some(0));
    let again = server.site.clone().serve();
    assert_eq!(kept(&again, "count").await, "3");
    assert_eq!(again.end_of(&id).await, "1001 Going away");
}
