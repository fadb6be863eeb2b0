//! API keys: finds the manifest's key that a peer sends, and counts its use against the quota.
//!
//! The manifest and this process contain only the hash of each key, so reading them does not reveal a key.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ring::digest;

use crate::backend::{Backend, BackendError, Bucket, BucketQuota};
use crate::event::{EpochMillis, calendar_month};
use crate::gateway::expression::{Place, Reader, Variable};
use crate::limits::API_KEY_BYTES_MAX;
use crate::throttle::Throttle;

/// Key-value bucket of the counts. No manifest can grant it to a guest, because names have no control characters. It has
/// no quota: it has at most three short keys for each API key of a manifest, and no peer can add one.
const QUOTAS_BUCKET: Bucket<'_> = Bucket { name: "\u{1}api-key-quotas", quota: BucketQuota::UNLIMITED };
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// SHA-256 hash of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiKeyHash(pub [u8; digest::SHA256_OUTPUT_LEN]);

impl ApiKeyHash {
    pub fn of(key: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        Self(digest.as_ref().try_into().expect("a SHA-256 hash has 32 bytes"))
    }
}

/// Where a peer's key is taken from; API Gateway's API key selection expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiKeySource {
    /// `$request.header.x-api-key`
    #[default]
    Header,
    /// `$context.authorizer.usageIdentifierKey`
    Authorizer,
}

impl ApiKeySource {
    /// Parses the API key selection expression. API Gateway has two; a header's name is case insensitive.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::new(text, Place::Expression);
        let is_wrapped = reader.take("${");
        if !is_wrapped && !reader.take("$") {
            return None;
        }
        let variable = reader.variable().ok()??;
        if reader.rest() != if is_wrapped { "}" } else { "" } {
            return None;
        }
        match variable {
            Variable::RequestParameter { part: "header", name } if name.eq_ignore_ascii_case("x-api-key") => {
                Some(Self::Header)
            }
            Variable::Context(name) if name == "authorizer.usageIdentifierKey" => Some(Self::Authorizer),
            _ => None,
        }
    }
}

/// All keys of the manifest.
#[derive(Default)]
pub struct ApiKeys {
    pub source: ApiKeySource,
    by_hash: HashMap<ApiKeyHash, ApiKey>,
}

#[derive(Clone)]
pub struct ApiKey {
    /// The key's name in the manifest.
    pub id: Arc<str>,
    /// The stages in which the key is valid; `None`: all of them.
    pub stages: Option<BTreeSet<String>>,
    pub throttle: Option<Arc<Throttle>>,
    pub quota: Option<Quota>,
}

/// Largest number of handshakes per day, week or month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: u64,
    pub period: Period,
}

/// Periods in UTC; a week begins on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    Week,
    Month,
}

impl Period {
    /// Returns the number of the period that contains a time.
    fn number(self, at: EpochMillis) -> u64 {
        let days = at / DAY_MILLIS;
        match self {
            Self::Day => days,
            // The Unix epoch began on a Thursday.
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

    pub fn all(&self) -> impl Iterator<Item = (&ApiKeyHash, &ApiKey)> {
        self.by_hash.iter()
    }

    /// Returns the keys that `is_valid` selects by their hashes.
    pub fn with_keys(&self, is_valid: impl Fn(&ApiKeyHash) -> bool) -> Self {
        let keys = self.by_hash.iter().filter(|(hash, _)| is_valid(hash));
        Self { source: self.source, by_hash: keys.map(|(hash, key)| (*hash, key.clone())).collect() }
    }

    /// Finds the key that a peer of this stage sends. The search is by hash, so its duration reveals nothing about a
    /// key.
    pub fn find(&self, key: &str, stage: &str) -> Option<&ApiKey> {
        if key.len() > API_KEY_BYTES_MAX {
            return None;
        }
        let found = self.by_hash.get(&ApiKeyHash::of(key))?;
        found.stages.as_ref().is_none_or(|stages| stages.contains(stage)).then_some(found)
    }
}

impl ApiKey {
    /// Counts one handshake against the quota; returns `false` if the quota is exceeded.
    ///
    /// # Cancel safety
    /// If the future is dropped, the handshake may or may not have been counted.
    pub async fn count(&self, backend: &Backend, now: EpochMillis) -> Result<bool, BackendError> {
        let Some(Quota { limit, period }) = self.quota else { return Ok(true) };
        let key = format!("{} {}", self.id, period.name());
        backend.count_within(QUOTAS_BUCKET, key, period.number(now), limit).await
    }
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

    /// Returns a backend and its folder, which is deleted at the end of the test.
    fn backend() -> (TempDir, Backend) {
        let folder = tempfile::tempdir().unwrap();
        let durability = Durability::Interval(Duration::from_millis(10));
        let options = SledOptions { folder: folder.path().to_owned(), durability };
        let backend = Backend::open_sled(&options).unwrap();
        (folder, backend)
    }

    /// Friday, 2026-11-27.
    const NOW: EpochMillis = 1_795_737_600_000;

    #[test]
    fn the_selection_expression_is_the_header_or_the_key_of_the_authorizer() {
        for (text, source) in [
            ("$request.header.x-api-key", Some(ApiKeySource::Header)),
            ("${request.header.X-Api-Key}", Some(ApiKeySource::Header)),
            ("$context.authorizer.usageIdentifierKey", Some(ApiKeySource::Authorizer)),
            ("${context.authorizer.usageIdentifierKey}", Some(ApiKeySource::Authorizer)),
            ("$context.authorizer['usageIdentifierKey']", Some(ApiKeySource::Authorizer)),
            ("$context.authorizer.usageidentifierkey", None),
            ("$request.header.x-api-key2", None),
            ("$request.header.x-api-key}", None),
            ("${request.header.x-api-key", None),
            ("${request.header.x-api-key}-", None),
            ("$request.querystring.x-api-key", None),
            ("$request.body.key", None),
            ("request.header.x-api-key", None),
            ("$", None),
            ("", None),
        ] {
            assert_eq!(ApiKeySource::parse(text), source, "{text}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_hash_and_only_in_its_stages() {
        let hash = ApiKeyHash::of("the key");
        let valid_in = |stages: Option<&[&str]>| {
            let stages = stages.map(|stages| stages.iter().map(|stage| (*stage).to_owned()).collect());
            ApiKeys::new(ApiKeySource::Header, [(hash, ApiKey { stages, ..key(None) })])
        };
        for (keys, sent, found) in [
            (valid_in(None), "the key", true),
            (valid_in(None), "the kez", false),
            (valid_in(None), "", false),
            (valid_in(None), "THE KEY", false),
            (valid_in(Some(&["prod"])), "the key", false),
            (valid_in(Some(&["prod", "dev"])), "the key", true),
        ] {
            assert_eq!(keys.find(sent, "dev").is_some(), found, "{sent}");
        }
        assert!(valid_in(None).find(&"x".repeat(API_KEY_BYTES_MAX + 1), "dev").is_none());
    }

    #[test]
    fn days_begin_at_midnight_weeks_on_monday_and_months_on_their_first_day() {
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
    async fn a_quota_admits_up_to_its_limit_and_starts_again_with_each_period() {
        let (_folder, backend) = backend();
        let key = key(Some(Quota { limit: 2, period: Period::Day }));
        let mut admitted = Vec::new();
        for at in [NOW, NOW + 1, NOW + 2, NOW + DAY_MILLIS, NOW + DAY_MILLIS, NOW + DAY_MILLIS] {
            admitted.push(key.count(&backend, at).await.unwrap());
        }
        assert_eq!(admitted, [true, true, false, true, true, false]);
        // A larger quota continues with the existing count.
        let larger = super::tests::key(Some(Quota { limit: 3, period: Period::Day }));
        assert!(larger.count(&backend, NOW + DAY_MILLIS).await.unwrap());
        assert!(!larger.count(&backend, NOW + DAY_MILLIS).await.unwrap());
    }

    /// Seen: of 400 handshakes at once, 173 were refused under a quota of a million, because each count was a loop of
    /// compare-and-swap with 64 attempts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_400_handshakes_at_once_the_quota_admits_exactly_as_many_as_its_limit() {
        for (limit, expected) in [(1_000_000, 400), (400, 400), (399, 399), (100, 100), (0, 0)] {
            let (_folder, backend) = backend();
            let key = Arc::new(key(Some(Quota { limit, period: Period::Month })));
            let all = (0..400).map(|_| {
                let (key, backend) = (Arc::clone(&key), backend.clone());
                tokio::spawn(async move { key.count(&backend, NOW).await.unwrap() })
            });
            let mut admitted = 0;
            for task in all.collect::<Vec<_>>() {
                admitted += usize::from(task.await.unwrap());
            }
            assert_eq!(admitted, expected, "limit {limit}");
        }
    }

    /// The counts are stored, so a later version has to read them.
    #[tokio::test]
    async fn a_count_is_stored_as_the_number_of_its_period_and_the_count() {
        let (_folder, backend) = backend();
        let key = key(Some(Quota { limit: 5, period: Period::Day }));
        let read = || async { backend.get(QUOTAS_BUCKET.name, "team day".to_owned()).await.unwrap().unwrap() };
        let day = NOW / DAY_MILLIS;
        backend.set(QUOTAS_BUCKET, "team day".to_owned(), format!("{day} 3").into_bytes()).await.unwrap();
        assert!(key.count(&backend, NOW).await.unwrap());
        assert_eq!(read().await, format!("{day} 4").as_bytes());
        assert!(key.count(&backend, NOW + DAY_MILLIS).await.unwrap());
        assert_eq!(read().await, format!("{} 1", day + 1).as_bytes());
    }
}
