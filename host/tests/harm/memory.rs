//! Guests that take memory in every way, in all places.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use crate::harm::{Attack, measures, site};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, component};
use crate::wat;

/// `memory_total` of the attacks, and how much more the server may take: everything that is not charged.
const MEMORY_TOTAL: &str = "[server]\nmemory_total = \"64MiB\"";
const MEMORY_MIB_MAX: usize = 64 + 256;

/// As many peers as there are places for events, where memory is measured.
fn attackers() -> usize {
    if measures() { 256 } else { 48 }
}

/// Has each peer send one of the messages, and waits until each has an answer, which may be an error.
async fn attack(attack: &Attack, messages: &[&str]) {
    let mut peers = join_all((0..attackers()).map(|_| attack.server.connect(""))).await;
    for round in 0..messages.len() {
        join_all(peers.iter_mut().enumerate().map(async |(index, peer)| {
            let answer = peer.ask(messages[(index + round) % messages.len()]).await;
            assert!(!answer.is_empty());
        }))
        .await;
    }
}

#[tokio::test]
async fn guests_in_all_places_take_little_more_than_the_memory_of_all_events() {
    let site = site(&component(HOSTILE), MEMORY_TOTAL, HOSTILE_GRANTS);
    let started = Attack::start_in("guests that take memory in every way", &site).await;
    let mut peer = started.server.connect("").await;
    assert_eq!(peer.ask("set-bytes big 400000").await, "set");
    let messages = [
        "hold 100 1000",
        "holds cas 900 0 1000",
        "holds fields 900 100000 1000",
        "holds paths 900 60000 1000",
        "holds bodies 200 65536 1000",
        "holds poll 1000 0 1000",
        "descend 5000",
        "body 2000000",
    ];
    attack(&started, &messages).await;
    started.end(MEMORY_MIB_MAX).await;
}

#[tokio::test]
async fn guests_with_many_memories_and_tables_take_little_more_than_the_memory_of_all_events() {
    // A place has two memories and eight tables. Each page and each element is written.
    let tables: String = (0..6).map(|index| format!("(table $t{index} 1 funcref)")).collect();
    let fill_memories: String = (0..2)
        .map(|index| {
            format!(
                "(drop (memory.grow {index} (i32.const 16)))
                 (memory.fill {index} (i32.const 65536) (i32.const 1)
                     (i32.sub (i32.mul (memory.size {index}) (i32.const 65536)) (i32.const 65536)))"
            )
        })
        .collect();
    let fill_tables: String =
        (0..6).map(|index| format!("(drop (table.grow $t{index} (ref.func $some) (i32.const 16000)))")).collect();
    // The structures of an instance with these globals have 1 MiB.
    let globals = "(global (mut i64) (i64.const 1))".repeat(60_000);
    let fields = format!("(memory $second 1) {globals} {tables} (func $some) (elem declare func $some)");
    let fill = format!("{fill_memories} {fill_tables}");
    let module = wat::module_that_sleeps_after(&fields, &fill, Duration::from_secs(1));
    let site = site("guest.wasm".as_ref(), MEMORY_TOTAL, "");
    fs::write(site.path().join("guest.wasm"), module).unwrap();
    let started = Attack::start_in("guests with many memories and tables", &site).await;
    attack(&started, &["a", "b"]).await;
    started.end(MEMORY_MIB_MAX).await;
}
