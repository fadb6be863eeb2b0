//! How connections, servers and processes end.

use std::fs;

use crate::backend::Backend;
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

/// Returns a manifest with the hostile guest, whose `$disconnect` is a request to `backend`: `/end?id=..&request=..&code=..`
/// and `query`.
fn with_disconnect_request(backend: &Backend, sections: &str, query: &str) -> String {
    let (component, address) = (component(HOSTILE), backend.address);
    format!(
        "{sections}\n[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n\
         [integrations.end]\ntype = \"http\"\nurl = \"http://{address}/end{query}\"\n\
         [integrations.end.request_parameters]\n\
         \"integration.request.header.id\" = \"context.connectionId\"\n\
         \"integration.request.header.request\" = \"context.requestId\"\n\
         \"integration.request.header.code\" = \"context.disconnectStatusCode\"\n\
         [routes]\n\"$disconnect\" = \"end\"\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    )
}

async fn kill(server: &mut Server) {
    server.signal("KILL");
    server.wait_for_exit().await;
}

/// Source: aws-samples/simple-websockets-chat-app#27, where `$disconnect` is not called and the connection stays in the
/// table of the application.
#[tokio::test]
async fn a_process_that_is_killed_right_after_a_101_leaves_its_connections_to_the_next_one() {
    let backend = Backend::start().await;
    // No row is saved before the kill.
    let sections = "[backend]\nflush_interval = \"60s\"";
    let mut server = Site::new(&with_disconnect_request(&backend, sections, "")).serve();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(Wire::open(&server, "").await);
    }
    kill(&mut server).await;
    assert_eq!(backend.take_requests().len(), 0);
    let mut again = server.site.clone().serve();
    again.log.wait_for_line(&["ran $disconnect (1006) for 20 connections that an earlier process left behind"]).await;
    let requests = backend.take_requests();
    let mut ids: Vec<_> = requests.iter().map(|request| request.header("id").unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((requests.len(), ids.len()), (20, 20));
    assert!(requests.iter().all(|request| request.header("code") == Some("1006")));
    again.signal("TERM");
    assert_eq!(again.wait_for_exit().await, Some(0));
    let last = again.site.clone().serve();
    last.connect("").await.id().await;
    assert_eq!(backend.take_requests().len(), 0, "none runs a third time");
    assert!(!last.log.text().contains("left behind"));
}

/// Source: systemaccounting/mxfactorial#148: the end of a connection is a best-effort event on AWS. Here it runs at least
/// once, so a handler must be able to recognize a repeat.
#[tokio::test]
async fn a_disconnect_that_runs_again_because_its_process_was_killed_has_the_same_request_id() {
    let backend = Backend::start().await;
    let sections = "[backend]\nflush_interval = \"60s\"";
    let mut server = Site::new(&with_disconnect_request(&backend, sections, "")).serve();
    let other = server.connect("").await;
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    peer.close(4000, "bye").await;
    let first = backend.only_request().await;
    // The row is deleted after the response, and that is not on the disk.
    kill(&mut server).await;
    drop(other);
    let again = server.site.clone().serve();
    again.log.wait_for_line(&["ran $disconnect (1006) for 2 connections"]).await;
    let requests = backend.take_requests();
    let (repeat, others): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.header("id") == Some(&id));
    assert_eq!((repeat.len(), others.len()), (1, 1));
    assert_eq!((first.header("id"), first.header("code")), (Some(&*id), Some("4000")));
    assert_eq!(repeat[0].header("code"), Some("1006"));
    assert_eq!(repeat[0].header("request"), first.header("request"));
    assert_ne!(others[0].header("request"), first.header("request"), "each connection has another one");
}

/// Source: michalkvasnicak/aws-lambda-graphql#24: messages went to connections that had been lost. Connections that a
/// crashed process left behind are in no query, and their `$disconnect` events run 64 at a time; a stop waits for these.
#[tokio::test]
async fn connections_of_a_crashed_process_are_in_no_query_and_are_disconnected_64_at_a_time() {
    const LEFT: usize = 150;
    const AT_A_TIME: usize = 64;
    let backend = Backend::start().await;
    let sections = "[backend]\ndurability = \"always\"\n[server]\nstop_timeout = \"30s\"";
    let mut server = Site::new(&with_disconnect_request(&backend, sections, "?do=sleep%205000")).serve();
    let mut open = Vec::new();
    for _ in 0..LEFT {
        let mut wire = Wire::open(&server, "").await;
        assert_eq!(wire.ask("row room=lobby").await, "added");
        open.push(wire);
    }
    kill(&mut server).await;

    let mut again = server.site.clone().serve();
    let mut requests = Vec::new();
    eventually("64 events run", || {
        requests.extend(backend.take_requests());
        let count = requests.len();
        async move { count >= AT_A_TIME }
    })
    .await;
    let mut peer = again.connect("").await;
    assert_eq!(peer.ask("row room=lobby").await, "added");
    assert_eq!(peer.ask("match room=lobby").await, "0", "it is itself the only one, and is left out");
    assert_eq!(peer.ask("query room=lobby").await, "1 rows, 0 of them twice");
    assert_eq!(peer.ask("scan").await, "1");
    // The row of one that waits is there for its own handler.
    let waiting = requests[0].header("id").unwrap();
    assert_eq!(peer.ask(&format!("attributes-of {waiting}")).await, "1");
    assert_eq!(again.post(waiting, "hello").await.status, 410);
    requests.extend(backend.take_requests());
    assert_eq!(requests.len(), AT_A_TIME);
    again.signal("TERM");
    assert_eq!(again.wait_for_exit().await, Some(0));
    again.log.wait_for_line(&["ran $disconnect (1006) for 64 connections"]).await;
    // The connection of this process has one too.
    requests.extend(backend.take_requests());
    assert_eq!(requests.len(), AT_A_TIME + 1);

    let last = again.site.clone().serve();
    last.log.wait_for_line(&["ran $disconnect (1006) for 86 connections"]).await;
    requests.extend(backend.take_requests());
    let mut ids: Vec<_> = requests.iter().map(|request| request.header("id").unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((requests.len(), ids.len()), (LEFT + 1, LEFT + 1), "each of them ran once");
}
