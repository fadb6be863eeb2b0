//! One connection store of one stage: the rows and attributes that a caller with access to it can reach.
//!
//! All calls for rows on behalf of a guest or of `@jackfield/connections` go through here, so there is no call that
//! reaches a row of another stage, or the attributes of another store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rows::Rows;
use super::{BackendError, Page, Row, check_attribute, check_attributes, normalize_attributes, parse_cursor};
use crate::event::Field;
use crate::id::{ConnectionId, StageId};

/// Longest name of a store, as of every name in the manifest.
const STORE_NAME_BYTES_MAX: usize = 128;

/// A connection store of a stage. Every connection of the stage has a row in each store, with attributes of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreName {
    /// The store of all plugins that name no other one.
    #[default]
    Shared,
    Named(Arc<str>),
}

impl StoreName {
    /// Accepts a name of 1 to 128 characters of `A-Z a-z 0-9 _ -`.
    pub fn parse(name: &str) -> Option<Self> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        ((1..=STORE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_valid))
            .then(|| Self::Named(name.into()))
    }
}

/// A change of the attributes of a row. It is a value, so that another node can make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeChange {
    Put(Vec<Field>),
    Add(Field),
    Remove { name: String, value: Option<String> },
}

impl AttributeChange {
    /// Returns the attributes after the change.
    ///
    /// # Errors
    /// If there are too many then, or if one is too large.
    pub fn apply(self, mut attributes: Vec<Field>) -> Result<Vec<Field>, BackendError> {
        match self {
            Self::Put(attributes) => {
                check_attributes(&attributes)?;
                normalize_attributes(attributes)
            }
            Self::Add((name, value)) => {
                check_attribute(&name, &value)?;
                attributes.push((name, value));
                normalize_attributes(attributes)
            }
            Self::Remove { name, value } => {
                attributes.retain(|(n, v)| *n != name || value.as_ref().is_some_and(|value| v != value));
                Ok(attributes)
            }
        }
    }
}

#[derive(Clone, Copy)]
pub struct ConnectionStore<'b> {
    pub(super) rows: &'b Rows,
    pub stage: StageId,
    pub(super) name: &'b StoreName,
}

impl ConnectionStore<'_> {
    pub async fn get(self, id: ConnectionId) -> Result<Row, BackendError> {
        self.rows.row(self.stage, self.name, id).await?.ok_or(BackendError::NoSuchConnection)
    }

    /// Replaces all attributes of the row.
    ///
    /// A row that does not exist is reported before attributes that are too large, here and in `add`.
    pub async fn put(self, id: ConnectionId, attributes: Vec<Field>) -> Result<(), BackendError> {
        self.change(id, AttributeChange::Put(attributes)).await
    }

    /// Adds one attribute. Changes nothing if the row has it already.
    pub async fn add(self, id: ConnectionId, name: String, value: String) -> Result<(), BackendError> {
        self.change(id, AttributeChange::Add((name, value))).await
    }

    /// Removes one attribute, or all attributes of that name if `value` is `None`.
    pub async fn remove(self, id: ConnectionId, name: String, value: Option<String>) -> Result<(), BackendError> {
        self.change(id, AttributeChange::Remove { name, value }).await
    }

    pub async fn change(self, id: ConnectionId, change: AttributeChange) -> Result<(), BackendError> {
        self.rows.change_row(self.stage, self.name, id, change).await
    }

    /// Returns a page of the rows that have this attribute, sorted by id.
    pub async fn query(self, name: String, value: String, cursor: Option<String>) -> Result<Page<Row>, BackendError> {
        self.rows.query(self.stage, self.name, (name, value), parse_cursor(cursor)?).await
    }

    /// Returns all connections whose row has this attribute.
    pub async fn matching(self, name: String, value: String) -> Result<Vec<ConnectionId>, BackendError> {
        self.rows.matching(self.stage, self.name, (name, value)).await
    }

    /// Returns the ids of all rows, sorted.
    pub async fn ids(self) -> Result<Vec<ConnectionId>, BackendError> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = self.rows.scan(self.stage, self.name, after).await?;
            ids.extend(page.items.iter().map(|row| row.id));
            after = page.cursor.and(ids.last().copied());
            if after.is_none() {
                return Ok(ids);
            }
        }
    }

    /// Returns a page of all rows, sorted by id.
    pub async fn scan(self, cursor: Option<String>) -> Result<Page<Row>, BackendError> {
        self.rows.scan(self.stage, self.name, parse_cursor(cursor)?).await
    }
}
