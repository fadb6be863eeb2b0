//! `$connect`: what a peer that waits outside goes through until it is let in.

use std::sync::Arc;

use http::Uri;
use tracing::warn;

use crate::backend::Row;
use crate::capability::Caller;
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Event, Field, Response, now};
use crate::gateway::access_log::{Failure, Outcome};
use crate::gateway::authorizer::Asking;
use crate::gateway::guard::Authorized;
use crate::gateway::{Gateway, Ran, Route, RouteKey, Stage};
use crate::id::{ConnectionId, NodeId};
use crate::runtime::InvokeError;

/// An upgrade request, as `$connect` is told.
pub struct Upgrade {
    pub peer: Peer,
    /// Path and query, as they were sent.
    pub target: Uri,
    pub headers: Vec<Field>,
    pub query_string: Vec<Field>,
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

/// How far a peer came.
#[derive(Default)]
struct Progress {
    /// What the authorizer came to, where one was asked.
    authorized: Option<Authorized>,
    /// What the handler came to, where it was asked.
    ran: Option<Ran>,
}

impl Gateway {
    /// Runs `$connect` of a stage for a peer that waits outside. Without such a route everybody is
    /// let in.
    ///
    /// # Cancel safety
    /// None: dropping the future leaves the connection's row behind. Give it a task of its own.
    pub async fn connect(&self, stage: Arc<Stage>, upgrade: Upgrade) -> Result<Admitted, Refusal> {
        let Upgrade { peer, target, headers, query_string } = upgrade;
        let id = ConnectionId::random(NodeId(0));
        let mut connection = Connection::new(id, Arc::clone(&stage.api.stage), peer, &stage.connection);
        connection.message_count = stage.metrics.message_count.clone();
        let event = Event::Connect { headers, query_string };
        let mut caller = stage.caller(&Arc::new(connection), RouteKey::Connect.as_str().into(), now());
        let mut progress = Progress::default();
        let decided = match self.pass_guards(&stage, &mut caller, &event, &target, &mut progress).await {
            Ok(()) => self.decide(&stage, &caller, &event, &mut progress).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &decided
            && progress.ran.is_none()
            && (400..500).contains(&refusal.status)
        {
            let route = stage.routes.connect.as_ref();
            route.map_or(&stage.metrics, |route| &route.metrics.watched).client_error.increment(1);
        }
        if let Some(log) = &stage.access_log {
            log.write(&caller, &event, &outcome(decided.as_ref().err(), progress));
        }
        decided
    }

    /// Asks the throttles, then whatever stands before `$connect`: nobody who does not pass them leaves a
    /// trace in the store. The caller is from then on who that found it to be.
    async fn pass_guards(
        &self,
        stage: &Stage,
        caller: &mut Caller,
        event: &Event,
        target: &Uri,
        progress: &mut Progress,
    ) -> Result<(), Refusal> {
        let route = stage.routes.connect.as_ref();
        if let Err(limit) = stage.throttles.upgrade(&caller.connection.peer, route) {
            self.refused.count(limit, Some(&caller.connection.peer));
            return Err(Refusal { status: 429 });
        }
        let Some(guard) = route.and_then(|route| route.guard.as_ref()) else { return Ok(()) };
        let asking = Asking { caller, event, target };
        match Box::pin(self.pass(stage, guard, asking, &mut progress.authorized)).await {
            Ok(peer) => {
                caller.connection = Arc::new(caller.connection.of_peer(peer, &stage.connection));
                Ok(())
            }
            Err(refused) => {
                self.tell_of_refusal(guard, asking, &refused);
                Err(Refusal { status: refused.status() })
            }
        }
    }

    /// Whether the handler lets the peer in.
    async fn decide(
        &self,
        stage: &Stage,
        caller: &Caller,
        event: &Event,
        progress: &mut Progress,
    ) -> Result<Admitted, Refusal> {
        let presence = self.connections.enter(Arc::clone(&caller.connection));
        let id = presence.id;
        self.remember(&presence).await?;
        let admitted = match &stage.routes.connect {
            Some(route) => self.admit(stage, route, caller, event, progress).await,
            None => Ok(None),
        };
        let admitted = match admitted {
            Ok(subprotocol) => match self.backend.admit_row(id).await {
                Ok(()) => Ok(subprotocol),
                Err(error) => Err(unwritten(id, &error)),
            },
            Err(refusal) => Err(refusal),
        };
        match admitted {
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

    /// Makes the connection's row, in which its `$connect` may write already.
    async fn remember(&self, connection: &Connection) -> Result<(), Refusal> {
        let row = Row {
            id: connection.id,
            stage: (*connection.stage).to_owned(),
            connected_at: connection.connected_at,
            admitted: false,
            peer: connection.peer.clone(),
            attributes: Vec::new(),
        };
        self.backend.open_row(row).await.map_err(|error| unwritten(connection.id, &error))
    }

    async fn admit(
        &self,
        stage: &Stage,
        route: &Route,
        caller: &Caller,
        event: &Event,
        progress: &mut Progress,
    ) -> Result<Option<String>, Refusal> {
        route.metrics.watched.connect_count.increment(1);
        match &progress.ran.insert(self.run(stage, route, caller, event).await).result {
            Ok(response) if response.is_success() => Ok(subprotocol(response)),
            Ok(response) => Err(Refusal { status: response.status_code }),
            Err(InvokeError::TimedOut(_)) => Err(Refusal { status: 504 }),
            Err(InvokeError::Overloaded(_)) => Err(Refusal { status: 429 }),
            Err(_) => Err(Refusal { status: 502 }),
        }
    }
}

fn unwritten(id: ConnectionId, error: &crate::backend::BackendError) -> Refusal {
    warn!(connection_id = %id, %error, "a connection is refused: its row cannot be written");
    Refusal { status: 500 }
}

/// The one header of a `$connect` answer that goes into the 101.
fn subprotocol(response: &Response) -> Option<String> {
    let chosen = response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    chosen.map(|(_, value)| value.clone())
}

/// What the access log tells of a handshake.
fn outcome(refusal: Option<&Refusal>, progress: Progress) -> Outcome {
    let Progress { authorized, ran } = progress;
    let answered = ran.as_ref().and_then(|ran| ran.result.as_ref().ok()).map(|response| response.status_code);
    let (status, error) = match refusal {
        None => (answered.unwrap_or(200), None),
        // The handler's own word.
        Some(refusal) if answered == Some(refusal.status) => (refusal.status, None),
        Some(refusal) => (refusal.status, Some(failure(refusal.status))),
    };
    let integration = ran.as_ref().map(Into::into);
    Outcome { status, error, integration, authorized, ..Outcome::default() }
}

/// What API Gateway calls a refusal of that status.
fn failure(status: u16) -> Failure {
    let (message, response_type) = match status {
        400 => ("Bad Request", "BAD_REQUEST_PARAMETERS"),
        401 => ("Unauthorized", "UNAUTHORIZED"),
        403 => ("Forbidden", "ACCESS_DENIED"),
        429 => ("Too Many Requests", "THROTTLED"),
        502 => ("Bad Gateway", "INTEGRATION_FAILURE"),
        504 => ("Gateway Timeout", "INTEGRATION_TIMEOUT"),
        400..500 => ("Refused", "DEFAULT_4XX"),
        _ => ("Internal Server Error", "DEFAULT_5XX"),
    };
    Failure { message, response_type }
}
