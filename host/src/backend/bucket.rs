//! A bucket to write to, and how much it may hold.

use crate::limits;

/// A bucket to write to. The quota comes from the caller, so that it changes with the manifest of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    pub name: &'a str,
    pub quota: BucketQuota,
}

/// How much a bucket may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketQuota {
    /// Bytes of all keys and all values.
    pub bytes: u64,
    pub keys: u64,
}

impl BucketQuota {
    /// For buckets of the host itself.
    pub const UNLIMITED: Self = Self { bytes: u64::MAX, keys: u64::MAX };
}

impl Default for BucketQuota {
    fn default() -> Self {
        Self { bytes: limits::BUCKET_BYTES_MAX, keys: limits::BUCKET_KEYS_MAX }
    }
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketUsage {
    /// Bytes of all keys and all values.
    pub bytes: u64,
    pub keys: u64,
}

impl BucketUsage {
    /// Returns the usage after an entry of `before` bytes was replaced with one of `after` bytes; `None`: no entry.
    pub fn replace(self, before: Option<u64>, after: Option<u64>) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.unwrap_or(0)) + after.unwrap_or(0),
            keys: self.keys.saturating_sub(before.is_some().into()) + u64::from(after.is_some()),
        }
    }

    /// Checks a write that changes the usage of a bucket from this one to `after`. A write that adds neither keys nor
    /// bytes is allowed, even if the quota was lowered since.
    ///
    /// # Errors
    /// Describes the limit that the write would exceed.
    pub fn check(self, after: Self, bucket: Bucket<'_>) -> Result<(), String> {
        let Bucket { name, quota } = bucket;
        for (limit, before, after, allowed, unit) in [
            ("keys", self.keys, after.keys, quota.keys, "keys"),
            ("size", self.bytes, after.bytes, quota.bytes, "bytes"),
        ] {
            if after > allowed && after > before {
                return Err(format!(
                    "the bucket {name:?} is full: it would have {after} {unit}, and its {limit} in the manifest \
                     ([buckets]) allows {allowed}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_may_fill_a_bucket_exactly_and_shrink_one_that_is_over_its_quota() {
        let bucket = |bytes, keys| Bucket { name: "b", quota: BucketQuota { bytes, keys } };
        let usage = BucketUsage { bytes: 90, keys: 2 };
        for (before, after, bytes, keys, allowed) in [
            (None, Some(10), 100, 3, true),
            (None, Some(11), 100, 3, false),
            (None, Some(10), 100, 2, false),
            (Some(40), Some(50), 100, 2, true),
            (Some(40), Some(51), 100, 2, false),
            (Some(40), Some(40), 10, 1, true),
            (Some(40), Some(39), 10, 1, true),
            (Some(40), Some(41), 10, 1, false),
            (Some(40), None, 10, 0, true),
        ] {
            let found = usage.check(usage.replace(before, after), bucket(bytes, keys));
            assert_eq!(found.is_ok(), allowed, "{before:?} {after:?} {bytes} {keys}: {found:?}");
        }
    }
}
