//! How anything gets into sled: one key at a time, and no faster than the file takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::sled::{Db, IVec, Tree};

/// What may be written before the next write waits for the file.
///
/// sled hands each part of its log, 512 KiB at most, to one of seven threads. When its file shrinks,
/// that is one more job behind those that wait there; and whoever next needs a part of the file that
/// was given up waits for this job, with a lock that every writing thread needs to end. With
/// seven parts in front of it, nothing ever moves again (spacejam/sled#1412, open). Measured on a
/// slow disk: up to six of the seven threads wrote while the file shrank, and two with this.
const UNFLUSHED_BYTES_MAX: usize = 256 * 1024;

/// What stands around a key and its value in the log.
const FRAME_BYTES: usize = 64;

#[derive(Clone)]
pub struct Log {
    db: Db,
    unflushed_bytes: Arc<AtomicUsize>,
}

impl Log {
    pub fn new(db: Db) -> Self {
        Self { db, unflushed_bytes: Arc::default() }
    }

    pub fn insert(&self, tree: &Tree, key: &[u8], value: impl Into<IVec>) -> ::sled::Result<()> {
        let value = value.into();
        let after = value.len();
        let before = tree.insert(key, value)?;
        self.wrote(key.len() + after, before.as_ref())
    }

    pub fn remove(&self, tree: &Tree, key: &[u8]) -> ::sled::Result<()> {
        match tree.remove(key)? {
            None => Ok(()),
            before => self.wrote(key.len(), before.as_ref()),
        }
    }

    /// Hands all that was written to the operating system.
    pub fn flush(&self) -> ::sled::Result<()> {
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        self.db.flush()?;
        Ok(())
    }

    /// A number that no other value of this folder has had.
    pub fn next_generation(&self) -> ::sled::Result<u64> {
        self.db.generate_id()
    }

    /// A page is written anew now and then, so the size of what was there counts, too.
    fn wrote(&self, bytes: usize, before: Option<&IVec>) -> ::sled::Result<()> {
        let bytes = FRAME_BYTES + bytes + before.map_or(0, |before| before.len());
        if self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < UNFLUSHED_BYTES_MAX {
            return Ok(());
        }
        self.flush()
    }
}
