//! Compares the index with the rows, and does to the store what tests need.

use std::collections::BTreeSet;

use super::super::super::BackendError;
use super::{RedisRows, damaged, index_names, without_version};
#[cfg(test)]
use crate::id::{ConnectionId, NodeId, StageId};

impl RedisRows {
    /// Returns the differences between the indexes and the rows of all stages that this process knows.
    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        let mut found = Vec::new();
        for stage in self.inner.names.all() {
            let mut command = redis::cmd("HGETALL");
            let rows: Vec<Vec<u8>> = self.inner.client.query(command.arg(self.key(stage, "rows"))).await?;
            let mut expected = BTreeSet::new();
            for pair in rows.chunks_exact(2) {
                let id = String::from_utf8_lossy(&pair[0]).into_owned();
                for name in attribute_names(&pair[1])? {
                    expected.insert((name, id.clone()));
                }
                expected.insert((String::new(), id));
            }
            let mut stored = BTreeSet::new();
            let ids: Vec<String> =
                self.inner.client.query(redis::cmd("ZRANGE").arg(self.key(stage, "ids")).arg(0).arg(-1)).await?;
            stored.extend(ids.into_iter().map(|id| (String::new(), id)));
            let prefix = self.key(stage, "index:");
            // `*`, `?`, `[` and `\\` have a meaning in patterns; a `?` stands for any character.
            let pattern: String = prefix.chars().map(|c| if "*?[]\\".contains(c) { '?' } else { c }).collect();
            let keys: Vec<String> = self.inner.client.query(redis::cmd("KEYS").arg(format!("{pattern}*"))).await?;
            for key in keys {
                let ids: Vec<String> = self.inner.client.query(redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1)).await?;
                stored.extend(ids.into_iter().map(|id| (key[prefix.len()..].to_owned(), id)));
            }
            found.extend(
                expected
                    .symmetric_difference(&stored)
                    .map(|(name, id)| format!("the index and the row of {id} differ in {name:?}")),
            );
        }
        Ok(found)
    }
}

/// The same for a row as it is stored.
fn attribute_names(stored: &[u8]) -> Result<Vec<String>, BackendError> {
    index_names(without_version(stored)?).ok_or_else(damaged)
}

/// What tests do to the store.
#[cfg(test)]
impl RedisRows {
    /// Deletes all keys.
    pub async fn lose_data(&self) {
        let mut command = redis::cmd("KEYS");
        let keys: Vec<String> = self.inner.client.query(command.arg(self.inner.client.key("*", "*"))).await.unwrap();
        self.inner.client.query::<u64>(redis::cmd("DEL").arg(keys)).await.unwrap();
    }

    pub async fn lose_key(&self, tag: &str, name: &str) {
        self.inner.client.query::<u64>(redis::cmd("DEL").arg(self.inner.client.key(tag, name))).await.unwrap();
    }

    /// Deletes a row here, but not in Redis.
    pub fn forget_row(&self, stage: StageId, id: ConnectionId) {
        let mut rows = self.own_mut();
        rows.remove(stage, id);
        rows.mark_saved(&(stage, id));
    }

    /// Forgets that a row was taken over, as if the answer of Redis had not arrived.
    pub fn forget_adopted(&self, stage: StageId, id: ConnectionId) {
        self.forget_row(stage, id);
        self.adopted().clear();
    }

    /// Takes the number of a node that is gone, as another process.
    pub async fn take_number(&self, number: NodeId) {
        let mut command = redis::cmd("HSET");
        command.arg(self.inner.client.key("nodes", "epochs")).arg(number.0).arg("00");
        self.inner.client.query::<u64>(&command).await.unwrap();
    }
}
