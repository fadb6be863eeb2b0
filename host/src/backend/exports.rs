//! The folder of exports beside the files of the store: names them, keeps the last ones, and finds the last good one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::export::{self, Summary, Writer};
use crate::event::EpochMillis;
use crate::limits::EXPORTS_KEPT;

const FOLDER: &str = "exports";
const PREFIX: &str = "store-";
const SUFFIX: &str = ".export";

/// The folder of exports of a store.
pub fn folder(store: &Path) -> PathBuf {
    store.join(FOLDER)
}

/// An export that is being written. It gets its name when it is complete; dropped before, it is deleted.
pub struct NewExport {
    folder: PathBuf,
    path: PathBuf,
    pub writer: Writer<tempfile::NamedTempFile>,
}

impl NewExport {
    /// Begins an export in the folder of the store.
    pub fn begin(store: &Path, format: &str, created: EpochMillis) -> io::Result<Self> {
        let folder = folder(store);
        fs::create_dir_all(&folder)?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(created);
        // Colons would have to be quoted in a shell.
        let time = humantime::format_rfc3339_millis(at).to_string().replace(':', "-");
        Self::begin_at(&folder.join(format!("{PREFIX}{time}{SUFFIX}")), format, created)
    }

    /// Begins an export with a path of its own. It replaces a file there.
    pub fn begin_at(path: &Path, format: &str, created: EpochMillis) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let folder = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let file = tempfile::Builder::new().prefix(".export-").tempfile_in(&folder)?;
        Ok(Self { writer: Writer::new(file, format, created)?, folder, path })
    }

    /// Syncs the export and gives it its name.
    pub fn finish(self) -> io::Result<(PathBuf, Summary)> {
        let (file, summary) = self.writer.finish()?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok((self.path, summary))
    }
}

/// Returns the exports of a store, newest first.
pub fn list(store: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder(store)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut exports = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_export = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        if entry.file_name().to_str().is_some_and(is_export) {
            exports.push(entry.path());
        }
    }
    // The names begin with the time.
    exports.sort_unstable_by(|a, b| b.cmp(a));
    Ok(exports)
}

/// Deletes all exports but the newest ones, and temporary files that a process left behind when it was killed.
pub fn prune(store: &Path) -> io::Result<()> {
    for old in list(store)?.into_iter().skip(EXPORTS_KEPT) {
        fs::remove_file(old)?;
    }
    for entry in fs::read_dir(folder(store))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".export-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the newest export that is complete and undamaged.
pub fn last_good(store: &Path, format: &str) -> Option<(PathBuf, Summary)> {
    let exports = list(store).unwrap_or_default();
    exports.into_iter().find_map(|path| Some((path.clone(), export::verify(&path, format).ok()?)))
}

/// How long ago the newest export was written; `None` if there is none.
pub fn age(store: &Path) -> Option<Duration> {
    let newest = list(store).ok()?.into_iter().next()?;
    let written = fs::metadata(newest).and_then(|file| file.modified()).ok()?;
    Some(SystemTime::now().duration_since(written).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(store: &Path, created: EpochMillis) -> PathBuf {
        NewExport::begin(store, "test", created).unwrap().finish().unwrap().0
    }

    #[test]
    fn the_last_two_exports_are_kept_and_the_last_good_one_is_found() {
        let store = tempfile::tempdir().unwrap();
        assert_eq!((list(store.path()).unwrap(), age(store.path())), (vec![], None));
        let paths: Vec<_> = [1_000, 9_000, 5_000].map(|created| export(store.path(), created)).into();
        assert!(paths[0].ends_with("exports/store-1970-01-01T00-00-01.000Z.export"), "{paths:?}");
        fs::write(folder(store.path()).join(".export-left"), "").unwrap();
        prune(store.path()).unwrap();
        assert_eq!(list(store.path()).unwrap(), [paths[1].clone(), paths[2].clone()]);
        assert_eq!(fs::read_dir(folder(store.path())).unwrap().count(), EXPORTS_KEPT);
        let good = |store: &Path| last_good(store, "test").map(|(path, _)| path);
        assert_eq!(good(store.path()), Some(paths[1].clone()));
        fs::write(&paths[1], "damaged").unwrap();
        assert_eq!(good(store.path()), Some(paths[2].clone()));
        fs::write(&paths[2], "damaged").unwrap();
        assert_eq!(good(store.path()), None);
        assert!(age(store.path()).unwrap() < Duration::from_secs(60));
    }

    #[test]
    fn an_export_that_is_not_finished_leaves_no_file() {
        let store = tempfile::tempdir().unwrap();
        drop(NewExport::begin(store.path(), "test", 1_000).unwrap());
        assert_eq!(fs::read_dir(folder(store.path())).unwrap().count(), 0);
    }
}
