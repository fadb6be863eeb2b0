//! The `@connections` operations, and posts to many connections, which API Gateway does not have.

use std::fmt;

use crate::Payload;
pub use crate::bindings::jackfield::gateway::connections::{CloseFrame, ConnectionInfo};
use crate::host::connections as host;

/// The reason why an operation on a connection was rejected: the failures of the `@connections` API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionError {
    /// There is no such connection, it is closed, or its `$connect` has not ended (410).
    Gone,
    /// The payload is larger than the limit for a message (413).
    PayloadTooLarge,
    /// The peer reads too slowly, or the handler sends too much (429).
    LimitExceeded,
    /// The manifest does not grant connections to this handler (403).
    Forbidden,
}

/// Queues a message for the peer, on any node that holds its connection.
///
/// Returns as soon as it is queued, not when it is delivered.
///
/// # Errors
/// `Gone` if the connection is closed or its `$connect` has not ended, `PayloadTooLarge` above 128 KiB, `LimitExceeded`
/// if the outbox of the connection is full.
pub fn post(id: &str, payload: impl Into<Payload>) -> Result<(), ConnectionError> {
    Ok(host::post_to_connection(id, &payload.into())?)
}

/// Queues the same message for many connections in one call. Returns one result for each id, in the order of the ids.
pub fn post_many(
    ids: impl IntoIterator<Item = impl Into<String>>,
    payload: impl Into<Payload>,
) -> Vec<Result<(), ConnectionError>> {
    let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
    host::post_to_connections(&ids, &payload.into()).into_iter().map(|result| Ok(result?)).collect()
}

/// Queues the same message for every connection whose row has the attribute `name` = `value`, except for the connection
/// `except`. Returns for how many connections it was queued.
///
/// This is one call for any number of connections, and the handler does not have to read their rows.
///
/// # Errors
/// `PayloadTooLarge`, `LimitExceeded` and `Forbidden`. A connection that is gone or whose outbox is full is not counted
/// and causes no error.
pub fn post_to_matching(
    name: &str,
    value: &str,
    payload: impl Into<Payload>,
    except: Option<&str>,
) -> Result<u32, ConnectionError> {
    Ok(host::post_to_matching(name, value, &payload.into(), except)?)
}

/// Returns when the connection was opened, when it was last active, and the identity of its peer.
///
/// # Errors
/// `Gone` if the connection is closed or its `$connect` has not ended.
pub fn get(id: &str) -> Result<ConnectionInfo, ConnectionError> {
    Ok(host::get_connection(id)?)
}

/// Closes the connection with code 1000 and no reason.
///
/// # Errors
/// `Gone` if the connection is closed or its `$connect` has not ended.
pub fn delete(id: &str) -> Result<(), ConnectionError> {
    Ok(host::delete_connection(id, None)?)
}

/// Closes the connection with this code and reason.
///
/// # Errors
/// `Gone` if the connection is closed or its `$connect` has not ended.
pub fn delete_with(id: &str, code: u16, reason: &str) -> Result<(), ConnectionError> {
    let frame = CloseFrame { code, reason: reason.to_owned() };
    Ok(host::delete_connection(id, Some(&frame))?)
}

impl ConnectionError {
    /// Returns the name of the error for messages to peers: `GONE`, `PAYLOAD_TOO_LARGE`, `LIMIT_EXCEEDED` or
    /// `FORBIDDEN`.
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
