//! How connections, servers and processes end.

use crate::harness::Site;
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
