//! The keys of one issuer: fetched when a token first needs them, cached, and refreshed while tokens arrive.
//!
//! Does not know what a token is. There is at most one request for keys at a time; all callers that need its result
//! wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{info, warn};

use super::KeySource;
use super::key_set::KeySet;
use crate::file_state::FileState;
use crate::gateway::integration::Transport;

mod cache;
mod reader;

use cache::{KeyCache, RefreshReason};
use reader::{KeyReader, ReadResult};

pub use cache::RefreshPolicy;

#[derive(Clone)]
pub struct IssuerKeys(Arc<Shared>);

struct Shared {
    reader: KeyReader,
    policy: RefreshPolicy,
    cache: Mutex<KeyCache>,
    /// Locked while keys are being read, so that there is one request at a time.
    refresh_lock: tokio::sync::Mutex<()>,
}

/// A document that has been read from the source.
struct Update {
    /// `None` if the content has not changed.
    keys: Option<Arc<KeySet>>,
    content: blake3::Hash,
    state: Option<FileState>,
}

impl IssuerKeys {
    pub fn new(source: KeySource, transport: Transport, policy: RefreshPolicy) -> Self {
        let reader = KeyReader::new(source, transport, policy.timeout);
        Self(Arc::new(Shared { reader, policy, cache: Mutex::default(), refresh_lock: tokio::sync::Mutex::default() }))
    }

    /// Returns the cached keys; waits for them if there are none. Old keys of a URL are returned at once and refreshed
    /// in the background; old keys of a file are read again first.
    ///
    /// # Errors
    /// Why there are no keys.
    pub async fn current(&self) -> Result<Arc<KeySet>, String> {
        let (keys, is_due) = {
            let (cache, now) = (self.cache(), Instant::now());
            (cache.keys(now, &self.0.policy), cache.is_due(RefreshReason::Age, now, &self.0.policy))
        };
        match keys {
            Some(keys) if !is_due => return Ok(keys),
            Some(keys) if matches!(self.0.reader, KeyReader::Url(..)) => {
                let background = self.clone();
                tokio::spawn(async move { background.refresh_now(RefreshReason::Age).await });
                return Ok(keys);
            }
            _ => self.refresh(RefreshReason::Age).await,
        }
        let cache = self.cache();
        let why = || cache.failure.as_deref().unwrap_or("the cached keys are too old");
        cache.keys(Instant::now(), &self.0.policy).ok_or_else(|| format!("{}: {}", self.0.reader, why()))
    }

    /// Refreshes the keys because `known` lacks a key, and returns the new keys. Returns `None` if the keys have not
    /// changed, or if the last refresh for this reason is too recent.
    pub async fn newer_than(&self, known: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.refresh(RefreshReason::UnknownKey).await;
        let keys = self.cache().keys(Instant::now(), &self.0.policy);
        keys.filter(|keys| !Arc::ptr_eq(keys, known))
    }

    /// Refreshes the keys and returns when that has succeeded or failed. Runs in a task of its own, so that a caller
    /// that stops waiting does not cancel the refresh for others.
    async fn refresh(&self, reason: RefreshReason) {
        let keys = self.clone();
        // If the task panics, the cached keys are unchanged.
        let _ = tokio::spawn(async move { keys.refresh_now(reason).await }).await;
    }

    async fn refresh_now(&self, reason: RefreshReason) {
        let _refresh = self.0.refresh_lock.lock().await;
        let known = {
            let (mut cache, now) = (self.cache(), Instant::now());
            // Another task may have refreshed the keys while this one waited for the lock.
            if !cache.is_due(reason, now, &self.0.policy) {
                return;
            }
            cache.record_attempt(reason, now);
            cache.state.filter(|_| reason == RefreshReason::Age && cache.failure.is_none())
        };
        let outcome = self.0.reader.read(known).await.and_then(|read| self.parse(read));
        let (mut cache, now) = (self.cache(), Instant::now());
        // The interval counts from the end of the attempt, so that callers that waited for a slow source do not request
        // it again at once.
        cache.record_attempt(reason, now);
        let failed_before = cache.failure.take();
        match outcome {
            Ok(update) => {
                cache.confirmed = Some(now);
                if let Some(Update { keys, content, state }) = update {
                    cache.state = state;
                    cache.content = Some(content);
                    cache.keys = keys.or(cache.keys.take());
                }
                drop(cache);
                if failed_before.is_some() {
                    info!(keys = %self.0.reader, "the keys of the issuer can be read again");
                }
            }
            Err(failure) => {
                cache.failure = Some(failure.clone());
                let kept = cache.keys.is_some();
                drop(cache);
                if failed_before.is_none() {
                    warn!(keys = %self.0.reader, error = failure, kept, "the keys of the issuer cannot be read");
                }
            }
        }
    }

    /// Parses what was read; `None` if the source has not changed. Logs the keys that cannot be used.
    fn parse(&self, read: ReadResult) -> Result<Option<Update>, String> {
        let ReadResult::Text(text, state) = read else { return Ok(None) };
        let content = blake3::hash(&text);
        if self.cache().content == Some(content) {
            return Ok(Some(Update { keys: None, content, state }));
        }
        let (keys, skipped) = KeySet::parse(&text).map_err(|error| error.to_string())?;
        for key in skipped {
            warn!(keys = %self.0.reader, index = key.index, "a key of the issuer is ignored: {}", key.reason);
        }
        if keys.is_empty() {
            warn!(keys = %self.0.reader, "the issuer has no usable key, so every token is rejected");
        }
        Ok(Some(Update { keys: Some(Arc::new(keys)), content, state }))
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
