//! All nodes of the API as operators see them: which there are, and what each of them serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backend::{LiveNode, NodeDescription, NodeRecord};
use crate::directory::{NodeAnswer, NodeCall, NodeRequest};
use crate::gateway::{Gateway, RollBack};
use crate::id::NodeId;

mod roll_back;

pub use roll_back::{AllNodesError, NodeRollBack, NodesRolledBack, RollBackOutcome};

/// What the gateway does not know of its own node.
#[derive(Clone)]
pub struct OwnNode {
    /// The address of the listener for peers.
    pub listen: SocketAddr,
    /// Is cancelled when the node begins to stop.
    pub stopping: CancellationToken,
}

/// What operators see of all nodes and request of them. Clones are the same.
#[derive(Clone)]
pub struct Nodes {
    gateway: Arc<Gateway>,
    own: OwnNode,
    roll_backs: mpsc::Sender<RollBack>,
}

/// The response of `GET /nodes`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeList {
    pub store: StoreKind,
    /// The node that has answered.
    pub node: u16,
    /// Why only this node is listed; `None` if all are.
    pub problem: Option<String>,
    /// Whether the nodes serve different contents.
    pub drift: bool,
    pub nodes: Vec<NodeStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// This process is the only node.
    Sled,
    Redis,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    #[serde(flatten)]
    pub record: NodeRecord,
    /// How long ago the lease was renewed.
    pub renewed_millis_ago: Option<u64>,
    /// How long a message to the node and its answer took; `None` if there was no answer.
    pub round_trip_micros: Option<u64>,
    /// What differs from most other nodes.
    pub differs: Option<Difference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// The manifest, and perhaps files that it names.
    Manifest,
    /// Components, schemas or authorities, with the same manifest.
    Files,
}

impl Nodes {
    pub fn new(gateway: Arc<Gateway>, own: OwnNode, roll_backs: mpsc::Sender<RollBack>) -> Self {
        Self { gateway, own, roll_backs }
    }

    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn own_id(&self) -> NodeId {
        self.gateway.directory.node()
    }

    fn store(&self) -> StoreKind {
        if self.gateway.directory.has_other_nodes() { StoreKind::Redis } else { StoreKind::Sled }
    }

    /// Returns all nodes and asks each of them for an answer, which none delays by more than a second.
    pub async fn list(&self) -> NodeList {
        let own = self.own_id();
        let (mut live, problem) = match self.gateway.backend.live_nodes().await {
            None => (Vec::new(), None),
            Some(Ok(live)) => (live, None),
            Some(Err(error)) => (Vec::new(), Some(format!("the other nodes are unknown: {error}"))),
        };
        let record = self.gateway.backend.node_record(self.gateway.description(&self.own));
        match live.iter_mut().find(|live| live.record.node == own.0) {
            Some(live) => live.record = record,
            None => live.push(LiveNode { record, renewed_millis_ago: None }),
        }
        let pings = live.iter().map(|live| self.gateway.directory.ping(NodeId(live.record.node)));
        let pings: Vec<Option<Duration>> = join_all(pings).await;
        let status = |(live, round_trip): (LiveNode, Option<Duration>)| NodeStatus {
            record: live.record,
            renewed_millis_ago: live.renewed_millis_ago,
            round_trip_micros: round_trip.map(|time| time.as_micros() as u64),
            differs: None,
        };
        let mut nodes: Vec<_> = live.into_iter().zip(pings).map(status).collect();
        let drift = mark_differences(&mut nodes, own);
        NodeList { store: self.store(), node: own.0, problem, drift, nodes }
    }

    /// Answers the requests of other nodes until `stop`.
    pub async fn answer_calls(self, mut calls: mpsc::Receiver<NodeCall>, stop: CancellationToken) {
        while let Some(Some(call)) = stop.run_until_cancelled(calls.recv()).await {
            let answer = match call.request {
                NodeRequest::Ping => NodeAnswer::Pong,
                NodeRequest::Contents => NodeAnswer::Contents(self.contents()),
                NodeRequest::RollBack { content, plugin } => {
                    info!(node = call.from.0, content, plugin, "another node requests a roll-back");
                    self.roll_back_own(&content, plugin).await
                }
            };
            // This fails if the node has stopped to wait.
            let _ = call.answer.send(answer);
        }
    }
}

impl Gateway {
    /// Returns what this node says about itself.
    pub(super) fn description(&self, own: &OwnNode) -> NodeDescription {
        static HOST: LazyLock<String> = LazyLock::new(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            name.trim().to_owned()
        });
        let deployment = self.deployment();
        NodeDescription {
            host: HOST.clone(),
            listen: own.listen.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            content: deployment.version.content.clone(),
            manifest: deployment.version.manifest.clone(),
            connections: self.connections().len(),
            stopping: own.stopping.is_cancelled(),
        }
    }
}

/// Marks the nodes whose content differs from that of most nodes, or from that of `own` if no content has most. A node that
/// does not serve yet has none. Returns whether any differs.
fn mark_differences(nodes: &mut [NodeStatus], own: NodeId) -> bool {
    let mut counts = BTreeMap::<String, (usize, bool)>::new();
    for NodeRecord { node, description, .. } in nodes.iter().map(|node| &node.record) {
        if !description.content.is_empty() {
            let (count, is_own) = counts.entry(description.content.clone()).or_default();
            *count += 1;
            *is_own |= *node == own.0;
        }
    }
    let Some((content, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return false };
    let of_most = nodes.iter().map(|node| &node.record.description).find(|node| node.content == content);
    let manifest = of_most.map(|node| node.manifest.clone()).unwrap_or_default();
    for node in nodes.iter_mut() {
        let NodeDescription { content: served, manifest: its_manifest, .. } = &node.record.description;
        if !served.is_empty() && *served != content {
            node.differs = Some(if *its_manifest == manifest { Difference::Files } else { Difference::Manifest });
        }
    }
    nodes.iter().any(|node| node.differs.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16, content: &str, manifest: &str) -> NodeStatus {
        let description = NodeDescription {
            content: content.to_owned(),
            manifest: manifest.to_owned(),
            ..NodeDescription::default()
        };
        let record = NodeRecord::new(NodeId(number), description);
        NodeStatus { record, renewed_millis_ago: None, round_trip_micros: None, differs: None }
    }

    #[test]
    fn a_node_differs_from_most_others_or_from_the_one_that_is_asked() {
        let differences = |mut nodes: Vec<NodeStatus>, own| {
            let drift = mark_differences(&mut nodes, NodeId(own));
            assert_eq!(drift, nodes.iter().any(|node| node.differs.is_some()));
            nodes.into_iter().map(|node| node.differs).collect::<Vec<_>>()
        };
        let (manifest, files) = (Some(Difference::Manifest), Some(Difference::Files));
        assert_eq!(differences(vec![node(1, "a", "m"), node(2, "a", "m")], 1), [None, None]);
        assert_eq!(differences(vec![node(1, "a", "m"), node(2, "b", "m"), node(3, "b", "m")], 1), [files, None, None]);
        for (own, expected) in [(1, [None, manifest]), (2, [manifest, None])] {
            assert_eq!(differences(vec![node(1, "a", "m"), node(2, "b", "n")], own), expected);
        }
        // A node that starts serves nothing yet.
        assert_eq!(differences(vec![node(1, "", ""), node(2, "b", "n")], 1), [None, None]);
        assert_eq!(differences(vec![node(1, "", "")], 1), [None]);
    }
}
