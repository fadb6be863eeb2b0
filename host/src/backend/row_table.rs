//! The rows of all connections and the indexes on their attributes, in memory: one index for each store of each stage.
//!
//! The rows that an earlier process left behind are reached by their ids only: no query returns them.
//! Records which rows changed since the last save. Does not know how rows are saved.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::encoding;
use super::index::{Index, range_after};
use super::{AttributeChange, BackendError, Page, Row, StoreName};
use crate::event::Field;
use crate::id::{ApiNumber, ConnectionId, StageId, StageNames};
use crate::limits;

/// Size at which a page of rows ends, even if it has few rows. It is the size of the largest value, so a caller that
/// can receive a value can receive a page.
pub const PAGE_BYTES: usize = limits::VALUE_BYTES_MAX;

/// A row as it is kept in memory: one allocation, a third of the size of a `Row`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedRow {
    pub id: ConnectionId,
    stage: StageId,
    /// The row with its attributes in the shared store.
    bytes: Arc<[u8]>,
    /// The attributes in place of these, if the row was read from a named store.
    attributes: Option<Arc<[u8]>>,
}

impl EncodedRow {
    pub fn decode(&self) -> Row {
        let row = encoding::decode(self.id, self.stage, &self.bytes).expect(VALID_ROW);
        match &self.attributes {
            Some(attributes) => Row { attributes: decode_attributes(attributes), ..row },
            None => row,
        }
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.attributes.as_ref().map_or(0, |attributes| attributes.len())
    }
}

impl Page<EncodedRow> {
    /// Decodes the rows. This is a separate step, so that the caller can release the lock of the rows before it.
    pub fn decode(self) -> Page<Row> {
        Page { items: self.items.iter().map(EncodedRow::decode).collect(), cursor: self.cursor }
    }
}

const VALID_ROW: &str = "the bytes were encoded from a row, or checked when they were loaded";

fn decode_attributes(bytes: &[u8]) -> Vec<Field> {
    encoding::decode_attributes(bytes).expect(VALID_ROW)
}

/// A row that must be saved. On the disk its key is the id alone, because ids are unique in all stages.
pub type RowKey = (StageId, ConnectionId);

pub struct RowTable {
    names: Arc<StageNames>,
    stages: BTreeMap<StageId, StageRows>,
    /// The rows that were loaded, until their `$disconnect` has run.
    left_behind: BTreeMap<StageId, StageRows>,
    unsaved: HashSet<RowKey>,
}

/// The rows of one stage.
#[derive(Default)]
struct StageRows {
    /// Each row with its attributes in the shared store.
    by_id: BTreeMap<ConnectionId, Arc<[u8]>>,
    shared: Index,
    /// The named stores that have an attribute of any row.
    named: BTreeMap<Arc<str>, NamedStore>,
}

#[derive(Default)]
struct NamedStore {
    /// The attributes of each row that has any in this store.
    attributes: HashMap<ConnectionId, Arc<[u8]>>,
    index: Index,
}

impl RowTable {
    pub fn new(names: Arc<StageNames>) -> Self {
        Self { names, stages: BTreeMap::new(), left_behind: BTreeMap::new(), unsaved: HashSet::new() }
    }

    /// Adds a row that was loaded from the disk, as one that was left behind. Returns its key, or `None` if its bytes are
    /// not a row.
    pub fn load(&mut self, id: ConnectionId, saved: &[u8]) -> Option<RowKey> {
        let (bytes, stores) = encoding::split_stores(saved)?;
        let stage = self.names.id(ApiNumber(0), encoding::stage(bytes)?);
        let row = encoding::decode(id, stage, bytes)?;
        // One that was loaded before, and whose deletion is not saved, is not loaded again.
        if self.unsaved.contains(&(stage, id)) {
            return Some((stage, id));
        }
        let rows = self.left_behind.entry(stage).or_default();
        rows.shared.add(id, &row.attributes);
        rows.by_id.insert(id, bytes.into());
        for (name, attributes) in stores {
            rows.set_named(&name.into(), id, &attributes);
        }
        Some((stage, id))
    }

    /// Returns whether a row with this id was loaded, in any stage.
    pub fn has_left_behind(&self, id: ConnectionId) -> bool {
        self.left_behind.values().any(|rows| rows.by_id.contains_key(&id))
    }

    /// Adds the row, and replaces a row with the same id.
    pub fn insert(&mut self, row: &Row) {
        self.remove(row.stage, row.id);
        let bytes = encoding::encode(row, &self.names.name(row.stage));
        let rows = self.stages.entry(row.stage).or_default();
        rows.shared.add(row.id, &row.attributes);
        rows.by_id.insert(row.id, bytes);
        self.unsaved.insert((row.stage, row.id));
    }

    pub fn admit(&mut self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        let bytes = self.of_mut(stage, id).and_then(|rows| rows.by_id.get_mut(&id));
        let bytes = bytes.ok_or(BackendError::NoSuchConnection)?;
        *bytes = encoding::with_admitted(bytes).expect(VALID_ROW);
        self.unsaved.insert((stage, id));
        Ok(())
    }

    /// Replaces the attributes of the row in one store with those that the change makes of the current ones.
    pub fn change(
        &mut self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        let rows = self.of_mut(stage, id).ok_or(BackendError::NoSuchConnection)?;
        let before = rows.attributes(store, id).ok_or(BackendError::NoSuchConnection)?;
        let after = change.apply(before.clone())?;
        if after == before {
            return Ok(());
        }
        match store {
            StoreName::Shared => rows.set_shared(id, &before, &after),
            StoreName::Named(name) => rows.set_named(name, id, &after),
        }
        self.unsaved.insert((stage, id));
        Ok(())
    }

    /// Removes the row from all stores.
    pub fn remove(&mut self, stage: StageId, id: ConnectionId) {
        let Some(rows) = self.of_mut(stage, id) else { return };
        let Some(bytes) = rows.by_id.remove(&id) else { return };
        rows.shared.remove(id, &encoding::attributes(&bytes).expect(VALID_ROW));
        rows.named.retain(|_, store| {
            store.set(id, &[]);
            !store.attributes.is_empty()
        });
        if rows.by_id.is_empty() {
            self.left_behind.retain(|_, rows| !rows.by_id.is_empty());
        }
        self.unsaved.insert((stage, id));
    }

    /// Returns a row, and the rows of its stage among which it is.
    fn find(&self, stage: StageId, id: ConnectionId) -> Option<(&StageRows, &Arc<[u8]>)> {
        let rows = self.stages.get(&stage).and_then(|rows| Some((rows, rows.by_id.get(&id)?)));
        // Most of the time there are none.
        rows.or_else(|| self.left_behind.get(&stage).and_then(|rows| Some((rows, rows.by_id.get(&id)?))))
    }

    /// Returns the rows of a stage among which the row is, if it exists.
    fn of_mut(&mut self, stage: StageId, id: ConnectionId) -> Option<&mut StageRows> {
        let is_left_behind = self.left_behind.get(&stage).is_some_and(|rows| rows.by_id.contains_key(&id));
        if is_left_behind { self.left_behind.get_mut(&stage) } else { self.stages.get_mut(&stage) }
    }

    // ---- reading ---------------------------------------------------------------------------

    pub fn get(&self, stage: StageId, store: &StoreName, id: ConnectionId) -> Option<EncodedRow> {
        let (rows, bytes) = self.find(stage, id)?;
        Some(rows.encoded(stage, store, id, bytes))
    }

    /// Returns all rows of all stages, with their attributes in the shared store.
    pub fn all(&self) -> Vec<EncodedRow> {
        let rows = self.stages.iter().chain(&self.left_behind).flat_map(|(stage, rows)| {
            rows.by_id.iter().map(|(id, bytes)| rows.encoded(*stage, &StoreName::Shared, *id, bytes))
        });
        rows.collect()
    }

    pub fn scan(&self, stage: StageId, store: &StoreName, after: Option<ConnectionId>) -> Page<EncodedRow> {
        scan(self.stages.get(&stage), stage, store, after)
    }

    /// Returns a page of the rows that an earlier process left behind, with their attributes in the shared store.
    pub fn left_behind(&self, stage: StageId, after: Option<ConnectionId>) -> Page<EncodedRow> {
        scan(self.left_behind.get(&stage), stage, &StoreName::Shared, after)
    }

    /// Returns the stages that have such rows.
    pub fn stages_left_behind(&self) -> Vec<StageId> {
        self.left_behind.keys().copied().collect()
    }

    pub fn query(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: &Field,
        after: Option<ConnectionId>,
    ) -> Page<EncodedRow> {
        let rows = self.stages.get(&stage);
        let found = rows.and_then(|rows| rows.index(store)?.get(attribute));
        let ids = found.into_iter().flat_map(|ids| ids.after(after));
        page(ids.filter_map(|id| self.get(stage, store, id)))
    }

    pub fn matching(&self, stage: StageId, store: &StoreName, attribute: &Field) -> Vec<ConnectionId> {
        let rows = self.stages.get(&stage);
        rows.and_then(|rows| Some(rows.index(store)?.get(attribute)?.after(None).collect())).unwrap_or_default()
    }

    // ---- saving ----------------------------------------------------------------------------

    /// Returns a row as it is saved, with its attributes in all stores; `None` if there is no such row.
    pub fn saved_bytes(&self, (stage, id): RowKey) -> Option<Vec<u8>> {
        let (rows, bytes) = self.find(stage, id)?;
        let stores = rows.named.iter().filter_map(|(name, store)| Some((&**name, &**store.attributes.get(&id)?)));
        Some(encoding::with_stores(bytes, stores.collect::<Vec<_>>().into_iter()))
    }

    /// Returns the keys of all rows.
    pub fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.stages.iter().chain(&self.left_behind).flat_map(|(stage, rows)| rows.by_id.keys().map(|id| (*stage, *id)))
    }

    pub fn unsaved_len(&self) -> usize {
        self.unsaved.len()
    }

    pub fn is_unsaved(&self, key: &RowKey) -> bool {
        self.unsaved.contains(key)
    }

    /// Returns the rows that were changed or removed since the last call.
    pub fn take_unsaved(&mut self) -> HashSet<RowKey> {
        std::mem::take(&mut self.unsaved)
    }

    pub fn is_missing(&self, (stage, id): &RowKey) -> bool {
        self.find(*stage, *id).is_none()
    }

    /// Records that a row is being saved.
    pub fn mark_saved(&mut self, key: &RowKey) {
        self.unsaved.remove(key);
    }

    /// Marks rows as unsaved again after a save failed.
    pub fn mark_unsaved(&mut self, keys: impl IntoIterator<Item = RowKey>) {
        self.unsaved.extend(keys);
    }

    /// Returns the differences between the indexes and the rows.
    pub fn verify(&self) -> Vec<String> {
        let mut found = Vec::new();
        for rows in self.stages.values().chain(self.left_behind.values()) {
            let shared = rows.by_id.iter().map(|(id, bytes)| (*id, encoding::attributes(bytes).expect(VALID_ROW)));
            found.extend(rows.shared.verify(shared.collect()));
            for (name, store) in &rows.named {
                let attributes = store.attributes.iter().map(|(id, bytes)| (*id, decode_attributes(bytes)));
                found.extend(store.index.verify(attributes.collect()));
                let orphans = store.attributes.keys().filter(|id| !rows.by_id.contains_key(id));
                found.extend(orphans.map(|id| format!("the store {name} has attributes of {id}, which has no row")));
            }
        }
        found
    }
}

impl StageRows {
    fn encoded(&self, stage: StageId, store: &StoreName, id: ConnectionId, bytes: &Arc<[u8]>) -> EncodedRow {
        let attributes = match store {
            StoreName::Shared => None,
            StoreName::Named(name) => {
                let found = self.named.get(name).and_then(|store| store.attributes.get(&id));
                Some(found.cloned().unwrap_or_else(|| encoding::encode_attributes(&[])))
            }
        };
        EncodedRow { id, stage, bytes: Arc::clone(bytes), attributes }
    }

    fn index(&self, store: &StoreName) -> Option<&Index> {
        match store {
            StoreName::Shared => Some(&self.shared),
            StoreName::Named(name) => self.named.get(name).map(|store| &store.index),
        }
    }

    /// Returns the attributes of a row in one store; `None` if there is no such row.
    fn attributes(&self, store: &StoreName, id: ConnectionId) -> Option<Vec<Field>> {
        let bytes = self.by_id.get(&id)?;
        Some(match store {
            StoreName::Shared => encoding::attributes(bytes).expect(VALID_ROW),
            StoreName::Named(name) => self.named.get(name).map_or_else(Vec::new, |store| store.attributes_of(id)),
        })
    }

    fn set_shared(&mut self, id: ConnectionId, before: &[Field], after: &[Field]) {
        let Some(bytes) = self.by_id.get_mut(&id) else { return };
        *bytes = encoding::with_attributes(bytes, after).expect(VALID_ROW);
        self.shared.change(id, before, after);
    }

    fn set_named(&mut self, name: &Arc<str>, id: ConnectionId, after: &[Field]) {
        let store = self.named.entry(Arc::clone(name)).or_default();
        store.set(id, after);
        if store.attributes.is_empty() {
            self.named.remove(name);
        }
    }
}

impl NamedStore {
    fn attributes_of(&self, id: ConnectionId) -> Vec<Field> {
        self.attributes.get(&id).map_or_else(Vec::new, |bytes| decode_attributes(bytes))
    }

    fn set(&mut self, id: ConnectionId, after: &[Field]) {
        let before = self.attributes_of(id);
        if after.is_empty() {
            self.attributes.remove(&id);
        } else {
            self.attributes.insert(id, encoding::encode_attributes(after));
        }
        self.index.change(id, &before, after);
    }
}

fn scan(rows: Option<&StageRows>, stage: StageId, store: &StoreName, after: Option<ConnectionId>) -> Page<EncodedRow> {
    page(rows.into_iter().flat_map(|rows| {
        rows.by_id.range(range_after(after)).map(|(id, bytes)| rows.encoded(stage, store, *id, bytes))
    }))
}

fn page(rows: impl Iterator<Item = EncodedRow>) -> Page<EncodedRow> {
    let mut rows = rows.peekable();
    let (mut items, mut bytes) = (Vec::new(), 0);
    while items.len() < limits::PAGE_ITEMS
        && bytes < PAGE_BYTES
        && let Some(row) = rows.next()
    {
        bytes += row.len();
        items.push(row);
    }
    let cursor = rows.peek().and(items.last()).map(|row: &EncodedRow| row.id.to_string());
    Page { items, cursor }
}
