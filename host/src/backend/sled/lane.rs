//! One thread on which the engine is called, one call after the other.
//!
//! sled blocks, so it may not be called where sockets are served. Measured there and back: 4 to 8 µs
//! of CPU a call here, 7 to 60 with tokio's blocking threads, of which each call wakes another one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::super::BackendError;
use super::guarded;

/// Calls that wait; one more waits outside until there is room. Each event makes one at a time.
const CALLS_MAX: usize = 256;

type Call<T> = Box<dyn FnOnce(&T) + Send>;

pub struct Lane<T> {
    /// `None` only while it is dropped.
    calls: Option<mpsc::Sender<Call<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + Sync + 'static> Lane<T> {
    pub fn start(name: &str, engine: Arc<T>) -> std::io::Result<Self> {
        let (sender, mut calls) = mpsc::channel::<Call<T>>(CALLS_MAX);
        let work = move || {
            while let Some(call) = calls.blocking_recv() {
                if let Err(panic) = guarded(|| call(&engine)) {
                    error!("a call of the store failed: {panic}");
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { calls: Some(sender), thread: Some(thread) })
    }

    /// Runs the work after all that was handed in before.
    ///
    /// # Cancel safety
    /// Work that is queued runs, whether or not its future is still there.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&T) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let (answer, answered) = oneshot::channel();
        let call = Box::new(move |engine: &T| {
            // Nobody may wait for it any more; the work is done all the same.
            let _ = answer.send(work(engine));
        });
        let calls = self.calls.as_ref().expect("the lane is open until it is dropped");
        calls.send(call).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // It catches what panics, so there is nothing to hear.
            let _ = thread.join();
        }
    }
}

fn ended() -> BackendError {
    BackendError::Unavailable("the engine panicked; the log says where".to_owned())
}
