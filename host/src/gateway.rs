//! What happens on a connection finds its route here: connect, message, disconnect.
//!
//! Knows routes and plugins. Does not know sockets, files or how a guest is run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{Level, event, warn};

use crate::backend::{Backend, Row};
use crate::capability::{ApiInfo, Caller};
use crate::connections::{Connection, Connections, Peer, Presence};
use crate::event::{Disconnect, EpochMillis, Event, Field, Response, now};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::limits::ConnectionLimits;
use crate::metrics::Metrics;
use crate::payload::Payload;
use crate::runtime::InvokeError;

mod error_frame;
mod integration;
mod route;
mod route_key;
mod selection;

pub use integration::Integration;
pub use route::{Route, RouteTable};
pub use route_key::{BadRouteKey, RouteKey};
pub use selection::{BadExpression, RouteSelectionExpression};

use error_frame::ErrorFrame;

/// What is served: an immutable snapshot, made whole and swapped whole.
pub struct Deployment {
    pub api: ApiInfo,
    pub routes: RouteTable,
    pub connection: ConnectionLimits,
}

pub struct Gateway {
    connections: Arc<Connections>,
    backend: Backend,
    deployment: ArcSwap<Deployment>,
    metrics: Arc<Metrics>,
}

/// A peer that `$connect` let in.
pub struct Admitted {
    pub presence: Presence,
    /// What the handler chose of the protocols that the peer offered.
    pub subprotocol: Option<String>,
}

/// A peer that stays outside, and the status that tells it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
}

/// An upgrade request, as `$connect` is told.
pub struct Upgrade {
    pub peer: Peer,
    pub headers: Vec<Field>,
    pub query_string: Vec<Field>,
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

    /// Runs `$connect` for a peer that waits outside. Without such a route everybody is let in.
    ///
    /// # Cancel safety
    /// None: dropping the future leaves the connection's row behind. Give it a task of its own.
    pub async fn connect(&self, upgrade: Upgrade) -> Result<Admitted, Refusal> {
        let Upgrade { peer, headers, query_string } = upgrade;
        let deployment = self.deployment();
        let id = ConnectionId::random(NodeId(0));
        let presence = self.connections.enter(Connection::new(id, peer, &deployment.connection));
        let row = Row { id, connected_at: presence.connected_at, peer: presence.peer.clone(), attributes: Vec::new() };
        if let Err(error) = self.backend.open_row(row).await {
            warn!(connection_id = %id, %error, "a connection is refused: its row cannot be written");
            return Err(Refusal { status: 500 });
        }
        match self.admit(&deployment, &presence, headers, query_string).await {
            Ok(subprotocol) => {
                presence.outbox.open();
                Ok(Admitted { presence, subprotocol })
            }
            Err(refusal) => {
                self.forget(id).await;
                Err(refusal)
            }
        }
    }

    async fn admit(
        &self,
        deployment: &Deployment,
        connection: &Arc<Connection>,
        headers: Vec<Field>,
        query_string: Vec<Field>,
    ) -> Result<Option<String>, Refusal> {
        let Some(route) = &deployment.routes.connect else { return Ok(None) };
        let event = Event::Connect { headers, query_string };
        let (_, result) = self.run(route, connection, now(), &event).await;
        match result {
            Ok(response) if response.is_success() => Ok(subprotocol(response)),
            Ok(response) => Err(Refusal { status: response.status_code }),
            Err(InvokeError::TimedOut(_)) => Err(Refusal { status: 504 }),
            Err(InvokeError::Overloaded(_)) => Err(Refusal { status: 429 }),
            Err(_) => Err(Refusal { status: 502 }),
        }
    }

    /// Runs the route that a message selects; what comes back is for the peer.
    pub async fn message(&self, connection: &Arc<Connection>, body: Payload) -> Option<Payload> {
        let received = now();
        connection.touch(received);
        let route = self.deployment.load().routes.select(&body);
        let Some(route) = route else {
            self.metrics.no_route();
            return Some(ErrorFrame::Forbidden.payload(connection.id, RequestId::next()));
        };
        let event = Event::Message { message_id: RequestId::next(), body };
        let (request_id, result) = self.run(&route, connection, received, &event).await;
        match result {
            Ok(response) if route.route_response => response.body,
            Ok(_) => None,
            Err(error) => Some(ErrorFrame::from(&error).payload(connection.id, request_id)),
        }
    }

    /// Runs `$disconnect`, then drops the connection's row. To be called once for each connection
    /// that was admitted.
    pub async fn disconnect(&self, connection: &Arc<Connection>, end: Disconnect) {
        // What the handler answers is nobody's: the peer is gone.
        if let Some(route) = &self.deployment().routes.disconnect {
            let _ = self.run(route, connection, now(), &Event::Disconnect(end)).await;
        }
        self.forget(connection.id).await;
    }

    /// Ends what another process left behind when it died: `$disconnect` for each row, one after
    /// the other. Says how many there were.
    pub async fn bury(&self, rows: Vec<Row>) -> usize {
        let count = rows.len();
        for row in rows {
            let connection = Arc::new(Connection::left_behind(row.id, row.connected_at, row.peer));
            self.disconnect(&connection, Disconnect::abnormal()).await;
        }
        count
    }

    async fn forget(&self, id: ConnectionId) {
        if let Err(error) = self.backend.drop_row(id).await {
            warn!(connection_id = %id, %error, "the row of a connection that ended is left behind");
        }
    }

    /// Invokes a route's integration and tells the log and the metrics how it went.
    async fn run(
        &self,
        route: &Route,
        connection: &Arc<Connection>,
        request_time: EpochMillis,
        event: &Event,
    ) -> (RequestId, Result<Response, InvokeError>) {
        let request_id = RequestId::next();
        let caller =
            Caller { connection: Arc::clone(connection), route_key: Arc::clone(&route.name), request_id, request_time };
        let Integration::Component(plugin) = &route.integration;
        let invocation = plugin.invoke(caller, event).await;
        route.metrics.record(&invocation);
        if let Err(error) = &invocation.result {
            report(route, connection.id, request_id, error);
        }
        (request_id, invocation.result)
    }
}

/// One line for whoever runs the handler: what failed, which version of it, and for which request.
fn report(route: &Route, connection_id: ConnectionId, request_id: RequestId, error: &InvokeError) {
    let Integration::Component(plugin) = &route.integration;
    macro_rules! say {
        ($level:expr) => {
            event!(
                $level,
                plugin = %plugin.name(),
                version = %plugin.version(),
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
        InvokeError::Overloaded(_) => say!(Level::ERROR),
        _ => say!(Level::WARN),
    }
}

/// The one header of a `$connect` answer that goes into the 101.
fn subprotocol(response: Response) -> Option<String> {
    let chosen = response.headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    chosen.map(|(_, value)| value)
}
