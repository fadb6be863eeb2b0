//! A thread that runs blocking calls of the storage engine, one after the other.
//!
//! sled blocks, so it must not be called on threads that serve sockets. A call to this thread and back costs 4 to 8
//! µs of CPU (measured). A call to tokio's blocking threads costs 7 to 60 µs, because each call wakes another thread.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::super::BackendError;
use super::catch_panic;

/// Length of the queue of calls. If the queue is full, `run` waits. Each event makes one call at a time.
const QUEUED_CALLS_MAX: usize = 256;

type Call<T> = Box<dyn FnOnce(&T) + Send>;

pub struct BlockingThread<T> {
    /// `None` only in `drop`: closing the channel ends the thread.
    calls: Option<mpsc::Sender<Call<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + Sync + 'static> BlockingThread<T> {
    pub fn start(name: &str, engine: Arc<T>) -> std::io::Result<Self> {
        let (sender, mut calls) = mpsc::channel::<Call<T>>(QUEUED_CALLS_MAX);
        let work = move || {
            while let Some(call) = calls.blocking_recv() {
                if let Err(panic) = catch_panic(|| call(&engine)) {
                    error!("store call failed: {panic}");
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { calls: Some(sender), thread: Some(thread) })
    }

    /// Runs `work` on the thread, after all earlier calls, and returns its result.
    ///
    /// # Errors
    /// `Unavailable` if `work` panicked.
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel work that is queued.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&T) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let (sender, result) = oneshot::channel();
        let call = Box::new(move |engine: &T| {
            // The send fails if the caller dropped its future; the work is done anyway.
            let _ = sender.send(work(engine));
        });
        let calls = self.calls.as_ref().expect("only `drop` takes the sender");
        calls.send(call).await.map_err(|_| panicked())?;
        result.await.map_err(|_| panicked())?
    }
}

impl<T> Drop for BlockingThread<T> {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches and logs panics, so the result contains no information.
            let _ = thread.join();
        }
    }
}

fn panicked() -> BackendError {
    BackendError::Unavailable("the engine panicked; the log says where".to_owned())
}
