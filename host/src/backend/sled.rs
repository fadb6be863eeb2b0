//! The embedded engine: one process, one folder.
//!
//! Rows are served from memory, and so is the index on their attributes: connections do not
//! outlive the process that holds them. What sled keeps of them is for the process after a crash,
//! and is written once an interval, however often a row has changed. A saved row is one key, and
//! the index is made of the rows when the folder is opened, so the two agree whenever the process
//! dies. Buckets are in sled alone.
//!
//! sled's batches and transactions are not used, and neither is `flush_async`: each of them starts
//! two writes to the file (measured: 12 µs of CPU against 1.5 for an insert), and so many waiting
//! writes lock sled up for good when its file shrinks at the same time. See `Log`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLockReadGuard};

use anyhow::Context as _;

use super::{BackendError, Durability, Found, KeysFrom, Page, Row, SledOptions};
use crate::event::Field;
use crate::id::ConnectionId;

mod rows; // rows and their index, in memory
mod encoding; // a row as bytes
mod folder; // what is on the disk
mod log; // how anything gets there
mod buckets; // keys and values
mod lane; // the thread on which sled is called
mod flusher; // the thread that brings all to the disk

use flusher::Flusher;
use folder::Folder;
use lane::Lane;
use rows::Rows;

/// Rows that changed since the last save; who changes one more waits for the next. They are ids,
/// 16 bytes each, so it is reached only when the disk has stalled.
const UNSAVED_ROWS_MAX: usize = 100_000;

#[derive(Clone)]
pub struct Sled(Arc<Inner>);

/// The threads end in this order, each with what was asked of it done; then the folder closes.
struct Inner {
    /// Everything about single keys, one after the other: that is what makes increments exact.
    keys: Lane<Folder>,
    /// Walks over many keys, so that no single one waits for them.
    lists: Lane<Folder>,
    flusher: Flusher,
    folder: Arc<Folder>,
    durability: Durability,
}

impl Sled {
    pub fn open(options: &SledOptions) -> anyhow::Result<Self> {
        let durability = options.durability;
        let folder = Arc::new(Folder::open(&options.folder)?);
        let flusher = Flusher::start(durability, {
            let folder = Arc::clone(&folder);
            move || folder.save()
        });
        let inner = Inner {
            keys: Lane::start("sled-keys", Arc::clone(&folder)).context("cannot start a thread")?,
            lists: Lane::start("sled-lists", Arc::clone(&folder)).context("cannot start a thread")?,
            flusher: flusher.context("cannot start a thread")?,
            folder,
            durability,
        };
        Ok(Self(Arc::new(inner)))
    }

    // ---- connection rows -------------------------------------------------------------------

    pub async fn open_row(&self, row: Row) -> Result<(), BackendError> {
        self.write_rows(|rows| {
            rows.open(&row);
            Ok(())
        })
        .await
    }

    pub async fn admit_row(&self, id: ConnectionId) -> Result<(), BackendError> {
        self.write_rows(|rows| rows.admit(id)).await
    }

    /// Gives the row the attributes that `change` makes of those that it has.
    pub async fn change_row(
        &self,
        id: ConnectionId,
        change: impl FnOnce(Vec<Field>) -> Result<Vec<Field>, BackendError>,
    ) -> Result<(), BackendError> {
        self.write_rows(|rows| rows.change(id, change)).await
    }

    pub async fn drop_row(&self, id: ConnectionId) -> Result<(), BackendError> {
        self.write_rows(|rows| {
            rows.remove(id);
            Ok(())
        })
        .await
    }

    pub fn row(&self, id: ConnectionId) -> Option<Row> {
        let stored = self.read_rows().get(id)?;
        Some(stored.decode())
    }

    pub fn query(&self, stage: &str, attribute: Field, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.read_rows().query(stage, &attribute, after);
        page.decode()
    }

    pub fn scan(&self, stage: &str, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.read_rows().scan(stage, after);
        page.decode()
    }

    pub fn matching(&self, attribute: Field) -> Vec<ConnectionId> {
        self.read_rows().matching(&attribute)
    }

    pub fn rows(&self) -> Vec<Row> {
        let all = self.read_rows().all();
        all.iter().map(rows::Stored::decode).collect()
    }

    fn read_rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.0.folder.read_rows()
    }

    async fn write_rows(&self, write: impl FnOnce(&mut Rows) -> Result<(), BackendError>) -> Result<(), BackendError> {
        let unsaved = {
            let mut rows = self.0.folder.write_rows();
            write(&mut rows)?;
            rows.unsaved_len()
        };
        if unsaved > UNSAVED_ROWS_MAX {
            return self.flush().await;
        }
        self.settle().await
    }

    // ---- key-value buckets -----------------------------------------------------------------

    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let bucket = bucket.to_owned();
        self.0.keys.run(move |folder| folder.buckets.get_many(&bucket, &keys)).await
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        let bucket = bucket.to_owned();
        self.0.keys.run(move |folder| folder.buckets.exists(&bucket, &key)).await
    }

    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        let bucket = bucket.to_owned();
        self.0.lists.run(move |folder| folder.buckets.list_keys(&bucket, &from)).await
    }

    pub async fn set_many(&self, bucket: &str, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        let bucket = bucket.to_owned();
        let set =
            move |folder: &Folder| pairs.iter().try_for_each(|(key, value)| folder.buckets.set(&bucket, key, value));
        self.0.keys.run(set).await?;
        self.settle().await
    }

    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        let bucket = bucket.to_owned();
        let delete = move |folder: &Folder| keys.iter().try_for_each(|key| folder.buckets.delete(&bucket, key));
        self.0.keys.run(delete).await?;
        self.settle().await
    }

    pub async fn increment(&self, bucket: &str, key: String, delta: i64) -> Result<i64, BackendError> {
        let bucket = bucket.to_owned();
        let sum = self.0.keys.run(move |folder| folder.buckets.increment(&bucket, &key, delta)).await?;
        self.settle().await?;
        Ok(sum)
    }

    pub async fn compare_and_swap(
        &self,
        bucket: &str,
        key: String,
        expected: Option<Vec<u8>>,
        new: Vec<u8>,
    ) -> Result<Result<(), Found>, BackendError> {
        let bucket = bucket.to_owned();
        let swap = move |folder: &Folder| folder.buckets.compare_and_swap(&bucket, &key, expected.as_deref(), &new);
        let swapped = self.0.keys.run(swap).await?;
        if swapped.is_ok() {
            self.settle().await?;
        }
        Ok(swapped)
    }

    // ---- the whole -------------------------------------------------------------------------

    pub async fn flush(&self) -> Result<(), BackendError> {
        self.0.flusher.flush().await
    }

    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        self.0.keys.run(|folder| folder.verify()).await
    }

    /// Waits for as long as a write must, once it is done.
    async fn settle(&self) -> Result<(), BackendError> {
        match self.0.durability {
            Durability::Interval(_) => {
                self.0.flusher.wrote();
                Ok(())
            }
            Durability::Always => self.0.flusher.flush().await,
        }
    }
}

impl From<::sled::Error> for BackendError {
    fn from(error: ::sled::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Calls into sled, which panics where its files are not as it left them. An error says how.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        format!("the engine panicked: {text}")
    })
}
