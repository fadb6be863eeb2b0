//! The first events of a new version of a plugin: counts whether most of them fail.
//!
//! A version whose first events mostly fail is reported; the receiver of the report serves an older version, or opens
//! the breaker of this one. Does not know where older versions are.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::info;

use crate::capability::Caller;
use crate::event::Event;
use crate::id::ConnectionId;
use crate::limits::{BREAKER_WAIT_FIRST, BREAKER_WAIT_MAX};
use crate::runtime::{Invocation, InvokeError, Plugin};

/// How many events decide about a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbationLimits {
    /// The first events of a version that are counted.
    pub events: usize,
    /// The smallest number of connections whose failed events may reject a version.
    pub peers: usize,
}

/// The name of a plugin whose version keeps failing, or works again.
pub type ProbationReport = Arc<str>;

pub struct Probation {
    plugin: Arc<Plugin>,
    limits: ProbationLimits,
    /// One of the constants below. While it is `OVER`, reading it is the whole cost of an event.
    state: AtomicU8,
    counts: Mutex<Counts>,
    reports: mpsc::Sender<ProbationReport>,
}

/// The first events are being counted.
const COUNTING: u8 = 0;
/// The version works, or an operator wants it.
const OVER: u8 = 1;
/// Most events failed. The report is on its way.
const FAILING: u8 = 2;
/// The breaker is open: events are answered at once, and now and then one is let through.
const OPEN: u8 = 3;

#[derive(Default)]
struct Counts {
    events: usize,
    failed: usize,
    /// The first connections whose events failed.
    failed_peers: Vec<ConnectionId>,
    breaker: Breaker,
}

struct Breaker {
    /// When the next event is let through.
    next: Instant,
    wait: Duration,
    /// Whether an event that was let through still runs.
    is_trying: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { next: Instant::now(), wait: BREAKER_WAIT_FIRST, is_trying: false }
    }
}

impl Probation {
    pub fn new(plugin: Arc<Plugin>, limits: ProbationLimits, reports: mpsc::Sender<ProbationReport>) -> Self {
        Self { plugin, limits, state: AtomicU8::new(COUNTING), counts: Mutex::default(), reports }
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Ends the probation: the version is served whatever its events return.
    pub fn end(&self) {
        self.state.store(OVER, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.state() == OVER
    }

    /// Whether most events failed, and nothing was done about it yet.
    pub fn is_failing(&self) -> bool {
        self.state() == FAILING
    }

    pub fn is_open(&self) -> bool {
        self.state() == OPEN
    }

    /// Whether the version has not shown that it fails.
    pub fn may_work(&self) -> bool {
        let counts = self.counts();
        match self.state() {
            COUNTING => counts.failed * 2 <= counts.events,
            state => state == OVER,
        }
    }

    /// The numbers of counted and of failed events.
    pub fn counted(&self) -> (usize, usize) {
        let counts = self.counts();
        (counts.events, counts.failed)
    }

    /// Answers events at once from now on, and lets one through after a wait that doubles while it fails.
    pub fn open_breaker(&self) -> Duration {
        let mut counts = self.counts();
        counts.breaker.next = Instant::now() + counts.breaker.wait;
        self.state.store(OPEN, Ordering::Relaxed);
        counts.breaker.wait
    }

    /// Whether the handler runs for an event, and what its result is counted for. `None`: the open breaker answers it.
    pub fn admit(&self, event: &Event) -> Option<Admission<'_>> {
        match self.state() {
            COUNTING => Some(Admission::Counted(self)),
            // A connection has only one `$disconnect`, so it is never answered by the breaker.
            OPEN if matches!(event, Event::Disconnect(_)) => Some(Admission::Uncounted),
            OPEN => self.try_event().map(Admission::Trial),
            _ => Some(Admission::Uncounted),
        }
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, peer: ConnectionId, failed: bool) {
        let mut counts = self.counts();
        if self.state() != COUNTING {
            return;
        }
        counts.add(peer, failed, self.limits);
        match counts.verdict(self.limits) {
            None => {}
            Some(true) => self.end(),
            // If there is no room for the report, the next event is counted again.
            Some(false) if self.report() => self.state.store(FAILING, Ordering::Relaxed),
            Some(false) => {}
        }
    }

    fn report(&self) -> bool {
        self.reports.try_send(Arc::clone(self.plugin.name())).is_ok()
    }

    /// Returns a trial if the open breaker lets an event through now.
    fn try_event(&self) -> Option<Trial<'_>> {
        let breaker = &mut self.counts().breaker;
        let is_let_through = !breaker.is_trying && Instant::now() >= breaker.next;
        is_let_through.then(|| {
            breaker.is_trying = true;
            Trial(self)
        })
    }
}

impl Counts {
    fn add(&mut self, peer: ConnectionId, failed: bool, limits: ProbationLimits) {
        self.events += 1;
        self.failed += usize::from(failed);
        if failed && self.failed_peers.len() < limits.peers && !self.failed_peers.contains(&peer) {
            self.failed_peers.push(peer);
        }
    }

    /// Whether the version works; `None` if that is not known yet. The failures of few peers cannot reject a version,
    /// so counting goes on while only theirs fail.
    fn verdict(&self, limits: ProbationLimits) -> Option<bool> {
        let works = self.failed * 2 <= self.events;
        (self.events >= limits.events && (works || self.failed_peers.len() >= limits.peers)).then_some(works)
    }
}

/// What the result of an event is counted for. An event whose future is dropped is not counted.
pub enum Admission<'p> {
    Uncounted,
    Counted(&'p Probation),
    Trial(Trial<'p>),
}

impl Admission<'_> {
    pub fn count(self, caller: &Caller, invocation: &Invocation) {
        match self {
            Self::Uncounted => {}
            Self::Counted(probation) => {
                if let Some(failed) = is_failure(&invocation.result) {
                    probation.count(caller.connection.id, failed);
                }
            }
            Self::Trial(trial) => trial.finish(is_failure(&invocation.result)),
        }
    }
}

/// An event that an open breaker lets through. If it is dropped, the next event is let through.
pub struct Trial<'p>(&'p Probation);

impl Trial<'_> {
    fn finish(self, failed: Option<bool>) {
        let Self(probation) = self;
        let mut counts = probation.counts();
        match failed {
            Some(true) => {
                counts.breaker.wait = (counts.breaker.wait * 2).min(BREAKER_WAIT_MAX);
                counts.breaker.next = Instant::now() + counts.breaker.wait;
            }
            // It is counted again from the beginning.
            Some(false) if probation.is_open() => {
                let breaker = Breaker { wait: counts.breaker.wait, ..Breaker::default() };
                *counts = Counts { breaker, ..Counts::default() };
                probation.state.store(COUNTING, Ordering::Relaxed);
                info!(plugin = %probation.plugin.name(), "the breaker is closed: an event succeeded");
                // Without room for the report, the list of unavailable plugins is updated later.
                let _ = probation.report();
            }
            _ => {}
        }
        drop(counts);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.0.counts().breaker.is_trying = false;
    }
}

/// Whether an event shows that the version fails; `None` if it shows nothing about the version.
fn is_failure<T>(result: &Result<T, InvokeError>) -> Option<bool> {
    match result {
        Ok(_) => Some(false),
        Err(
            InvokeError::Overloaded(_) | InvokeError::NoMemory(_) | InvokeError::Unavailable | InvokeError::Panicked(_),
        ) => None,
        Err(
            InvokeError::Failed(_)
            | InvokeError::Malformed(_)
            | InvokeError::TimedOut(_)
            | InvokeError::OutOfCpuTime(..)
            | InvokeError::OutOfMemory(..)
            | InvokeError::Trapped(_)
            | InvokeError::HandlerPanicked(_),
        ) => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const LIMITS: ProbationLimits = ProbationLimits { events: 20, peers: 3 };

    /// Counts events of this many peers in turn, of which the first `failed` fail.
    fn counted(events: usize, failed: usize, peers: usize) -> Option<bool> {
        let ids: Vec<_> = (0..peers).map(|_| ConnectionId::random(NodeId(0))).collect();
        let mut counts = Counts::default();
        (0..events).for_each(|event| counts.add(ids[event % peers], event < failed, LIMITS));
        counts.verdict(LIMITS)
    }

    #[test]
    fn a_version_is_rejected_if_most_of_its_first_events_fail_for_enough_peers() {
        assert_eq!(counted(19, 19, 3), None, "too few events");
        assert_eq!(counted(20, 11, 3), Some(false));
        assert_eq!(counted(20, 10, 3), Some(true), "half is not most");
        assert_eq!(counted(20, 20, 2), None, "too few peers");
        assert_eq!(counted(20, 0, 1), Some(true), "one peer is enough to show that it works");
        assert_eq!(counted(40, 20, 2), Some(true), "few peers are counted for longer");
    }
}
