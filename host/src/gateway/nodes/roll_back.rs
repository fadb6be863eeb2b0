//! Roll-backs on all nodes. Numbers of deployments are those of one node, so nodes name a deployment by its content.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Nodes, StoreKind};
use crate::backend::BackendError;
use crate::directory::{NodeAnswer, NodeRequest};
use crate::gateway::history::find_content;
use crate::gateway::{RollBack, RollBackError};
use crate::id::NodeId;

/// The response of `POST /nodes/deployments/{name}/rollback` and `POST /nodes/deployments/{name}/plugins/{plugin}/rollback`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodesRolledBack {
    pub store: StoreKind,
    /// The content of the deployment that was named.
    pub content: String,
    pub nodes: Vec<NodeRollBack>,
}

/// What became of a roll-back on one node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRollBack {
    pub node: u16,
    pub host: String,
    pub listen: String,
    pub outcome: RollBackOutcome,
    /// The number of the new deployment.
    pub deployment: Option<u64>,
    /// Why the roll-back has failed.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollBackOutcome {
    RolledBack,
    /// The content is in none of the last deployments of the node.
    NotKept,
    Failed,
    /// The node starts or stops.
    NotServing,
    /// The node may have rolled back or not.
    Unanswered,
}

/// Why no node was asked to roll back.
#[derive(Debug, thiserror::Error)]
pub enum AllNodesError {
    #[error(transparent)]
    Name(#[from] RollBackError),
    #[error("the other nodes are unknown: {0}; --this-node rolls back this one only")]
    Unavailable(#[from] BackendError),
}

impl Nodes {
    /// Returns the contents of the last deployments of this node.
    pub(super) fn contents(&self) -> Vec<String> {
        let contents: BTreeSet<String> = self.gateway.records().into_iter().map(|record| record.content).collect();
        contents.into_iter().collect()
    }

    /// Rolls this node back to a deployment, by its number or the beginning of its content. `None` if the files are not
    /// followed any more.
    pub async fn roll_back_here(&self, name: &str, plugin: Option<String>) -> Option<Result<u64, RollBackError>> {
        match self.gateway.find_deployment(name) {
            Ok(number) => self.request(number, plugin).await,
            Err(error) => Some(Err(error)),
        }
    }

    /// Rolls this node back to its last deployment with this content.
    pub(super) async fn roll_back_own(&self, content: &str, plugin: Option<String>) -> NodeAnswer {
        match self.gateway.last_with_content(content) {
            Some(number) => self.roll_back_to(number, plugin).await,
            None => NodeAnswer::NotKept,
        }
    }

    async fn roll_back_to(&self, number: u64, plugin: Option<String>) -> NodeAnswer {
        match self.request(number, plugin).await {
            Some(Ok(deployment)) => NodeAnswer::RolledBack(deployment),
            Some(Err(RollBackError::NotKept(_))) => NodeAnswer::NotKept,
            Some(Err(error)) => NodeAnswer::NotRolledBack(error.to_string()),
            None => NodeAnswer::NotServing,
        }
    }

    /// Requests a roll-back from the task that follows the files. `None` if they are not followed any more.
    async fn request(&self, number: u64, plugin: Option<String>) -> Option<Result<u64, RollBackError>> {
        let (answer, answered) = oneshot::channel();
        self.roll_backs.send(RollBack { number, plugin, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Rolls all nodes back to a deployment, by its number on this node or the beginning of its content. Returns what each
    /// of them has answered, which none delays by more than some seconds.
    ///
    /// # Errors
    /// If the name is not that of one content, or the nodes are unknown; then nothing has changed.
    pub async fn roll_back_all(&self, name: &str, plugin: Option<String>) -> Result<NodesRolledBack, AllNodesError> {
        let live = self.gateway.backend.live_nodes().await.transpose()?.unwrap_or_default();
        let own = self.own_id();
        let others: Vec<NodeId> =
            live.iter().map(|live| NodeId(live.record.node)).filter(|node| *node != own).collect();
        let named = self.gateway.deployment_with_number(name);
        let content = match &named {
            Some(record) => record.content.clone(),
            None => self.find_content(name, &others).await?,
        };
        let request = NodeRequest::RollBack { content: content.clone(), plugin: plugin.clone() };
        let asked = others.iter().map(|node| self.gateway.directory.ask_node(*node, request.clone()));
        let own_roll_back = async {
            match named {
                Some(record) => self.roll_back_to(record.number, plugin).await,
                None => self.roll_back_own(&content, plugin).await,
            }
        };
        let (answer, answers) = tokio::join!(own_roll_back, join_all(asked));
        let answers = std::iter::once((own, Some(answer))).chain(others.into_iter().zip(answers));
        let nodes = answers.map(|(node, answer)| {
            let (outcome, deployment, reason) = match answer {
                Some(NodeAnswer::RolledBack(number)) => (RollBackOutcome::RolledBack, Some(number), None),
                Some(NodeAnswer::NotKept) => (RollBackOutcome::NotKept, None, None),
                Some(NodeAnswer::NotRolledBack(reason)) => (RollBackOutcome::Failed, None, Some(reason)),
                Some(NodeAnswer::NotServing) => (RollBackOutcome::NotServing, None, None),
                Some(NodeAnswer::Pong | NodeAnswer::Contents(_)) | None => (RollBackOutcome::Unanswered, None, None),
            };
            let description = live.iter().find(|live| live.record.node == node.0).map(|live| &live.record.description);
            let (host, listen) = description.map(|node| (node.host.clone(), node.listen.clone())).unwrap_or_default();
            NodeRollBack { node: node.0, host, listen, outcome, deployment, reason }
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by_key(|node| node.node);
        Ok(NodesRolledBack { store: self.store(), content, nodes })
    }

    /// Returns the one content on all nodes that begins with `prefix`.
    async fn find_content(&self, prefix: &str, others: &[NodeId]) -> Result<String, RollBackError> {
        let mut contents = self.contents();
        let asked = others.iter().map(|node| self.gateway.directory.ask_node(*node, NodeRequest::Contents));
        for answer in join_all(asked).await {
            if let Some(NodeAnswer::Contents(others)) = answer {
                contents.extend(others);
            }
        }
        find_content(prefix, contents.iter().map(String::as_str)).map(str::to_owned)
    }
}
