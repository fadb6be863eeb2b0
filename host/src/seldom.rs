//! Lines of the log that whoever knows no secret can cause: some at once, then one now and then.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota};

use crate::limits::{REFUSAL_INTERVAL, REFUSALS_TOLD};

pub struct Seldom {
    telling: DefaultDirectRateLimiter,
    untold: AtomicU64,
}

/// A line that may be told; how many were not told since the last one, where there were any.
pub struct Turn {
    pub untold: Option<u64>,
}

impl Default for Seldom {
    fn default() -> Self {
        let burst = NonZeroU32::new(REFUSALS_TOLD).expect("some are told");
        let quota = Quota::with_period(REFUSAL_INTERVAL).expect("it takes some time").allow_burst(burst);
        Self { telling: DefaultDirectRateLimiter::direct(quota), untold: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// `None` where the line is not to be told; it is counted.
    pub fn turn(&self) -> Option<Turn> {
        if self.telling.check().is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let untold = self.untold.swap(0, Ordering::Relaxed);
        Some(Turn { untold: (untold > 0).then_some(untold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_are_told_at_once_and_those_after_them_are_counted() {
        let seldom = Seldom::default();
        let told = (0..REFUSALS_TOLD + 7).filter_map(|_| seldom.turn()).collect::<Vec<_>>();
        assert_eq!(told.len(), usize::try_from(REFUSALS_TOLD).unwrap());
        assert!(told.iter().all(|turn| turn.untold.is_none()));
        std::thread::sleep(REFUSAL_INTERVAL);
        assert_eq!(seldom.turn().unwrap().untold, Some(7));
        assert!(seldom.turn().is_none());
    }
}
