//! The rows of all connections and the index on their attributes, in memory.
//!
//! Records which rows changed since the last save. Does not know how rows are saved.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::super::{BackendError, Page, Row};
use super::encoding;
use crate::event::Field;
use crate::id::ConnectionId;
use crate::limits;

/// Size at which a page of rows ends, even if it has few rows. It is the size of the largest value, so a caller that
/// can receive a value can receive a page.
const PAGE_BYTES: usize = limits::VALUE_BYTES_MAX;

/// A row as it is kept in memory: one allocation, a third of the size of a `Row`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedRow {
    pub id: ConnectionId,
    pub bytes: Arc<[u8]>,
}

impl EncodedRow {
    pub fn decode(&self) -> Row {
        encoding::decode(self.id, &self.bytes).expect(VALID_ROW)
    }

    fn is_in_stage(&self, stage: &str) -> bool {
        encoding::stage(&self.bytes).expect(VALID_ROW) == stage.as_bytes()
    }
}

impl Page<EncodedRow> {
    /// Decodes the rows. This is a separate step, so that the caller can release the lock of the rows before it.
    pub fn decode(self) -> Page<Row> {
        Page { items: self.items.iter().map(EncodedRow::decode).collect(), cursor: self.cursor }
    }
}

const VALID_ROW: &str = "the bytes were encoded from a row, or checked when they were loaded";

#[derive(Default)]
pub struct Rows {
    by_id: BTreeMap<ConnectionId, Arc<[u8]>>,
    by_attribute: HashMap<Field, Ids>,
    unsaved: HashSet<ConnectionId>,
}

impl Rows {
    /// Adds a row that was loaded from the disk. Returns false if its bytes are not a row.
    pub fn load(&mut self, saved: EncodedRow) -> bool {
        let Some(row) = encoding::decode(saved.id, &saved.bytes) else { return false };
        self.index(row.id, &row.attributes);
        self.by_id.insert(saved.id, saved.bytes);
        true
    }

    /// Adds the row, and replaces a row with the same id.
    pub fn insert(&mut self, row: &Row) {
        self.remove(row.id);
        self.index(row.id, &row.attributes);
        self.by_id.insert(row.id, encoding::encode(row));
        self.unsaved.insert(row.id);
    }

    pub fn admit(&mut self, id: ConnectionId) -> Result<(), BackendError> {
        let bytes = self.by_id.get_mut(&id).ok_or(BackendError::NoSuchConnection)?;
        *bytes = encoding::with_admitted(bytes).expect(VALID_ROW);
        self.unsaved.insert(id);
        Ok(())
    }

    /// Replaces the attributes of the row with the ones that `change` returns for the current attributes.
    pub fn change(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(Vec<Field>) -> Result<Vec<Field>, BackendError>,
    ) -> Result<(), BackendError> {
        let bytes = self.by_id.get_mut(&id).ok_or(BackendError::NoSuchConnection)?;
        let before = encoding::attributes(bytes).expect(VALID_ROW);
        let after = change(before.clone())?;
        if after == before {
            return Ok(());
        }
        *bytes = encoding::with_attributes(bytes, &after).expect(VALID_ROW);
        self.unsaved.insert(id);
        self.unindex(id, before.iter().filter(|attribute| after.binary_search(attribute).is_err()));
        self.index(id, after.iter().filter(|attribute| before.binary_search(attribute).is_err()));
        Ok(())
    }

    pub fn remove(&mut self, id: ConnectionId) {
        let Some(bytes) = self.by_id.remove(&id) else { return };
        self.unindex(id, &encoding::attributes(&bytes).expect(VALID_ROW));
        self.unsaved.insert(id);
    }

    fn index<'a>(&mut self, id: ConnectionId, attributes: impl IntoIterator<Item = &'a Field>) {
        for attribute in attributes {
            match self.by_attribute.get_mut(attribute) {
                Some(ids) => ids.insert(id),
                None => _ = self.by_attribute.insert(attribute.clone(), Ids::One(id)),
            }
        }
    }

    fn unindex<'a>(&mut self, id: ConnectionId, attributes: impl IntoIterator<Item = &'a Field>) {
        for attribute in attributes {
            match self.by_attribute.get_mut(attribute) {
                Some(Ids::Many(ids)) if ids.len() > 1 => _ = ids.remove(&id),
                Some(_) => _ = self.by_attribute.remove(attribute),
                None => {}
            }
        }
    }

    // ---- reading ---------------------------------------------------------------------------

    pub fn get(&self, id: ConnectionId) -> Option<EncodedRow> {
        self.by_id.get(&id).map(|bytes| EncodedRow { id, bytes: Arc::clone(bytes) })
    }

    pub fn all(&self) -> Vec<EncodedRow> {
        self.by_id.iter().map(encoded_row).collect()
    }

    pub fn scan(&self, stage: &str, after: Option<ConnectionId>) -> Page<EncodedRow> {
        page(self.by_id.range(range_after(after)).map(encoded_row).filter(|row| row.is_in_stage(stage)))
    }

    pub fn query(&self, stage: &str, attribute: &Field, after: Option<ConnectionId>) -> Page<EncodedRow> {
        let ids = self.by_attribute.get(attribute).into_iter().flat_map(|ids| ids.after(after));
        page(ids.filter_map(|id| self.get(id)).filter(|row| row.is_in_stage(stage)))
    }

    pub fn matching(&self, attribute: &Field) -> Vec<ConnectionId> {
        self.by_attribute.get(attribute).map(Ids::to_vec).unwrap_or_default()
    }

    // ---- saving ----------------------------------------------------------------------------

    pub fn unsaved_len(&self) -> usize {
        self.unsaved.len()
    }

    pub fn is_unsaved(&self, id: &ConnectionId) -> bool {
        self.unsaved.contains(id)
    }

    /// Returns the ids of the rows that were changed or removed since the last call.
    pub fn take_unsaved(&mut self) -> HashSet<ConnectionId> {
        std::mem::take(&mut self.unsaved)
    }

    /// Marks rows as unsaved again after a save failed.
    pub fn mark_unsaved(&mut self, ids: impl IntoIterator<Item = ConnectionId>) {
        self.unsaved.extend(ids);
    }

    /// Returns the differences between the index and the rows.
    pub fn verify(&self) -> Vec<String> {
        let mut found = Vec::new();
        for row in self.all() {
            for attribute in row.decode().attributes {
                if !self.by_attribute.get(&attribute).is_some_and(|ids| ids.contains(row.id)) {
                    found.push(format!("row {} has attribute {attribute:?}, which the index does not contain", row.id));
                }
            }
        }
        for (attribute, ids) in &self.by_attribute {
            for id in ids.after(None) {
                if !self.get(id).is_some_and(|row| row.decode().attributes.contains(attribute)) {
                    found.push(format!("the index has {attribute:?} for row {id}, which does not have it"));
                }
            }
        }
        found
    }
}

/// The connections that have one attribute. Many attributes, such as the user, belong to one connection only. A tree
/// for each of them would need more memory than the rest of the row.
enum Ids {
    One(ConnectionId),
    Many(BTreeSet<ConnectionId>),
}

impl Ids {
    fn insert(&mut self, id: ConnectionId) {
        match self {
            Self::One(one) if *one == id => {}
            Self::One(one) => *self = Self::Many(BTreeSet::from([*one, id])),
            Self::Many(ids) => _ = ids.insert(id),
        }
    }

    fn contains(&self, id: ConnectionId) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Many(ids) => ids.contains(&id),
        }
    }

    fn to_vec(&self) -> Vec<ConnectionId> {
        match self {
            Self::One(one) => vec![*one],
            Self::Many(ids) => ids.iter().copied().collect(),
        }
    }

    /// Returns the ids greater than `id` in ascending order; all of them if `id` is `None`.
    fn after(&self, id: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        let (one, many) = match self {
            Self::One(one) => (Some(*one).filter(|one| id.is_none_or(|id| *one > id)), None),
            Self::Many(ids) => (None, Some(ids.range(range_after(id)))),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

fn encoded_row((id, bytes): (&ConnectionId, &Arc<[u8]>)) -> EncodedRow {
    EncodedRow { id: *id, bytes: Arc::clone(bytes) }
}

fn range_after(id: Option<ConnectionId>) -> (Bound<ConnectionId>, Bound<ConnectionId>) {
    (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn page(rows: impl Iterator<Item = EncodedRow>) -> Page<EncodedRow> {
    let mut rows = rows.peekable();
    let (mut items, mut bytes) = (Vec::new(), 0);
    while items.len() < limits::PAGE_ITEMS
        && bytes < PAGE_BYTES
        && let Some(row) = rows.next()
    {
        bytes += row.bytes.len();
        items.push(row);
    }
    let cursor = rows.peek().and(items.last()).map(|row: &EncodedRow| row.id.to_string());
    Page { items, cursor }
}
