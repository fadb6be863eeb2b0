//! The users of the manifest: whose access keys may sign a handshake.

use std::collections::BTreeMap;

use crate::event::EpochMillis;
use crate::sigv4::{self, AccessKeys, Refused, Request};

/// Those that may `execute-api:Invoke`.
#[derive(Clone, Default, PartialEq)]
pub struct Users {
    keys: AccessKeys,
    /// By the ids of their access keys.
    names: BTreeMap<String, String>,
}

impl Users {
    pub fn new(keys: AccessKeys, names: BTreeMap<String, String>) -> Self {
        Self { keys, names }
    }

    /// The name of the user who signed an upgrade request.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn signed(&self, request: &Request<'_>, now: EpochMillis) -> Result<String, Refused> {
        let key = sigv4::verify(request, &self.keys, now)?;
        Ok(self.names.get(&key).cloned().unwrap_or(key))
    }
}
