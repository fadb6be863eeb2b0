//! `$connect`: what a peer that waits outside goes through until it is let in.

use std::sync::Arc;

use tracing::warn;

use crate::backend::Row;
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Event, Field, Response, now};
use crate::gateway::{Gateway, Stage};
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
        if let Err(limit) = stage.throttles.upgrade(&peer, stage.routes.connect.as_deref()) {
            self.refused.count(limit, Some(&peer));
            return Err(Refusal { status: 429 });
        }
        let id = ConnectionId::random(NodeId(0));
        let connection = Connection::new(id, Arc::clone(&stage.api.stage), peer, &stage.connection);
        let presence = self.connections.enter(connection);
        self.remember(&presence).await?;
        let admitted = match self.admit(&stage, &presence, headers, query_string).await {
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
        connection: &Arc<Connection>,
        headers: Vec<Field>,
        query_string: Vec<Field>,
    ) -> Result<Option<String>, Refusal> {
        let Some(route) = &stage.routes.connect else { return Ok(None) };
        let event = Event::Connect { headers, query_string };
        let (_, result) = self.run(stage, route, connection, now(), &event).await;
        match result {
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
fn subprotocol(response: Response) -> Option<String> {
    let chosen = response.headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    chosen.map(|(_, value)| value)
}
