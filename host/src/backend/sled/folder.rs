//! The folder on the disk: opens it, loads and saves rows, and compares its content with the rows in memory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Db, Tree};
use anyhow::{Context as _, anyhow, bail};
use tracing::warn;

use super::super::BackendError;
use super::buckets::Buckets;
use super::catch_panic;
use super::rows::{RowKey, Rows};
use super::writer::SledWriter;
use crate::id::{ConnectionId, StageNames};
use crate::limits;

/// Key and value that identify the format of the folder, so that a later version can recognize it.
const FORMAT: (&str, &str) = ("format", "jackfield 3");

/// How long to wait for the lock of the folder. A process that is ending, or sled's threads after the store is
/// closed, may hold the lock for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);

pub struct Folder {
    pub buckets: Buckets,
    rows: RwLock<Rows>,
    stages: Arc<StageNames>,
    saved_rows: Tree,
    /// Locked while rows are saved, so that `verify` does not see a partial save.
    saving: Mutex<()>,
    writer: SledWriter,
    /// Used to sync the file, because sled's own flush (`sync_file_range`) returns before all data is on the disk.
    file: File,
}

impl Folder {
    pub fn open(path: &Path, stages: &Arc<StageNames>) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| {
            format!(
                "cannot create the folder {} for the store; check that its parent folder is writable",
                path.display()
            )
        })?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let opened = catch_panic(|| Self::open_files(path, stages)).map_err(|panic| damaged(path, &panic))?;
            match opened {
                Err(error) if is_locked(&error) && Instant::now() < deadline => thread::sleep(LOCK_RETRY),
                opened => return opened.map_err(|error| explain(path, error)),
            }
        }
    }

    fn open_files(path: &Path, stages: &Arc<StageNames>) -> anyhow::Result<Self> {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(limits::SLED_CACHE_BYTES)
            // The flusher flushes instead, and sleeps while there is nothing to do.
            .flush_every_ms(None);
        let has_data = fs::metadata(path.join("db")).is_ok_and(|file| file.len() > 0);
        let db = config.open()?;
        check_format(&db, has_data)?;
        let writer = SledWriter::new(db.clone());
        let saved_rows = db.open_tree("rows")?;
        Ok(Self {
            buckets: Buckets::open(&db, writer.clone())?,
            rows: RwLock::new(load(&saved_rows, stages)?),
            stages: Arc::clone(stages),
            saved_rows,
            saving: Mutex::default(),
            writer,
            file: OpenOptions::new().write(true).open(path.join("db"))?,
        })
    }

    pub fn read_rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().expect(NOT_POISONED)
    }

    pub fn write_rows(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().expect(NOT_POISONED)
    }

    /// Saves all earlier writes to the disk. Rows that could not be saved are saved again the next time.
    pub fn save(&self) -> Result<(), BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unsaved = self.write_rows().take_unsaved();
        let saved = catch_panic(|| self.save_rows(&unsaved)).map_err(BackendError::Unavailable);
        let saved = saved.and_then(|saved| Ok(saved?));
        if saved.is_err() {
            self.write_rows().mark_unsaved(unsaved);
        }
        saved
    }

    fn save_rows(&self, unsaved: &HashSet<RowKey>) -> ::sled::Result<()> {
        // Neighbouring rows share a page of sled. Sorted by id, each page is written only once.
        let mut keys: Vec<_> = unsaved.iter().collect();
        keys.sort_unstable_by_key(|(_, id)| *id);
        for key in keys {
            // The lock is released between two rows, so that no connection waits for the file.
            let row = self.read_rows().saved_bytes(*key);
            let key = key.1.as_str().as_bytes();
            match row {
                Some(bytes) => self.writer.insert(&self.saved_rows, key, bytes)?,
                None => self.writer.remove(&self.saved_rows, key)?,
            }
        }
        self.writer.flush()?;
        Ok(self.file.sync_data()?)
    }

    /// Returns the differences between the folder, the rows in memory and their index.
    pub fn verify(&self) -> Result<Vec<String>, BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rows = self.read_rows();
        let mut found = rows.verify();
        let mut saved_rows = Rows::new(Arc::clone(&self.stages));
        for entry in &self.saved_rows {
            let (id, saved) = entry?;
            let Some(key) = parse_id(&id).and_then(|id| saved_rows.load(id, &saved)) else { continue };
            if !rows.is_unsaved(&key) && rows.saved_bytes(key).as_deref() != Some(&*saved) {
                found.push(format!("row {} is saved with different content", key.1));
            }
        }
        for key in rows.keys() {
            if !rows.is_unsaved(&key) && saved_rows.saved_bytes(key).is_none() {
                found.push(format!("row {} is not saved", key.1));
            }
        }
        drop(rows);
        found.extend(self.buckets.verify()?);
        Ok(found)
    }
}

const NOT_POISONED: &str = "no code panics while holding the rows";

fn load(saved: &Tree, stages: &Arc<StageNames>) -> ::sled::Result<Rows> {
    let mut rows = Rows::new(Arc::clone(stages));
    for entry in saved {
        let (key, value) = entry?;
        if parse_id(&key).and_then(|id| rows.load(id, &value)).is_none() {
            warn!(row = %key.escape_ascii(), "dropped a row that cannot be read");
            saved.remove(key)?;
        }
    }
    Ok(rows)
}

fn parse_id(key: &[u8]) -> Option<ConnectionId> {
    ConnectionId::parse(str::from_utf8(key).ok()?).ok()
}

/// Checks the format of the folder, and writes it into a new one. sled treats files that it cannot read as empty, so a
/// folder that has data but no format is damaged.
fn check_format(db: &Db, has_data: bool) -> anyhow::Result<()> {
    let (key, expected) = FORMAT;
    match db.get(key)? {
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            let found = String::from_utf8_lossy(&found);
            bail!("its format is {found:?}, and this version knows {expected:?}; use the version that wrote it")
        }
        None if has_data => Err(::sled::Error::ReportableBug("its files cannot be read".to_owned()).into()),
        None => {
            db.insert(key, expected)?;
            db.flush()?;
            Ok(())
        }
    }
}

/// Adds advice for the operator to an error.
fn explain(path: &Path, error: anyhow::Error) -> anyhow::Error {
    let path_text = path.display();
    let Some(cause) = error.downcast_ref::<::sled::Error>() else {
        return error.context(format!("cannot open the store in {path_text}"));
    };
    if is_locked(&error) {
        return anyhow!("the store in {path_text} is in use by another process; stop it, or choose another folder");
    }
    let ::sled::Error::Io(io) = cause else { return damaged(path, cause) };
    match io.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            error.context(format!("cannot write the store in {path_text}; this user needs to write there"))
        }
        _ => error.context(format!("cannot open the store in {path_text}")),
    }
}

/// Whether another process holds the lock. sled has no error kind for this, so the text of the error decides.
fn is_locked(error: &anyhow::Error) -> bool {
    let Some(::sled::Error::Io(io)) = error.downcast_ref() else { return false };
    io.to_string().contains("could not acquire lock")
}

fn damaged(path: &Path, cause: &dyn std::fmt::Display) -> anyhow::Error {
    let path_text = path.display();
    anyhow!("the store in {path_text} is damaged ({cause}); move the folder away to start with an empty one")
}
