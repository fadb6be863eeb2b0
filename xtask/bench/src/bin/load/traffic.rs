//! Messages over connections that are open: echo, post and broadcast.
//!
//! A message carries the time at which it was sent, or in an open loop the time at which it was
//! due: a server that stalls is charged for all that it kept waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jackfield_bench::outcome::Outcome;
use jackfield_bench::stamp::{self, Template};
use jackfield_bench::wire::{self, Opcode};

use crate::crowd::{Crowd, Faults};
use crate::histogram::Histogram;
use crate::window::Window;

/// The room that receives broadcasts.
const ROOM: &str = "hall";
/// The poll counts in milliseconds, so a message of an open loop can leave one too late. Its
/// latency says so. To spin instead would keep the client awake, which no real peer does, and the
/// server would never be charged for waking one.
const WAIT_MAX: Duration = Duration::from_millis(10);
const INTRODUCTION_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every peer sends, and gets it back.
    Echo,
    /// Peers in pairs: one posts to the other. In a closed loop who was posted to posts back.
    Post,
    /// The first peer sends, all others receive.
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
    /// How many messages are under way on each connection, or pair, of a closed loop.
    pub depth: usize,
    /// Messages a second that are sent whatever comes back; none for a closed loop.
    pub rate: Option<f64>,
    pub content_bytes: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Runs the traffic over the whole crowd, which is open.
pub fn run(crowd: &mut Crowd, traffic: &Traffic, server_pid: u32) -> Result<Outcome> {
    ensure!(traffic.kind != Kind::Broadcast || traffic.rate.is_some(), "broadcast needs a rate");
    ensure!(traffic.kind != Kind::Post || crowd.len().is_multiple_of(2), "post needs an even number of connections");
    let templates = templates(crowd, traffic)?;
    let epoch = Instant::now();
    let since_epoch = |at: Instant| at.duration_since(epoch).as_nanos() as u64;
    let mut pace = traffic.rate.map(Pace::new);
    if pace.is_none() {
        let step = if traffic.kind == Kind::Post { 2 } else { 1 };
        for peer in (0..crowd.len()).step_by(step) {
            for _ in 0..traffic.depth {
                crowd.send(peer, |out| templates[peer].write(since_epoch(Instant::now()), out));
            }
        }
    }

    let mut times = Histogram::new();
    let mut odd = Faults::default();
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
                let peer = if traffic.kind == Kind::Broadcast { 0 } else { number as usize % crowd.len() };
                if !crowd.send(peer, |out| templates[peer].write(due, out)) {
                    odd.note(|| format!("connection {peer} did not take a message that was due"));
                }
            }
            wait = wait.min(pace.wait(since_epoch(Instant::now())));
        }
        crowd.turn(wait, |message| match stamp::read(message.content) {
            Some(sent) => {
                times.record(since_epoch(message.at).saturating_sub(sent));
                if traffic.rate.is_none() {
                    templates[message.peer].write(since_epoch(message.at), message.answer);
                }
            }
            None => odd.note(|| format!("an answer was {:?}", String::from_utf8_lossy(message.content))),
        })?;
    };

    let mut outcome = window.end(traffic.kind.name(), &times, crowd)?;
    outcome.errors += odd.count;
    outcome.first_error = outcome.first_error.or(odd.first);
    Ok(outcome)
}

/// What each peer sends, again and again.
fn templates(crowd: &mut Crowd, traffic: &Traffic) -> Result<Vec<Template>> {
    let message = |head: &str| Template::new(&format!(r#"{{{head},"content":""#), traffic.content_bytes, r#""}"#);
    Ok(match traffic.kind {
        Kind::Echo => (0..crowd.len()).map(|_| message(r#""action":"echo""#)).collect(),
        Kind::Post => {
            let ids = introduce(crowd, |_| None)?;
            let partner = |peer: usize| format!(r#""action":"sendmessage","to":"{}""#, ids[peer ^ 1]);
            (0..crowd.len()).map(|peer| message(&partner(peer))).collect()
        }
        Kind::Broadcast => {
            let join = format!(r#"{{"action":"join","room":"{ROOM}"}}"#);
            introduce(crowd, |peer| (peer != 0).then_some(&*join))?;
            vec![message(&format!(r#""action":"broadcast","room":"{ROOM}""#))]
        }
    })
}

/// Asks every peer's connection id, after `first` where it has something to say first: messages
/// of one connection are served in order, so the answer means that both are done.
fn introduce<'a>(crowd: &mut Crowd, first: impl Fn(usize) -> Option<&'a str>) -> Result<Vec<String>> {
    for peer in 0..crowd.len() {
        crowd.send(peer, |out| {
            if let Some(words) = first(peer) {
                wire::encode(Opcode::Text, words.as_bytes(), out);
            }
            wire::encode(Opcode::Text, br#"{"action":"whoami"}"#, out);
        });
    }
    let mut ids = vec![None; crowd.len()];
    let mut last_other = None;
    let deadline = Instant::now() + INTRODUCTION_MAX;
    while ids.iter().any(Option::is_none) {
        if Instant::now() > deadline {
            let said = last_other.as_deref().or(crowd.faults.first.as_deref()).unwrap_or("nothing");
            bail!("after {INTRODUCTION_MAX:?} some connections have no id; the server said {said}");
        }
        crowd.turn(WAIT_MAX, |message| match connection_id(message.content) {
            Some(id) => ids[message.peer] = Some(id),
            None => last_other = Some(String::from_utf8_lossy(message.content).into_owned()),
        })?;
    }
    ids.into_iter().map(|id| id.context("every id was awaited")).collect()
}

fn connection_id(content: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(content).ok()?;
    Some(answer.get("connectionId")?.as_str()?.to_owned())
}

/// When each message of an open loop is due. Times are nanoseconds since the loop began.
struct Pace {
    interval_ns: f64,
    next: u64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self { interval_ns: 1e9 / per_second, next: 0 }
    }

    /// The number of the next message and the time at which it was due, if that time has come.
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

    /// Computed from the number, so that rounding does not add up.
    fn due(&self) -> u64 {
        (self.next as f64 * self.interval_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_sends_as_many_as_its_rate_says_however_rarely_it_is_asked() {
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
            assert_eq!(sent, 40_001, "a second of 25 us steps, with both its ends");
        }
    }

    #[test]
    fn a_message_that_waited_keeps_the_time_at_which_it_was_due() {
        let mut pace = Pace::new(1000.0);
        let stalled = 3_500_000;
        let due: Vec<u64> = std::iter::from_fn(|| pace.next_due(stalled)).map(|(_, due)| due).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(pace.wait(stalled), Duration::from_micros(500));
    }

    #[test]
    fn an_id_is_read_from_the_answer_that_names_it_and_from_no_other() {
        assert_eq!(connection_id(br#"{"connectionId":"L0SM9cOFvHcCIhw="}"#).as_deref(), Some("L0SM9cOFvHcCIhw="));
        assert_eq!(connection_id(br#"{"message":"Forbidden","connectionId":7}"#), None);
        assert_eq!(connection_id(b"hello"), None);
    }
}
