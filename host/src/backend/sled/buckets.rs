//! Keys and values in named buckets.
//!
//! One thread makes all calls except `list_keys`, so a read and the write after it are atomic.

use ::sled::{Db, IVec, Tree};

use super::super::export::Record;
use super::super::{BackendError, Bucket, BucketUsage, CurrentValue, KeysFrom, Page};
use super::blocking_thread::Turn;
use super::usage::{SharedUsages, Usages};
use super::writer::SledWriter;
use crate::limits;

/// Size of a part: a larger value is split into parts of this size.
///
/// sled writes a page of more than 128 KiB into a separate file, which it never syncs: after a crash of the machine the
/// store would not open. A page has up to 17 entries, so 17 parts and their keys must be smaller than that.
const PART_BYTES: usize = 6 * 1024;

/// First byte of an entry that contains the value itself.
const WHOLE: u8 = 0;
/// First byte of an entry that refers to the parts of the value.
const IN_PARTS: u8 = 1;

/// Bytes of the length of the bucket's name, with which the key of an entry begins.
const NAME_LENGTH_BYTES: usize = size_of::<u16>();

/// Part number under which the key of the value is stored. The parts have the numbers from 1.
const OWNER: u16 = 0;

pub struct Buckets {
    /// Entries, by the length of the bucket's name in two bytes, the name, and the key. The length prevents that the
    /// entries of one bucket are found in another.
    keys: Tree,
    /// Parts, by generation and number. Parts are written before the entry that names their generation, so an entry
    /// always has its parts. Parts without an entry are removed at the next start.
    parts: Tree,
    writer: SledWriter,
    usages: SharedUsages,
}

impl Buckets {
    pub fn open(db: &Db, writer: SledWriter) -> ::sled::Result<Self> {
        let keys = db.open_tree("keys")?;
        let usages = SharedUsages::new(count(&keys)?);
        let buckets = Self { keys, parts: db.open_tree("parts")?, writer, usages };
        buckets.remove_orphans()?;
        Ok(buckets)
    }

    pub fn usage(&self, bucket: &str) -> BucketUsage {
        self.usages.lock().get(bucket)
    }

    /// What all buckets together hold.
    pub fn total_usage(&self) -> BucketUsage {
        self.usages.lock().total()
    }

    /// Returns the next entry of an export, and moves `position` behind it.
    pub fn next_record(&self, position: &mut Option<Vec<u8>>) -> Result<Option<Record>, BackendError> {
        let Some(start) = position.take() else { return Ok(None) };
        let Some(entry) = self.keys.range(start..).keys().next().transpose()? else { return Ok(None) };
        *position = Some(after(&entry));
        let (bucket, key) = split_entry_key(&entry).ok_or_else(|| damaged("an entry has no bucket"))?;
        let value = self.get_entry(&entry)?.ok_or_else(|| damaged("an entry is gone"))?;
        Ok(Some(Record::Key { bucket: bucket.to_owned(), key: key.to_owned(), value }))
    }

    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, BackendError> {
        self.get_entry(&entry_key(bucket, key))
    }

    pub fn exists(&self, bucket: &str, key: &str) -> Result<bool, BackendError> {
        Ok(self.keys.contains_key(entry_key(bucket, key))?)
    }

    /// Continues a list until its page is complete, or until its turn is over (`None`).
    pub fn list_keys(&self, list: &mut KeyList, turn: Turn) -> Result<Option<Page<String>>, BackendError> {
        let mut entries = self.keys.range(list.start.clone()..list.end.clone()).keys();
        while let Some(entry) = entries.next().transpose()? {
            if list.items.len() == limits::PAGE_ITEMS {
                let cursor = list.items.last().cloned();
                return Ok(Some(Page { items: std::mem::take(&mut list.items), cursor }));
            }
            list.start = after(&entry);
            if list.skip > 0 {
                list.skip -= 1;
            } else {
                let key = entry[list.prefix_bytes..].to_vec();
                list.items.push(String::from_utf8(key).map_err(|_| damaged("a key is no text"))?);
            }
            if turn.is_over() {
                return Ok(None);
            }
        }
        Ok(Some(Page { items: std::mem::take(&mut list.items), cursor: None }))
    }

    pub fn set(&self, bucket: Bucket<'_>, key: &str, value: &[u8]) -> Result<(), BackendError> {
        let key = entry_key(bucket.name, key);
        let before = self.keys.get(&key)?;
        self.write(bucket, &key, before.as_ref(), value)
    }

    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), BackendError> {
        let key_bytes = key.len();
        let key = entry_key(bucket, key);
        let Some(before) = self.keys.get(&key)? else { return Ok(()) };
        let before_bytes = Some(counted_bytes(key_bytes, &before));
        if let Err(error) = self.writer.remove(&self.keys, &key) {
            self.recount(bucket, &key, before_bytes);
            return Err(error.into());
        }
        self.usages.lock().replace(bucket, before_bytes, None);
        self.remove_parts(&before)
    }

    pub fn increment(&self, bucket: Bucket<'_>, key: &str, delta: i64) -> Result<i64, BackendError> {
        let key = entry_key(bucket.name, key);
        let before = self.keys.get(&key)?;
        let no_number = || BackendError::Invalid("the value of the key is no decimal number of 64 bits".to_owned());
        let number = match &before {
            None => 0,
            Some(entry) => {
                let value = entry.strip_prefix(&[WHOLE]).ok_or_else(no_number)?;
                str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(no_number)?
            }
        };
        let too_large = || BackendError::Invalid(format!("{number} and {delta} do not fit in 64 bits together"));
        let sum = number.checked_add(delta).ok_or_else(too_large)?;
        self.write(bucket, &key, before.as_ref(), sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub fn compare_and_swap(
        &self,
        bucket: Bucket<'_>,
        key: &str,
        expected: Option<blake3::Hash>,
        new: &[u8],
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        let key = entry_key(bucket.name, key);
        let found = self.get_entry(&key)?;
        if found.as_deref().map(blake3::hash) != expected {
            return Ok(Err(found));
        }
        let before = self.keys.get(&key)?;
        self.write(bucket, &key, before.as_ref(), new)?;
        Ok(Ok(()))
    }

    /// Adds one to the count of a period, if it is below `limit`. Returns whether it was.
    ///
    /// The value is the number of the period and its count, such as `20784 17`. A value of another period counts as 0.
    pub fn count_within(&self, bucket: Bucket<'_>, key: &str, period: u64, limit: u64) -> Result<bool, BackendError> {
        let key = entry_key(bucket.name, key);
        let before = self.keys.get(&key)?;
        let count = before.as_deref().and_then(|entry| count_in_period(entry.strip_prefix(&[WHOLE])?, period));
        let count = count.unwrap_or(0);
        if count >= limit {
            return Ok(false);
        }
        self.write(bucket, &key, before.as_ref(), format!("{period} {}", count + 1).as_bytes())?;
        Ok(true)
    }

    /// Returns the values with a missing part, the parts without a value, and the buckets that are counted wrongly.
    pub fn verify(&self) -> Result<Vec<String>, BackendError> {
        let mut found = Vec::new();
        for entry in &self.keys {
            let (key, _) = entry?;
            if let Err(error) = self.get_entry(&key) {
                found.push(format!("{}: {error}", key.escape_ascii()));
            }
        }
        for orphan in self.orphans()? {
            found.push(format!("parts of generation {orphan} belong to no key"));
        }
        found.extend(self.usages.lock().verify(&count(&self.keys)?));
        Ok(found)
    }

    // ---- entries and their parts -----------------------------------------------------------

    fn get_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let Some(entry) = self.keys.get(key)? else { return Ok(None) };
        match Entry::parse(&entry).ok_or_else(|| damaged("an entry is none"))? {
            Entry::Whole(value) => Ok(Some(value.to_vec())),
            Entry::InParts { generation, bytes } => {
                let mut value = Vec::with_capacity(bytes);
                for part in self.parts.scan_prefix(generation.to_be_bytes()).values().skip(1) {
                    value.extend_from_slice(&part?);
                }
                if value.len() == bytes { Ok(Some(value)) } else { Err(damaged("a value lacks a part")) }
            }
        }
    }

    /// Replaces the entry `before` of a key, if the quota of the bucket allows the new one.
    fn write(&self, bucket: Bucket<'_>, key: &[u8], before: Option<&IVec>, value: &[u8]) -> Result<(), BackendError> {
        let key_bytes = key.len() - NAME_LENGTH_BYTES - bucket.name.len();
        let before_bytes = before.map(|entry| counted_bytes(key_bytes, entry));
        let after = Some((key_bytes + value.len()) as u64);
        let usage = self.usage(bucket.name);
        usage.check(usage.replace(before_bytes, after), bucket).map_err(BackendError::BucketFull)?;
        match self.replace(key, before, value) {
            Ok(()) => {
                self.usages.lock().replace(bucket.name, before_bytes, after);
                Ok(())
            }
            Err(error) => {
                self.recount(bucket.name, key, before_bytes);
                Err(error)
            }
        }
    }

    /// Counts what a failed write left in place of an entry of `before` bytes.
    fn recount(&self, bucket: &str, key: &[u8], before: Option<u64>) {
        let Ok(now) = self.keys.get(key) else { return };
        let now = now.map(|entry| counted_bytes(key.len() - NAME_LENGTH_BYTES - bucket.len(), &entry));
        self.usages.lock().replace(bucket, before, now);
    }

    fn replace(&self, key: &[u8], before: Option<&IVec>, value: &[u8]) -> Result<(), BackendError> {
        let entry = if value.len() <= PART_BYTES {
            [&[WHOLE], value].concat()
        } else {
            let generation = self.writer.next_generation()?;
            self.writer.insert(&self.parts, &part_key(generation, OWNER), key)?;
            for (number, part) in (OWNER + 1..).zip(value.chunks(PART_BYTES)) {
                self.writer.insert(&self.parts, &part_key(generation, number), part)?;
            }
            let bytes = u64::try_from(value.len()).expect("every length fits in 64 bits");
            [&[IN_PARTS], generation.to_be_bytes().as_slice(), &bytes.to_be_bytes()].concat()
        };
        self.writer.insert(&self.keys, key, entry)?;
        before.map_or(Ok(()), |before| self.remove_parts(before))
    }

    fn remove_parts(&self, entry: &[u8]) -> Result<(), BackendError> {
        let Some(Entry::InParts { generation, .. }) = Entry::parse(entry) else { return Ok(()) };
        Ok(self.remove_generation(generation)?)
    }

    /// Removes the parts from the last one to the owner, so that after a crash the remaining parts still have an owner.
    fn remove_generation(&self, generation: u64) -> ::sled::Result<()> {
        let keys: Vec<_> = self.parts.scan_prefix(generation.to_be_bytes()).keys().collect::<Result<_, _>>()?;
        keys.iter().rev().try_for_each(|key| self.writer.remove(&self.parts, key))
    }

    fn remove_orphans(&self) -> ::sled::Result<()> {
        self.orphans()?.into_iter().try_for_each(|generation| self.remove_generation(generation))
    }

    /// Returns the generations of parts that no entry names.
    fn orphans(&self) -> ::sled::Result<Vec<u64>> {
        let mut orphans = Vec::new();
        let mut next = self.parts.first()?;
        while let Some((part, owner)) = next {
            let generation = part.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let entry = self.keys.get(&owner)?;
            let named = entry.as_ref().and_then(|entry| Entry::parse(entry)).and_then(|entry| entry.generation());
            if named != Some(generation) {
                orphans.push(generation);
            }
            next = self.parts.get_gt(part_key(generation, u16::MAX))?;
        }
        Ok(orphans)
    }
}

/// A page of keys that is being read.
pub struct KeyList {
    /// The entry with which the list continues, and the end of the bucket's entries.
    start: Vec<u8>,
    end: Vec<u8>,
    prefix_bytes: usize,
    /// Entries to skip before the page.
    skip: u64,
    items: Vec<String>,
}

impl KeyList {
    pub fn new(bucket: &str, from: KeysFrom) -> Self {
        let prefix = entry_key(bucket, "");
        // Keys are UTF-8 and contain no byte 255, so `end` is behind all of them.
        let end = [prefix.as_slice(), &[u8::MAX]].concat();
        let prefix_bytes = prefix.len();
        let (start, skip) = match from {
            KeysFrom::Start => (prefix, 0),
            // A cursor is text of a guest and may be behind all entries; a range must not end before it starts.
            KeysFrom::Cursor(key) => (after(&[prefix.as_slice(), key.as_bytes()].concat()).min(end.clone()), 0),
            KeysFrom::Skip(count) => (prefix, count),
        };
        Self { start, end, prefix_bytes, skip, items: Vec::new() }
    }
}

enum Entry<'a> {
    Whole(&'a [u8]),
    InParts { generation: u64, bytes: usize },
}

impl<'a> Entry<'a> {
    fn parse(entry: &'a [u8]) -> Option<Self> {
        let (kind, rest) = entry.split_first()?;
        match *kind {
            WHOLE => Some(Self::Whole(rest)),
            IN_PARTS => {
                let (generation, bytes) = rest.split_first_chunk()?;
                let bytes = u64::from_be_bytes(bytes.try_into().ok()?);
                Some(Self::InParts {
                    generation: u64::from_be_bytes(*generation),
                    bytes: usize::try_from(bytes).ok().filter(|bytes| *bytes <= limits::VALUE_BYTES_MAX)?,
                })
            }
            _ => None,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Whole(value) => value.len(),
            Self::InParts { bytes, .. } => *bytes,
        }
    }

    fn generation(&self) -> Option<u64> {
        match self {
            Self::Whole(_) => None,
            Self::InParts { generation, .. } => Some(*generation),
        }
    }
}

/// Returns the count in a value of `count_within`, if it is of this period.
fn count_in_period(value: &[u8], period: u64) -> Option<u64> {
    let (found, count) = str::from_utf8(value).ok()?.split_once(' ')?;
    if found.parse() == Ok(period) { count.parse().ok() } else { None }
}

/// Counts the entries of all buckets.
fn count(keys: &Tree) -> ::sled::Result<Usages> {
    let mut usages = Usages::default();
    for entry in keys {
        let (key, entry) = entry?;
        if let Some((bucket, key)) = split_entry_key(&key) {
            usages.replace(bucket, None, Some(counted_bytes(key.len(), &entry)));
        }
    }
    Ok(usages)
}

/// The bytes of a key and its value, which count for the quota. A value that cannot be read has none.
fn counted_bytes(key_bytes: usize, entry: &[u8]) -> u64 {
    (key_bytes + Entry::parse(entry).map_or(0, |entry| entry.value_bytes())) as u64
}

/// The bucket and the key of an entry. `None` if the bytes are not the key of an entry.
fn split_entry_key(key: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = key.split_first_chunk()?;
    let (bucket, key) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((str::from_utf8(bucket).ok()?, str::from_utf8(key).ok()?))
}

fn entry_key(bucket: &str, key: &str) -> Vec<u8> {
    let length = u16::try_from(bucket.len()).expect("the length of a bucket's name is checked");
    [&length.to_be_bytes(), bucket.as_bytes(), key.as_bytes()].concat()
}

/// Returns the smallest key behind this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn part_key(generation: u64, number: u16) -> Vec<u8> {
    [generation.to_be_bytes().as_slice(), &number.to_be_bytes()].concat()
}

fn damaged(how: &str) -> BackendError {
    BackendError::Unavailable(format!("its files are damaged: {how}"))
}
