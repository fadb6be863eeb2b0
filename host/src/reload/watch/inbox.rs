//! What has arrived for the watcher's thread: paths with an event, and requests of the listener.
//!
//! notify's thread writes here and never waits for the watcher's thread, which may itself wait for a call to notify.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{EVENT_BATCH_DELAY, INBOX_PATHS_MAX, WatchTarget};

/// Whether the system reports that a writer has closed its file. Only inotify does.
pub(super) const REPORTS_CLOSE: bool = cfg!(any(target_os = "linux", target_os = "android"));

#[derive(Default)]
pub(super) struct Inbox {
    arrivals: Mutex<Arrivals>,
    arrived: Condvar,
}

#[derive(Default)]
pub(super) struct Arrivals {
    pub stop: bool,
    /// The new targets, and the sender that is notified when they are watched.
    pub set: Option<(BTreeSet<WatchTarget>, mpsc::SyncSender<()>)>,
    /// Whether events were lost.
    pub rescan: bool,
    pub paths: HashMap<PathBuf, PathEvents>,
}

/// The events of one path, merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PathEvents {
    /// When the last one arrived.
    pub at: Instant,
    /// Whether a name was created, removed or renamed, so that other folders may need watching.
    pub renamed: bool,
    /// What the last event says about a writer of the file; `None` if no event says anything.
    pub writer: Option<Writer>,
}

/// Whether a program that has changed a file still holds it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The content was changed, and the file was not closed since then.
    Open,
    /// The last change is complete: the writer has closed the file, or another file has its name now.
    Closed,
}

impl Inbox {
    /// Waits until something arrives, but not longer than until `deadline`. Returns what has arrived.
    pub fn wait(&self, deadline: Instant) -> Arrivals {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let (mut arrivals, _) = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, |arrivals| arrivals.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if !arrivals.paths.is_empty() && !arrivals.is_urgent() {
            drop(arrivals);
            std::thread::sleep(EVENT_BATCH_DELAY);
            arrivals = self.lock();
        }
        std::mem::take(&mut *arrivals)
    }

    /// Hands over new targets. The returned receiver gets a message when they are watched, and an error if the thread
    /// has ended.
    pub fn set(&self, targets: BTreeSet<WatchTarget>) -> mpsc::Receiver<()> {
        let (done, watched) = mpsc::sync_channel(1);
        let mut arrivals = self.lock();
        // A stopped thread does not empty the inbox any more, so `done` would never be dropped.
        if !arrivals.stop {
            arrivals.set = Some((targets, done));
        }
        self.arrived.notify_one();
        watched
    }

    /// Asks the thread to end, or records that it has ended.
    pub fn stop(&self) {
        let mut arrivals = self.lock();
        arrivals.stop = true;
        arrivals.set = None;
        self.arrived.notify_one();
    }

    fn add(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            return self.rescan();
        };
        if event.need_rescan() {
            return self.rescan();
        }
        let Some(renamed) = is_rename(event.kind) else {
            return;
        };
        let at = Instant::now();
        let mut arrivals = self.lock();
        if arrivals.rescan {
            return;
        }
        let writer = writer(event.kind);
        for path in event.paths {
            let events = arrivals.paths.entry(path).or_insert(PathEvents { at, renamed, writer });
            *events = PathEvents { at, renamed: renamed || events.renamed, writer: writer.or(events.writer) };
        }
        if arrivals.paths.len() > INBOX_PATHS_MAX {
            arrivals.paths.clear();
            arrivals.rescan = true;
        }
        self.arrived.notify_one();
    }

    fn rescan(&self) {
        self.lock().rescan = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.rescan && !self.is_urgent()
    }

    fn is_urgent(&self) -> bool {
        self.stop || self.set.is_some()
    }
}

/// Returns whether names changed, or `None` if nothing changed because a file was only read.
fn is_rename(kind: EventKind) -> Option<bool> {
    match kind {
        // This is the only event of a file that is written through a memory map.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(false),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Some(false),
        _ => Some(true),
    }
}

/// Returns what an event says about a writer of the file.
fn writer(kind: EventKind) -> Option<Writer> {
    match kind {
        EventKind::Modify(ModifyKind::Data(_)) if REPORTS_CLOSE => Some(Writer::Open),
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Create(_)
        | EventKind::Remove(_) => Some(Writer::Closed),
        _ => None,
    }
}

/// Receives notify's events on notify's thread.
pub(super) struct Handler(pub Arc<Inbox>);

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        self.0.add(event);
    }
}
