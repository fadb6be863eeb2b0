//! Every way in which a connection ends, and what `$disconnect` is told of it: once.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{PATIENCE, Peer, Server, Site, eventually};
use crate::wire::{CLOSE, FIN, PING, TEXT, UPGRADE, Wire, frame};

const GONE: &str = "error: the connection has no row";

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// That the end was told so, once, and that the row is gone then.
async fn check_end(server: &Server, id: &str, told: &str) {
    assert_eq!(server.end_of(id).await, told);
    eventually("the row is dropped", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == GONE
    })
    .await;
    assert_eq!(server.end_of(id).await, told, "it was told again");
}

/// Sends a message now and then, until the connection is closed; says how.
async fn chatter(peer: &mut Peer, message: Message, pause: Duration) -> (u16, String) {
    loop {
        let _ = peer.socket.send(message.clone()).await;
        match tokio::time::timeout(pause, peer.closed()).await {
            Ok(closed) => return closed,
            Err(_) => continue,
        }
    }
}

#[tokio::test]
async fn a_peer_that_closes_says_with_which_code_and_reason() {
    let server = Site::hostile().serve();
    let long = "r".repeat(123);
    for (code, reason) in
        [(1000, "bye"), (1000, ""), (1001, ""), (1011, "ill"), (3000, "own"), (4999, "\u{e4}"), (4000, &*long)]
    {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&close_frame(code, reason)).await;
        assert_eq!(wire.next().await.unwrap().close(), (code, reason.to_owned()), "the close comes back");
        wire.hung_up().await;
        check_end(&server, &id, &format!("{code} {reason}")).await;
    }
}

#[tokio::test]
async fn a_peer_that_closes_without_a_status_is_told_as_1005() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(wire.next().await.unwrap().payload, b"");
    wire.hung_up().await;
    check_end(&server, &id, "1005 Client-side close frame status not set").await;
}

#[tokio::test]
async fn a_close_code_that_nobody_may_send_is_told_as_1002() {
    let server = Site::hostile().serve();
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 65_535] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&close_frame(code, "x")).await;
        assert_eq!(wire.next().await.unwrap().close(), (1002, "Protocol violation".to_owned()), "{code}");
        wire.hung_up().await;
        check_end(&server, &id, "1002 Protocol violation").await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_ends_a_connection_with_the_code_that_the_peer_saw() {
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
        check_end(&server, &id, &format!("{code} {reason}")).await;
    }
}

#[tokio::test]
async fn a_peer_that_is_cut_off_is_told_as_1006() {
    let server = Site::hostile().serve();
    for (reset, order) in [(false, "silent"), (true, "silent"), (false, "sleep 500"), (true, "sleep 500")] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send_text(order).await;
        if reset {
            wire.reset();
        } else {
            drop(wire);
        }
        check_end(&server, &id, "1006 ").await;
    }
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send(&frame(TEXT, b"half a mess")).await;
    wire.send(&frame(FIN | TEXT, b"half a frame")[..9]).await;
    drop(wire);
    check_end(&server, &id, "1006 ").await;
}

#[tokio::test]
async fn a_delete_closes_with_1000_and_is_told_as_closed_normally() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let path = format!("/dev/@connections/{id}");
    assert_eq!(server.post(&id, "before").await.status, 200);
    let (one, other) = tokio::join!(server.manage("DELETE", &path, ""), server.manage("DELETE", &path, ""));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 410], "only one can close it");
    assert_eq!(server.post(&id, "after").await.status, 410);
    assert_eq!(peer.text().await, "before", "what was posted before still arrives");
    assert_eq!(peer.closed().await, (1000, String::new()));
    check_end(&server, &id, "1000 Connection Closed Normally").await;
}

#[tokio::test]
async fn a_handler_closes_a_connection_with_the_code_that_it_wants() {
    let server = Site::hostile().serve();
    let mut other = server.connect("").await;
    for (frame, closed, told) in [
        ("", (1000, ""), "1000 Connection Closed Normally"),
        (" 1000 ", (1000, ""), "1000 Connection Closed Normally"),
        (" 4001 kicked out", (4001, "kicked out"), "4001 kicked out"),
    ] {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        assert_eq!(other.ask(&format!("close {id}{frame}")).await, "closed");
        assert_eq!(peer.closed().await, (closed.0, closed.1.to_owned()));
        check_end(&server, &id, told).await;
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
    check_end(&server, &id, "4000 enough").await;
}

#[tokio::test]
async fn without_messages_either_way_a_connection_is_closed_as_idle() {
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
            chatter(&mut pinging, Message::Ping("hello".into()), Duration::from_millis(200))
        );
        assert_eq!(closed, (going_away.clone(), going_away.clone()), "pings are no messages");
        assert!(opened.elapsed() >= idle);
    };
    let busy_ones = async {
        let rounds = async {
            for _ in 0..12 {
                asking.send("silent").await;
                assert_eq!(server.post(&ids[3], "hello").await.status, 200);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        rounds.await;
        for _ in 0..12 {
            assert_eq!(posted.text().await, "hello");
        }
        assert_eq!(posted.closed().await, going_away, "once nothing is posted any more");
    };
    tokio::join!(idle_ones, busy_ones);
    assert_eq!(asking.closed().await, going_away);
    for id in &ids {
        check_end(&server, id, "1001 Going away").await;
    }
}

#[tokio::test]
async fn the_longest_duration_ends_a_connection_however_busy() {
    let server = Site::hostile_with("[connection]\nduration = \"1s\"").serve();
    let opened = Instant::now();
    let [mut silent, mut asking] = [server.connect("").await, server.connect("").await];
    let (id, asking_id) = (silent.id().await, asking.id().await);
    let (one, other) =
        tokio::join!(silent.closed(), chatter(&mut asking, Message::text("silent"), Duration::from_millis(20)));
    assert!(opened.elapsed() >= Duration::from_secs(1));
    assert_eq!(one, (1001, "Going away".to_owned()));
    assert_eq!(other, one);
    check_end(&server, &id, "1001 Going away").await;
    check_end(&server, &asking_id, "1001 Going away").await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone_and_one_that_does_stays() {
    let server = Site::hostile_with("[connection]\nping_interval = \"500ms\"").serve();
    let mut deaf = Wire::open(&server, "").await;
    let mut answering = server.connect("").await;
    let (deaf_id, id) = (deaf.ask("id").await, answering.id().await);
    let opened = Instant::now();
    let deaf = async {
        let ping = deaf.next().await.unwrap();
        assert_eq!((ping.opcode, &*ping.payload), (PING, &b""[..]));
        assert_eq!(deaf.closed().await.0, 1006, "nobody is there to be told");
        check_end(&server, &deaf_id, "1006 ").await;
    };
    let answering = async {
        // The library answers pings as it reads.
        let reading = tokio::time::timeout(Duration::from_millis(2700), answering.next());
        assert!(reading.await.is_err(), "nothing but pings comes");
        assert_eq!(answering.id().await, id);
    };
    tokio::join!(deaf, answering);
    assert!(opened.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_peer_is_not_blamed_for_pings_that_were_not_read_while_it_waits_for_a_handler() {
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
async fn messages_that_came_before_the_end_are_handled_before_disconnect() {
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
    check_end(&server, &id, "1000 ").await;
    let mut other = server.connect("").await;
    for index in 0..5 {
        assert_eq!(other.ask(&format!("get end{index}")).await, "none", "message {index} was handled, and before");
    }
    assert_eq!(other.ask("get end5").await, "none");
}

#[tokio::test]
async fn the_handler_of_disconnect_has_the_row_but_can_send_nothing() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask("row at-end=keep last posts 1").await, "added");
    peer.close(1000, "").await;
    check_end(&server, &id, "1000 ").await;
    assert_eq!(server.connect("").await.ask("get last").await, "0 then the connection is gone");
}

#[tokio::test]
async fn a_handler_of_disconnect_that_fails_is_not_asked_again() {
    let server = Site::hostile().serve();
    for order in ["trap", "fail", "exit 1"] {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        assert_eq!(peer.ask(&format!("row at-end={order}")).await, "added");
        peer.close(1000, "").await;
        check_end(&server, &id, "1000 ").await;
        server.log.line_with(&["$disconnect", &id]).await;
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
        deciding.send(format!("GET /dev?tell=late&do=sleep%20700 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
        while peers[0].ask("get late").await == "none" {}
        server.signal(signal);
        for closed in join_all(peers.iter_mut().map(Peer::closed)).await {
            assert_eq!(closed, (1001, "Going away".to_owned()));
        }
        assert_eq!(busy.closed().await, (1001, "Going away".to_owned()));
        assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "it still accepts");
        assert!(deciding.head().await.starts_with("HTTP/1.1 101 "), "what was decided already is kept");
        assert_eq!(deciding.closed().await, (1001, "Going away".to_owned()));
        assert_eq!(server.ended().await, Some(0));
        assert!(!server.log.text().contains("cut off"), "{}", server.log.text());

        let again = server.site.clone().serve();
        let mut other = again.connect("").await;
        let late = other.ask("get late").await.lines().next().unwrap().to_owned();
        for id in ids.iter().chain([&busy_id, &late]) {
            assert_eq!(other.ask(&format!("ended {id}")).await, "1001 Going away");
            assert_eq!(other.ask(&format!("attributes-of {id}")).await, GONE);
        }
        assert_eq!(other.ask("get slept").await, "awake", "a handler that ran came to its end");
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
    assert_eq!(server.ended().await, Some(0));
    assert!(started.elapsed() >= Duration::from_secs(1), "it was not waited for at all");
    assert!(started.elapsed() < Duration::from_secs(10), "it was waited for to the end");
    server.log.line_with(&["stop_timeout", "cut off"]).await;

    let again = server.site.clone().serve();
    assert_eq!(again.end_of(&quick_id).await, "1001 Going away");
    // Its handler was cut off before it came to its end, so the next start has it run once more.
    eventually("the row is dropped", || async { again.end_of(&slow_id).await == "1001 Going away\n1006 " }).await;
}

#[tokio::test]
async fn a_stop_is_held_up_by_nobody_who_does_not_answer() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"20s\"").serve();
    let mut deaf = Wire::open(&server, "").await;
    let id = deaf.ask("id").await;
    let mut half = Wire::dial(&server).await;
    half.send(b"GET /dev HTTP/1.1\r\nHost: loc").await;
    let _silent = Wire::dial(&server).await;
    // So that all of them have arrived.
    server.connect("").await.id().await;
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    assert_eq!(deaf.closed().await, (1001, "Going away".to_owned()));
    assert_eq!(server.site.clone().serve().end_of(&id).await, "1001 Going away");
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
    assert_eq!(server.ended().await, Some(1));
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    server.log.line_with(&["stopped at once"]).await;
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_what_an_earlier_process_left_behind() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"500ms\"").serve();
    let mut peers = join_all((0..2).map(|_| server.connect(""))).await;
    let ids = join_all(peers.iter_mut().map(Peer::id)).await;
    for peer in &mut peers {
        peer.ask("row at-end=sleep 3000").await;
    }
    // What was acknowledged longer ago than the flush interval survives.
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.signal("KILL");
    server.ended().await;

    let mut again = server.site.clone().serve();
    let ended = || async {
        let mut peer = again.connect("").await;
        let mut count = 0;
        for id in &ids {
            count += usize::from(peer.ask(&format!("ended {id}")).await != "none");
        }
        count
    };
    eventually("the first of them is told", || async { ended().await > 0 }).await;
    let started = Instant::now();
    again.signal("TERM");
    assert_eq!(again.ended().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());

    let last = again.site.clone().serve();
    for id in &ids {
        let end = tokio::time::timeout(PATIENCE, last.end_of(id)).await.unwrap();
        assert!(end.starts_with("1006 "), "{end}");
    }
}
