//! When to repeat the loads that failed for lack of resources.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::{Duration, Instant};

use crate::limits::{LOAD_RETRY_FIRST, LOAD_RETRY_MAX};

/// The failed loads by name. Each wait is twice as long as the one before.
#[derive(Default)]
pub struct Retries(BTreeMap<String, Retry>);

struct Retry {
    wait: Duration,
    /// `None` while the load is repeated.
    at: Option<Instant>,
}

impl Retries {
    /// Schedules the next attempt of a load that has just failed, if it lacked resources.
    pub fn schedule_if(&mut self, name: &str, is_transient: bool) {
        if is_transient {
            self.schedule(name);
        } else {
            self.remove(name);
        }
    }

    /// Schedules the next attempt of a load that has just failed.
    pub fn schedule(&mut self, name: &str) {
        let before = self.0.get(name).map(|retry| retry.wait);
        let wait = before.map_or(LOAD_RETRY_FIRST, |wait| (wait * 2).min(LOAD_RETRY_MAX));
        self.0.insert(name.to_owned(), Retry { wait, at: Some(Instant::now() + wait) });
    }

    /// Forgets a load that has succeeded, or that has failed for another reason.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits until an attempt is due; forever if none is scheduled.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn due(&self) {
        match self.0.values().filter_map(|retry| retry.at).min() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => pending().await,
        }
    }

    /// Returns the names of the loads that are due.
    pub fn take_due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let due = self.0.iter_mut().filter(|(_, retry)| retry.at.is_some_and(|at| at <= now));
        due.map(|(name, retry)| {
            retry.at = None;
            name.clone()
        })
        .collect()
    }
}
