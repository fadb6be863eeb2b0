//! Keys and values in named buckets.
//!
//! One thread makes all calls except `list_keys`, so a read and the write after it are atomic.

use ::sled::{Db, IVec, Tree};

use super::super::{BackendError, CurrentValue, KeysFrom, Page, check_batch_bytes};
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
}

impl Buckets {
    pub fn open(db: &Db, writer: SledWriter) -> ::sled::Result<Self> {
        let buckets = Self { keys: db.open_tree("keys")?, parts: db.open_tree("parts")?, writer };
        buckets.remove_orphans()?;
        Ok(buckets)
    }

    pub fn get_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let mut bytes = 0;
        let mut get = |key: &String| {
            let value = self.get(&entry_key(bucket, key))?;
            bytes += value.as_ref().map_or(0, Vec::len);
            check_batch_bytes(bytes)?;
            Ok(value)
        };
        keys.iter().map(&mut get).collect()
    }

    pub fn exists(&self, bucket: &str, key: &str) -> Result<bool, BackendError> {
        Ok(self.keys.contains_key(entry_key(bucket, key))?)
    }

    pub fn list_keys(&self, bucket: &str, from: &KeysFrom) -> Result<Page<String>, BackendError> {
        let prefix = entry_key(bucket, "");
        // Keys are UTF-8 and contain no byte 255, so `end` is behind all of them. A cursor's key with a 0 appended is
        // the smallest key behind it.
        let end = [prefix.as_slice(), &[u8::MAX]].concat();
        let (start, skip) = match from {
            KeysFrom::Start => (prefix.clone(), 0),
            KeysFrom::Cursor(key) => ([prefix.as_slice(), key.as_bytes(), &[0]].concat(), 0),
            KeysFrom::Skip(count) => (prefix.clone(), usize::try_from(*count).unwrap_or(usize::MAX)),
        };
        if start >= end {
            return Ok(Page { items: Vec::new(), cursor: None });
        }
        let mut entries = self.keys.range(start..end).keys().skip(skip).peekable();
        let mut items = Vec::new();
        while items.len() < limits::PAGE_ITEMS
            && let Some(entry) = entries.next()
        {
            let key = entry?[prefix.len()..].to_vec();
            items.push(String::from_utf8(key).map_err(|_| damaged("a key is no text"))?);
        }
        let cursor = entries.peek().and(items.last()).cloned();
        Ok(Page { items, cursor })
    }

    pub fn set(&self, bucket: &str, key: &str, value: &[u8]) -> Result<(), BackendError> {
        let key = entry_key(bucket, key);
        let before = self.keys.get(&key)?;
        self.replace(&key, before.as_ref(), value)
    }

    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), BackendError> {
        let key = entry_key(bucket, key);
        let Some(before) = self.keys.get(&key)? else { return Ok(()) };
        self.writer.remove(&self.keys, &key)?;
        self.remove_parts(&before)
    }

    pub fn increment(&self, bucket: &str, key: &str, delta: i64) -> Result<i64, BackendError> {
        let key = entry_key(bucket, key);
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
        self.replace(&key, before.as_ref(), sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub fn compare_and_swap(
        &self,
        bucket: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        let key = entry_key(bucket, key);
        let found = self.get(&key)?;
        if found.as_deref() != expected {
            return Ok(Err(found));
        }
        let before = self.keys.get(&key)?;
        self.replace(&key, before.as_ref(), new)?;
        Ok(Ok(()))
    }

    /// Returns the values with a missing part and the parts without a value.
    pub fn verify(&self) -> Result<Vec<String>, BackendError> {
        let mut found = Vec::new();
        for entry in &self.keys {
            let (key, _) = entry?;
            if let Err(error) = self.get(&key) {
                found.push(format!("{}: {error}", key.escape_ascii()));
            }
        }
        for orphan in self.orphans()? {
            found.push(format!("parts of generation {orphan} belong to no key"));
        }
        Ok(found)
    }

    // ---- entries and their parts -----------------------------------------------------------

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
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

    fn generation(&self) -> Option<u64> {
        match self {
            Self::Whole(_) => None,
            Self::InParts { generation, .. } => Some(*generation),
        }
    }
}

fn entry_key(bucket: &str, key: &str) -> Vec<u8> {
    let length = u16::try_from(bucket.len()).expect("the length of a bucket's name is checked");
    [&length.to_be_bytes(), bucket.as_bytes(), key.as_bytes()].concat()
}

fn part_key(generation: u64, number: u16) -> Vec<u8> {
    [generation.to_be_bytes().as_slice(), &number.to_be_bytes()].concat()
}

fn damaged(how: &str) -> BackendError {
    BackendError::Unavailable(format!("its files are damaged: {how}"))
}
