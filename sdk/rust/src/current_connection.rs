//! The connection whose event is being handled.

use crate::ConnectionContext;
use crate::host::current_connection as host;

/// What stays the same for as long as the connection is open: who is at the other end, on which
/// stage, and what the authorizer said.
///
/// It is a call and not part of every event, because most events do without it.
pub fn context() -> ConnectionContext {
    host::context()
}
