//! How long a guest computes, as against waits.
//!
//! A guest runs while the future of its event is polled and waits in between, so what it used is
//! the time within all polls. Counting epochs instead would charge a whole one for each wait.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

thread_local! {
    /// When the guest that runs on this thread would have begun if it had never waited.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A future that runs a guest, with a clock that stands while the guest waits.
pub struct Metered<F> {
    running: F,
    /// Within the polls that are over.
    used: Duration,
    /// The begin of the first poll, so that the clock need not be read again for it.
    entered: Option<Instant>,
}

impl<F: Future + Unpin> Metered<F> {
    /// `now` is the present time.
    pub fn new(now: Instant, running: F) -> Self {
        Self { running, used: Duration::ZERO, entered: Some(now) }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let resumed = self.entered.take().unwrap_or_else(Instant::now);
        BEGUN.set(resumed.checked_sub(self.used));
        let polled = Pin::new(&mut self.running).poll(context);
        // Most events are answered within one poll: then the clock is not read at all.
        if polled.is_pending() {
            self.used += resumed.elapsed();
        }
        polled
    }
}

/// The computing time of one event. To be asked from within a [`Metered`] future.
pub struct CpuBudget {
    max: Duration,
    exhausted: bool,
}

impl CpuBudget {
    pub fn new(max: Duration) -> Self {
        Self { max, exhausted: false }
    }

    /// Looks at the clock; says whether the guest may go on.
    pub fn check(&mut self) -> bool {
        let used = BEGUN.get().map_or(Duration::ZERO, |begun| begun.elapsed());
        self.exhausted = used > self.max;
        !self.exhausted
    }

    /// Whether that was the end of the guest.
    pub fn exhausted(&self) -> bool {
        self.exhausted
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn what_a_guest_computes_counts_and_what_it_waits_does_not() {
        const BUDGET: Duration = Duration::from_millis(500);
        let running = Box::pin(async {
            let mut budget = CpuBudget::new(BUDGET);
            thread::sleep(BUDGET / 50);
            assert!(budget.check());
            tokio::time::sleep(BUDGET).await;
            assert!(budget.check());
            thread::sleep(BUDGET);
            assert!(!budget.check());
            budget
        });
        assert!(Metered::new(Instant::now(), running).await.exhausted());
    }
}
