//! The folder on the disk: opens it, loads and saves rows, and compares its content with the rows in memory.
//!
//! The marker says what should be there (`marker.rs`). After an error of the disk, the files are opened again, with the
//! same rows (`recovery.rs`).

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Db, Tree};
use anyhow::{Context as _, anyhow, bail};
use tracing::{error, warn};

use super::super::export::{Record, Records};
use super::super::row_table::{RowKey, RowTable};
use super::super::{BackendError, exports};
use super::blocking_thread::Turn;
use super::buckets::Buckets;
use super::catch_panic;
use super::journal::Journal;
use super::marker::{self, Contents, MARKER_NAME, Marker};
use super::private_folder;
use super::recovery::Activity;
use super::writer::{self, SledWriter};
use crate::id::{ConnectionId, StageNames};
use crate::limits;
use crate::rate_limited_log::UnloggedCount;

/// Key and value that identify the format of the folder, so that a later version can recognize it.
pub const FORMAT: (&str, &str) = ("format", "jackfield 3");

/// sled's file with all data.
pub const DATABASE: &str = "db";

/// Size of a part of an export.
const EXPORT_PART_BYTES: usize = 256 * 1024;

/// How long to wait for the lock of the folder. A process that is ending, or sled's threads after the store is
/// closed, may hold the lock for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);

pub struct Folder {
    pub path: PathBuf,
    pub activity: Arc<Activity>,
    /// Whether the store was accepted, so that its contents may be recorded when it is closed.
    accepted: bool,
    /// `None` only after it could not be opened again.
    opened: RwLock<Option<Opened>>,
    rows: RwLock<RowTable>,
    stages: Arc<StageNames>,
    journal: Journal,
    /// Locked while rows are saved, so that `verify` does not see a partial save.
    saving: Mutex<()>,
    /// Writes that are repeated when the files are opened again.
    lost_writes: Mutex<Vec<writer::Write>>,
    /// Failures that are not in the log yet.
    failures: Mutex<UnloggedCount>,
}

/// The open files.
pub struct Opened {
    pub buckets: Buckets,
    saved_rows: Tree,
    writer: SledWriter,
    /// Used to sync the file, because sled's own flush (`sync_file_range`) returns before all data is on the disk.
    file: File,
}

/// The open files, which are not opened again before this value is dropped.
pub struct OpenedGuard<'a>(RwLockReadGuard<'a, Option<Opened>>);

impl Deref for OpenedGuard<'_> {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        self.0.as_ref().expect("`Folder::opened` has checked it")
    }
}

impl Folder {
    pub fn open(path: &Path, stages: &Arc<StageNames>) -> anyhow::Result<Self> {
        private_folder::prepare(path)?;
        if read_marker(path)?.is_some() && !has_data(path) {
            return Err(lost(path));
        }
        let activity = Arc::default();
        let opened = open_when_unlocked(path, &activity, &[])?;
        let rows = catch_panic(|| load(&opened.saved_rows, stages)).map_err(|panic| damaged(path, &panic))?;
        let rows = rows.map_err(|error| explain(path, error.into()))?;
        let journal = Journal::open(path).with_context(|| format!("cannot read the store in {}", path.display()))?;
        let mut folder = Self {
            path: path.to_owned(),
            activity,
            accepted: false,
            opened: RwLock::new(Some(opened)),
            rows: RwLock::new(rows),
            stages: Arc::clone(stages),
            journal,
            saving: Mutex::default(),
            lost_writes: Mutex::default(),
            failures: Mutex::default(),
        };
        folder.load_journal()?;
        folder.check_contents()?;
        let written = Marker::Open.write(path);
        written.with_context(|| format!("cannot write the store in {}", path.display()))?;
        folder.accepted = true;
        Ok(folder)
    }

    /// Adds the rows that a killed process had not saved, and saves them. A process that closed the store has saved all.
    fn load_journal(&self) -> anyhow::Result<()> {
        let was_closed = matches!(read_marker(&self.path)?, Some(Marker::Closed(_)));
        let journaled = self.journal.rows();
        let journaled = journaled.with_context(|| format!("cannot read the store in {}", self.path.display()))?;
        if journaled.is_empty() {
            return Ok(());
        }
        if !was_closed {
            let mut rows = self.write_rows();
            for (id, row) in journaled {
                // What the database has is as new, or newer.
                if !rows.has_left_behind(id)
                    && let Some(key) = rows.load(id, &row)
                {
                    rows.mark_unsaved([key]);
                }
            }
        }
        self.save()?;
        Ok(())
    }

    /// Appends the row to the journal, so that it survives the end of this process before the next save.
    pub fn append_to_journal(&self, key: RowKey) -> Result<(), BackendError> {
        let Some(row) = self.read_rows().saved_bytes(key) else { return Ok(()) };
        self.journal.append(key.1, &row).map_err(|error| BackendError::Unavailable(error.to_string()))
    }

    /// Compares the store with what the last server left in it, if that one closed it.
    fn check_contents(&self) -> anyhow::Result<()> {
        let Some(Marker::Closed(expected)) = read_marker(&self.path)? else { return Ok(()) };
        let found = self.contents().map_err(|error| damaged(&self.path, &error))?;
        if found == expected {
            return Ok(());
        }
        // The contents are no longer compared if the operator opens the store without the marker.
        let (path, marker) = (self.path.display(), marker::path(&self.path));
        bail!(
            "the store in {path} is damaged: found {found}, expected {expected}, which the last server left; {}, or \
             delete {} to serve what was found",
            import_advice(&self.path),
            marker.display()
        )
    }

    fn contents(&self) -> Result<Contents, BackendError> {
        let usage = self.opened()?.buckets.total_usage();
        let rows = self.read_rows().keys().count() as u64;
        Ok(Contents { keys: usage.keys, bytes: usage.bytes, rows })
    }

    /// Returns the open files.
    ///
    /// # Errors
    /// If they could not be opened again after an error of the disk.
    pub fn opened(&self) -> Result<OpenedGuard<'_>, BackendError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            return Err(BackendError::Unavailable("its disk cannot be read or written; the log says why".to_owned()));
        }
        Ok(OpenedGuard(opened))
    }

    // ---- after an error of the disk --------------------------------------------------------

    /// Logs that the store cannot be written, at most once per `STORE_FAILURE_LOG_INTERVAL`.
    pub fn report_failure(&self, error: &dyn std::fmt::Display) {
        let mut unlogged = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = unlogged.add(Instant::now(), limits::STORE_FAILURE_LOG_INTERVAL) {
            let path = self.path.display();
            error!(failures, "cannot write the store in {path}: {error}; it is written again when its disk allows it");
        }
    }

    /// Returns the error after which the files must be opened again.
    pub fn failure(&self) -> Result<(), String> {
        let opened = self.opened().map_err(|error| error.to_string())?;
        opened.writer.fatal_error().map_err(|error| error.to_string())
    }

    pub fn wake_waiting_flushes(&self) {
        if let Ok(opened) = self.opened() {
            opened.writer.wake_waiting_flushes();
        }
    }

    /// Closes the files and opens them again, with all writes that may not be on the disk. Waits for running calls.
    pub fn reopen(&self) -> anyhow::Result<()> {
        {
            let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
            let mut lost_writes = self.lost_writes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = opened.take() {
                lost_writes.extend(before.writer.take_unflushed());
            }
            *opened = Some(open_when_unlocked(&self.path, &self.activity, &lost_writes)?);
            lost_writes.clear();
        }
        self.save()?;
        Ok(())
    }

    // ---- rows ------------------------------------------------------------------------------

    pub fn read_rows(&self) -> RwLockReadGuard<'_, RowTable> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write_rows(&self) -> RwLockWriteGuard<'_, RowTable> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves all earlier writes to the disk. Rows that could not be saved are saved again the next time.
    pub fn save(&self) -> Result<(), BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // First: each row in the journal was changed before, so it is saved now, or was by an earlier save.
        let journaled = self.journal.begin_save();
        let unsaved = self.write_rows().take_unsaved();
        let saved = catch_panic(|| self.save_rows(&unsaved)).map_err(BackendError::Unavailable).flatten();
        match saved {
            Ok(()) => self.journal.end_save(&journaled),
            Err(_) => self.write_rows().mark_unsaved(unsaved),
        }
        saved
    }

    fn save_rows(&self, unsaved: &HashSet<RowKey>) -> Result<(), BackendError> {
        let opened = self.opened()?;
        // Neighbouring rows share a page of sled. Sorted by id, each page is written only once.
        let mut keys: Vec<_> = unsaved.iter().collect();
        keys.sort_unstable_by_key(|(_, id)| *id);
        for key in keys {
            // The lock is released between two rows, so that no connection waits for the file.
            let row = self.read_rows().saved_bytes(*key);
            let key = key.1.as_str().as_bytes();
            match row {
                Some(bytes) => opened.writer.insert(&opened.saved_rows, key, bytes)?,
                None => opened.writer.remove(&opened.saved_rows, key)?,
            }
        }
        opened.writer.flush()?;
        Ok(opened.file.sync_data().map_err(::sled::Error::from)?)
    }

    /// Adds a row of an export. Returns `None` if it is not a row.
    pub fn restore_row(&self, id: &str, saved: &[u8]) -> Option<()> {
        let mut rows = self.write_rows();
        let key = rows.load(ConnectionId::parse(id).ok()?, saved)?;
        rows.mark_unsaved([key]);
        Some(())
    }

    // ---- exports ---------------------------------------------------------------------------

    /// Returns the next part of an export: what fits into a turn. An empty part is the end.
    pub fn export(&self, position: &mut ExportPosition, turn: Turn) -> Result<Records, BackendError> {
        let mut records = Records::default();
        let is_full = |records: &Records| records.len() >= EXPORT_PART_BYTES || (records.len() > 0 && turn.is_over());
        while !is_full(&records) {
            let Some(record) = self.opened()?.buckets.next_record(&mut position.key)? else { break };
            records.push(&record);
        }
        if position.key.is_none() && !is_full(&records) {
            let ids = position.rows.get_or_insert_with(|| self.read_rows().keys().collect());
            while !is_full(&records)
                && let Some(key) = ids.pop()
            {
                if let Some(row) = self.read_rows().saved_bytes(key) {
                    records.push(&Record::Row { id: key.1.to_string(), row });
                }
            }
        }
        Ok(records)
    }

    /// Returns the differences between the folder, the rows in memory and their index.
    pub fn verify(&self) -> Result<Vec<String>, BackendError> {
        let _saving = self.saving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rows = self.read_rows();
        let mut found = rows.verify();
        let mut saved_rows = RowTable::new(Arc::clone(&self.stages));
        let opened = self.opened()?;
        for entry in &opened.saved_rows {
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
        found.extend(opened.buckets.verify()?);
        Ok(found)
    }
}

impl Drop for Folder {
    /// Saves what is left, and records what the store holds.
    fn drop(&mut self) {
        if !self.accepted || self.save().is_err() {
            return;
        }
        let written = self.contents().map(|contents| Marker::Closed(contents).write(&self.path));
        if !matches!(written, Ok(Ok(()))) {
            warn!(
                "cannot write {}; the next start does not compare the store with it",
                marker::path(&self.path).display()
            );
        }
    }
}

/// Where an export continues.
pub struct ExportPosition {
    /// The next entry of a bucket; `None` after the last one.
    pub key: Option<Vec<u8>>,
    /// The rows that are left, once all keys are exported.
    rows: Option<Vec<RowKey>>,
}

impl Default for ExportPosition {
    fn default() -> Self {
        Self { key: Some(Vec::new()), rows: None }
    }
}

/// Opens the files, and waits a moment for another process that is about to end.
fn open_when_unlocked(path: &Path, activity: &Arc<Activity>, writes: &[writer::Write]) -> anyhow::Result<Opened> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let opened = catch_panic(|| open_files(path, activity, writes)).map_err(|panic| damaged(path, &panic))?;
        match opened {
            Err(error) if is_locked(&error) && Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            opened => return opened.map_err(|error| explain(path, error)),
        }
    }
}

fn open_files(path: &Path, activity: &Arc<Activity>, writes: &[writer::Write]) -> anyhow::Result<Opened> {
    let config = ::sled::Config::new()
        .path(path)
        .cache_capacity(limits::SLED_CACHE_BYTES)
        // The flusher flushes instead, and sleeps while there is nothing to do.
        .flush_every_ms(None);
    let has_data = has_data(path);
    let db = config.open()?;
    check_format(&db, has_data)?;
    writer::repeat(&db, writes)?;
    let writer = SledWriter::new(db.clone(), Arc::clone(activity));
    Ok(Opened {
        saved_rows: db.open_tree("rows")?,
        buckets: Buckets::open(&db, writer.clone())?,
        writer,
        file: OpenOptions::new().write(true).open(path.join(DATABASE))?,
    })
}

/// Whether the folder has the files of a store.
pub fn has_data(path: &Path) -> bool {
    fs::metadata(path.join(DATABASE)).is_ok_and(|file| file.len() > 0)
}

fn read_marker(path: &Path) -> anyhow::Result<Option<Marker>> {
    Marker::read(path).with_context(|| format!("cannot read {}", marker::path(path).display()))
}

fn load(saved: &Tree, stages: &Arc<StageNames>) -> ::sled::Result<RowTable> {
    let mut rows = RowTable::new(Arc::clone(stages));
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
    let (path_text, advice) = (path.display(), import_advice(path));
    anyhow!(
        "the store in {path_text} is damaged ({cause}); {advice}, or move the folder away to start with an empty one"
    )
}

/// The error for a folder whose marker names a store that is not there.
fn lost(path: &Path) -> anyhow::Error {
    let (marker, path_text, advice) = (marker::path(path), path.display(), import_advice(path));
    anyhow!(
        "the store in {path_text} is lost: found {MARKER_NAME}, which a server wrote together with a store, but no data \
         in the file {DATABASE}; put the files of the store back, or {advice}, or delete {} to start with an empty store",
        marker.display()
    )
}

/// What to do about a damaged or lost store.
fn import_advice(path: &Path) -> String {
    match exports::last_good(path, FORMAT.1) {
        Some((export, _)) => {
            format!("import the last good export: jackfield store import --replace {}", export.display())
        }
        None => format!("import an export if you have one ({} has no good one)", exports::folder(path).display()),
    }
}
