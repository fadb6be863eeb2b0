//! What came in since the thread last looked: paths with an event, and what it was asked to do.
//!
//! Notify's thread writes here and never waits for ours: it may hold the answer to a call of ours.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    time::Instant,
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{GATHER, INBOX_PATHS_MAX, Target};

#[derive(Default)]
pub(super) struct Inbox {
    arrivals: Mutex<Arrivals>,
    arrived: Condvar,
}

#[derive(Default)]
pub(super) struct Arrivals {
    pub stop: bool,
    /// The new targets, and whom to tell when they are watched.
    pub set: Option<(BTreeSet<Target>, mpsc::SyncSender<()>)>,
    /// Events were lost.
    pub rescan: bool,
    pub paths: HashMap<PathBuf, Touch>,
}

/// The events of one path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Touch {
    /// When the last one came.
    pub at: Instant,
    /// A name has come, gone or moved, so that other folders may need watching.
    pub renamed: bool,
}

impl Inbox {
    /// What arrived, as soon as there is something, but at `deadline` at the latest.
    pub fn wait(&self, deadline: Instant) -> Arrivals {
        let patience = deadline.saturating_duration_since(Instant::now());
        let (mut arrivals, _) = self
            .arrived
            .wait_timeout_while(self.lock(), patience, |arrivals| arrivals.is_empty())
            .expect("no code panics while holding the inbox");
        if !arrivals.paths.is_empty() && !arrivals.is_urgent() {
            drop(arrivals);
            std::thread::sleep(GATHER);
            arrivals = self.lock();
        }
        std::mem::take(&mut *arrivals)
    }

    pub fn set(&self, targets: BTreeSet<Target>) -> mpsc::Receiver<()> {
        let (done, is_done) = mpsc::sync_channel(1);
        let mut arrivals = self.lock();
        // A stopped thread empties the inbox no more, so nobody would drop `done`.
        if !arrivals.stop {
            arrivals.set = Some((targets, done));
        }
        self.arrived.notify_one();
        is_done
    }

    /// Ends the thread, or marks that it has ended.
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
        for path in event.paths {
            let touch = arrivals.paths.entry(path).or_insert(Touch { at, renamed });
            *touch = Touch { at, renamed: renamed || touch.renamed };
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
        self.arrivals.lock().expect("no code panics while holding the inbox")
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

/// Whether names changed, or `None` where nothing changed: somebody has read.
fn is_rename(kind: EventKind) -> Option<bool> {
    match kind {
        // A file written through a memory map tells of nothing but this.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(false),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Some(false),
        _ => Some(true),
    }
}

/// Takes notify's events, on notify's thread.
pub(super) struct Handler(pub Arc<Inbox>);

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        self.0.add(event);
    }
}
