//! What a node among others does with its store: its lease, its channel, and the rows of nodes that are gone. A store of
//! sled has one process, which needs none of it.

use std::time::Duration;

use tokio::sync::mpsc;

use super::redis::{Channel, Renewal};
use super::rows::Rows;
use super::{Backend, BackendError};

/// Why a node should get no new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeProblem {
    /// Redis does not answer, so no row can be written.
    StoreUnavailable,
    /// The lease was not renewed in time, so another node may have taken over.
    LeaseLost,
}

impl Backend {
    /// Returns why this node should get no new connections, as far as its last calls of the store say. Calls nothing.
    pub fn node_problem(&self) -> Option<NodeProblem> {
        match &self.rows {
            Rows::Sled(_) => None,
            Rows::Redis(redis) if redis.is_unavailable() => Some(NodeProblem::StoreUnavailable),
            Rows::Redis(redis) => redis.node().may_be_lost().then_some(NodeProblem::LeaseLost),
        }
    }

    /// Renews the lease of this node. A process that is the only node needs none.
    pub async fn renew_lease(&self) -> Result<Renewal, BackendError> {
        match &self.rows {
            Rows::Sled(_) => Ok(Renewal::Renewed),
            Rows::Redis(redis) => redis.node().renew().await,
        }
    }

    /// Whether another node may have taken over: then an event must wait for `renew_lease`.
    pub fn lease_may_be_lost(&self) -> bool {
        match &self.rows {
            Rows::Sled(_) => false,
            Rows::Redis(redis) => redis.node().may_be_lost(),
        }
    }

    /// Takes a number again after another node has taken over the rows of this one, which are forgotten here.
    pub async fn claim_node_again(&self) -> anyhow::Result<()> {
        match &self.rows {
            Rows::Sled(_) => Ok(()),
            Rows::Redis(redis) => redis.claim_again().await,
        }
    }

    /// Writes the rows that Redis did not take, or all of this node if Redis may have lost them. Returns how many.
    pub async fn save_rows_again(&self) -> Result<usize, BackendError> {
        match &self.rows {
            Rows::Sled(_) => Ok(0),
            Rows::Redis(redis) => redis.save_again().await,
        }
    }

    /// Takes some of the rows of nodes that are gone; they are left behind from now on. Returns how many.
    pub async fn adopt_rows(&self) -> Result<usize, BackendError> {
        match &self.rows {
            Rows::Sled(_) => Ok(0),
            Rows::Redis(redis) => redis.adopt_all().await,
        }
    }

    /// Gives the number of this node back at the end of the process. If it has rows, whose `$disconnect` has not run, it keeps
    /// the number until the lease ends, and another node takes over.
    pub async fn leave(&self) -> Result<(), BackendError> {
        match &self.rows {
            Rows::Sled(_) => Ok(()),
            Rows::Redis(redis) if redis.has_rows() => Ok(()),
            Rows::Redis(redis) => redis.node().release().await,
        }
    }

    /// How often this node should renew its lease. `None`: this process is the only node.
    pub fn renewal_interval(&self) -> Option<Duration> {
        match &self.rows {
            Rows::Sled(_) => None,
            Rows::Redis(redis) => Some(redis.node().renewal_interval()),
        }
    }

    /// Subscribes to the messages for this node. `None` if this process is the only node.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn channel(&self) -> anyhow::Result<Option<(Channel, mpsc::Receiver<Vec<u8>>)>> {
        match &self.rows {
            Rows::Sled(_) => Ok(None),
            Rows::Redis(redis) => redis.channel().await.map(Some),
        }
    }
}
