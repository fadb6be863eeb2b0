//! The index of one store: which rows have an attribute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crate::event::Field;
use crate::id::ConnectionId;

#[derive(Default)]
pub struct Index {
    by_attribute: HashMap<Field, Ids>,
}

impl Index {
    pub fn get(&self, attribute: &Field) -> Option<&Ids> {
        self.by_attribute.get(attribute)
    }

    pub fn add<'a>(&mut self, id: ConnectionId, attributes: impl IntoIterator<Item = &'a Field>) {
        for attribute in attributes {
            match self.by_attribute.get_mut(attribute) {
                Some(ids) => ids.insert(id),
                None => _ = self.by_attribute.insert(attribute.clone(), Ids::One(id)),
            }
        }
    }

    pub fn remove<'a>(&mut self, id: ConnectionId, attributes: impl IntoIterator<Item = &'a Field>) {
        for attribute in attributes {
            match self.by_attribute.get_mut(attribute) {
                Some(Ids::Many(ids)) if ids.len() > 1 => _ = ids.remove(&id),
                Some(_) => _ = self.by_attribute.remove(attribute),
                None => {}
            }
        }
    }

    /// Replaces the attributes of a row. Both lists are sorted.
    pub fn change(&mut self, id: ConnectionId, before: &[Field], after: &[Field]) {
        self.remove(id, before.iter().filter(|attribute| after.binary_search(attribute).is_err()));
        self.add(id, after.iter().filter(|attribute| before.binary_search(attribute).is_err()));
    }

    /// Returns the differences between the index and the attributes of the rows.
    pub fn verify(&self, rows: BTreeMap<ConnectionId, Vec<Field>>) -> Vec<String> {
        let mut found = Vec::new();
        for (id, attributes) in &rows {
            for attribute in attributes {
                if !self.get(attribute).is_some_and(|ids| ids.contains(*id)) {
                    found.push(format!("row {id} has attribute {attribute:?}, which the index does not contain"));
                }
            }
        }
        for (attribute, ids) in &self.by_attribute {
            for id in ids.after(None) {
                if !rows.get(&id).is_some_and(|attributes| attributes.contains(attribute)) {
                    found.push(format!("the index has {attribute:?} for row {id}, which does not have it"));
                }
            }
        }
        found
    }
}

/// The connections that have one attribute. Many attributes, such as the user, belong to one connection only. A tree
/// for each of them would need more memory than the rest of the row.
pub enum Ids {
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

    /// Returns the ids greater than `id` in ascending order; all of them if `id` is `None`.
    pub fn after(&self, id: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        let (one, many) = match self {
            Self::One(one) => (Some(*one).filter(|one| id.is_none_or(|id| *one > id)), None),
            Self::Many(ids) => (None, Some(ids.range(range_after(id)))),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

pub fn range_after(id: Option<ConnectionId>) -> (Bound<ConnectionId>, Bound<ConnectionId>) {
    (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}
