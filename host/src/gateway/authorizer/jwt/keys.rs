//! The keys of one issuer: got when a token first needs them, kept, and got again while they are used.
//!
//! Does not know what a token is. One request for keys is on its way at a time; whoever needs its outcome waits for it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tracing::{info, warn};

use super::KeySource;
use super::key_set::KeySet;
use crate::gateway::integration::Transport;

mod held; // what is known, and whether it is old
mod source; // where keys are

pub use held::Pace;

use held::{Held, Reason};
use source::{Got, Source, Stamp};

#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    source: Source,
    pace: Pace,
    held: Mutex<Held>,
    /// Held while keys are on their way.
    under_way: tokio::sync::Mutex<()>,
}

/// What came with a text.
struct News {
    /// `None`: the same as before.
    keys: Option<Arc<KeySet>>,
    content: blake3::Hash,
    stamp: Option<Stamp>,
}

impl Keys {
    pub fn new(source: KeySource, transport: Transport, pace: Pace) -> Self {
        let source = Source::new(source, transport, pace.timeout);
        Self(Arc::new(Shared { source, pace, held: Mutex::default(), under_way: tokio::sync::Mutex::default() }))
    }

    /// The keys as they are known; waits where none are. Those of a URL that are old are got again meanwhile.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn current(&self) -> Result<Arc<KeySet>, String> {
        let (keys, is_due) = {
            let (held, now) = (self.held(), Instant::now());
            (held.keys(now, &self.0.pace), held.is_due(Reason::Age, now, &self.0.pace))
        };
        match keys {
            Some(keys) if !is_due => return Ok(keys),
            Some(keys) if matches!(self.0.source, Source::Url(..)) => {
                let later = self.clone();
                tokio::spawn(async move { later.get(Reason::Age).await });
                return Ok(keys);
            }
            _ => self.refresh(Reason::Age).await,
        }
        let held = self.held();
        let why = || held.failure.as_deref().unwrap_or("what is known of it is too old");
        held.keys(Instant::now(), &self.0.pace).ok_or_else(|| format!("{}: {}", self.0.source, why()))
    }

    /// Other keys than these, after they were asked for because one is not among these; `None` if there are no others,
    /// or that was asked too recently.
    pub async fn newer_than(&self, these: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.refresh(Reason::UnknownKey).await;
        let keys = self.held().keys(Instant::now(), &self.0.pace);
        keys.filter(|keys| !Arc::ptr_eq(keys, these))
    }

    /// Ends when keys have come or have not. In a task of its own, so that who waits no longer does not end it for others.
    async fn refresh(&self, reason: Reason) {
        let keys = self.clone();
        // Where it panicked, keys are as they were.
        let _ = tokio::spawn(async move { keys.get(reason).await }).await;
    }

    async fn get(&self, reason: Reason) {
        let _under_way = self.0.under_way.lock().await;
        let stamp = {
            let (mut held, now) = (self.held(), Instant::now());
            // Somebody else may just have.
            if !held.is_due(reason, now, &self.0.pace) {
                return;
            }
            held.tried(reason, now);
            held.stamp.filter(|_| reason == Reason::Age && held.failure.is_none())
        };
        let outcome = self.0.source.read(stamp).await.and_then(|got| self.parse(got));
        let (mut held, now) = (self.held(), Instant::now());
        // What waits for a slow source does not ask it again at once.
        held.tried(reason, now);
        let failed_before = held.failure.take();
        match outcome {
            Ok(news) => {
                held.confirmed = Some(now);
                if let Some(News { keys, content, stamp }) = news {
                    held.stamp = stamp;
                    held.content = Some(content);
                    held.keys = keys.or(held.keys.take());
                }
                drop(held);
                if failed_before.is_some() {
                    info!(keys = %self.0.source, "the keys of the issuer can be read again");
                }
            }
            Err(failure) => {
                held.failure = Some(failure.clone());
                let kept = held.keys.is_some();
                drop(held);
                if failed_before.is_none() {
                    warn!(keys = %self.0.source, error = failure, kept, "the keys of the issuer cannot be read");
                }
            }
        }
    }

    /// What is new in what was got; `None` if it is known to be nothing.
    fn parse(&self, got: Got) -> Result<Option<News>, String> {
        let Got::Text(text, stamp) = got else { return Ok(None) };
        let content = blake3::hash(&text);
        if self.held().content == Some(content) {
            return Ok(Some(News { keys: None, content, stamp }));
        }
        let (keys, skipped) = KeySet::parse(&text).map_err(|error| error.to_string())?;
        for key in skipped {
            warn!(keys = %self.0.source, index = key.index, "a key of the issuer is not used: {}", key.why);
        }
        if keys.is_empty() {
            warn!(keys = %self.0.source, "the issuer has no key that can be used, so no token is accepted");
        }
        Ok(Some(News { keys: Some(Arc::new(keys)), content, stamp }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().expect("no code panics while holding the keys")
    }
}
