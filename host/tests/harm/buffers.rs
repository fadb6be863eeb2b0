//! Large messages to and from connections that are idle before and after: their buffers are given back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harm::{measure, measures, memory_kib};
use crate::harness::{Peer, Server, Site, TEST_TIMEOUT};
use crate::wire::{CONTINUATION, FIN, TEXT, Wire, frame};

const ATTACK: &str = "large messages on idle connections";

/// Bytes of a large message.
const MESSAGE_BYTES: usize = 120 * 1024;
/// Bytes of the fragments in which a peer sends one; a frame has at most 32 KiB.
const FRAME_BYTES: usize = 30 * 1024;

/// How long after a large message the memory of the idle connections is measured.
const WAIT: Duration = Duration::from_secs(20);
/// How much more memory each idle connection may hold then.
const KIB_MORE_MAX: f64 = 4.0;
/// The same where it is not measured: half of what a connection held that gave back nothing.
const KIB_MORE_MAX_ON_BUSY_MACHINES: f64 = 20.0;

/// A server with connections that are idle but for `other`.
struct IdleConnections {
    server: Server,
    idle: Vec<Wire>,
    other: Peer,
    kib_before: usize,
}

impl IdleConnections {
    async fn open() -> Self {
        let count = if measures() { 1000 } else { 250 };
        let server = Site::hostile_with("[connection]\nping_interval = \"none\"").serve();
        let mut idle = Vec::new();
        for _ in 0..count {
            let mut wire = Wire::open(&server, "").await;
            assert_eq!(wire.ask("echo open").await, "open");
            idle.push(wire);
        }
        let other = server.connect("").await;
        let mut connections = Self { server, idle, other, kib_before: 0 };
        // The memory that the server needs for large messages, however many connections there are.
        let mut warm_up = Wire::open(&connections.server, "").await;
        for _ in 0..10 {
            send_large(&mut warm_up).await;
            assert_eq!(warm_up.ask(&format!("body {MESSAGE_BYTES}")).await.len(), MESSAGE_BYTES);
        }
        drop(warm_up);
        connections.be_idle().await;
        connections.kib_before = connections.memory();
        connections
    }

    fn memory(&self) -> usize {
        memory_kib(self.server.process.id(), "VmRSS:")
    }

    /// How much more memory than at the start there is for each idle connection, in KiB.
    fn kib_more(&self) -> f64 {
        self.memory().saturating_sub(self.kib_before) as f64 / self.idle.len() as f64
    }

    /// Lets time pass in which only `other` sends messages, so that the allocator returns what is free.
    async fn be_idle(&mut self) {
        let end = Instant::now() + if measures() { WAIT } else { Duration::from_secs(2) };
        while Instant::now() < end {
            self.ask_other().await;
        }
    }

    async fn ask_other(&mut self) {
        assert_eq!(self.other.ask("echo other").await, "other");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Checks that the memory of all idle connections is given back after `what`.
    async fn assert_given_back(&mut self, what: &str) {
        if measures() {
            self.be_idle().await;
            let kib_more = self.kib_more();
            let bar = format!("20 s after {what}: at most {KIB_MORE_MAX} KiB more for each connection");
            measure(ATTACK, &bar, &format!("{kib_more:.1} KiB"), kib_more <= KIB_MORE_MAX);
            return;
        }
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.kib_more() > KIB_MORE_MAX_ON_BUSY_MACHINES {
            assert!(Instant::now() < deadline, "after {what} each connection holds {:.1} KiB more", self.kib_more());
            self.ask_other().await;
        }
    }
}

/// Sends a large message to a handler that answers nothing, and waits until it is handled.
async fn send_large(wire: &mut Wire) {
    let mut message = b"silent ".to_vec();
    message.resize(MESSAGE_BYTES, b'x');
    let fragments = message.chunks(FRAME_BYTES).enumerate().map(|(index, part)| {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        let fin = if (index + 1) * FRAME_BYTES >= MESSAGE_BYTES { FIN } else { 0 };
        frame(fin | opcode, part)
    });
    wire.send(&fragments.collect::<Vec<_>>().concat()).await;
    assert_eq!(wire.ask("echo handled").await, "handled");
}

// Seen: the write buffer of every connection kept 127 KiB after one broadcast of 120 KiB.
#[tokio::test]
async fn a_large_broadcast_leaves_nothing_on_idle_connections() {
    let mut connections = IdleConnections::open().await;
    let body = "b".repeat(MESSAGE_BYTES);
    let answer = connections.server.request("POST", "/dev/@jackfield/connections", &body).await;
    let sent = connections.idle.len() + 1;
    assert_eq!((answer.status, answer.body), (200, json!({ "sent": sent, "refused": 0 }).to_string()));
    for wire in &mut connections.idle {
        assert!(wire.text().await == body);
    }
    assert!(connections.other.text().await == body);
    connections.assert_given_back("one broadcast of 120 KiB").await;
    for wire in &mut connections.idle {
        assert_eq!(wire.ask("echo still here").await, "still here");
    }
}

// Seen: the read buffer of every connection stayed as large as the largest frame that it had received.
#[tokio::test]
async fn large_messages_leave_nothing_on_the_connections_that_sent_them() {
    let mut connections = IdleConnections::open().await;
    for wire in &mut connections.idle {
        send_large(wire).await;
    }
    connections.assert_given_back("a message of 120 KiB from each").await;
    // A large answer to each of them.
    for wire in &mut connections.idle {
        assert_eq!(wire.ask(&format!("body {MESSAGE_BYTES}")).await.len(), MESSAGE_BYTES);
    }
    connections.assert_given_back("a message of 120 KiB to each").await;
}
