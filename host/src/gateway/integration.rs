//! What a route does with an event.

use std::sync::Arc;

use crate::capability::Caller;
use crate::event::Event;
use crate::runtime::{Invocation, Plugin};

mod client; // how a request over HTTP is sent

/// The set is closed, so a `match` tells of every place that a new one touches.
#[derive(Clone)]
pub enum Integration {
    Component(Arc<Plugin>),
}

impl Integration {
    pub async fn invoke(&self, caller: Caller, event: &Event) -> Invocation {
        match self {
            Self::Component(plugin) => plugin.invoke(caller, event).await,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Component(plugin) => plugin.name(),
        }
    }

    /// Which version of it runs, where it has versions.
    pub fn version(&self) -> Option<String> {
        match self {
            Self::Component(plugin) => Some(plugin.version()),
        }
    }
}
