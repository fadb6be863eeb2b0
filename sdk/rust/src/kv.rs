//! Buckets of keys and values, for data that outlives a connection.
//!
//! This is `wasi:keyvalue` 0.2.0-draft2. A handler can open only the buckets that the manifest grants to it.
//!
//! ```
//! # use jackfield_sdk::prelude::*;
//! use jackfield_sdk::kv::Bucket;
//!
//! fn visits(user: &str) -> Result<i64> {
//!     let bucket = Bucket::open("visits")?;
//!     Ok(bucket.increment(user, 1)?)
//! }
//! # let host = jackfield_sdk::testing::Host::new();
//! # host.add_bucket("visits");
//! # assert_eq!((visits("A").unwrap(), visits("A").unwrap()), (1, 2));
//! ```

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{atomics, batch, keyvalue as host};
use crate::pages::Pages;

/// How often [`Bucket::update`] tries before it gives up. A try fails only if another update has succeeded in between.
const UPDATE_TRIES: u32 = 32;

/// The reason why an operation on a bucket failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// The manifest grants other buckets to the handler, but none of that name.
    NoSuchStore,
    /// The manifest grants no bucket to the handler.
    AccessDenied,
    /// Every try of an update conflicted with another update.
    Contended,
    /// Any other failure, with the host's description.
    Other(String),
}

/// An open bucket.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

impl Bucket {
    /// Opens a bucket.
    ///
    /// # Errors
    /// `NoSuchStore` if the manifest does not grant it, `AccessDenied` if it grants no bucket at all.
    pub fn open(name: &str) -> Result<Self, KvError> {
        Ok(Bucket(host::open(name)?))
    }

    /// Returns the value of a key, or `None` if there is no such key.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.get(key)?)
    }

    /// Returns the value of a key, parsed as JSON.
    ///
    /// # Errors
    /// If the bucket cannot be read, or the value is not a `T`.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> crate::Result<Option<T>> {
        match self.get(key)? {
            Some(value) => Ok(Some(serde_json::from_slice(&value)?)),
            None => Ok(None),
        }
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// If the bucket cannot be written.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KvError> {
        Ok(self.0.set(key, value.as_ref())?)
    }

    /// Sets the value of a key to `value` as JSON.
    ///
    /// # Errors
    /// If the bucket cannot be written, or `value` cannot be written as JSON.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> crate::Result<()> {
        Ok(self.set(key, serde_json::to_vec(value)?)?)
    }

    /// Deletes a key. A key that does not exist is no error.
    ///
    /// # Errors
    /// If the bucket cannot be written.
    pub fn delete(&self, key: &str) -> Result<(), KvError> {
        Ok(self.0.delete(key)?)
    }

    /// Returns whether a key exists.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn exists(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.0.exists(key)?)
    }

    /// Iterates over all keys, which are fetched in pages when they are needed.
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, pages: Pages::new() }
    }

    /// Returns the values of several keys in one call, in the order of the keys. The call is not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn get_many(&self, keys: impl IntoIterator<Item = impl Into<String>>) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        Ok(batch::get_many(&self.0, &keys)?.into_iter().map(|found| found.map(|(_, value)| value)).collect())
    }

    /// Sets several keys in one call. The call is not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be written. Some of the keys may have been set then.
    pub fn set_many(
        &self,
        pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<Vec<u8>>)>,
    ) -> Result<(), KvError> {
        let pairs: Vec<(String, Vec<u8>)> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(batch::set_many(&self.0, &pairs)?)
    }

    /// Deletes several keys in one call. The call is not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be written. Some of the keys may have been deleted then.
    pub fn delete_many(&self, keys: impl IntoIterator<Item = impl Into<String>>) -> Result<(), KvError> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        Ok(batch::delete_many(&self.0, &keys)?)
    }

    /// Adds `delta` to a number and returns the sum, atomically. A key that does not exist counts as 0.
    ///
    /// # Errors
    /// If the bucket cannot be written, or the value is not a decimal number.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, KvError> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    /// Replaces a value by the result of `change` and returns it. Writes of other events are not lost.
    ///
    /// If another write comes in between, `change` is called again with the new value.
    ///
    /// # Errors
    /// If the bucket cannot be read or written, and `Contended` if every try conflicts with another write.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>, KvError> {
        self.try_update(key, |current| Ok(change(current)))
    }

    /// Changes a value that is stored as JSON, and returns the result of `change`. Writes of other events are not lost.
    ///
    /// A key that does not exist starts with the default value. If another write comes in between, `change` is called
    /// again with the new value.
    ///
    /// ```
    /// # use jackfield_sdk::kv::Bucket;
    /// # fn main() -> jackfield_sdk::Result<()> {
    /// # let host = jackfield_sdk::testing::Host::new();
    /// # host.add_bucket("games");
    /// let games = Bucket::open("games")?;
    /// let players = games.update_json("game-7", |players: &mut Vec<String>| {
    ///     players.push("A".into());
    ///     players.len()
    /// })?;
    /// assert_eq!(players, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`update`](Self::update), or if the value is not a `T`.
    pub fn update_json<T, R>(&self, key: &str, mut change: impl FnMut(&mut T) -> R) -> crate::Result<R>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        let mut result = None;
        self.try_update(key, |current| -> crate::Result<Vec<u8>> {
            let mut value = match current {
                Some(bytes) => serde_json::from_slice(&bytes)?,
                None => T::default(),
            };
            result = Some(change(&mut value));
            Ok(serde_json::to_vec(&value)?)
        })?;
        Ok(result.expect("an update that succeeded has called its closure"))
    }

    fn try_update<E: From<KvError>>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let mut cas = atomics::Cas::new(&self.0, key).map_err(KvError::from)?;
        for _ in 0..UPDATE_TRIES {
            let value = change(cas.current().map_err(KvError::from)?)?;
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(value),
                Err(atomics::CasError::CasFailed(newer)) => cas = newer,
                Err(atomics::CasError::StoreError(error)) => return Err(KvError::from(error).into()),
            }
        }
        Err(KvError::Contended.into())
    }
}

/// The keys of a bucket.
///
/// If a page cannot be fetched, the error is the last item.
#[derive(Debug)]
pub struct Keys<'a> {
    bucket: &'a Bucket,
    pages: Pages<String>,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pages.next(|cursor| {
            let page = self.bucket.0.list_keys(cursor)?;
            Ok((page.keys, page.cursor))
        })
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::NoSuchStore => f.write_str("the handler has no grant for a bucket of that name"),
            KvError::AccessDenied => f.write_str("the handler has no grant for buckets"),
            KvError::Contended => write!(f, "{UPDATE_TRIES} updates in a row lost against others"),
            KvError::Other(reason) => write!(f, "the bucket failed: {reason}"),
        }
    }
}

impl std::error::Error for KvError {}

impl From<host::Error> for KvError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::NoSuchStore => KvError::NoSuchStore,
            host::Error::AccessDenied => KvError::AccessDenied,
            host::Error::Other(reason) => KvError::Other(reason),
        }
    }
}
