//! One error that `?` makes of any other.

use std::error::Error as StdError;
use std::fmt;

/// What a callback returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A handler's own failure: its text goes to the host's log, never to the peer.
///
/// `?` makes one of every `std::error::Error`, of a `String` and of a `&str`:
///
/// ```
/// # use jackfield_sdk::prelude::*;
/// fn user(request: &ConnectEvent) -> Result<u32> {
///     let id = request.query("userId").ok_or("no userId in the query string")?;
///     Ok(id.parse()?)
/// }
/// ```
///
/// It has no variants to branch on. Where a handler wants to do something about a failure it
/// matches on what the host function returned, say
/// [`ConnectionError::Gone`](crate::connections::ConnectionError::Gone), before `?` makes this of it.
pub struct Error(Box<dyn StdError + Send + Sync>);

impl Error {
    /// The error this was made of, if it is a `T`.
    pub fn downcast_ref<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Error {
    fn from(cause: E) -> Self {
        Error(cause.into())
    }
}

impl fmt::Display for Error {
    /// The error and what caused it, from the outside in.
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
    // A test that returns `Err` prints this, and there the sentence says more than the structure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
