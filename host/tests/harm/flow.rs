//! Peers that keep the server busy with tiny pieces, or make it hold much for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::harm::{Attack, BYSTANDER_MESSAGE, MEASURED_FLOOD_PAUSE, measure, measures, memory_kib};
use crate::harness::{ECHO, Server, Site, TEST_TIMEOUT, component, eventually};
use crate::metrics::Metrics;
use crate::wire::{CONTINUATION, FIN, PING, TEXT, Wire, frame};

/// Peers that flood at the same time.
const FLOODS: usize = 8;
/// How much longer an answer may take during such a flood.
const DELAY_MAX: Duration = Duration::from_millis(10);
/// How long a flood is measured.
const MEASURED_FLOOD: Duration = Duration::from_secs(4);

const OVER_BUDGET: (u16, &str) = (1013, "Try again later");
const KIB: usize = 1024;

/// Peers that send `start`, and then `more` again and again, and read what comes back.
async fn start_floods(server: &Server, start: &[u8], more: &[u8], stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let mut floods = Vec::new();
    for _ in 0..FLOODS {
        let (mut reading, mut writing) = Wire::open(server, "").await.stream.into_split();
        let (start, more, stop) = (start.to_vec(), more.to_vec(), Arc::clone(stop));
        floods.push(tokio::spawn(async move {
            let mut chunk = vec![0; 64 * KIB];
            let read = async {
                while reading.read(&mut chunk).await.unwrap() > 0 {}
                panic!("the server has closed a connection");
            };
            let write = async {
                writing.write_all(&start).await.unwrap();
                while !stop.load(Ordering::SeqCst) {
                    writing.write_all(&more).await.unwrap();
                    tokio::time::sleep(MEASURED_FLOOD_PAUSE).await;
                }
            };
            tokio::select! {
                () = read => {}
                () = write => {}
            }
        }));
    }
    floods
}

/// Floods the plugin that is not the bystanders' one, and checks that all connections stay open.
async fn flood(attack: Attack, start: &[u8], more: &[u8]) {
    let stop = Arc::default();
    let floods = start_floods(&attack.server, start, more, &stop).await;
    let mut peer = attack.server.connect("").await;
    for _ in 0..20 {
        assert_eq!(peer.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
    }
    if measures() {
        tokio::time::sleep(MEASURED_FLOOD).await;
    }
    let _server = attack.end_within(64, DELAY_MAX).await;
    stop.store(true, Ordering::SeqCst);
    for flood in floods {
        flood.await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_tiny_messages_delays_no_echo() {
    let attack = Attack::start("tiny messages of eight peers", &component(ECHO), "", "").await;
    flood(attack, &[], &frame(FIN | TEXT, b"x").repeat(4 * KIB)).await;
}

#[tokio::test]
async fn a_flood_of_tiny_messages_without_a_sandbox_delays_no_echo() {
    let attack = Attack::start_on("tiny messages without a sandbox", server_without_sandbox()).await;
    flood(attack, &[], &frame(FIN | TEXT, b"x").repeat(4 * KIB)).await;
}

#[tokio::test]
async fn a_flood_of_empty_fragments_delays_no_echo() {
    let attack = Attack::start("empty fragments of eight peers", &component(ECHO), "", "").await;
    flood(attack, &frame(TEXT, b""), &frame(CONTINUATION, b"").repeat(4 * KIB)).await;
}

#[tokio::test]
async fn a_flood_of_pings_delays_no_echo() {
    let attack = Attack::start("pings of eight peers", &component(ECHO), "", "").await;
    flood(attack, &[], &frame(FIN | PING, b"").repeat(4 * KIB)).await;
}

/// A server whose `$default` route accepts every message at once, without a sandbox. Its route `bystander` is as that of
/// an attack.
fn server_without_sandbox() -> Server {
    Site::new(&format!(
        r#"
[integrations.silent]
type = "mock"
[integrations.bystander]
component = {:?}
[routes]
"$default" = "silent"
bystander = {{ integration = "bystander", route_response = true }}
"#,
        component(ECHO)
    ))
    .serve()
}

/// Seen: two peers with tiny messages held an echo up for 3.3 s. One read returns hundreds of them, and a task may read 128
/// times before tokio makes it wait, so that it handled 37,000 messages in a row. In the time for the messages of this
/// test, an echo was answered ten times.
#[tokio::test]
async fn while_eight_peers_send_thousands_of_tiny_messages_an_echo_is_answered_again_and_again() {
    const MESSAGES: usize = 30_000;
    let server = server_without_sandbox();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
    let left = Arc::new(AtomicUsize::new(FLOODS));
    let mut bytes = frame(FIN | TEXT, b"x").repeat(MESSAGES);
    bytes.extend(frame(FIN | TEXT, BYSTANDER_MESSAGE.as_bytes()));
    for _ in 0..FLOODS {
        let mut wire = Wire::open(&server, "").await;
        let (left, bytes) = (Arc::clone(&left), bytes.clone());
        tokio::spawn(async move {
            wire.send(&bytes).await;
            // The answer to the last message.
            assert_eq!(wire.text().await, BYSTANDER_MESSAGE);
            left.fetch_sub(1, Ordering::SeqCst);
        });
    }
    let mut echoes = 0;
    let answered = async {
        while left.load(Ordering::SeqCst) > 0 {
            assert_eq!(peer.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
            echoes += 1;
        }
    };
    tokio::time::timeout(4 * TEST_TIMEOUT, answered).await.expect("the messages are not answered");
    assert!(echoes >= 60, "{echoes} answers");
}

/// A server that may hold `size` for all peers.
fn server_with_memory(size: &str) -> Server {
    Site::hostile_with(&format!(
        "[server]\npeer_memory = \"{size}\"\nmetrics = \"127.0.0.1:0\"\n\
         [connection]\noutbox_size = \"3MiB\"\nwrite_timeout = \"60s\""
    ))
    .serve()
}

/// A message in fragments of 32 KiB. Without `end`, its last fragment is missing.
fn fragments(payload: &[u8], end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, piece) in payload.chunks(32 * KIB).enumerate() {
        bytes.extend(frame(if index == 0 { TEXT } else { CONTINUATION }, piece));
    }
    if end {
        bytes.extend(frame(FIN | CONTINUATION, b""));
    }
    bytes
}

/// Opens a connection that reads nothing. Returns it and its id.
async fn stalled_peer(server: &Server) -> (Wire, String) {
    let mut wire = Wire::dial_with_small_buffer(server).await;
    wire.upgrade("").await;
    let id = wire.ask("id").await;
    (wire, id)
}

/// Posts to a peer that reads nothing until its outbox has refused three posts in a row. The kernel may accept more bytes
/// a moment after the first refusal.
async fn fill(server: &Server, id: &str) {
    let mut other = server.connect("").await;
    let mut refused = 0;
    let filled = async {
        while refused < 3 {
            let answer = other.ask(&format!("post-times {id} 1000 50000")).await;
            refused = if answer == "0 then more was sent than the peer takes" { refused + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, filled).await.expect("the outbox does not fill");
}

#[tokio::test]
async fn a_post_beyond_the_memory_of_all_peers_closes_the_one_that_holds_most_and_no_other() {
    let server = server_with_memory("4MiB");
    let metrics = Metrics::for_server(&server).await;
    let mut bystander = server.connect("").await;
    let (_first, first) = stalled_peer(&server).await;
    let (mut second, second_id) = stalled_peer(&server).await;
    fill(&server, &first).await;
    let counted = metrics.read().await;
    assert_eq!(counted.value("jackfield_peer_memory_closes_total"), 0.0, "one full outbox is within the limit");
    assert_eq!(counted.value("jackfield_peer_memory_refusals_total"), 0.0);
    assert_eq!(server.post(&first, "hello").await.status, 200);

    fill(&server, &second_id).await;
    assert_eq!(server.wait_for_disconnect(&first).await, "1013 Try again later");
    let line = server.log.wait_for_line(&["closed the connection that holds most", "peer_memory"]).await;
    assert!(line.contains(&first), "{line}");
    let counted = metrics.read().await;
    assert_eq!(counted.value("jackfield_peer_memory_closes_total"), 1.0);
    assert!(counted.value("jackfield_peer_memory_refusals_total") >= 1.0);
    assert_eq!(bystander.ask("echo still here").await, "still here");
    // The second one is served on.
    assert_eq!(server.post(&second_id, "the last one").await.status, 200);
    while second.text().await != "the last one" {}
    assert_eq!(second.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn a_broadcast_to_peers_that_do_not_read_counts_once() {
    const STALLED: usize = 30;
    const POSTS: usize = 10;
    let server = server_with_memory("2MiB");
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(stalled_peer(&server).await.0);
    }
    // All outboxes together hold more than ten times the limit. The kernel takes a part of it.
    let text = "b".repeat(100_000);
    for _ in 0..POSTS {
        let answer = server.request("POST", "/dev/@jackfield/connections", &text).await;
        assert_eq!(answer.status, 200);
        let counts: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(counts, json!({ "sent": STALLED, "refused": 0 }));
    }
    let received = stalled.iter_mut().map(|wire| async {
        for _ in 0..POSTS {
            assert_eq!(wire.text().await, text);
        }
        assert_eq!(wire.ask("echo in").await, "in");
    });
    join_all(received).await;
}

#[tokio::test]
async fn messages_that_never_end_count_and_no_peer_is_read_until_the_worst_are_closed() {
    const PEERS: usize = 10;
    // As many of them fit into a mebibyte, and one more does not.
    const FIT: usize = 8;
    let server = server_with_memory("1MiB");
    let metrics = Metrics::for_server(&server).await;
    let closes = async || metrics.read().await.value("jackfield_peer_memory_closes_total") as usize;
    let mut bystander = server.connect("").await;
    let body = [b"echo ".to_vec(), vec![b'x'; 120 * KIB]].concat();
    let mut wires = Vec::new();
    for _ in 0..FIT {
        let mut wire = Wire::open(&server, "").await;
        wire.send(&fragments(&body, false)).await;
        // The pong shows that everything before the ping has arrived.
        wire.send(&frame(FIN | PING, b"arrived")).await;
        assert_eq!(wire.next().await.unwrap().payload, b"arrived");
        wires.push(wire);
    }
    assert_eq!(bystander.ask("echo within the limit").await, "within the limit");
    for _ in FIT..PEERS {
        let mut wire = Wire::open(&server, "").await;
        wire.send(&fragments(&body, false)).await;
        wires.push(wire);
    }
    eventually("the worst are closed", async || closes().await == PEERS - FIT).await;
    assert_eq!(bystander.ask("echo again").await, "again");
    assert_eq!(closes().await, PEERS - FIT);
    let ends = wires.iter_mut().map(|wire| async {
        wire.try_send(&frame(FIN | CONTINUATION, b"")).await;
        match wire.next().await {
            Some(frame) if frame.opcode == TEXT => Some(frame.payload.len()),
            Some(frame) => {
                assert_eq!(frame.close(), (OVER_BUDGET.0, OVER_BUDGET.1.to_owned()));
                None
            }
            None => panic!("closed without a close frame"),
        }
    });
    let ends = join_all(ends).await;
    assert_eq!(ends.iter().filter(|end| **end == Some(120 * KIB)).count(), FIT, "{ends:?}");
}

const PEERS_WITH_BACKLOGS: usize = 300;

async fn open_peers(server: &Server) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..PEERS_WITH_BACKLOGS {
        wires.push(Wire::open(server, "").await);
    }
    wires
}

/// Each peer sends a message of 31 KiB whose handler sleeps for a second, and `waiting` more that wait behind it. Reads
/// all answers.
async fn exchange(wires: &mut [Wire], waiting: usize) {
    let message = |command: &str| frame(FIN | TEXT, format!("{command} {}", "x".repeat(31 * KIB)).as_bytes());
    let bytes = [message("later 1000 echo"), message("echo").repeat(waiting)].concat();
    let exchanges = wires.iter_mut().map(|wire| async {
        wire.send(&bytes).await;
        for _ in 0..=waiting {
            assert_eq!(wire.text().await.len(), 31 * KIB);
        }
    });
    join_all(exchanges).await;
}

#[tokio::test]
async fn backlogs_of_three_hundred_peers_are_answered_and_their_memory_is_given_back() {
    let server = Site::hostile().serve();
    // The slots of the handlers keep memory, so each has had such a message before.
    exchange(&mut open_peers(&server).await, 0).await;
    let mut wires = open_peers(&server).await;
    let before = memory_kib(server.process.id(), "VmRSS:");
    exchange(&mut wires, 4).await;
    if measures() {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = memory_kib(server.process.id(), "VmRSS:");
        let seen = format!("{} MiB, then {} MiB", before / KIB, after / KIB);
        measure("large backlogs", "memory after 10 s: at most 1.3 times", &seen, after * 10 <= before * 13);
    }
    for mut wire in wires {
        assert_eq!(wire.ask("echo still here").await, "still here");
    }
}
