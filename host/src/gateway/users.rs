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

    /// Returns the ids of the access keys.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.keys.keys()
    }

    /// Returns the users with the access keys that `is_valid` selects by their ids.
    pub fn with_keys(&self, is_valid: impl Fn(&str) -> bool) -> Self {
        let keys = self.keys.iter().filter(|(id, _)| is_valid(id));
        let keys = keys.map(|(id, secret)| (id.clone(), secret.clone())).collect();
        Self { keys, names: self.names.clone() }
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
