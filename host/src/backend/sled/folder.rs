//! What is in the folder: opened, loaded, saved, and compared with what is in memory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Db, Tree};
use anyhow::{Context as _, anyhow, bail};
use tracing::warn;

use super::super::BackendError;
use super::buckets::Buckets;
use super::guarded;
use super::log::Log;
use super::rows::{Rows, Stored};
use crate::id::ConnectionId;
use crate::limits;

/// Stands in the folder, so that a later version knows what it has before it.
const FORMAT: (&str, &str) = ("format", "jackfield 3");

/// A process that ends, or sled's threads when its last user is gone, may hold the folder a moment longer.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);

pub struct Folder {
    pub buckets: Buckets,
    rows: RwLock<Rows>,
    saved_rows: Tree,
    /// Held while rows are saved, so that a look at them sees none in between.
    saving: Mutex<()>,
    log: Log,
    /// sled's own flush ends before the disk has everything (`sync_file_range`); this handle is
    /// for the rest.
    file: File,
}

impl Folder {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| {
            format!("cannot make the folder {} for the store; is its place writable?", path.display())
        })?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let opened = guarded(|| Self::open_files(path)).map_err(|panic| damaged(path, &panic))?;
            match opened {
                Err(error) if is_locked(&error) && Instant::now() < deadline => thread::sleep(LOCK_RETRY),
                opened => return opened.map_err(|error| explain(path, error)),
            }
        }
    }

    fn open_files(path: &Path) -> anyhow::Result<Self> {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(limits::SLED_CACHE_BYTES)
            // The flusher does it, and sleeps while there is nothing to do.
            .flush_every_ms(None);
        let has_data = fs::metadata(path.join("db")).is_ok_and(|file| file.len() > 0);
        let db = config.open()?;
        check_format(&db, has_data)?;
        let log = Log::new(db.clone());
        let saved_rows = db.open_tree("rows")?;
        Ok(Self {
            buckets: Buckets::open(&db, log.clone())?,
            rows: RwLock::new(load(&saved_rows)?),
            saved_rows,
            saving: Mutex::default(),
            log,
            file: OpenOptions::new().write(true).open(path.join("db"))?,
        })
    }

    pub fn read_rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().expect(NOT_POISONED)
    }

    pub fn write_rows(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().expect(NOT_POISONED)
    }

    /// Brings everything that was written before to the disk.
    pub fn save(&self) -> Result<(), BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unsaved = self.write_rows().take_unsaved();
        let saved = guarded(|| self.save_rows(&unsaved)).map_err(BackendError::Unavailable);
        let saved = saved.and_then(|saved| Ok(saved?));
        if saved.is_err() {
            self.write_rows().put_back(unsaved);
        }
        saved
    }

    fn save_rows(&self, unsaved: &HashSet<ConnectionId>) -> ::sled::Result<()> {
        // Neighbours share a page, so in their order a page is written once.
        let mut ids: Vec<_> = unsaved.iter().collect();
        ids.sort_unstable();
        for id in ids {
            // The lock is let go between two rows, so that no connection waits for the file.
            let row = self.read_rows().get(*id);
            let key = id.as_str().as_bytes();
            match row {
                Some(row) => self.log.insert(&self.saved_rows, key, &*row.bytes)?,
                None => self.log.remove(&self.saved_rows, key)?,
            }
        }
        self.log.flush()?;
        Ok(self.file.sync_data()?)
    }

    /// Says where the folder, the rows in memory and their index disagree.
    pub fn verify(&self) -> Result<Vec<String>, BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rows = self.read_rows();
        let mut found = rows.verify();
        let mut saved = Rows::default();
        for entry in &self.saved_rows {
            let Some(row) = parse(entry?) else { continue };
            let id = row.id;
            if !rows.is_unsaved(&id) && rows.get(id).as_ref() != Some(&row) {
                found.push(format!("row {id} is saved otherwise than it is"));
            }
            saved.load(row);
        }
        for row in rows.all() {
            if !rows.is_unsaved(&row.id) && saved.get(row.id).is_none() {
                found.push(format!("row {} is not saved", row.id));
            }
        }
        drop(rows);
        found.extend(self.buckets.verify()?);
        Ok(found)
    }
}

const NOT_POISONED: &str = "no code panics while holding the rows";

fn load(saved: &Tree) -> ::sled::Result<Rows> {
    let mut rows = Rows::default();
    for entry in saved {
        let (key, value) = entry?;
        if !parse((key.clone(), value)).is_some_and(|row| rows.load(row)) {
            warn!(row = %key.escape_ascii(), "dropped a row that cannot be read");
            saved.remove(key)?;
        }
    }
    Ok(rows)
}

fn parse((key, value): (::sled::IVec, ::sled::IVec)) -> Option<Stored> {
    let id = ConnectionId::parse(str::from_utf8(&key).ok()?).ok()?;
    Some(Stored { id, bytes: (*value).into() })
}

/// sled takes files that it cannot make out for empty ones. That is why something always stands there.
fn check_format(db: &Db, has_data: bool) -> anyhow::Result<()> {
    let (key, ours) = FORMAT;
    match db.get(key)? {
        Some(found) if found == ours => Ok(()),
        Some(found) => {
            let found = String::from_utf8_lossy(&found);
            bail!("its format is {found:?}, and this version knows {ours:?}; use the version that wrote it")
        }
        None if has_data => Err(::sled::Error::ReportableBug("nothing in its files can be made out".to_owned()).into()),
        None => {
            db.insert(key, ours)?;
            db.flush()?;
            Ok(())
        }
    }
}

/// What the operator can do about it.
fn explain(path: &Path, error: anyhow::Error) -> anyhow::Error {
    let shown = path.display();
    let Some(cause) = error.downcast_ref::<::sled::Error>() else {
        return error.context(format!("cannot open the store in {shown}"));
    };
    if is_locked(&error) {
        return anyhow!("the store in {shown} is in use by another process; stop it, or choose another folder");
    }
    let ::sled::Error::Io(io) = cause else { return damaged(path, cause) };
    match io.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            error.context(format!("cannot write the store in {shown}; this user needs to write there"))
        }
        _ => error.context(format!("cannot open the store in {shown}")),
    }
}

/// sled has no kind of its own for this.
fn is_locked(error: &anyhow::Error) -> bool {
    let Some(::sled::Error::Io(io)) = error.downcast_ref() else { return false };
    io.to_string().contains("could not acquire lock")
}

fn damaged(path: &Path, cause: &dyn std::fmt::Display) -> anyhow::Error {
    let shown = path.display();
    anyhow!("the store in {shown} is damaged ({cause}); move the folder away to start with an empty one")
}
