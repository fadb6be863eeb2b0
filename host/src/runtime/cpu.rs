//! Measures how long a guest computes; time that it waits does not count.
//!
//! A guest runs while the future of its event is polled and waits between polls, so its CPU time is the time spent
//! within all polls. Counting epochs instead would count a whole epoch for each wait. The same place catches
//! panics of the code that runs for a guest.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

use crate::limits::EPOCH_INTERVAL;

/// Up to this CPU time the wall clock measures a poll: it is read faster than the clock of the thread, but it also
/// counts the time in which other processes use the core. Beyond it, the clock of the thread is used.
const WALL_CLOCK_MAX: Duration = EPOCH_INTERVAL;

thread_local! {
    /// The poll of a guest that runs on this thread now.
    static CURRENT_POLL: Cell<Option<GuestPoll>> = const { Cell::new(None) };
}

/// One poll of a guest's future.
#[derive(Clone, Copy)]
struct GuestPoll {
    /// CPU time of the earlier polls.
    used_before: Duration,
    start: PollStart,
}

/// When a poll started, by the clock that measures it.
#[derive(Clone, Copy)]
enum PollStart {
    WallClock(Instant),
    ThreadClock(ThreadTime),
}

impl GuestPoll {
    fn used(self) -> Duration {
        let in_this_poll = match self.start {
            PollStart::WallClock(start) => start.elapsed(),
            PollStart::ThreadClock(start) => start.elapsed(),
        };
        self.used_before + in_this_poll
    }
}

/// A future that runs a guest and measures its CPU time.
pub struct Metered<F> {
    guest: F,
    /// CPU time of the completed polls.
    used: Duration,
    /// When the first poll starts, so that it does not read the clock again. `None` after the first poll started.
    first_poll: Option<Instant>,
}

impl<F: Future + Unpin> Metered<F> {
    /// `now` is the current time.
    pub fn new(now: Instant, guest: F) -> Self {
        Self { guest, used: Duration::ZERO, first_poll: Some(now) }
    }

    fn start_poll(&mut self) -> GuestPoll {
        let start = match self.first_poll.take() {
            Some(start) => PollStart::WallClock(start),
            None if self.used < WALL_CLOCK_MAX => PollStart::WallClock(Instant::now()),
            None => PollStart::ThreadClock(ThreadTime::now()),
        };
        GuestPoll { used_before: self.used, start }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    /// `Err` is the message of a panic, which ends the event and not the task that runs it.
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let poll = self.start_poll();
        CURRENT_POLL.set(Some(poll));
        // After a panic the future is dropped together with the store, which nothing else refers to.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.guest).poll(context)));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => {
                // Most events end within one poll; then this does not read any clock.
                self.used = poll.used();
                Poll::Pending
            }
            Err(panic) => Poll::Ready(Err(panic_message(panic.as_ref()))),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
}

/// The limit on the CPU time of one event. Works only within a [`Metered`] future.
pub struct CpuBudget {
    max: Duration,
    exhausted: bool,
}

impl CpuBudget {
    pub fn new(max: Duration) -> Self {
        Self { max, exhausted: false }
    }

    /// Reads the clock; returns whether the guest may continue.
    pub fn check(&mut self) -> bool {
        let used = CURRENT_POLL.get().map_or(Duration::ZERO, GuestPoll::used);
        self.exhausted = used > self.max;
        !self.exhausted
    }

    /// Returns whether the last check stopped the guest.
    pub fn exhausted(&self) -> bool {
        self.exhausted
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Uses that much CPU time, regardless of how long it takes.
    fn compute(time: Duration) {
        let start = ThreadTime::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn the_time_a_guest_computes_counts_and_the_time_it_waits_does_not() {
        const BUDGET: Duration = Duration::from_millis(400);
        let guest = Box::pin(async {
            let mut budget = CpuBudget::new(BUDGET);
            for _ in 0..20 {
                compute(WALL_CLOCK_MAX / 10);
                tokio::task::yield_now().await;
            }
            assert!(budget.check());
            tokio::time::sleep(BUDGET).await;
            assert!(budget.check());
            // Here another process uses the core.
            thread::sleep(BUDGET);
            assert!(budget.check());
            compute(BUDGET);
            assert!(!budget.check());
            budget
        });
        assert!(Metered::new(Instant::now(), guest).await.unwrap().exhausted());
    }

    #[tokio::test]
    async fn a_panic_ends_the_guest_and_not_the_task() {
        let guest = Box::pin(async { panic!("a mistake in line {}", 7) });
        let ended: Result<(), String> = Metered::new(Instant::now(), guest).await;
        assert_eq!(ended, Err("a mistake in line 7".to_owned()));
    }
}
