//! The stop of a server: who requests it, whether new handshakes are rejected, and the time at which the stop ends.
//!
//! A `CancellationToken` takes two locks of the whole process in each poll. Here the poll of a WebSocket takes none: it
//! reads a flag of its connection, and is woken through its outbox. One of an HTTP connection takes them once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The steps in which a process ends: the drain, if there is one, and the stop.
#[derive(Clone)]
pub struct StopSteps {
    stop: CancellationToken,
    /// Is also cancelled by `stop`.
    drain: CancellationToken,
    has_drain: Arc<AtomicBool>,
}

impl Default for StopSteps {
    /// Until `enable_drain`, the stop is the first step.
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self { drain: stop.child_token(), stop, has_drain: Arc::default() }
    }
}

impl StopSteps {
    pub fn enable_drain(&self) {
        self.has_drain.store(true, Ordering::Release);
    }

    /// Begins the next step. Returns whether there was one: the stop is the last.
    pub fn advance(&self) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        let drains = self.has_drain.load(Ordering::Acquire) && !self.drain.is_cancelled();
        if drains {
            self.drain.cancel()
        } else {
            self.stop.cancel()
        }
        true
    }

    /// Is cancelled when the stop begins.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Is cancelled when the first step begins, whichever that is.
    pub fn first(&self) -> &CancellationToken {
        &self.drain
    }
}

#[derive(Default)]
pub struct Stop {
    rejects_handshakes: AtomicBool,
    is_requested: AtomicBool,
    deadline: OnceLock<Instant>,
    /// Wakes the tasks of HTTP connections.
    token: CancellationToken,
}

impl Stop {
    /// Rejects new handshakes from now on.
    pub fn reject_handshakes(&self) {
        self.rejects_handshakes.store(true, Ordering::Release);
    }

    pub fn rejects_handshakes(&self) -> bool {
        self.rejects_handshakes.load(Ordering::Acquire)
    }

    /// Requests the stop; only the first call has an effect. The connections must be asked to leave afterwards.
    pub fn request(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.is_requested.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Takes no lock.
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signal_begins_the_drain_if_there_is_one_then_the_stop_and_then_there_is_no_further_step() {
        let steps = StopSteps::default();
        assert!(steps.advance() && steps.stop().is_cancelled() && steps.first().is_cancelled());
        assert!(!steps.advance());

        let steps = StopSteps::default();
        steps.enable_drain();
        assert!(steps.advance() && steps.first().is_cancelled() && !steps.stop().is_cancelled());
        assert!(steps.advance() && steps.stop().is_cancelled());
        assert!(!steps.advance());
    }

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
