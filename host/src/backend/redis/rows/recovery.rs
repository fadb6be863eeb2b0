//! What a node does after a failure: writes its rows again after Redis was away, and takes over the rows of nodes that are
//! gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use futures_util::{StreamExt as _, stream};

use super::super::super::BackendError;
use super::super::super::row_table::RowKey;
use super::super::nodes::TAKEN_OVER_SECONDS;
use super::{ADOPT_ROWS, RedisRows, damaged, parse_id, without_version};
use crate::id::{ApiNumber, StageId};

/// How many rows of a stage are taken from a node that is gone at once.
const ADOPTED_MAX: usize = 256;

/// How many rows are written again at the same time.
const SAVES_MAX: usize = 64;

impl RedisRows {
    /// Writes the rows that Redis did not take, or all rows of this node if Redis may have lost them. Returns how many. Rows
    /// that Redis does not take now are written by the next call.
    pub async fn save_again(&self) -> Result<usize, BackendError> {
        let incomplete = self.inner.node.incomplete_data();
        if incomplete.is_some() {
            // What Redis has now may be other rows with the same ids.
            self.adopted().clear();
            self.inner.node.take_over_again().await?;
            self.add_stages_again().await?;
        }
        let keys: HashSet<RowKey> = {
            let mut rows = self.own_mut();
            let unsaved = rows.take_unsaved();
            if incomplete.is_some() { rows.keys().chain(unsaved).collect() } else { unsaved }
        };
        let (count, mut left) = (keys.len(), keys.clone());
        let saves = stream::iter(keys).map(|key| async move { (key, self.save(key).await) });
        let mut saves = std::pin::pin!(saves.buffer_unordered(SAVES_MAX));
        while let Some((key, saved)) = saves.next().await {
            match saved {
                Ok(()) => left.remove(&key),
                Err(error) => {
                    self.own_mut().mark_unsaved(left);
                    return Err(error);
                }
            };
        }
        if let Some(data) = incomplete {
            self.delete_unknown().await?;
            self.inner.node.completed(data);
        }
        Ok(count)
    }

    /// Records the stages of all rows, so that another node finds them.
    async fn add_stages_again(&self) -> Result<(), BackendError> {
        self.inner.node.forget_stages();
        let stages: BTreeSet<StageId> = self.own().keys().map(|(stage, _)| stage).collect();
        for stage in stages {
            self.inner.node.add_stage(&self.inner.names.name(stage)).await?;
        }
        Ok(())
    }

    /// Deletes the rows of this node that only Redis has, as after it was started with the data of an earlier moment.
    async fn delete_unknown(&self) -> Result<(), BackendError> {
        for stage in self.inner.node.stages().await? {
            let stage = self.inner.names.id(ApiNumber(0), &stage);
            let mut command = redis::cmd("SMEMBERS");
            command.arg(self.key(stage, &format!("node:{}", self.inner.node.name())));
            let ids: Vec<String> = self.inner.client.query(&command).await?;
            for id in ids {
                let key = (stage, parse_id(&id)?);
                if self.own().is_missing(&key) {
                    self.save(key).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes rows of nodes that are gone, of each stage at most `ADOPTED_MAX`. They are in no query any more, and belong
    /// to this node until they are deleted. Returns how many.
    pub async fn adopt_all(&self) -> Result<usize, BackendError> {
        if let kept @ 1.. = self.inner.kept.swap(0, Ordering::AcqRel) {
            return Ok(kept);
        }
        let mut count = 0;
        for gone in self.inner.node.take_over().await? {
            let mut of_node = 0;
            for stage in self.inner.node.stages().await? {
                of_node += self.adopt(self.inner.names.id(ApiNumber(0), &stage), &gone).await?;
            }
            if of_node == 0 {
                self.inner.node.forget(&gone).await?;
                self.adopted().retain(|key, _| !key.ends_with(&format!(":node:{gone}")));
            }
            count += of_node;
        }
        Ok(count)
    }

    async fn adopt(&self, stage: StageId, gone: &str) -> Result<usize, BackendError> {
        let key = self.key(stage, &format!("node:{gone}"));
        let mut call = self.invocation(&ADOPT_ROWS, stage);
        call.key(&key).arg(ADOPTED_MAX).arg(TAKEN_OVER_SECONDS);
        for id in self.adopted().get(&key).into_iter().flatten() {
            call.arg(id);
        }
        let stored: Vec<Vec<u8>> = self.inner.client.invoke(&call).await?;
        let mut ids = Vec::new();
        for pair in stored.chunks_exact(2) {
            let text = String::from_utf8(pair[0].clone()).map_err(|_| damaged())?;
            let id = parse_id(&text)?;
            let mut rows = self.own_mut();
            // If its deletion waits until Redis answers, its `$disconnect` has run.
            if !rows.is_unsaved(&(stage, id)) {
                rows.load(id, without_version(&pair[1])?);
            }
            ids.push(text);
        }
        let count = ids.len();
        self.adopted().insert(key, ids);
        Ok(count)
    }

    pub(super) fn adopted(&self) -> MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.inner.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
