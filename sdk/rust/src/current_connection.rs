//! The connection whose event is being handled.

use crate::ConnectionContext;
use crate::host::current_connection as host;

/// Returns the properties of the connection that do not change while it is open: the identity of the peer, the stage,
/// and the values that the authorizer granted.
///
/// They are not part of every event, because most handlers do not need them and each event copies its strings.
pub fn context() -> ConnectionContext {
    host::context()
}

/// Returns the event that is being handled as JSON, exactly as API Gateway sends it to a Lambda function. In an
/// authorizer it is the event of a REQUEST authorizer.
pub fn event() -> String {
    host::event()
}
