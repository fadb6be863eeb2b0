//! The throttles of a deployment. Those that the one before it has too go on as they are.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config;
use crate::gateway::{ManagementCallers, RouteKey, Throttles};
use crate::limits::{MANAGEMENT_CALLERS_MAX, THROTTLE_SOURCES_MAX};
use crate::throttle::{KeyedThrottle, Rate, Shelf, Throttle};

/// Every throttle that is in use.
#[derive(Default)]
pub struct Shelves {
    throttles: Shelf<Throttle>,
    sources: Shelf<KeyedThrottle<IpAddr>>,
    access_keys: Shelf<KeyedThrottle<String>>,
}

impl Shelves {
    /// Those of one stage; `own` stands in for the one that every stage has.
    pub fn stage(&self, name: &str, own: Option<Option<Rate>>, written: &config::Throttles) -> Throttles {
        let config::Throttles { account, connections, connection, source, stage } = *written;
        let sources = |rate| KeyedThrottle::new(rate, THROTTLE_SOURCES_MAX);
        Throttles {
            account: account.map(|rate| self.throttle("account".to_owned(), rate)),
            connections: connections.map(|rate| self.throttle("connections".to_owned(), rate)),
            stage: own.unwrap_or(stage).map(|rate| self.throttle(format!("stage {name}"), rate)),
            source: source.map(|rate| self.sources.take("source".to_owned(), rate, sources)),
            connection,
        }
    }

    /// Those of whoever calls `@connections`, of so many access keys and of any address.
    pub fn callers(&self, rate: Rate, access_keys: usize) -> ManagementCallers {
        let addresses = |rate| KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX);
        // A key that is new since comes beside those that are known.
        let keys = |rate| KeyedThrottle::new(rate, access_keys.max(MANAGEMENT_CALLERS_MAX));
        ManagementCallers {
            keys: self.access_keys.take("management".to_owned(), rate, keys),
            addresses: self.sources.take("management".to_owned(), rate, addresses),
        }
    }

    /// That of a route, in one stage.
    pub fn route(&self, stage: &str, key: &RouteKey, rate: Rate) -> Arc<Throttle> {
        self.throttle(format!("route {stage} {}", key.as_str()), rate)
    }

    /// That of an API key.
    pub fn api_key(&self, name: &str, rate: Rate) -> Arc<Throttle> {
        self.throttle(format!("api key {name}"), rate)
    }

    fn throttle(&self, name: String, rate: Rate) -> Arc<Throttle> {
        self.throttles.take(name, rate, Throttle::new)
    }
}
