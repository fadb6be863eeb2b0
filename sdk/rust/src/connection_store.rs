//! One row for each live connection, with attributes that are all indexed.
//!
//! The host adds the row before `$connect` runs and drops it after `$disconnect` has run, so a
//! handler has nothing to clean up: it notes what it must find again, and asks.
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

/// Why the connection store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no row for that connection, or not any more.
    NoSuchConnection,
    /// More attributes, or longer ones, than a row may have.
    TooLarge,
    /// The handler was not granted this.
    AccessDenied,
    /// The store could not be reached or failed; the text says how.
    Unavailable(String),
}

/// The row of a connection.
///
/// # Errors
/// `NoSuchConnection` if it has none.
pub fn get(id: &str) -> Result<Row, StoreError> {
    Ok(host::get(id)?)
}

/// Replaces all attributes of the row.
///
/// # Errors
/// `NoSuchConnection` if there is none, `TooLarge` if they are too many or too long.
pub fn put(
    id: &str,
    attributes: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
) -> Result<(), StoreError> {
    let attributes: Vec<(String, String)> =
        attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(host::put(id, &attributes)?)
}

/// Adds one attribute; no change where the row has it already.
///
/// A name may have several values: that is how a connection is in several rooms.
///
/// # Errors
/// `NoSuchConnection` if there is no row, `TooLarge` if it would have too many attributes.
pub fn add(id: &str, name: &str, value: &str) -> Result<(), StoreError> {
    Ok(host::add(id, name, value)?)
}

/// Takes away that attribute, or all of that name where no value is given.
///
/// # Errors
/// `NoSuchConnection` if there is no row.
pub fn remove(id: &str, name: &str, value: Option<&str>) -> Result<(), StoreError> {
    Ok(host::remove(id, name, value)?)
}

/// The rows that have this attribute.
///
/// They come a page at a time, as they are asked for.
pub fn query(name: &str, value: &str) -> Rows {
    Rows::new(Some((name.to_owned(), value.to_owned())))
}

/// All rows.
///
/// They come a page at a time, as they are asked for.
pub fn scan() -> Rows {
    Rows::new(None)
}

/// The rows of a [`query`] or a [`scan`].
///
/// A page that cannot be fetched is an `Err`, and the last item.
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
    /// The first value of that attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of that attribute.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(its, _)| its == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoSuchConnection => f.write_str("the connection has no row"),
            StoreError::TooLarge => f.write_str("the row would be larger than a row may be"),
            StoreError::AccessDenied => f.write_str("the handler has no grant for the connection store"),
            StoreError::Unavailable(why) => {
                write!(f, "the connection store is unavailable: {why}")
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
            host::StoreError::Unavailable(why) => StoreError::Unavailable(why),
        }
    }
}
