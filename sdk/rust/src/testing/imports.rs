//! The imports of the contract, implemented by the test double of this thread.
//!
//! The functions, types and signatures are those of the generated bindings of a component. The limits are those of the
//! real host.

use std::rc::Rc;

use super::double::Double;

pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
const CLOSE_REASON_BYTES_MAX: usize = 123;
const ROW_ATTRIBUTES_MAX: usize = 64;
const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 400 * 1024;
const PAGE_ITEMS: usize = 256;
/// A page of rows ends when its attributes have this many bytes.
const PAGE_BYTES: usize = VALUE_BYTES_MAX;
const BATCH_KEYS_MAX: usize = 256;
/// Bytes of all parameters of one call, and of all values that one call returns.
const CALL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a string or a list within a list counts in addition to its bytes.
const ELEMENT_BYTES: usize = 24;
pub const BUCKET_BYTES_MAX: u64 = 64 * 1024 * 1024;
pub const BUCKET_KEYS_MAX: u64 = 100_000;
/// Connections that `post-to-matching` reaches for each host call that it counts as.
const TURN_POSTS: usize = 64;

/// Checks the parameters of a call.
///
/// # Panics
/// Where the real host traps: if the parameters have too many bytes.
fn check_parameters(bytes: usize) {
    assert!(
        bytes <= CALL_BYTES_MAX,
        "the parameters of the call have {bytes} bytes, and those of one call have at most {CALL_BYTES_MAX}"
    );
}

fn texts_bytes(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + ELEMENT_BYTES).sum()
}

fn pairs_bytes<V: AsRef<[u8]>>(pairs: &[(String, V)]) -> usize {
    pairs.iter().map(|(name, value)| name.len() + value.as_ref().len() + 2 * ELEMENT_BYTES).sum()
}

pub mod current_connection {
    use super::*;
    use crate::ConnectionContext;

    pub fn context() -> ConnectionContext {
        let double = Double::current();
        double.count_host_call();
        double.connection_context()
    }

    pub fn event() -> String {
        let double = Double::current();
        double.count_host_call();
        double.event_json()
    }
}

pub mod connections {
    use super::*;
    use crate::Payload;
    pub use crate::bindings::jackfield::gateway::connections::{CloseFrame, ConnectionError, ConnectionInfo};

    pub fn post_to_connection(id: &str, data: &Payload) -> Result<(), ConnectionError> {
        check_parameters(id.len() + data.as_bytes().len());
        post(id, data)
    }

    pub fn post_to_connections(ids: &[String], data: &Payload) -> Vec<Result<(), ConnectionError>> {
        check_parameters(texts_bytes(ids) + data.as_bytes().len());
        ids.iter().map(|id| post(id, data)).collect()
    }

    pub fn post_to_matching(
        name: &str,
        value: &str,
        data: &Payload,
        except: Option<&str>,
    ) -> Result<u32, ConnectionError> {
        check_parameters(name.len() + value.len() + data.as_bytes().len() + except.map_or(0, str::len));
        check_size(data)?;
        let double = Double::current();
        if !double.count_host_calls(1) {
            return Err(ConnectionError::LimitExceeded);
        }
        let attribute = (name.to_owned(), value.to_owned());
        let rows = double.rows.borrow();
        let matching: Vec<&String> =
            rows.iter().filter(|(_, attributes)| attributes.contains(&attribute)).map(|(id, _)| id).collect();
        // The call itself was counted as the first turn.
        if !double.count_host_calls(matching.len().div_ceil(TURN_POSTS).saturating_sub(1)) {
            return Err(ConnectionError::LimitExceeded);
        }
        let others = matching.into_iter().filter(|id| Some(id.as_str()) != except);
        let queued = others.filter(|id| double.post(id, data).is_ok()).count();
        Ok(u32::try_from(queued).expect("a test has fewer than 2^32 connections"))
    }

    pub fn get_connection(id: &str) -> Result<ConnectionInfo, ConnectionError> {
        check_parameters(id.len());
        let double = Double::current();
        if !double.count_host_calls(1) {
            return Err(ConnectionError::LimitExceeded);
        }
        double.with_open(id, |connection| ConnectionInfo {
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at,
            identity: connection.identity.clone(),
        })
    }

    pub fn delete_connection(id: &str, frame: Option<&CloseFrame>) -> Result<(), ConnectionError> {
        check_parameters(id.len() + frame.map_or(0, |frame| frame.reason.len()));
        let double = Double::current();
        if !double.count_host_calls(1) {
            return Err(ConnectionError::LimitExceeded);
        }
        let frame = frame.cloned().unwrap_or(CloseFrame { code: 1000, reason: String::new() });
        assert!(
            matches!(frame.code, 1000..=1003 | 1007..=1014 | 3000..=4999),
            "{} is not a close code that can be sent",
            frame.code
        );
        assert!(
            frame.reason.len() <= CLOSE_REASON_BYTES_MAX,
            "a close reason has at most {CLOSE_REASON_BYTES_MAX} bytes"
        );
        double.delete(id, frame)
    }

    fn post(id: &str, data: &Payload) -> Result<(), ConnectionError> {
        check_size(data)?;
        let double = Double::current();
        if !double.count_host_calls(1) {
            return Err(ConnectionError::LimitExceeded);
        }
        double.post(id, data)
    }

    fn check_size(data: &Payload) -> Result<(), ConnectionError> {
        if data.as_bytes().len() > MESSAGE_BYTES_MAX {
            return Err(ConnectionError::PayloadTooLarge);
        }
        Ok(())
    }
}

pub mod connection_store {
    use super::*;
    pub use crate::bindings::jackfield::gateway::connection_store::{Page, Row, StoreError};
    use crate::testing::double::Attributes;

    pub fn get(id: &str) -> Result<Row, StoreError> {
        let double = begin_call(id.len());
        let rows = double.rows.borrow();
        let attributes = rows.get(id).ok_or(StoreError::NoSuchConnection)?;
        Ok(row(&double, id, attributes))
    }

    pub fn put(id: &str, attributes: &[(String, String)]) -> Result<(), StoreError> {
        let double = begin_call(id.len() + pairs_bytes(attributes));
        change(&double, id, |row| *row = attributes.iter().cloned().collect())
    }

    pub fn add(id: &str, name: &str, value: &str) -> Result<(), StoreError> {
        let double = begin_call(id.len() + name.len() + value.len());
        change(&double, id, |row| {
            row.insert((name.to_owned(), value.to_owned()));
        })
    }

    pub fn remove(id: &str, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let double = begin_call(id.len() + name.len() + value.map_or(0, str::len));
        change(&double, id, |row| {
            row.retain(|(other, kept)| other != name || value.is_some_and(|value| kept != value));
        })
    }

    pub fn query(name: &str, value: &str, cursor: Option<&str>) -> Result<Page, StoreError> {
        let double = begin_call(name.len() + value.len() + cursor.map_or(0, str::len));
        let attribute = (name.to_owned(), value.to_owned());
        page(&double, cursor, |attributes| attributes.contains(&attribute))
    }

    pub fn scan(cursor: Option<&str>) -> Result<Page, StoreError> {
        let double = begin_call(cursor.map_or(0, str::len));
        page(&double, cursor, |_| true)
    }

    fn begin_call(parameter_bytes: usize) -> Rc<Double> {
        check_parameters(parameter_bytes);
        let double = Double::current();
        double.count_host_call();
        double
    }

    fn change(double: &Double, id: &str, work: impl FnOnce(&mut Attributes)) -> Result<(), StoreError> {
        let mut rows = double.rows.borrow_mut();
        let row = rows.get_mut(id).ok_or(StoreError::NoSuchConnection)?;
        let mut changed = row.clone();
        work(&mut changed);
        let fits = |(name, value): &(String, String)| {
            name.len() <= ATTRIBUTE_NAME_BYTES_MAX && value.len() <= ATTRIBUTE_VALUE_BYTES_MAX
        };
        if changed.len() > ROW_ATTRIBUTES_MAX || !changed.iter().all(fits) {
            return Err(StoreError::TooLarge);
        }
        *row = changed;
        Ok(())
    }

    fn page(double: &Double, cursor: Option<&str>, matches: impl Fn(&Attributes) -> bool) -> Result<Page, StoreError> {
        if cursor.is_some_and(|cursor| !is_connection_id(cursor)) {
            return Err(StoreError::Unavailable("the cursor is none that a page has given".to_owned()));
        }
        let rows = double.rows.borrow();
        let mut matching = rows
            .iter()
            .filter(|(id, attributes)| cursor.is_none_or(|last| id.as_str() > last) && matches(attributes))
            .map(|(id, attributes)| row(double, id, attributes))
            .peekable();
        let (mut rows, mut bytes): (Vec<Row>, _) = (Vec::new(), 0);
        while rows.len() < PAGE_ITEMS
            && bytes < PAGE_BYTES
            && let Some(row) = matching.next()
        {
            bytes += row.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            rows.push(row);
        }
        let cursor = matching.peek().and(rows.last()).map(|row| row.connection_id.clone());
        Ok(Page { rows, cursor })
    }

    /// Whether a text has the form of a connection id: 15 characters of base64url and `=`.
    fn is_connection_id(text: &str) -> bool {
        text.len() == 16
            && text.strip_suffix('=').is_some_and(|rest| {
                rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            })
    }

    fn row(double: &Double, id: &str, attributes: &Attributes) -> Row {
        Row {
            connection_id: id.to_owned(),
            connected_at: double.connections.borrow()[id].connected_at,
            attributes: attributes.iter().cloned().collect(),
        }
    }
}

pub mod keyvalue {
    use super::*;
    pub use crate::bindings::wasi::keyvalue0_2_0_draft2::store::{Error, KeyResponse};
    use crate::testing::double::Bucket as Content;

    #[derive(Debug)]
    pub struct Bucket(String);

    pub fn open(identifier: &str) -> Result<Bucket, Error> {
        check_parameters(identifier.len());
        let double = Double::current();
        double.count_host_call();
        if double.buckets.borrow().is_empty() {
            return Err(Error::AccessDenied);
        }
        if !double.buckets.borrow().contains_key(identifier) {
            return Err(Error::NoSuchStore);
        }
        Ok(Bucket(identifier.to_owned()))
    }

    impl Bucket {
        pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            begin_call(key.len());
            check_key(key)?;
            Ok(self.read(key))
        }

        pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
            begin_call(key.len() + value.len());
            check_key(key)?;
            check_value(value)?;
            self.write(key, value)
        }

        pub fn delete(&self, key: &str) -> Result<(), Error> {
            begin_call(key.len());
            check_key(key)?;
            self.remove(key);
            Ok(())
        }

        pub fn exists(&self, key: &str) -> Result<bool, Error> {
            Ok(self.get(key)?.is_some())
        }

        pub fn list_keys(&self, cursor: Option<&str>) -> Result<KeyResponse, Error> {
            begin_call(cursor.map_or(0, str::len));
            Ok(self.with(|Content { pairs, .. }| {
                let mut after = pairs.keys().filter(|key| cursor.is_none_or(|last| key.as_str() > last)).peekable();
                let keys: Vec<String> = after.by_ref().take(PAGE_ITEMS).cloned().collect();
                let cursor = after.peek().and(keys.last()).cloned();
                KeyResponse { keys, cursor }
            }))
        }

        pub fn read(&self, key: &str) -> Option<Vec<u8>> {
            self.with(|content| content.pairs.get(key).cloned())
        }

        pub fn remove(&self, key: &str) {
            self.with(|content| content.pairs.remove(key));
        }

        /// Writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits.
        pub fn write(&self, key: &str, value: &[u8]) -> Result<(), Error> {
            let name = &self.0;
            self.with(|Content { pairs, bytes_max, keys_max }| {
                let bytes: u64 = pairs.iter().map(|(key, value)| pair_bytes(key, value)).sum();
                let before = pairs.get(key).map_or(0, |value| pair_bytes(key, value));
                let bytes_after = bytes - before + pair_bytes(key, value);
                let keys_after = pairs.len() as u64 + u64::from(!pairs.contains_key(key));
                let too_many_keys = keys_after > *keys_max && keys_after > pairs.len() as u64;
                if too_many_keys || (bytes_after > *bytes_max && bytes_after > bytes) {
                    return Err(Error::Other(format!("the bucket {name:?} is full")));
                }
                pairs.insert(key.to_owned(), value.to_owned());
                Ok(())
            })
        }

        fn with<R>(&self, work: impl FnOnce(&mut Content) -> R) -> R {
            let double = Double::current();
            let mut buckets = double.buckets.borrow_mut();
            work(buckets.get_mut(&self.0).expect("an open bucket is never removed"))
        }
    }

    fn pair_bytes(key: &str, value: &[u8]) -> u64 {
        (key.len() + value.len()) as u64
    }

    pub fn begin_call(parameter_bytes: usize) {
        check_parameters(parameter_bytes);
        Double::current().count_host_call();
    }

    pub fn check_key(key: &str) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::Other(format!("a key has at most {KEY_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    pub fn check_value(value: &[u8]) -> Result<(), Error> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::Other(format!("a value has at most {VALUE_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

pub mod atomics {
    use std::cell::RefCell;

    use super::keyvalue::{Bucket, Error, begin_call, check_key, check_value};

    pub struct Cas<'a> {
        bucket: &'a Bucket,
        key: String,
        /// The value that was read last, which `swap` expects.
        seen: RefCell<Option<Vec<u8>>>,
    }

    pub enum CasError<'a> {
        StoreError(Error),
        CasFailed(Cas<'a>),
    }

    impl<'a> Cas<'a> {
        pub fn new(bucket: &'a Bucket, key: &str) -> Result<Self, Error> {
            Ok(Cas { bucket, key: key.to_owned(), seen: bucket.get(key)?.into() })
        }

        pub fn current(&self) -> Result<Option<Vec<u8>>, Error> {
            begin_call(0);
            let now = self.bucket.read(&self.key);
            self.seen.replace(now.clone());
            Ok(now)
        }
    }

    pub fn swap<'a>(cas: Cas<'a>, value: &[u8]) -> Result<(), CasError<'a>> {
        begin_call(value.len());
        let Cas { bucket, key, seen } = cas;
        check_value(value).map_err(CasError::StoreError)?;
        let now = bucket.read(&key);
        if now != seen.into_inner() {
            return Err(CasError::CasFailed(Cas { bucket, key, seen: now.into() }));
        }
        bucket.write(&key, value).map_err(CasError::StoreError)
    }

    pub fn increment(bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
        begin_call(key.len());
        check_key(key)?;
        let now = match bucket.read(key) {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Error::Other(format!("the value of {key} is not a decimal number")))?,
        };
        let sum = now
            .checked_add(delta)
            .ok_or_else(|| Error::Other(format!("{now} and {delta} are more than a number can be")))?;
        bucket.write(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}

pub mod batch {
    use super::keyvalue::{Bucket, Error, begin_call, check_key, check_value};
    use super::*;

    type Pair = (String, Vec<u8>);

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Pair>>, Error> {
        begin_call(texts_bytes(keys));
        check_keys(keys.iter())?;
        let values: Vec<_> = keys.iter().map(|key| bucket.read(key)).collect();
        let bytes: usize = values.iter().flatten().map(Vec::len).sum();
        if bytes > CALL_BYTES_MAX {
            return Err(Error::Other(format!("{bytes} bytes of values in one call: at most {CALL_BYTES_MAX}")));
        }
        Ok(keys.iter().zip(values).map(|(key, value)| Some((key.clone(), value?))).collect())
    }

    pub fn set_many(bucket: &Bucket, key_values: &[Pair]) -> Result<(), Error> {
        begin_call(pairs_bytes(key_values));
        check_keys(key_values.iter().map(|(key, _)| key))?;
        key_values.iter().try_for_each(|(_, value)| check_value(value))?;
        key_values.iter().try_for_each(|(key, value)| bucket.write(key, value))
    }

    pub fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        begin_call(texts_bytes(keys));
        check_keys(keys.iter())?;
        keys.iter().for_each(|key| bucket.remove(key));
        Ok(())
    }

    /// Checks all keys before the first one is used, so that a batch with a bad key changes nothing.
    fn check_keys<'k>(keys: impl ExactSizeIterator<Item = &'k String>) -> Result<(), Error> {
        let count = keys.len();
        if count > BATCH_KEYS_MAX {
            return Err(Error::Other(format!("{count} keys in one call: at most {BATCH_KEYS_MAX}")));
        }
        keys.into_iter().try_for_each(|key| check_key(key))
    }
}

pub mod config {
    use super::*;

    pub use crate::bindings::wasi::config::store::Error;

    pub fn get(key: &str) -> Result<Option<String>, Error> {
        Ok(Double::current().config.borrow().get(key).cloned())
    }

    pub fn get_all() -> Result<Vec<(String, String)>, Error> {
        Ok(Double::current().config.borrow().clone().into_iter().collect())
    }
}

pub mod logging {
    use super::*;
    pub use crate::bindings::wasi::logging::logging::Level;
    use crate::testing::LogLine;

    pub fn log(level: Level, context: &str, message: &str) {
        Double::current().logs.borrow_mut().push(LogLine {
            level,
            context: context.to_owned(),
            message: message.to_owned(),
        });
    }
}
