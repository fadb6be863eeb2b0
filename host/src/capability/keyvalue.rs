//! `wasi:keyvalue`, in both drafts that are in use: named buckets that outlive the event.
//!
//! A bucket is a name that the manifest granted; what is in it belongs to the backend.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::backend::{BackendError, KeysFrom};
use crate::bindings::wasi::keyvalue0_2_0_draft as draft;
use crate::bindings::wasi::keyvalue0_2_0_draft2 as draft2;
use crate::capability::Capabilities;

/// A bucket that the guest has opened.
pub struct Bucket {
    name: Arc<str>,
}

/// What a key held when the guest looked: the guest's `swap` writes only over that.
pub struct Cas {
    bucket: Arc<str>,
    key: String,
    seen: Option<Vec<u8>>,
}

/// Why a bucket cannot be opened, in neither draft's words yet.
enum OpenError {
    NoSuchStore,
    Full(String),
}

impl Capabilities {
    fn open_bucket(&mut self, name: &str) -> Result<Resource<Bucket>, OpenError> {
        let name = self.scope.grants.buckets.get(name).ok_or(OpenError::NoSuchStore)?;
        let bucket = Bucket { name: name.as_str().into() };
        self.table.push(bucket).map_err(|error| OpenError::Full(error.to_string()))
    }

    fn bucket(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<str>> {
        self.spend_or_trap()?;
        Ok(Arc::clone(&self.table.get(bucket)?.name))
    }

    fn push_cas(&mut self, cas: Cas) -> Result<Resource<Cas>, draft2::store::Error> {
        self.table.push(cas).map_err(|error| draft2::store::Error::Other(error.to_string()))
    }
}

/// What both drafts have in common, but for the type of a cursor.
macro_rules! implement {
    ($draft:ident, $cursor:ty, $from:expr, $next:expr) => {
        impl $draft::store::Host for Capabilities {
            async fn open(
                &mut self,
                identifier: String,
            ) -> wasmtime::Result<Result<Resource<Bucket>, $draft::store::Error>> {
                self.spend_or_trap()?;
                Ok(self.open_bucket(&identifier).map_err(|error| match error {
                    OpenError::NoSuchStore => $draft::store::Error::NoSuchStore,
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
                let name = self.bucket(&bucket)?;
                Ok(self.scope.services.backend.get(&name, key).await.map_err(Into::into))
            }

            async fn set(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.bucket(&bucket)?;
                Ok(self.scope.services.backend.set(&name, key, value).await.map_err(Into::into))
            }

            async fn delete(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.bucket(&bucket)?;
                Ok(self.scope.services.backend.delete(&name, key).await.map_err(Into::into))
            }

            async fn exists(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<bool, $draft::store::Error>> {
                let name = self.bucket(&bucket)?;
                Ok(self.scope.services.backend.exists(&name, key).await.map_err(Into::into))
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> wasmtime::Result<Result<$draft::store::KeyResponse, $draft::store::Error>> {
                let name = self.bucket(&bucket)?;
                let from: KeysFrom = $from(&cursor);
                let page = self.scope.services.backend.list_keys(&name, from).await;
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
                let name = self.bucket(&bucket)?;
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
                let name = self.bucket(&bucket)?;
                Ok(self.scope.services.backend.set_many(&name, pairs).await.map_err(Into::into))
            }

            async fn delete_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<(), $draft::store::Error>> {
                let name = self.bucket(&bucket)?;
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

// The first draft's cursor is a number: how many keys have been told already.
implement!(draft, u64, |cursor: &Option<u64>| KeysFrom::Skip(cursor.unwrap_or(0)), |cursor: Option<u64>,
                                                                                    page: &crate::backend::Page<
    String,
>| {
    page.cursor.as_ref().map(|_| cursor.unwrap_or(0) + page.items.len() as u64)
});
// The second one's is a text: the last key that has been told.
implement!(
    draft2,
    String,
    |cursor: &Option<String>| cursor.clone().map_or(KeysFrom::Start, KeysFrom::Cursor),
    |_, page: &crate::backend::Page<String>| page.cursor.clone()
);

impl draft::atomics::Host for Capabilities {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, draft::store::Error>> {
        let name = self.bucket(&bucket)?;
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(draft::store::Error::Other(format!("{delta} is too large to add: at most {}", i64::MAX))));
        };
        let sum = match self.scope.services.backend.increment(&name, key, delta).await {
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
        let name = self.bucket(&bucket)?;
        Ok(self.scope.services.backend.increment(&name, key, delta).await.map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), draft2::atomics::CasError>> {
        self.spend_or_trap()?;
        let Cas { bucket, key, seen } = self.table.delete(cas)?;
        let backend = &self.scope.services.backend;
        let now = match backend.compare_and_swap(&bucket, key.clone(), seen, value).await {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(now)) => now,
            Err(error) => return Ok(Err(draft2::atomics::CasError::StoreError(error.into()))),
        };
        Ok(Err(match self.push_cas(Cas { bucket, key, seen: now }) {
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
        let bucket = self.bucket(&bucket)?;
        let seen = match self.scope.services.backend.get(&bucket, key.clone()).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(self.push_cas(Cas { bucket, key, seen }))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Result<Option<Vec<u8>>, draft2::store::Error>> {
        self.spend_or_trap()?;
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
