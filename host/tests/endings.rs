//! Every way in which a connection can end: `$disconnect` runs exactly once, and gets the right code and reason.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Peer, Server, Site, TEST_TIMEOUT, eventually};
use crate::wire::{CLOSE, FIN, PING, TEXT, UPGRADE, Wire, frame};

const GONE: &str = "error: the connection has no row";

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// Checks that `$disconnect` ran once with this code and reason, and that the row is deleted afterwards.
async fn check_disconnect(server: &Server, id: &str, expected: &str) {
    assert_eq!(server.wait_for_disconnect(id).await, expected);
    eventually("the row is deleted", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == GONE
    })
    .await;
    assert_eq!(server.wait_for_disconnect(id).await, expected, "$disconnect ran again");
}

/// Sends a message again and again until the server closes. Returns the code and the reason.
async fn send_until_closed(peer: &mut Peer, message: Message, pause: Duration) -> (u16, String) {
    loop {
        let _ = peer.socket.send(message.clone()).await;
        match tokio::time::timeout(pause, peer.closed()).await {
            Ok(closed) => return closed,
            Err(_) => continue,
        }
    }
}

#[tokio::test]
async fn disconnect_gets_the_close_code_and_reason_of_the_peer() {
    let server = Site::hostile().serve();
    let long = "r".repeat(123);
    for (code, reason) in
        [(1000, "bye"), (1000, ""), (1001, ""), (1011, "ill"), (3000, "own"), (4999, "\u{e4}"), (4000, &*long)]
    {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&close_frame(code, reason)).await;
        assert_eq!(wire.next().await.unwrap().close(), (code, reason.to_owned()), "the server echoes the close frame");
        wire.wait_for_end().await;
        check_disconnect(&server, &id, &format!("{code} {reason}")).await;
    }
}

#[tokio::test]
async fn a_close_without_a_status_is_1005() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(wire.next().await.unwrap().payload, b"");
    wire.wait_for_end().await;
    check_disconnect(&server, &id, "1005 Client-side close frame status not set").await;
}

#[tokio::test]
async fn an_invalid_close_code_from_a_peer_is_1002() {
    let server = Site::hostile().serve();
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 65_535] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&close_frame(code, "x")).await;
        assert_eq!(wire.next().await.unwrap().close(), (1002, "Protocol violation".to_owned()), "{code}");
        wire.wait_for_end().await;
        check_disconnect(&server, &id, "1002 Protocol violation").await;
    }
}

#[tokio::test]
async fn an_invalid_frame_ends_the_connection_with_the_code_that_the_peer_got() {
    let server = Site::hostile().serve();
    let reason = "a message has at most 131072 bytes, a frame 32768";
    for (bytes, code, reason) in [
        (frame(FIN | TEXT, &[b'x'; 32 * 1024 + 1]), 1009, reason),
        (frame(FIN | TEXT, b"\xff"), 1007, "text is not UTF-8"),
        (frame(FIN | CLOSE, &[0x03, 0xe8, 0xff]), 1007, "text is not UTF-8"),
        (frame(TEXT | 0x70, b""), 1002, "protocol error"),
    ] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&bytes).await;
        assert_eq!(wire.closed().await, (code, reason.to_owned()));
        check_disconnect(&server, &id, &format!("{code} {reason}")).await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_1006() {
    let server = Site::hostile().serve();
    for (reset, command) in [(false, "silent"), (true, "silent"), (false, "sleep 500"), (true, "sleep 500")] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send_text(command).await;
        if reset {
            wire.reset();
        } else {
            drop(wire);
        }
        check_disconnect(&server, &id, "1006 ").await;
    }
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send(&frame(TEXT, b"half a mess")).await;
    wire.send(&frame(FIN | TEXT, b"half a frame")[..9]).await;
    drop(wire);
    check_disconnect(&server, &id, "1006 ").await;
}

#[tokio::test]
async fn a_delete_closes_with_1000_and_connection_closed_normally() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let path = format!("/dev/@connections/{id}");
    assert_eq!(server.post(&id, "before").await.status, 200);
    let (one, other) = tokio::join!(server.request("DELETE", &path, ""), server.request("DELETE", &path, ""));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 410], "only one can close it");
    assert_eq!(server.post(&id, "after").await.status, 410);
    assert_eq!(peer.text().await, "before", "what was posted before still arrives");
    assert_eq!(peer.closed().await, (1000, String::new()));
    check_disconnect(&server, &id, "1000 Connection Closed Normally").await;
}

#[tokio::test]
async fn a_handler_closes_a_connection_with_any_valid_code() {
    let server = Site::hostile().serve();
    let mut other = server.connect("").await;
    for (frame, closed, recorded) in [
        ("", (1000, ""), "1000 Connection Closed Normally"),
        (" 1000 ", (1000, ""), "1000 Connection Closed Normally"),
        (" 4001 kicked out", (4001, "kicked out"), "4001 kicked out"),
    ] {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        assert_eq!(other.ask(&format!("close {id}{frame}")).await, "closed");
        assert_eq!(peer.closed().await, (closed.0, closed.1.to_owned()));
        check_disconnect(&server, &id, recorded).await;
    }
    for code in [999, 1005, 1006, 5000] {
        let id = other.id().await;
        let answer = other.ask(&format!("close {id} {code} x")).await;
        assert!(answer.starts_with(r#"{"message": "Internal server error", "#), "{code}: {answer}");
    }
    assert_eq!(other.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn a_handler_that_closes_its_own_connection_is_still_answered() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask(&format!("close {id} 4000 enough")).await, "closed");
    assert_eq!(peer.closed().await, (4000, "enough".to_owned()));
    check_disconnect(&server, &id, "4000 enough").await;
}

#[tokio::test]
async fn a_connection_without_messages_in_either_direction_is_closed_as_idle() {
    let idle = Duration::from_secs(1);
    let server = Site::hostile_with("[connection]\nidle_timeout = \"1s\"\nping_interval = \"none\"").serve();
    let opened = Instant::now();
    let [mut silent, mut pinging, mut asking, mut posted] =
        [server.connect("").await, server.connect("").await, server.connect("").await, server.connect("").await];
    let ids = [silent.id().await, pinging.id().await, asking.id().await, posted.id().await];
    let going_away = (1001, "Going away".to_owned());
    let idle_ones = async {
        let closed = tokio::join!(
            silent.closed(),
            send_until_closed(&mut pinging, Message::Ping("hello".into()), Duration::from_millis(200))
        );
        assert_eq!(closed, (going_away.clone(), going_away.clone()), "pings do not count as messages");
        assert!(opened.elapsed() >= idle);
    };
    let busy_ones = async {
        for _ in 0..12 {
            asking.send("silent").await;
            assert_eq!(server.post(&ids[3], "hello").await.status, 200);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for _ in 0..12 {
            assert_eq!(posted.text().await, "hello");
        }
        assert_eq!(posted.closed().await, going_away, "after the last post");
    };
    tokio::join!(idle_ones, busy_ones);
    assert_eq!(asking.closed().await, going_away);
    for id in &ids {
        check_disconnect(&server, id, "1001 Going away").await;
    }
}

#[tokio::test]
async fn the_maximum_duration_ends_a_connection_even_if_it_is_busy() {
    let server = Site::hostile_with("[connection]\nduration = \"1s\"").serve();
    let opened = Instant::now();
    let [mut silent, mut asking] = [server.connect("").await, server.connect("").await];
    let (id, asking_id) = (silent.id().await, asking.id().await);
    let (one, other) = tokio::join!(
        silent.closed(),
        send_until_closed(&mut asking, Message::text("silent"), Duration::from_millis(20))
    );
    assert!(opened.elapsed() >= Duration::from_secs(1));
    assert_eq!(one, (1001, "Going away".to_owned()));
    assert_eq!(other, one);
    check_disconnect(&server, &id, "1001 Going away").await;
    check_disconnect(&server, &asking_id, "1001 Going away").await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_disconnected_and_one_that_does_stays() {
    let server = Site::hostile_with("[connection]\nping_interval = \"500ms\"").serve();
    let mut unresponsive = Wire::open(&server, "").await;
    let mut answering = server.connect("").await;
    let (unresponsive_id, id) = (unresponsive.ask("id").await, answering.id().await);
    let opened = Instant::now();
    let unresponsive = async {
        let ping = unresponsive.next().await.unwrap();
        assert_eq!((ping.opcode, &*ping.payload), (PING, &b""[..]));
        assert_eq!(unresponsive.closed().await.0, 1006, "there is no close frame for a lost peer");
        check_disconnect(&server, &unresponsive_id, "1006 ").await;
    };
    let answering = async {
        // The library answers pings while it reads.
        let reading = tokio::time::timeout(Duration::from_millis(2700), answering.next());
        assert!(reading.await.is_err(), "nothing but pings comes");
        assert_eq!(answering.id().await, id);
    };
    tokio::join!(unresponsive, answering);
    assert!(opened.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_peer_is_not_disconnected_for_pongs_that_the_server_has_not_read_yet() {
    let server = Site::hostile_with("[connection]\nping_interval = \"300ms\"").serve();
    let mut peer = server.connect("").await;
    peer.send("sleep 2000").await;
    for index in 0..40 {
        peer.send(&format!("echo {index}")).await;
    }
    assert_eq!(peer.text().await, "awake");
    for index in 0..40 {
        assert_eq!(peer.text().await, index.to_string());
    }
}

#[tokio::test]
async fn messages_before_the_close_are_handled_before_disconnect() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let mut bytes = Vec::new();
    for index in 0..5 {
        bytes.extend(frame(FIN | TEXT, format!("later 100 keep end{index} ended {id}").as_bytes()));
    }
    bytes.extend(close_frame(1000, ""));
    wire.send(&bytes).await;
    assert_eq!(wire.closed().await.0, 1000);
    check_disconnect(&server, &id, "1000 ").await;
    let mut other = server.connect("").await;
    for index in 0..5 {
        assert_eq!(
            other.ask(&format!("get end{index}")).await,
            "none",
            "message {index} was handled before $disconnect"
        );
    }
    assert_eq!(other.ask("get end5").await, "none");
}

#[tokio::test]
async fn the_disconnect_handler_has_the_row_but_cannot_send() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask("row at-end=keep last posts 1").await, "added");
    peer.close(1000, "").await;
    check_disconnect(&server, &id, "1000 ").await;
    assert_eq!(server.connect("").await.ask("get last").await, "0 then the connection is gone");
}

#[tokio::test]
async fn a_failed_disconnect_handler_is_not_run_again() {
    let server = Site::hostile().serve();
    for command in ["trap", "fail", "exit 1"] {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        assert_eq!(peer.ask(&format!("row at-end={command}")).await, "added");
        peer.close(1000, "").await;
        check_disconnect(&server, &id, "1000 ").await;
        server.log.wait_for_line(&["$disconnect", &id]).await;
    }
}

#[tokio::test]
async fn a_stop_closes_with_1001_and_runs_every_disconnect() {
    for signal in ["TERM", "INT"] {
        let mut server = Site::hostile().serve();
        let mut peers = join_all((0..20).map(|_| server.connect(""))).await;
        let ids = join_all(peers.iter_mut().map(Peer::id)).await;
        let mut busy = server.connect("").await;
        let busy_id = busy.id().await;
        busy.send("keep slept sleep 700").await;
        let mut deciding = Wire::dial(&server).await;
        deciding.send(format!("GET /dev?record=late&do=sleep%20700 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
        while peers[0].ask("get late").await == "none" {}
        server.signal(signal);
        for closed in join_all(peers.iter_mut().map(Peer::closed)).await {
            assert_eq!(closed, (1001, "Going away".to_owned()));
        }
        assert_eq!(busy.text().await, "awake", "what was read is still answered");
        assert_eq!(busy.closed().await, (1001, "Going away".to_owned()));
        assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "it still accepts");
        assert!(deciding.head().await.starts_with("HTTP/1.1 101 "), "a running $connect handler is waited for");
        assert_eq!(deciding.closed().await, (1001, "Going away".to_owned()));
        assert_eq!(server.wait_for_exit().await, Some(0));
        assert!(!server.log.text().contains("cut off"), "{}", server.log.text());

        let again = server.site.clone().serve();
        let mut other = again.connect("").await;
        let late = other.ask("get late").await.lines().next().unwrap().to_owned();
        for id in ids.iter().chain([&busy_id, &late]) {
            assert_eq!(other.ask(&format!("ended {id}")).await, "1001 Going away");
            assert_eq!(other.ask(&format!("attributes-of {id}")).await, GONE);
        }
        assert_eq!(other.ask("get slept").await, "awake", "a running handler was not interrupted");
    }
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_the_manifest_says() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"1s\"").serve();
    let (mut quick, mut slow) = (server.connect("").await, server.connect("").await);
    let (quick_id, slow_id) = (quick.id().await, slow.id().await);
    slow.ask("row at-end=sleep 20000").await;
    let started = Instant::now();
    server.signal("TERM");
    let (one, other) = tokio::join!(quick.closed(), slow.closed());
    assert_eq!((one.0, other.0), (1001, 1001));
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(started.elapsed() >= Duration::from_secs(1), "the server did not wait for the handler");
    assert!(started.elapsed() < Duration::from_secs(10), "the server waited longer than stop_timeout");
    server.log.wait_for_line(&["stop_timeout", "running handlers were aborted"]).await;

    let again = server.site.clone().serve();
    assert_eq!(again.wait_for_disconnect(&quick_id).await, "1001 Going away");
    // The handler was cut off, so the next start runs it again.
    eventually("the row is deleted", || async {
        again.wait_for_disconnect(&slow_id).await == "1001 Going away\n1006 "
    })
    .await;
}

#[tokio::test]
async fn an_unresponsive_peer_does_not_delay_a_stop() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"20s\"").serve();
    let mut unresponsive = Wire::open(&server, "").await;
    let id = unresponsive.ask("id").await;
    let mut half = Wire::dial(&server).await;
    half.send(b"GET /dev HTTP/1.1\r\nHost: loc").await;
    let _silent = Wire::dial(&server).await;
    // This round trip makes sure that the server has accepted all of them.
    server.connect("").await.id().await;
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    assert_eq!(unresponsive.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.site.clone().serve().wait_for_disconnect(&id).await, "1001 Going away");
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let mut server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    peer.ask("row at-end=sleep 20000").await;
    server.signal("TERM");
    assert_eq!(peer.closed().await.0, 1001);
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(1));
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    server.log.wait_for_line(&["stopped immediately"]).await;
}

#[tokio::test]
async fn a_stop_is_not_delayed_by_connections_that_a_crashed_process_left() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"500ms\"").serve();
    let mut peers = join_all((0..2).map(|_| server.connect(""))).await;
    let ids = join_all(peers.iter_mut().map(Peer::id)).await;
    for peer in &mut peers {
        peer.ask("row at-end=sleep 3000").await;
    }
    // A write that was acknowledged longer ago than the flush interval survives a crash.
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.signal("KILL");
    server.wait_for_exit().await;

    let mut again = server.site.clone().serve();
    let ended = || async {
        let mut peer = again.connect("").await;
        let mut count = 0;
        for id in &ids {
            count += usize::from(peer.ask(&format!("ended {id}")).await != "none");
        }
        count
    };
    eventually("$disconnect has run for the first of them", || async { ended().await > 0 }).await;
    let started = Instant::now();
    again.signal("TERM");
    assert_eq!(again.wait_for_exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());

    let last = again.site.clone().serve();
    for id in &ids {
        let end = tokio::time::timeout(TEST_TIMEOUT, last.wait_for_disconnect(id)).await.unwrap();
        assert!(end.starts_with("1006 "), "{end}");
    }
}
