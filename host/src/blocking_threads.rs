//! Threads for the blocking calls of one kind, such as the name look-ups of one plugin.
//!
//! tokio has one pool of threads for all blocking calls of the process. Calls that block for long there delay all
//! others, such as those of a reload. So calls that may block for as long as somebody else likes have threads of their
//! own: a group whose threads are all blocked delays no other group.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A group of threads. A thread is started when a call needs it, and ends when it has had no call for ten seconds.
pub struct BlockingThreads {
    name: &'static str,
    threads_max: usize,
    /// `None`: as large as tokio makes them, 2 MiB.
    stack_bytes: Option<usize>,
    calls: Arc<Semaphore>,
    /// A runtime of which only the threads for blocking calls are used. Created for the first call, because most groups
    /// have none.
    runtime: OnceLock<Runtime>,
}

/// The right to make one call.
///
/// A call cannot be cancelled. If the waiting for it is given up, the right is returned when a thread has become free
/// for it, so that of the calls which nothing waits for, no more than there are threads pile up in the queue.
pub struct CallPermit {
    threads: Handle,
    permit: Option<OwnedSemaphorePermit>,
    /// Whether a call may be in the queue of the threads, or run.
    is_used: bool,
}

impl BlockingThreads {
    /// `name` is the name of the threads, of which at most `threads_max` run at the same time. Further calls wait.
    pub fn new(name: &'static str, threads_max: usize) -> Self {
        let calls = Arc::new(Semaphore::new(threads_max));
        Self { name, threads_max, stack_bytes: None, calls, runtime: OnceLock::new() }
    }

    /// Returns the same group, whose threads have a stack of this size.
    pub fn with_stack(mut self, stack_bytes: usize) -> Self {
        self.stack_bytes = Some(stack_bytes);
        self
    }

    fn handle(&self) -> &Handle {
        let start = || {
            let mut builder = Builder::new_current_thread();
            builder.thread_name(self.name).max_blocking_threads(self.threads_max);
            if let Some(stack_bytes) = self.stack_bytes {
                builder.thread_stack_size(stack_bytes);
            }
            let built = builder.build();
            built.expect("a runtime without IO and timers needs no resources of the system")
        };
        self.runtime.get_or_init(start).handle()
    }

    /// Runs `work` on a thread of the group.
    ///
    /// # Errors
    /// If `work` panicked.
    ///
    /// # Cancel safety
    /// If the future is dropped, work that has begun continues, and its result is dropped.
    pub async fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
        let permit = Arc::clone(&self.calls).acquire_owned().await.expect("nothing closes the semaphore");
        let call = self.handle().spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        call.await.map_err(io::Error::other)
    }

    /// Runs a future of a library that makes at most one blocking call at a time with `tokio::task::spawn_blocking`:
    /// the call runs on a thread of the group.
    pub async fn run_within<F: Future>(&self, future: F) -> F::Output {
        let mut permit = self.permit().await;
        let mut future = pin!(future);
        let output = poll_fn(|context| permit.enter(|| future.as_mut().poll(context))).await;
        permit.release();
        output
    }

    /// Waits for the right to make one call.
    async fn permit(&self) -> CallPermit {
        let permit = Arc::clone(&self.calls).acquire_owned().await.expect("nothing closes the semaphore");
        self.call_permit(permit)
    }

    /// Returns the right to make one call, unless all are in use.
    pub fn try_permit(&self) -> Option<CallPermit> {
        Arc::clone(&self.calls).try_acquire_owned().ok().map(|permit| self.call_permit(permit))
    }

    fn call_permit(&self, permit: OwnedSemaphorePermit) -> CallPermit {
        CallPermit { threads: self.handle().clone(), permit: Some(permit), is_used: false }
    }
}

impl CallPermit {
    /// Calls `start`, whose `tokio::task::spawn_blocking` uses a thread of the group.
    pub fn enter<R>(&mut self, start: impl FnOnce() -> R) -> R {
        self.is_used = true;
        let _entered = self.threads.enter();
        start()
    }

    /// Returns the right at once, because no call is left.
    pub fn release(mut self) {
        self.is_used = false;
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.is_used
        {
            // The queue is in order: when this runs, a thread has become free for every earlier call.
            self.threads.spawn_blocking(move || drop(permit));
        }
    }
}

impl Drop for BlockingThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread that is blocked ends when its call does.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    /// Blocks `count` threads of a group, by calls that nothing waits for any more, until the sender is dropped.
    async fn block(group: &BlockingThreads, count: usize) -> Sender<()> {
        let (release, released) = channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let (started, all_started) = channel();
        for _ in 0..count {
            let (released, started): (Arc<std::sync::Mutex<Receiver<()>>>, _) =
                (Arc::clone(&released), started.clone());
            let call = group.run_within(async move {
                let work = move || {
                    started.send(()).unwrap();
                    // Ends with an error when the sender is dropped.
                    let _ = released.lock().unwrap().recv();
                };
                spawn_blocking(work).await.unwrap();
            });
            assert!(timeout(SHORT, call).await.is_err());
        }
        for _ in 0..count {
            spawn_blocking({
                let started = all_started.recv_timeout(LONG);
                move || started.unwrap()
            })
            .await
            .unwrap();
        }
        release
    }

    #[tokio::test]
    async fn a_group_whose_threads_are_all_blocked_delays_no_other_group_and_no_other_call() {
        let (blocked, other) = (BlockingThreads::new("blocked", 2), BlockingThreads::new("other", 1));
        let release = block(&blocked, 2).await;
        assert!(timeout(SHORT, blocked.run(|| ())).await.is_err());
        timeout(LONG, other.run(|| ())).await.unwrap().unwrap();
        timeout(LONG, spawn_blocking(|| ())).await.unwrap().unwrap();
        drop(release);
        timeout(LONG, blocked.run(|| ())).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn calls_that_are_given_up_do_not_pile_up_while_all_threads_are_blocked() {
        let group = BlockingThreads::new("blocked", 2);
        let release = block(&group, 2).await;
        let (started, count) = channel();
        for _ in 0..10 {
            let started = started.clone();
            let call = group.run_within(async move {
                started.send(()).unwrap();
                spawn_blocking(|| ()).await.unwrap();
            });
            assert!(timeout(SHORT, call).await.is_err());
        }
        assert!(group.try_permit().is_none());
        let queued = count.try_iter().count();
        assert!(queued <= 2, "{queued} calls are in the queue");
        drop(release);
        timeout(LONG, group.run_within(async {})).await.unwrap();
    }

    #[tokio::test]
    async fn a_group_can_be_dropped_while_its_threads_are_blocked() {
        let group = BlockingThreads::new("blocked", 1);
        let release = block(&group, 1).await;
        drop(group);
        drop(release);
    }
}
