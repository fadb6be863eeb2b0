//! Operations on all connections of a stage: list them, and send one payload to each of them.

use std::sync::Arc;

use crate::backend::{BackendError, Page, StoreName};
use crate::connections::{Connection, PostError};
use crate::event::Field;
use crate::gateway::Gateway;
use crate::id::StageId;
use crate::limits::TURN_POSTS;
use crate::payload::Payload;

/// An open connection, and the attributes of its row.
pub struct ListedConnection {
    pub connection: Arc<Connection>,
    pub attributes: Vec<Field>,
}

/// Result of a broadcast: the number of connections that queued the payload, and of those that could not queue it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    pub sent: usize,
    pub refused: usize,
}

impl Gateway {
    /// Returns one page of the open connections of a stage: all of them, or those with this attribute.
    ///
    /// Pages differ in length, because connections open and close in the meantime. The last page has no cursor.
    pub async fn list(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Option<Field>,
        cursor: Option<String>,
    ) -> Result<Page<ListedConnection>, BackendError> {
        let store = self.backend.connection_store(stage, store);
        let rows = match attribute {
            Some((name, value)) => store.query(name, value, cursor).await?,
            None => store.scan(cursor).await?,
        };
        let listed = rows.items.into_iter().filter_map(|row| {
            let connection = self.connections.get_open(stage, &row.id).ok()?;
            Some(ListedConnection { connection, attributes: row.attributes })
        });
        Ok(Page { items: listed.collect(), cursor: rows.cursor })
    }

    /// Queues a payload for the open connections of a stage: all of them, or those with this attribute.
    pub async fn broadcast(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Option<Field>,
        payload: Payload,
    ) -> Result<Broadcast, BackendError> {
        let ids = match attribute {
            Some((name, value)) => self.backend.connection_store(stage, store).matching(name, value).await?,
            None => self.connections.ids_in_stage(stage),
        };
        let mut broadcast = Broadcast::default();
        let Ok(post) = self.connections.share(payload) else {
            return Ok(Broadcast { sent: 0, refused: ids.len() });
        };
        for chunk in ids.chunks(TURN_POSTS) {
            for id in chunk {
                match self.connections.post(stage, id, post.clone()) {
                    Ok(()) => broadcast.sent += 1,
                    Err(PostError::LimitExceeded | PostError::OverBudget | PostError::TooLarge(_)) => {
                        broadcast.refused += 1
                    }
                    Err(PostError::Gone) => {}
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(broadcast)
    }
}
