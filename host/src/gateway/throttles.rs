//! The throttles of a stage: limits on upgrades, messages and `@connections` calls.
//!
//! The narrowest limit is checked first, so that what a peer's own limit rejects uses nothing of the
//! limits that it shares with others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use metrics::Counter;
use tracing::warn;

use crate::connections::{Connection, Peer};
use crate::gateway::Route;
use crate::limits::THROTTLE_LOG_INTERVAL;
use crate::metrics::Metrics;
use crate::rate_limited_log::UnloggedCount;
use crate::throttle::{KeyedThrottle, Rate, Throttle, network};

/// The throttles of a stage; `None`: no limit. Routes have their own throttles.
#[derive(Default)]
pub struct Throttles {
    /// Limits upgrades, messages and `@connections` calls of all stages together.
    pub account: Option<Arc<Throttle>>,
    /// Limits upgrades of all stages together.
    pub connections: Option<Arc<Throttle>>,
    /// Limits upgrades and messages of this stage.
    pub stage: Option<Arc<Throttle>>,
    /// Limits upgrades and messages of each source address, in all stages together.
    pub source: Option<Arc<KeyedThrottle<IpAddr>>>,
    /// Limits messages of each connection.
    pub connection: Option<Rate>,
}

/// The throttle that rejected a request.
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
    /// Counts an upgrade request of this peer, unless a limit is reached. The error is that limit.
    pub fn check_upgrade(&self, peer: &Peer, route: Option<&Route>) -> Result<(), Limit> {
        self.check_source(peer)?;
        check(route.and_then(|route| route.throttle.as_ref()), Limit::Route)?;
        check(self.connections.as_ref(), Limit::Connections)?;
        check(self.stage.as_ref(), Limit::Stage)?;
        check(self.account.as_ref(), Limit::Account)
    }

    /// Counts a message of this connection, unless a limit is reached. The error is that limit.
    pub fn check_message(&self, connection: &Connection, route: Option<&Route>) -> Result<(), Limit> {
        if let Some(rate) = self.connection
            && !connection.throttle.allows(rate)
        {
            return Err(Limit::Connection);
        }
        self.check_source(&connection.peer)?;
        check(route.and_then(|route| route.throttle.as_ref()), Limit::Route)?;
        check(self.stage.as_ref(), Limit::Stage)?;
        check(self.account.as_ref(), Limit::Account)
    }

    /// Counts an `@connections` call, unless a limit is reached. The error is that limit.
    pub fn check_management_call(&self) -> Result<(), Limit> {
        check(self.account.as_ref(), Limit::Account)
    }

    fn check_source(&self, peer: &Peer) -> Result<(), Limit> {
        let Some(throttle) = &self.source else { return Ok(()) };
        // This always parses, because the text was formatted from an address.
        let Ok(address) = peer.source_ip.parse() else { return Ok(()) };
        if throttle.allows(network(address)) { Ok(()) } else { Err(Limit::Source) }
    }
}

fn check(throttle: Option<&Arc<Throttle>>, limit: Limit) -> Result<(), Limit> {
    if throttle.is_none_or(|throttle| throttle.allows()) { Ok(()) } else { Err(limit) }
}

impl Limit {
    const ALL: [Self; 6] = [Self::Account, Self::Connections, Self::Stage, Self::Source, Self::Connection, Self::Route];

    /// Its key in the manifest, which is also its label in the metrics.
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

/// Counts the rejections of each throttle, for the metrics and the log.
pub struct ThrottleRejections {
    counters: [Counter; Limit::ALL.len()],
    unlogged: Mutex<[UnloggedCount; Limit::ALL.len()]>,
}

impl ThrottleRejections {
    pub fn new(metrics: &Metrics) -> Self {
        Self { counters: Limit::ALL.map(|limit| metrics.throttled(limit.name())), unlogged: Mutex::default() }
    }

    /// Counts a rejection. The log has at most one line per throttle and `THROTTLE_LOG_INTERVAL`, so that peers
    /// cannot fill it.
    pub fn count(&self, limit: Limit, peer: Option<&Peer>) {
        self.counters[limit as usize].increment(1);
        let count = {
            let mut unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
            unlogged[limit as usize].add(Instant::now(), THROTTLE_LOG_INTERVAL)
        };
        if let Some(count) = count {
            let (limit, source_ip) = (limit.name(), peer.map(|peer| &*peer.source_ip));
            warn!(limit, count, source_ip, "rejected with Too many requests: the limit of a throttle is reached");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_the_index_of_its_counter() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }
}
