//! Requests to other nodes and their answers.
//!
//! A request is one message to the node that has the connections, and one answer. Requests to a node arrive in the order
//! in which they were made, because one task sends all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use super::counters::BusCounters;
use super::message::{Answer, Body, Message, unknown_version};
use crate::backend::Channel;
use crate::id::NodeId;

/// Messages that wait to be sent. When they are as many, further requests fail.
const WAITING_MAX: usize = 4096;

/// Messages that are sent together.
const BATCH_MAX: usize = 64;

/// How long a request waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No process has the number of the node.
    NoSuchNode,
    /// The node may have received the request or not.
    Unknown,
    /// The node has another version, and has done nothing because it cannot read the request; or this node cannot read the
    /// answer.
    UnknownVersion,
}

#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    outgoing: mpsc::Sender<(NodeId, Arc<[u8]>, Option<u64>)>,
    /// The requests without an answer.
    pending: DashMap<u64, oneshot::Sender<Result<Answer, NoAnswer>>>,
    next: AtomicU64,
    counters: BusCounters,
}

impl Bus {
    pub fn new(channel: Channel, counters: BusCounters) -> Self {
        let (outgoing, waiting) = mpsc::channel(WAITING_MAX);
        let (pending, next) = (DashMap::new(), AtomicU64::new(0));
        let inner = Arc::new(Inner { channel, outgoing, pending, next, counters });
        tokio::spawn(send_all(Arc::downgrade(&inner), waiting));
        Self { inner }
    }

    pub fn node(&self) -> NodeId {
        self.inner.channel.node()
    }

    /// Sends a request or a change and waits for its answer.
    pub async fn ask(&self, node: NodeId, body: Body) -> Result<Answer, NoAnswer> {
        self.ask_within(node, body, ANSWER_TIMEOUT).await
    }

    /// Does the same, with another limit of the wait.
    pub async fn ask_within(&self, node: NodeId, body: Body, timeout: Duration) -> Result<Answer, NoAnswer> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let message = Message { from: self.node().0, request: number, body }.encode();
        let (sender, answer) = oneshot::channel();
        self.inner.pending.insert(number, sender);
        let _forget = Forget { pending: &self.inner.pending, number };
        if !self.enqueue(node, message, Some(number)) {
            return Err(NoAnswer::Unknown);
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoAnswer::Unknown),
            // A node that was paused is subscribed, but does nothing with the message once another one has taken over.
            Err(_) => Err(self.inner.why_unanswered(node).await),
        }
    }

    /// Sends an answer. If too many messages wait, it is dropped, and the other node's request times out.
    pub fn answer(&self, node: NodeId, request: u64, answer: Answer) {
        let message = Message { from: self.node().0, request, body: Body::Answer(answer) }.encode();
        self.enqueue(node, message, None);
    }

    fn enqueue(&self, node: NodeId, message: Vec<u8>, request: Option<u64>) -> bool {
        let is_sent = self.inner.outgoing.try_send((node, message.into(), request)).is_ok();
        let counters = self.counters();
        if is_sent { &counters.sent } else { &counters.dropped_full }.increment(1);
        is_sent
    }

    pub fn counters(&self) -> &BusCounters {
        &self.inner.counters
    }

    /// Sends the answer to a request that this version cannot read.
    pub fn answer_unreadable(&self, node: NodeId, request: u64) {
        self.enqueue(node, unknown_version(self.node().0, request), None);
    }

    /// Gives an answer that has arrived to its request.
    pub fn complete(&self, request: u64, answer: Answer) {
        self.inner.end(request, Ok(answer));
    }

    /// Ends a request whose version, or whose answer's version, is unknown.
    pub fn fail_for_version(&self, request: u64) {
        self.inner.end(request, Err(NoAnswer::UnknownVersion));
    }
}

impl Inner {
    fn end(&self, request: u64, answer: Result<Answer, NoAnswer>) {
        if let Some((_, waiting)) = self.pending.remove(&request) {
            let _ = waiting.send(answer);
        }
    }

    async fn why_unanswered(&self, node: NodeId) -> NoAnswer {
        match self.channel.is_gone(node).await {
            Ok(true) => NoAnswer::NoSuchNode,
            Ok(false) | Err(_) => NoAnswer::Unknown,
        }
    }
}

/// Removes a request at its end, whatever ends it.
struct Forget<'a> {
    pending: &'a DashMap<u64, oneshot::Sender<Result<Answer, NoAnswer>>>,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.remove(&self.number);
    }
}

/// Sends what waits, in order, until the bus is dropped.
async fn send_all(inner: std::sync::Weak<Inner>, mut waiting: mpsc::Receiver<(NodeId, Arc<[u8]>, Option<u64>)>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let Some(inner) = inner.upgrade() else { return };
        let messages: Vec<_> = batch.iter().map(|(node, message, _)| (*node, Arc::clone(message))).collect();
        let received = inner.channel.send(&messages).await;
        for (index, (node, _, request)) in batch.drain(..).enumerate() {
            let Some(request) = request else { continue };
            let missed = match &received {
                Ok(received) if received[index] => continue,
                Ok(_) => inner.why_unanswered(node).await,
                Err(_) => NoAnswer::Unknown,
            };
            inner.end(request, Err(missed));
        }
    }
}
