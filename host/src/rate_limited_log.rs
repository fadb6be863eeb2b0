//! Limits how often the errors of peers and callers are logged, so that none of them can fill the log.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

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
}
