//! The imports of the contract, implemented by the test double of this thread.
//!
//! The functions, types and signatures are those of the generated bindings of a component. The limits are those of the
//! real host.

use super::double::Double;

const MESSAGE_BYTES_MAX: usize = 128 * 1024;
const CLOSE_REASON_BYTES_MAX: usize = 123;
const ROW_ATTRIBUTES_MAX: usize = 64;
const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 400 * 1024;
const PAGE_ITEMS: usize = 256;
const BATCH_KEYS_MAX: usize = 256;

pub mod current_connection {
    use super::*;
    use crate::ConnectionContext;

    pub fn context() -> ConnectionContext {
        Double::current().connection_context()
    }

    pub fn event() -> String {
        Double::current().event_json()
    }
}

pub mod connections {
    use super::*;
    use crate::Payload;
    pub use crate::bindings::jackfield::gateway::connections::{CloseFrame, ConnectionError, ConnectionInfo};

    pub fn post_to_connection(id: &str, data: &Payload) -> Result<(), ConnectionError> {
        check_size(data)?;
        Double::current().post(id, data)
    }

    pub fn post_to_connections(ids: &[String], data: &Payload) -> Vec<Result<(), ConnectionError>> {
        ids.iter().map(|id| post_to_connection(id, data)).collect()
    }

    pub fn post_to_matching(
        name: &str,
        value: &str,
        data: &Payload,
        except: Option<&str>,
    ) -> Result<u32, ConnectionError> {
        check_size(data)?;
        let double = Double::current();
        let attribute = (name.to_owned(), value.to_owned());
        let queued = double
            .rows
            .borrow()
            .iter()
            .filter(|(id, attributes)| Some(id.as_str()) != except && attributes.contains(&attribute))
            .filter(|(id, _)| double.post(id, data).is_ok())
            .count();
        Ok(u32::try_from(queued).expect("a test has fewer than 2^32 connections"))
    }

    pub fn get_connection(id: &str) -> Result<ConnectionInfo, ConnectionError> {
        Double::current().with_open(id, |connection| ConnectionInfo {
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at,
            identity: connection.identity.clone(),
        })
    }

    pub fn delete_connection(id: &str, frame: Option<&CloseFrame>) -> Result<(), ConnectionError> {
        let frame = frame.cloned().unwrap_or(CloseFrame { code: 1000, reason: String::new() });
        assert!(
            matches!(frame.code, 1000..=1003 | 1007..=1013 | 3000..=4999),
            "{} is not a close code that can be sent",
            frame.code
        );
        assert!(
            frame.reason.len() <= CLOSE_REASON_BYTES_MAX,
            "a close reason has at most {CLOSE_REASON_BYTES_MAX} bytes"
        );
        Double::current().delete(id, frame)
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
        let double = Double::current();
        let rows = double.rows.borrow();
        let attributes = rows.get(id).ok_or(StoreError::NoSuchConnection)?;
        Ok(row(&double, id, attributes))
    }

    pub fn put(id: &str, attributes: &[(String, String)]) -> Result<(), StoreError> {
        change(id, |row| *row = attributes.iter().cloned().collect())
    }

    pub fn add(id: &str, name: &str, value: &str) -> Result<(), StoreError> {
        change(id, |row| {
            row.insert((name.to_owned(), value.to_owned()));
        })
    }

    pub fn remove(id: &str, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        change(id, |row| {
            row.retain(|(other, kept)| other != name || value.is_some_and(|value| kept != value));
        })
    }

    pub fn query(name: &str, value: &str, cursor: Option<&str>) -> Result<Page, StoreError> {
        let attribute = (name.to_owned(), value.to_owned());
        Ok(page(cursor, |attributes| attributes.contains(&attribute)))
    }

    pub fn scan(cursor: Option<&str>) -> Result<Page, StoreError> {
        Ok(page(cursor, |_| true))
    }

    fn change(id: &str, work: impl FnOnce(&mut Attributes)) -> Result<(), StoreError> {
        let double = Double::current();
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

    fn page(cursor: Option<&str>, matches: impl Fn(&Attributes) -> bool) -> Page {
        let double = Double::current();
        let rows = double.rows.borrow();
        let mut matching = rows
            .iter()
            .filter(|(id, attributes)| cursor.is_none_or(|last| id.as_str() > last) && matches(attributes))
            .map(|(id, attributes)| row(&double, id, attributes))
            .peekable();
        let rows: Vec<Row> = matching.by_ref().take(PAGE_ITEMS).collect();
        let cursor = matching.peek().and(rows.last()).map(|row| row.connection_id.clone());
        Page { rows, cursor }
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

    #[derive(Debug)]
    pub struct Bucket(String);

    pub fn open(identifier: &str) -> Result<Bucket, Error> {
        if !Double::current().buckets.borrow().contains_key(identifier) {
            return Err(Error::NoSuchStore);
        }
        Ok(Bucket(identifier.to_owned()))
    }

    impl Bucket {
        pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            check_key(key)?;
            Ok(self.with(|pairs| pairs.get(key).cloned()))
        }

        pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
            check_key(key)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(Error::Other(format!("a value has at most {VALUE_BYTES_MAX} bytes")));
            }
            self.with(|pairs| pairs.insert(key.to_owned(), value.to_owned()));
            Ok(())
        }

        pub fn delete(&self, key: &str) -> Result<(), Error> {
            check_key(key)?;
            self.with(|pairs| pairs.remove(key));
            Ok(())
        }

        pub fn exists(&self, key: &str) -> Result<bool, Error> {
            Ok(self.get(key)?.is_some())
        }

        pub fn list_keys(&self, cursor: Option<&str>) -> Result<KeyResponse, Error> {
            Ok(self.with(|pairs| {
                let mut after = pairs.keys().filter(|key| cursor.is_none_or(|last| key.as_str() > last)).peekable();
                let keys: Vec<String> = after.by_ref().take(PAGE_ITEMS).cloned().collect();
                let cursor = after.peek().and(keys.last()).cloned();
                KeyResponse { keys, cursor }
            }))
        }

        fn with<R>(&self, work: impl FnOnce(&mut std::collections::BTreeMap<String, Vec<u8>>) -> R) -> R {
            let double = Double::current();
            let mut buckets = double.buckets.borrow_mut();
            work(buckets.get_mut(&self.0).expect("an open bucket is never removed"))
        }
    }

    fn check_key(key: &str) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::Other(format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

pub mod atomics {
    use super::keyvalue::{Bucket, Error};

    pub struct Cas<'a> {
        bucket: &'a Bucket,
        key: String,
        seen: Option<Vec<u8>>,
    }

    pub enum CasError<'a> {
        StoreError(Error),
        CasFailed(Cas<'a>),
    }

    impl<'a> Cas<'a> {
        pub fn new(bucket: &'a Bucket, key: &str) -> Result<Self, Error> {
            Ok(Cas { bucket, key: key.to_owned(), seen: bucket.get(key)? })
        }

        pub fn current(&self) -> Result<Option<Vec<u8>>, Error> {
            Ok(self.seen.clone())
        }
    }

    pub fn swap<'a>(cas: Cas<'a>, value: &[u8]) -> Result<(), CasError<'a>> {
        let Cas { bucket, key, seen } = cas;
        let now = bucket.get(&key).map_err(CasError::StoreError)?;
        if now != seen {
            return Err(CasError::CasFailed(Cas { bucket, key, seen: now }));
        }
        bucket.set(&key, value).map_err(CasError::StoreError)
    }

    pub fn increment(bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
        let now = match bucket.get(key)? {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Error::Other(format!("the value of {key} is not a decimal number")))?,
        };
        let sum = now
            .checked_add(delta)
            .ok_or_else(|| Error::Other(format!("{now} and {delta} are more than a number can be")))?;
        bucket.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}

pub mod batch {
    use super::keyvalue::{Bucket, Error};
    use super::*;

    type Pair = (String, Vec<u8>);

    pub fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Pair>>, Error> {
        check_count(keys.len())?;
        keys.iter().map(|key| Ok(bucket.get(key)?.map(|value| (key.clone(), value)))).collect()
    }

    pub fn set_many(bucket: &Bucket, key_values: &[Pair]) -> Result<(), Error> {
        check_count(key_values.len())?;
        key_values.iter().try_for_each(|(key, value)| bucket.set(key, value))
    }

    pub fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| bucket.delete(key))
    }

    fn check_count(keys: usize) -> Result<(), Error> {
        if keys > BATCH_KEYS_MAX {
            return Err(Error::Other(format!("{keys} keys in one call: at most {BATCH_KEYS_MAX}")));
        }
        Ok(())
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
