//! Reloads in a row, while connections are open.

use std::time::{Duration, Instant};

use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::harm::{Attack, hostile_site, measure_time};
use crate::harness::eventually;

const RELOADS: usize = 250;
/// The versions that take turns. They are in the cache of compiled code after the first round.
const VERSIONS: u32 = 5;
/// Peers whose connections are open all the time.
const PEERS: usize = 50;

#[tokio::test]
async fn after_250_reloads_in_a_row_every_connection_is_open_and_has_the_last_version() {
    let name = "250 reloads in a row";
    let versions: Vec<Vec<u8>> = (0..VERSIONS).map(hostile_version).collect();
    let attack = Attack::start_in(name, &hostile_site(&versions[0])).await;
    let guest = attack.server.site.path().join("guest.wasm");
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        peers.push(attack.server.connect("").await);
    }
    let began = Instant::now();
    let mut before = 0;
    for reload in 1..=RELOADS {
        let number = u32::try_from(reload).unwrap() % VERSIONS;
        replace_file(&guest, &versions[number as usize]);
        wait_for_version(&mut peers[reload % PEERS], number, before).await;
        before = number;
    }
    measure_time(name, "time of all reloads", began.elapsed(), Duration::from_secs(100));

    // Now the file is replaced without waiting: versions are skipped, but the last one goes live.
    for reload in 0..RELOADS {
        replace_file(&guest, &versions[reload % VERSIONS as usize]);
    }
    let last = hostile_version(VERSIONS);
    replace_file(&guest, last);
    for (index, peer) in peers.into_iter().enumerate() {
        let peer = tokio::sync::Mutex::new(peer);
        let version = format!("{VERSIONS:08}");
        eventually("the last version is live", async || peer.lock().await.ask("version").await == version).await;
        assert_eq!(peer.into_inner().ask("echo open").await, "open", "peer {index}");
    }
    let server = attack.end(64).await;
    let text = server.log.text();
    // The only warning is that of the start.
    assert_eq!(text.matches("WARN").count(), 1, "an event failed: {text}");
    assert!(text.matches(" live plugin=guest").count() > RELOADS, "a reload is missing: {text}");
}
