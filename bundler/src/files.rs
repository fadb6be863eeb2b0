//! The file system, as the bundler sees it: remembers what was read, and what was looked for and does not exist.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use oxc_resolver::{FileMetadata, FileSystem as ResolverFileSystem, ResolveError};
use rolldown_fs::{FileSystem, OsFileSystem};

/// A file system that remembers which files were used.
#[derive(Clone, Debug)]
pub struct RecordingFiles {
    files: OsFileSystem,
    used: Arc<Mutex<Used>>,
}

/// Paths that were used. Each decides what the script is.
#[derive(Debug, Default)]
pub struct Used {
    pub read: BTreeSet<PathBuf>,
    pub absent: BTreeSet<PathBuf>,
}

impl RecordingFiles {
    /// Returns what was used so far, and forgets it.
    pub fn take_used(&self) -> Used {
        std::mem::take(&mut *self.used())
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().expect("no code panics while holding the lock")
    }

    fn record_read<T>(&self, path: &Path, result: io::Result<T>) -> io::Result<T> {
        match &result {
            Ok(_) => {
                self.used().read.insert(path.to_owned());
            }
            Err(error) => self.record_error(path, error),
        }
        result
    }

    fn record_error(&self, path: &Path, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            self.used().absent.insert(path.to_owned());
        }
    }

    fn record_look_up<T>(&self, path: &Path, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.record_error(path, error);
        }
        result
    }
}

impl ResolverFileSystem for RecordingFiles {
    fn new(yarn_pnp: bool) -> Self {
        Self { files: OsFileSystem::new(yarn_pnp), used: Arc::default() }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.record_read(path, self.files.read(path))
    }

    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        self.record_read(path, self.files.read_to_string(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.record_look_up(path, self.files.metadata(path))
    }

    fn symlink_metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.record_look_up(path, self.files.symlink_metadata(path))
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, ResolveError> {
        self.files.read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.record_look_up(path, self.files.canonicalize(path))
    }
}

/// Nothing is written: the bundle is returned.
impl FileSystem for RecordingFiles {
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.read_dir(path)
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }
}
