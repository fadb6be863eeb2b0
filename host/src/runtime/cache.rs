//! Compiled components on disk, keyed by content and engine, so that a restart compiles nothing.
//!
//! The files are native code that this process runs, so only this user may have access to the folder.

use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::limits::CODE_CACHE_FILES_MAX;
use crate::runtime::trusted;

/// Length of the first part of a file's name: the hash of the content, in hexadecimal digits.
const CONTENT_LENGTH: usize = 64;
/// Length of the second part of a file's name: the key of the engine, in hexadecimal digits.
const ENGINE_LENGTH: usize = 16;

pub struct CodeCache {
    folder: PathBuf,
    engine: String,
}

impl CodeCache {
    /// Opens the cache in `folder`, and creates the folder if it does not exist.
    ///
    /// # Errors
    /// If the folder belongs to another user, or if its permissions allow access to other users.
    pub fn open(folder: &Path, engine: &Engine) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() {
            bail!("{} is not a folder", folder.display());
        }
        let own = fs::metadata("/proc/self").context("cannot find out which user runs this process")?.uid();
        if metadata.uid() != own {
            bail!("{} belongs to another user", folder.display());
        }
        if metadata.mode() & 0o077 != 0 {
            bail!("other users have access to {}; run: chmod 700 {}", folder.display(), folder.display());
        }
        Ok(Self { folder: folder.to_owned(), engine: engine_key(engine) })
    }

    /// Returns the component with that content, if this engine has compiled it before.
    pub fn get(&self, engine: &Engine, content: &blake3::Hash) -> Option<Component> {
        let path = self.path(content);
        match is_intact(&path) {
            Ok(true) => {}
            Ok(false) => {
                warn!(path = %path.display(), "cached code is damaged; compiling again");
                return None;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), "cannot read cached code; compiling again: {error}");
                return None;
            }
        }
        match trusted::deserialize_component(engine, &path) {
            Ok(component) => {
                // The modification time is the time of the last use: `remove_oldest` deletes files by it.
                let used = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                if let Err(error) = used {
                    debug!(path = %path.display(), "cannot set the time of the last use: {error}");
                }
                Some(component)
            }
            Err(error) => {
                warn!(path = %path.display(), "cannot use cached code; compiling again: {error:#}");
                None
            }
        }
    }

    /// Stores compiled code. A failure is only logged, because the next start can compile again.
    pub fn put(&self, content: &blake3::Hash, code: &[u8]) {
        if let Err(error) = self.write(content, code).and_then(|()| self.remove_oldest()) {
            warn!(folder = %self.folder.display(), "cannot cache compiled code: {error:#}");
        }
    }

    fn write(&self, content: &blake3::Hash, code: &[u8]) -> anyhow::Result<()> {
        let path = self.path(content);
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(code)?;
        // The hash follows the code, so that the file can be mapped without a change.
        file.write_all(blake3::hash(code).as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        Ok(())
    }

    /// Deletes the least recently used files beyond `CODE_CACHE_FILES_MAX`. Other servers may do the same at the same
    /// time, so a file that is already deleted is no error.
    fn remove_oldest(&self) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if is_cache_file(&entry.file_name())
                && let Some(metadata) = ignore_not_found(entry.metadata())?
            {
                files.push((metadata.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(CODE_CACHE_FILES_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            ignore_not_found(fs::remove_file(path))?;
        }
        Ok(())
    }

    fn path(&self, content: &blake3::Hash) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", content.to_hex(), self.engine))
    }
}

/// Whether the file is undamaged: it ends with the hash of its code.
fn is_intact(path: &Path) -> std::io::Result<bool> {
    let bytes = fs::read(path)?;
    Ok(bytes.split_last_chunk().is_some_and(|(code, hash)| blake3::hash(code) == *hash))
}

/// Whether a file of this name belongs to the cache. The folder may contain other files.
fn is_cache_file(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let (stem, kind) = name.split_once('.').unwrap_or((&name, ""));
    let (content, engine) = stem.split_once('-').unwrap_or((stem, ""));
    (kind == "cwasm" || kind.ends_with("unfinished"))
        && content.len() == CONTENT_LENGTH
        && engine.len() == ENGINE_LENGTH
}

fn ignore_not_found<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a key that differs for each version and each settings of the engine that lead to different code.
pub fn engine_key(engine: &Engine) -> String {
    struct Blake(blake3::Hasher);
    impl Hasher for Blake {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let hash = self.0.finalize();
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
        }
    }
    let mut hasher = Blake(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
