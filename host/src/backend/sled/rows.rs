//! The rows of all connections and the index on their attributes, in memory.
//!
//! Remembers which rows changed since they were last saved. Does not know how that is done.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::super::{BackendError, Page, Row};
use super::encoding;
use crate::event::Field;
use crate::id::ConnectionId;
use crate::limits;

/// A page of rows ends when it has so many bytes, whatever it has of rows: who can take a value
/// can take a page.
const PAGE_BYTES: usize = limits::VALUE_BYTES_MAX;

/// A row as it is kept: one allocation, a third of what the row itself would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub id: ConnectionId,
    pub bytes: Arc<[u8]>,
}

impl Stored {
    pub fn decode(&self) -> Row {
        encoding::decode(self.id, &self.bytes).expect(IS_A_ROW)
    }

    fn is_of(&self, stage: &str) -> bool {
        encoding::stage(&self.bytes).expect(IS_A_ROW) == stage.as_bytes()
    }
}

impl Page<Stored> {
    /// For after the lock.
    pub fn decode(self) -> Page<Row> {
        Page { items: self.items.iter().map(Stored::decode).collect(), cursor: self.cursor }
    }
}

const IS_A_ROW: &str = "bytes are made of a row, or looked at when they are loaded";

#[derive(Default)]
pub struct Rows {
    by_id: BTreeMap<ConnectionId, Arc<[u8]>>,
    by_attribute: HashMap<Field, Ids>,
    unsaved: HashSet<ConnectionId>,
}

impl Rows {
    /// Takes a row as it was saved. False where the bytes are none.
    pub fn load(&mut self, saved: Stored) -> bool {
        let Some(row) = encoding::decode(saved.id, &saved.bytes) else { return false };
        self.index(row.id, &row.attributes);
        self.by_id.insert(saved.id, saved.bytes);
        true
    }

    pub fn open(&mut self, row: &Row) {
        self.remove(row.id);
        self.index(row.id, &row.attributes);
        self.by_id.insert(row.id, encoding::encode(row));
        self.unsaved.insert(row.id);
    }

    pub fn admit(&mut self, id: ConnectionId) -> Result<(), BackendError> {
        let bytes = self.by_id.get_mut(&id).ok_or(BackendError::NoSuchConnection)?;
        *bytes = encoding::admitted(bytes).expect(IS_A_ROW);
        self.unsaved.insert(id);
        Ok(())
    }

    /// Gives the row the attributes that `change` makes of those that it has.
    pub fn change(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(Vec<Field>) -> Result<Vec<Field>, BackendError>,
    ) -> Result<(), BackendError> {
        let bytes = self.by_id.get_mut(&id).ok_or(BackendError::NoSuchConnection)?;
        let before = encoding::attributes(bytes).expect(IS_A_ROW);
        let after = change(before.clone())?;
        if after == before {
            return Ok(());
        }
        *bytes = encoding::with_attributes(bytes, &after).expect(IS_A_ROW);
        self.unsaved.insert(id);
        self.unindex(id, before.iter().filter(|attribute| after.binary_search(attribute).is_err()));
        self.index(id, after.iter().filter(|attribute| before.binary_search(attribute).is_err()));
        Ok(())
    }

    pub fn remove(&mut self, id: ConnectionId) {
        let Some(bytes) = self.by_id.remove(&id) else { return };
        self.unindex(id, &encoding::attributes(&bytes).expect(IS_A_ROW));
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

    pub fn get(&self, id: ConnectionId) -> Option<Stored> {
        self.by_id.get(&id).map(|bytes| Stored { id, bytes: Arc::clone(bytes) })
    }

    pub fn all(&self) -> Vec<Stored> {
        self.by_id.iter().map(stored).collect()
    }

    pub fn scan(&self, stage: &str, after: Option<ConnectionId>) -> Page<Stored> {
        page(self.by_id.range(behind(after)).map(stored).filter(|row| row.is_of(stage)))
    }

    pub fn query(&self, stage: &str, attribute: &Field, after: Option<ConnectionId>) -> Page<Stored> {
        let ids = self.by_attribute.get(attribute).into_iter().flat_map(|ids| ids.after(after));
        page(ids.filter_map(|id| self.get(id)).filter(|row| row.is_of(stage)))
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

    /// The rows that changed, or went, since this was last called.
    pub fn take_unsaved(&mut self) -> HashSet<ConnectionId> {
        std::mem::take(&mut self.unsaved)
    }

    /// Takes back what could not be saved.
    pub fn put_back(&mut self, ids: impl IntoIterator<Item = ConnectionId>) {
        self.unsaved.extend(ids);
    }

    /// Says where the index disagrees with the rows.
    pub fn verify(&self) -> Vec<String> {
        let mut found = Vec::new();
        for stored in self.all() {
            for attribute in stored.decode().attributes {
                if !self.by_attribute.get(&attribute).is_some_and(|ids| ids.contains(stored.id)) {
                    found.push(format!("row {} has attribute {attribute:?}, which the index does not know", stored.id));
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

/// The connections that have one attribute. Many attributes are of one connection only, as that of
/// its user is, and a tree for each would take more than the rest of the row.
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

    fn after(&self, id: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        let (one, many) = match self {
            Self::One(one) => (Some(*one).filter(|one| id.is_none_or(|id| *one > id)), None),
            Self::Many(ids) => (None, Some(ids.range(behind(id)))),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

fn stored((id, bytes): (&ConnectionId, &Arc<[u8]>)) -> Stored {
    Stored { id: *id, bytes: Arc::clone(bytes) }
}

fn behind(id: Option<ConnectionId>) -> (Bound<ConnectionId>, Bound<ConnectionId>) {
    (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn page(rows: impl Iterator<Item = Stored>) -> Page<Stored> {
    let mut rows = rows.peekable();
    let (mut items, mut bytes) = (Vec::new(), 0);
    while items.len() < limits::PAGE_ITEMS
        && bytes < PAGE_BYTES
        && let Some(row) = rows.next()
    {
        bytes += row.bytes.len();
        items.push(row);
    }
    let cursor = rows.peek().and(items.last()).map(|row: &Stored| row.id.to_string());
    Page { items, cursor }
}
