//! The stored data: connection rows with an index on every attribute, and key-value buckets.
//!
//! Checks names and sizes here, so that the storage engine need not. Does not know sockets or guests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use humantime::format_duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::connections::Peer;
use crate::event::{EpochMillis, Field};
use crate::id::{ConnectionId, StageId, StageNames};
use crate::limits;

mod bucket;
mod buckets;
mod connection_store;
mod encoding;
mod export;
mod exports;
mod index;
mod membership;
mod node_record;
mod redis;
mod row_table;
mod rows;
mod sled;
#[cfg(test)]
mod tests;

use buckets::Buckets;
use redis::{Client, Node, RedisBuckets, RedisRows};
use rows::Rows;
use sled::Sled;

pub use bucket::{Bucket, BucketQuota, BucketUsage};
pub use connection_store::{AttributeChange, ConnectionStore, StoreName};
pub use export::Summary as ExportSummary;
pub use membership::{NodeProblem, NodeState};
pub use node_record::{LiveNode, NodeDescription, NodeRecord};
pub use redis::{Channel, RedisOptions, Renewal, TlsFiles};
pub use sled::Imported;

/// The row of one connection in one store. It exists from before `$connect` until after `$disconnect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: ConnectionId,
    pub stage: StageId,
    pub connected_at: EpochMillis,
    /// Whether `$connect` admitted the connection. A row that a crash leaves before that does not get a `$disconnect`.
    pub admitted: bool,
    /// Stored so that the next process can run `$disconnect` for connections that this process leaves behind.
    pub peer: Peer,
    /// Sorted by name, then by value. A name may have several values.
    pub attributes: Vec<Field>,
}

/// A part of a result, and the cursor for the next part.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last page. It names the last item of this page, so items that are
    /// added or removed between two pages do not shift the next page.
    pub cursor: Option<String>,
}

/// Where a page of keys begins. Keys are sorted by their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    Start,
    /// After the page that ended with this cursor.
    Cursor(String),
    /// After this number of keys, for a caller whose cursor is a count. Reads all skipped keys.
    Skip(u64),
}

/// The value that [`Backend::compare_and_swap`] found in place of the expected value.
pub type CurrentValue = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("there is no row for that connection")]
    NoSuchConnection,
    #[error("{0}")]
    TooLarge(String),
    /// The write would exceed the quota of a bucket.
    #[error("{0}")]
    BucketFull(String),
    #[error("{0}")]
    Invalid(String),
    /// The storage engine failed for this reason.
    #[error("the store failed: {0}")]
    Unavailable(String),
}

const REDIS_EXPORT: &str = "the store is Redis, which has tools of its own for this: see redis-cli --rdb";

/// When a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once. The engine flushes at this interval, so a crash of the machine or of this process may lose the writes
    /// of that time.
    Interval(Duration),
    /// When the data is on the disk.
    Always,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SledOptions {
    pub folder: PathBuf,
    pub durability: Durability,
}

/// The store of one server. Clones refer to the same store; dropping the last one flushes and closes it.
///
/// # Cancel safety
/// If the future of a write is dropped, the write may or may not happen. A single row or key is never written in part,
/// and a later write of a caller never takes effect before an earlier one of the same caller.
#[derive(Clone)]
pub struct Backend {
    rows: Rows,
    buckets: Buckets,
    stages: Arc<StageNames>,
}

impl Backend {
    /// Opens the folder, and creates it if it does not exist. Blocks. The store contains the rows that an earlier
    /// process left behind.
    ///
    /// # Errors
    /// If another process uses the folder, if it is not writable, or if its content is damaged.
    pub fn open_sled(options: &SledOptions) -> anyhow::Result<Self> {
        let stages = Arc::<StageNames>::default();
        let sled = Sled::open(options, &stages)?;
        Ok(Self { rows: Rows::Sled(sled.clone()), buckets: Buckets::Sled(sled), stages })
    }

    /// Connects to Redis or Valkey, and takes the number of a node there.
    ///
    /// # Errors
    /// If it does not answer, is no server for this, or may forget what is written to it.
    pub async fn connect_redis(options: &RedisOptions) -> anyhow::Result<Self> {
        let stages = Arc::<StageNames>::default();
        let client = Client::connect(options).await?;
        let node = Node::claim(client.clone(), options.lease).await?;
        info!(
            node = node.id().0, store = %options.place(), prefix = %options.prefix, lease = %format_duration(options.lease),
            "this process is a node"
        );
        let rows = RedisRows::new(client.clone(), node, &stages, options.admit_without_store);
        Ok(Self { rows: Rows::Redis(rows), buckets: Buckets::Redis(RedisBuckets::new(client)), stages })
    }

    /// Returns the same store for a caller with this name, such as a plugin. Each caller has a queue of its own for its
    /// calls for keys, so that many calls of one delay those of another by one turn of about a millisecond.
    pub fn for_caller(&self, name: &str) -> Self {
        Self { rows: self.rows.clone(), buckets: self.buckets.for_caller(name), stages: Arc::clone(&self.stages) }
    }

    /// Brings the store of a folder back from an export; see `jackfield store import`. Blocks.
    pub fn import(folder: &Path, export: &Path, replace: bool) -> anyhow::Result<Imported> {
        sled::import(folder, export, replace)
    }

    /// Whether a process uses the store of a folder. Blocks.
    pub fn is_in_use(folder: &Path) -> bool {
        sled::is_in_use(folder)
    }

    /// Returns the exports of the store in a folder, newest first, and whether each of them is good. Blocks.
    pub fn exports(folder: &Path) -> std::io::Result<Vec<(PathBuf, anyhow::Result<ExportSummary>)>> {
        let exports = exports::list(folder)?.into_iter();
        Ok(exports.map(|path| (path.clone(), export::verify(&path, sled::FORMAT.1))).collect())
    }

    fn sled(&self) -> Option<&Sled> {
        match &self.rows {
            Rows::Sled(sled) => Some(sled),
            Rows::Redis(_) => None,
        }
    }

    /// The numbers of the stages of this server.
    pub fn stages(&self) -> &StageNames {
        &self.stages
    }

    // ---- connection rows -------------------------------------------------------------------

    /// Adds the row with its attributes in the shared store, and replaces a row with the same id.
    pub async fn insert_row(&self, row: Row) -> Result<(), BackendError> {
        check_attributes(&row.attributes)?;
        let attributes = normalize_attributes(row.attributes)?;
        self.rows.insert_row(Row { attributes, ..row }).await
    }

    /// Records that `$connect` admitted the connection.
    pub async fn admit_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        self.rows.admit_row(stage, id).await
    }

    /// Whether this process is the authority for the row.
    pub fn has_own_row(&self, stage: StageId, id: ConnectionId) -> bool {
        self.rows.has_own(stage, id)
    }

    /// Returns a store of a stage, through which its rows are read and changed.
    pub fn connection_store<'b>(&'b self, stage: StageId, name: &'b StoreName) -> ConnectionStore<'b> {
        ConnectionStore { rows: &self.rows, stage, name }
    }

    /// Removes the row from all stores of its stage, if it exists.
    pub async fn delete_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        self.rows.delete_row(stage, id).await
    }

    /// Returns the stages that have rows which an earlier process left behind.
    pub fn stages_left_behind(&self) -> Vec<StageId> {
        self.rows.stages_left_behind()
    }

    /// Returns a page of the rows that an earlier process left behind in a stage, which no query returns: those after
    /// this id. An empty page is the end.
    pub fn left_behind(&self, stage: StageId, after: Option<ConnectionId>) -> Vec<Row> {
        self.rows.left_behind(stage, after).items
    }

    /// Returns all rows of all stages, with their attributes in the shared store.
    pub async fn rows(&self) -> Result<Vec<Row>, BackendError> {
        Ok(self.sled().map(Sled::rows).unwrap_or_default())
    }

    // ---- key-value buckets -----------------------------------------------------------------

    pub async fn get(&self, bucket: &str, key: String) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.get_many(bucket, vec![key]).await?.pop().flatten())
    }

    pub async fn set(&self, bucket: Bucket<'_>, key: String, value: Vec<u8>) -> Result<(), BackendError> {
        self.set_many(bucket, vec![(key, value)]).await
    }

    /// Removes the key if it exists.
    pub async fn delete(&self, bucket: &str, key: String) -> Result<(), BackendError> {
        self.delete_many(bucket, vec![key]).await
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        check_bucket(bucket)?;
        check_key(&key)?;
        self.buckets.exists(bucket, key).await
    }

    /// Returns a page of the keys of the bucket.
    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        check_bucket(bucket)?;
        self.buckets.list_keys(bucket, from).await
    }

    /// Adds `delta` to the decimal number in the key and returns the sum. A key that does not exist counts as 0.
    ///
    /// # Errors
    /// `Invalid` if the value is not a number or the sum overflows, `BucketFull` if the bucket has no space for the sum;
    /// then nothing changes.
    pub async fn increment(&self, bucket: Bucket<'_>, key: String, delta: i64) -> Result<i64, BackendError> {
        check_bucket(bucket.name)?;
        check_key(&key)?;
        self.buckets.increment(bucket, key, delta).await
    }

    /// Writes `new` if the key has a value with the hash `expected`; `None` is a key that does not exist.
    pub async fn compare_and_swap(
        &self,
        bucket: Bucket<'_>,
        key: String,
        expected: Option<blake3::Hash>,
        new: Vec<u8>,
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        check_bucket(bucket.name)?;
        check_key(&key)?;
        check_bytes("the value", new.len(), limits::VALUE_BYTES_MAX)?;
        self.buckets.compare_and_swap(bucket, key, expected, new).await
    }

    /// Adds one to the count in the key if the count of this period is below `limit`. Returns whether it was. The first
    /// call of another period begins with 0.
    pub async fn count_within(
        &self,
        bucket: Bucket<'_>,
        key: String,
        period: u64,
        limit: u64,
    ) -> Result<bool, BackendError> {
        check_bucket(bucket.name)?;
        check_key(&key)?;
        self.buckets.count_within(bucket, key, period, limit).await
    }

    /// Returns the values in the order of the keys. Writes of others may happen between two keys.
    ///
    /// # Errors
    /// `TooLarge` if all values together are larger than one call may return.
    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        check_bucket(bucket)?;
        check_count("the batch", "keys", keys.len(), limits::BATCH_KEYS_MAX)?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.buckets.get_many(bucket, keys).await
    }

    /// Writes the values one after the other; writes of others may happen in between. After a failure the earlier values remain written.
    ///
    /// # Errors
    /// `BucketFull` at the first value for which the bucket has no space; the values behind it are not written, even if
    /// they would fit.
    pub async fn set_many(&self, bucket: Bucket<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        check_bucket(bucket.name)?;
        check_count("the batch", "keys", pairs.len(), limits::BATCH_KEYS_MAX)?;
        for (key, value) in &pairs {
            check_key(key)?;
            check_bytes("the value", value.len(), limits::VALUE_BYTES_MAX)?;
        }
        check_batch_bytes(pairs.iter().map(|(_, value)| value.len()).sum())?;
        self.buckets.set_many(bucket, pairs).await
    }

    /// Returns what a bucket holds.
    pub async fn bucket_usage(&self, bucket: &str) -> Result<BucketUsage, BackendError> {
        check_bucket(bucket)?;
        self.buckets.bucket_usage(bucket).await
    }

    /// Removes the keys that exist, one after the other.
    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        check_bucket(bucket)?;
        check_count("the batch", "keys", keys.len(), limits::BATCH_KEYS_MAX)?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.buckets.delete_many(bucket, keys).await
    }

    // ---- the whole store -------------------------------------------------------------------

    /// Returns when all earlier writes are on the disk.
    pub async fn flush(&self) -> Result<(), BackendError> {
        match self.sled() {
            Some(sled) => sled.flush().await,
            // Redis has what it has answered.
            None => Ok(()),
        }
    }

    /// Does the same as `flush` when a server stops: if the disk has just failed, it may be writable a moment later.
    pub async fn flush_at_stop(&self) -> Result<(), BackendError> {
        if self.flush().await.is_err() {
            tokio::time::sleep(limits::STOP_RECOVERY_TIME).await;
        }
        self.flush().await
    }

    /// Writes an export to `target`, or into the folder of exports beside the store's files, where the last
    /// `EXPORTS_KEPT` are kept. `None` if `continues` returned false in between, or if that folder has one with the same
    /// writes already.
    ///
    /// Each key and each row is as it was at one moment during the export; writes go on meanwhile.
    ///
    /// # Errors
    /// If the file cannot be written, or the store cannot be read.
    pub async fn export(
        &self,
        target: Option<PathBuf>,
        continues: impl Fn() -> bool + Send + 'static,
    ) -> anyhow::Result<Option<(PathBuf, ExportSummary)>> {
        let Some(sled) = self.sled() else { bail!("{REDIS_EXPORT}") };
        let sled = sled.for_caller("exports");
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || sled.export(&runtime, target.as_deref(), &continues)).await?
    }

    /// Writes an export each `interval`, until `stop` is cancelled. The first one is due when the last one of an earlier
    /// process is as old, or after `first` if there is none.
    pub async fn export_regularly(self, interval: Duration, first: Duration, stop: CancellationToken) {
        let Some(sled) = self.sled() else { return };
        let age = sled.export_age();
        let mut wait = age.map_or(first, |age| interval.saturating_sub(age).max(first));
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            let stopping = stop.clone();
            if let Err(error) = self.export(None, move || !stopping.is_cancelled()).await {
                warn!("cannot export the store: {error:#}; the next attempt is in {}", format_duration(interval));
            }
            wait = interval;
        }
    }

    /// Writes the last export of a server that stops; gives up after `timeout`.
    pub async fn export_at_stop(&self, timeout: Duration) {
        if self.sled().is_none() {
            return;
        }
        let deadline = Instant::now() + timeout;
        match self.export(None, move || Instant::now() < deadline).await {
            Ok(None) if Instant::now() >= deadline => {
                warn!("the last export of the store was given up after {}", format_duration(timeout));
            }
            Ok(_) => {}
            Err(error) => warn!("cannot export the store: {error:#}"),
        }
    }

    /// Returns the inconsistencies of the store; an empty list if there are none.
    ///
    /// Reads all rows and all large values, and blocks writes until it is done.
    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        match &self.rows {
            Rows::Sled(sled) => sled.verify().await,
            Rows::Redis(redis) => redis.verify().await,
        }
    }
}

fn check_attributes(attributes: &[Field]) -> Result<(), BackendError> {
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))
}

fn check_attribute(name: &str, value: &str) -> Result<(), BackendError> {
    check_bytes("the attribute's name", name.len(), limits::ATTRIBUTE_NAME_BYTES_MAX)?;
    check_bytes("the attribute's value", value.len(), limits::ATTRIBUTE_VALUE_BYTES_MAX)
}

/// Sorts the attributes and removes duplicates, as a row stores them.
fn normalize_attributes(mut attributes: Vec<Field>) -> Result<Vec<Field>, BackendError> {
    attributes.sort_unstable();
    attributes.dedup();
    check_count("the row", "attributes", attributes.len(), limits::ROW_ATTRIBUTES_MAX)?;
    Ok(attributes)
}

fn check_bucket(bucket: &str) -> Result<(), BackendError> {
    check_bytes("the bucket's name", bucket.len(), limits::KEY_BYTES_MAX)
}

fn check_key(key: &str) -> Result<(), BackendError> {
    check_bytes("the key", key.len(), limits::KEY_BYTES_MAX)
}

/// Checks the size of all values that one call reads or writes.
fn check_batch_bytes(bytes: usize) -> Result<(), BackendError> {
    check_bytes("the batch", bytes, limits::HOST_CALL_BYTES)
}

fn check_bytes(what: &str, found: usize, allowed: usize) -> Result<(), BackendError> {
    check_count(what, "bytes", found, allowed)
}

fn check_count(what: &str, unit: &str, found: usize, allowed: usize) -> Result<(), BackendError> {
    if found <= allowed {
        return Ok(());
    }
    Err(BackendError::TooLarge(format!("{what} has {found} {unit}; at most {allowed} are allowed")))
}

/// Parses a cursor of rows, which is the id of the last row of the page before.
fn parse_cursor(cursor: Option<String>) -> Result<Option<ConnectionId>, BackendError> {
    let parse = |text: String| {
        let invalid = || BackendError::Invalid("the cursor is none that a page has given".to_owned());
        ConnectionId::parse(&text).map_err(|_| invalid())
    };
    cursor.map(parse).transpose()
}
