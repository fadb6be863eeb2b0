//! Measures how fast connections open, and the memory that they need while they are idle.

use std::time::{Duration, Instant};

use anyhow::Result;
use jackfield_bench::outcome::Outcome;

use crate::connections::Connections;
use crate::histogram::Histogram;
use crate::window::{Pids, Window};

pub struct Opening {
    /// Connections that are opened first and not counted, so that the server has created everything that it creates
    /// only once.
    pub warm_up: usize,
    pub counted: usize,
    /// How long all connections are idle before the server's memory is read.
    pub hold: Duration,
}

/// Opens the connections, holds them, and reads by how much the server's memory has grown.
pub fn run(connections: &mut Connections, opening: &Opening, pids: &Pids) -> Result<Outcome> {
    connections.open(opening.warm_up, |_| {})?;
    // Before and after the measurement, the memory is read when the server is idle.
    hold(connections, opening.hold.min(Duration::from_secs(1)))?;

    let mut times = Histogram::new();
    let window = Window::begin(pids)?;
    connections.open(opening.counted, |took| times.record(took.as_nanos() as u64))?;
    let mode = if opening.hold.is_zero() { "connect" } else { "idle" };
    let mut outcome = window.end(mode, &times, connections)?;
    outcome.connects_per_s = Some(outcome.msg_per_s);

    hold(connections, opening.hold)?;
    outcome.rss_kib_per_conn = Some(window.growth_kib()? / times.count().max(1) as f64);
    outcome.errors = connections.faults.count;
    outcome.first_error = connections.faults.first.clone();
    Ok(outcome)
}

/// Holds the connections for this time and answers the server's pings.
fn hold(connections: &mut Connections, hold: Duration) -> Result<()> {
    let end = Instant::now() + hold;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        connections.poll(left, |_| {})?;
    }
}
