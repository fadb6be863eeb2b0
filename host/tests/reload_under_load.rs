//! Reloads under load: active peers lose nothing, and get the responses of newer versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::components::{hostile_version, replace_file};
use crate::harness::{HOSTILE_GRANTS, Peer, Site, eventually, manifest};

const PEERS: u32 = 200;
const REPLACEMENTS: u32 = 50;
/// One of this many components is broken.
const BROKEN_EVERY: u32 = 5;
/// The pause of a peer between two pairs of messages. All peers together send 4000 messages a second.
const PAUSE: Duration = Duration::from_millis(100);

/// The newest version that has sent a response.
#[derive(Default)]
struct Newest(AtomicU32);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_with_200_active_peers_lose_no_connection_and_no_response_and_no_version_goes_backwards() {
    let site = Site::new(&manifest("guest.wasm".as_ref(), "", HOSTILE_GRANTS));
    let guest = site.path().join("guest.wasm");
    replace_file(&guest, hostile_version(1));
    let server = site.serve();
    let (newest, stop) = (Arc::new(Newest::default()), Arc::new(AtomicBool::new(false)));
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let peer = server.connect("").await;
        peers.push(tokio::spawn(send_messages(peer, Arc::clone(&newest), Arc::clone(&stop))));
    }

    let mut broken = 0;
    for number in 2..=REPLACEMENTS + 1 {
        let bytes = hostile_version(number);
        if number % BROKEN_EVERY == 0 {
            // Each broken component is cut at another place, so that each is logged.
            replace_file(&guest, &bytes[..bytes.len() / 2 + number as usize]);
            broken += 1;
            eventually("the broken component is rejected", || async {
                server.log.text().matches("it is truncated or damaged").count() == broken
            })
            .await;
            continue;
        }
        replace_file(&guest, bytes);
        eventually("the new version responds", || async { newest.0.load(Ordering::SeqCst) == number }).await;
    }

    stop.store(true, Ordering::SeqCst);
    let mut events = 0;
    for peer in peers {
        events += peer.await.unwrap();
    }
    assert!(events > PEERS * REPLACEMENTS, "the peers sent too few messages: {events} events");
    // The log line is written after the first responses.
    let live = || server.log.text().matches(" live plugin=guest").count();
    eventually("each version is logged", || async { live() == (REPLACEMENTS - REPLACEMENTS / BROKEN_EVERY) as usize })
        .await;
    let text = server.log.text();
    // The only warning is that of the start.
    assert_eq!(text.matches("WARN").count(), 1, "an event failed: {text}");
}

/// Sends two messages at a time until `stop` is set. Returns the number of messages.
///
/// Every response must be the one to the oldest open message. Its version must not be older than any that was known
/// before that message was sent.
async fn send_messages(mut peer: Peer, newest: Arc<Newest>, stop: Arc<AtomicBool>) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        let known = newest.0.load(Ordering::SeqCst);
        for tag in [sent, sent + 1] {
            peer.send(&format!("stamp {tag}")).await;
        }
        for tag in [sent, sent + 1] {
            let answer = peer.text().await;
            let (number, found) = answer.split_once(' ').unwrap_or_else(|| panic!("no answer: {answer}"));
            assert_eq!(found, tag.to_string());
            let number = number.parse().unwrap();
            assert!(number >= known, "version {number} responded after version {known} did");
            assert_ne!(number % BROKEN_EVERY, 0, "a broken version responded");
            newest.0.fetch_max(number, Ordering::SeqCst);
        }
        sent += 2;
        tokio::time::sleep(PAUSE).await;
    }
    // No further response arrives before this one.
    assert_eq!(peer.ask("echo the end").await, "the end");
    sent
}
