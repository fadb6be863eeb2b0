//! Messages over open connections: echo, post and broadcast.
//!
//! A message contains the time at which it was sent. In an open loop this is the time at which it was due, so that the
//! latency includes the wait of all messages that a stalled server delays.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jackfield_bench::outcome::Outcome;
use jackfield_bench::stamp::Template;
use jackfield_bench::wire::{self, Opcode};

use crate::connections::{Connections, Faults};
use crate::dialect::{Dialect, Setup};
use crate::histogram::Histogram;
use crate::window::{Pids, Window};

/// The room that receives broadcasts.
const ROOM: &str = "hall";
/// Longest wait of one poll. A poll counts in milliseconds, so a message of an open loop can be sent up to one
/// millisecond late, which its latency includes. A busy loop would avoid that, but would keep the client awake, which
/// no real peer is, and the measurement would not include the server's cost of waking one.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// The time in which all connections must have received their id.
const ID_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every peer sends messages and receives them back.
    Echo,
    /// The peers are pairs: one posts to the other. In a closed loop the receiver of a post posts back.
    Post,
    /// As `Post`, and the handler reports to the sender how long its call took.
    TimedPost,
    /// The first peer sends, and all others receive.
    Broadcast,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Post => "post",
            Self::TimedPost => "timed-post",
            Self::Broadcast => "broadcast",
        }
    }
}

pub struct Traffic {
    pub kind: Kind,
    pub dialect: Dialect,
    /// The number of unanswered messages of each connection, or pair, of a closed loop.
    pub depth: usize,
    /// The total rate of an open loop in messages a second, which is independent of the responses; `None` for a closed
    /// loop.
    pub rate: Option<f64>,
    pub content_bytes: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Runs the traffic over all connections, which must be open.
pub fn run(connections: &mut Connections, traffic: &Traffic, pids: &Pids) -> Result<Outcome> {
    ensure!(traffic.kind != Kind::Broadcast || traffic.rate.is_some(), "broadcast needs a rate");
    let is_of_pairs = matches!(traffic.kind, Kind::Post | Kind::TimedPost);
    ensure!(!is_of_pairs || connections.len().is_multiple_of(2), "post needs an even number of connections");
    let templates = templates(connections, traffic)?;
    let epoch = Instant::now();
    let since_epoch = |at: Instant| at.duration_since(epoch).as_nanos() as u64;
    let mut pace = traffic.rate.map(Pace::new);
    let mut sent = 0;
    if pace.is_none() {
        let step = if is_of_pairs { 2 } else { 1 };
        for peer in (0..connections.len()).step_by(step) {
            for _ in 0..traffic.depth {
                connections.send(peer, |out| templates[peer].write(since_epoch(Instant::now()), out));
            }
        }
    }

    let (mut times, mut calls) = (Histogram::new(), Histogram::new());
    let mut deliveries = Deliveries::new(connections.len() - 1);
    let mut faults = Faults::default();
    let mut window = None;
    let begin = epoch + traffic.warm_up;
    let end = begin + traffic.measured;
    let window = loop {
        let now = Instant::now();
        match window {
            None if now >= begin => {
                times.clear();
                calls.clear();
                deliveries.complete.clear();
                window = Some(Window::begin(pids)?);
            }
            Some(window) if now >= end => break window,
            _ => {}
        }
        let mut wait = WAIT_MAX;
        if let Some(pace) = &mut pace {
            while let Some((number, due)) = pace.next_due(since_epoch(now)) {
                let peer = if traffic.kind == Kind::Broadcast { 0 } else { number as usize % connections.len() };
                if connections.send(peer, |out| templates[peer].write(due, out)) {
                    sent += 1;
                } else {
                    faults.add(|| format!("connection {peer} did not accept a message that was due"));
                }
            }
            wait = wait.min(pace.wait(since_epoch(Instant::now())));
        }
        connections.poll(wait, |message| {
            let at = since_epoch(message.at);
            let mut is_measured = false;
            for sent in traffic.dialect.stamps(message.content) {
                is_measured = true;
                let took = at.saturating_sub(sent);
                times.record(took);
                if traffic.kind == Kind::Broadcast {
                    deliveries.add(sent, took);
                }
                if traffic.rate.is_none() {
                    templates[message.peer].write(at, message.answer);
                }
            }
            if is_measured {
                return;
            }
            if let Some(took) = call_time(message.content).filter(|_| traffic.kind == Kind::TimedPost) {
                calls.record(took);
                return;
            }
            match traffic.dialect.answer(message.content) {
                Setup::Send(text) => wire::encode(Opcode::Text, text.as_bytes(), message.answer),
                Setup::Ignore => {}
                _ => faults.add(|| format!("a response was {:?}", String::from_utf8_lossy(message.content))),
            }
        })?;
    };

    let mut outcome = window.end(traffic.kind.name(), &times, connections)?;
    outcome.sent = sent;
    outcome.complete_us = (deliveries.complete.count() > 0).then(|| deliveries.complete.quantile_us(0.5));
    if calls.count() > 0 {
        (outcome.call_p50_us, outcome.call_p99_us) = (Some(calls.quantile_us(0.5)), Some(calls.quantile_us(0.99)));
    }
    outcome.errors += faults.count;
    outcome.first_error = outcome.first_error.or(faults.first);
    Ok(outcome)
}

/// Returns the messages of each peer, which sends the same one again and again.
fn templates(connections: &mut Connections, traffic: &Traffic) -> Result<Vec<Template>> {
    let Traffic { kind, dialect, content_bytes, .. } = *traffic;
    Ok(match kind {
        Kind::Echo => {
            let echo = || Template::new(r#"{"action":"echo","content":""#, content_bytes, r#""}"#);
            (0..connections.len()).map(|_| echo()).collect()
        }
        Kind::Post | Kind::TimedPost => {
            let names = prepare(connections, dialect, |_| None)?;
            let post = |peer: usize| dialect.post(&names[peer ^ 1], content_bytes, kind == Kind::TimedPost);
            (0..connections.len()).map(post).collect()
        }
        Kind::Broadcast => {
            prepare(connections, dialect, |peer| (peer != 0).then_some(ROOM))?;
            vec![dialect.broadcast(ROOM, content_bytes)]
        }
    })
}

/// Makes all peers ready, in their rooms. Returns the names by which others reach them.
fn prepare(
    connections: &mut Connections,
    dialect: Dialect,
    room: impl Fn(usize) -> Option<&'static str>,
) -> Result<Vec<String>> {
    for peer in 0..connections.len() {
        connections.send(peer, |out| {
            for text in dialect.first(peer, room(peer)) {
                wire::encode(Opcode::Text, text.as_bytes(), out);
            }
        });
    }
    let mut names = vec![None; connections.len()];
    let mut last_other = None;
    let deadline = Instant::now() + ID_TIMEOUT;
    while names.iter().any(Option::is_none) {
        if Instant::now() > deadline {
            let last = last_other.as_deref().or(connections.faults.first.as_deref()).unwrap_or("nothing");
            bail!("after {ID_TIMEOUT:?} some connections have no id; the server sent {last}");
        }
        connections.poll(WAIT_MAX, |message| {
            match dialect.setup(message.peer, message.content, room(message.peer)) {
                Setup::Ready(name) => names[message.peer] = Some(name),
                Setup::Send(text) => wire::encode(Opcode::Text, text.as_bytes(), message.answer),
                Setup::Ignore => {}
                Setup::Unexpected => last_other = Some(String::from_utf8_lossy(message.content).into_owned()),
            }
        })?;
    }
    names.into_iter().map(|name| name.context("the loop ends when every name is there")).collect()
}

/// Returns the time that a handler reports, in nanoseconds.
fn call_time(content: &[u8]) -> Option<u64> {
    let answer: serde_json::Value = serde_json::from_slice(content).ok()?;
    answer.get("tookNs")?.as_u64()
}

/// The receivers of each broadcast that has not arrived everywhere.
struct Deliveries {
    receivers: usize,
    open: HashMap<u64, usize>,
    /// From each broadcast until its last receiver had it.
    complete: Histogram,
}

impl Deliveries {
    fn new(receivers: usize) -> Self {
        Self { receivers, open: HashMap::new(), complete: Histogram::new() }
    }

    /// Counts a receiver of the broadcast that was sent at this time.
    fn add(&mut self, sent: u64, took: u64) {
        let count = self.open.entry(sent).or_default();
        *count += 1;
        if *count == self.receivers {
            self.open.remove(&sent);
            self.complete.record(took);
        }
    }
}

/// The times at which the messages of an open loop are due, in nanoseconds since the loop began.
struct Pace {
    interval_ns: f64,
    next: u64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self { interval_ns: 1e9 / per_second, next: 0 }
    }

    /// Returns the number of the next message and the time at which it was due, if that time has passed.
    fn next_due(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.due();
        if due > now {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, due))
    }

    fn wait(&self, now: u64) -> Duration {
        Duration::from_nanos(self.due().saturating_sub(now))
    }

    /// Returns the due time of the next message, computed from its number so that rounding errors do not add up.
    fn due(&self) -> u64 {
        (self.next as f64 * self.interval_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_sends_at_its_rate_even_if_it_is_polled_rarely() {
        for turn_ns in [10_000, 1_000_000, 70_000_000] {
            let mut pace = Pace::new(40_000.0);
            let mut sent = 0;
            for now in (0..1_000_000_000).step_by(turn_ns).chain([1_000_000_000]) {
                while let Some((number, due)) = pace.next_due(now) {
                    assert_eq!(number, sent);
                    assert!(due <= now);
                    sent += 1;
                }
                assert!(pace.wait(now) <= Duration::from_micros(25));
            }
            assert_eq!(sent, 40_001, "the steps of 25 us in a second, including both ends");
        }
    }

    #[test]
    fn a_delayed_message_has_the_time_at_which_it_was_due() {
        let mut pace = Pace::new(1000.0);
        let stalled = 3_500_000;
        let due: Vec<u64> = std::iter::from_fn(|| pace.next_due(stalled)).map(|(_, due)| due).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(pace.wait(stalled), Duration::from_micros(500));
    }

    #[test]
    fn a_broadcast_is_complete_when_all_receivers_have_it() {
        let mut deliveries = Deliveries::new(2);
        deliveries.add(1, 10_000);
        deliveries.add(2, 20_000);
        assert_eq!(deliveries.complete.count(), 0);
        deliveries.add(1, 30_000);
        assert_eq!(deliveries.complete.count(), 1);
        assert!(deliveries.complete.quantile_us(0.5) >= 30.0);
    }

    #[test]
    fn the_time_of_a_call_is_read_from_the_response_of_a_handler() {
        assert_eq!(call_time(br#"{"tookNs":250000}"#), Some(250_000));
        assert_eq!(call_time(br#"{"error":"gone"}"#), None);
    }
}
