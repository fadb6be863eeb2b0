//! What is asked of all connections of a stage at once: to list them, to send to them.

use std::sync::Arc;

use crate::backend::{BackendError, Page};
use crate::connections::{Connection, PostError};
use crate::event::Field;
use crate::gateway::Gateway;
use crate::payload::Payload;

/// So many posts may follow each other before others have their turn.
const POSTS_AT_ONCE: usize = 256;

/// A connection, and the attributes of its row.
pub struct Listed {
    pub connection: Arc<Connection>,
    pub attributes: Vec<Field>,
}

/// How many connections took a payload, and how many outboxes were too full for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    pub sent: usize,
    pub refused: usize,
}

impl Gateway {
    /// The open connections of a stage, all or those with this attribute, a page at a time.
    ///
    /// A page may have fewer than another, as connections come and go; the last one has no cursor.
    pub async fn list(
        &self,
        stage: &str,
        attribute: Option<Field>,
        cursor: Option<String>,
    ) -> Result<Page<Listed>, BackendError> {
        let rows = match attribute {
            Some((name, value)) => self.backend.query(stage, name, value, cursor).await?,
            None => self.backend.scan(stage, cursor).await?,
        };
        let listed = rows.items.into_iter().filter_map(|row| {
            let connection = self.connections.open(stage, &row.id).ok()?;
            Some(Listed { connection, attributes: row.attributes })
        });
        Ok(Page { items: listed.collect(), cursor: rows.cursor })
    }

    /// Queues a payload for the open connections of a stage, all or those with this attribute.
    pub async fn broadcast(
        &self,
        stage: &str,
        attribute: Option<Field>,
        payload: Payload,
    ) -> Result<Broadcast, BackendError> {
        let ids = match attribute {
            Some((name, value)) => self.backend.matching(name, value).await?,
            None => self.connections.of_stage(stage),
        };
        let mut broadcast = Broadcast::default();
        for some in ids.chunks(POSTS_AT_ONCE) {
            for id in some {
                match self.connections.post(stage, id, payload.clone()) {
                    Ok(()) => broadcast.sent += 1,
                    Err(PostError::LimitExceeded) => broadcast.refused += 1,
                    Err(PostError::Gone) => {}
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(broadcast)
    }
}
