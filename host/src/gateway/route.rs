//! Routes, and the table that selects the route of a message.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gateway::{ConnectAuth, Integration, RequestModels, RouteKey, RouteSelectionExpression};
use crate::metrics::RouteMetrics;
use crate::payload::Payload;
use crate::rate_limited_log::RateLimitedLog;
use crate::throttle::Throttle;

/// Which earlier messages a message waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// It waits for the earlier messages of its connection, except those with [`Ordering::None`].
    #[default]
    Connection,
    /// It waits for no other message.
    None,
}

pub struct Route {
    pub key: RouteKey,
    /// The key as text, as handlers receive it.
    pub name: Arc<str>,
    pub integration: Integration,
    /// Whether the body of the handler's response is sent to the peer.
    pub route_response: bool,
    pub throttle: Option<Arc<Throttle>>,
    pub ordering: Ordering,
    /// The models that its messages must match; `None`: every message is valid.
    pub models: Option<RequestModels>,
    /// The authorization of a new connection. Only `$connect` has one.
    pub connect_auth: Option<ConnectAuth>,
    pub metrics: RouteMetrics,
    /// Log of the events whose integration failed.
    pub failure_log: RateLimitedLog,
}

/// All routes of an API. It is immutable: a reload creates a new table.
pub struct RouteTable {
    pub connect: Option<Route>,
    pub disconnect: Option<Route>,
    default: Option<Route>,
    /// A tree instead of a hash map: with few routes some comparisons cost less than a hash.
    custom: BTreeMap<Box<str>, Route>,
    expression: RouteSelectionExpression,
    /// The ordering of messages that have no route.
    ordering: Ordering,
    /// Whether some route has another ordering, so that a message's ordering depends on its route.
    orderings_differ: bool,
}

impl RouteTable {
    pub fn new(
        expression: RouteSelectionExpression,
        ordering: Ordering,
        routes: impl IntoIterator<Item = Route>,
    ) -> Self {
        let mut table = Self {
            connect: None,
            disconnect: None,
            default: None,
            custom: BTreeMap::new(),
            expression,
            ordering,
            orderings_differ: false,
        };
        for route in routes {
            if matches!(route.key, RouteKey::Default | RouteKey::Custom(_)) {
                table.orderings_differ |= route.ordering != ordering;
            }
            match &route.key {
                RouteKey::Connect => table.connect = Some(route),
                RouteKey::Disconnect => table.disconnect = Some(route),
                RouteKey::Default => table.default = Some(route),
                RouteKey::Custom(key) => {
                    table.custom.insert(key.clone(), route);
                }
            }
        }
        table
    }

    pub fn expression(&self) -> &RouteSelectionExpression {
        &self.expression
    }

    /// Returns whether every message waits for the earlier messages of its connection.
    pub fn is_in_order(&self) -> bool {
        self.ordering == Ordering::Connection && !self.orderings_differ
    }

    /// Returns the ordering of a message. The message is parsed only if its ordering depends on its route.
    pub fn ordering(&self, body: &Payload) -> Ordering {
        if self.orderings_differ {
            self.select(body).map_or(self.ordering, |route| route.ordering)
        } else {
            self.ordering
        }
    }

    /// Returns the route of a message: the one whose key equals the value of the expression, else `$default`.
    pub fn select(&self, body: &Payload) -> Option<&Route> {
        let custom = match body {
            Payload::Text(text) if !self.custom.is_empty() => {
                self.expression.evaluate(text).and_then(|key| self.custom.get(&*key))
            }
            _ => None,
        };
        custom.or(self.default.as_ref())
    }
}
