//! Writes to sled, one key at a time, and waits for the file if too much is unflushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::sled::{Db, IVec, Tree};

/// Unflushed bytes after which a write flushes before it returns.
///
/// Without this limit sled can deadlock (spacejam/sled#1412, open). sled hands each part of its log, at most 512 KiB,
/// to one of seven threads. When its file shrinks, this is one more job in the queue of these threads. The next user
/// of a part of the file that was released waits for this job, and holds a lock that every writing thread needs to
/// finish. If seven parts are in front of the job, nothing can continue. Measured on a slow disk: without the limit
/// up to six of the seven threads wrote while the file shrank; with it, two.
const UNFLUSHED_BYTES_MAX: usize = 256 * 1024;

/// Overhead of a key and its value in sled's log.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Clone)]
pub struct SledWriter {
    db: Db,
    unflushed_bytes: Arc<AtomicUsize>,
}

impl SledWriter {
    pub fn new(db: Db) -> Self {
        Self { db, unflushed_bytes: Arc::default() }
    }

    pub fn insert(&self, tree: &Tree, key: &[u8], value: impl Into<IVec>) -> ::sled::Result<()> {
        let value = value.into();
        let value_bytes = value.len();
        let before = tree.insert(key, value)?;
        self.limit_unflushed(key.len() + value_bytes, before.as_ref())
    }

    pub fn remove(&self, tree: &Tree, key: &[u8]) -> ::sled::Result<()> {
        match tree.remove(key)? {
            None => Ok(()),
            before => self.limit_unflushed(key.len(), before.as_ref()),
        }
    }

    /// Hands all written data to the operating system.
    pub fn flush(&self) -> ::sled::Result<()> {
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        self.db.flush()?;
        Ok(())
    }

    /// Returns a number that was never used for another value of this folder.
    pub fn next_generation(&self) -> ::sled::Result<u64> {
        self.db.generate_id()
    }

    /// Counts a write, and flushes if the limit is reached. The size of the old value counts too, because sled rewrites
    /// pages from time to time.
    fn limit_unflushed(&self, bytes: usize, before: Option<&IVec>) -> ::sled::Result<()> {
        let bytes = ENTRY_OVERHEAD_BYTES + bytes + before.map_or(0, |before| before.len());
        if self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < UNFLUSHED_BYTES_MAX {
            return Ok(());
        }
        self.flush()
    }
}
