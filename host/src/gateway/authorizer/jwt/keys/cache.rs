//! The cached keys of an issuer, and when they must be refreshed.
//!
//! Pure: has no clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::file_state::FileState;
use crate::gateway::authorizer::jwt::KeySource;
use crate::gateway::authorizer::jwt::key_set::KeySet;
use crate::limits::{
    JWKS_FILE_INTERVAL, JWKS_FIRST_RETRY_INTERVAL, JWKS_REFRESH_AFTER, JWKS_RETRY_INTERVAL, JWKS_STALE_MAX,
    JWKS_TIMEOUT,
};

/// How old keys may be, and how often they are refreshed.
#[derive(Clone, Copy, Debug)]
pub struct RefreshPolicy {
    /// Age from which on the next token triggers a refresh.
    pub refresh_after: Duration,
    /// Shortest time between two attempts after a failure, and between two attempts because of an unknown key.
    pub retry_interval: Duration,
    /// Shortest time between two attempts while there are no keys at all, so that every token has to wait.
    pub first_retry_interval: Duration,
    /// Age up to which keys are used if they cannot be refreshed.
    pub stale_max: Duration,
    /// Limit of one attempt over the network.
    pub timeout: Duration,
}

/// The keys that are known, and when they were requested.
#[derive(Default)]
pub struct KeyCache {
    pub keys: Option<Arc<KeySet>>,
    /// When the source last returned these keys.
    pub confirmed: Option<Instant>,
    /// Hash of the document that contained the keys.
    pub content: Option<blake3::Hash>,
    pub state: Option<FileState>,
    /// The last attempt for any reason.
    tried: Option<Instant>,
    /// The last attempt because of an unknown key.
    tried_for_unknown: Option<Instant>,
    /// Why the last attempt failed; `None` if it succeeded.
    pub failure: Option<String>,
}

/// Why keys are refreshed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RefreshReason {
    Age,
    UnknownKey,
}

impl RefreshPolicy {
    pub fn for_source(source: &KeySource) -> Self {
        match source {
            KeySource::Url(_) => Self {
                refresh_after: JWKS_REFRESH_AFTER,
                retry_interval: JWKS_RETRY_INTERVAL,
                first_retry_interval: JWKS_FIRST_RETRY_INTERVAL,
                stale_max: JWKS_STALE_MAX,
                timeout: JWKS_TIMEOUT,
            },
            KeySource::File(_) => Self {
                refresh_after: JWKS_FILE_INTERVAL,
                retry_interval: JWKS_FILE_INTERVAL,
                first_retry_interval: JWKS_FILE_INTERVAL,
                stale_max: JWKS_STALE_MAX,
                timeout: JWKS_TIMEOUT,
            },
        }
    }
}

impl KeyCache {
    /// Returns the keys, unless they are too old to be used.
    pub fn keys(&self, now: Instant, policy: &RefreshPolicy) -> Option<Arc<KeySet>> {
        let is_usable = is_within(policy.stale_max, self.confirmed, now);
        self.keys.clone().filter(|_| is_usable)
    }

    /// Returns whether the keys must be refreshed now.
    pub fn is_due(&self, reason: RefreshReason, now: Instant, policy: &RefreshPolicy) -> bool {
        match reason {
            RefreshReason::UnknownKey => !is_within(policy.retry_interval, self.tried_for_unknown, now),
            RefreshReason::Age if is_within(policy.refresh_after, self.confirmed, now) => false,
            RefreshReason::Age if self.keys(now, policy).is_some() => {
                !is_within(policy.retry_interval, self.tried, now)
            }
            RefreshReason::Age => !is_within(policy.first_retry_interval, self.tried, now),
        }
    }

    /// Records the start or the end of an attempt.
    pub fn record_attempt(&mut self, reason: RefreshReason, now: Instant) {
        self.tried = Some(now);
        if reason == RefreshReason::UnknownKey {
            self.tried_for_unknown = Some(now);
        }
    }
}

fn is_within(time: Duration, since: Option<Instant>, now: Instant) -> bool {
    since.is_some_and(|since| now.duration_since(since) < time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RefreshPolicy = RefreshPolicy {
        refresh_after: Duration::from_secs(600),
        retry_interval: Duration::from_secs(10),
        first_retry_interval: Duration::from_secs(1),
        stale_max: Duration::from_secs(86_400),
        timeout: Duration::from_secs(5),
    };

    fn cache(confirmed: Instant) -> KeyCache {
        KeyCache {
            keys: Some(Arc::default()),
            confirmed: Some(confirmed),
            tried: Some(confirmed),
            ..KeyCache::default()
        }
    }

    /// Asserts that a condition becomes true exactly `millis` milliseconds after `start`.
    fn assert_true_from(start: Instant, millis: u64, condition: impl Fn(Instant) -> bool) {
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!(!condition(after(millis - 1)) && condition(after(millis)), "{millis}");
    }

    #[test]
    fn keys_are_refreshed_after_ten_minutes_and_ten_seconds_after_a_failure() {
        let start = Instant::now();
        let mut cache = cache(start);
        assert_true_from(start, 600_000, |now| cache.is_due(RefreshReason::Age, now, &POLICY));
        let failed = start + Duration::from_secs(600);
        cache.record_attempt(RefreshReason::Age, failed);
        assert_true_from(failed, 10_000, |now| cache.is_due(RefreshReason::Age, now, &POLICY));
    }

    #[test]
    fn keys_that_were_not_confirmed_for_a_day_are_not_used_and_requested_each_second() {
        let start = Instant::now();
        let mut cache = cache(start);
        assert_true_from(start, 86_400_000, |now| cache.keys(now, &POLICY).is_none());
        let failed = start + POLICY.stale_max;
        cache.record_attempt(RefreshReason::Age, failed);
        assert_true_from(failed, 1_000, |now| cache.is_due(RefreshReason::Age, now, &POLICY));
    }

    #[test]
    fn an_unknown_key_is_requested_at_once_but_not_twice_in_ten_seconds() {
        let start = Instant::now();
        let mut cache = cache(start);
        assert!(cache.is_due(RefreshReason::UnknownKey, start, &POLICY));
        cache.record_attempt(RefreshReason::UnknownKey, start);
        assert_true_from(start, 10_000, |now| cache.is_due(RefreshReason::UnknownKey, now, &POLICY));
    }
}
