//! The throttles of a deployment. A throttle that the previous deployment also has keeps its state.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config;
use crate::gateway::{CallerThrottles, RouteKey, Throttles};
use crate::id::StageId;
use crate::limits::{MANAGEMENT_CALLERS_MAX, THROTTLE_SOURCES_MAX};
use crate::throttle::{KeyedThrottle, Rate, Throttle, ThrottleRegistry};

/// Every throttle in use, by what it limits.
#[derive(Default)]
pub struct ThrottleRegistries {
    throttles: ThrottleRegistry<Limited, Throttle>,
    sources: ThrottleRegistry<Source, KeyedThrottle<IpAddr>>,
    access_keys: ThrottleRegistry<(), KeyedThrottle<String>>,
}

/// What one throttle limits.
#[derive(PartialEq, Eq, Hash)]
enum Limited {
    Account,
    Connections,
    Stage(StageId),
    Route(StageId, RouteKey),
    ApiKey(String),
}

/// What a throttle of each address limits.
#[derive(PartialEq, Eq, Hash)]
enum Source {
    /// Upgrades and messages.
    Peer,
    /// `@connections` calls.
    Management,
}

impl ThrottleRegistries {
    /// Returns the throttles of one stage. `own` overrides the stage throttle of `[throttle]`.
    pub fn stage(&self, id: StageId, own: Option<Option<Rate>>, written: &config::Throttles) -> Throttles {
        let config::Throttles { account, connections, connection, source, stage } = *written;
        let sources = |rate| KeyedThrottle::new(rate, THROTTLE_SOURCES_MAX);
        Throttles {
            account: account.map(|rate| self.throttle(Limited::Account, rate)),
            connections: connections.map(|rate| self.throttle(Limited::Connections, rate)),
            stage: own.unwrap_or(stage).map(|rate| self.throttle(Limited::Stage(id), rate)),
            source: source.map(|rate| self.sources.get_or_create(Source::Peer, rate, sources)),
            connection,
        }
    }

    /// Returns the throttles of the callers of `@connections`, for this number of access keys and for any address.
    pub fn callers(&self, rate: Rate, access_keys: usize) -> CallerThrottles {
        let addresses = |rate| KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX);
        // The minimum leaves space for access keys that later reloads add.
        let keys = |rate| KeyedThrottle::new(rate, access_keys.max(MANAGEMENT_CALLERS_MAX));
        CallerThrottles {
            keys: self.access_keys.get_or_create((), rate, keys),
            addresses: self.sources.get_or_create(Source::Management, rate, addresses),
        }
    }

    /// Returns the throttle of a route in one stage.
    pub fn route(&self, stage: StageId, key: &RouteKey, rate: Rate) -> Arc<Throttle> {
        self.throttle(Limited::Route(stage, key.clone()), rate)
    }

    /// Returns the throttle of an API key.
    pub fn api_key(&self, name: &str, rate: Rate) -> Arc<Throttle> {
        self.throttle(Limited::ApiKey(name.to_owned()), rate)
    }

    fn throttle(&self, limited: Limited, rate: Rate) -> Arc<Throttle> {
        self.throttles.get_or_create(limited, rate, Throttle::new)
    }
}
