//! The drain before a stop: `drain` in `[server]`.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::deployments::{ADMIN, deployments};
use crate::harness::{Peer, Server, Site, eventually};
use crate::metrics::Metrics;
use crate::wire::{FIN, PING, PONG, TEXT, UPGRADE, Wire, frame};

/// Starts a server with the hostile guest.
fn serve(drain: &str, stop_timeout: &str) -> Server {
    let keys = format!("drain = \"{drain}\"\nstop_timeout = \"{stop_timeout}\"");
    Site::hostile_with(&format!("[server]\nmetrics = \"127.0.0.1:0\"\n{keys}")).serve()
}

async fn begin_drain(server: &Server) {
    server.signal("TERM");
    server.log.wait_for_line(&["draining: "]).await;
}

/// Sends messages until the server closes. Returns when that was, and how many were answered before.
async fn talk_until_closed(peer: &mut Peer) -> (Instant, usize) {
    let mut answered = 0;
    loop {
        // A message that the server does not read any more may not be sent.
        let _ = peer.try_send(&format!("echo {answered}")).await;
        match peer.next().await {
            Some(Message::Text(text)) => assert_eq!(text, answered.to_string()),
            Some(Message::Close(Some(frame))) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "Going away"));
                return (Instant::now(), answered);
            }
            other => panic!("{other:?}"),
        }
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_drain_closes_connections_over_its_span_and_rejects_handshakes_and_everything_else_goes_on() {
    const SPAN: Duration = Duration::from_secs(10);
    let mut server = serve("10s", "20s");
    let metrics = Metrics::for_server(&server).await;
    let mut peers = join_all((0..30).map(|_| server.connect(""))).await;
    let ids = join_all(peers.iter_mut().map(Peer::id)).await;
    let signalled = Instant::now();
    begin_drain(&server).await;
    let talking = join_all(peers.iter_mut().map(talk_until_closed));
    let outside = async {
        assert_eq!(metrics.get("/ready").await, (503, "stopping\n".to_owned()));
        assert_eq!(metrics.get("/health").await, (200, "ok\n".to_owned()));
        let mut rejected = Wire::dial(&server).await;
        rejected.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
        let head = rejected.head().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
        server.log.wait_for_line(&["rejected handshake", "drains (503)"]).await;
        // Each connection has left or is found.
        let mut found = 0;
        for id in &ids {
            let path = format!("/dev/@connections/{}", id.replace('=', "%3D"));
            match server.request("GET", &path, "").await.status {
                200 => found += 1,
                status => assert_eq!(status, 410),
            }
        }
        found
    };
    let (closed, still_open) = tokio::join!(talking, outside);
    assert!(still_open > 0, "every connection was closed at once");
    let mut times: Vec<_> = closed.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    // By chance, all of 30 offsets are in less than a third of the span once in 10^13 runs.
    assert!(*times.last().unwrap() - times[0] > SPAN / 3, "the connections were not closed over the span");
    let most = closed.iter().map(|(_, answered)| *answered).max();
    assert!(most > Some(1), "no message was answered after the drain began");
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(signalled.elapsed() >= SPAN, "the drain ended early");

    let again = server.site.clone().serve();
    let mut other = again.connect("").await;
    for id in &ids {
        assert_eq!(other.ask(&format!("ended {id}")).await, "1001 Going away");
    }
}

#[tokio::test]
async fn what_a_leaving_connection_has_sent_is_answered_also_after_the_span() {
    let mut server = serve("500ms", "20s");
    let (mut peer, mut other) = (Wire::open(&server, "").await, server.connect("").await);
    let (id, other_id) = (peer.ask("id").await, other.id().await);
    let begin = format!("begin {other_id} 3000");
    let messages = [frame(FIN | TEXT, begin.as_bytes()), frame(FIN | TEXT, b"echo behind it"), frame(FIN | PING, b"")];
    peer.send(&messages.concat()).await;
    // The answer to the ping shows that the messages before it have been read.
    assert_eq!(peer.next().await.unwrap().opcode, PONG);
    assert_eq!(other.text().await, "begun");
    begin_drain(&server).await;
    assert_eq!(other.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(peer.text().await, "awake");
    assert_eq!(peer.text().await, "behind it");
    assert_eq!(peer.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(!server.log.text().contains("aborted"), "{}", server.log.text());
    let again = server.site.clone().serve();
    assert_eq!(again.wait_for_disconnect(&id).await, "1001 Going away");
}

#[tokio::test]
async fn the_stop_timeout_begins_after_the_span() {
    let mut server = serve("2s", "2s");
    let (mut peer, mut other) = (server.connect("").await, server.connect("").await);
    let (id, other_id) = (peer.id().await, other.id().await);
    peer.send(&format!("begin {other_id} 25000")).await;
    assert_eq!(other.text().await, "begun");
    let signalled = Instant::now();
    begin_drain(&server).await;
    assert_eq!(peer.closed().await, (1001, "Going away".to_owned()));
    assert!(signalled.elapsed() >= Duration::from_secs(4), "the handler did not have both");
    assert_eq!(server.wait_for_exit().await, Some(0));
    server.log.wait_for_line(&["the stop took longer than 2s (stop_timeout in [server])"]).await;
    let again = server.site.clone().serve();
    assert_eq!(again.wait_for_disconnect(&id).await, "1006 ", "it had no time, so the next start runs it");
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_and_a_third_one_the_process() {
    for waits in [false, true] {
        let mut server = serve("1h", "20s");
        let mut peers = join_all((0..10).map(|_| server.connect(""))).await;
        let ids = join_all(peers.iter_mut().map(Peer::id)).await;
        if waits {
            peers[0].ask("row at-end=sleep 20000").await;
        }
        begin_drain(&server).await;
        server.signal("INT");
        for closed in join_all(peers.iter_mut().map(Peer::closed)).await {
            assert_eq!(closed, (1001, "Going away".to_owned()));
        }
        if waits {
            let signalled = Instant::now();
            server.signal("TERM");
            assert_eq!(server.wait_for_exit().await, Some(1));
            assert!(signalled.elapsed() < Duration::from_secs(10), "it took {:?}", signalled.elapsed());
            server.log.wait_for_line(&["stopped immediately"]).await;
        } else {
            assert_eq!(server.wait_for_exit().await, Some(0));
            let again = server.site.clone().serve();
            let mut other = again.connect("").await;
            for id in &ids {
                assert_eq!(other.ask(&format!("ended {id}")).await, "1001 Going away");
            }
        }
    }
}

/// A `$connect` that was running when the drain began is not cut off: its connection is closed like the others.
#[tokio::test]
async fn a_handshake_from_before_the_drain_is_finished_and_its_connection_leaves_within_the_span() {
    let mut server = serve("3s", "20s");
    let mut peer = server.connect("").await;
    let mut deciding = Wire::dial(&server).await;
    deciding.send(format!("GET /dev?record=late&do=sleep%201000 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    while peer.ask("get late").await == "none" {}
    begin_drain(&server).await;
    assert!(deciding.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(deciding.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.wait_for_exit().await, Some(0));
}

#[tokio::test]
async fn operators_and_calls_of_connections_are_served_until_the_end() {
    let mut server = Site::hostile_with(&format!(
        "{ADMIN}[server]\nmetrics = \"127.0.0.1:0\"\ndrain = \"1h\"\nstop_timeout = \"1min\""
    ))
    .serve();
    let metrics = Metrics::for_server(&server).await;
    let (mut peer, mut other) = (server.connect("").await, server.connect("").await);
    let other_id = other.id().await;
    // The stop waits for this handler.
    peer.send(&format!("begin {other_id} 28000")).await;
    assert_eq!(other.text().await, "begun");
    begin_drain(&server).await;
    assert_eq!(server.post(&other_id, "still here").await.status, 200);
    assert_eq!(other.text().await, "still here");
    assert_eq!(deployments(&server, &[]).await.0, 0);
    server.signal("TERM");
    assert_eq!(other.closed().await.0, 1001);
    // The drain has ended, and the stop has not.
    assert_eq!(deployments(&server, &[]).await.0, 0);
    assert_eq!(metrics.get("/ready").await, (503, "stopping\n".to_owned()));
    assert_eq!(metrics.get("/metrics").await.0, 200);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(1));
}

#[tokio::test]
async fn a_changed_manifest_applies_during_a_drain() {
    let mut server = serve("1h", "20s");
    let mut peer = server.connect("").await;
    begin_drain(&server).await;
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    let key = "[access_keys.AKIDEXAMPLE]\nsecret = \"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\"\n";
    std::fs::write(server.site.manifest(), manifest.replace("[server]", &format!("{key}[server]"))).unwrap();
    eventually("unsigned calls are rejected", || async {
        server.post("L0SM9cOFvHcCIhw=", "hello").await.status == 403
    })
    .await;
    server.signal("TERM");
    assert_eq!(peer.closed().await.0, 1001);
    assert_eq!(server.wait_for_exit().await, Some(0));
}
