//! The watcher's thread: turns events and scans of the file system into reports.
//!
//! An event marks targets as changed, and so does a scan that finds a target different. A changed target is reported
//! when it has stayed unchanged for the debounce time, and when no writer holds it open.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use notify::{ErrorKind, RecursiveMode};
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{debug, warn};

use super::{
    Backend, FALLBACK_SCAN_INTERVAL, RETRY_INTERVAL, SCAN_TIME_FACTOR, Timing, WatchTarget,
    inbox::{Inbox, PathEvents, REPORTS_CLOSE, Writer},
    open_writes::OpenWrites,
    pending::{ChangeSource, WatchedTarget},
    plan::Plan,
};
use crate::file_state::FileId;

/// "Too many open files", on Linux and elsewhere. On systems where each watch is an open file, this is the limit of
/// watches.
const EMFILE: i32 = 24;
/// Plans that are made of one target in a row. A plan is made again if watches were added, because links and folders
/// may have changed meanwhile; after this many plans the next scan continues.
const PLANS_MAX: usize = 4;

pub(super) struct WatcherThread {
    inbox: Arc<Inbox>,
    changes: mpsc::Sender<Vec<WatchTarget>>,
    timing: Timing,
    files: WatchedFileStates,
    /// `None` if the thread only scans.
    backend: Option<Backend>,
    targets: BTreeMap<WatchTarget, WatchedTarget>,
    /// The folders that notify watches, with the id that the name had when the watch was added; `None` if notify cannot
    /// watch the folder.
    folders: BTreeMap<PathBuf, Option<FileId>>,
    next_scan: Instant,
    next_report: Instant,
}

/// What the thread knows about single files.
pub(super) struct WatchedFileStates {
    /// Shared with the readers of files.
    pub open_writes: OpenWrites,
    /// The file of which a part can be valid too.
    pub partially_valid: Option<PathBuf>,
}

impl WatcherThread {
    /// Polls if `backend` is `Ok(None)`. Also polls, with a warning, if it is an error.
    pub fn new(
        timing: Timing,
        files: WatchedFileStates,
        inbox: Arc<Inbox>,
        changes: mpsc::Sender<Vec<WatchTarget>>,
        backend: notify::Result<Option<Backend>>,
    ) -> WatcherThread {
        let now = Instant::now();
        let mut watcher = WatcherThread {
            inbox,
            changes,
            timing,
            files,
            backend: None,
            targets: BTreeMap::new(),
            folders: BTreeMap::new(),
            next_scan: now + timing.scan_interval,
            next_report: now,
        };
        match backend {
            Ok(backend) => watcher.backend = backend,
            Err(error) => {
                watcher.fall_back_to_polling(&error, "fs.inotify.max_user_instances (or `ulimit -n`)");
            }
        }
        watcher
    }

    pub fn run(mut self) {
        while !self.changes.is_closed() {
            let arrivals = self.inbox.wait(self.next_wake());
            if arrivals.stop {
                break;
            }
            if let Some((targets, done)) = arrivals.set {
                self.set(targets);
                // This fails if the listener has stopped waiting.
                let _ = done.try_send(());
            }
            if arrivals.rescan {
                self.rescan();
            }
            self.handle_events(arrivals.paths);
            if self.next_scan <= Instant::now() {
                self.scan_all();
            }
            self.report();
        }
    }

    fn next_wake(&self) -> Instant {
        let due = self.targets.values().filter_map(|watched| watched.due(&self.timing)).min();
        due.map_or(self.next_scan, |due| due.max(self.next_report).min(self.next_scan))
    }

    fn set(&mut self, targets: BTreeSet<WatchTarget>) {
        self.targets.retain(|target, _| {
            let is_kept = targets.contains(target);
            if let (false, Some(path)) = (is_kept, target.file()) {
                self.files.open_writes.record(path, None);
                self.files.open_writes.set_unchecked(path, false);
            }
            is_kept
        });
        let new: BTreeSet<WatchTarget> =
            targets.into_iter().filter(|target| !self.targets.contains_key(target)).collect();
        for target in &new {
            let partially_valid = self.files.partially_valid.as_deref();
            let is_partially_valid = matches!(target, WatchTarget::File(path) if Some(&**path) == partially_valid);
            let watched = match target {
                WatchTarget::Source(_) | WatchTarget::Sources(_) => WatchedTarget::source(),
                // A folder of `watch` may be one into which the build command writes.
                WatchTarget::File(_) | WatchTarget::Folder(_) => WatchedTarget::new(is_partially_valid),
            };
            self.targets.insert(target.clone(), watched);
            self.files.set_unchecked(target, true);
        }
        self.scan(&new);
        // What a target is when it is first watched is no change.
        new.iter().for_each(|target| self.set_reported(target));
        self.unwatch_unwanted();
    }

    /// Scans everything after events were lost, because every target and every watch may have changed.
    fn rescan(&mut self) {
        debug!("file events were lost: scanning everything");
        self.folders.clear();
        let now = Instant::now();
        for (target, watched) in &mut self.targets {
            watched.set_writer(Writer::Closed, now);
            self.files.record(target, watched);
            watched.mark_changed(now, ChangeSource::Scan);
        }
        self.scan_all();
    }

    fn handle_events(&mut self, paths: HashMap<PathBuf, PathEvents>) {
        let mut changed = BTreeSet::new();
        let mut to_scan = BTreeSet::new();
        for (path, events) in paths {
            let unwatched = events.renamed && self.unwatch_below(&path);
            for (target, watched) in &mut self.targets {
                let concerns = watched.plan.concerns(&path);
                if concerns {
                    if let (Some(_), Some(writer)) = (target.file(), events.writer) {
                        watched.set_writer(writer, events.at);
                        self.files.record(target, watched);
                        if writer == Writer::Closed {
                            self.files.set_unchecked(target, false);
                        }
                    }
                    let another_event_follows = REPORTS_CLOSE || events.renamed || target.file().is_none();
                    watched.mark_changed(
                        events.at,
                        if another_event_follows { ChangeSource::Event } else { ChangeSource::Scan },
                    );
                    changed.insert(target.clone());
                }
                // Scanning a file is cheap, but scanning a folder lists it.
                let needs_scan = concerns && (events.renamed || target.file().is_some());
                if needs_scan || (unwatched && watched.plan.has_folder_from(&path)) {
                    to_scan.insert(target.clone());
                }
            }
        }
        if to_scan.is_empty() {
            return;
        }
        let now = Instant::now();
        for target in self.scan(&to_scan).difference(&changed) {
            self.mark_changed(target, now, ChangeSource::Event);
        }
    }

    /// Removes the watches on a folder that was removed or moved, and on the folders below it. These watches belong to
    /// the folders that had the names before, and notify may have removed them itself. Returns whether there were any.
    fn unwatch_below(&mut self, folder: &Path) -> bool {
        let below = (Bound::Included(folder), Bound::Unbounded);
        let below = self.folders.range::<Path, _>(below).map(|(path, _)| path);
        let below: Vec<PathBuf> = below.take_while(|path| path.starts_with(folder)).cloned().collect();
        for path in &below {
            self.folders.remove(path);
            if let Some(backend) = &mut self.backend {
                // This fails if notify has removed the watch itself.
                let _ = backend.unwatch(path);
            }
        }
        !below.is_empty()
    }

    fn scan_all(&mut self) {
        let start = Instant::now();
        self.next_scan = start + self.timing.scan_interval;
        self.unwatch_replaced();
        let all = self.targets.keys().cloned().collect();
        for target in self.scan(&all) {
            self.mark_changed(&target, start, ChangeSource::Scan);
        }
        self.next_scan = self.next_scan.max(Instant::now() + start.elapsed() * SCAN_TIME_FACTOR);
    }

    /// Removes the watch of each folder whose name now belongs to another folder, or to none, without an event.
    ///
    /// This must be done before a new folder is watched: for notify, the same folder under a second name is one watch,
    /// which would end together with the first name.
    fn unwatch_replaced(&mut self) {
        let is_replaced = |(folder, id): &(&PathBuf, &Option<FileId>)| FileId::read(folder).ok() != **id;
        let replaced: Vec<_> = self.folders.iter().filter(is_replaced).map(|(folder, _)| folder.clone()).collect();
        for folder in replaced {
            self.unwatch_below(&folder);
        }
    }

    /// Makes new plans of these targets and watches their folders. Returns the targets that have changed.
    fn scan(&mut self, targets: &BTreeSet<WatchTarget>) -> BTreeSet<WatchTarget> {
        let mut changed = BTreeSet::new();
        let mut moved = false;
        for target in targets {
            let plan = self.make_plan(target);
            let Some(watched) = self.targets.get_mut(target) else {
                continue;
            };
            if watched.plan.fingerprint != plan.fingerprint {
                changed.insert(target.clone());
            }
            moved |= watched.plan.folders != plan.folders;
            watched.set_plan(plan);
        }
        if moved {
            self.unwatch_unwanted();
        }
        changed
    }

    /// Returns a plan of a target that was made after every watch that it needs had been added.
    fn make_plan(&mut self, target: &WatchTarget) -> Plan {
        let mut plan = Plan::for_target(target);
        for _ in 1..PLANS_MAX {
            if !self.watch(&plan.folders) {
                return plan;
            }
            plan = Plan::for_target(target);
        }
        // The target changes faster than watches can be added, so some folders may not be watched yet.
        self.next_scan = self.next_scan.min(Instant::now() + self.timing.debounce);
        plan
    }

    /// Adds the watches that are missing. Returns whether there were any, so that the plan may be older than a watch.
    fn watch(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let mut added = false;
        for folder in folders {
            let Some(backend) = &mut self.backend else {
                return false;
            };
            if self.folders.contains_key(folder) {
                continue;
            }
            let watched = FileId::read(folder).map_err(notify::Error::io).and_then(|id| {
                backend.watch(folder, RecursiveMode::NonRecursive)?;
                Ok(id)
            });
            match watched {
                Ok(id) => {
                    self.folders.insert(folder.clone(), Some(id));
                    added = true;
                }
                Err(error) if is_limit(&error) => {
                    self.fall_back_to_polling(&error, "fs.inotify.max_user_watches");
                    return false;
                }
                // The folder was removed meanwhile, so the plan must be made again. If the system added a watch, notify
                // has no record of it.
                Err(error) if is_gone(&error) => added = true,
                Err(error) => {
                    // The folder may not be readable. A scan may still find changes that notify cannot report.
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
                // This fails if notify has removed the watch itself.
                let _ = backend.unwatch(folder);
            }
            wanted
        });
    }

    /// Scans instead of using events from now on. Warns once, and advises how to get events back.
    fn fall_back_to_polling(&mut self, error: &notify::Error, setting: &str) {
        let advice = if is_limit(error) {
            format!("; to notice changes sooner, raise {setting} and restart")
        } else {
            String::new()
        };
        let interval = FALLBACK_SCAN_INTERVAL;
        warn!("the system cannot watch files ({error}): scanning them every {interval:?} instead{advice}");
        self.backend = None;
        self.folders.clear();
        self.timing.scan_interval = FALLBACK_SCAN_INTERVAL;
        self.next_scan = Instant::now() + self.timing.scan_interval;
    }

    fn mark_changed(&mut self, target: &WatchTarget, at: Instant, source: ChangeSource) {
        if let Some(watched) = self.targets.get_mut(target) {
            // The longer wait protects a file from being read in part. Nothing reads all files of a folder.
            let source = if target.file().is_some() { source } else { ChangeSource::Event };
            watched.mark_changed(at, source);
        }
    }

    fn set_reported(&mut self, target: &WatchTarget) {
        if let Some(watched) = self.targets.get_mut(target) {
            watched.set_reported();
        }
    }

    /// Sends every target that is due to the listener.
    fn report(&mut self) {
        let now = Instant::now();
        let due = self.due(now);
        if now < self.next_report || due.is_empty() {
            return;
        }
        // A due target is scanned once more: writes through a memory map may cause no event, and polling has none. A
        // difference in a folder that notify watches does not count, because its last scan may be from long before the
        // event.
        let polling = self.backend.is_none();
        for target in self.scan(&due) {
            if polling || target.file().is_some() {
                self.mark_changed(&target, now, ChangeSource::Scan);
            }
        }
        let due = self.due(now);
        if due.is_empty() {
            return;
        }
        // The watcher has waited for their writers, so readers need not look for them.
        due.iter().for_each(|target| self.files.set_unchecked(target, false));
        match self.changes.try_send(due.iter().cloned().collect()) {
            Ok(()) => {
                due.iter().for_each(|target| self.set_reported(target));
            }
            Err(TrySendError::Full(_)) => self.next_report = now + RETRY_INTERVAL,
            // The loop of `run` notices this and ends.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn due(&self, now: Instant) -> BTreeSet<WatchTarget> {
        let is_due = |watched: &WatchedTarget| watched.due(&self.timing).is_some_and(|due| due <= now);
        self.targets.iter().filter(|(_, watched)| is_due(watched)).map(|(target, _)| target.clone()).collect()
    }
}

impl Drop for WatcherThread {
    /// Fails every call that waits for the thread, however the thread ends.
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

impl WatchedFileStates {
    fn record(&self, target: &WatchTarget, watched: &WatchedTarget) {
        if let Some(path) = target.file() {
            self.open_writes.record(path, watched.open_since());
        }
    }

    /// Records whether a writer may hold the file open that began before the file was watched.
    fn set_unchecked(&self, target: &WatchTarget, is_unchecked: bool) {
        if let Some(path) = target.file() {
            self.open_writes.set_unchecked(path, is_unchecked);
        }
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
