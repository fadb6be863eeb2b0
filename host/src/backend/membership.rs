//! What a node among others does with its store: its lease, its channel, and the rows of nodes that are gone. A store of
//! sled has one process, which needs none of it.

use std::time::Duration;

use tokio::sync::mpsc;

use super::node_record::{LiveNode, NodeDescription, NodeRecord};
use super::redis::{Channel, Renewal};
use super::rows::Rows;
use super::{Backend, BackendError};
use crate::id::ConnectionId;
use crate::id::NodeId;

/// How a node among others and its store are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeState {
    /// How many nodes had a number when this one renewed its lease.
    pub nodes: u64,
    pub lease_left: Duration,
    /// Rows that the store does not have yet.
    pub unsaved_rows: usize,
    pub is_store_up: bool,
    /// How often the store has stopped to answer.
    pub store_outages: u64,
}

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
            Rows::Redis(redis) if redis.admits_without_store() => None,
            Rows::Redis(redis) if redis.is_unavailable() => Some(NodeProblem::StoreUnavailable),
            Rows::Redis(redis) => redis.node().may_be_lost().then_some(NodeProblem::LeaseLost),
        }
    }

    /// Renews the lease of this node. A process that is the only node needs none.
    pub async fn renew_lease(&self) -> Result<Renewal, BackendError> {
        match &self.rows {
            Rows::Sled(_) => Ok(Renewal::Renewed),
            Rows::Redis(redis) => redis.renew().await,
        }
    }

    /// Changes what this node says about itself from the next renewal on.
    pub fn describe_node(&self, description: NodeDescription) {
        if let Rows::Redis(redis) = &self.rows {
            redis.node().describe(description);
        }
    }

    /// Returns the record of this node as the next renewal would write it.
    pub fn node_record(&self, description: NodeDescription) -> NodeRecord {
        match &self.rows {
            Rows::Sled(_) => NodeRecord::new(NodeId(0), description),
            Rows::Redis(redis) => {
                redis.node().describe(description);
                redis.node().record(redis.unsaved())
            }
        }
    }

    /// Returns the nodes whose leases have not ended. `None` if this process is the only node.
    pub async fn live_nodes(&self) -> Option<Result<Vec<LiveNode>, BackendError>> {
        match &self.rows {
            Rows::Sled(_) => None,
            Rows::Redis(redis) => Some(redis.node().list().await),
        }
    }

    /// Returns how this node and its store are. `None` if this process is the only node.
    pub fn node_state(&self) -> Option<NodeState> {
        let Rows::Redis(redis) = &self.rows else { return None };
        let (node, client) = (redis.node(), redis.client());
        Some(NodeState {
            nodes: node.seen(),
            lease_left: node.lease_left(),
            unsaved_rows: redis.unsaved(),
            is_store_up: !client.is_down(),
            store_outages: client.outages(),
        })
    }

    /// Whether another node may have taken over: then an event must wait for `renew_lease`.
    pub fn lease_may_be_lost(&self) -> bool {
        match &self.rows {
            Rows::Sled(_) => false,
            Rows::Redis(redis) => redis.node().may_be_lost(),
        }
    }

    /// Whether this node is the one in the id of a connection that is being opened; see `claim_node_again`.
    pub fn has_number_of(&self, id: ConnectionId) -> bool {
        match &self.rows {
            Rows::Sled(_) => true,
            Rows::Redis(redis) => redis.node().has_number_of(id),
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
