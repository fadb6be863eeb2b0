//! Messages over open connections: echo, post and broadcast.
//!
//! A message contains the time at which it was sent. In an open loop this is the time at which it was due, so that the
//! latency includes the wait of all messages that a stalled server delays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jackfield_bench::outcome::Outcome;
use jackfield_bench::stamp::{self, Template};
use jackfield_bench::wire::{self, Opcode};

use crate::connections::{Connections, Faults};
use crate::histogram::Histogram;
use crate::window::Window;

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
    /// The first peer sends, and all others receive.
    Broadcast,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Post => "post",
            Self::Broadcast => "broadcast",
        }
    }
}

pub struct Traffic {
    pub kind: Kind,
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
pub fn run(connections: &mut Connections, traffic: &Traffic, server_pid: u32) -> Result<Outcome> {
    ensure!(traffic.kind != Kind::Broadcast || traffic.rate.is_some(), "broadcast needs a rate");
    ensure!(
        traffic.kind != Kind::Post || connections.len().is_multiple_of(2),
        "post needs an even number of connections"
    );
    let templates = templates(connections, traffic)?;
    let epoch = Instant::now();
    let since_epoch = |at: Instant| at.duration_since(epoch).as_nanos() as u64;
    let mut pace = traffic.rate.map(Pace::new);
    if pace.is_none() {
        let step = if traffic.kind == Kind::Post { 2 } else { 1 };
        for peer in (0..connections.len()).step_by(step) {
            for _ in 0..traffic.depth {
                connections.send(peer, |out| templates[peer].write(since_epoch(Instant::now()), out));
            }
        }
    }

    let mut times = Histogram::new();
    let mut faults = Faults::default();
    let mut window = None;
    let begin = epoch + traffic.warm_up;
    let end = begin + traffic.measured;
    let window = loop {
        let now = Instant::now();
        match window {
            None if now >= begin => {
                times.clear();
                window = Some(Window::begin(server_pid)?);
            }
            Some(window) if now >= end => break window,
            _ => {}
        }
        let mut wait = WAIT_MAX;
        if let Some(pace) = &mut pace {
            while let Some((number, due)) = pace.next_due(since_epoch(now)) {
                let peer = if traffic.kind == Kind::Broadcast { 0 } else { number as usize % connections.len() };
                if !connections.send(peer, |out| templates[peer].write(due, out)) {
                    faults.add(|| format!("connection {peer} did not accept a message that was due"));
                }
            }
            wait = wait.min(pace.wait(since_epoch(Instant::now())));
        }
        connections.poll(wait, |message| match stamp::read(message.content) {
            Some(sent) => {
                times.record(since_epoch(message.at).saturating_sub(sent));
                if traffic.rate.is_none() {
                    templates[message.peer].write(since_epoch(message.at), message.answer);
                }
            }
            None => faults.add(|| format!("a response was {:?}", String::from_utf8_lossy(message.content))),
        })?;
    };

    let mut outcome = window.end(traffic.kind.name(), &times, connections)?;
    outcome.errors += faults.count;
    outcome.first_error = outcome.first_error.or(faults.first);
    Ok(outcome)
}

/// Returns the messages of each peer, which sends the same one again and again.
fn templates(connections: &mut Connections, traffic: &Traffic) -> Result<Vec<Template>> {
    let message = |head: &str| Template::new(&format!(r#"{{{head},"content":""#), traffic.content_bytes, r#""}"#);
    Ok(match traffic.kind {
        Kind::Echo => (0..connections.len()).map(|_| message(r#""action":"echo""#)).collect(),
        Kind::Post => {
            let ids = request_ids(connections, |_| None)?;
            let partner = |peer: usize| format!(r#""action":"sendmessage","to":"{}""#, ids[peer ^ 1]);
            (0..connections.len()).map(|peer| message(&partner(peer))).collect()
        }
        Kind::Broadcast => {
            let join = format!(r#"{{"action":"join","room":"{ROOM}"}}"#);
            request_ids(connections, |peer| (peer != 0).then_some(&*join))?;
            vec![message(&format!(r#""action":"broadcast","room":"{ROOM}""#))]
        }
    })
}

/// Requests the connection id of every peer, after sending the message `first` of that peer, if there is one. The
/// messages of a connection are handled in order, so the response means that both were handled.
fn request_ids<'a>(connections: &mut Connections, first: impl Fn(usize) -> Option<&'a str>) -> Result<Vec<String>> {
    for peer in 0..connections.len() {
        connections.send(peer, |out| {
            if let Some(message) = first(peer) {
                wire::encode(Opcode::Text, message.as_bytes(), out);
            }
            wire::encode(Opcode::Text, br#"{"action":"whoami"}"#, out);
        });
    }
    let mut ids = vec![None; connections.len()];
    let mut last_other = None;
    let deadline = Instant::now() + ID_TIMEOUT;
    while ids.iter().any(Option::is_none) {
        if Instant::now() > deadline {
            let last = last_other.as_deref().or(connections.faults.first.as_deref()).unwrap_or("nothing");
            bail!("after {ID_TIMEOUT:?} some connections have no id; the server sent {last}");
        }
        connections.poll(WAIT_MAX, |message| match connection_id(message.content) {
            Some(id) => ids[message.peer] = Some(id),
            None => last_other = Some(String::from_utf8_lossy(message.content).into_owned()),
        })?;
    }
    ids.into_iter().map(|id| id.context("the loop ends when every id is there")).collect()
}

fn connection_id(content: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(content).ok()?;
    Some(answer.get("connectionId")?.as_str()?.to_owned())
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
    fn an_id_is_read_only_from_a_response_that_has_one() {
        assert_eq!(connection_id(br#"{"connectionId":"L0SM9cOFvHcCIhw="}"#).as_deref(), Some("L0SM9cOFvHcCIhw="));
        assert_eq!(connection_id(br#"{"message":"Forbidden","connectionId":7}"#), None);
        assert_eq!(connection_id(b"hello"), None);
    }
}
