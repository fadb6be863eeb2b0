//! The plugins that are unavailable now, and the `$disconnect` events that wait for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use metrics::Gauge;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connections::Connection;
use crate::event::Disconnect;
use crate::gateway::Gateway;
use crate::gateway::disconnect::EndedConnection;
use crate::id::ConnectionId;
use crate::limits::WAITING_DISCONNECTS_MAX;

/// A plugin that serves no events now, as the admin listener reports it to an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnavailablePlugin {
    /// The name of the integration or authorizer.
    pub plugin: String,
    pub reason: String,
}

pub struct Availability {
    unavailable: Mutex<Vec<UnavailablePlugin>>,
    /// How many plugins are unavailable.
    gauge: Gauge,
    /// Incremented by each deployment.
    deployments: watch::Sender<u64>,
    /// The connections whose `$disconnect` plugin is unavailable. Their rows stay in the store, so that the next start
    /// runs their `$disconnect` if this process ends before the plugin loads.
    waiting: Mutex<HashMap<ConnectionId, EndedConnection>>,
    /// The connections that ended earlier and whose `$disconnect` runs now.
    running: Mutex<HashSet<ConnectionId>>,
}

/// A `$disconnect` of a connection that ended earlier, while it runs.
pub struct Running<'a> {
    availability: &'a Availability,
    id: ConnectionId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.availability.running().remove(&self.id);
    }
}

impl Availability {
    pub fn new(gauge: Gauge) -> Self {
        let deployments = watch::Sender::new(0);
        let (unavailable, waiting, running) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { unavailable, gauge, deployments, waiting, running }
    }

    /// Reports that another deployment is served.
    pub fn deployed(&self) {
        self.deployments.send_modify(|count| *count += 1);
    }

    /// Returns a receiver of all deployments, of which the first one has been made already.
    pub fn deployments(&self) -> watch::Receiver<u64> {
        let mut deployments = self.deployments.subscribe();
        deployments.mark_changed();
        deployments
    }

    /// Keeps a `$disconnect` until its plugin loads. If too many wait already, it stays in the store only, and the next
    /// start runs it.
    pub fn add_waiting(&self, connection: Arc<Connection>, end: Disconnect) {
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_DISCONNECTS_MAX {
            waiting.insert(connection.id, EndedConnection { connection, end });
        }
    }

    /// Begins the `$disconnect` of a connection that ended earlier. `None` if it runs already.
    pub fn begin(&self, id: ConnectionId) -> Option<Running<'_>> {
        self.running().insert(id).then(|| Running { availability: self, id })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<ConnectionId, EndedConnection>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashSet<ConnectionId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self) -> MutexGuard<'_, Vec<UnavailablePlugin>> {
        self.unavailable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Replaces the list of the plugins that are unavailable now.
    pub fn set_unavailable(&self, plugins: Vec<UnavailablePlugin>) {
        self.availability.gauge.set(plugins.len() as f64);
        *self.availability.unavailable() = plugins;
    }

    /// The plugins that are unavailable now.
    pub fn unavailable(&self) -> Vec<UnavailablePlugin> {
        self.availability.unavailable().clone()
    }

    /// Runs the `$disconnect` events that wait for a plugin, after each deployment, until `stop` is cancelled. Then it waits
    /// for those that run.
    pub async fn run_waiting_disconnects(&self, stop: &CancellationToken) {
        // A deployment may have come between the first events that wait and this call.
        let mut deployments = self.availability.deployments();
        // The events of a plugin that is slow do not delay those of a plugin that loads meanwhile.
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = deployments.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let waiting = std::mem::take(&mut *self.availability.waiting());
                    if !waiting.is_empty() {
                        // Those whose plugin has not loaded wait again.
                        running.push(self.disconnect_all(waiting.into_values().collect(), stop));
                    }
                }
                Some(_) = running.next() => {}
            }
        }
        while running.next().await.is_some() {}
    }
}
