//! The key-value buckets of a storage engine.

use super::redis::RedisBuckets;
use super::sled::Sled;
use super::{BackendError, Bucket, BucketUsage, CurrentValue, KeysFrom, Page};

/// Clones refer to the same buckets.
#[derive(Clone)]
pub enum Buckets {
    Sled(Sled),
    Redis(RedisBuckets),
}

/// Calls the same function of each engine.
macro_rules! on_engine {
    ($engine:expr, $buckets:ident => $call:expr) => {
        match $engine {
            Buckets::Sled($buckets) => $call,
            Buckets::Redis($buckets) => $call,
        }
    };
}

impl Buckets {
    /// Returns the same buckets for a caller with this name. Only sled has queues for callers; Redis takes calls in turns.
    pub fn for_caller(&self, name: &str) -> Self {
        match self {
            Self::Sled(sled) => Self::Sled(sled.for_caller(name)),
            Self::Redis(redis) => Self::Redis(redis.clone()),
        }
    }

    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        on_engine!(self, buckets => buckets.get_many(bucket, keys).await)
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        on_engine!(self, buckets => buckets.exists(bucket, key).await)
    }

    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        on_engine!(self, buckets => buckets.list_keys(bucket, from).await)
    }

    pub async fn set_many(&self, bucket: Bucket<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        on_engine!(self, buckets => buckets.set_many(bucket, pairs).await)
    }

    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        on_engine!(self, buckets => buckets.delete_many(bucket, keys).await)
    }

    pub async fn increment(&self, bucket: Bucket<'_>, key: String, delta: i64) -> Result<i64, BackendError> {
        on_engine!(self, buckets => buckets.increment(bucket, key, delta).await)
    }

    pub async fn compare_and_swap(
        &self,
        bucket: Bucket<'_>,
        key: String,
        expected: Option<blake3::Hash>,
        new: Vec<u8>,
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        on_engine!(self, buckets => buckets.compare_and_swap(bucket, key, expected, new).await)
    }

    pub async fn count_within(
        &self,
        bucket: Bucket<'_>,
        key: String,
        period: u64,
        limit: u64,
    ) -> Result<bool, BackendError> {
        on_engine!(self, buckets => buckets.count_within(bucket, key, period, limit).await)
    }

    pub async fn bucket_usage(&self, bucket: &str) -> Result<BucketUsage, BackendError> {
        on_engine!(self, buckets => buckets.bucket_usage(bucket).await)
    }
}
