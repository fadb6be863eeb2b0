//! `wasi:keyvalue`, in both drafts that are in use: named buckets whose content outlives the event.
//!
//! A bucket resource is only a name that the manifest grants. The backend stores the keys and values.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::backend::{self, BackendError, KeysFrom, Page};
use crate::bindings::wasi::keyvalue0_2_0_draft as draft;
use crate::bindings::wasi::keyvalue0_2_0_draft2 as draft2;
use crate::bindings::{Bucket, Cas};
use crate::capability::{Capabilities, GrantedInterface};
use crate::limits::{HOST_CALL_BYTES, KEY_BYTES_MAX, PAGE_ITEMS, VALUE_BYTES_MAX};

/// Why a guest gets no further handle.
const NO_MEMORY: &str = "the handles of the event exceed its memory";

/// Why a bucket cannot be opened. Both drafts convert it to their own error type.
enum OpenError {
    /// The manifest grants other buckets.
    NoSuchStore,
    /// The manifest grants no bucket.
    AccessDenied,
    Full(String),
}

impl Capabilities {
    fn open_bucket(&mut self, name: &str) -> Result<Resource<Bucket>, OpenError> {
        // Every other function needs a bucket that was opened.
        if self.scope.grants.buckets.is_empty() {
            self.log_denied(GrantedInterface::Buckets);
            return Err(OpenError::AccessDenied);
        }
        let (name, _) = self.scope.grants.buckets.get_key_value(name).ok_or(OpenError::NoSuchStore)?;
        let bucket = Bucket { name: name.as_str().into() };
        if !self.measure_held(1) {
            return Err(OpenError::Full(NO_MEMORY.to_owned()));
        }
        self.table.push(bucket).map_err(|error| OpenError::Full(error.to_string()))
    }

    /// Counts one host call with parameters of that many bytes, and returns the name of the bucket.
    fn begin_call(&mut self, bucket: &Resource<Bucket>, parameter_bytes: usize) -> wasmtime::Result<Arc<str>> {
        self.count_host_call_or_trap()?;
        self.memory.hold_parameters(parameter_bytes)?;
        Ok(Arc::clone(&self.table.get(bucket)?.name))
    }

    /// The bucket as the backend writes to it, with the quota of the manifest.
    fn writable<'b>(&self, name: &'b str) -> backend::Bucket<'b> {
        let quota = self.scope.grants.buckets.get(name).copied().unwrap_or_default();
        backend::Bucket { name, quota }
    }

    /// Reports a write that a full bucket rejected. Returns the result unchanged.
    fn report_full<T>(&self, name: &str, written: Result<T, BackendError>) -> Result<T, BackendError> {
        if let Err(BackendError::BucketFull(text)) = &written {
            self.scope.services.full_buckets.reject(&self.scope.name, name, text);
        }
        written
    }

    fn push_cas(&mut self, cas: Cas) -> Result<Resource<Cas>, draft2::store::Error> {
        if !self.measure_held(1) {
            return Err(draft2::store::Error::Other(NO_MEMORY.to_owned()));
        }
        self.table.push(cas).map_err(|error| draft2::store::Error::Other(error.to_string()))
    }
}

/// Implements what both drafts have in common. They differ in the type of a cursor: `$start` converts the guest's
/// cursor to the start of a page, and `$next` returns the cursor of the next page.
macro_rules! implement {
    ($draft:ident, $cursor:ty, $start:path, $next:path) => {
        impl $draft::store::Host for Capabilities {
            async fn open(
                &mut self,
                identifier: String,
            ) -> wasmtime::Result<Result<Resource<Bucket>, $draft::store::Error>> {
                self.count_host_call_or_trap()?;
                Ok(self.open_bucket(&identifier).map_err(|error| match error {
                    OpenError::NoSuchStore => $draft::store::Error::NoSuchStore,
                    OpenError::AccessDenied => $draft::store::Error::AccessDenied,
                    OpenError::Full(text) => $draft::store::Error::Other(text),
                }))
            }
        }

        impl $draft::store::HostBucket for Capabilities {
            async fn get(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<Option<Vec<u8>>, $draft::store::Error>> {
                let name = self.begin_call(&bucket, key.len())?;
                self.memory.expect_result(VALUE_BYTES_MAX)?;
                Ok(self.scope.services.backend.get(&name, key).await.map_err(Into::into))
            }

            async fn set(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.begin_call(&bucket, key.len() + value.len())?;
                let written = self.scope.services.backend.set(self.writable(&name), key, value).await;
                Ok(self.report_full(&name, written).map_err(Into::into))
            }

            async fn delete(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.begin_call(&bucket, key.len())?;
                Ok(self.scope.services.backend.delete(&name, key).await.map_err(Into::into))
            }

            async fn exists(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<bool, $draft::store::Error>> {
                let name = self.begin_call(&bucket, key.len())?;
                Ok(self.scope.services.backend.exists(&name, key).await.map_err(Into::into))
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> wasmtime::Result<Result<$draft::store::KeyResponse, $draft::store::Error>> {
                let name = self.begin_call(&bucket, 0)?;
                self.memory.expect_result(PAGE_ITEMS * KEY_BYTES_MAX)?;
                let start = $start(cursor.as_ref());
                let page = self.scope.services.backend.list_keys(&name, start).await;
                Ok(page
                    .map(|page| {
                        let cursor = $next(cursor, &page);
                        $draft::store::KeyResponse { keys: page.items, cursor }
                    })
                    .map_err(Into::into))
            }

            async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl $draft::batch::Host for Capabilities {
            async fn get_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, $draft::store::Error>> {
                // The keys are held twice: the results have their names.
                let name = self.begin_call(&bucket, 2 * keys_bytes(&keys))?;
                self.memory.expect_result(HOST_CALL_BYTES)?;
                let values = self.scope.services.backend.get_many(&name, keys.clone()).await;
                Ok(values
                    .map(|values| keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect())
                    .map_err(Into::into))
            }

            async fn set_many(
                &mut self,
                bucket: Resource<Bucket>,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let pair_bytes = |(key, value): &(String, Vec<u8>)| key.len() + value.len() + PAIR_BYTES;
                let name = self.begin_call(&bucket, pairs.iter().map(pair_bytes).sum())?;
                let written = self.scope.services.backend.set_many(self.writable(&name), pairs).await;
                Ok(self.report_full(&name, written).map_err(Into::into))
            }

            async fn delete_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.begin_call(&bucket, keys_bytes(&keys))?;
                Ok(self.scope.services.backend.delete_many(&name, keys).await.map_err(Into::into))
            }
        }

        impl From<BackendError> for $draft::store::Error {
            fn from(error: BackendError) -> Self {
                Self::Other(error.to_string())
            }
        }
    };
}

/// What a list needs for a key and a value in addition to their bytes.
const PAIR_BYTES: usize = size_of::<(String, Vec<u8>)>();

fn keys_bytes(keys: &[String]) -> usize {
    keys.iter().map(|key| key.len() + size_of::<String>()).sum()
}

implement!(draft, u64, start_after_count, next_count);
implement!(draft2, String, start_after_key, next_key);

/// The first draft's cursor is a number: how many keys the earlier pages had.
fn start_after_count(cursor: Option<&u64>) -> KeysFrom {
    KeysFrom::Skip(cursor.copied().unwrap_or(0))
}

fn next_count(cursor: Option<u64>, page: &Page<String>) -> Option<u64> {
    page.cursor.as_ref().map(|_| cursor.unwrap_or(0) + page.items.len() as u64)
}

/// The second draft's cursor is a text: the last key of the page before.
fn start_after_key(cursor: Option<&String>) -> KeysFrom {
    cursor.cloned().map_or(KeysFrom::Start, KeysFrom::Cursor)
}

fn next_key(_cursor: Option<String>, page: &Page<String>) -> Option<String> {
    page.cursor.clone()
}

impl draft::atomics::Host for Capabilities {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, draft::store::Error>> {
        let name = self.begin_call(&bucket, key.len())?;
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(draft::store::Error::Other(format!("{delta} is too large to add: at most {}", i64::MAX))));
        };
        let sum = self.scope.services.backend.increment(self.writable(&name), key, delta).await;
        let sum = match self.report_full(&name, sum) {
            Ok(sum) => sum,
            Err(error) => return Ok(Err(error.into())),
        };
        let below_zero = || format!("it was added, but the sum is {sum}, and this draft has no numbers below zero");
        Ok(u64::try_from(sum).map_err(|_| draft::store::Error::Other(below_zero())))
    }
}

impl draft2::atomics::Host for Capabilities {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, draft2::store::Error>> {
        let name = self.begin_call(&bucket, key.len())?;
        let sum = self.scope.services.backend.increment(self.writable(&name), key, delta).await;
        Ok(self.report_full(&name, sum).map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), draft2::atomics::CasError>> {
        self.count_host_call_or_trap()?;
        self.memory.hold_parameters(value.len())?;
        self.memory.expect_result(VALUE_BYTES_MAX)?;
        let Cas { bucket, key, value: expected } = self.table.delete(cas)?;
        let backend = &self.scope.services.backend;
        let swapped = backend.compare_and_swap(self.writable(&bucket), key.clone(), expected, value).await;
        let current = match self.report_full(&bucket, swapped) {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(current)) => current.as_deref().map(blake3::hash),
            Err(error) => return Ok(Err(draft2::atomics::CasError::StoreError(error.into()))),
        };
        Ok(Err(match self.push_cas(Cas { bucket, key, value: current }) {
            Ok(cas) => draft2::atomics::CasError::CasFailed(cas),
            Err(error) => draft2::atomics::CasError::StoreError(error),
        }))
    }
}

impl draft2::atomics::HostCas for Capabilities {
    async fn new(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Cas>, draft2::store::Error>> {
        let bucket = self.begin_call(&bucket, key.len())?;
        self.memory.expect_result(VALUE_BYTES_MAX)?;
        let value = match self.scope.services.backend.get(&bucket, key.clone()).await {
            Ok(value) => value.as_deref().map(blake3::hash),
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(self.push_cas(Cas { bucket, key, value }))
    }

    /// Reads the value again, because only its hash is kept. `swap` then expects the value that was returned here.
    async fn current(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Result<Option<Vec<u8>>, draft2::store::Error>> {
        self.count_host_call_or_trap()?;
        self.memory.expect_result(VALUE_BYTES_MAX)?;
        let Cas { bucket, key, .. } = self.table.get(&cas)?;
        let value = match self.scope.services.backend.get(bucket, key.clone()).await {
            Ok(value) => value,
            Err(error) => return Ok(Err(error.into())),
        };
        self.table.get_mut(&cas)?.value = value.as_deref().map(blake3::hash);
        Ok(Ok(value))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
