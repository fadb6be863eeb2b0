//! Messages, from the socket to the handler and back.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{ECHO, Peer, Server, Site, component, lean_echo, manifest};
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, UPGRADE, Wire, frame, head};

const FRAME_BYTES: usize = 32 * 1024;
const MESSAGE_BYTES: usize = 128 * 1024;

/// Returns a command of `bytes` bytes for the hostile guest, and the answer to it.
fn echo(bytes: usize) -> (String, String) {
    let answer = "x".repeat(bytes - "echo ".len());
    (format!("echo {answer}"), answer)
}

/// Sends bytes on a new connection. Returns the next frame of the server.
async fn send_raw(server: &Server, bytes: &[u8]) -> Option<Frame> {
    let mut wire = Wire::open(server, "").await;
    wire.try_send(bytes).await;
    wire.next().await
}

/// Asserts that the server closes with this code and reason when it gets these bytes, and then ends the TCP connection.
async fn assert_closed(server: &Server, bytes: &[u8], code: u16, reason: &str) {
    let mut wire = Wire::open(server, "").await;
    wire.try_send(bytes).await;
    let closed = wire.closed().await;
    assert_eq!(closed, (code, reason.to_owned()), "for {:?}", &bytes[..bytes.len().min(20)]);
    wire.wait_for_end().await;
}

/// Returns the frames of a text message in fragments of these lengths.
fn fragments(text: &str, lengths: &[usize]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    for (index, length) in lengths.iter().enumerate() {
        let (part, after) = rest.split_at(*length);
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        let fin = if after.is_empty() && index + 1 == lengths.len() { FIN } else { 0 };
        bytes.extend(frame(fin | opcode, part));
        rest = after;
    }
    assert!(rest.is_empty());
    bytes
}

/// Returns whether the peer has received nothing.
fn received_nothing(peer: &mut Peer) -> bool {
    peer.socket.next().now_or_never().is_none()
}

#[tokio::test]
async fn components_of_both_targets_return_the_message() {
    for component in [component(ECHO), lean_echo()] {
        let server = Site::new(&manifest(&component, "", r#"grants = ["connections", "connection-store"]"#)).serve();
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask(r#"{"action":"echo","content":"hello"}"#).await, "hello");
        assert_eq!(peer.ask("not JSON").await, "not JSON");
    }
}

#[tokio::test]
async fn responses_arrive_in_the_order_of_the_messages() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let mut bytes = Vec::new();
    for index in 0..500 {
        let wait = if index % 100 == 7 { "later 50 " } else { "" };
        bytes.extend(frame(FIN | TEXT, format!("{wait}echo {index}").as_bytes()));
    }
    wire.send(&bytes).await;
    for index in 0..500 {
        assert_eq!(wire.text().await, index.to_string());
    }
}

#[tokio::test]
async fn the_next_message_of_a_connection_waits_until_the_previous_one_is_handled() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    peer.send("later 300 set first done").await;
    peer.send("get first").await;
    assert_eq!(peer.text().await, "set");
    assert_eq!(peer.text().await, "done");
}

#[tokio::test]
async fn posts_of_a_handler_to_its_own_connection_arrive_before_its_response() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    for _ in 0..10 {
        peer.send("posts 3").await;
        for expected in ["x", "x", "x", "3"] {
            assert_eq!(peer.text().await, expected);
        }
    }
}

#[tokio::test]
async fn a_handler_that_sleeps_or_spins_delays_no_other_connection() {
    let server = Site::hostile_with("").serve();
    for busy in ["sleep 4000", "spin"] {
        let (mut one, mut other) = (server.connect("").await, server.connect("").await);
        one.send(busy).await;
        for index in 0..5 {
            let index = index.to_string();
            assert_eq!(other.ask(&format!("echo {index}")).await, index);
        }
        assert!(received_nothing(&mut one), "{busy} ended before the others were answered");
    }
}

#[tokio::test]
async fn pings_are_answered_while_a_handler_runs() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    wire.send_text("sleep 2000").await;
    for payload in ["".as_bytes(), b"abc", &[0xff; 125]] {
        wire.send(&frame(FIN | PING, payload)).await;
        assert_eq!(wire.next().await, Some(Frame { opcode: PONG, payload: payload.to_vec() }));
    }
    assert_eq!(wire.text().await, "awake");
}

#[tokio::test]
async fn a_close_frame_is_answered_while_a_handler_runs() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    wire.send_text("keep slept sleep 3000").await;
    wire.send(&frame(FIN | CLOSE, &[0x03, 0xe8])).await;
    assert_eq!(wire.next().await.unwrap().close(), (1000, String::new()));
    assert_eq!(server.post(&id, "late").await.status, 410);
    let mut other = server.connect("").await;
    assert_eq!(other.ask("get slept").await, "none", "the handler had ended before");
    assert_eq!(other.ask(&format!("ended {id}")).await, "none", "$disconnect came before the handler's end");
    assert_eq!(server.wait_for_disconnect(&id).await, "1000 ");
    assert_eq!(other.ask("get slept").await, "awake", "the handler was cut off");
}

#[tokio::test]
async fn the_socket_is_not_read_while_sixteen_messages_wait_for_a_handler() {
    let server = Site::hostile().serve();
    for (waiting, is_read) in [(15, true), (16, false)] {
        let mut wire = Wire::open(&server, "").await;
        let mut bytes = frame(FIN | TEXT, b"sleep 1500");
        for index in 0..waiting {
            bytes.extend(frame(FIN | TEXT, format!("echo {index}").as_bytes()));
        }
        bytes.extend(frame(FIN | PING, b"still there?"));
        wire.send(&bytes).await;
        let mut texts = Vec::new();
        let mut texts_before_pong = None;
        while texts.len() < waiting + 1 || texts_before_pong.is_none() {
            let frame = wire.next().await.unwrap();
            match frame.opcode {
                PONG => texts_before_pong = Some(texts.len()),
                _ => texts.push(frame.text().to_owned()),
            }
        }
        let expected: Vec<_> = std::iter::once("awake".to_owned()).chain((0..waiting).map(|i| i.to_string())).collect();
        assert_eq!(texts, expected);
        assert_eq!(
            texts_before_pong == Some(0),
            is_read,
            "{waiting} waiting: {texts_before_pong:?} answers came first"
        );
    }
}

#[tokio::test]
async fn a_frame_may_have_32_kib_and_no_more() {
    let server = Site::hostile().serve();
    let (command, answer) = echo(FRAME_BYTES);
    let mut peer = server.connect("").await;
    assert!(peer.ask(&command).await == answer);
    let reason = "a message has at most 131072 bytes, a frame 32768";
    assert_closed(&server, &frame(FIN | TEXT, &[b'x'; FRAME_BYTES + 1]), 1009, reason).await;
    assert_closed(&server, &frame(FIN | BINARY, &[b'x'; FRAME_BYTES + 1]), 1009, reason).await;
    // The server closes as soon as a header announces too long a payload. It does not wait for the payload.
    assert_closed(&server, &head(FIN | TEXT, FRAME_BYTES + 1), 1009, reason).await;
    assert_closed(&server, &head(FIN | TEXT, usize::MAX >> 1), 1009, reason).await;
    assert_closed(&server, &head(CONTINUATION, FRAME_BYTES + 1), 1009, reason).await;
}

#[tokio::test]
async fn a_message_may_have_128_kib_and_no_more() {
    let server = Site::hostile().serve();
    let (command, answer) = echo(MESSAGE_BYTES);
    let mut wire = Wire::open(&server, "").await;
    wire.send(&fragments(&command, &[FRAME_BYTES; 4])).await;
    assert!(wire.text().await == answer);
    wire.send(&fragments(&command, &[1, FRAME_BYTES, FRAME_BYTES - 1, FRAME_BYTES, 0, FRAME_BYTES, 0])).await;
    assert!(wire.text().await == answer);

    let reason = "a message has at most 131072 bytes, a frame 32768";
    let (command, _) = echo(MESSAGE_BYTES + 1);
    assert_closed(
        &server,
        &fragments(&command, &[FRAME_BYTES, FRAME_BYTES, FRAME_BYTES, FRAME_BYTES, 1]),
        1009,
        reason,
    )
    .await;
    // The server does not wait for the end of a message that has become too long.
    let mut endless = fragments(&command[..FRAME_BYTES], &[FRAME_BYTES]);
    endless[0] = TEXT;
    for _ in 0..4 {
        endless.extend(frame(CONTINUATION, &[b'x'; FRAME_BYTES]));
    }
    assert_closed(&server, &endless, 1009, reason).await;
}

#[tokio::test]
async fn the_manifest_changes_the_limits_of_messages() {
    let server = Site::hostile_with("[connection]\nmessage_size = \"1KiB\"").serve();
    let mut peer = server.connect("").await;
    let (command, answer) = echo(1024);
    assert_eq!(peer.ask(&command).await, answer);
    assert_eq!(peer.ask("body 1024").await.len(), 1024);
    assert!(peer.ask("body 1025").await.starts_with(r#"{"message": "Internal server error", "#));
    peer.send(&echo(1025).0).await;
    assert_eq!(peer.closed().await, (1009, "a message has at most 1024 bytes, a frame 1024".to_owned()));

    let server = Site::hostile_with("[connection]\nmessage_size = \"1MiB\"\nframe_size = \"1MiB\"").serve();
    let mut peer = server.connect("").await;
    let (command, answer) = echo(1 << 20);
    assert!(peer.ask(&command).await == answer);
    peer.send(&echo((1 << 20) + 1).0).await;
    assert_eq!(peer.closed().await.0, 1009);
}

#[tokio::test]
async fn control_frames_may_come_between_fragments() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    wire.send(&frame(TEXT, b"echo he")).await;
    wire.send(&frame(FIN | PING, b"between")).await;
    assert_eq!(wire.next().await, Some(Frame { opcode: PONG, payload: b"between".to_vec() }));
    wire.send(&frame(FIN | PONG, b"unsolicited")).await;
    wire.send(&frame(FIN | CONTINUATION, b"llo")).await;
    assert_eq!(wire.text().await, "hello");
}

// The state of a message that is incomplete is never dropped, although the buffers are dropped between two messages.
#[tokio::test]
async fn a_message_may_arrive_in_any_two_pieces_between_which_others_are_sent() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let long = echo(FRAME_BYTES);
    let fragmented = format!("echo {}", "y".repeat(200));
    let end = FIN | CONTINUATION;
    for (frames, answer) in [
        (vec![frame(FIN | TEXT, b"echo short")], "short"),
        (vec![frame(FIN | TEXT, long.0.as_bytes())], &*long.1),
        (vec![frame(TEXT, b"echo h"), frame(CONTINUATION, b""), frame(FIN | PING, b"p"), frame(end, b"i")], "hi"),
        (vec![frame(TEXT, &fragmented.as_bytes()[..130]), frame(end, &fragmented.as_bytes()[130..])], &fragmented[5..]),
    ] {
        let bytes = frames.concat();
        // Each byte of a header and a few of the payloads.
        for split in (0..bytes.len().min(40)).chain([bytes.len() / 2, bytes.len() - 1]) {
            wire.send(&bytes[..split]).await;
            // The first post is sent while the server may still read; the second one after it has read all bytes.
            for _ in 0..2 {
                assert_eq!(server.post(&id, "a post").await.status, 200);
                assert_eq!(wire.text().await, "a post", "after {split} bytes");
            }
            wire.send(&bytes[split..]).await;
            assert!(wire.text().await == answer, "after {split} bytes of {} frames", frames.len());
        }
    }
}

#[tokio::test]
async fn a_frame_may_begin_in_the_packet_of_the_handshake() {
    let server = Site::hostile().serve();
    let bytes =
        [frame(TEXT, b"echo fi"), frame(FIN | CONTINUATION, b"rst"), frame(FIN | TEXT, b"echo second")].concat();
    for split in [1, 2, 7, 13, 14, 20, 22, bytes.len()] {
        let mut wire = Wire::dial(&server).await;
        let request = format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n");
        wire.send(&[request.as_bytes(), &bytes[..split]].concat()).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
        wire.send(&bytes[split..]).await;
        assert_eq!(wire.text().await, "first", "after {split} bytes");
        assert_eq!(wire.text().await, "second", "after {split} bytes");
    }
}

#[tokio::test]
async fn a_text_message_must_be_utf8_as_a_whole() {
    let server = Site::hostile().serve();
    let text = "echo \u{e4}\u{20ac}\u{1f600}\u{0}";
    let mut wire = Wire::open(&server, "").await;
    for cut in 1..text.len() {
        wire.send(&fragments(text, &[cut, text.len() - cut])).await;
        assert_eq!(wire.text().await, text[5..], "cut at {cut}");
    }
    for bad in [&b"echo \xff"[..], b"echo \xc3", b"echo \xed\xa0\x80", b"echo \xc0\xaf", b"echo \xf4\x90\x80\x80"] {
        assert_closed(&server, &frame(FIN | TEXT, bad), 1007, "text is not UTF-8").await;
    }
    let cut = [frame(TEXT, b"echo \xc3"), frame(FIN | CONTINUATION, b"\x28")].concat();
    assert_closed(&server, &cut, 1007, "text is not UTF-8").await;
    let binary = send_raw(&server, &frame(FIN | BINARY, b"\xff\xfe")).await;
    assert_eq!(
        binary,
        Some(Frame { opcode: BINARY, payload: vec![0, 1, 254, 255] }),
        "a binary message may have any bytes"
    );
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_closed_with_1002() {
    let server = Site::hostile().serve();
    let unmasked = [FIN | TEXT, 4, b'e', b'c', b'h', b'o'];
    let broken: [(&str, Vec<u8>); 11] = [
        ("an unmasked frame", unmasked.to_vec()),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, b"echo")),
        ("a reserved kind of data", frame(FIN | 3, b"")),
        ("a reserved kind of control", frame(FIN | 11, b"")),
        ("a continuation without a message", frame(FIN | CONTINUATION, b"echo")),
        ("a message within a message", [frame(TEXT, b"echo"), frame(FIN | TEXT, b"echo")].concat()),
        ("a ping in fragments", frame(PING, b"")),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126])),
        ("a close of one byte", frame(FIN | CLOSE, &[3])),
        ("a close in fragments", frame(CLOSE, &[0x03, 0xe8])),
        ("an HTTP request", b"GET /dev HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (problem, bytes) in broken {
        eprintln!("{problem}");
        assert_closed(&server, &bytes, 1002, "protocol error").await;
    }
    assert_eq!(server.connect("").await.ask("echo in").await, "in", "other connections are not affected");
}

#[tokio::test]
async fn messages_sent_before_a_protocol_error_are_still_handled() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let bytes = [
        frame(FIN | TEXT, b"later 200 set one handled"),
        frame(FIN | TEXT, b"set two handled"),
        frame(FIN | CONTINUATION, b""),
    ];
    wire.send(&bytes.concat()).await;
    assert_eq!(wire.closed().await, (1002, "protocol error".to_owned()));
    assert_eq!(server.wait_for_disconnect(&id).await, "1002 protocol error");
    let mut other = server.connect("").await;
    assert_eq!(other.ask("get one").await, "handled");
    assert_eq!(other.ask("get two").await, "handled");
}

#[tokio::test]
async fn the_server_sends_each_message_as_one_frame_whatever_its_length() {
    let server = Site::hostile().serve();
    let mut wire = Wire::open(&server, "").await;
    for length in [0, 125, 126, 65_535, 65_536, MESSAGE_BYTES] {
        wire.send_text(&format!("body {length}")).await;
        let frame = tokio::time::timeout(Duration::from_secs(20), wire.next()).await.unwrap().unwrap();
        assert_eq!((frame.opcode, frame.payload.len()), (TEXT, length));
    }
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(&format!("body {MESSAGE_BYTES}")).await.len(), MESSAGE_BYTES);
    peer.send("binary").await;
    assert_eq!(peer.next().await, Some(Message::binary(vec![0, 1, 254, 255])));
}
