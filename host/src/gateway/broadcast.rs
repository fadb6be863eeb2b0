//! Operations on all connections of a stage: list them, and send one payload to each of them.

use crate::backend::{BackendError, Page, StoreName};
use crate::connections::PostError;
use crate::directory::ConnectionInfo;
use crate::event::Field;
use crate::gateway::Gateway;
use crate::id::{ConnectionId, StageId};
use crate::payload::Payload;

/// An open connection, and the attributes of its row.
pub struct ListedConnection {
    pub id: ConnectionId,
    pub info: ConnectionInfo,
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
        let ids: Vec<_> = rows.items.iter().map(|row| row.id).collect();
        let infos = self.directory.infos(stage, &ids).await;
        let listed = rows.items.into_iter().zip(infos).filter_map(|(row, info)| {
            Some(ListedConnection { id: row.id, info: info.ok()?, attributes: row.attributes })
        });
        Ok(Page { items: listed.collect(), cursor: rows.cursor })
    }

    /// Returns the connections of a stage on all nodes.
    async fn ids_in_stage(&self, stage: StageId) -> Result<Vec<ConnectionId>, BackendError> {
        if !self.directory.has_other_nodes() {
            return Ok(self.connections().ids_in_stage(stage));
        }
        self.backend.connection_store(stage, &StoreName::Shared).ids().await
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
            None => self.ids_in_stage(stage).await?,
        };
        let mut broadcast = Broadcast::default();
        let Ok(post) = self.connections().share(payload) else {
            return Ok(Broadcast { sent: 0, refused: ids.len() });
        };
        for result in self.directory.post_to_many(stage, &ids, post).await {
            match result {
                Ok(()) => broadcast.sent += 1,
                Err(PostError::Gone) => {}
                Err(_) => broadcast.refused += 1,
            }
        }
        Ok(broadcast)
    }
}
