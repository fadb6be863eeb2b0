//! All connections of the API, and the rows of each.
//!
//! Its functions are async, so that a connection may be somewhere else than in this process. A call for one of this process
//! never waits.

use std::sync::Arc;

use crate::backend::{AttributeChange, Backend, BackendError, StoreName};
use crate::connections::{CloseFrame, Connection, Connections, Post, PostError};
use crate::event::EpochMillis;
use crate::id::{ConnectionId, StageId};
use crate::limits::TURN_POSTS;

pub struct Directory {
    connections: Arc<Connections>,
    backend: Backend,
}

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    pub connected_at: EpochMillis,
    pub last_active_at: EpochMillis,
    pub source_ip: String,
    pub user_agent: Option<String>,
}

impl Directory {
    /// The directory of a process that is the only node.
    pub fn local(connections: Arc<Connections>, backend: Backend) -> Arc<Self> {
        Arc::new(Self { connections, backend })
    }

    /// The connections of this process.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Queues a message for the peer.
    ///
    /// # Errors
    /// As [`Connections::post`].
    pub async fn post(&self, stage: StageId, id: &ConnectionId, post: impl Into<Post>) -> Result<(), PostError> {
        self.connections.post(stage, id, post)
    }

    /// Sends the same message to many connections. Returns the results in the order of the ids.
    pub async fn post_to_many(&self, stage: StageId, ids: &[ConnectionId], post: Post) -> Vec<Result<(), PostError>> {
        let mut results = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(TURN_POSTS) {
            if !results.is_empty() {
                tokio::task::yield_now().await;
            }
            results.extend(chunk.iter().map(|id| self.connections.post(stage, id, post.clone())));
        }
        results
    }

    /// Returns what is known of an open connection.
    ///
    /// # Errors
    /// `Gone` if there is none.
    pub async fn info(&self, stage: StageId, id: &ConnectionId) -> Result<ConnectionInfo, PostError> {
        self.connections.get_open(stage, id).map(|connection| (&*connection).into())
    }

    /// Returns the same for many connections, in the order of the ids.
    pub async fn infos(&self, stage: StageId, ids: &[ConnectionId]) -> Vec<Result<ConnectionInfo, PostError>> {
        let info = |id| self.connections.get_open(stage, id).map(|connection| (&*connection).into());
        ids.iter().map(info).collect()
    }

    /// Closes a connection from this side.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id.
    pub async fn close(&self, stage: StageId, id: &ConnectionId, frame: CloseFrame) -> Result<(), PostError> {
        self.connections.delete(stage, id, frame)
    }

    /// Changes the attributes of a row.
    pub async fn change(
        &self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        self.backend.connection_store(stage, store).change(id, change).await
    }
}

impl From<&Connection> for ConnectionInfo {
    fn from(connection: &Connection) -> Self {
        Self {
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at(),
            source_ip: connection.peer.source_ip.clone(),
            user_agent: connection.peer.user_agent.clone(),
        }
    }
}
