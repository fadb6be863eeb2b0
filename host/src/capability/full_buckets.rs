//! Counts and logs the writes that full buckets reject, so that a guest that keeps writing does not fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use metrics::Counter;
use tracing::warn;

use crate::limits::BUCKET_FULL_LOG_INTERVAL;
use crate::rate_limited_log::UnloggedCount;

pub struct FullBuckets {
    refusals: Counter,
    /// By the name of the bucket. Only buckets of manifests are here, so their number is limited.
    unlogged: Mutex<HashMap<String, UnloggedCount>>,
}

impl FullBuckets {
    /// `refusals` counts the rejected writes of all buckets.
    pub fn new(refusals: Counter) -> Self {
        Self { refusals, unlogged: Mutex::default() }
    }

    /// Counts a write of a plugin that was rejected for the reason `text`, and logs it unless one of the same bucket
    /// was logged within the interval.
    pub fn reject(&self, plugin: &str, bucket: &str, text: &str) {
        self.refusals.increment(1);
        if let Some(count) = self.count(bucket, Instant::now()) {
            warn!(%plugin, bucket, count, "rejected write: {text}; delete keys, or raise the limit");
        }
    }

    /// Counts a rejected write. Returns their number if it is time to log them.
    fn count(&self, bucket: &str, now: Instant) -> Option<u64> {
        let mut unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        let unlogged = match unlogged.get_mut(bucket) {
            Some(unlogged) => unlogged,
            None => unlogged.entry(bucket.to_owned()).or_default(),
        };
        unlogged.add(now, BUCKET_FULL_LOG_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_bucket_is_logged_once_per_interval_with_the_number_of_rejected_writes() {
        let buckets = FullBuckets::new(Counter::noop());
        let start = Instant::now();
        assert_eq!(buckets.count("a", start), Some(1));
        let almost = start + BUCKET_FULL_LOG_INTERVAL - Duration::from_nanos(1);
        assert_eq!(buckets.count("a", almost), None);
        assert_eq!(buckets.count("b", almost), Some(1));
        assert_eq!(buckets.count("a", almost), None);
        assert_eq!(buckets.count("a", start + BUCKET_FULL_LOG_INTERVAL), Some(3));
    }
}
