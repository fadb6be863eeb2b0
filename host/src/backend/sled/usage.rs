//! What each bucket holds, counted with every write. The count is made from the entries when the folder is opened, so
//! it is exact whenever the process dies.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::BucketUsage;

/// The usage of each bucket that has a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usages(HashMap<String, BucketUsage>);

impl Usages {
    pub fn get(&self, bucket: &str) -> BucketUsage {
        self.0.get(bucket).copied().unwrap_or_default()
    }

    /// What all buckets together hold.
    pub fn total(&self) -> BucketUsage {
        self.0.values().fold(BucketUsage::default(), |total, usage| BucketUsage {
            bytes: total.bytes + usage.bytes,
            keys: total.keys + usage.keys,
        })
    }

    /// Counts an entry of `before` bytes that was replaced with one of `after` bytes; `None`: no entry.
    pub fn replace(&mut self, bucket: &str, before: Option<u64>, after: Option<u64>) {
        let usage = self.get(bucket).replace(before, after);
        if usage.keys == 0 {
            self.0.remove(bucket);
        } else {
            // Only the first key of a bucket allocates.
            match self.0.get_mut(bucket) {
                Some(counted) => *counted = usage,
                None => _ = self.0.insert(bucket.to_owned(), usage),
            }
        }
    }

    /// Returns the buckets whose usage is another one in `counted`.
    pub fn verify(&self, counted: &Self) -> Vec<String> {
        let mut names: Vec<_> = self.0.keys().chain(counted.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differs = |name: &&&String| self.get(name) != counted.get(name);
        let differences = names.iter().filter(differs);
        let text = |name: &&String| {
            let (known, found) = (self.get(name), counted.get(name));
            format!("the bucket {name:?} is counted as {known:?}, but has {found:?}")
        };
        differences.map(text).collect()
    }
}

/// The usages of an open folder. Only the thread that makes the writes locks them, and `verify`.
pub struct SharedUsages(Mutex<Usages>);

impl SharedUsages {
    pub fn new(usages: Usages) -> Self {
        Self(Mutex::new(usages))
    }

    pub fn lock(&self) -> MutexGuard<'_, Usages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
