//! What nodes ask each other about themselves, and not about a connection.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Directory;
use super::bus::Bus;
use super::message::{Answer, Body, NodeAnswer, NodeRequest};
use crate::id::NodeId;

/// Requests of other nodes that wait for this one. Further ones are answered with `NotServing`.
const CALLS_MAX: usize = 16;

/// How long a node waits for the answer of another one that rolls back. A roll-back takes less than a second.
const ROLL_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it waits for any other answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A request of another node.
pub struct NodeCall {
    pub from: NodeId,
    pub request: NodeRequest,
    pub answer: oneshot::Sender<NodeAnswer>,
}

impl Directory {
    /// Returns the requests of other nodes that only a node that serves can answer. `None` if that was called before.
    pub fn node_calls(&self) -> Option<mpsc::Receiver<NodeCall>> {
        let (sender, receiver) = mpsc::channel(CALLS_MAX);
        self.node_calls.set(sender).ok().map(|()| receiver)
    }

    /// Measures how long a message to a node and its answer take, also to this one. `None` if there is no answer.
    pub async fn ping(&self, node: NodeId) -> Option<Duration> {
        let began = Instant::now();
        match self.ask_node(node, NodeRequest::Ping).await? {
            NodeAnswer::Pong => Some(began.elapsed()),
            _ => None,
        }
    }

    /// Returns the answer of a node. `None` if there is none in time: the node may have got the request or not.
    pub async fn ask_node(&self, node: NodeId, request: NodeRequest) -> Option<NodeAnswer> {
        let timeout = if matches!(request, NodeRequest::RollBack { .. }) { ROLL_BACK_TIMEOUT } else { TIMEOUT };
        match self.bus.as_ref()?.ask_within(node, Body::Node(request), timeout).await {
            Ok(Answer::Node(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Answers a request, at once or when the gateway has.
    pub(super) fn receive_node_request(&self, bus: &Bus, from: NodeId, number: u64, request: NodeRequest) {
        if request == NodeRequest::Ping {
            return bus.answer(from, number, Answer::Node(NodeAnswer::Pong));
        }
        let (answer, answered) = oneshot::channel();
        let call = NodeCall { from, request, answer };
        if self.node_calls.get().is_none_or(|calls| calls.try_send(call).is_err()) {
            return bus.answer(from, number, Answer::Node(NodeAnswer::NotServing));
        }
        let bus = bus.clone();
        // As many as there are calls.
        tokio::spawn(async move {
            let answer = answered.await.unwrap_or(NodeAnswer::NotServing);
            bus.answer(from, number, Answer::Node(answer));
        });
    }
}
