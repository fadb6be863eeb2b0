//! The users of the manifest, whose access keys may sign a handshake.

use std::collections::BTreeMap;

use crate::event::EpochMillis;
use crate::sigv4::{self, AccessKeys, Request, SignatureError};

/// The users who are allowed `execute-api:Invoke`.
#[derive(Clone, Default, PartialEq)]
pub struct Users {
    keys: AccessKeys,
    /// The names of the users, by the ids of their access keys.
    names: BTreeMap<String, String>,
}

impl Users {
    pub fn new(keys: AccessKeys, names: BTreeMap<String, String>) -> Self {
        Self { keys, names }
    }

    /// Verifies the signature of an upgrade request and returns the name of the user who signed it.
    ///
    /// # Errors
    /// Why the signature is rejected.
    pub fn verify(&self, request: &Request<'_>, now: EpochMillis) -> Result<String, SignatureError> {
        let key = sigv4::verify(request, &self.keys, now)?;
        Ok(self.names.get(&key).cloned().unwrap_or(key))
    }
}
