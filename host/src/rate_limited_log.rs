//! Limits how often the errors of peers and callers are logged, so that none of them can fill the log.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota};

use crate::limits::{FAULT_INTERVAL, FAULT_LOG_BURST};

/// Writes a burst of `FAULT_LOG_BURST` lines, then at most one line per `FAULT_INTERVAL`.
pub struct RateLimitedLog {
    limiter: DefaultDirectRateLimiter,
    /// Lines that were not written since the last one that was.
    suppressed: AtomicU64,
}

impl Default for RateLimitedLog {
    fn default() -> Self {
        let burst = NonZeroU32::new(FAULT_LOG_BURST).expect("the burst is not zero");
        let quota = Quota::with_period(FAULT_INTERVAL).expect("the interval is not zero").allow_burst(burst);
        Self { limiter: DefaultDirectRateLimiter::direct(quota), suppressed: AtomicU64::new(0) }
    }
}

impl RateLimitedLog {
    /// Calls `write` unless the rate limit is reached, with the number of lines that were suppressed since the last
    /// call (`None`: no line was).
    pub fn log(&self, write: impl FnOnce(Option<u64>)) {
        if self.limiter.check().is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(Some(self.suppressed.swap(0, Ordering::Relaxed)).filter(|suppressed| *suppressed > 0));
    }
}

/// Counts events that are logged together, in at most one line per interval.
#[derive(Clone, Copy, Default)]
pub struct UnloggedCount {
    count: u64,
    logged_at: Option<Instant>,
}

impl UnloggedCount {
    /// Adds one event. Returns the number of events since the last line if it is time for the next one.
    pub fn add(&mut self, now: Instant, interval: Duration) -> Option<u64> {
        self.count += 1;
        if self.logged_at.is_some_and(|at| now.duration_since(at) < interval) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_lines_is_written_and_the_next_line_counts_the_suppressed_ones() {
        let log = RateLimitedLog::default();
        let mut written = Vec::new();
        for _ in 0..FAULT_LOG_BURST + 3 {
            log.log(|suppressed| written.push(suppressed));
        }
        assert_eq!(written, vec![None; FAULT_LOG_BURST as usize]);
        std::thread::sleep(FAULT_INTERVAL);
        log.log(|suppressed| written.push(suppressed));
        assert_eq!(written.last(), Some(&Some(3)));
    }

    #[test]
    fn the_first_event_is_logged_at_once_and_later_ones_together_after_the_interval() {
        let mut unlogged = UnloggedCount::default();
        let interval = Duration::from_secs(10);
        let start = Instant::now();
        assert_eq!(unlogged.add(start, interval), Some(1));
        let almost = start + interval - Duration::from_nanos(1);
        assert_eq!(unlogged.add(almost, interval), None);
        assert_eq!(unlogged.add(almost, interval), None);
        assert_eq!(unlogged.add(start + interval, interval), Some(3));
    }
}
