//! Builds a store from an export, and puts its files in place of those of a lost or damaged store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::super::export::{self, Record, Summary};
use super::super::{Bucket, BucketQuota};
use super::folder::{DATABASE, FORMAT, Folder, has_data};
use super::marker::{MARKER_NAME, Marker};
use super::{journal, private_folder};
use crate::id::StageNames;

/// The folder in which the new store is built.
const BUILDING: &str = "importing";
/// Rows in memory that are not saved.
const UNSAVED_ROWS_MAX: usize = 10_000;

/// What `import` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Imported {
    pub summary: Summary,
    /// Where the files of the store before are.
    pub moved_to: Option<PathBuf>,
}

/// Brings a store back from the export at `file`. The files of a store that is there are moved to a folder beside them
/// if `replace` is set; nothing is deleted.
///
/// If the process is ended, the store before is in its place, or the folder has no store and says so.
///
/// # Errors
/// If the export is damaged, if there is a store and `replace` is not set, or if a server uses it.
pub fn import(folder: &Path, file: &Path, replace: bool) -> anyhow::Result<Imported> {
    let source = file.display();
    export::verify(file, FORMAT.1).with_context(|| format!("cannot import {source}"))?;
    private_folder::prepare(folder)?;
    let exists = has_data(folder);
    let path = folder.display();
    ensure!(
        !exists || replace,
        "found a store in {path}, expected none; add --replace to move its files to a folder beside them"
    );
    let _lock = lock(folder)?;
    let building = folder.join(BUILDING);
    remove(&building)?;
    let summary = build(&building, file).with_context(|| format!("cannot build the store of {source} in {path}"))?;

    let put = || -> anyhow::Result<Option<PathBuf>> {
        // From here to the last rename, the marker makes a server report the store as lost.
        Marker::Open.write(folder)?;
        // Also what is left of a lost store: sled would read its snapshot together with the new database.
        let has_files = store_files(folder)?.iter().any(|name| name != MARKER_NAME);
        let moved_to = if has_files { Some(move_away(folder)?) } else { None };
        for name in store_files(&building)? {
            if name != DATABASE && name != MARKER_NAME {
                fs::rename(building.join(&name), folder.join(&name))?;
            }
        }
        fs::rename(building.join(DATABASE), folder.join(DATABASE))?;
        fs::rename(building.join(MARKER_NAME), folder.join(MARKER_NAME))?;
        fs::File::open(folder)?.sync_all()?;
        remove(&building)?;
        Ok(moved_to)
    };
    let moved_to = put().with_context(|| format!("cannot put the imported store into {path}"))?;
    Ok(Imported { summary, moved_to })
}

fn build(folder: &Path, file: &Path) -> anyhow::Result<Summary> {
    let store = Folder::open(folder, &Arc::<StageNames>::default())?;
    let summary = export::read(file, FORMAT.1, |record| {
        match record {
            Record::Key { bucket, key, value } => {
                let bucket = Bucket { name: &bucket, quota: BucketQuota::UNLIMITED };
                store.opened()?.buckets.set(bucket, &key, &value)?;
            }
            Record::Row { id, row } => {
                store.restore_row(&id, &row).ok_or_else(|| anyhow!("the row {id:?} cannot be read"))?;
                if store.write_rows().unsaved_len() >= UNSAVED_ROWS_MAX {
                    store.save()?;
                }
            }
        }
        Ok(())
    })?;
    store.save()?;
    Ok(summary)
}

/// Moves the files of the store to a new folder beside them.
fn move_away(folder: &Path) -> anyhow::Result<PathBuf> {
    let time = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string().replace(':', "-");
    let target = folder.join(format!("replaced-{time}"));
    fs::create_dir(&target)?;
    for name in store_files(folder)? {
        if name != MARKER_NAME {
            fs::rename(folder.join(&name), target.join(&name))?;
        }
    }
    Ok(target)
}

/// The names of the files and folders of a store.
fn store_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if [DATABASE, "conf", "blobs", MARKER_NAME].contains(&name)
            || name.starts_with("snap.")
            || name.starts_with(journal::PREFIX)
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether a process uses the store.
pub fn is_in_use(folder: &Path) -> bool {
    lock(folder).is_err()
}

/// Locks the database as sled does, so that no server uses it.
fn lock(folder: &Path) -> anyhow::Result<Option<fs::File>> {
    let file = match fs::File::open(folder.join(DATABASE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open the store in {}", folder.display())),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        bail!("the store in {} is in use by another process; stop it first", folder.display());
    }
    Ok(Some(file))
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
