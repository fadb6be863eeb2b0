//! Compiled components on disk, keyed by content and engine, so that a restart compiles nothing.
//!
//! The files are native code that this process runs. A file is used only if no other user can have written it:
//! the folder is opened once, and each file of it is opened once, checked, hashed and mapped from that same handle.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tracing::{debug, warn};
use wasmtime::Engine;

use crate::capability::{FileGrant, Grants};
use crate::runtime::structures::{LoadedCode, LoadedModule, StructureProbe};
use crate::runtime::trusted;

mod folder;
#[cfg(test)]
mod tests;
pub mod verified;

use folder::{CacheFolder, Entry, OpenError};
use verified::{HASH_BYTES, VerifiedCode};

/// Length of the first part of a file's name: the hash of the content, in hexadecimal digits.
const CONTENT_LENGTH: usize = 64;
/// Length of the second part of a file's name: the key of the engine, in hexadecimal digits.
const ENGINE_LENGTH: usize = 16;
/// The format of the files; part of the key of the engine, so that files of another format are not found.
const FORMAT: &str = "jackfield code cache 2";
/// Smallest size that a file is charged: a block of the disk. It also limits the number of files.
const BLOCK_BYTES: u64 = 4096;
/// A full cache is emptied by this fraction more than necessary, and the files of other servers are counted again when
/// this fraction was stored, so that not every file that is stored reads the whole folder.
const SLACK: u64 = 16;
/// An unfinished file that no process has locked is removed at this age. A younger one may be about to be locked.
const UNFINISHED_AGE: Duration = Duration::from_secs(60);
/// Names whose rejection was logged; at more, the list is emptied.
const REJECTED_NAMES_MAX: usize = 1024;

/// Where the cache is, and how large it may become.
#[derive(Clone, Copy, Debug)]
pub struct CodeCacheOptions<'a> {
    pub folder: &'a Path,
    pub bytes_max: u64,
}

pub struct CodeCache {
    folder: CacheFolder,
    bytes_max: u64,
    engine: String,
    usage: Mutex<Usage>,
    /// The names whose files were rejected and logged.
    rejected: Mutex<HashSet<String>>,
}

/// Bytes of the cache, as far as this process knows them.
#[derive(Default)]
struct Usage {
    /// Bytes that were counted last, and what this process has stored since.
    total: u64,
    stored_since_count: u64,
}

impl CodeCache {
    /// Opens the cache, and creates its folder if it does not exist. Removes what is beyond `bytes_max`, and what
    /// processes left behind that ended while they were storing code.
    ///
    /// # Errors
    /// If the folder belongs to another user, or if its permissions allow access to other users.
    pub fn open(options: CodeCacheOptions<'_>, engine: &Engine) -> anyhow::Result<Self> {
        let cache = Self {
            folder: CacheFolder::open(options.folder)?,
            bytes_max: options.bytes_max,
            engine: engine_key(engine),
            usage: Mutex::default(),
            rejected: Mutex::default(),
        };
        cache.count_and_evict(&mut cache.usage()).context("cannot read the folder")?;
        Ok(cache)
    }

    /// Checks that a guest may not write into the cache: it writes as the user of this process, so that the code which
    /// it stored would be run.
    ///
    /// # Errors
    /// If a folder that the guest may write contains the cache, or is in it.
    pub fn check_grants(&self, grants: &Grants) -> anyhow::Result<()> {
        let cache = self.folder.path();
        let is_cache = |file: &&FileGrant| {
            let host = file.host.canonicalize().unwrap_or_else(|_| file.host.clone());
            file.write && (cache.starts_with(&host) || host.starts_with(cache))
        };
        match grants.files.iter().find(is_cache) {
            Some(file) => bail!(
                "it may write to {}, and so to the compiled code of every plugin in {}: change files, or cache in \
                 [server]",
                file.host.display(),
                cache.display()
            ),
            None => Ok(()),
        }
    }

    /// Returns the component with that content, if this engine has compiled it before. Blocks the thread.
    pub fn get(&self, engine: &Engine, probe: &StructureProbe, content: &blake3::Hash) -> Option<LoadedCode> {
        self.load(content, |code| {
            let component = trusted::deserialize_component(engine, code)?;
            let structure_bytes = probe.structure_bytes(|probe| trusted::deserialize_component(probe, code));
            Ok(LoadedCode { component, structure_bytes })
        })
    }

    /// As `get`, for a core module.
    pub fn get_module(&self, engine: &Engine, probe: &StructureProbe, key: &blake3::Hash) -> Option<LoadedModule> {
        self.load(key, |code| {
            let module = trusted::deserialize_module(engine, code)?;
            let structure_bytes = probe.module_structure_bytes(|probe| trusted::deserialize_module(probe, code));
            Ok(LoadedModule { module, structure_bytes })
        })
    }

    fn load<T>(&self, content: &blake3::Hash, load: impl FnOnce(&VerifiedCode) -> wasmtime::Result<T>) -> Option<T> {
        let name = self.name(content);
        let code = self.read(&name);
        let loaded = code.and_then(|code| code.map(|code| load(&code).map_err(Rejection::Incompatible)).transpose());
        loaded.unwrap_or_else(|error| {
            self.report_rejected(&name, &error);
            None
        })
    }

    fn read(&self, name: &str) -> Result<Option<VerifiedCode>, Rejection> {
        let Some(file) = self.folder.open_file(&c_name(name))? else { return Ok(None) };
        let (found, most) = (file.metadata.len(), self.bytes_max);
        if found > most {
            return Err(Rejection::TooLarge { found, most });
        }
        // The modification time is the time of the last use: the least recently used files are removed first.
        if let Err(error) = file.file.set_modified(SystemTime::now()) {
            debug!(name, "cannot set the time of the last use: {error}");
        }
        Ok(Some(VerifiedCode::read(file, name).map_err(OpenError::Io)?.ok_or(Rejection::Damaged)?))
    }

    /// Logs once for each file why it was not used. It is compiled again, and replaced.
    fn report_rejected(&self, name: &str, rejection: &Rejection) {
        let mut rejected = self.rejected();
        if rejected.contains(name) {
            return;
        }
        if rejected.len() >= REJECTED_NAMES_MAX {
            rejected.clear();
        }
        rejected.insert(name.to_owned());
        drop(rejected);
        let path = self.folder.path().join(name);
        warn!(path = %path.display(), "{rejection}");
    }

    /// Stores compiled code, the output of `serialize` of a component or module. Blocks the thread. A failure is only logged, because
    /// the next start can compile again.
    pub fn put(&self, content: &blake3::Hash, code: &[u8]) {
        let name = self.name(content);
        match self.store(&name, code) {
            // A file that is rejected later is another one, which is logged again.
            Ok(()) => drop(self.rejected().remove(&name)),
            Err(error) => {
                warn!(folder = %self.folder.path().display(), "cannot cache compiled code in {name}: {error:#}");
            }
        }
    }

    fn store(&self, name: &str, code: &[u8]) -> anyhow::Result<()> {
        let bytes = charge((code.len() + HASH_BYTES) as u64);
        if bytes > self.bytes_max {
            bail!("it has {bytes} bytes, expected at most {}; raise cache_size in [server]", self.bytes_max);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("cannot get random bytes from the system")?;
        let (stem, _) = name.split_once('.').expect("names have an extension");
        let (process, random) = (std::process::id(), u64::from_le_bytes(random));
        let unfinished = format!("{stem}.{process}-{random:016x}.unfinished");
        // The hash follows the code, so that the file can be mapped without a change.
        let hash = verified::hash(code, name);
        self.folder.write_file(&c_name(&unfinished), &c_name(name), &[code, hash.as_bytes()])?;
        let mut usage = self.usage();
        usage.total = usage.total.saturating_add(bytes);
        usage.stored_since_count += bytes;
        if usage.total > self.bytes_max || usage.stored_since_count > self.bytes_max / SLACK {
            self.count_and_evict(&mut usage)?;
        }
        Ok(())
    }

    /// Counts the files of the cache, also those of other servers, removes unfinished files of processes that have
    /// ended, and if there are more bytes than `bytes_max`, removes the least recently used files.
    fn count_and_evict(&self, usage: &mut Usage) -> std::io::Result<()> {
        let mut files = self.folder.entries(is_cache_file)?;
        files.retain(|file| !file.is_folder && !self.remove_if_abandoned(file));
        files.sort_by_key(|file| file.modified);
        let mut total: u64 = files.iter().map(|file| charge(file.bytes)).fold(0, u64::saturating_add);
        if total > self.bytes_max {
            let target = self.bytes_max - self.bytes_max / SLACK;
            for (index, file) in files.iter().enumerate() {
                // The newest file may be larger than the target; it was just stored.
                let is_newest = index + 1 == files.len();
                if total <= target || is_newest && total <= self.bytes_max {
                    break;
                }
                match self.folder.remove(&file.name) {
                    Ok(()) => total = total.saturating_sub(charge(file.bytes)),
                    Err(error) => debug!(name = ?file.name, "cannot remove cached code: {error}"),
                }
            }
        }
        *usage = Usage { total, stored_since_count: 0 };
        Ok(())
    }

    /// Removes an unfinished file whose process has ended, and returns whether it did. Process ids are not compared:
    /// servers in several containers may share the folder.
    fn remove_if_abandoned(&self, file: &Entry) -> bool {
        let is_old = || file.modified.elapsed().is_ok_and(|age| age >= UNFINISHED_AGE);
        is_unfinished(&file.name)
            && is_old()
            && !self.folder.is_being_written(&file.name)
            && self.folder.remove(&file.name).is_ok()
    }

    fn name(&self, content: &blake3::Hash) -> String {
        format!("{}-{}.cwasm", content.to_hex(), self.engine)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejected(&self) -> MutexGuard<'_, HashSet<String>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a file of the cache is not used.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("rejected cached code, which another user may have written: {0}; compiling again; delete the file")]
    Untrusted(folder::Untrusted),
    #[error("cannot read cached code; compiling again: {0}")]
    Io(std::io::Error),
    #[error(
        "rejected cached code: found {found} bytes, expected at most {most} (cache_size in [server]); compiling again; \
         delete the file"
    )]
    TooLarge { found: u64, most: u64 },
    #[error("cached code is damaged; compiling again: expected its hash at its end, and its original name; delete it")]
    Damaged,
    #[error("cannot use cached code; compiling again: {0:#}")]
    Incompatible(wasmtime::Error),
}

impl From<OpenError> for Rejection {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Untrusted(untrusted) => Self::Untrusted(untrusted),
            OpenError::Io(error) => Self::Io(error),
        }
    }
}

fn c_name(name: &str) -> CString {
    CString::new(name).expect("the names of the cache are hexadecimal digits and dots")
}

/// Bytes that a file of this length counts.
fn charge(bytes: u64) -> u64 {
    bytes.max(1).checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// Whether a file of this name belongs to the cache. The folder may contain other files.
fn is_cache_file(name: &CStr) -> bool {
    let name = name.to_string_lossy();
    let (stem, kind) = name.split_once('.').unwrap_or((&name, ""));
    let (content, engine) = stem.split_once('-').unwrap_or((stem, ""));
    (kind == "cwasm" || kind.ends_with("unfinished"))
        && content.len() == CONTENT_LENGTH
        && engine.len() == ENGINE_LENGTH
}

fn is_unfinished(name: &CStr) -> bool {
    name.to_bytes().ends_with(b"unfinished")
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
    FORMAT.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
