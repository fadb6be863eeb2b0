//! This node among others: its lease, and the connections of nodes that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backend::Renewal;
use crate::connections::CloseFrame;
use crate::gateway::Gateway;

/// How connections end whose node has lost its lease: another one has run their `$disconnect`. A client connects again.
const LEASE_LOST: (u16, &str) = (1012, "Service restart");

impl Gateway {
    /// Renews the lease of this node and writes again what Redis does not have. Never returns.
    pub async fn keep_membership(self: Arc<Self>, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let has_lost_data = match self.backend.renew_lease().await {
                Ok(Renewal::Renewed) => false,
                Ok(Renewal::Restored) => {
                    warn!("Redis has lost its data: this node writes the rows of its connections again");
                    true
                }
                Ok(Renewal::Lost) => {
                    self.give_up_connections().await;
                    continue;
                }
                // The client logs when Redis does not answer, and when it does again.
                Err(_) => continue,
            };
            // Also rows that Redis did not take between two renewals.
            match self.backend.save_rows_again(has_lost_data).await {
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

    /// Runs the `$disconnect` events of nodes that are gone, until `stop`.
    pub async fn adopt_connections(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            loop {
                match self.backend.adopt_rows().await {
                    Ok(0) => break,
                    Ok(_) => {
                        let count = self.disconnect_orphans(&stop).await;
                        info!("ran $disconnect (1006) for {count} connections of nodes that are gone");
                    }
                    Err(error) => {
                        self.row_log.log(|suppressed| {
                            warn!(suppressed, "cannot take over the connections of nodes that are gone: {error}");
                        });
                        break;
                    }
                }
            }
        }
    }
}
