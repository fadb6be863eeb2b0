//! Notices that a file or a folder may have changed, and says so once it is quiet again.
//!
//! Knows paths and time. Does not know components, manifests or builds: it says "maybe changed",
//! and whoever listens decides by content.
//!
//! This stands on notify itself and not on notify-debouncer-full, which waits for silence of one path
//! and one kind of event at a time: it tells of a new file while a linker still writes it, and of a
//! checkout of 480 files in a hundred pieces. A wait of our own would have to follow its wait. It also
//! reports every read of every neighbour, our own reads among them, and never sleeps longer than a tick.

mod content; // whether a touch was a change
mod inbox; // what came in since the thread last looked
mod lookout; // the thread: from events and looks to reports
mod plan; // which folders and names decide about a target
mod settled; // reads a file that nobody is writing

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use notify::Watcher as _;
use tokio::sync::mpsc;

pub use content::content;
use inbox::Inbox;
use lookout::Lookout;
pub use settled::settled;

/// How often everything is looked at where notify also tells: for what no event tells of, such as
/// the folder above the watched one being moved away.
const SAFETY_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often everything is looked at where notify has failed us.
const FALLBACK_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A look at big folders is repeated more seldom: it takes at most a twentieth of the time.
const LOOK_SHARE: u32 = 20;
/// What never comes to rest is reported after so long all the same, and so often.
const UNREST_MAX: Duration = Duration::from_secs(10);
/// Events that follow one another are handled together. Far below any debounce.
const GATHER: Duration = Duration::from_millis(5);
/// Where the listener is behind, what is due waits so long and is offered again.
const OFFER_INTERVAL: Duration = Duration::from_millis(50);
/// Paths that wait to be handled; more, and everything counts as touched.
const INBOX_PATHS_MAX: usize = 4096;
/// Files and folders below one watched folder; the rest is not seen.
const FOLDER_ENTRIES_MAX: usize = 100_000;

/// Something whose change matters. It need not exist, and a relative path starts at the current folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One file, reached through whatever links lead to it.
    File(PathBuf),
    /// Everything below a folder, but for what builds, editors and version control keep there.
    /// A file is fine too.
    Folder(PathBuf),
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The operating system tells.
    Notify,
    /// Time, size and inode are compared so often: for file systems that tell nothing, such as
    /// network drives and folders that a container shares with its host.
    Poll(Duration),
}

/// Watches targets on a thread of its own until it is dropped.
pub struct Watcher {
    inbox: Arc<Inbox>,
}

impl Watcher {
    /// Sends to `changes` the targets that may have changed, each `debounce` after it came to rest.
    ///
    /// Nothing is lost to a listener that is behind: what does not fit into `changes` is kept,
    /// merged and offered again. Where notify cannot start, polling takes its place, with a warning.
    /// The thread ends when the receiver of `changes` is gone.
    /// # Errors
    /// No thread can be started.
    pub fn start(mode: Mode, debounce: Duration, changes: mpsc::Sender<Vec<Target>>) -> anyhow::Result<Watcher> {
        match mode {
            Mode::Notify => {
                Self::start_with(Pace { debounce, look_interval: SAFETY_LOOK_INTERVAL }, changes, notify_backend)
            }
            Mode::Poll(look_interval) => Self::start_with(Pace { debounce, look_interval }, changes, |_| Ok(None)),
        }
    }

    /// Watches these from now on; those that were watched before stay as they are.
    ///
    /// Read a file only after it was set, or a change in between goes unnoticed. Blocks while the
    /// folders are listed.
    /// # Errors
    /// The thread has ended.
    pub fn set(&mut self, targets: BTreeSet<Target>) -> anyhow::Result<()> {
        self.inbox.set(targets).recv().context("the file watcher has stopped")
    }

    fn start_with(
        pace: Pace,
        changes: mpsc::Sender<Vec<Target>>,
        backend: impl FnOnce(inbox::Handler) -> notify::Result<Option<Backend>>,
    ) -> anyhow::Result<Watcher> {
        let inbox = Arc::new(Inbox::default());
        let backend = backend(inbox::Handler(inbox.clone()));
        let lookout = Lookout::new(pace, inbox.clone(), changes, backend);
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || lookout.run())
            .context("cannot start the thread that watches files")?;
        Ok(Watcher { inbox })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

#[derive(Clone, Copy)]
struct Pace {
    /// How long a target must be left alone before it is reported.
    debounce: Duration,
    /// How often everything is looked at, whether an event came or not.
    look_interval: Duration,
}

/// What notify offers on this system, or what a test puts in its place.
type Backend = Box<dyn notify::Watcher + Send>;

fn notify_backend(handler: inbox::Handler) -> notify::Result<Option<Backend>> {
    Ok(Some(Box::new(notify::RecommendedWatcher::new(handler, notify::Config::default())?)))
}
