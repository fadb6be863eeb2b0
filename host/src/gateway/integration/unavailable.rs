//! An integration whose component has not loaded: each of its events fails at once.

use std::sync::Arc;

pub struct Unavailable {
    /// The name in the manifest.
    pub name: Arc<str>,
}
