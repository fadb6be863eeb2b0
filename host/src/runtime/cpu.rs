//! How long a guest computes, as against waits.
//!
//! A guest runs while the future of its event is polled and waits in between, so what it used is
//! the time within all polls. Counting epochs instead would charge a whole one for each wait. The
//! same place catches what panics on the guest's behalf.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

use crate::limits::EPOCH_INTERVAL;

/// Below this the time is taken from the clock on the wall, which is read faster than that of the
/// thread but goes on while other processes have the core.
const ROUGH_MAX: Duration = EPOCH_INTERVAL;

thread_local! {
    /// The guest that runs on this thread now.
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// A guest within a poll.
#[derive(Clone, Copy)]
struct Running {
    /// Before this poll.
    used: Duration,
    since: Since,
}

#[derive(Clone, Copy)]
enum Since {
    Wall(Instant),
    Thread(ThreadTime),
}

impl Running {
    fn used(self) -> Duration {
        let now = match self.since {
            Since::Wall(resumed) => resumed.elapsed(),
            Since::Thread(resumed) => resumed.elapsed(),
        };
        self.used + now
    }
}

/// A future that runs a guest, with a clock that stands while the guest waits.
pub struct Metered<F> {
    guest: F,
    /// Within the polls that are over.
    used: Duration,
    /// The begin of the first poll, so that the clock need not be read again for it.
    entered: Option<Instant>,
}

impl<F: Future + Unpin> Metered<F> {
    /// `now` is the present time.
    pub fn new(now: Instant, guest: F) -> Self {
        Self { guest, used: Duration::ZERO, entered: Some(now) }
    }

    fn resume(&mut self) -> Running {
        let since = match self.entered.take() {
            Some(entered) => Since::Wall(entered),
            None if self.used < ROUGH_MAX => Since::Wall(Instant::now()),
            None => Since::Thread(ThreadTime::now()),
        };
        Running { used: self.used, since }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    /// A panic is told with its text: it ends the event, not the task that runs it.
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let running = self.resume();
        RUNNING.set(Some(running));
        // After a panic the future is dropped, and with it the store, which nobody else has.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.guest).poll(context)));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => {
                // Most events are answered within one poll: then no clock is read at all.
                self.used = running.used();
                Poll::Pending
            }
            Err(panic) => Poll::Ready(Err(words(panic.as_ref()))),
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
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
        let used = RUNNING.get().map_or(Duration::ZERO, Running::used);
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

    /// Uses so much of the processor, however long that takes.
    fn compute(time: Duration) {
        let begun = ThreadTime::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn what_a_guest_computes_counts_and_what_it_waits_does_not() {
        const BUDGET: Duration = Duration::from_millis(400);
        let guest = Box::pin(async {
            let mut budget = CpuBudget::new(BUDGET);
            for _ in 0..20 {
                compute(ROUGH_MAX / 10);
                tokio::task::yield_now().await;
            }
            assert!(budget.check());
            tokio::time::sleep(BUDGET).await;
            assert!(budget.check());
            // Another process has the core.
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
