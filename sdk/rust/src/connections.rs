//! The `@connections` operations, and the fan-out that they lack.

use std::fmt;

use crate::Payload;
pub use crate::bindings::jackfield::gateway::connections::{CloseFrame, ConnectionInfo};
use crate::host::connections as host;

/// Why an operation on a connection was refused: the failures of the `@connections` API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionError {
    /// No such connection, or not any more, or not yet (410).
    Gone,
    /// The payload is larger than a message may be (413).
    PayloadTooLarge,
    /// The peer reads too slowly, or the handler sends too much (429).
    LimitExceeded,
    /// The handler was not granted this (403).
    Forbidden,
}

/// Queues a message for the peer, on whichever node holds its connection.
///
/// Returns as soon as it is queued, not when it is delivered.
///
/// # Errors
/// `Gone` for a connection that is closed, or still in its `$connect`; `PayloadTooLarge` above
/// 128 KiB; `LimitExceeded` if its outbox is full.
pub fn post(id: &str, payload: impl Into<Payload>) -> Result<(), ConnectionError> {
    Ok(host::post_to_connection(id, &payload.into())?)
}

/// The same message to many, in one call: one result for each id, in their order.
pub fn post_many(
    ids: impl IntoIterator<Item = impl Into<String>>,
    payload: impl Into<Payload>,
) -> Vec<Result<(), ConnectionError>> {
    let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
    host::post_to_connections(&ids, &payload.into()).into_iter().map(|result| Ok(result?)).collect()
}

/// The same message to every connection whose row has the attribute `name` = `value`, but not to
/// `except`; says to how many it was queued.
///
/// One call however many they are, and no row has to be read for it.
///
/// # Errors
/// `PayloadTooLarge`, `LimitExceeded` and `Forbidden`. A connection that is gone, or whose outbox
/// is full, is not counted and is no error.
pub fn post_to_matching(
    name: &str,
    value: &str,
    payload: impl Into<Payload>,
    except: Option<&str>,
) -> Result<u32, ConnectionError> {
    Ok(host::post_to_matching(name, value, &payload.into(), except)?)
}

/// When it was opened, when it was last active, and who is at the other end.
///
/// # Errors
/// `Gone` for a connection that is closed, or still in its `$connect`.
pub fn get(id: &str) -> Result<ConnectionInfo, ConnectionError> {
    Ok(host::get_connection(id)?)
}

/// Closes the connection with 1000 and no reason.
///
/// # Errors
/// `Gone` for a connection that is closed, or still in its `$connect`.
pub fn delete(id: &str) -> Result<(), ConnectionError> {
    Ok(host::delete_connection(id, None)?)
}

/// Closes the connection with that code and reason.
///
/// # Errors
/// `Gone` for a connection that is closed, or still in its `$connect`.
pub fn delete_with(id: &str, code: u16, reason: &str) -> Result<(), ConnectionError> {
    let frame = CloseFrame { code, reason: reason.to_owned() };
    Ok(host::delete_connection(id, Some(&frame))?)
}

impl ConnectionError {
    /// The word that stands for it on the wire: `GONE`, `PAYLOAD_TOO_LARGE` and so on.
    pub fn code(self) -> &'static str {
        match self {
            ConnectionError::Gone => "GONE",
            ConnectionError::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            ConnectionError::LimitExceeded => "LIMIT_EXCEEDED",
            ConnectionError::Forbidden => "FORBIDDEN",
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionError::Gone => "the connection is gone",
            ConnectionError::PayloadTooLarge => "the payload is larger than a message may be",
            ConnectionError::LimitExceeded => "more was sent than the peer takes",
            ConnectionError::Forbidden => "the handler has no grant for connections",
        })
    }
}

impl std::error::Error for ConnectionError {}

impl From<host::ConnectionError> for ConnectionError {
    fn from(error: host::ConnectionError) -> Self {
        match error {
            host::ConnectionError::Gone => ConnectionError::Gone,
            host::ConnectionError::PayloadTooLarge => ConnectionError::PayloadTooLarge,
            host::ConnectionError::LimitExceeded => ConnectionError::LimitExceeded,
            host::ConnectionError::Forbidden => ConnectionError::Forbidden,
        }
    }
}
