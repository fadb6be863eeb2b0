//! Revoked keys: keys of the manifest that no node accepts until they are restored.
//!
//! The list is in the store. Each node has it in memory, reads it again every `REVOKED_KEYS_INTERVAL`, and adds what the store
//! has lost. A node that cannot read it keeps what it knows. Knows the names of keys, the ids of access keys and the hashes of
//! API keys, but no key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backend::{BackendError, Bucket, BucketQuota};
use crate::event::{EpochMillis, now};
use crate::gateway::{Access, ApiKeyHash, Gateway};
use crate::limits::{REVOKED_KEYS_INTERVAL, REVOKED_KEYS_MAX};

/// Key-value bucket of the list. No manifest can grant it to a guest, because names have no control characters. It has one
/// value, whose size `REVOKED_KEYS_MAX` limits.
const BUCKET: Bucket<'_> = Bucket { name: "\u{1}revoked-keys", quota: BucketQuota::UNLIMITED };
const LIST: &str = "all";

/// How often a change is tried again because another node has made one at the same time.
const ATTEMPTS: usize = 32;

/// How many names an error lists.
const LISTED_NAMES_MAX: usize = 50;

/// What is revoked: an access key, by its id, or an API key, by its hash, so that neither another name makes it valid again nor
/// another key of the same name is rejected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyIdentity {
    AccessKey(String),
    ApiKey(String),
}

impl KeyIdentity {
    pub fn of_api_key(hash: &ApiKeyHash) -> Self {
        Self::ApiKey(hash.0.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The keys that are or were revoked, with the number of their changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevokedKeys(BTreeMap<KeyIdentity, Revocation>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Revocation {
    /// The name of the section that the key had in the manifest, such as `api_keys.alice`.
    section: String,
    is_revoked: bool,
    /// How often the key was revoked and restored. Of two lists, the one with more changes is right.
    changes: u64,
    at: EpochMillis,
}

/// A revoked key, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevokedKey {
    /// The name of its section in the manifest.
    pub key: String,
    /// When it was revoked, in milliseconds of the Unix epoch.
    pub at: EpochMillis,
}

#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error("the manifest has no key {0:?}; {1}")]
    Unknown(String, String),
    #[error("there are several keys {0:?}: name one of {1}")]
    Ambiguous(String, String),
    #[error("no key {0:?} is revoked; {1}")]
    NotRevoked(String, String),
    #[error(
        "{REVOKED_KEYS_MAX} keys are or were revoked, and a list has no more; remove the key from the manifest instead"
    )]
    TooMany,
    #[error("the store has a list of revoked keys that is damaged")]
    Damaged,
    #[error(transparent)]
    Store(#[from] BackendError),
}

/// A key that is revoked or restored.
struct Change {
    identity: KeyIdentity,
    section: String,
    is_revoked: bool,
}

impl RevokedKeys {
    pub fn contains(&self, identity: &KeyIdentity) -> bool {
        self.0.get(identity).is_some_and(|revocation| revocation.is_revoked)
    }

    pub fn is_empty(&self) -> bool {
        !self.0.values().any(|revocation| revocation.is_revoked)
    }

    fn parse(bytes: &[u8]) -> Result<Self, RevocationError> {
        let list: Vec<(KeyIdentity, Revocation)> =
            serde_json::from_slice(bytes).map_err(|_| RevocationError::Damaged)?;
        Ok(Self(list.into_iter().collect()))
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0.iter().collect::<Vec<_>>()).expect("texts and numbers are JSON")
    }

    /// Adds what another list knows. It is the same whichever list is added to which. Where that is not known, a key is revoked.
    fn merge(&mut self, other: &Self) {
        for (identity, found) in &other.0 {
            let known = self.0.entry(identity.clone()).or_insert_with(|| found.clone());
            let rank = |revocation: &Revocation| (revocation.changes, revocation.is_revoked, revocation.at);
            if rank(found) > rank(known) {
                known.clone_from(found);
            }
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), RevocationError> {
        if self.contains(&change.identity) == change.is_revoked {
            return Ok(());
        }
        let changes = self.0.get(&change.identity).map_or(0, |revocation| revocation.changes);
        let (section, is_revoked) = (change.section.clone(), change.is_revoked);
        self.0.insert(change.identity.clone(), Revocation { section, is_revoked, changes: changes + 1, at: now() });
        if self.0.len() > REVOKED_KEYS_MAX { Err(RevocationError::TooMany) } else { Ok(()) }
    }

    /// Returns the revoked keys by the names of their sections.
    fn revoked(&self) -> impl Iterator<Item = (&KeyIdentity, &Revocation)> {
        self.0.iter().filter(|(_, revocation)| revocation.is_revoked)
    }

    fn names(&self) -> Vec<&str> {
        self.revoked().map(|(_, revocation)| &*revocation.section).collect()
    }
}

impl Gateway {
    /// Reads which keys are revoked. A server must not serve before this.
    ///
    /// # Errors
    /// If the store does not answer, or has a list that is damaged.
    pub async fn read_revoked_keys(&self) -> Result<(), RevocationError> {
        self.change_revoked_keys(&[]).await
    }

    /// Reads them again until `stop`, if other nodes can change them.
    pub async fn follow_revoked_keys(self: Arc<Self>, stop: CancellationToken) {
        if self.backend.renewal_interval().is_none() {
            return;
        }
        while stop.run_until_cancelled(tokio::time::sleep(REVOKED_KEYS_INTERVAL)).await.is_some() {
            if let Err(error) = self.read_revoked_keys().await {
                self.revoked_log.log(|suppressed| {
                    warn!(suppressed, "cannot read which keys are revoked, so they stay as they were: {error}");
                });
            }
        }
    }

    /// Revokes a key of the manifest on all nodes. Returns the name of its section.
    ///
    /// # Errors
    /// If the manifest has no such key, or the store does not keep it; then nothing has changed.
    pub async fn revoke_key(&self, name: &str) -> Result<String, RevocationError> {
        let keys = self.manifest_access().keys();
        let mut found = keys.iter().filter(|(section, _)| is_named(section, name));
        let Some((section, identity)) = found.next() else {
            let known = listed("its keys are", keys.keys().map(|section| &**section));
            return Err(RevocationError::Unknown(name.to_owned(), known));
        };
        if let Some((other, _)) = found.next() {
            return Err(RevocationError::Ambiguous(name.to_owned(), format!("{section}, {other}")));
        }
        let change = Change { identity: identity.clone(), section: section.clone(), is_revoked: true };
        self.change_revoked_keys(&[change]).await?;
        Ok(section.clone())
    }

    /// Restores a revoked key on all nodes, or all that had this name. Returns the name of its section.
    ///
    /// # Errors
    /// If no such key is revoked, or the store does not keep it; then nothing has changed.
    pub async fn restore_key(&self, name: &str) -> Result<String, RevocationError> {
        // Another node may have revoked it a moment ago.
        self.read_revoked_keys().await?;
        let revoked = self.revoked_keys.load_full();
        let found: Vec<Change> = revoked
            .revoked()
            .filter(|(_, revocation)| is_named(&revocation.section, name))
            .map(|(identity, revocation)| Change {
                identity: identity.clone(),
                section: revocation.section.clone(),
                is_revoked: false,
            })
            .collect();
        let Some(section) = found.first().map(|change| change.section.clone()) else {
            let known = listed("the revoked keys are", revoked.names().into_iter());
            return Err(RevocationError::NotRevoked(name.to_owned(), known));
        };
        if let Some(other) = found.iter().find(|change| change.section != section) {
            let names = format!("{section}, {}", other.section);
            return Err(RevocationError::Ambiguous(name.to_owned(), names));
        }
        self.change_revoked_keys(&found).await?;
        Ok(section)
    }

    /// Returns the keys that are revoked, as far as this node knows.
    pub fn revoked_keys(&self) -> Vec<RevokedKey> {
        let revoked = self.revoked_keys.load();
        let keys = revoked.revoked().map(|(_, key)| RevokedKey { key: key.section.clone(), at: key.at });
        keys.collect()
    }

    /// Merges the list of the store and the one of this node, applies the changes, and writes what the store does not have.
    async fn change_revoked_keys(&self, changes: &[Change]) -> Result<(), RevocationError> {
        for _ in 0..ATTEMPTS {
            let bytes = self.backend.get(BUCKET.name, LIST.to_owned()).await?;
            let stored = bytes.as_deref().map(RevokedKeys::parse).transpose()?.unwrap_or_default();
            let mut merged = stored.clone();
            merged.merge(&self.revoked_keys.load());
            changes.iter().try_for_each(|change| merged.apply(change))?;
            if merged != stored {
                let expected = bytes.as_deref().map(blake3::hash);
                let swapped = self.backend.compare_and_swap(BUCKET, LIST.to_owned(), expected, merged.encode()).await?;
                if swapped.is_err() {
                    continue;
                }
                self.backend.flush().await?;
            }
            self.apply_revoked_keys(merged);
            return Ok(());
        }
        Err(BackendError::Unavailable("the list of revoked keys is changed all the time".to_owned()).into())
    }

    fn apply_revoked_keys(&self, mut keys: RevokedKeys) {
        let access = self.manifest_access();
        let before = self.revoked_keys.load_full();
        keys.merge(&before);
        if keys == *before {
            return;
        }
        let missing = |one: &RevokedKeys, other: &RevokedKeys| {
            let names = one.revoked().filter(|(identity, _)| !other.contains(identity));
            let names: Vec<&str> = names.map(|(_, revocation)| &*revocation.section).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let (revoked, restored) = (missing(&keys, &before), missing(&before, &keys));
        self.revoked_keys.store(Arc::new(keys));
        self.apply_access(&access);
        info!(revoked, restored, "applied the list of revoked keys");
    }
}

/// Whether a key with this section has the name that an operator gives: `alice` or `api_keys.alice`.
fn is_named(section: &str, name: &str) -> bool {
    section == name || section.split_once('.').is_some_and(|(_, short)| short == name)
}

fn listed<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "there is none".to_owned(),
        count if count > LISTED_NAMES_MAX => {
            format!("{what} {} and {} more", names[..LISTED_NAMES_MAX].join(", "), count - LISTED_NAMES_MAX)
        }
        _ => format!("{what} {}", names.join(", ")),
    }
}

impl Access {
    /// Returns the sections of all keys of the manifest.
    fn keys(&self) -> BTreeMap<String, KeyIdentity> {
        let access_keys = self.management.keys().keys().chain(self.users.ids());
        let access_keys = access_keys.map(|id| (format!("access_keys.{id}"), KeyIdentity::AccessKey(id.clone())));
        let api_keys = self.api_keys.all();
        let api_keys = api_keys.map(|(hash, key)| (format!("api_keys.{}", key.id), KeyIdentity::of_api_key(hash)));
        access_keys.chain(api_keys).collect()
    }

    /// Returns these settings without the keys that are revoked.
    pub fn without(&self, revoked: &RevokedKeys) -> Self {
        if revoked.is_empty() {
            return self.clone();
        }
        let is_valid = |id: &str| !revoked.contains(&KeyIdentity::AccessKey(id.to_owned()));
        Self {
            management: Arc::new(self.management.with_keys(is_valid)),
            users: Arc::new(self.users.with_keys(is_valid)),
            api_keys: Arc::new(self.api_keys.with_keys(|hash| !revoked.contains(&KeyIdentity::of_api_key(hash)))),
            origins: self.origins.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyIdentity {
        KeyIdentity::AccessKey(name.to_owned())
    }

    fn changed(changes: &[(&str, bool)]) -> RevokedKeys {
        let mut keys = RevokedKeys::default();
        for (name, is_revoked) in changes {
            let change =
                Change { identity: key(name), section: format!("access_keys.{name}"), is_revoked: *is_revoked };
            keys.apply(&change).unwrap();
        }
        keys
    }

    #[test]
    fn lists_are_merged_in_any_order_and_more_changes_win() {
        for (one, other, revoked) in [
            (&[("a", true)][..], &[][..], true),
            (&[("a", true), ("a", false)], &[("a", true)], false),
            (&[("a", true), ("a", false), ("a", true)], &[("a", true), ("a", false)], true),
            (&[("b", true)], &[("a", true)], true),
        ] {
            let (mut first, mut second) = (changed(one), changed(other));
            let before = first.clone();
            first.merge(&second);
            second.merge(&before);
            assert_eq!(first, second);
            assert_eq!(first.contains(&key("a")), revoked, "{one:?} {other:?}");
        }
        // The same number of changes: a store that has lost its list, and a key that was revoked there again.
        let (mut revoked, mut restored) = (changed(&[("a", true)]), changed(&[("a", true)]));
        restored.0.get_mut(&key("a")).unwrap().is_revoked = false;
        restored.merge(&revoked);
        assert!(restored.contains(&key("a")));
        revoked.merge(&restored);
        assert!(revoked.contains(&key("a")));
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_a_damaged_one_is_an_error() {
        let mut keys = changed(&[("a", true), ("b", true), ("b", false)]);
        let change = Change {
            identity: KeyIdentity::of_api_key(&ApiKeyHash::of("secret")),
            section: "api_keys.team".to_owned(),
            is_revoked: true,
        };
        keys.apply(&change).unwrap();
        assert!(!String::from_utf8(keys.encode()).unwrap().contains("secret"));
        assert_eq!(RevokedKeys::parse(&keys.encode()).unwrap(), keys);
        assert_eq!(RevokedKeys::parse(b"[]").unwrap(), RevokedKeys::default());
        for damaged in [&b""[..], b"{}", b"[[\"a\"]]"] {
            assert!(RevokedKeys::parse(damaged).is_err());
        }
    }

    #[test]
    fn the_number_of_revoked_keys_is_limited() {
        let names: Vec<String> = (0..REVOKED_KEYS_MAX).map(|number| number.to_string()).collect();
        let changes: Vec<(&str, bool)> = names.iter().map(|name| (&**name, true)).collect();
        let mut keys = changed(&changes);
        let change = |name: &str| Change { identity: key(name), section: name.to_owned(), is_revoked: true };
        assert!(matches!(keys.clone().apply(&change("one more")), Err(RevocationError::TooMany)));
        assert!(keys.apply(&change("0")).is_ok());
        // The longest names fit into one value.
        let longest = format!("api_keys.{}", "x".repeat(128));
        for revocation in keys.0.values_mut() {
            revocation.section.clone_from(&longest);
        }
        let api_keys = keys.0.into_iter().map(|(id, revocation)| {
            let KeyIdentity::AccessKey(id) = id else { unreachable!("all are access keys") };
            (KeyIdentity::of_api_key(&ApiKeyHash::of(&id)), revocation)
        });
        assert!(RevokedKeys(api_keys.collect()).encode().len() <= crate::limits::VALUE_BYTES_MAX);
    }
}
