//! Writes to sled, one key at a time, and waits for the file if too much is unflushed.
//!
//! Keeps each write until it is flushed, so that the writes are repeated if sled has to be opened again (`recovery.rs`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::sled::{Db, IVec, Tree};

use super::recovery::Activity;

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
    unflushed: Arc<Mutex<Unflushed>>,
    activity: Arc<Activity>,
}

#[derive(Default)]
struct Unflushed {
    writes: Vec<Write>,
    /// Number of writes so far.
    written: u64,
}

/// A write that may not be on the disk.
pub struct Write {
    /// Its place in the order of all writes.
    number: u64,
    tree: IVec,
    key: IVec,
    /// `None`: the key was removed.
    value: Option<IVec>,
}

impl SledWriter {
    pub fn new(db: Db, activity: Arc<Activity>) -> Self {
        Self { db, unflushed_bytes: Arc::default(), unflushed: Arc::default(), activity }
    }

    pub fn insert(&self, tree: &Tree, key: &[u8], value: impl Into<IVec>) -> ::sled::Result<()> {
        let value = value.into();
        let value_bytes = value.len();
        self.fatal_error()?;
        let before = tree.insert(key, value.clone())?;
        self.record(tree, key, Some(value));
        self.limit_unflushed(key.len() + value_bytes, before.as_ref())
    }

    pub fn remove(&self, tree: &Tree, key: &[u8]) -> ::sled::Result<()> {
        self.fatal_error()?;
        match tree.remove(key)? {
            None => Ok(()),
            before => {
                self.record(tree, key, None);
                self.limit_unflushed(key.len(), before.as_ref())
            }
        }
    }

    /// Hands all written data to the operating system.
    pub fn flush(&self) -> ::sled::Result<()> {
        let _active = self.activity.begin();
        // sled would log the same error again.
        self.fatal_error()?;
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        let flushing = std::mem::take(&mut self.unflushed().writes);
        let flushed = self.db.flush();
        if flushed.is_err() {
            self.unflushed().writes.extend(flushing);
        }
        flushed.map(|_| ())
    }

    /// Returns the error after which sled must be opened again. It would still accept writes that fit into its buffers,
    /// but never write them to the disk.
    pub fn fatal_error(&self) -> ::sled::Result<()> {
        self.db.context.global_error()
    }

    /// Lets every flush that waits in sled return the fatal error: sled does not always wake them when the error
    /// happens, but the next flush does.
    pub fn wake_waiting_flushes(&self) {
        let _ = self.db.flush();
    }

    /// Returns the writes that may not be on the disk, in their order.
    pub fn take_unflushed(&self) -> Vec<Write> {
        let mut writes = std::mem::take(&mut self.unflushed().writes);
        writes.sort_unstable_by_key(|write| write.number);
        writes
    }

    /// Returns a number that was never used for another value of this folder.
    pub fn next_generation(&self) -> ::sled::Result<u64> {
        self.db.generate_id()
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, tree: &Tree, key: &[u8], value: Option<IVec>) {
        let mut unflushed = self.unflushed();
        unflushed.written += 1;
        let number = unflushed.written;
        unflushed.writes.push(Write { number, tree: tree.name(), key: key.into(), value });
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

/// Repeats writes in a store that was opened again.
pub fn repeat(db: &Db, writes: &[Write]) -> ::sled::Result<()> {
    for Write { tree, key, value, .. } in writes {
        let tree = db.open_tree(tree)?;
        match value {
            Some(value) => tree.insert(key, value.clone())?,
            None => tree.remove(key)?,
        };
    }
    db.flush()?;
    Ok(())
}
