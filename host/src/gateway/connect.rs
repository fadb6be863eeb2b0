//! `$connect`: what a peer that waits outside goes through until it is let in.

use std::sync::Arc;

use tracing::warn;

use crate::backend::Row;
use crate::capability::Caller;
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Event, Field, Response, now};
use crate::gateway::access_log::{Failure, Outcome};
use crate::gateway::{Gateway, Ran, RouteKey, Stage};
use crate::id::{ConnectionId, NodeId};
use crate::runtime::InvokeError;

/// An upgrade request, as `$connect` is told.
pub struct Upgrade {
    pub peer: Peer,
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

impl Gateway {
    /// Runs `$connect` of a stage for a peer that waits outside. Without such a route everybody is
    /// let in.
    ///
    /// # Cancel safety
    /// None: dropping the future leaves the connection's row behind. Give it a task of its own.
    pub async fn connect(&self, stage: Arc<Stage>, upgrade: Upgrade) -> Result<Admitted, Refusal> {
        let Upgrade { peer, headers, query_string } = upgrade;
        let id = ConnectionId::random(NodeId(0));
        let mut connection = Connection::new(id, Arc::clone(&stage.api.stage), peer, &stage.connection);
        connection.message_count = stage.metrics.message_count.clone();
        let presence = self.connections.enter(connection);
        let event = Event::Connect { headers, query_string };
        let caller = stage.caller(&presence, RouteKey::Connect.as_str().into(), now());
        let line = stage.line(&caller);
        let mut ran = None;
        let decided = self.decide(&stage, caller, &event, &mut ran).await;
        if let Err(refusal) = decided
            && ran.is_none()
            && (400..500).contains(&refusal.status)
        {
            let route = stage.routes.connect.as_ref();
            route.map_or(&stage.metrics, |route| &route.metrics.watched).client_error.increment(1);
        }
        if let Some(line) = line {
            line.write(&event, &outcome(&decided, ran.as_ref()));
        }
        let subprotocol = decided?;
        presence.outbox.open();
        Ok(Admitted { presence, subprotocol })
    }

    /// Whether the peer is let in. `ran` is what its handler came to, where one was asked.
    async fn decide(
        &self,
        stage: &Stage,
        caller: Caller,
        event: &Event,
        ran: &mut Option<Ran>,
    ) -> Result<Option<String>, Refusal> {
        let (id, peer) = (caller.connection.id, &caller.connection.peer);
        if let Err(limit) = stage.throttles.upgrade(peer, stage.routes.connect.as_deref()) {
            self.refused.count(limit, Some(peer));
            return Err(Refusal { status: 429 });
        }
        self.remember(&caller.connection).await?;
        let admitted = match self.admit(stage, caller, event, ran).await {
            Ok(subprotocol) => match self.backend.admit_row(id).await {
                Ok(()) => Ok(subprotocol),
                Err(error) => Err(unwritten(id, &error)),
            },
            Err(refusal) => Err(refusal),
        };
        if admitted.is_err() {
            self.forget(id).await;
        }
        admitted
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
        caller: Caller,
        event: &Event,
        ran: &mut Option<Ran>,
    ) -> Result<Option<String>, Refusal> {
        let Some(route) = &stage.routes.connect else { return Ok(None) };
        route.metrics.watched.connect_count.increment(1);
        match &ran.insert(self.run(stage, route, caller, event).await).result {
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
fn outcome(decided: &Result<Option<String>, Refusal>, ran: Option<&Ran>) -> Outcome {
    let answered = ran.and_then(|ran| ran.result.as_ref().ok()).map(|response| response.status_code);
    let integration = ran.map(Into::into);
    match decided {
        Ok(_) => Outcome { status: answered.unwrap_or(200), integration, ..Outcome::default() },
        // The handler's own word.
        Err(refusal) if answered == Some(refusal.status) => {
            Outcome { status: refusal.status, integration, ..Outcome::default() }
        }
        Err(refusal) => {
            Outcome { status: refusal.status, error: Some(failure(refusal.status)), integration, ..Outcome::default() }
        }
    }
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
