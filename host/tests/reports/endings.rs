//! How connections, servers and processes end.

use std::fs;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually, make_old, manifest};
use crate::wire::{FIN, PING, PONG, TEXT, Wire, frame};

/// Source: apollographql/subscriptions-transport-ws#746, which asks how a server finishes all pending operations after
/// SIGTERM before it closes its sockets.
#[tokio::test]
async fn a_stop_sends_the_responses_to_all_messages_that_were_read_and_then_closes_with_1001() {
    // Of the 40 messages, 16 wait for their handler, and the others are in the buffer of the reader.
    for (ordering, first, count) in [("connection", "later 700 echo 0", 40), ("none", "later 300 echo 0", 20)] {
        let routes = format!(
            "\"$disconnect\" = \"guest\"\n\
             \"$default\" = {{ integration = \"guest\", route_response = true, ordering = \"{ordering}\" }}"
        );
        let mut server = Site::hostile_routes("", &routes).serve();
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        let mut bytes = [frame(FIN | TEXT, first.as_bytes()), frame(FIN | PING, b"")].concat();
        let delay = if ordering == "none" { "later 300 " } else { "" };
        for number in 1..count {
            bytes.extend(frame(FIN | TEXT, format!("{delay}echo {number}").as_bytes()));
        }
        wire.send(&bytes).await;
        assert_eq!(wire.next().await.unwrap().opcode, PONG, "all of it is read");
        server.signal("TERM");
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(wire.text().await.parse::<usize>().unwrap());
        }
        if ordering == "none" {
            answers.sort_unstable();
        }
        assert_eq!(answers, (0..count).collect::<Vec<_>>(), "{ordering}");
        assert_eq!(wire.closed().await, (1001, "Going away".to_owned()));
        assert_eq!(server.wait_for_exit().await, Some(0));
        assert!(!server.log.text().contains("aborted"), "{}", server.log.text());
        let again = server.site.clone().serve();
        assert_eq!(again.wait_for_disconnect(&id).await, "1001 Going away");
    }
}

/// Source: django/daphne#38, whose clients need a close code after SIGTERM to reconnect at once: also those whose handler
/// does not end in time.
#[tokio::test]
async fn a_peer_whose_handler_outlasts_the_stop_is_closed_with_1001_too() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"500ms\"").serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send(&[frame(FIN | TEXT, b"sleep 20000"), frame(FIN | PING, b"")].concat()).await;
    assert_eq!(wire.next().await.unwrap().opcode, PONG);
    server.signal("TERM");
    assert_eq!(wire.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.wait_for_exit().await, Some(0));
    server.log.wait_for_line(&["stop_timeout", "running handlers were aborted"]).await;
    let again = server.site.clone().serve();
    assert_eq!(again.wait_for_disconnect(&id).await, "1006 ", "the stop had no time for it, so the next start runs it");
}

/// Returns a manifest with this largest message.
fn with_message_size(size: &str) -> String {
    let frames = "frame_size = \"none\"";
    manifest(&component(HOSTILE), &format!("[connection]\nmessage_size = \"{size}\"\n{frames}\n"), HOSTILE_GRANTS)
}

/// Replaces the manifest, and waits until a new connection has `limit`.
async fn change_message_size(server: &Server, size: &str, body_bytes: usize, status: u16) {
    fs::write(server.site.manifest(), with_message_size(size)).unwrap();
    make_old(&server.site.manifest());
    eventually("the manifest is reloaded", || async {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        server.post(&id, &"x".repeat(body_bytes)).await.status == status
    })
    .await;
}

/// Source: python-websockets/websockets#1382, where a message that is too large closes the connection instead of being
/// an error for its sender.
#[tokio::test]
async fn a_post_is_measured_by_the_message_size_that_its_receiver_was_made_with() {
    let server = Site::new(&with_message_size("4KiB")).serve();
    let mut older = server.connect("").await;
    let id = older.id().await;
    assert_eq!(older.ask("row room=old").await, "added");
    change_message_size(&server, "1MiB", 500_000, 200).await;
    let mut newer = server.connect("").await;
    let newer_id = newer.id().await;
    for size in [4097, 500_000] {
        let rejected = server.post(&id, &"x".repeat(size)).await;
        assert_eq!(rejected.status, 413, "{size}");
        assert!(rejected.body.contains("a message has at most 4096 bytes"), "{}", rejected.body);
        assert_eq!(
            newer.ask(&format!("post-times {id} 1 {size}")).await,
            "0 then the payload is larger than a message may be"
        );
        assert_eq!(newer.ask(&format!("post-times {newer_id} 1 {size}")).await.len(), size);
        assert_eq!(newer.text().await, "1");
    }
    // A response is a message too.
    assert!(older.ask("body 4097").await.starts_with(r#"{"message": "Internal server error""#));
    assert_eq!(older.ask("body 4096").await.len(), 4096);
    assert_eq!(server.post(&id, &"x".repeat(4096)).await.status, 200);
    assert_eq!(older.text().await.len(), 4096);
    let broadcast = server.request("POST", "/dev/@jackfield/connections", &"x".repeat(5000)).await;
    assert!(broadcast.body.contains(r#""refused":1"#), "{}", broadcast.body);
    assert_eq!(older.ask("echo still here").await, "still here");

    // The other way round, the older connection keeps the larger limit.
    change_message_size(&server, "1KiB", 500_000, 413).await;
    assert_eq!(server.post(&newer_id, &"x".repeat(500_000)).await.status, 200);
    assert_eq!(newer.text().await.len(), 5000, "the broadcast");
    assert_eq!(newer.text().await.len(), 500_000);
    assert_eq!(newer.ask("body 500000").await.len(), 500_000);
    assert_eq!(older.ask(&format!("post-times {newer_id} 1 500000")).await, "1");
    assert_eq!(newer.text().await.len(), 500_000);
    let unknown = server.post("AAAAAAAAAAAAAAA=", &"x".repeat(1025)).await;
    assert_eq!(unknown.status, 413);
}
