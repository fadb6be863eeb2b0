//! What the file system says about a file, which shows whether its content has changed without reading it.
//!
//! Does not know who reads files, or when.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Properties of a file that show whether it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileState {
    pub modified: SystemTime,
    /// When the content or the properties changed (`ctime`), in seconds and nanoseconds since 1970. Programs can set the
    /// time of `modified` back, as `cp -p` and `rsync -t` do, but not this one. `None` where the system has no such time.
    pub changed: Option<(i64, i64)>,
    pub len: u64,
    pub id: FileId,
}

impl FileState {
    /// # Errors
    /// If the system does not record when files are modified.
    pub fn from_metadata(metadata: &Metadata) -> io::Result<FileState> {
        Ok(FileState {
            modified: metadata.modified()?,
            changed: changed(metadata),
            len: metadata.len(),
            id: FileId::from_metadata(metadata),
        })
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<(i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> Option<(i64, i64)> {
    None
}

/// Identifies a file or folder independently of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub fn read(path: &Path) -> io::Result<FileId> {
        fs::metadata(path).map(|metadata| Self::from_metadata(&metadata))
    }

    #[cfg(unix)]
    pub fn from_metadata(metadata: &Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt as _;
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    pub fn from_metadata(_: &Metadata) -> FileId {
        FileId::default()
    }
}
