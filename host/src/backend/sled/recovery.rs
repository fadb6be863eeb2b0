//! Opens sled again after an error of the disk. After such an error, also if it was only a full disk, sled rejects every
//! write until its folder is opened again; it still reads.
//!
//! The old one stays open for reads until there is room. What it had not flushed is written again.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing::info;

use super::folder::Folder;

/// Time between two looks at a store that is written, and between two attempts to open it again.
const INTERVAL: Duration = Duration::from_millis(500);
/// The room that must be there before sled is opened again: four parts of its file.
const ROOM_BYTES: usize = 2 * 1024 * 1024;

/// Wakes the thread while the store is written. A flush may wait in sled for ever if the disk fails at that moment.
#[derive(Default)]
pub struct Activity {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    flushes: usize,
    /// Whether there was a flush since the thread has looked at the store.
    flushed: bool,
    closing: bool,
}

/// One flush. It ends when this value is dropped.
pub struct Active<'a>(&'a Activity);

impl Activity {
    pub fn begin(&self) -> Active<'_> {
        let mut state = self.lock();
        state.flushes += 1;
        if !state.flushed {
            state.flushed = true;
            self.changed.notify_one();
        }
        Active(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the store is written, and then for the interval. Returns false when the store is closed.
    fn wait(&self) -> bool {
        let idle = |state: &mut State| !state.flushed && state.flushes == 0 && !state.closing;
        let state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let open = |state: &mut State| !state.closing;
        let waited = self.changed.wait_timeout_while(state, INTERVAL, open);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.flushed = false;
        !state.closing
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.lock().flushes -= 1;
    }
}

/// The thread that opens sled again.
pub struct Recovery {
    activity: Arc<Activity>,
    thread: Option<JoinHandle<()>>,
}

impl Recovery {
    pub fn start(folder: Arc<Folder>) -> std::io::Result<Self> {
        let activity = Arc::clone(&folder.activity);
        let work = {
            let activity = Arc::clone(&activity);
            move || {
                while activity.wait() {
                    if let Err(failure) = folder.failure() {
                        recover(&folder, &activity, &failure);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("sled-recovery".to_owned()).spawn(work)?;
        Ok(Self { activity, thread: Some(thread) })
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.activity.lock().closing = true;
        self.activity.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread catches and logs panics, so the result contains no information.
            let _ = thread.join();
        }
    }
}

/// Tries to open the store again until it succeeds, or until the store is closed.
fn recover(folder: &Folder, activity: &Activity, failure: &str) {
    let since = Instant::now();
    folder.report_failure(&failure);
    loop {
        if activity.lock().flushes > 0 {
            folder.wake_waiting_flushes();
        }
        let room = check_room(&folder.path).context("there is no room for its files");
        match room.and_then(|()| folder.reopen()) {
            Ok(()) => break,
            Err(error) => folder.report_failure(&format!("{error:#}")),
        }
        activity.lock().flushed = true;
        if !activity.wait() {
            return;
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    info!("the store in {} is written again, {seconds:.1} s after its failure", folder.path.display());
}

/// Checks that the disk has room, with a file that is written and deleted.
fn check_room(folder: &Path) -> std::io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; ROOM_BYTES])?;
    file.sync_all()
}
