//! Request heads that arrive too slowly or never end, and responses that are not read.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harm::{Attack, assert_rejected, flood, measure, site};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, TEST_TIMEOUT, component};
use crate::wire::{UPGRADE, Wire};

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

/// Clients of `/metrics`, and of the admin listener. Each listener has at most 64 at the same time.
const OPERATOR_CLIENTS: usize = 400;
/// The files that both listeners may take, with some for the peers of the attack.
const OPERATOR_FILES_MAX: usize = 2 * 64 + 32;

#[tokio::test]
async fn slow_clients_of_metrics_and_admin_end_at_their_timeout_and_take_few_files() {
    let name = "slow clients of /metrics and admin";
    let sections = "server = { metrics = \"127.0.0.1:0\" }\nadmin = { listen = \"127.0.0.1:0\" }";
    let attack = Attack::start_in(name, &site(&component(HOSTILE), sections, HOSTILE_GRANTS)).await;
    let server = &attack.server;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for words in ["metrics on http://", "admin on http://"] {
        let line = server.log.wait_for_line(&[words]).await;
        let (_, rest) = line.split_once("http://").unwrap();
        addresses.push(rest.split('/').next().unwrap().parse().unwrap());
    }
    let open_files = || fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap().count();
    let before = open_files();
    // A few clients also send a whole request before.
    let clients = addresses.iter().flat_map(|address| (0..20).map(|index| send_slowly(*address, index)));
    join_all(clients).await;
    // More than the listeners accept: the others are closed at once.
    let many = addresses.iter().flat_map(|address| (0..OPERATOR_CLIENTS).map(|_| send_slowly(*address, 1)));
    let mut most = 0;
    let count = async {
        loop {
            most = open_files().max(most);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        _ = join_all(many) => {}
        () = count => {}
    }
    let taken = most.saturating_sub(before);
    measure(name, "open files: at most 160 more", &taken.to_string(), taken <= OPERATOR_FILES_MAX);
    assert!(taken <= OPERATOR_FILES_MAX, "{taken} files were open in addition");
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(server.http_at(addresses[0], health).await.body, "ok\n");
    attack.end(16).await;
}

/// Clients that send requests and read no response.
const CLIENTS_THAT_DO_NOT_READ: usize = 30;

#[tokio::test]
async fn clients_that_read_no_response_lose_their_connections() {
    let attack = Attack::start("responses that are not read", &component(HOSTILE), "", HOSTILE_GRANTS).await;
    let path = "/dev/@connections/none";
    join_all((0..CLIENTS_THAT_DO_NOT_READ).map(|_| send_without_reading(&attack.server, path))).await;
    attack.end(32).await;
}

/// Sends requests until the server closes the connection.
pub async fn send_without_reading(server: &Server, path: &str) {
    let requests = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(1_000);
    // With a small buffer in the kernel, the server soon has to wait.
    let mut stream = Wire::dial_with_small_buffer(server).await.stream;
    let write = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(2 * TEST_TIMEOUT, write).await.expect("the server waits for a client that does not read");
}
