//! Request heads that arrive too slowly or never end.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harm::{Attack, assert_rejected, flood};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, TEST_TIMEOUT, component};
use crate::wire::UPGRADE;

/// Clients that send a byte of their heads now and then.
const SLOW_CLIENTS: usize = 1_000;
/// The pause of such a client between two bytes.
const BYTE_PAUSE: Duration = Duration::from_millis(500);
/// Connections of each kind of endless head.
const ENDLESS_HEADS: usize = 20;

#[tokio::test]
async fn a_thousand_heads_that_arrive_a_byte_at_a_time_end_at_their_timeout() {
    // Many systems allow a process 1,024 open files, and more if it asks.
    rlimit::increase_nofile_limit(4 * SLOW_CLIENTS as u64).unwrap();
    let attack = Attack::start("slowloris heads", &component(HOSTILE), "", HOSTILE_GRANTS).await;
    let address = attack.server.address;
    let clients = join_all((0..SLOW_CLIENTS).map(|index| send_slowly(address, index)));
    // Other peers still get in.
    let others = async {
        for _ in 0..10 {
            assert_eq!(attack.server.connect("").await.ask("echo in").await, "in");
            tokio::time::sleep(BYTE_PAUSE).await;
        }
    };
    tokio::join!(clients, others);
    attack.end(32).await;
}

/// Sends a head a byte at a time until the server closes the connection. Every second client has sent a whole request
/// before, because the head of a later request needs a timeout too.
async fn send_slowly(server: SocketAddr, index: usize) {
    const FIRST: &[u8] = b"GET /dev/@connections/none HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = TcpStream::connect(server).await.unwrap();
    if index.is_multiple_of(2) {
        stream.write_all(FIRST).await.unwrap();
        assert!(stream.read_buf(&mut Vec::new()).await.unwrap() > 0, "the first request has no response");
    }
    let (mut reading, mut writing) = stream.into_split();
    let write = async {
        let start = format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Slow: ");
        let mut next = start.as_bytes();
        while writing.write_all(next).await.is_ok() {
            tokio::time::sleep(BYTE_PAUSE).await;
            next = b"a";
        }
        std::future::pending().await
    };
    let mut bytes = [0; 1024];
    let read = async { while reading.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    let end = async {
        tokio::select! {
            () = read => {}
            () = write => {}
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, end).await.expect("the head has no timeout");
}

#[tokio::test]
async fn heads_without_an_end_are_rejected_before_they_use_memory() {
    let attack = Attack::start("header bombs", &component(HOSTILE), "", HOSTILE_GRANTS).await;
    let address = attack.server.address;
    let upgrade = format!("GET /dev HTTP/1.1\r\n{UPGRADE}");
    let (long, letters) = (format!("{upgrade}X-Long: "), "a".repeat(64 * 1024));
    let (headers, lines) = ("X-Many: 1\r\n".repeat(6_000), "\r\n".repeat(32_000));
    let (folded, folds) = (format!("{long}\r\n"), " a\r\n".repeat(16_000));
    for (what, start, more) in [
        ("a header without an end", &*long, &*letters),
        ("a header name without an end", &upgrade, &letters),
        ("headers without an end", &upgrade, &headers),
        ("a request line without an end", "GET /", &letters),
        ("a method without an end", "A", &letters),
        ("empty lines without an end", "\r\n", &lines),
        ("folded lines without an end", &folded, &folds),
        ("no HTTP at all", "\0\0\0\0", &letters),
    ] {
        // A rejected client may send a little more before it learns that the connection is closed.
        let floods = (0..ENDLESS_HEADS).map(|_| flood(address, start.as_bytes(), more.as_bytes(), 64 * 1024 * 1024));
        assert_rejected(what, &join_all(floods).await);
    }
    attack.end(32).await;
}
