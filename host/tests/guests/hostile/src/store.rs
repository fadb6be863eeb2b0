//! Calls of the connection store and of key-value storage, with every function of the SDK.

use jackfield_sdk::connection_store::{self, StoreError};
use jackfield_sdk::kv::{Bucket, KvError};

/// Returns the attributes of a row as `name=value name=value`.
pub fn row(id: &str) -> Result<String, StoreError> {
    let row = connection_store::get(id)?;
    let attributes: Vec<String> = row.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(if attributes.is_empty() { "no attributes".to_owned() } else { attributes.join(" ") })
}

/// Changes the row of any connection: `ID NAME=VALUE`.
pub fn change(
    order: &str,
    change: impl FnOnce(&str, &str, &str) -> Result<(), StoreError>,
) -> Result<&'static str, StoreError> {
    let (id, attribute) = order.split_once(' ').unwrap_or((order, ""));
    let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
    change(id, name, value)?;
    Ok("changed")
}

/// Returns how many rows have the attribute, and how many of them the iteration returned twice.
pub fn query(name: &str, value: &str) -> Result<String, StoreError> {
    let ids: Result<Vec<String>, StoreError> =
        connection_store::query(name, value).map(|row| row.map(|row| row.connection_id)).collect();
    let mut ids = ids?;
    let count = ids.len();
    ids.sort();
    ids.dedup();
    Ok(format!("{count} rows, {} of them twice", count - ids.len()))
}

pub fn scan() -> Result<usize, StoreError> {
    connection_store::scan().try_fold(0, |count, row| row.map(|_| count + 1))
}

/// Sets `count` attributes of the row, each with a value of `bytes` bytes.
pub fn attributes(id: &str, count: usize, bytes: usize) -> Result<&'static str, StoreError> {
    let value = "v".repeat(bytes);
    connection_store::put(id, (0..count).map(|index| (format!("name {index:03}"), value.clone())))?;
    Ok("put")
}

pub fn delete(key: &str) -> Result<&'static str, KvError> {
    Bucket::open("shared")?.delete(key)?;
    Ok("deleted")
}

pub fn exists(key: &str) -> Result<bool, KvError> {
    Bucket::open("shared")?.exists(key)
}

pub fn increment(key: &str, delta: i64) -> Result<i64, KvError> {
    Bucket::open("shared")?.increment(key, delta)
}

/// Sets, reads and deletes several keys, each with one call.
pub fn many() -> Result<String, KvError> {
    let bucket = Bucket::open("shared")?;
    bucket.set_many([("a", "1"), ("b", "2")])?;
    let found = bucket.get_many(["a", "missing", "b"])?;
    bucket.delete_many(["a", "b", "missing"])?;
    Ok(format!("{found:?} {}", bucket.exists("a")?))
}

/// Reads `count` keys in one call.
pub fn batch(count: usize) -> Result<usize, KvError> {
    Ok(Bucket::open("shared")?.get_many((0..count).map(|index| format!("key {index:05}")))?.len())
}
