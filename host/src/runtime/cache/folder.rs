//! The folder of the code cache: opened once, so that a folder that later takes its path is never used.
//!
//! Knows owners, permissions, links and times. Does not know components or what a file contains.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// Permissions of group and of others.
const FOREIGN_MODE: u32 = 0o077;
const PERMISSION_BITS: u32 = 0o7777;

/// An open folder that only this user can change.
pub struct CacheFolder {
    handle: File,
    /// Where the folder was when it was opened; used only for messages and to check the folders of guests.
    path: PathBuf,
    user: u32,
}

/// An open file that no other user can have changed or can still change.
#[derive(Debug)]
pub struct TrustedFile {
    pub file: File,
    pub metadata: Metadata,
}

/// A file of the folder that must not be trusted: what was found, and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct Untrusted {
    pub found: String,
    pub expected: &'static str,
}

/// Why a file of the folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A name in the folder.
#[derive(Debug)]
pub struct Entry {
    pub name: CString,
    pub bytes: u64,
    pub modified: SystemTime,
    pub is_folder: bool,
}

impl CacheFolder {
    /// Opens the folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// If the path leads to a link or a file, if the folder belongs to another user, or if its permissions allow access
    /// to other users. The checks are made on the opened folder, not on its path.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let displayed = path.display();
        let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        create.with_context(|| format!("cannot create the folder {displayed}"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                bail!("{displayed} is a link or a file, expected a folder; name the folder itself")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot open the folder {displayed}")),
        };
        let metadata = handle.metadata()?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            let owner = metadata.uid();
            bail!(
                "{displayed} belongs to another user: found the user id {owner}, expected {user}; \
                 name another folder (cache in [server])"
            );
        }
        if metadata.mode() & FOREIGN_MODE != 0 {
            bail!("other users have access to {displayed}; run: chmod 700 {displayed}");
        }
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { handle, path, user })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading if no other user can have changed it. Returns `None` if there is none.
    ///
    /// Never follows a link, and never waits for the writer of a FIFO. The checks are made on the opened file.
    pub fn open_file(&self, name: &CStr) -> Result<Option<TrustedFile>, OpenError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(untrusted("a link", "a file").into()),
            Err(Errno::NXIO) => return Err(untrusted("a socket", "a file").into()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let metadata = file.metadata()?;
        self.check(&metadata)?;
        Ok(Some(TrustedFile { file, metadata }))
    }

    /// Checks that no other user can have written to the file, or can still write to it.
    fn check(&self, metadata: &Metadata) -> Result<(), Untrusted> {
        if !metadata.is_file() {
            return Err(untrusted(describe_kind(metadata), "a file"));
        }
        if metadata.uid() != self.user {
            return Err(untrusted(
                format!("a file of the user id {}", metadata.uid()),
                "a file of this process's user",
            ));
        }
        let mode = metadata.mode() & PERMISSION_BITS;
        if mode & FOREIGN_MODE != 0 {
            return Err(untrusted(format!("mode {mode:03o}"), "mode 600"));
        }
        // There is none if another server has replaced or removed the file since it was opened.
        if metadata.nlink() > 1 {
            return Err(untrusted(format!("{} hard links", metadata.nlink()), "one: a file that has no other name"));
        }
        Ok(())
    }

    /// Writes a file as a whole: under `unfinished` first, which must not exist, then under `name`, which is replaced.
    /// Removes the unfinished file if that fails.
    pub fn write_file(&self, unfinished: &CStr, name: &CStr, parts: &[&[u8]]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.handle, unfinished, flags, Mode::RUSR | Mode::WUSR)?);
        let mut write = || {
            // The lock shows other servers that this file is being written. Without it they wait for its age.
            let _ = file.try_lock();
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            Ok(rustix::fs::renameat(&self.handle, unfinished, &self.handle, name)?)
        };
        let written = write();
        if written.is_err() {
            // The file may already be removed; the error of the write matters more.
            let _ = self.remove(unfinished);
        }
        written
    }

    /// Returns everything in the folder for whose name `accept` returns true.
    pub fn entries(&self, accept: impl Fn(&CStr) -> bool) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in Dir::read_from(&self.handle)? {
            let name = found?.file_name().to_owned();
            if !accept(&name) {
                continue;
            }
            let stat = match rustix::fs::statat(&self.handle, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Another server has removed it.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
            let since_epoch = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
            let modified = UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH);
            let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
            entries.push(Entry { name, bytes: u64::try_from(stat.st_size).unwrap_or(0), modified, is_folder });
        }
        Ok(entries)
    }

    /// Removes a file, a link or a FIFO. It is no error if it does not exist: other servers use the same folder.
    pub fn remove(&self, name: &CStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a process is writing the unfinished file `name` right now.
    pub fn is_being_written(&self, name: &CStr) -> bool {
        match self.open_file(name) {
            Ok(Some(open)) => matches!(open.file.try_lock(), Err(fs::TryLockError::WouldBlock)),
            Ok(None) | Err(_) => false,
        }
    }
}

fn untrusted(found: impl Into<String>, expected: &'static str) -> Untrusted {
    Untrusted { found: found.into(), expected }
}

fn describe_kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}
