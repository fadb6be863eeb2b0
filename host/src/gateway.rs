//! What happens on a connection finds its route here: connect, message, disconnect.
//!
//! Knows routes and plugins. Does not know sockets, files or how a guest is run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{Level, event, warn};

use crate::backend::Backend;
use crate::capability::Caller;
use crate::connections::{Connection, Connections};
use crate::event::{EpochMillis, Event, Response};
use crate::id::{ConnectionId, RequestId};
use crate::metrics::Metrics;
use crate::runtime::InvokeError;

// What happens on a connection, in its order.
mod connect;
mod message;
mod disconnect;

// What is served.
mod deployment;
mod route;
mod route_key;
mod selection;
mod integration;

// What a peer is told of a failure.
mod error_frame;

pub use connect::{Admitted, Refusal, Upgrade};
pub use deployment::{Deployment, Stage};
pub use integration::Integration;
pub use route::{Route, RouteTable};
pub use route_key::{BadRouteKey, RouteKey};
pub use selection::{BadExpression, RouteSelectionExpression};

pub struct Gateway {
    connections: Arc<Connections>,
    backend: Backend,
    deployment: ArcSwap<Deployment>,
    metrics: Arc<Metrics>,
}

impl Gateway {
    pub fn new(
        connections: Arc<Connections>,
        backend: Backend,
        deployment: Deployment,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { connections, backend, deployment: ArcSwap::from_pointee(deployment), metrics })
    }

    /// What the next event sees. Events that run already finish on what they started with.
    pub fn deploy(&self, deployment: Deployment) {
        self.deployment.store(Arc::new(deployment));
    }

    pub fn deployment(&self) -> Arc<Deployment> {
        self.deployment.load_full()
    }

    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    async fn forget(&self, id: ConnectionId) {
        if let Err(error) = self.backend.drop_row(id).await {
            warn!(connection_id = %id, %error, "the row of a connection that ended is left behind");
        }
    }

    /// Invokes a route's integration and tells the log and the metrics how it went.
    async fn run(
        &self,
        stage: &Stage,
        route: &Route,
        connection: &Arc<Connection>,
        request_time: EpochMillis,
        event: &Event,
    ) -> (RequestId, Result<Response, InvokeError>) {
        let request_id = RequestId::next();
        let caller = Caller {
            api: Arc::clone(&stage.api),
            connection: Arc::clone(connection),
            route_key: Arc::clone(&route.name),
            request_id,
            request_time,
        };
        let invocation = route.integration.invoke(caller, event).await;
        route.metrics.record(&invocation);
        if let Err(error) = &invocation.result {
            report(route, connection.id, request_id, error);
        }
        (request_id, invocation.result)
    }
}

/// One line for whoever runs the handler: what failed, which version of it, and for which request.
fn report(route: &Route, connection_id: ConnectionId, request_id: RequestId, error: &InvokeError) {
    let integration = &route.integration;
    macro_rules! say {
        ($level:expr) => {
            event!(
                $level,
                plugin = %integration.name(),
                version = integration.version(),
                route = %route.key,
                %connection_id,
                %request_id,
                // The last, as it has lines of its own.
                backtrace = error.backtrace().map(tracing::field::display),
                "{}",
                error.explain()
            )
        };
    }
    match error {
        InvokeError::Overloaded(_) | InvokeError::Panicked(_) => say!(Level::ERROR),
        _ => say!(Level::WARN),
    }
}
