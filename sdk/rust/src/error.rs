//! The error type of handlers, to which `?` converts every other error.

use std::error::Error as StdError;
use std::fmt;

use crate::bindings::jackfield::gateway::types::Failure;

/// The result of a callback.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The failure of a handler. The host logs its text and never sends it to the peer.
///
/// `?` converts every `std::error::Error`, every `String` and every `&str` to it:
///
/// ```
/// # use jackfield_sdk::prelude::*;
/// fn user(request: &ConnectEvent) -> Result<u32> {
///     let id = request.query("userId").ok_or("no userId in the query string")?;
///     Ok(id.parse()?)
/// }
/// ```
///
/// It has no variants. A handler that reacts to a failure matches on the error of the host function, for example on
/// [`ConnectionError::Gone`](crate::connections::ConnectionError::Gone), before `?` converts it.
pub struct Error(Box<dyn StdError + Send + Sync>);

impl Error {
    /// Returns the original error, if it is a `T`.
    pub fn downcast_ref<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Returns the failure that the host logs. Rust's errors have no stack.
pub fn failure(error: Error) -> Failure {
    Failure { message: error.to_string(), stack: None }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Error {
    fn from(cause: E) -> Self {
        Error(cause.into())
    }
}

impl fmt::Display for Error {
    /// Formats the error and its causes, the outermost first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    // A test that returns `Err` prints this text, and there the sentence is more useful than the structure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
