//! Which files a program is writing at the moment, as far as the system reports it.
//!
//! The watcher's thread records what the events say, and readers of files ask before they read.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// The watched files that were changed by a writer which has not closed them yet. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct OpenWrites {
    /// Since when the writer of each file holds it open.
    since: Arc<Mutex<HashMap<PathBuf, Instant>>>,
    /// A file that is held open for longer is read all the same.
    held_open_max: Duration,
}

impl OpenWrites {
    pub(super) fn new(held_open_max: Duration) -> Self {
        Self { since: Arc::default(), held_open_max }
    }

    /// Records since when a writer holds the file open; `None`: no writer does.
    pub(super) fn record(&self, path: &Path, since: Option<Instant>) {
        match since {
            Some(since) => self.lock().insert(path.to_owned(), since),
            None => self.lock().remove(path),
        };
    }

    /// Returns whether a writer holds the file open, and not for too long.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.lock().get(path).is_some_and(|since| since.elapsed() < self.held_open_max)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Instant>> {
        self.since.lock().expect("no code panics while holding the open files")
    }
}
