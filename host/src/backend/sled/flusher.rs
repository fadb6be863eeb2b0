//! A thread that flushes written data to the disk.
//!
//! Many writers share one flush; writers that come while it runs wait for the next one. The thread does not sleep
//! while a writer waits, and does not wake up if nothing was written.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use super::super::{BackendError, Durability};
use super::catch_panic;

pub struct Flusher {
    shared: Arc<Shared>,
    last_flush: watch::Receiver<FlushResult>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Number of writes so far. `FlushResult::up_to` is a number of the same count.
    written: u64,
    /// Whether the thread sleeps until something is written.
    idle: bool,
    /// Whether a writer waits for a flush.
    requested: bool,
    closing: bool,
}

#[derive(Clone, Default)]
struct FlushResult {
    /// The last write that the flush covers.
    up_to: u64,
    error: Option<BackendError>,
}

impl Flusher {
    /// Starts the thread. `save` reports its errors to the log; they are also returned to the writers that wait.
    pub fn start(
        durability: Durability,
        save: impl Fn() -> Result<(), BackendError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let interval = match durability {
            Durability::Interval(interval) => interval,
            Durability::Always => Duration::ZERO,
        };
        let shared = Arc::new(Shared::default());
        let (sender, last_flush) = watch::channel(FlushResult::default());
        let work = {
            let shared = Arc::clone(&shared);
            move || {
                let mut flushed = 0;
                while let Some(up_to) = shared.wait_for_writes(interval, flushed) {
                    flushed = up_to;
                    let error = catch_panic(&save).map_err(BackendError::Unavailable).flatten().err();
                    sender.send_replace(FlushResult { up_to, error });
                }
            }
        };
        let thread = thread::Builder::new().name("sled-flush".to_owned()).spawn(work)?;
        Ok(Self { shared, last_flush, thread: Some(thread) })
    }

    /// Makes the thread flush the write that was just made within the interval.
    pub fn schedule(&self) {
        let mut state = self.shared.lock();
        state.written += 1;
        if state.idle {
            state.idle = false;
            self.shared.changed.notify_one();
        }
    }

    /// Returns how many writes there were so far.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Returns when all earlier writes are on the disk.
    pub async fn flush(&self) -> Result<(), BackendError> {
        let written = self.shared.request_flush();
        let mut last_flush = self.last_flush.clone();
        let gone = |_| BackendError::Unavailable("the thread that flushes is gone".to_owned());
        let result = last_flush.wait_for(|result| result.up_to >= written).await.map_err(gone)?;
        result.error.clone().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests a flush; returns the number of the write that it must cover.
    fn request_flush(&self) -> u64 {
        let mut state = self.lock();
        state.written += 1;
        if !state.requested {
            (state.requested, state.idle) = (true, false);
            self.changed.notify_one();
        }
        state.written
    }

    /// Waits until the next flush is due, and returns the last write that it covers. `None` when the flusher is dropped
    /// and everything is flushed.
    fn wait_for_writes(&self, interval: Duration, up_to: u64) -> Option<u64> {
        let mut state = self.lock();
        while state.written == up_to {
            if state.closing {
                return None;
            }
            state.idle = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = |state: &mut State| !state.requested && !state.closing;
        let (mut state, _) =
            (self.changed.wait_timeout_while(state, interval, waits)).unwrap_or_else(PoisonError::into_inner);
        state.requested = false;
        Some(state.written)
    }
}

impl Drop for Flusher {
    /// Flushes the remaining writes.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread catches panics, so the result contains no information.
            let _ = thread.join();
        }
    }
}
