//! The thread that watches: turns events and looks at the file system into reports.
//!
//! An event touches targets, and so does a look that finds a target different. A target that was
//! touched is reported when it has been left alone for the debounce.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use notify::{ErrorKind, RecursiveMode};
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{debug, warn};

use super::{
    Backend, FALLBACK_LOOK_INTERVAL, LOOK_SHARE, OFFER_INTERVAL, Pace, Target, UNREST_MAX,
    inbox::{Inbox, Touch},
    plan::{FileId, Plan},
};

/// "Too many open files", on Linux and elsewhere: where each watch is an open file, it is the limit.
const EMFILE: i32 = 24;
/// While watches are added, links may move and folders appear: then the plan is made once more, and
/// after so often later.
const PLANS_MAX: usize = 4;

pub(super) struct Lookout {
    inbox: Arc<Inbox>,
    changes: mpsc::Sender<Vec<Target>>,
    pace: Pace,
    /// `None` where looks are all there is.
    backend: Option<Backend>,
    targets: BTreeMap<Target, Watched>,
    /// The folders that notify watches, and which folder had the name then; `None` where it cannot.
    folders: BTreeMap<PathBuf, Option<FileId>>,
    next_look: Instant,
    next_offer: Instant,
}

#[derive(Default)]
struct Watched {
    plan: Plan,
    unrest: Option<Unrest>,
}

/// A target was touched and is not yet reported.
#[derive(Clone, Copy)]
struct Unrest {
    first: Instant,
    last: Instant,
}

impl Lookout {
    /// With `Ok(None)` it polls, and with an error too, after a warning.
    pub fn new(
        pace: Pace,
        inbox: Arc<Inbox>,
        changes: mpsc::Sender<Vec<Target>>,
        backend: notify::Result<Option<Backend>>,
    ) -> Lookout {
        let now = Instant::now();
        let mut lookout = Lookout {
            inbox,
            changes,
            pace,
            backend: None,
            targets: BTreeMap::new(),
            folders: BTreeMap::new(),
            next_look: now + pace.look_interval,
            next_offer: now,
        };
        match backend {
            Ok(backend) => lookout.backend = backend,
            Err(error) => {
                lookout.poll_instead(&error, "fs.inotify.max_user_instances (or `ulimit -n`)");
            }
        }
        lookout
    }

    pub fn run(mut self) {
        while !self.changes.is_closed() {
            let arrivals = self.inbox.wait(self.next_wake());
            if arrivals.stop {
                break;
            }
            if let Some((targets, done)) = arrivals.set {
                self.set(targets);
                // Whoever asked may have been dropped since.
                let _ = done.try_send(());
            }
            if arrivals.rescan {
                self.rescan();
            }
            self.touch_by_events(arrivals.paths);
            if self.next_look <= Instant::now() {
                self.look_at_all();
            }
            self.report();
        }
    }

    fn next_wake(&self) -> Instant {
        let due = self.targets.values().filter_map(|watched| watched.due(self.pace.debounce)).min();
        due.map_or(self.next_look, |due| due.max(self.next_offer).min(self.next_look))
    }

    fn set(&mut self, targets: BTreeSet<Target>) {
        self.targets.retain(|target, _| targets.contains(target));
        let new: BTreeSet<Target> = targets.into_iter().filter(|target| !self.targets.contains_key(target)).collect();
        for target in &new {
            self.targets.insert(target.clone(), Watched::default());
        }
        self.look(&new);
        self.unwatch_unwanted();
    }

    /// Events were lost: everything may have changed, watches among it.
    fn rescan(&mut self) {
        debug!("file events were lost, so everything is looked at");
        self.folders.clear();
        let now = Instant::now();
        self.targets.values_mut().for_each(|watched| watched.touch(now));
        self.look_at_all();
    }

    fn touch_by_events(&mut self, paths: HashMap<PathBuf, Touch>) {
        let mut touched = BTreeSet::new();
        let mut to_look_at = BTreeSet::new();
        for (path, touch) in paths {
            let unwatched = touch.renamed && self.forget(&path);
            for (target, watched) in &mut self.targets {
                let concerns = watched.plan.concerns(&path);
                if concerns {
                    watched.touch(touch.at);
                    touched.insert(target.clone());
                }
                // A look at a file is cheap, one at a folder lists it.
                let look = concerns && (touch.renamed || matches!(target, Target::File(_)));
                if look || (unwatched && watched.plan.has_folder_from(&path)) {
                    to_look_at.insert(target.clone());
                }
            }
        }
        if to_look_at.is_empty() {
            return;
        }
        let now = Instant::now();
        for target in self.look(&to_look_at).difference(&touched) {
            self.touch(target, now);
        }
    }

    /// Drops the watches on a folder that was removed or moved, and below it: they are on what had
    /// the names before, and notify may have dropped them itself, with what was watched since.
    fn forget(&mut self, folder: &Path) -> bool {
        let below = (Bound::Included(folder), Bound::Unbounded);
        let below = self.folders.range::<Path, _>(below).map(|(path, _)| path);
        let below: Vec<PathBuf> = below.take_while(|path| path.starts_with(folder)).cloned().collect();
        for path in &below {
            self.folders.remove(path);
            if let Some(backend) = &mut self.backend {
                // Where notify was first, it says so.
                let _ = backend.unwatch(path);
            }
        }
        !below.is_empty()
    }

    fn look_at_all(&mut self) {
        let start = Instant::now();
        self.next_look = start + self.pace.look_interval;
        self.forget_replaced();
        let all = self.targets.keys().cloned().collect();
        for target in self.look(&all) {
            self.touch(&target, start);
        }
        self.next_look = self.next_look.max(Instant::now() + start.elapsed() * LOOK_SHARE);
    }

    /// Forgets each folder whose name now belongs to another folder, or to none, of which no event told.
    ///
    /// Before anything new is watched: to notify, the same folder under a second name is one watch,
    /// which would end with the first name.
    fn forget_replaced(&mut self) {
        let is_replaced = |(folder, id): &(&PathBuf, &Option<FileId>)| FileId::at(folder).ok() != **id;
        let replaced: Vec<_> = self.folders.iter().filter(is_replaced).map(|(folder, _)| folder.clone()).collect();
        for folder in replaced {
            self.forget(&folder);
        }
    }

    /// Makes the plans of these targets anew and watches what they ask for. Returns those that differ.
    fn look(&mut self, targets: &BTreeSet<Target>) -> BTreeSet<Target> {
        let mut changed = BTreeSet::new();
        let mut moved = false;
        for target in targets {
            let plan = self.plan(target);
            let Some(watched) = self.targets.get_mut(target) else {
                continue;
            };
            if watched.plan.fingerprint != plan.fingerprint {
                changed.insert(target.clone());
            }
            moved |= watched.plan.folders != plan.folders;
            watched.plan = plan;
        }
        if moved {
            self.unwatch_unwanted();
        }
        changed
    }

    /// The plan of a target, made after the last watch that it needs was in place.
    fn plan(&mut self, target: &Target) -> Plan {
        let mut plan = Plan::of(target);
        for _ in 1..PLANS_MAX {
            if !self.watch(&plan.folders) {
                return plan;
            }
            plan = Plan::of(target);
        }
        // It changes faster than it is watched, so some of it may not be.
        self.next_look = self.next_look.min(Instant::now() + self.pace.debounce);
        plan
    }

    /// Whether there was anything to add, so that the plan may be older than the watch.
    fn watch(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let mut added = false;
        for folder in folders {
            let Some(backend) = &mut self.backend else {
                return false;
            };
            if self.folders.contains_key(folder) {
                continue;
            }
            let watched = FileId::at(folder).map_err(notify::Error::io).and_then(|id| {
                backend.watch(folder, RecursiveMode::NonRecursive)?;
                Ok(id)
            });
            match watched {
                Ok(id) => {
                    self.folders.insert(folder.clone(), Some(id));
                    added = true;
                }
                Err(error) if is_limit(&error) => {
                    self.poll_instead(&error, "fs.inotify.max_user_watches");
                    return false;
                }
                // Even if a watch was made, notify knows nothing of it.
                Err(error) if is_gone(&error) => added = true,
                Err(error) => {
                    // Not ours to read: a look may still see what notify cannot tell.
                    debug!(folder = %folder.display(), %error, "cannot watch the folder");
                    self.folders.insert(folder.clone(), None);
                }
            }
        }
        added
    }

    fn unwatch_unwanted(&mut self) {
        let Some(backend) = &mut self.backend else {
            return;
        };
        let targets = &self.targets;
        self.folders.retain(|folder, _| {
            let wanted = targets.values().any(|watched| watched.plan.folders.contains(folder));
            if !wanted {
                // As in `forget`.
                let _ = backend.unwatch(folder);
            }
            wanted
        });
    }

    /// Says once that looks take the place of events, and how to get events back.
    fn poll_instead(&mut self, error: &notify::Error, setting: &str) {
        let advice = if is_limit(error) {
            format!("; to notice changes sooner, raise {setting} and start again")
        } else {
            String::new()
        };
        let interval = FALLBACK_LOOK_INTERVAL;
        warn!("the system does not watch files for us ({error}): looking every {interval:?}{advice}");
        self.backend = None;
        self.folders.clear();
        self.pace.look_interval = FALLBACK_LOOK_INTERVAL;
        self.next_look = Instant::now() + self.pace.look_interval;
    }

    fn touch(&mut self, target: &Target, at: Instant) {
        if let Some(watched) = self.targets.get_mut(target) {
            watched.touch(at);
        }
    }

    /// Offers everything that has come to rest to the listener.
    fn report(&mut self) {
        let now = Instant::now();
        let due = self.due(now);
        if now < self.next_offer || due.is_empty() {
            return;
        }
        // No event may tell of what is written through a memory map, and none does where we poll.
        // A folder that notify watches is not compared with when it was touched, but with long ago.
        let polling = self.backend.is_none();
        for target in self.look(&due) {
            if polling || matches!(target, Target::File(_)) {
                self.touch(&target, now);
            }
        }
        let rested = self.due(now);
        if rested.is_empty() {
            return;
        }
        match self.changes.try_send(rested.iter().cloned().collect()) {
            Ok(()) => {
                for (_, watched) in self.targets.iter_mut().filter(|(target, _)| rested.contains(*target)) {
                    watched.unrest = None;
                }
            }
            Err(TrySendError::Full(_)) => self.next_offer = now + OFFER_INTERVAL,
            // The loop notices.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn due(&self, now: Instant) -> BTreeSet<Target> {
        let is_due = |watched: &Watched| watched.due(self.pace.debounce).is_some_and(|due| due <= now);
        self.targets.iter().filter(|(_, watched)| is_due(watched)).map(|(target, _)| target.clone()).collect()
    }
}

impl Drop for Lookout {
    /// However the thread ends, a call that waits for it is told.
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

impl Watched {
    fn touch(&mut self, at: Instant) {
        let unrest = self.unrest.get_or_insert(Unrest { first: at, last: at });
        unrest.last = unrest.last.max(at);
    }

    /// When it is to be reported, if nothing touches it until then.
    fn due(&self, debounce: Duration) -> Option<Instant> {
        self.unrest.map(|unrest| (unrest.last + debounce).min(unrest.first + UNREST_MAX.max(debounce)))
    }
}

fn is_limit(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        ErrorKind::Io(error) => error.raw_os_error() == Some(EMFILE),
        _ => false,
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(100);

    #[test]
    fn what_is_touched_again_is_due_later() {
        let start = Instant::now();
        let mut watched = Watched::default();
        assert_eq!(watched.due(DEBOUNCE), None);
        for touched in [start, start + DEBOUNCE / 2] {
            watched.touch(touched);
            assert_eq!(watched.due(DEBOUNCE), Some(touched + DEBOUNCE));
        }
    }

    #[test]
    fn what_never_rests_is_due_all_the_same() {
        let start = Instant::now();
        let mut watched = Watched::default();
        watched.touch(start);
        watched.touch(start + UNREST_MAX - DEBOUNCE);
        assert_eq!(watched.due(DEBOUNCE), Some(start + UNREST_MAX));
        watched.touch(start + UNREST_MAX);
        assert_eq!(watched.due(DEBOUNCE), Some(start + UNREST_MAX));
    }
}
