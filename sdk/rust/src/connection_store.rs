//! One row for each live connection, with attributes that are all indexed.
//!
//! The host adds the row before `$connect` runs and removes it after `$disconnect` has run, so a handler has nothing to
//! clean up. A handler adds attributes to rows and later finds the rows by them.
//!
//! ```
//! # use jackfield_sdk::prelude::*;
//! # struct Rooms;
//! # impl Plugin for Rooms {
//! fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
//!     let room = request.query("room").unwrap_or("lobby");
//!     connection_store::add(&context.connection_id, "room", room)?;
//!     Ok(Response::ok())
//! }
//! # }
//!
//! fn members(room: &str) -> Result<Vec<String>> {
//!     let mut ids = Vec::new();
//!     for row in connection_store::query("room", room) {
//!         ids.push(row?.connection_id);
//!     }
//!     Ok(ids)
//! }
//! ```

use std::fmt;

pub use crate::bindings::jackfield::gateway::connection_store::Row;
use crate::host::connection_store as host;
use crate::pages::Pages;

/// The reason why an operation of the connection store failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The connection has no row, or has none any more.
    NoSuchConnection,
    /// The row would have more attributes, or longer ones, than the limits allow.
    TooLarge,
    /// The manifest does not grant the connection store to this handler.
    AccessDenied,
    /// The store could not be reached or failed, for this reason.
    Unavailable(String),
}

/// Returns the row of a connection.
///
/// # Errors
/// `NoSuchConnection` if the connection has no row.
pub fn get(id: &str) -> Result<Row, StoreError> {
    Ok(host::get(id)?)
}

/// Replaces all attributes of the row.
///
/// # Errors
/// `NoSuchConnection` if there is no row, `TooLarge` if the attributes are too many or too long.
pub fn put(
    id: &str,
    attributes: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
) -> Result<(), StoreError> {
    let attributes: Vec<(String, String)> =
        attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(host::put(id, &attributes)?)
}

/// Adds one attribute. Nothing changes if the row has it already.
///
/// A name can have several values; so a connection can be in several rooms.
///
/// # Errors
/// `NoSuchConnection` if there is no row, `TooLarge` if it would have too many attributes.
pub fn add(id: &str, name: &str, value: &str) -> Result<(), StoreError> {
    Ok(host::add(id, name, value)?)
}

/// Removes one attribute, or with `None` every attribute of that name.
///
/// # Errors
/// `NoSuchConnection` if there is no row.
pub fn remove(id: &str, name: &str, value: Option<&str>) -> Result<(), StoreError> {
    Ok(host::remove(id, name, value)?)
}

/// Iterates over the rows that have this attribute.
///
/// The iterator fetches the rows in pages, when they are needed.
pub fn query(name: &str, value: &str) -> Rows {
    Rows::new(Some((name.to_owned(), value.to_owned())))
}

/// Iterates over all rows.
///
/// The iterator fetches the rows in pages, when they are needed.
pub fn scan() -> Rows {
    Rows::new(None)
}

/// The rows of a [`query`] or a [`scan`].
///
/// If a page cannot be fetched, the error is the last item.
#[derive(Debug)]
pub struct Rows {
    attribute: Option<(String, String)>,
    pages: Pages<Row>,
}

impl Rows {
    fn new(attribute: Option<(String, String)>) -> Self {
        Rows { attribute, pages: Pages::new() }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pages.next(|cursor| {
            let page = match &self.attribute {
                Some((name, value)) => host::query(name, value, cursor)?,
                None => host::scan(cursor)?,
            };
            Ok((page.rows, page.cursor))
        })
    }
}

impl Row {
    /// Returns the first value of the attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Iterates over all values of the attribute `name`.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoSuchConnection => f.write_str("the connection has no row"),
            StoreError::TooLarge => f.write_str("the row would be larger than a row may be"),
            StoreError::AccessDenied => f.write_str("the handler has no grant for the connection store"),
            StoreError::Unavailable(reason) => {
                write!(f, "the connection store is unavailable: {reason}")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl From<host::StoreError> for StoreError {
    fn from(error: host::StoreError) -> Self {
        match error {
            host::StoreError::NoSuchConnection => StoreError::NoSuchConnection,
            host::StoreError::TooLarge => StoreError::TooLarge,
            host::StoreError::AccessDenied => StoreError::AccessDenied,
            host::StoreError::Unavailable(reason) => StoreError::Unavailable(reason),
        }
    }
}
