//! Reload under load: who talks all the time notices nothing but that the answers are newer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::components::{put, version};
use crate::harness::{HOSTILE_GRANTS, Peer, Site, eventually, manifest};

const PEERS: u32 = 200;
const REPLACEMENTS: u32 = 50;
/// Of so many components one is broken.
const BROKEN_EVERY: u32 = 5;
/// Between the answer to one pair of messages and the next pair: all together 4000 messages a second.
const PAUSE: Duration = Duration::from_millis(100);

/// The newest version that anybody was answered by.
#[derive(Default)]
struct Newest(AtomicU32);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_200_peers_send_50_replacements_lose_no_connection_and_no_answer_and_none_comes_from_an_older_version() {
    let site = Site::new(&manifest("guest.wasm".as_ref(), "", HOSTILE_GRANTS));
    let guest = site.path().join("guest.wasm");
    put(&guest, version(1));
    let server = site.serve();
    let (newest, enough) = (Arc::new(Newest::default()), Arc::new(AtomicBool::new(false)));
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let peer = server.connect("").await;
        peers.push(tokio::spawn(talk(peer, Arc::clone(&newest), Arc::clone(&enough))));
    }

    let mut told = 0;
    for number in 2..=REPLACEMENTS + 1 {
        let bytes = version(number);
        if number % BROKEN_EVERY == 0 {
            // Each is cut elsewhere, so each is told.
            put(&guest, &bytes[..bytes.len() / 2 + number as usize]);
            told += 1;
            eventually("the broken one is refused", || async {
                server.log.text().matches("it is cut off or damaged").count() == told
            })
            .await;
            continue;
        }
        put(&guest, bytes);
        eventually("the new one answers", || async { newest.0.load(Ordering::SeqCst) == number }).await;
    }

    enough.store(true, Ordering::SeqCst);
    let mut events = 0;
    for peer in peers {
        events += peer.await.unwrap();
    }
    assert!(events > PEERS * REPLACEMENTS, "they talked too little: {events} events");
    // The log comes after the answers.
    let live = || server.log.text().matches(" live plugin=guest").count();
    eventually("each is told", || async { live() == (REPLACEMENTS - REPLACEMENTS / BROKEN_EVERY) as usize }).await;
    let text = server.log.text();
    assert_eq!(text.matches("WARN").count(), 0, "an event failed: {text}");
}

/// Sends two messages at a time until it is enough; says how many there were. Every answer must be
/// that to the oldest open message, and from no version that is older than one known before it was sent.
async fn talk(mut peer: Peer, newest: Arc<Newest>, enough: Arc<AtomicBool>) -> u32 {
    let mut sent = 0;
    while !enough.load(Ordering::SeqCst) {
        let known = newest.0.load(Ordering::SeqCst);
        for tag in [sent, sent + 1] {
            peer.send(&format!("stamp {tag}")).await;
        }
        for tag in [sent, sent + 1] {
            let answer = peer.text().await;
            let (number, found) = answer.split_once(' ').unwrap_or_else(|| panic!("no answer: {answer}"));
            assert_eq!(found, tag.to_string());
            let number = number.parse().unwrap();
            assert!(number >= known, "version {number} answers after version {known} did");
            assert_ne!(number % BROKEN_EVERY, 0, "a broken version answers");
            newest.0.fetch_max(number, Ordering::SeqCst);
        }
        sent += 2;
        tokio::time::sleep(PAUSE).await;
    }
    // Nothing is left over between the last answer and this one.
    assert_eq!(peer.ask("echo the end").await, "the end");
    sent
}
