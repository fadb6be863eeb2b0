//! Which files a program is writing at the moment, as far as the system reports it.
//!
//! The watcher's thread records what the events say, and readers of files ask before they read. No event reports a
//! writer that began before its file was watched: until an event or a first read shows that the file is complete, it
//! counts as unchecked.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::file_writers::FileWriters;

/// The watched files that were changed by a writer which has not closed them yet. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct OpenWrites {
    files: Arc<Mutex<Files>>,
    /// Finds the writers of files that are unchecked.
    pub(super) writers: Arc<FileWriters>,
    /// A file that is held open for longer is read all the same.
    pub(super) held_open_max: Duration,
}

#[derive(Debug, Default)]
struct Files {
    /// Since when the writer of each file holds it open.
    since: HashMap<PathBuf, Instant>,
    /// The files that a writer may hold open which began before they were watched.
    unchecked: HashSet<PathBuf>,
}

impl OpenWrites {
    pub(super) fn new(held_open_max: Duration) -> Self {
        Self { held_open_max, ..Self::default() }
    }

    /// Records since when a writer holds the file open; `None`: no writer does.
    pub(super) fn record(&self, path: &Path, since: Option<Instant>) {
        match since {
            Some(since) => self.lock().since.insert(path.to_owned(), since),
            None => self.lock().since.remove(path),
        };
    }

    /// Records whether a writer may hold the file open that began before the file was watched.
    pub(super) fn set_unchecked(&self, path: &Path, is_unchecked: bool) {
        let mut files = self.lock();
        if is_unchecked {
            files.unchecked.insert(path.to_owned());
        } else if !files.unchecked.is_empty() {
            files.unchecked.remove(path);
        }
    }

    /// Returns whether a writer holds the file open, and not for too long.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.lock().since.get(path).is_some_and(|since| since.elapsed() < self.held_open_max)
    }

    pub(super) fn is_unchecked(&self, path: &Path) -> bool {
        self.lock().unchecked.contains(path)
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
