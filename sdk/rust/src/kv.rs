//! What is to be remembered beyond a connection: buckets of keys and values.
//!
//! This is `wasi:keyvalue`. A handler opens the buckets that its manifest names, and no others.
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

/// How often [`Bucket::update`] tries before it gives up. Each lost try is another one's success.
const UPDATE_TRIES: u32 = 32;

/// Why a bucket did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// No bucket of that name is granted to the component.
    NoSuchStore,
    /// The component may not do this to the bucket.
    AccessDenied,
    /// An update lost against another one every time it tried.
    Contended,
    /// Whatever else went wrong, in the host's words.
    Other(String),
}

/// An open bucket.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

impl Bucket {
    /// Opens a bucket.
    ///
    /// # Errors
    /// `NoSuchStore` if the manifest does not name it.
    pub fn open(name: &str) -> Result<Self, KvError> {
        Ok(Bucket(host::open(name)?))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.get(key)?)
    }

    /// The value of a key, read as JSON.
    ///
    /// # Errors
    /// If the bucket cannot be read, or the value is not a `T`.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> crate::Result<Option<T>> {
        match self.get(key)? {
            Some(value) => Ok(Some(serde_json::from_slice(&value)?)),
            None => Ok(None),
        }
    }

    /// Writes a key.
    ///
    /// # Errors
    /// If the bucket cannot be written.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KvError> {
        Ok(self.0.set(key, value.as_ref())?)
    }

    /// Writes a key, as JSON.
    ///
    /// # Errors
    /// If the bucket cannot be written, or the value has no form in JSON.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> crate::Result<()> {
        Ok(self.set(key, serde_json::to_vec(value)?)?)
    }

    /// Deletes a key; no error where it is not there.
    ///
    /// # Errors
    /// If the bucket cannot be written.
    pub fn delete(&self, key: &str) -> Result<(), KvError> {
        Ok(self.0.delete(key)?)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn exists(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.0.exists(key)?)
    }

    /// All keys. They come a page at a time, as they are asked for.
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, pages: Pages::new() }
    }

    /// Several keys in one call: one value for each, in their order. Not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be read.
    pub fn get_many(&self, keys: impl IntoIterator<Item = impl Into<String>>) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        Ok(batch::get_many(&self.0, &keys)?.into_iter().map(|found| found.map(|(_, value)| value)).collect())
    }

    /// Writes several keys in one call. Not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be written; some may be written then, and others not.
    pub fn set_many(
        &self,
        pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<Vec<u8>>)>,
    ) -> Result<(), KvError> {
        let pairs: Vec<(String, Vec<u8>)> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(batch::set_many(&self.0, &pairs)?)
    }

    /// Deletes several keys in one call. Not atomic.
    ///
    /// # Errors
    /// If the bucket cannot be written; some may be gone then, and others not.
    pub fn delete_many(&self, keys: impl IntoIterator<Item = impl Into<String>>) -> Result<(), KvError> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        Ok(batch::delete_many(&self.0, &keys)?)
    }

    /// Adds to a number and returns the sum, as one step; a key that is not there counts as 0.
    ///
    /// # Errors
    /// If the bucket cannot be written, or the value is not a decimal number.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, KvError> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    /// Replaces a value by what `change` makes of it, and returns that; no write of another event
    /// is lost.
    ///
    /// Where another write came in between, `change` is called again with what that one left.
    ///
    /// # Errors
    /// If the bucket cannot be read or written, and `Contended` if others were faster every time.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>, KvError> {
        self.try_update(key, |current| Ok(change(current)))
    }

    /// Lets `change` work on a value that is kept as JSON, and returns what `change` returns; no
    /// write of another event is lost.
    ///
    /// A key that is not there starts as the default. Where another write came in between,
    /// `change` is called again with what that one left.
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
    /// As [`update`](Self::update), or if the value is not a `T`.
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
/// A page that cannot be fetched is an `Err`, and the last item.
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
            KvError::AccessDenied => f.write_str("the handler may not do this to the bucket"),
            KvError::Contended => write!(f, "{UPDATE_TRIES} updates in a row lost against others"),
            KvError::Other(why) => write!(f, "the bucket failed: {why}"),
        }
    }
}

impl std::error::Error for KvError {}

impl From<host::Error> for KvError {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::NoSuchStore => KvError::NoSuchStore,
            host::Error::AccessDenied => KvError::AccessDenied,
            host::Error::Other(why) => KvError::Other(why),
        }
    }
}
