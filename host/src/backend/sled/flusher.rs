//! The thread that brings what was written to the disk.
//!
//! Many writers share one flush: those who come while it runs wait for the next. It does not sleep
//! while there is somebody waiting, and does not wake while nothing was written.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use super::super::{BackendError, Durability};
use super::guarded;

pub struct Flusher {
    shared: Arc<Shared>,
    flushed: watch::Receiver<Flushed>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Counts writes; what is flushed is told in the same count.
    written: u64,
    /// The thread sleeps until something is written.
    idle: bool,
    /// Somebody waits for a flush.
    wanted: bool,
    closing: bool,
}

#[derive(Clone, Default)]
struct Flushed {
    up_to: u64,
    failed: Option<BackendError>,
}

impl Flusher {
    pub fn start(
        durability: Durability,
        save: impl Fn() -> Result<(), BackendError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let interval = match durability {
            Durability::Interval(interval) => interval,
            Durability::Always => Duration::ZERO,
        };
        let shared = Arc::new(Shared::default());
        let (sender, flushed) = watch::channel(Flushed::default());
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let mut flushed = 0;
                while let Some(up_to) = shared.next(interval, flushed) {
                    flushed = up_to;
                    let failed = guarded(&save).map_err(BackendError::Unavailable).flatten().err();
                    if let Some(error) = &failed {
                        error!(error = error as &dyn std::error::Error, "cannot save what was written");
                    }
                    sender.send_replace(Flushed { up_to, failed });
                }
            }
        };
        let thread = thread::Builder::new().name("sled-flush".to_owned()).spawn(work)?;
        Ok(Self { shared, flushed, thread: Some(thread) })
    }

    /// Sees to it that what was just written is flushed in time.
    pub fn wrote(&self) {
        let mut state = self.shared.lock();
        state.written += 1;
        if state.idle {
            state.idle = false;
            self.shared.changed.notify_one();
        }
    }

    /// Returns when everything that was written before is on the disk.
    pub async fn flush(&self) -> Result<(), BackendError> {
        let written = self.shared.want();
        let mut flushed = self.flushed.clone();
        let gone = |_| BackendError::Unavailable("the thread that flushes is gone".to_owned());
        let flushed = flushed.wait_for(|flushed| flushed.up_to >= written).await.map_err(gone)?;
        flushed.failed.clone().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding the flusher's state")
    }

    fn want(&self) -> u64 {
        let mut state = self.lock();
        state.written += 1;
        if !state.wanted {
            (state.wanted, state.idle) = (true, false);
            self.changed.notify_one();
        }
        state.written
    }

    /// Waits until it is time to flush again, and says what that will cover. `None` at the end.
    fn next(&self, interval: Duration, up_to: u64) -> Option<u64> {
        let mut state = self.lock();
        while state.written == up_to {
            if state.closing {
                return None;
            }
            state.idle = true;
            state = self.changed.wait(state).expect("no code panics while holding the flusher's state");
        }
        let waits = |state: &mut State| !state.wanted && !state.closing;
        let (mut state, _) = (self.changed.wait_timeout_while(state, interval, waits))
            .expect("no code panics while holding the flusher's state");
        state.wanted = false;
        Some(state.written)
    }
}

impl Drop for Flusher {
    /// Flushes what is left.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It catches what panics, so there is nothing to hear.
            let _ = thread.join();
        }
    }
}
