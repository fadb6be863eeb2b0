//! All connections of the API: those of this process, and those of other nodes, which are asked over the bus.
//!
//! The only module that knows of nodes. A call for a connection of this process never waits and never leaves it. Its future is
//! small, because what is sent to another node has a future of its own (`Box::pin`): wasmtime moves the future of a host call.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::backend::{AttributeChange, Backend, BackendError, Channel, Renewal, StoreName};
use crate::connections::{CloseFrame, Connection, Connections, Post, PostError};
use crate::id::{ApiNumber, ConnectionId, NodeId, StageId};
use crate::limits::TURN_POSTS;
use crate::rate_limited_log::RateLimitedLog;

mod bus;
mod counters;
mod message;
mod nodes;

use bus::{Bus, NoAnswer};
use message::{Answer, Body, Change, ChangeOutcome, FORMAT, Message, PostOutcome, READ, Received, Request, Unreadable};

pub use counters::BusCounters;
pub use message::{ConnectionInfo, NodeAnswer, NodeRequest};
pub use nodes::NodeCall;

pub struct Directory {
    connections: Arc<Connections>,
    backend: Backend,
    /// `None`: this process is the only node.
    bus: Option<Bus>,
    /// Changes of rows that other nodes have asked for and that wait for the store.
    changes: Arc<Semaphore>,
    /// Requests of other nodes that the gateway answers.
    node_calls: OnceLock<mpsc::Sender<NodeCall>>,
    /// Log of nodes that do not answer, and of messages that cannot be read.
    bus_log: RateLimitedLog,
}

/// Limit of changes of rows that other nodes have asked for and that wait for the store.
const CHANGES_MAX: usize = 256;

impl Directory {
    /// The directory of a process that is the only node.
    pub fn local(connections: Arc<Connections>, backend: Backend) -> Arc<Self> {
        Arc::new(Self::new(connections, backend, None))
    }

    /// The directory of one of several nodes. Answers the requests of the others from now on.
    pub fn of_node(
        connections: Arc<Connections>,
        backend: Backend,
        channel: Channel,
        received: mpsc::Receiver<Vec<u8>>,
        counters: BusCounters,
    ) -> Arc<Self> {
        let directory = Arc::new(Self::new(connections, backend, Some(Bus::new(channel, counters))));
        tokio::spawn(Arc::clone(&directory).receive(received));
        directory
    }

    fn new(connections: Arc<Connections>, backend: Backend, bus: Option<Bus>) -> Self {
        let changes = Arc::new(Semaphore::new(CHANGES_MAX));
        let (node_calls, bus_log) = (OnceLock::new(), RateLimitedLog::default());
        Self { connections, backend, bus, changes, node_calls, bus_log }
    }

    /// The connections of this process.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Whether there may be other nodes.
    pub fn has_other_nodes(&self) -> bool {
        self.bus.is_some()
    }

    /// The number that the ids of this node's connections have.
    pub fn node(&self) -> NodeId {
        self.bus.as_ref().map_or(NodeId(0), Bus::node)
    }

    /// Returns the bus, if another node has the connection.
    fn bus_to(&self, id: &ConnectionId) -> Option<&Bus> {
        self.bus.as_ref().filter(|bus| bus.node() != id.node())
    }

    /// Queues a message for the peer, on whichever node it is.
    ///
    /// # Errors
    /// As [`Connections::post`]; `Unanswered` if the other node does not answer: it may have queued the message.
    pub async fn post(&self, stage: StageId, id: &ConnectionId, post: impl Into<Post>) -> Result<(), PostError> {
        let Some(bus) = self.bus_to(id) else { return self.connections.post(stage, id, post) };
        let request = Request::Post { ids: vec![id.to_string()], payload: post.into().payload().into() };
        let results = Box::pin(self.ask_about(bus, id.node(), stage, 1, request, posted)).await;
        bus.counters().count_posts(&results);
        results.into_iter().next().unwrap_or(Err(PostError::Unanswered))
    }

    /// Sends the same message to many connections: one request to each node that has any. Returns the results in the
    /// order of the ids.
    pub async fn post_to_many(&self, stage: StageId, ids: &[ConnectionId], post: Post) -> Vec<Result<(), PostError>> {
        let mut results = vec![Err(PostError::Unanswered); ids.len()];
        let local = ids.iter().zip(&mut results).filter(|(id, _)| self.bus_to(id).is_none());
        for (posted, (id, result)) in local.enumerate() {
            if posted > 0 && posted % TURN_POSTS == 0 {
                tokio::task::yield_now().await;
            }
            *result = self.connections.post(stage, id, post.clone());
        }
        if let Some(bus) = &self.bus {
            let request = |ids| Request::Post { ids, payload: post.payload().into() };
            Box::pin(self.ask_owners(bus, stage, ids, &mut results, request, posted)).await;
            let remote = ids.iter().zip(&results).filter(|(id, _)| self.bus_to(id).is_some());
            bus.counters().count_posts(remote.map(|(_, result)| result));
        }
        results
    }

    /// Returns what is known of an open connection.
    ///
    /// # Errors
    /// `Gone` if there is none, `Unanswered` if its node does not answer.
    pub async fn info(&self, stage: StageId, id: &ConnectionId) -> Result<ConnectionInfo, PostError> {
        match self.infos(stage, &[*id]).await.pop() {
            Some(info) => info,
            None => Err(PostError::Gone),
        }
    }

    /// Returns the same for many connections, in the order of the ids.
    pub async fn infos(&self, stage: StageId, ids: &[ConnectionId]) -> Vec<Result<ConnectionInfo, PostError>> {
        let mut results = vec![Err(PostError::Unanswered); ids.len()];
        for (id, result) in ids.iter().zip(&mut results).filter(|(id, _)| self.bus_to(id).is_none()) {
            *result = self.connections.get_open(stage, id).map(|connection| (&*connection).into());
        }
        if let Some(bus) = &self.bus {
            Box::pin(self.ask_owners(bus, stage, ids, &mut results, |ids| Request::Info { ids }, infos)).await;
        }
        results
    }

    /// Sends one request to each other node that has any of these connections, all at the same time. Writes what it
    /// answers to the results of its connections.
    async fn ask_owners<T: Clone>(
        &self,
        bus: &Bus,
        stage: StageId,
        ids: &[ConnectionId],
        results: &mut [Result<T, PostError>],
        request: impl Fn(Vec<String>) -> Request,
        read: ReadAnswer<T>,
    ) {
        let mut owners: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| self.bus_to(id).is_some()) {
            owners.entry(id.node()).or_default().push(index);
        }
        let asked = owners.into_iter().map(|(node, indexes)| {
            let request = request(indexes.iter().map(|index| ids[*index].to_string()).collect());
            async move {
                let answers = self.ask_about(bus, node, stage, indexes.len(), request, read).await;
                indexes.into_iter().zip(answers)
            }
        });
        for (index, answer) in join_all(asked).await.into_iter().flatten() {
            results[index] = answer;
        }
    }

    /// Sends a request about as many connections to the node that has them. Returns one result for each.
    async fn ask_about<T: Clone>(
        &self,
        bus: &Bus,
        node: NodeId,
        stage: StageId,
        count: usize,
        request: Request,
        read: ReadAnswer<T>,
    ) -> Vec<Result<T, PostError>> {
        let failed = |error: PostError| vec![Err(error); count];
        match self.ask(bus, node, stage, request).await {
            Ok(answer) => {
                let results = read(answer).filter(|results| results.len() == count);
                results.unwrap_or_else(|| failed(PostError::Unanswered))
            }
            Err(NoAnswer::NoSuchNode) => failed(PostError::Gone),
            Err(NoAnswer::Unknown | NoAnswer::UnknownVersion) => failed(PostError::Unanswered),
        }
    }

    /// Closes a connection from this side.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id, `Unanswered` if its node does not answer.
    pub async fn close(&self, stage: StageId, id: &ConnectionId, frame: CloseFrame) -> Result<(), PostError> {
        let Some(bus) = self.bus_to(id) else { return self.connections.delete(stage, id, frame) };
        let request = Request::Close { id: id.to_string(), code: frame.code, reason: frame.reason };
        match Box::pin(self.ask(bus, id.node(), stage, request)).await {
            Ok(Answer::Closed(true)) => Ok(()),
            Ok(Answer::Closed(false)) | Err(NoAnswer::NoSuchNode) => Err(PostError::Gone),
            Ok(_) | Err(NoAnswer::Unknown | NoAnswer::UnknownVersion) => Err(PostError::Unanswered),
        }
    }

    /// Changes the attributes of a row. The node that has the connection makes the change.
    pub async fn change(
        &self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        // A row that was taken over from a node that is gone has the number of that node.
        let bus = self.bus_to(&id).filter(|_| !self.backend.has_own_row(stage, id));
        let Some(bus) = bus else {
            return self.backend.connection_store(stage, store).change(id, change).await;
        };
        let name = if let StoreName::Named(name) = store { Some((**name).to_owned()) } else { None };
        let change = Change { id: id.to_string(), store: name, change };
        let stage = self.backend.stages().name(stage).to_string();
        match Box::pin(self.send(bus, id.node(), Body::Change { stage, change })).await {
            Ok(Answer::Changed(outcome)) => outcome.into(),
            Err(NoAnswer::NoSuchNode) => Err(BackendError::NoSuchConnection),
            Err(NoAnswer::UnknownVersion) => {
                Err(BackendError::Unavailable("the node of the connection has another version".to_owned()))
            }
            Ok(_) | Err(NoAnswer::Unknown) => {
                Err(BackendError::Unavailable("the node of the connection does not answer".to_owned()))
            }
        }
    }

    async fn ask(&self, bus: &Bus, node: NodeId, stage: StageId, request: Request) -> Result<Answer, NoAnswer> {
        let stage = self.backend.stages().name(stage).to_string();
        self.send(bus, node, Body::Request { stage, request }).await
    }

    async fn send(&self, bus: &Bus, node: NodeId, body: Body) -> Result<Answer, NoAnswer> {
        let answer = bus.ask(node, body).await;
        if matches!(answer, Err(NoAnswer::Unknown)) {
            self.bus_log.log(|suppressed| {
                warn!(node = node.0, suppressed, "a node does not answer; whether it got the request is unknown");
            });
        }
        answer
    }

    // ---- requests of other nodes -----------------------------------------------------------

    async fn receive(self: Arc<Self>, mut received: mpsc::Receiver<Vec<u8>>) {
        while let Some(bytes) = received.recv().await {
            let Some(bus) = &self.bus else { return };
            bus.counters().received.increment(1);
            let (from, number, body) = match Message::decode(&bytes) {
                Some(Received::Message(Message { from, request, body })) => (NodeId(from), request, body),
                other => {
                    self.receive_unknown(bus, other);
                    continue;
                }
            };
            // After a pause, or after Redis was away from this node, another one may have taken over. Then senders have got
            // the answer that the connection is gone.
            if !matches!(body, Body::Answer(_))
                && self.backend.lease_may_be_lost()
                && !matches!(self.backend.renew_lease().await, Ok(Renewal::Renewed | Renewal::Restored))
            {
                continue;
            }
            match body {
                Body::Answer(answer) => bus.complete(number, answer),
                Body::Change { stage, change } => {
                    // A change waits for the store, so it must not delay the messages behind it.
                    let Ok(permit) = Arc::clone(&self.changes).try_acquire_owned() else {
                        let outcome = ChangeOutcome::Unavailable("too many changes of other nodes wait".to_owned());
                        bus.answer(from, number, Answer::Changed(outcome));
                        continue;
                    };
                    let directory = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _permit = permit;
                        let outcome = directory.change_own(&stage, change).await;
                        if let Some(bus) = &directory.bus {
                            bus.answer(from, number, Answer::Changed(outcome));
                        }
                    });
                }
                Body::Node(request) => self.receive_node_request(bus, from, number, request),
                Body::Request { stage, request } => bus.answer(from, number, self.handle(&stage, request)),
            }
        }
    }

    /// Handles what a node of another version has sent: a request that cannot be read is answered, and a request without an
    /// answer that can be read ends.
    fn receive_unknown(&self, bus: &Bus, received: Option<Received>) {
        if !matches!(received, Some(Received::UnknownVersion { .. })) {
            bus.counters().dropped_unreadable.increment(1);
        }
        match received {
            Some(Received::Unreadable(Unreadable { from, request, version, is_answer })) => {
                if is_answer {
                    bus.fail_for_version(request);
                } else {
                    bus.answer_unreadable(NodeId(from), request);
                }
                let what = if is_answer { "an answer" } else { "a request" };
                self.bus_log.log(|suppressed| {
                    warn!(
                        node = from,
                        version,
                        suppressed,
                        "cannot read {what} of another node: its messages have version {version}, and this node reads those of \
                         {READ:?}, except what is new in the last one; update the older node"
                    );
                });
            }
            Some(Received::UnknownVersion { from, request, newest }) => {
                bus.fail_for_version(request);
                self.bus_log.log(|suppressed| {
                    warn!(
                        node = from,
                        version = newest,
                        suppressed,
                        "another node cannot read a request of this one: its messages have version {newest}, and those of \
                         this node {FORMAT}; update the older node"
                    );
                });
            }
            Some(Received::Message(_)) | None => self.bus_log.log(|suppressed| {
                warn!(suppressed, "dropped what is no message of a node; check what else writes to this store");
            }),
        }
    }

    fn stage(&self, name: &str) -> StageId {
        self.backend.stages().id(ApiNumber(0), name)
    }

    fn handle(&self, stage: &str, request: Request) -> Answer {
        let stage = self.stage(stage);
        match request {
            Request::Post { ids, payload } => {
                let post = match self.connections.share(payload.into()) {
                    Ok(post) => post,
                    Err(error) => return Answer::Posted(vec![error.into(); ids.len()]),
                };
                let post_to = |id: &String| match ConnectionId::parse(id) {
                    Ok(id) => self.connections.post(stage, &id, post.clone()).into(),
                    Err(_) => PostOutcome::Gone,
                };
                Answer::Posted(ids.iter().map(post_to).collect())
            }
            Request::Info { ids } => {
                let info = |id: &String| {
                    let connection = self.connections.get_open(stage, &ConnectionId::parse(id).ok()?).ok()?;
                    Some(ConnectionInfo::from(&*connection))
                };
                Answer::Info(ids.iter().map(info).collect())
            }
            Request::Close { id, code, reason } => {
                let frame = CloseFrame::new(code, &reason);
                let closed = ConnectionId::parse(&id).map(|id| self.connections.delete(stage, &id, frame));
                Answer::Closed(matches!(closed, Ok(Ok(()))))
            }
        }
    }

    async fn change_own(&self, stage: &str, change: Change) -> ChangeOutcome {
        let Change { id, store, change } = change;
        let Ok(id) = ConnectionId::parse(&id) else { return ChangeOutcome::NoSuchConnection };
        let store = store.map_or(StoreName::Shared, |name| StoreName::Named(name.into()));
        self.backend.connection_store(self.stage(stage), &store).change(id, change).await.into()
    }
}

/// Returns the results of an answer, or `None` if it is the answer to another request.
type ReadAnswer<T> = fn(Answer) -> Option<Vec<Result<T, PostError>>>;

fn posted(answer: Answer) -> Option<Vec<Result<(), PostError>>> {
    let Answer::Posted(outcomes) = answer else { return None };
    Some(outcomes.into_iter().map(Result::from).collect())
}

fn infos(answer: Answer) -> Option<Vec<Result<ConnectionInfo, PostError>>> {
    let Answer::Info(infos) = answer else { return None };
    Some(infos.into_iter().map(|info| info.ok_or(PostError::Gone)).collect())
}

impl From<&Connection> for ConnectionInfo {
    fn from(connection: &Connection) -> Self {
        Self {
            connected_at: connection.connected_at,
            last_active_at: connection.last_active_at(),
            source_ip: connection.peer.source_ip.clone(),
            user_agent: connection.peer.user_agent.clone(),
            message_bytes: connection.message_bytes,
        }
    }
}

impl From<Result<(), PostError>> for PostOutcome {
    fn from(result: Result<(), PostError>) -> Self {
        match result {
            Ok(()) => Self::Queued,
            Err(error) => error.into(),
        }
    }
}

impl From<PostError> for PostOutcome {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Gone => Self::Gone,
            PostError::LimitExceeded | PostError::Unanswered => Self::LimitExceeded,
            PostError::OverBudget => Self::OverBudget,
            PostError::TooLarge(bytes) => Self::TooLarge(u32::try_from(bytes).unwrap_or(u32::MAX)),
        }
    }
}

impl From<PostOutcome> for Result<(), PostError> {
    fn from(outcome: PostOutcome) -> Self {
        match outcome {
            PostOutcome::Queued => Ok(()),
            PostOutcome::Gone => Err(PostError::Gone),
            PostOutcome::LimitExceeded => Err(PostError::LimitExceeded),
            PostOutcome::OverBudget => Err(PostError::OverBudget),
            PostOutcome::TooLarge(bytes) => Err(PostError::TooLarge(bytes as usize)),
        }
    }
}

impl From<Result<(), BackendError>> for ChangeOutcome {
    fn from(result: Result<(), BackendError>) -> Self {
        match result {
            Ok(()) => Self::Changed,
            Err(BackendError::NoSuchConnection) => Self::NoSuchConnection,
            Err(BackendError::TooLarge(text)) => Self::TooLarge(text),
            Err(error) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ChangeOutcome> for Result<(), BackendError> {
    fn from(outcome: ChangeOutcome) -> Self {
        match outcome {
            ChangeOutcome::Changed => Ok(()),
            ChangeOutcome::NoSuchConnection => Err(BackendError::NoSuchConnection),
            ChangeOutcome::TooLarge(text) => Err(BackendError::TooLarge(text)),
            ChangeOutcome::Unavailable(text) => Err(BackendError::Unavailable(text)),
        }
    }
}
