//! Peers that read too slowly or send too much: only their own connections suffer.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Server, Site, TEST_TIMEOUT};
use crate::wire::{CLOSE, FIN, PING, PONG, TEXT, Wire, frame};

/// Resident memory of the server, in KiB.
fn resident_kib(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Connects a peer that then reads no more, and posts to it until the buffers of the kernel and its outbox are full.
/// Returns the peer and its id. `size` is the length of a post in bytes.
async fn connect_full_peer(server: &Server, size: usize) -> (Wire, String) {
    let mut wire = Wire::dial_with_small_buffer(server).await;
    wire.upgrade("").await;
    let id = wire.ask("id").await;
    let mut other = server.connect("").await;
    // The kernel may accept more bytes a moment after the outbox was full. After three refusals in a row it has not.
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut refused = 0;
    while refused < 3 {
        assert!(Instant::now() < deadline, "the outbox does not fill");
        let answer = other.ask(&format!("post-times {id} 1000 {size}")).await;
        if answer == "0 then more was sent than the peer takes" {
            refused += 1;
        } else {
            refused = 0;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (wire, id)
}

#[tokio::test]
async fn posts_to_a_peer_that_does_not_read_are_refused_while_others_are_served() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"60s\"").serve();
    let (mut wire, id) = connect_full_peer(&server, 10_000).await;
    let answer = server.post(&id, "one more").await;
    assert_eq!(answer.status, 200, "a small post still fits");
    let answer = server.post(&id, &"x".repeat(100_000)).await;
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (429, Some("LimitExceededException")));
    let mut peer = server.connect("").await;
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(peer.ask("echo in").await, "in");
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    // The peer reads again, and all accepted posts arrive.
    loop {
        let text = wire.text().await;
        if text == "one more" {
            break;
        }
        assert_eq!(text.len(), 10_000);
    }
    assert_eq!(server.post(&id, &"x".repeat(100_000)).await.status, 200);
    assert_eq!(wire.text().await.len(), 100_000);
    assert_eq!(wire.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn a_peer_that_does_not_read_uses_no_more_memory_than_its_outbox() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"60s\"\noutbox_size = \"2MiB\"").serve();
    let mut other = server.connect("").await;
    let id = other.id().await;
    other.ask(&format!("post-times {id} 1 100000")).await;
    let before = resident_kib(&server);
    let mut wires = Vec::new();
    for _ in 0..4 {
        wires.push(connect_full_peer(&server, 50_000).await);
    }
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown > 4 * 1024, "the server has buffered nothing: {grown} KiB");
    // The bound is the outboxes, the same again for other buffers, and 16 MiB for the sandboxes of the commands.
    assert!(grown < 4 * 2 * 2048 + 16 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn an_outbox_holds_the_configured_number_of_messages_and_no_more() {
    let server = Site::hostile_with("[connection]\noutbox_messages = 10").serve();
    let mut peer = server.connect("").await;
    peer.send("posts 10").await;
    for _ in 0..10 {
        assert_eq!(peer.text().await, "x");
    }
    assert_eq!(peer.text().await, "10");
    // While the handler runs, nothing of the outbox is sent, unless the handler yields at a tick of the CPU clock.
    for _ in 0..20 {
        peer.send("posts 11").await;
        let mut arrived = 0;
        let mut answer = peer.text().await;
        while answer == "x" {
            arrived += 1;
            answer = peer.text().await;
        }
        if answer != "11" {
            assert_eq!((arrived, &*answer), (10, "10 then more was sent than the peer takes"));
            return;
        }
    }
    panic!("no post was refused");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_for_too_long_is_disconnected() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"1s\"\nping_interval = \"none\"").serve();
    let mut wire = Wire::dial_with_small_buffer(&server).await;
    wire.upgrade("").await;
    let id = wire.ask("id").await;
    let mut other = server.connect("").await;
    let started = Instant::now();
    while other.ask(&format!("post-times {id} 1000 50000")).await != "0 then the connection is gone" {
        assert!(started.elapsed() < TEST_TIMEOUT);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.wait_for_disconnect(&id).await, "1006 ");
}

#[tokio::test]
async fn a_peer_that_reads_a_little_at_a_time_stays_connected() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"1s\"\nping_interval = \"none\"").serve();
    let mut wire = Wire::dial_with_small_buffer(&server).await;
    wire.upgrade("").await;
    let id = wire.ask("id").await;
    let mut other = server.connect("").await;
    let started = Instant::now();
    let mut received = vec![0; 20_000];
    while started.elapsed() < Duration::from_secs(4) {
        let answer = other.ask(&format!("post-times {id} 1000 50000")).await;
        assert!(!answer.ends_with("gone"), "{answer}, after {:?}", started.elapsed());
        for _ in 0..5 {
            wire.stream.read_exact(&mut received).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_stops_sending_can_still_be_closed() {
    let server = Site::hostile_with("[connection]\nduration = \"2s\"\nwrite_timeout = \"500ms\"").serve();
    let wire = Wire::open(&server, "").await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        bytes.extend(frame(FIN | TEXT, b"echo x"));
    }
    let opened = Instant::now();
    let flood = async { while writing.write_all(&bytes).await.is_ok() {} };
    let read = async {
        let mut received = Vec::new();
        let mut chunk = [0; 65536];
        while let Ok(count @ 1..) = reading.read(&mut chunk).await {
            received.extend_from_slice(&chunk[..count]);
        }
        received
    };
    let both = async { tokio::join!(flood, read) };
    let ((), received) = tokio::time::timeout(TEST_TIMEOUT, both).await.expect("the connection is not closed");
    assert!(opened.elapsed() >= Duration::from_secs(2), "it was cut off after {:?}", opened.elapsed());
    assert!(opened.elapsed() < Duration::from_secs(8), "it was closed only after {:?}", opened.elapsed());
    let answers = received.chunks_exact(3).take_while(|answer| *answer == [FIN | TEXT, 1, b'x']).count();
    assert!(answers > 100, "{answers} answers");
    let close = [&[FIN | CLOSE, 12, 0x03, 0xe9][..], b"Going away"].concat();
    assert_eq!(received[answers * 3..], close[..]);
}

#[tokio::test]
async fn a_shutdown_disconnects_a_peer_that_never_stops_sending() {
    let mut server = Site::hostile_with("[server]\nstop_timeout = \"20s\"").serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let bytes = frame(FIN | TEXT, b"echo x").repeat(1000);
    let flood = tokio::spawn(async move { while writing.write_all(&bytes).await.is_ok() {} });
    let read = tokio::spawn(async move {
        let mut chunk = [0; 65536];
        while let Ok(1..) = reading.read(&mut chunk).await {}
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    flood.await.unwrap();
    read.await.unwrap();
    assert_eq!(server.site.clone().serve().wait_for_disconnect(&id).await, "1001 Going away");
}

#[tokio::test]
async fn a_peer_that_never_stops_sending_gets_its_posts_and_delays_no_other_peer() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let bytes = frame(FIN | TEXT, b"silent").repeat(1000);
    let flood = tokio::spawn(async move { while writing.write_all(&bytes).await.is_ok() {} });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut peer = server.connect("").await;
    for _ in 0..20 {
        assert_eq!(peer.ask("echo in").await, "in");
        assert_eq!(peer.ask(&format!("post {id} hi")).await, "posted");
        let mut post = [0; 4];
        tokio::time::timeout(TEST_TIMEOUT, reading.read_exact(&mut post)).await.expect("the post is not sent").unwrap();
        assert_eq!(post, [FIN | TEXT, 2, b'h', b'i']);
    }
    flood.abort();
}

#[tokio::test]
async fn a_peer_that_never_stops_pinging_uses_no_memory_and_delays_no_other_peer() {
    let server = Site::hostile_with("[connection]\nduration = \"3s\"").serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let before = resident_kib(&server);
    let bytes = frame(FIN | PING, &[b'p'; 125]).repeat(1000);
    let flood = tokio::spawn(async move { while writing.write_all(&bytes).await.is_ok() {} });
    let mut peer = server.connect("").await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(peer.ask("echo in").await, "in");
    }
    // The peer reads none of the pongs.
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    drop(peer);
    let mut chunk = [0; 65536];
    while let Ok(Ok(1..)) = tokio::time::timeout(TEST_TIMEOUT, reading.read(&mut chunk)).await {}
    flood.await.unwrap();
    assert_eq!(server.wait_for_disconnect(&id).await, "1001 Going away");
}

// A pong or a close frame must not be written into the middle of another frame.
#[tokio::test]
async fn pongs_and_the_close_frame_come_after_a_message_that_is_half_written() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"60s\"\nping_interval = \"none\"").serve();
    let (mut wire, id) = connect_full_peer(&server, 50_000).await;
    for index in 0..100_u8 {
        wire.send(&frame(FIN | PING, &[index])).await;
    }
    wire.send(&frame(FIN | CLOSE, &[0x03, 0xe8])).await;
    assert_eq!(server.wait_for_disconnect(&id).await, "1000 ");
    // Everything that the server had begun to write arrives in whole frames.
    let mut last_pong = None;
    loop {
        let frame = wire.next().await.expect("the connection has ended without a close frame");
        match frame.opcode {
            TEXT => assert_eq!(frame.payload.len(), 50_000),
            PONG => {
                assert!(last_pong < Some(frame.payload[0]), "{last_pong:?}, then {frame:?}");
                last_pong = Some(frame.payload[0]);
            }
            _ => {
                assert_eq!(frame.close(), (1000, String::new()));
                break;
            }
        }
    }
    wire.wait_for_end().await;
}

#[tokio::test]
async fn a_peer_that_reads_again_gets_the_newest_pong() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"60s\"\nping_interval = \"none\"").serve();
    let (mut wire, id) = connect_full_peer(&server, 50_000).await;
    for index in 0..100_u8 {
        wire.send(&frame(FIN | PING, &[index])).await;
    }
    // RFC 6455 permits to answer only the newest of several pings.
    let mut pong = 0;
    while pong < 99 {
        let frame = wire.next().await.unwrap();
        if frame.opcode == PONG {
            assert!(frame.payload[0] >= pong, "{pong}, then {frame:?}");
            pong = frame.payload[0];
        } else {
            assert_eq!((frame.opcode, frame.payload.len()), (TEXT, 50_000));
        }
    }
    while server.post(&id, "the end").await.status != 200 {
        assert_eq!(wire.text().await.len(), 50_000);
    }
    while wire.text().await != "the end" {}
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_responses_gets_no_further_message_handled() {
    let server = Site::hostile_with("[connection]\nwrite_timeout = \"60s\"\nping_interval = \"none\"").serve();
    let wire = Wire::open(&server, "").await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let mut bytes = Vec::new();
    for index in 0..200 {
        bytes.extend(frame(FIN | TEXT, b"body 100000"));
        bytes.extend(frame(FIN | TEXT, format!("keep last echo {index}").as_bytes()));
    }
    // The task returns its half of the socket, because dropping it would close the connection.
    let flood = tokio::spawn(async move {
        writing.write_all(&bytes).await.unwrap();
        writing
    });
    let mut other = server.connect("").await;
    let (mut last, mut same) = (String::new(), 0);
    let started = Instant::now();
    while same < 10 {
        assert!(started.elapsed() < TEST_TIMEOUT, "the server goes on handling messages");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = other.ask("get last").await;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    assert!(last.parse::<usize>().unwrap() < 150, "all of them were handled: {last}");
    let mut received = 0;
    let mut chunk = [0; 65536];
    let expected = 200 * 100_010;
    while received < expected {
        let count = tokio::time::timeout(TEST_TIMEOUT, reading.read(&mut chunk)).await.unwrap().unwrap();
        assert!(count > 0, "it was cut off after {received} bytes");
        received += count;
    }
    drop(flood.await.unwrap());
}
