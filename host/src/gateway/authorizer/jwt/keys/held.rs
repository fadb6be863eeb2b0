//! What is known of an issuer's keys, and when they are to be got.
//!
//! Pure: has no clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::Stamp;
use crate::gateway::authorizer::jwt::KeySource;
use crate::gateway::authorizer::jwt::key_set::KeySet;
use crate::limits::{
    JWKS_FILE_INTERVAL, JWKS_FIRST_INTERVAL, JWKS_KEPT, JWKS_REFRESH_AFTER, JWKS_RETRY_INTERVAL, JWKS_TIMEOUT,
};

/// How old keys may be, and how often they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From this age on they are got again, when a token comes.
    pub refresh_after: Duration,
    /// Between two attempts, where the last one failed or a key was not among those that came.
    pub retry_interval: Duration,
    /// The same where there are no keys at all, so that all tokens wait for it.
    pub first_interval: Duration,
    /// For so long keys are believed that cannot be got again.
    pub kept: Duration,
    /// For one attempt over the network.
    pub timeout: Duration,
}

/// What is known, and when it was asked for.
#[derive(Default)]
pub struct Held {
    pub keys: Option<Arc<KeySet>>,
    /// When the source last had these keys.
    pub confirmed: Option<Instant>,
    /// Of the text that they were read from.
    pub content: Option<blake3::Hash>,
    pub stamp: Option<Stamp>,
    tried: Option<Instant>,
    /// The last attempt because of a key that was not known.
    tried_for_unknown: Option<Instant>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

/// Why keys are got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Age,
    UnknownKey,
}

impl Pace {
    pub fn of(source: &KeySource) -> Self {
        match source {
            KeySource::Url(_) => Self {
                refresh_after: JWKS_REFRESH_AFTER,
                retry_interval: JWKS_RETRY_INTERVAL,
                first_interval: JWKS_FIRST_INTERVAL,
                kept: JWKS_KEPT,
                timeout: JWKS_TIMEOUT,
            },
            KeySource::File(_) => Self {
                refresh_after: JWKS_FILE_INTERVAL,
                retry_interval: JWKS_FILE_INTERVAL,
                first_interval: JWKS_FILE_INTERVAL,
                kept: JWKS_KEPT,
                timeout: JWKS_TIMEOUT,
            },
        }
    }
}

impl Held {
    /// Those that are not too old to be believed.
    pub fn keys(&self, now: Instant, pace: &Pace) -> Option<Arc<KeySet>> {
        let is_believed = is_within(pace.kept, self.confirmed, now);
        self.keys.clone().filter(|_| is_believed)
    }

    /// Whether they are to be got now.
    pub fn is_due(&self, reason: Reason, now: Instant, pace: &Pace) -> bool {
        match reason {
            Reason::UnknownKey => !is_within(pace.retry_interval, self.tried_for_unknown, now),
            Reason::Age if is_within(pace.refresh_after, self.confirmed, now) => false,
            Reason::Age if self.keys(now, pace).is_some() => !is_within(pace.retry_interval, self.tried, now),
            Reason::Age => !is_within(pace.first_interval, self.tried, now),
        }
    }

    /// An attempt begins or ends.
    pub fn tried(&mut self, reason: Reason, now: Instant) {
        self.tried = Some(now);
        if reason == Reason::UnknownKey {
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

    const PACE: Pace = Pace {
        refresh_after: Duration::from_secs(600),
        retry_interval: Duration::from_secs(10),
        first_interval: Duration::from_secs(1),
        kept: Duration::from_secs(86_400),
        timeout: Duration::from_secs(5),
    };

    fn held(confirmed: Instant) -> Held {
        Held { keys: Some(Arc::default()), confirmed: Some(confirmed), tried: Some(confirmed), ..Held::default() }
    }

    /// The shortest time after which something is so, in milliseconds.
    fn first(from: Instant, is_so: impl Fn(Instant) -> bool, at: u64) {
        let after = |milliseconds| from + Duration::from_millis(milliseconds);
        assert!(!is_so(after(at - 1)) && is_so(after(at)), "{at}");
    }

    #[test]
    fn keys_are_due_at_ten_minutes_and_after_a_failure_ten_seconds_later() {
        let start = Instant::now();
        let mut held = held(start);
        first(start, |now| held.is_due(Reason::Age, now, &PACE), 600_000);
        let failed = start + Duration::from_secs(600);
        held.tried(Reason::Age, failed);
        first(failed, |now| held.is_due(Reason::Age, now, &PACE), 10_000);
    }

    #[test]
    fn keys_that_were_not_confirmed_for_a_day_are_believed_no_longer_and_asked_for_each_second() {
        let start = Instant::now();
        let mut held = held(start);
        first(start, |now| held.keys(now, &PACE).is_none(), 86_400_000);
        let failed = start + PACE.kept;
        held.tried(Reason::Age, failed);
        first(failed, |now| held.is_due(Reason::Age, now, &PACE), 1_000);
    }

    #[test]
    fn an_unknown_key_is_asked_for_at_once_but_not_twice_in_ten_seconds() {
        let start = Instant::now();
        let mut held = held(start);
        assert!(held.is_due(Reason::UnknownKey, start, &PACE));
        held.tried(Reason::UnknownKey, start);
        first(start, |now| held.is_due(Reason::UnknownKey, now, &PACE), 10_000);
    }
}
