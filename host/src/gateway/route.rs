//! Routes, and the table in which a message finds its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::gateway::{Integration, RouteKey, RouteSelectionExpression};
use crate::metrics::RouteMetrics;
use crate::payload::Payload;

pub struct Route {
    pub key: RouteKey,
    /// The key as handlers are told it.
    pub name: Arc<str>,
    pub integration: Integration,
    /// Whether the handler's body goes back to the peer.
    pub route_response: bool,
    pub metrics: RouteMetrics,
}

/// All routes of an API. It does not change: a change makes a new one.
pub struct RouteTable {
    pub connect: Option<Arc<Route>>,
    pub disconnect: Option<Arc<Route>>,
    default: Option<Arc<Route>>,
    custom: HashMap<Box<str>, Arc<Route>>,
    expression: RouteSelectionExpression,
}

impl RouteTable {
    pub fn new(expression: RouteSelectionExpression, routes: impl IntoIterator<Item = Route>) -> Self {
        let mut table = Self { connect: None, disconnect: None, default: None, custom: HashMap::new(), expression };
        for route in routes {
            let route = Arc::new(route);
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

    /// The route of a message: the one whose key is what the expression says, else `$default`.
    pub fn select(&self, body: &Payload) -> Option<Arc<Route>> {
        let custom = match body {
            Payload::Text(text) if !self.custom.is_empty() => {
                self.expression.evaluate(text).and_then(|key| self.custom.get(&*key))
            }
            _ => None,
        };
        custom.or(self.default.as_ref()).cloned()
    }
}
