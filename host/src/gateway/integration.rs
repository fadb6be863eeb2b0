//! What a route does with an event.

use std::sync::Arc;

use crate::runtime::Plugin;

/// The set is closed, so a `match` tells of every place that a new one touches.
#[derive(Clone)]
pub enum Integration {
    Component(Arc<Plugin>),
}
