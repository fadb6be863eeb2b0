//! Measures how long a guest computes; time that it waits does not count.
//!
//! A guest runs while the future of its event is polled and waits between polls, so its CPU time is the time spent
//! within all polls. Counting epochs instead would count a whole epoch for each wait. The same place catches
//! panics of the code that runs for a guest, and waits for the turns of guests that compute for long, which is no CPU
//! time.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

use crate::limits::{EPOCH_INTERVAL, LONG_EVENT_CPU_TIME};
use crate::runtime::turns::EventTurns;

/// Up to this CPU time the wall clock measures a poll: it is read faster than the clock of the thread, but it also
/// counts the time in which other processes use the core. Beyond it, the clock of the thread is used.
const WALL_CLOCK_MAX: Duration = EPOCH_INTERVAL;

thread_local! {
    /// The poll of a guest that runs on this thread now.
    static CURRENT_POLL: Cell<Option<GuestPoll>> = const { Cell::new(None) };
    /// Whether that guest waits for its next turn.
    static SLICE_ENDED: Cell<bool> = const { Cell::new(false) };
}

/// One poll of a guest's future.
#[derive(Clone, Copy)]
struct GuestPoll {
    /// CPU time of the earlier polls.
    used_before: Duration,
    start: PollStart,
    /// Whether the event has a turn for this poll.
    has_turn: bool,
}

/// When a poll started, by the clock that measures it.
#[derive(Clone, Copy)]
enum PollStart {
    WallClock(Instant),
    ThreadClock(ThreadTime),
}

impl GuestPoll {
    fn used(self) -> Duration {
        self.used_before + self.elapsed()
    }

    fn elapsed(self) -> Duration {
        match self.start {
            PollStart::WallClock(start) => start.elapsed(),
            PollStart::ThreadClock(start) => start.elapsed(),
        }
    }
}

/// A future that runs a guest and measures its CPU time.
///
/// # Cancel safety
/// Dropping it ends the guest, and grants its turn to another event.
pub struct Metered<'a, F> {
    guest: F,
    turns: EventTurns<'a>,
    /// CPU time of the completed polls.
    used: Duration,
    /// When the first poll starts, so that it does not read the clock again. `None` after the first poll started.
    first_poll: Option<Instant>,
}

impl<'a, F: Future + Unpin> Metered<'a, F> {
    /// `now` is the current time.
    pub fn new(now: Instant, turns: EventTurns<'a>, guest: F) -> Self {
        Self { guest, turns, used: Duration::ZERO, first_poll: Some(now) }
    }

    fn start_poll(&mut self, has_turn: bool) -> GuestPoll {
        let start = match self.first_poll.take() {
            // The event may have waited for its turn since then.
            Some(start) if !has_turn => PollStart::WallClock(start),
            _ if self.used < WALL_CLOCK_MAX => PollStart::WallClock(Instant::now()),
            _ => PollStart::ThreadClock(ThreadTime::now()),
        };
        GuestPoll { used_before: self.used, start, has_turn }
    }
}

impl<F: Future + Unpin> Future for Metered<'_, F> {
    /// `Err` is the message of a panic, which ends the event and not the task that runs it.
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let turn = ready!(self.turns.poll_turn(context));
        let poll = self.start_poll(turn.is_some());
        CURRENT_POLL.set(Some(poll));
        SLICE_ENDED.set(false);
        // After a panic the future is dropped together with the store, which nothing else refers to.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.guest).poll(context)));
        match polled {
            Ok(Poll::Ready(output)) => {
                // Most events are short and end within one poll; then this does not read any clock.
                self.turns.finish(|| poll.used() >= LONG_EVENT_CPU_TIME);
                Poll::Ready(Ok(output))
            }
            Ok(Poll::Pending) => {
                self.used = poll.used();
                if SLICE_ENDED.get() {
                    self.turns.end_slice(turn, context);
                }
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

    /// Reads the clock; returns what the guest may do next.
    pub fn check(&mut self) -> CpuCheck {
        let Some(poll) = CURRENT_POLL.get() else { return CpuCheck::Continue };
        let elapsed = poll.elapsed();
        let used = poll.used_before + elapsed;
        self.exhausted = used > self.max;
        // An event with a turn has the whole turn. One without has no longer than that for all of its polls.
        let slice = if poll.has_turn { elapsed } else { used };
        if self.exhausted {
            CpuCheck::Exhausted
        } else if slice >= LONG_EVENT_CPU_TIME {
            CpuCheck::EndSlice
        } else {
            CpuCheck::Continue
        }
    }

    /// Returns whether the last check stopped the guest.
    pub fn exhausted(&self) -> bool {
        self.exhausted
    }
}

/// What a guest may do after a check of its CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuCheck {
    Continue,
    /// The guest must wait for its next turn: see `end_slice`.
    EndSlice,
    /// The guest must end.
    Exhausted,
}

/// Suspends the guest that runs on this thread until its [`Metered`] future polls it with its next turn, which also
/// arranges the wake-up. Works only within such a future.
pub fn end_slice() -> impl Future<Output = ()> + Send {
    let mut is_ended = false;
    poll_fn(move |_| {
        if mem::replace(&mut is_ended, true) {
            return Poll::Ready(());
        }
        SLICE_ENDED.set(true);
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::runtime::turns::Turns;

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
            assert_ne!(budget.check(), CpuCheck::Exhausted);
            tokio::time::sleep(BUDGET).await;
            assert_ne!(budget.check(), CpuCheck::Exhausted);
            // Here another process uses the core.
            thread::sleep(BUDGET);
            assert_ne!(budget.check(), CpuCheck::Exhausted);
            compute(BUDGET);
            assert_eq!(budget.check(), CpuCheck::Exhausted);
            budget
        });
        let plugin = Turns::new(1).plugin();
        assert!(Metered::new(Instant::now(), plugin.begin(), guest).await.unwrap().exhausted());
    }

    #[tokio::test]
    async fn a_panic_ends_the_guest_and_not_the_task() {
        let guest = Box::pin(async { panic!("a mistake in line {}", 7) });
        let plugin = Turns::new(1).plugin();
        let ended: Result<(), String> = Metered::new(Instant::now(), plugin.begin(), guest).await;
        assert_eq!(ended, Err("a mistake in line 7".to_owned()));
    }

    /// A guest that computes for `time` in slices, as one does whose every epoch calls `CpuBudget::check`.
    async fn compute_in_slices(time: Duration) -> u32 {
        let mut budget = CpuBudget::new(Duration::MAX);
        let mut slices = 0;
        for _ in 0..time.div_duration_f64(EPOCH_INTERVAL) as usize {
            compute(EPOCH_INTERVAL);
            match budget.check() {
                CpuCheck::EndSlice => {
                    slices += 1;
                    end_slice().await;
                }
                check => assert_eq!(check, CpuCheck::Continue),
            }
        }
        slices
    }

    #[tokio::test]
    async fn a_long_event_ends_slices_and_waiting_for_a_turn_is_no_cpu_time() {
        let turns = Turns::new(1);
        let (one, other) = (turns.plugin(), turns.plugin());
        let run = async |plugin: &crate::runtime::turns::PluginTurns| {
            let mut guest =
                Metered::new(Instant::now(), plugin.begin(), Box::pin(compute_in_slices(EPOCH_INTERVAL * 20)));
            let slices = (&mut guest).await.unwrap();
            (slices, guest.used)
        };
        let (one, other) = tokio::join!(run(&one), run(&other));
        for (slices, used) in [one, other] {
            assert_eq!(slices, 20);
            assert!(used >= EPOCH_INTERVAL * 19 && used < EPOCH_INTERVAL * 30, "{used:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_with_a_turn_gives_the_turn_back() {
        let plugin = Turns::new(1).plugin();
        for _ in 0..2 {
            let guest = Box::pin(async {
                compute_in_slices(EPOCH_INTERVAL * 2).await;
                panic!("a mistake")
            });
            let ended: Result<(), String> = Metered::new(Instant::now(), plugin.begin(), guest).await;
            assert_eq!(ended, Err("a mistake".to_owned()));
        }
    }
}
