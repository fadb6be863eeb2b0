//! What others do wrong is told in the log, but not as often as they like.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota};

use crate::limits::{FAULT_INTERVAL, FAULTS_TOLD};

/// Some lines at once, and then one now and then.
pub struct Telling {
    limiter: DefaultDirectRateLimiter,
    untold: AtomicU64,
}

impl Default for Telling {
    fn default() -> Self {
        let burst = NonZeroU32::new(FAULTS_TOLD).expect("some are told");
        let quota = Quota::with_period(FAULT_INTERVAL).expect("it takes some time").allow_burst(burst);
        Self { limiter: DefaultDirectRateLimiter::direct(quota), untold: AtomicU64::new(0) }
    }
}

impl Telling {
    /// Has a line written, if it is not one too many; it is told how many were, where some were.
    pub fn tell(&self, line: impl FnOnce(Option<u64>)) {
        if self.limiter.check().is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        line(Some(self.untold.swap(0, Ordering::Relaxed)).filter(|untold| *untold > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_written_at_once_and_the_next_says_how_many_were_not() {
        let telling = Telling::default();
        let mut written = Vec::new();
        for _ in 0..FAULTS_TOLD + 3 {
            telling.tell(|untold| written.push(untold));
        }
        assert_eq!(written, vec![None; FAULTS_TOLD as usize]);
        std::thread::sleep(FAULT_INTERVAL);
        telling.tell(|untold| written.push(untold));
        assert_eq!(written.last(), Some(&Some(3)));
    }
}
