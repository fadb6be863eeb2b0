//! Cached code that may be run: the content of a file that passed every check, held so that it stays what was checked.
//!
//! Only `VerifiedCode::read` makes a `VerifiedCode`, so that a value of it is the proof of the checks.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::folder::TrustedFile;

/// Length of the hash at the end of a file.
pub const HASH_BYTES: usize = blake3::OUT_LEN;

/// Code that this user stored under the name it was asked for, and that is undamaged.
pub struct VerifiedCode(Content);

enum Content {
    /// The path leads to the file that was checked, because the file is still open.
    Open { path: PathBuf, _file: File },
    /// The bytes that were checked, on a system without such a path.
    Copied(Vec<u8>),
}

/// How wasmtime gets verified code. Valid only while the `VerifiedCode` exists.
pub enum CodeSource<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

impl VerifiedCode {
    /// Checks the hash of a file of the cache. Returns `None` if the file is damaged, or was stored under another name.
    pub fn read(file: TrustedFile, name: &str) -> io::Result<Option<Self>> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.file.as_raw_fd()));
        // Where no `/proc` is mounted, the path leads nowhere, or to something else.
        if is_same_file(&path, &file.metadata) { Self::read_open(file, name, path) } else { Self::copy(file, name) }
    }

    /// Hashes the file without keeping its content: wasmtime maps the same open file.
    fn read_open(TrustedFile { file, metadata }: TrustedFile, name: &str, path: PathBuf) -> io::Result<Option<Self>> {
        let Some(code_bytes) = metadata.len().checked_sub(HASH_BYTES as u64) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&file).take(code_bytes))?;
        let mut stored = [0; HASH_BYTES];
        match (&file).read_exact(&mut stored) {
            Ok(()) if finish(hasher, name) == stored => Ok(Some(Self(Content::Open { path, _file: file }))),
            Ok(()) => Ok(None),
            // The file became shorter while it was read.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the file into memory, and hashes these bytes.
    pub(super) fn copy(TrustedFile { file, metadata }: TrustedFile, name: &str) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.take(metadata.len()).read_to_end(&mut bytes)?;
        let Some((code, stored)) = bytes.split_last_chunk() else { return Ok(None) };
        let (is_intact, length) = (hash(code, name) == *stored, code.len());
        bytes.truncate(length);
        Ok(is_intact.then_some(Self(Content::Copied(bytes))))
    }

    pub fn source(&self) -> CodeSource<'_> {
        match &self.0 {
            Content::Open { path, .. } => CodeSource::File(path),
            Content::Copied(bytes) => CodeSource::Bytes(bytes),
        }
    }
}

/// Returns the hash at the end of a file. It includes the name of the file, so that code is not run as another
/// component after its file was renamed.
pub fn hash(code: &[u8], name: &str) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(code);
    finish(hasher, name)
}

fn finish(mut hasher: blake3::Hasher, name: &str) -> blake3::Hash {
    hasher.update(name.as_bytes());
    hasher.finalize()
}

fn is_same_file(path: &Path, metadata: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()))
}
