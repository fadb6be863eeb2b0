//! This node among others: its lease, and the connections of nodes that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backend::{NodeProblem, Renewal};
use crate::connections::CloseFrame;
use crate::gateway::{Gateway, OwnNode};

/// How connections end whose node has lost its lease: another one has run their `$disconnect`. A client connects again.
const LEASE_LOST: (u16, &str) = (1012, "Service restart");

/// How soon a lease is renewed after Redis did not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

impl Gateway {
    /// Returns why this node should get no new connections, if it is one of several.
    pub fn node_problem(&self) -> Option<NodeProblem> {
        self.backend.node_problem()
    }

    /// Renews the lease of this node and writes again what Redis does not have. Never returns.
    pub async fn keep_membership(self: Arc<Self>, interval: Duration, own: OwnNode) {
        // At the same time: many rows take longer than a lease.
        let must_save = Notify::new();
        tokio::join!(self.keep_lease(interval, own, &must_save), self.keep_rows_saved(interval, &must_save));
    }

    async fn keep_lease(&self, interval: Duration, own: OwnNode, must_save: &Notify) {
        let mut deployments = self.availability.deployments();
        let (mut wait, mut is_stopping) = (interval, false);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Operators see soon what is served, and that the node stops.
                _ = deployments.changed() => {}
                () = own.stopping.cancelled(), if !is_stopping => {}
            }
            is_stopping = own.stopping.is_cancelled();
            self.backend.describe_node(self.description(&own));
            let renewed = self.backend.renew_lease().await;
            // The client logs when Redis does not answer, and when it does again.
            wait = if renewed.is_ok() { interval } else { interval.min(RETRY_INTERVAL) };
            match renewed {
                Ok(Renewal::Restored) => must_save.notify_one(),
                Ok(Renewal::Lost) => self.give_up_connections().await,
                Ok(Renewal::Renewed) | Err(_) => {}
            }
        }
    }

    /// Writes rows that Redis did not take, or all of them if it may have lost them.
    async fn keep_rows_saved(&self, interval: Duration, must_save: &Notify) {
        loop {
            if tokio::time::timeout(interval, must_save.notified()).await.is_ok() {
                warn!(
                    "Redis was started again or has lost its data: this node writes the rows of its connections again"
                );
            }
            match self.backend.save_rows_again().await {
                Ok(0) => {}
                Ok(count) => info!(rows = count, "wrote rows to Redis again"),
                Err(error) => {
                    self.row_log.log(|suppressed| warn!(suppressed, "cannot write rows to Redis: {error}"));
                }
            }
        }
    }

    /// Ends all connections of this node after another one has taken them over, and begins a new epoch.
    async fn give_up_connections(&self) {
        let (code, reason) = LEASE_LOST;
        let count = self.connections().give_up(&CloseFrame::new(code, reason));
        error!(
            connections = count,
            code, "this node has not renewed its lease in time, so another one has taken over its connections"
        );
        if let Err(error) = self.backend.claim_node_again().await {
            warn!("cannot take a number as a node: {error:#}");
        }
    }

    /// Takes over the rows of nodes that are gone and runs their `$disconnect` events, until `stop`.
    pub async fn adopt_connections(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        // At the same time: slow handlers must not keep the rows in queries, nor those of the next node that is gone.
        let adopted = Notify::new();
        let adopting = async {
            while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                while self.adopt_some().await > 0 {
                    adopted.notify_one();
                }
            }
        };
        let disconnecting = async {
            while stop.run_until_cancelled(adopted.notified()).await.is_some() {
                let count = self.disconnect_orphans(&stop).await;
                info!("ran $disconnect (1006) for {count} connections of nodes that are gone");
            }
        };
        tokio::join!(adopting, disconnecting);
    }

    async fn adopt_some(&self) -> usize {
        self.backend.adopt_rows().await.unwrap_or_else(|error| {
            self.row_log.log(|suppressed| {
                warn!(suppressed, "cannot take over the connections of nodes that are gone: {error}");
            });
            0
        })
    }
}
