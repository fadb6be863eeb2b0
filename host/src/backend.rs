//! What is remembered: connection rows with an index on every attribute, and key-value buckets.
//!
//! Checks names and sizes once, whichever engine stands behind. Knows nothing of sockets or guests.

use std::path::PathBuf;
use std::time::Duration;

use crate::connections::Peer;
use crate::event::{EpochMillis, Field};
use crate::id::ConnectionId;
use crate::limits;

mod sled;
#[cfg(test)]
mod tests;

use sled::Sled;

/// One row for each connection, from before `$connect` until after `$disconnect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: ConnectionId,
    pub stage: String,
    pub connected_at: EpochMillis,
    /// Whether `$connect` let it in; a row that a crash leaves before that never was a connection.
    pub admitted: bool,
    /// Kept so that a later process can run `$disconnect` for a connection that this one left behind.
    pub peer: Peer,
    /// A name may stand here several times. In the order of name, then value.
    pub attributes: Vec<Field>,
}

/// Some of the answer, and where to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Asks for the rest; `None` at the end. It names the last item, so what comes and goes
    /// between two pages moves nothing.
    pub cursor: Option<String>,
}

/// Where a list of keys begins. Keys come in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    Start,
    /// After the page that ended with this cursor.
    Cursor(String),
    /// After so many keys, for a caller that can only count. Costs a walk over all of them.
    Skip(u64),
}

/// What [`Backend::compare_and_swap`] found instead of the value that was expected.
pub type Found = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("there is no row for that connection")]
    NoSuchConnection,
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Invalid(String),
    /// The engine failed; the text says how.
    #[error("the store failed: {0}")]
    Unavailable(String),
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once; the engine flushes at this interval, which is what a crash may lose: of the
    /// machine, or of this process.
    Interval(Duration),
    /// When it is on the disk.
    Always,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SledOptions {
    pub folder: PathBuf,
    pub durability: Durability,
}

/// All that is remembered. Clones are the same backend; dropping the last one flushes and closes it.
///
/// # Cancel safety
/// Dropping the future of a write may or may not have written; a single row or key is never
/// written by half, and a write is never overtaken by a later one.
#[derive(Clone)]
pub struct Backend {
    engine: Sled,
}

impl Backend {
    /// Opens the folder, or makes it; blocks. Rows that another process left behind are in it.
    ///
    /// # Errors
    /// Another process has the folder, it cannot be written, or what is in it is damaged.
    pub fn open_sled(options: &SledOptions) -> anyhow::Result<Self> {
        Ok(Self { engine: Sled::open(options)? })
    }

    // ---- connection rows -------------------------------------------------------------------

    /// Adds the row, in place of one of the same id.
    pub async fn open_row(&self, row: Row) -> Result<(), BackendError> {
        check_attributes(&row.attributes)?;
        let attributes = in_order(row.attributes)?;
        self.engine.open_row(Row { attributes, ..row }).await
    }

    /// Notes that `$connect` let the connection in.
    pub async fn admit_row(&self, id: ConnectionId) -> Result<(), BackendError> {
        self.engine.admit_row(id).await
    }

    pub async fn row(&self, id: ConnectionId) -> Result<Row, BackendError> {
        self.engine.row(id).ok_or(BackendError::NoSuchConnection)
    }

    /// Replaces all attributes of the row.
    pub async fn put(&self, id: ConnectionId, attributes: Vec<Field>) -> Result<(), BackendError> {
        check_attributes(&attributes)?;
        self.engine.change_row(id, |_| in_order(attributes)).await
    }

    /// Adds one attribute; no change where the row has it already.
    pub async fn add(&self, id: ConnectionId, name: String, value: String) -> Result<(), BackendError> {
        check_attribute(&name, &value)?;
        self.engine
            .change_row(id, |mut attributes| {
                attributes.push((name, value));
                in_order(attributes)
            })
            .await
    }

    /// Takes away that attribute, or all of that name where no value is given.
    pub async fn remove(&self, id: ConnectionId, name: String, value: Option<String>) -> Result<(), BackendError> {
        self.engine
            .change_row(id, |mut attributes| {
                attributes.retain(|(n, v)| *n != name || value.as_ref().is_some_and(|value| v != value));
                Ok(attributes)
            })
            .await
    }

    /// The rows of a stage that have this attribute, in the order of their ids, a page at a time.
    pub async fn query(
        &self,
        stage: &str,
        name: String,
        value: String,
        cursor: Option<String>,
    ) -> Result<Page<Row>, BackendError> {
        Ok(self.engine.query(stage, (name, value), parse_cursor(cursor)?))
    }

    /// All connections, of any stage, whose row has this attribute.
    pub async fn matching(&self, name: String, value: String) -> Result<Vec<ConnectionId>, BackendError> {
        Ok(self.engine.matching((name, value)))
    }

    /// All rows of a stage in the order of their ids, a page at a time.
    pub async fn scan(&self, stage: &str, cursor: Option<String>) -> Result<Page<Row>, BackendError> {
        Ok(self.engine.scan(stage, parse_cursor(cursor)?))
    }

    /// Removes the row, if it is there.
    pub async fn drop_row(&self, id: ConnectionId) -> Result<(), BackendError> {
        self.engine.drop_row(id).await
    }

    /// All rows; at the start, what a dead process left behind.
    pub async fn rows(&self) -> Result<Vec<Row>, BackendError> {
        Ok(self.engine.rows())
    }

    // ---- key-value buckets -----------------------------------------------------------------

    pub async fn get(&self, bucket: &str, key: String) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.get_many(bucket, vec![key]).await?.pop().flatten())
    }

    pub async fn set(&self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), BackendError> {
        self.set_many(bucket, vec![(key, value)]).await
    }

    /// Removes the key, if it is there.
    pub async fn delete(&self, bucket: &str, key: String) -> Result<(), BackendError> {
        self.delete_many(bucket, vec![key]).await
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        check_bucket(bucket)?;
        check_key(&key)?;
        self.engine.exists(bucket, key).await
    }

    /// The keys of the bucket, a page at a time.
    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        check_bucket(bucket)?;
        self.engine.list_keys(bucket, from).await
    }

    /// Adds to a decimal number and says the sum; a key that is not there counts as 0.
    ///
    /// # Errors
    /// `Invalid` where the value is no number or the sum does not fit; then nothing has changed.
    pub async fn increment(&self, bucket: &str, key: String, delta: i64) -> Result<i64, BackendError> {
        check_bucket(bucket)?;
        check_key(&key)?;
        self.engine.increment(bucket, key, delta).await
    }

    /// Writes `new` if the key holds `expected`, where `None` is a key that is not there.
    pub async fn compare_and_swap(
        &self,
        bucket: &str,
        key: String,
        expected: Option<Vec<u8>>,
        new: Vec<u8>,
    ) -> Result<Result<(), Found>, BackendError> {
        check_bucket(bucket)?;
        check_key(&key)?;
        check_bytes("the value", new.len(), limits::VALUE_BYTES_MAX)?;
        self.engine.compare_and_swap(bucket, key, expected, new).await
    }

    /// The values in the order of the keys.
    ///
    /// # Errors
    /// `TooLarge` where they are more together than one call may answer.
    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        check_bucket(bucket)?;
        check_count("the batch", "keys", keys.len(), limits::BATCH_KEYS_MAX)?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.engine.get_many(bucket, keys).await
    }

    /// Writes the values one after the other: a failure leaves the first of them written.
    pub async fn set_many(&self, bucket: &str, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        check_bucket(bucket)?;
        check_count("the batch", "keys", pairs.len(), limits::BATCH_KEYS_MAX)?;
        for (key, value) in &pairs {
            check_key(key)?;
            check_bytes("the value", value.len(), limits::VALUE_BYTES_MAX)?;
        }
        check_batch_bytes(pairs.iter().map(|(_, value)| value.len()).sum())?;
        self.engine.set_many(bucket, pairs).await
    }

    /// Removes the keys that are there, one after the other.
    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        check_bucket(bucket)?;
        check_count("the batch", "keys", keys.len(), limits::BATCH_KEYS_MAX)?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.engine.delete_many(bucket, keys).await
    }

    // ---- the whole -------------------------------------------------------------------------

    /// Returns when everything that was written before is on the disk.
    pub async fn flush(&self) -> Result<(), BackendError> {
        self.engine.flush().await
    }

    /// Says where what is remembered disagrees with itself; empty when it is sound.
    ///
    /// Reads all rows and all large values, and holds back writes for so long.
    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        self.engine.verify().await
    }
}

fn check_attributes(attributes: &[Field]) -> Result<(), BackendError> {
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))
}

fn check_attribute(name: &str, value: &str) -> Result<(), BackendError> {
    check_bytes("the attribute's name", name.len(), limits::ATTRIBUTE_NAME_BYTES_MAX)?;
    check_bytes("the attribute's value", value.len(), limits::ATTRIBUTE_VALUE_BYTES_MAX)
}

/// The attributes as a row keeps them: sorted, and each of them once.
fn in_order(mut attributes: Vec<Field>) -> Result<Vec<Field>, BackendError> {
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

/// What goes through one call is bounded, whichever way it goes.
fn check_batch_bytes(bytes: usize) -> Result<(), BackendError> {
    check_bytes("the batch", bytes, limits::HOST_CALL_BYTES)
}

fn check_bytes(what: &str, found: usize, allowed: usize) -> Result<(), BackendError> {
    check_count(what, "bytes", found, allowed)
}

fn check_count(what: &str, of: &str, found: usize, allowed: usize) -> Result<(), BackendError> {
    if found <= allowed {
        return Ok(());
    }
    Err(BackendError::TooLarge(format!("{what} has {found} {of}; at most {allowed} are allowed")))
}

/// A cursor of rows names the last row that was told.
fn parse_cursor(cursor: Option<String>) -> Result<Option<ConnectionId>, BackendError> {
    let parse = |text: String| {
        let invalid = || BackendError::Invalid("the cursor is none that a page has given".to_owned());
        ConnectionId::parse(&text).map_err(|_| invalid())
    };
    cursor.map(parse).transpose()
}
