//! Keys and values in named buckets. A bucket is three keys: a hash of its values, a sorted set of its keys, and its usage.

use std::sync::LazyLock;

use redis::{Script, ScriptInvocation, Value};

use super::super::{BackendError, Bucket, BucketUsage, CurrentValue, KeysFrom, Page, check_batch_bytes};
use super::client::Client;
use crate::limits;

/// How often `compare_and_swap` reads a value again that has changed and has the expected hash again.
const SWAP_ATTEMPTS: usize = 16;

scripts! {
    "bucket.lua":
    GET_MANY = "get_many.lua";
    SET_MANY = "set_many.lua";
    DELETE_MANY = "delete_many.lua";
    SWAP = "swap.lua";
    INCREMENT = "increment.lua";
    COUNT_WITHIN = "count_within.lua";
}

#[derive(Clone)]
pub struct RedisBuckets {
    client: Client,
}

impl RedisBuckets {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn keys(&self, bucket: &str) -> [String; 3] {
        let tag = format!("bucket:{bucket}");
        ["values", "keys", "usage"].map(|name| self.client.key(&tag, name))
    }

    fn invocation<'s>(&self, script: &'s Script, bucket: &str) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for key in self.keys(bucket) {
            call.key(key);
        }
        call
    }

    /// Returns a script that writes: its first two arguments are the quota.
    fn writing<'s>(&self, script: &'s Script, bucket: Bucket<'_>) -> ScriptInvocation<'s> {
        let mut call = self.invocation(script, bucket.name);
        call.arg(bucket.quota.bytes).arg(bucket.quota.keys);
        call
    }

    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let mut call = self.invocation(&GET_MANY, bucket);
        call.arg(limits::HOST_CALL_BYTES);
        for key in &keys {
            call.arg(key);
        }
        match self.client.invoke(&call).await? {
            Value::Int(bytes) => {
                check_batch_bytes(usize::try_from(bytes).unwrap_or(usize::MAX))?;
                Err(unexpected())
            }
            values => redis::from_redis_value(values).map_err(|_| unexpected()),
        }
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        let [values, ..] = self.keys(bucket);
        self.client.query(redis::cmd("HEXISTS").arg(values).arg(key)).await
    }

    pub async fn bucket_usage(&self, bucket: &str) -> Result<BucketUsage, BackendError> {
        let [.., usage] = self.keys(bucket);
        let found: (Option<u64>, Option<u64>) =
            self.client.query(redis::cmd("HMGET").arg(usage).arg("bytes").arg("keys")).await?;
        Ok(BucketUsage { bytes: found.0.unwrap_or(0), keys: found.1.unwrap_or(0) })
    }

    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        let [_, order, _] = self.keys(bucket);
        let count = limits::PAGE_ITEMS + 1;
        let mut items: Vec<String> = match from {
            KeysFrom::Skip(skip) => {
                // Ranks are numbers of 63 bits, and no bucket has as many keys.
                let first = skip.min(u64::from(u32::MAX) * 2);
                let last = first + count as u64 - 1;
                self.client.query(redis::cmd("ZRANGE").arg(order).arg(first).arg(last)).await?
            }
            KeysFrom::Start | KeysFrom::Cursor(_) => {
                let first = if let KeysFrom::Cursor(cursor) = from { format!("({cursor}") } else { "-".to_owned() };
                let mut range = redis::cmd("ZRANGE");
                range.arg(order).arg(first).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(count);
                self.client.query(&range).await?
            }
        };
        let has_more = items.len() > limits::PAGE_ITEMS;
        items.truncate(limits::PAGE_ITEMS);
        let cursor = if has_more { items.last().cloned() } else { None };
        Ok(Page { items, cursor })
    }

    pub async fn set_many(&self, bucket: Bucket<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        let mut call = self.writing(&SET_MANY, bucket);
        for (key, value) in &pairs {
            call.arg(key).arg(value.as_slice());
        }
        check_full(bucket, self.client.invoke(&call).await?)
    }

    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        let mut call = self.invocation(&DELETE_MANY, bucket);
        for key in &keys {
            call.arg(key);
        }
        self.client.invoke::<Value>(&call).await.map(drop)
    }

    pub async fn increment(&self, bucket: Bucket<'_>, key: String, delta: i64) -> Result<i64, BackendError> {
        let mut call = self.writing(&INCREMENT, bucket);
        call.arg(key).arg(delta);
        let answer: Vec<Value> = self.client.invoke(&call).await?;
        let mut answer = answer.into_iter();
        let (kind, detail) = (text(answer.next())?, answer.next());
        match kind.as_str() {
            "sum" => text(detail)?.parse().map_err(|_| unexpected()),
            "full" => {
                check_full(bucket, detail.unwrap_or(Value::Nil))?;
                Err(unexpected())
            }
            "no number" => {
                Err(BackendError::Invalid("the value of the key is no decimal number of 64 bits".to_owned()))
            }
            "overflow" => {
                let number = text(detail)?;
                Err(BackendError::Invalid(format!("{number} and {delta} do not fit in 64 bits together")))
            }
            _ => Err(unexpected()),
        }
    }

    pub async fn compare_and_swap(
        &self,
        bucket: Bucket<'_>,
        key: String,
        expected: Option<blake3::Hash>,
        new: Vec<u8>,
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        let [values, ..] = self.keys(bucket.name);
        for _ in 0..SWAP_ATTEMPTS {
            let found: Option<Vec<u8>> = self.client.query(redis::cmd("HGET").arg(&values).arg(&key)).await?;
            if found.as_deref().map(blake3::hash) != expected {
                return Ok(Err(found));
            }
            let mut call = self.writing(&SWAP, bucket);
            call.arg(&key).arg(new.as_slice());
            if let Some(found) = &found {
                call.arg(found.as_slice());
            }
            match self.client.invoke(&call).await? {
                Value::BulkString(_) | Value::SimpleString(_) => {}
                answer => return check_full(bucket, answer).map(Ok),
            }
        }
        Err(BackendError::Unavailable("the value of the key changes too often".to_owned()))
    }

    pub async fn count_within(
        &self,
        bucket: Bucket<'_>,
        key: String,
        period: u64,
        limit: u64,
    ) -> Result<bool, BackendError> {
        let mut call = self.writing(&COUNT_WITHIN, bucket);
        call.arg(key).arg(period).arg(limit);
        match self.client.invoke(&call).await? {
            Value::Int(counted) => Ok(counted == 1),
            answer => {
                check_full(bucket, answer)?;
                Err(unexpected())
            }
        }
    }
}

/// Turns the answer of a script that writes into an error, if it is a usage that exceeds the quota.
fn check_full(bucket: Bucket<'_>, answer: Value) -> Result<(), BackendError> {
    let numbers: Vec<u64> = redis::from_redis_value(answer).map_err(|_| unexpected())?;
    let Ok([bytes, keys, bytes_after, keys_after]) = <[u64; 4]>::try_from(numbers) else { return Ok(()) };
    let after = BucketUsage { bytes: bytes_after, keys: keys_after };
    BucketUsage { bytes, keys }.check(after, bucket).map_err(BackendError::BucketFull)
}

fn text(value: Option<Value>) -> Result<String, BackendError> {
    value.and_then(|value| redis::from_redis_value(value).ok()).ok_or_else(unexpected)
}

/// The store answered something that no script here returns.
fn unexpected() -> BackendError {
    BackendError::Unavailable("Redis sent an unexpected answer".to_owned())
}
