//! The connection rows of a storage engine.

use super::redis::RedisRows;
use super::sled::Sled;
use super::{AttributeChange, BackendError, Page, Row, StoreName};
use crate::event::Field;
use crate::id::{ConnectionId, StageId};

/// Clones refer to the same rows.
#[derive(Clone)]
pub enum Rows {
    Sled(Sled),
    Redis(RedisRows),
}

impl Rows {
    pub async fn insert_row(&self, row: Row) -> Result<(), BackendError> {
        match self {
            Self::Sled(sled) => sled.insert_row(row).await,
            Self::Redis(redis) => redis.insert_row(row).await,
        }
    }

    pub async fn admit_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        match self {
            Self::Sled(sled) => sled.admit_row(stage, id).await,
            Self::Redis(redis) => redis.admit_row(stage, id).await,
        }
    }

    pub async fn change_row(
        &self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        match self {
            Self::Sled(sled) => sled.change_row(stage, store, id, change).await,
            Self::Redis(redis) => redis.change_row(stage, store, id, change).await,
        }
    }

    pub async fn delete_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        match self {
            Self::Sled(sled) => sled.delete_row(stage, id).await,
            Self::Redis(redis) => redis.delete_row(stage, id).await,
        }
    }

    pub async fn row(&self, stage: StageId, store: &StoreName, id: ConnectionId) -> Result<Option<Row>, BackendError> {
        match self {
            Self::Sled(sled) => Ok(sled.row(stage, store, id)),
            Self::Redis(redis) => redis.row(stage, store, id).await,
        }
    }

    /// Whether this process is the authority for the row. With sled it is for all.
    pub fn has_own(&self, stage: StageId, id: ConnectionId) -> bool {
        match self {
            Self::Sled(_) => true,
            Self::Redis(redis) => redis.has_own(stage, id),
        }
    }

    pub fn stages_left_behind(&self) -> Vec<StageId> {
        match self {
            Self::Sled(sled) => sled.stages_left_behind(),
            Self::Redis(redis) => redis.stages_left_behind(),
        }
    }

    pub fn left_behind(&self, stage: StageId, after: Option<ConnectionId>) -> Page<Row> {
        match self {
            Self::Sled(sled) => sled.left_behind(stage, after),
            Self::Redis(redis) => redis.left_behind(stage, after),
        }
    }

    pub async fn query(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Field,
        after: Option<ConnectionId>,
    ) -> Result<Page<Row>, BackendError> {
        match self {
            Self::Sled(sled) => Ok(sled.query(stage, store, attribute, after)),
            Self::Redis(redis) => redis.query(stage, store, attribute, after).await,
        }
    }

    pub async fn scan(
        &self,
        stage: StageId,
        store: &StoreName,
        after: Option<ConnectionId>,
    ) -> Result<Page<Row>, BackendError> {
        match self {
            Self::Sled(sled) => Ok(sled.scan(stage, store, after)),
            Self::Redis(redis) => redis.scan(stage, store, after).await,
        }
    }

    pub async fn matching(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Field,
    ) -> Result<Vec<ConnectionId>, BackendError> {
        match self {
            Self::Sled(sled) => Ok(sled.matching(stage, store, attribute)),
            Self::Redis(redis) => redis.matching(stage, store, attribute).await,
        }
    }
}
