//! Routes, and the table in which a message finds its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gateway::{Guard, Integration, RequestModels, RouteKey, RouteSelectionExpression};
use crate::metrics::RouteMetrics;
use crate::payload::Payload;
use crate::throttle::Throttle;

/// What a message waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// The messages of its connection that came before it, but for those without an order.
    #[default]
    Connection,
    /// None.
    None,
}

pub struct Route {
    pub key: RouteKey,
    /// The key as handlers are told it.
    pub name: Arc<str>,
    pub integration: Integration,
    /// Whether the handler's body goes back to the peer.
    pub route_response: bool,
    pub throttle: Option<Arc<Throttle>>,
    pub ordering: Ordering,
    /// What its messages must look like; `None`: anything.
    pub models: Option<RequestModels>,
    /// What stands before it; of `$connect` alone.
    pub guard: Option<Guard>,
    pub metrics: RouteMetrics,
}

/// All routes of an API. It does not change: a change makes a new one.
pub struct RouteTable {
    pub connect: Option<Route>,
    pub disconnect: Option<Route>,
    default: Option<Route>,
    /// Few, so that a comparison or two take less than a hash.
    custom: BTreeMap<Box<str>, Route>,
    expression: RouteSelectionExpression,
    /// Of a message without a route.
    ordering: Ordering,
    /// Whether that of a message is known only with its route.
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

    /// Whether every message waits for those before it.
    pub fn is_in_order(&self) -> bool {
        self.ordering == Ordering::Connection && !self.orderings_differ
    }

    /// What a message waits for. Where all wait for the same, it is not looked at.
    pub fn ordering(&self, body: &Payload) -> Ordering {
        match self.orderings_differ {
            true => self.select(body).map_or(self.ordering, |route| route.ordering),
            false => self.ordering,
        }
    }

    /// The route of a message: the one whose key is what the expression says, else `$default`.
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
