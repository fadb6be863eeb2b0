//! What holds the peers of a stage back.
//!
//! The narrowest limit is asked first: what a peer's own limit refuses takes nothing of what it
//! shares with others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use metrics::Counter;
use tracing::warn;

use crate::connections::{Connection, Peer};
use crate::gateway::Route;
use crate::limits::THROTTLE_REFUSAL_INTERVAL;
use crate::metrics::Metrics;
use crate::throttle::{KeyedThrottle, Rate, Throttle, network};

/// The limits of a stage; `None` is one that is lifted. Routes have their own.
#[derive(Default)]
pub struct Throttles {
    /// Upgrades, messages and `@connections` calls of all stages.
    pub account: Option<Arc<Throttle>>,
    /// Upgrades of all stages.
    pub connections: Option<Arc<Throttle>>,
    /// Upgrades and messages.
    pub stage: Option<Arc<Throttle>>,
    /// Upgrades and messages of each source, in all stages.
    pub source: Option<Arc<KeyedThrottle<IpAddr>>>,
    /// Messages of each connection.
    pub connection: Option<Rate>,
}

/// Which limit it was that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Account,
    Connections,
    Stage,
    Source,
    Connection,
    Route,
}

impl Throttles {
    /// Whether one more upgrade request of this peer may be looked at; if so, it counts.
    pub fn upgrade(&self, peer: &Peer, route: Option<&Route>) -> Result<(), Limit> {
        self.ask_source(peer)?;
        ask(route.and_then(|route| route.throttle.as_ref()), Limit::Route)?;
        ask(self.connections.as_ref(), Limit::Connections)?;
        ask(self.stage.as_ref(), Limit::Stage)?;
        ask(self.account.as_ref(), Limit::Account)
    }

    /// Whether one more message of this connection may be handled; if so, it counts.
    pub fn message(&self, connection: &Connection, route: Option<&Route>) -> Result<(), Limit> {
        if let Some(rate) = self.connection
            && !connection.throttle.allows(rate)
        {
            return Err(Limit::Connection);
        }
        self.ask_source(&connection.peer)?;
        ask(route.and_then(|route| route.throttle.as_ref()), Limit::Route)?;
        ask(self.stage.as_ref(), Limit::Stage)?;
        ask(self.account.as_ref(), Limit::Account)
    }

    /// Whether one more `@connections` call may be answered; if so, it counts.
    pub fn call(&self) -> Result<(), Limit> {
        ask(self.account.as_ref(), Limit::Account)
    }

    fn ask_source(&self, peer: &Peer) -> Result<(), Limit> {
        let Some(throttle) = &self.source else { return Ok(()) };
        // It was an address when it was written.
        let Ok(address) = peer.source_ip.parse() else { return Ok(()) };
        if throttle.allows(network(address)) { Ok(()) } else { Err(Limit::Source) }
    }
}

fn ask(throttle: Option<&Arc<Throttle>>, limit: Limit) -> Result<(), Limit> {
    if throttle.is_none_or(|throttle| throttle.allows()) { Ok(()) } else { Err(limit) }
}

impl Limit {
    const ALL: [Self; 6] = [Self::Account, Self::Connections, Self::Stage, Self::Source, Self::Connection, Self::Route];

    /// Its key in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Connections => "connections",
            Self::Stage => "stage",
            Self::Source => "source",
            Self::Connection => "connection",
            Self::Route => "route",
        }
    }
}

/// What was refused, for the metrics and the log.
pub struct Refused {
    counters: [Counter; Limit::ALL.len()],
    untold: Mutex<[Untold; Limit::ALL.len()]>,
}

/// The refusals of one limit since the log last told of them.
#[derive(Clone, Copy, Default)]
struct Untold {
    count: u64,
    told_at: Option<Instant>,
}

impl Refused {
    pub fn new(metrics: &Metrics) -> Self {
        Self { counters: Limit::ALL.map(|limit| metrics.throttled(limit.name())), untold: Mutex::default() }
    }

    /// Counts a refusal. The log tells of each limit now and then, so that no peer fills it.
    pub fn count(&self, limit: Limit, peer: Option<&Peer>) {
        self.counters[limit as usize].increment(1);
        let count = {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            untold[limit as usize].refused(Instant::now())
        };
        if let Some(count) = count {
            let (limit, source_ip) = (limit.name(), peer.map(|peer| &*peer.source_ip));
            warn!(limit, count, source_ip, "more came than a throttle allows: refused as too many requests");
        }
    }
}

impl Untold {
    /// How many there are to tell of, if it is time to.
    fn refused(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told_at.is_some_and(|at| now.duration_since(at) < THROTTLE_REFUSAL_INTERVAL) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_has_its_place_among_the_counters() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
        }
    }

    #[test]
    fn refusals_are_told_at_once_and_then_together() {
        let mut untold = Untold::default();
        let start = Instant::now();
        assert_eq!(untold.refused(start), Some(1));
        let almost = start + THROTTLE_REFUSAL_INTERVAL - Duration::from_nanos(1);
        assert_eq!(untold.refused(almost), None);
        assert_eq!(untold.refused(almost), None);
        assert_eq!(untold.refused(start + THROTTLE_REFUSAL_INTERVAL), Some(3));
    }
}
