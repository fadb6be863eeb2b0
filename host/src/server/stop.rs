//! The stop of a server: a flag that every poll of a connection reads, and the time at which the stop ends.
//!
//! A `CancellationToken` takes two locks of the whole process in each poll. Here the poll of a WebSocket takes none: its
//! task is woken through its outbox. One of an HTTP connection takes them once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub struct Stop {
    is_requested: AtomicBool,
    deadline: OnceLock<Instant>,
    /// Wakes the tasks of HTTP connections.
    token: CancellationToken,
}

impl Stop {
    /// Requests the stop; only the first call has an effect. The tasks of WebSockets must be woken afterwards.
    pub fn request(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.is_requested.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Takes no lock. A task that checks it after it has registered to be woken misses no stop.
    pub fn is_requested(&self) -> bool {
        self.is_requested.load(Ordering::Acquire)
    }

    /// Returns when everything that still runs is aborted. `None` before the stop is requested.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Returns when the stop is requested. Only the first poll of each task takes a lock.
    pub async fn requested(&self) {
        let mut waiting = pin!(self.token.cancelled());
        let mut registered: Option<Waker> = None;
        poll_fn(|context| {
            if self.is_requested() {
                return Poll::Ready(());
            }
            if registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                return Poll::Pending;
            }
            registered = Some(context.waker().clone());
            waiting.as_mut().poll(context)
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_that_waits_is_woken_by_the_first_request_and_its_deadline_stays() {
        let stop = Arc::new(Stop::default());
        let waiting = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move { stop.requested().await }
        });
        // Lets the task wait first.
        tokio::task::yield_now().await;
        assert!(!stop.is_requested() && stop.deadline().is_none() && !waiting.is_finished());
        let deadline = Instant::now() + Duration::from_secs(10);
        stop.request(deadline);
        stop.request(deadline + Duration::from_secs(1));
        waiting.await.unwrap();
        stop.requested().await;
        assert!(stop.is_requested());
        assert_eq!(stop.deadline(), Some(deadline));
    }
}
