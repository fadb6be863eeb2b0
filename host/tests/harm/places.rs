//! Events that sleep in every place that their plugin can get.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::harm::{Attack, measure, measures};
use crate::harness::{ECHO, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component};

const SLEEPERS: usize = 300;
/// Longer than the attack is measured.
const SLEEP: &str = "sleep 25000";
/// Handshakes and pings whose duration is measured.
const PROBES: usize = 200;
/// How much longer the slowest of a hundred may take during the attack.
const PROBE_DELAY_MAX: Duration = Duration::from_millis(10);
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// The plugin that sleeps also handles `$connect`.
fn site() -> Site {
    Site::new(&format!(
        r#"
[integrations.guest]
component = {:?}
{HOSTILE_GRANTS}
[integrations.bystander]
component = {:?}
[routes]
"$connect" = "guest"
"$default" = {{ integration = "guest", route_response = true }}
bystander = {{ integration = "bystander", route_response = true }}
"#,
        component(HOSTILE),
        component(ECHO),
    ))
}

/// How long handshakes and pings take, in ascending order.
struct Probes {
    connects: Vec<Duration>,
    pings: Vec<Duration>,
}

impl Probes {
    async fn run(server: &Server) -> Self {
        let count = if measures() { PROBES } else { 5 };
        let mut peer = server.connect("").await;
        let (mut connects, mut pings) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let begun = Instant::now();
            let other = server.connect("").await;
            connects.push(begun.elapsed());
            drop(other);
            pings.push(ping(&mut peer).await);
        }
        connects.sort_unstable();
        pings.sort_unstable();
        Self { connects, pings }
    }
}

async fn ping(peer: &mut Peer) -> Duration {
    let begun = Instant::now();
    peer.socket.send(Message::Ping(Bytes::new())).await.unwrap();
    while !matches!(peer.socket.next().await.unwrap().unwrap(), Message::Pong(_)) {}
    begun.elapsed()
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
}

#[tokio::test]
async fn three_hundred_sleeping_events_of_one_plugin_delay_no_other_plugin_and_no_connection() {
    let name = "sleeping events";
    let attack = Attack::start_in(name, &site()).await;
    let calm = Probes::run(&attack.server).await;
    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        sleepers.push(attack.server.connect("").await);
    }
    for sleeper in &mut sleepers {
        sleeper.send(SLEEP).await;
    }
    let asleep = Probes::run(&attack.server).await;
    for (what, calm, asleep) in [("connect", &calm.connects, &asleep.connects), ("ping", &calm.pings, &asleep.pings)] {
        let (calm, asleep) = (p99(calm), p99(asleep));
        let bar = format!("p99 of a {what}: at most {} ms more", PROBE_DELAY_MAX.as_millis());
        measure(name, &bar, &format!("{calm:.1?}, then {asleep:.1?}"), asleep <= calm + PROBE_DELAY_MAX);
    }
    let slowest = *asleep.connects.last().unwrap();
    let bar = format!("the slowest connection: at most {} ms", CONNECT_MAX.as_millis());
    measure(name, &bar, &format!("{slowest:.1?}"), slowest <= CONNECT_MAX);
    // None of the messages of the other plugin is rejected: each must be answered.
    attack.end(64).await;
}
