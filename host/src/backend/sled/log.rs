//! How anything gets into sled: one key at a time, and never more than sled's threads can write.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::sled::{Db, IVec, Tree};

/// What may be written before the next write waits for the file.
///
/// sled hands each part of its log to one of at least seven threads. When its file shrinks, one more
/// job goes behind those that wait there, and whoever needs the next part of the file waits for
/// that job with a lock that all the others need to end: seven parts behind each other and it
/// never moves again (spacejam/sled#1412, open). A write makes up to four times its size of log,
/// as pages are written anew, so this is two parts of 512 KiB.
const UNFLUSHED_BYTES_MAX: usize = 256 * 1024;

/// What a removal, or the frame around a value, adds to the log.
const FRAME_BYTES: usize = 64;

#[derive(Clone)]
pub struct Log {
    db: Db,
    unflushed_bytes: std::sync::Arc<AtomicUsize>,
}

impl Log {
    pub fn new(db: Db) -> Self {
        Self { db, unflushed_bytes: Default::default() }
    }

    pub fn insert(&self, tree: &Tree, key: &[u8], value: impl Into<IVec>) -> ::sled::Result<()> {
        let value = value.into();
        let bytes = key.len() + value.len();
        tree.insert(key, value)?;
        self.wrote(bytes)
    }

    pub fn remove(&self, tree: &Tree, key: &[u8]) -> ::sled::Result<()> {
        tree.remove(key)?;
        self.wrote(key.len())
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

    fn wrote(&self, bytes: usize) -> ::sled::Result<()> {
        let bytes = bytes + FRAME_BYTES;
        if self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < UNFLUSHED_BYTES_MAX {
            return Ok(());
        }
        self.flush()
    }
}
