//! Compiled components on disk, keyed by content and engine: a restart compiles nothing.
//!
//! The files are native code that this process runs, so the folder must be this user's alone.

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
use crate::runtime::{into_anyhow, trusted};

/// Of the two parts of a file's name, both hexadecimal.
const CONTENT_LENGTH: usize = 64;
const ENGINE_LENGTH: usize = 16;

pub struct CodeCache {
    folder: PathBuf,
    engine: String,
}

impl CodeCache {
    /// Uses `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If it belongs to somebody else, or if others may read or write it.
    pub fn open(folder: &Path, engine: &Engine) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() {
            bail!("{} is no folder", folder.display());
        }
        let own = fs::metadata("/proc/self").context("cannot tell which user this is")?.uid();
        if metadata.uid() != own {
            bail!("{} belongs to another user", folder.display());
        }
        if metadata.mode() & 0o077 != 0 {
            bail!("others can reach {}; run: chmod 700 {}", folder.display(), folder.display());
        }
        Ok(Self { folder: folder.to_owned(), engine: engine_key(engine) })
    }

    /// The component of that content, if this engine has compiled it before.
    pub fn get(&self, engine: &Engine, content: &blake3::Hash) -> Option<Component> {
        let path = self.path(content);
        match is_whole(&path) {
            Ok(true) => {}
            Ok(false) => {
                warn!(path = %path.display(), "compiled code is damaged and is made anew");
                return None;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), "compiled code cannot be read and is made anew: {error}");
                return None;
            }
        }
        match trusted::compiled(engine, &path) {
            Ok(component) => {
                // The time of the last use, by which files are let go.
                let used = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                if let Err(error) = used {
                    debug!(path = %path.display(), "cannot mark as used: {error}");
                }
                Some(component)
            }
            Err(error) => {
                warn!(path = %path.display(), "compiled code cannot be used and is made anew: {error:#}");
                None
            }
        }
    }

    /// Keeps compiled code. Failing to is no error: the next start compiles again.
    pub fn put(&self, content: &blake3::Hash, component: &Component) {
        if let Err(error) = self.write(content, component).and_then(|()| self.tidy()) {
            warn!(folder = %self.folder.display(), "compiled code is not kept: {error:#}");
        }
    }

    fn write(&self, content: &blake3::Hash, component: &Component) -> anyhow::Result<()> {
        let code = component.serialize().map_err(into_anyhow)?;
        let path = self.path(content);
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&code)?;
        // Behind the code, so that it can be mapped as it stands.
        file.write_all(blake3::hash(&code).as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        Ok(())
    }

    /// Lets go of what was not used for the longest time. Other servers may do the same right now.
    fn tidy(&self) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if is_ours(&entry.file_name())
                && let Some(metadata) = unless_gone(entry.metadata())?
            {
                files.push((metadata.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(CODE_CACHE_FILES_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            unless_gone(fs::remove_file(path))?;
        }
        Ok(())
    }

    fn path(&self, content: &blake3::Hash) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", content.to_hex(), self.engine))
    }
}

/// Whether the code in the file is what was written: it ends with its hash.
fn is_whole(path: &Path) -> std::io::Result<bool> {
    let bytes = fs::read(path)?;
    Ok(bytes.split_last_chunk().is_some_and(|(code, hash)| blake3::hash(code) == *hash))
}

/// The folder may be one in which other things lie too.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let (stem, kind) = name.split_once('.').unwrap_or((&name, ""));
    let (content, engine) = stem.split_once('-').unwrap_or((stem, ""));
    (kind == "cwasm" || kind.ends_with("unfinished"))
        && content.len() == CONTENT_LENGTH
        && engine.len() == ENGINE_LENGTH
}

fn unless_gone<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes with the version and the settings of the engine that change code.
fn engine_key(engine: &Engine) -> String {
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
