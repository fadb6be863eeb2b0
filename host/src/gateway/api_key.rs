//! API keys: which of the manifest's keys a peer brings, and how often it may come with it.
//!
//! A key is known by its hash alone, so whoever reads the manifest or the memory of it cannot come in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ring::digest;

use crate::backend::{Backend, BackendError};
use crate::event::{EpochMillis, calendar_month};
use crate::limits::API_KEY_BYTES_MAX;
use crate::throttle::Throttle;

/// No manifest can grant a bucket of this name: a name has no control characters.
const QUOTAS_BUCKET: &str = "\u{1}api-key-quotas";
/// How often a count that somebody else moved meanwhile is tried again.
const TRIES_MAX: usize = 64;
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// SHA-256 of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiKeyHash(pub [u8; digest::SHA256_OUTPUT_LEN]);

impl ApiKeyHash {
    pub fn of(key: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// Where a peer's key stands: the API key selection expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiKeySource {
    /// `$request.header.x-api-key`
    #[default]
    Header,
    /// `$context.authorizer.usageIdentifierKey`
    Authorizer,
}

/// All keys of the manifest.
#[derive(Default)]
pub struct ApiKeys {
    pub source: ApiKeySource,
    by_hash: HashMap<ApiKeyHash, ApiKey>,
}

pub struct ApiKey {
    /// The manifest's name of it.
    pub id: Arc<str>,
    /// Where it is good; `None`: in every stage.
    pub stages: Option<BTreeSet<String>>,
    pub throttle: Option<Arc<Throttle>>,
    pub quota: Option<Quota>,
}

/// So many handshakes in each day, week or month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: u64,
    pub period: Period,
}

/// As UTC has them; a week begins with its Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    Week,
    Month,
}

impl Period {
    /// The number of the one in which a time is.
    fn number(self, at: EpochMillis) -> u64 {
        let days = at / DAY_MILLIS;
        match self {
            Self::Day => days,
            // The epoch began on a Thursday.
            Self::Week => (days + 3) / 7,
            Self::Month => calendar_month(at),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl ApiKeys {
    pub fn new(source: ApiKeySource, keys: impl IntoIterator<Item = (ApiKeyHash, ApiKey)>) -> Self {
        Self { source, by_hash: keys.into_iter().collect() }
    }

    /// The key that a peer of this stage brings. It is found by its hash, so that how long that takes
    /// tells nothing of a key.
    pub fn find(&self, key: &str, stage: &str) -> Option<&ApiKey> {
        if key.len() > API_KEY_BYTES_MAX {
            return None;
        }
        let found = self.by_hash.get(&ApiKeyHash::of(key))?;
        found.stages.as_ref().is_none_or(|stages| stages.contains(stage)).then_some(found)
    }
}

impl ApiKey {
    /// Counts one more handshake against the quota; says whether it held.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not have counted.
    pub async fn count(&self, backend: &Backend, now: EpochMillis) -> Result<bool, BackendError> {
        let Some(Quota { limit, period }) = self.quota else { return Ok(true) };
        let key = format!("{} {}", self.id, period.name());
        let number = period.number(now);
        let mut before = backend.get(QUOTAS_BUCKET, key.clone()).await?;
        for _ in 0..TRIES_MAX {
            let count = before.as_deref().and_then(|record| counted(record, number)).unwrap_or(0);
            if count >= limit {
                return Ok(false);
            }
            let after = format!("{number} {}", count + 1).into_bytes();
            match backend.compare_and_swap(QUOTAS_BUCKET, key.clone(), before, after).await? {
                Ok(()) => return Ok(true),
                Err(found) => before = found,
            }
        }
        // So many come at once that they are too many.
        Ok(false)
    }
}

/// What was counted in the period of that number.
fn counted(record: &[u8], number: u64) -> Option<u64> {
    let (of, count) = str::from_utf8(record).ok()?.split_once(' ')?;
    if of.parse() == Ok(number) { count.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::backend::{Durability, SledOptions};

    fn key(quota: Option<Quota>) -> ApiKey {
        ApiKey { id: "team".into(), stages: None, throttle: None, quota }
    }

    /// With its folder, which goes with the test.
    fn backend() -> (TempDir, Backend) {
        let folder = tempfile::tempdir().unwrap();
        let durability = Durability::Interval(Duration::from_millis(10));
        let options = SledOptions { folder: folder.path().to_owned(), durability };
        let backend = Backend::open_sled(&options).unwrap();
        (folder, backend)
    }

    /// 2026-11-27, a Friday.
    const NOW: EpochMillis = 1_795_737_600_000;

    #[test]
    fn a_key_is_found_by_its_hash_and_in_its_stages() {
        let hash = ApiKeyHash::of("the key");
        let only = |stages: Option<&[&str]>| {
            let stages = stages.map(|stages| stages.iter().map(|stage| (*stage).to_owned()).collect());
            ApiKeys::new(ApiKeySource::Header, [(hash, ApiKey { stages, ..key(None) })])
        };
        for (keys, sent, found) in [
            (only(None), "the key", true),
            (only(None), "the kez", false),
            (only(None), "", false),
            (only(None), "THE KEY", false),
            (only(Some(&["prod"])), "the key", false),
            (only(Some(&["prod", "dev"])), "the key", true),
        ] {
            assert_eq!(keys.find(sent, "dev").is_some(), found, "{sent}");
        }
        assert!(only(None).find(&"x".repeat(API_KEY_BYTES_MAX + 1), "dev").is_none());
    }

    #[test]
    fn days_weeks_and_months_begin_when_they_do() {
        let next = |period: Period, at| period.number(at) + 1;
        let midnight = NOW + DAY_MILLIS;
        assert_eq!(Period::Day.number(midnight - 1), Period::Day.number(NOW));
        assert_eq!(Period::Day.number(midnight), next(Period::Day, NOW));
        let monday = NOW + 3 * DAY_MILLIS;
        assert_eq!(Period::Week.number(monday - 1), Period::Week.number(NOW));
        assert_eq!(Period::Week.number(monday), next(Period::Week, NOW));
        let december = NOW + 4 * DAY_MILLIS;
        assert_eq!(Period::Month.number(december - 1), Period::Month.number(NOW));
        assert_eq!(Period::Month.number(december), next(Period::Month, NOW));
        let january = december + 31 * DAY_MILLIS;
        assert_eq!(Period::Month.number(january), next(Period::Month, december));
    }

    #[tokio::test]
    async fn a_quota_counts_to_its_limit_and_begins_anew_with_its_period() {
        let (_folder, backend) = backend();
        let key = key(Some(Quota { limit: 2, period: Period::Day }));
        let mut counted = Vec::new();
        for at in [NOW, NOW + 1, NOW + 2, NOW + DAY_MILLIS, NOW + DAY_MILLIS, NOW + DAY_MILLIS] {
            counted.push(key.count(&backend, at).await.unwrap());
        }
        assert_eq!(counted, [true, true, false, true, true, false]);
        // A larger one goes on from what was counted.
        let more = super::tests::key(Some(Quota { limit: 3, period: Period::Day }));
        assert!(more.count(&backend, NOW + DAY_MILLIS).await.unwrap());
        assert!(!more.count(&backend, NOW + DAY_MILLIS).await.unwrap());
    }

    #[tokio::test]
    async fn those_who_come_at_once_are_counted_each() {
        let (_folder, backend) = backend();
        let key = Arc::new(key(Some(Quota { limit: 5, period: Period::Month })));
        let all = (0..8).map(|_| {
            let (key, backend) = (Arc::clone(&key), backend.clone());
            tokio::spawn(async move { key.count(&backend, NOW).await.unwrap() })
        });
        let mut held = 0;
        for one in all.collect::<Vec<_>>() {
            held += usize::from(one.await.unwrap());
        }
        assert_eq!(held, 5);
    }
}
