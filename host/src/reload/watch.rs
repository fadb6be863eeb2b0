//! Notices that a file or a folder may have changed, and reports it once the changes have stopped.
//!
//! Knows paths and time. Does not know components, manifests or builds: it reports "may have changed", and its listener
//! decides by content.
//!
//! This uses notify itself and not notify-debouncer-full. The debouncer waits for silence of one path and one kind of
//! event at a time: it reports a new file while a linker still writes it, and a checkout of 480 files in a hundred
//! reports, so a wait of our own would have to follow its wait. It also reports every read of every file in the folder,
//! our own reads included, and never sleeps longer than a tick.
//!
//! A file is reported when its writer has closed it, because a part of a file can be valid too: an empty manifest is an
//! API without routes. inotify reports the close. Where nothing does, the file must stay unchanged for longer.

mod content;
mod file_writers;
mod first_read;
mod inbox;
mod open_writes;
mod pending;
mod plan;
mod stable_read;
mod watcher;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use notify::Watcher as _;
use tokio::sync::mpsc;

use crate::limits::SOURCE_DEBOUNCE;

pub use content::hash_content;
use inbox::{Inbox, REPORTS_CLOSE};
use open_writes::OpenWrites;
pub use stable_read::{FileReader, read_now, read_unwatched};
use watcher::{WatchedFileStates, WatcherThread};

/// How often everything is scanned while notify works. The scan finds changes without an event, such as the move of a
/// folder above the watched one.
const SAFETY_SCAN_INTERVAL: Duration = Duration::from_secs(2);
/// How often everything is scanned after notify has failed.
const FALLBACK_SCAN_INTERVAL: Duration = Duration::from_millis(500);
/// After a scan, the watcher waits at least this many times the duration of the scan, so that scans of large folders
/// take at most about a twentieth of the time.
const SCAN_TIME_FACTOR: u32 = 20;
/// How long a file must stay unchanged if no event reports that its writer closes it, or if what was written until now
/// is probably only a part. Writers that pause while they write, such as editors and scripts, pause for less.
pub const PARTIAL_WRITE_QUIET: Duration = Duration::from_secs(1);
/// How long the first read waits for the content of a text that is empty: programs that write a file truncate it first,
/// and may take their time on a busy machine.
const EMPTY_FILE_QUIET: Duration = Duration::from_secs(3);
/// A file whose writer does not close it is reported and read after this time all the same.
const HELD_OPEN_MAX: Duration = Duration::from_secs(10);
/// A target that keeps changing is reported after this time all the same, and again each time it has passed.
const REPORT_DELAY_MAX: Duration = Duration::from_secs(10);
/// Events that follow one another within this time are handled together. It is far below any debounce.
const EVENT_BATCH_DELAY: Duration = Duration::from_millis(5);
/// How long a report waits before it is sent again, if the channel to the listener is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Paths that may wait to be handled; if there are more, every target counts as changed.
const INBOX_PATHS_MAX: usize = 4096;
/// Files and folders that are scanned below one watched folder; the rest is ignored.
const FOLDER_ENTRIES_MAX: usize = 100_000;

/// A file or folder whose changes are reported. It need not exist; a relative path is relative to the current folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchTarget {
    /// One file, also through symbolic links.
    File(PathBuf),
    /// A file of a script: as `File`, but it is reported sooner.
    Source(PathBuf),
    /// Everything below a folder, except for what builds, editors and version control keep there. The path may also be
    /// a file.
    Folder(PathBuf),
    /// The sources of a component.
    Sources(SourceFolder),
}

/// A folder with sources. As a watched folder, but what is below the folders of `except`, what has a hidden name, and logs
/// are not watched: builds and servers write there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFolder {
    pub folder: PathBuf,
    /// Files and folders, as paths relative to `folder`. Files beside a file whose names begin with its name and a dot
    /// belong to it: temporary files, and older files of a log.
    pub except: BTreeSet<PathBuf>,
}

impl SourceFolder {
    /// Whether a path below the folder, relative to it, is not watched.
    fn excludes(&self, below: &Path) -> bool {
        // cargo's settings are sources.
        let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".") && name != ".cargo";
        // The log of `jackfield dev` itself may be redirected to it, and has a new line after each build.
        let is_log = below.extension().is_some_and(|end| end == "log") || below.ends_with("nohup.out");
        let is_beside = |path: &Path| {
            let suffix =
                |name: &[u8]| Some(below.file_name()?.as_encoded_bytes().strip_prefix(name)?.starts_with(b"."));
            // A name without an extension is that of a folder.
            let name = path.extension().and(path.file_name()).map(OsStr::as_encoded_bytes);
            below.parent() == path.parent() && name.and_then(suffix).unwrap_or(false)
        };
        is_log
            || below.iter().any(is_hidden)
            || self.except.iter().any(|path| below.starts_with(path) || is_beside(path))
    }
}

impl WatchTarget {
    /// Returns the path of a file; `None` for a folder.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Source(path) => Some(path),
            Self::Folder(_) | Self::Sources(_) => None,
        }
    }
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// The operating system reports changes.
    Notify,
    /// Time, size and inode are compared at this interval. This is for file systems that report no changes, such as
    /// network drives and folders that a container shares with its host.
    Poll(Duration),
}

/// What a watcher is started with.
pub struct WatcherOptions {
    pub mode: WatchMode,
    /// How long a target must stay unchanged before it is reported. For a file of a script it is `SOURCE_DEBOUNCE`.
    pub debounce: Duration,
    /// A file of which a part can be valid too. After it has become shorter in place, it must stay unchanged for
    /// longer, because its writer may have closed it before the last part.
    pub partially_valid: Option<PathBuf>,
}

/// Watches targets on a thread of its own until it is dropped.
pub struct Watcher {
    inbox: Arc<Inbox>,
    open_writes: OpenWrites,
}

impl Watcher {
    /// Sends the targets that may have changed to `changes`, each when it has not changed for the debounce time and no
    /// writer holds it open.
    ///
    /// A slow listener loses nothing: what does not fit into `changes` is kept, merged and sent later. If notify cannot
    /// start, the watcher polls instead and logs a warning. The thread ends when the receiver of `changes` is dropped.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(options: WatcherOptions, changes: mpsc::Sender<Vec<WatchTarget>>) -> anyhow::Result<Watcher> {
        let WatcherOptions { mode, debounce, partially_valid } = options;
        match mode {
            WatchMode::Notify => {
                Self::start_with(Timing::new(debounce, SAFETY_SCAN_INTERVAL), partially_valid, changes, notify_backend)
            }
            WatchMode::Poll(scan_interval) => {
                Self::start_with(Timing::new(debounce, scan_interval), partially_valid, changes, |_| Ok(None))
            }
        }
    }

    /// Returns a reader that waits for the writers of the watched files.
    pub fn reader(&self) -> FileReader {
        FileReader::new(self.open_writes.clone())
    }

    /// Watches exactly these targets from now on. Targets that were watched before keep their state.
    ///
    /// A file must be read only after this call, or a change in between is missed. Blocks while the folders are listed.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn set(&mut self, targets: BTreeSet<WatchTarget>) -> anyhow::Result<()> {
        self.inbox.set(targets).recv().context("the file watcher has stopped")
    }

    fn start_with(
        timing: Timing,
        partially_valid: Option<PathBuf>,
        changes: mpsc::Sender<Vec<WatchTarget>>,
        backend: impl FnOnce(inbox::Handler) -> notify::Result<Option<Backend>>,
    ) -> anyhow::Result<Watcher> {
        let inbox = Arc::new(Inbox::default());
        let backend = backend(inbox::Handler(inbox.clone()));
        let open_writes = OpenWrites::new(timing.held_open_max);
        let files = WatchedFileStates { open_writes: open_writes.clone(), partially_valid };
        let watcher = WatcherThread::new(timing, files, inbox.clone(), changes, backend);
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || watcher.run())
            .context("cannot start the thread that watches files")?;
        Ok(Watcher { inbox, open_writes })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

#[derive(Clone, Copy)]
struct Timing {
    /// How long a target must stay unchanged before it is reported.
    debounce: Duration,
    /// The same for a file of a script.
    source_debounce: Duration,
    /// How often everything is scanned, whether there were events or not.
    scan_interval: Duration,
    /// The debounce time of a file that may be written only in part; see `PARTIAL_WRITE_QUIET`.
    partial_write_quiet: Duration,
    /// After this time a file is reported although its writer holds it open.
    held_open_max: Duration,
}

impl Timing {
    const fn new(debounce: Duration, scan_interval: Duration) -> Timing {
        Timing {
            debounce,
            source_debounce: SOURCE_DEBOUNCE,
            scan_interval,
            partial_write_quiet: PARTIAL_WRITE_QUIET,
            held_open_max: HELD_OPEN_MAX,
        }
    }
}

/// notify's watcher for this system, or a replacement in a test.
type Backend = Box<dyn notify::Watcher + Send>;

fn notify_backend(handler: inbox::Handler) -> notify::Result<Option<Backend>> {
    Ok(Some(Box::new(notify::RecommendedWatcher::new(handler, notify::Config::default())?)))
}
