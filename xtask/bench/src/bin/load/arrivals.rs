//! Connections themselves: how fast they open, and what they hold while nothing is said.

use std::time::{Duration, Instant};

use anyhow::Result;
use jackfield_bench::outcome::Outcome;

use crate::crowd::Crowd;
use crate::histogram::Histogram;
use crate::window::Window;

pub struct Arrivals {
    /// Opened first and not counted, so that the server has made what it makes once.
    pub warm_up: usize,
    pub counted: usize,
    /// How long all stay, silent, before the server's memory is read.
    pub hold: Duration,
}

/// Opens the connections, holds them, and reads what the server has grown by.
pub fn run(crowd: &mut Crowd, arrivals: &Arrivals, server_pid: u32) -> Result<Outcome> {
    crowd.grow(arrivals.warm_up, |_| {})?;
    // Memory is read when the server is at rest, before and after.
    hold(crowd, arrivals.hold.min(Duration::from_secs(1)))?;

    let mut times = Histogram::new();
    let window = Window::begin(server_pid)?;
    crowd.grow(arrivals.counted, |took| times.record(took.as_nanos() as u64))?;
    let mode = if arrivals.hold.is_zero() { "connect" } else { "idle" };
    let mut outcome = window.end(mode, &times, crowd)?;
    outcome.connects_per_s = Some(outcome.msg_per_s);

    hold(crowd, arrivals.hold)?;
    outcome.rss_kib_per_conn = Some(window.growth_kib()? / times.count().max(1) as f64);
    outcome.errors = crowd.faults.count;
    outcome.first_error = crowd.faults.first.clone();
    Ok(outcome)
}

/// Stays, answering the server's pings.
fn hold(crowd: &mut Crowd, hold: Duration) -> Result<()> {
    let end = Instant::now() + hold;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        crowd.turn(left, |_| {})?;
    }
}
