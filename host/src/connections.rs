//! The connections of this node, and the outbox through which messages reach each of them.
//!
//! Knows ids and outboxes. Does not know sockets, routes or guests.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use metrics::Counter;
use tokio::time::sleep;
use tracing::warn;

use crate::event::{EpochMillis, Field, now};
use crate::id::{ConnectionId, StageId};
use crate::limits::{ConnectionLimits, PEER_MEMORY_CLOSE_INTERVAL};
use crate::payload::Payload;
use crate::rate_limited_log::RateLimitedLog;
use crate::throttle::LazyThrottle;

pub mod budget;
mod outbox;

pub use outbox::{CloseFrame, Outbox, Post, PostError};

use budget::{Account, PeerMemory};

/// Close code and reason of the connection that holds most while all peers together hold too much.
const OVER_BUDGET: (u16, &str) = (1013, "Try again later");

/// What the host knows of the far end of a connection. It comes from the upgrade request and never changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    pub source_ip: String,
    pub user_agent: Option<String>,
    /// The host name that the peer requested.
    pub domain_name: String,
    /// The context that the authorizer returned with its grant.
    pub authorizer: Vec<Field>,
    /// The user whose access key signed the upgrade request.
    pub user: Option<String>,
    pub api_key: Option<PeerApiKey>,
}

/// The API key of a peer's upgrade request.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerApiKey {
    /// The name of the key in the manifest.
    pub id: Arc<str>,
    /// The key itself. It is never stored, so it is `None` for a connection that another process left behind.
    value: Option<Arc<str>>,
}

impl PeerApiKey {
    pub fn new(id: &Arc<str>, value: &str) -> Self {
        Self { id: Arc::clone(id), value: Some(value.into()) }
    }

    /// Creates a key of which only the name is known.
    pub fn id_only(id: &str) -> Self {
        Self { id: id.into(), value: None }
    }

    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

impl fmt::Debug for PeerApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One connection, from its upgrade request until its `$disconnect` has run.
pub struct Connection {
    pub id: ConnectionId,
    /// The stage to which the peer connected.
    pub stage: StageId,
    pub connected_at: EpochMillis,
    pub peer: Peer,
    pub outbox: Outbox,
    /// Largest message of the peer and to it, as the manifest said when it connected; 0 for a connection without a socket.
    pub message_bytes: usize,
    /// What the connection holds of the memory of all peers.
    pub account: Arc<Account>,
    /// Limits the rate of messages that the peer sends.
    pub throttle: LazyThrottle,
    /// Counts the messages posted to the connection, for CloudWatch's metric `MessageCount`.
    pub message_count: Counter,
    last_active_at: AtomicU64,
    /// Whether another node runs its `$disconnect` and has its row.
    is_given_up: AtomicBool,
    /// Whether the server closes it because it stops.
    is_leaving: AtomicBool,
}

impl Connection {
    /// Creates a connection whose `$connect` has not run yet: posts to it return `Gone`.
    pub fn new(
        id: ConnectionId,
        stage: StageId,
        peer: Peer,
        limits: &ConnectionLimits,
        memory: &Arc<PeerMemory>,
    ) -> Self {
        let account = memory.account();
        let connection = Self::create(id, stage, now(), peer, outbox(limits, &account), account);
        Self { message_bytes: limits.message_bytes, ..connection }
    }

    /// Creates a connection without a socket in this process, for example one that another process left behind. Posts
    /// to it return `Gone`.
    pub fn detached(id: ConnectionId, stage: StageId, connected_at: EpochMillis, peer: Peer) -> Self {
        let account = Account::detached();
        Self::create(id, stage, connected_at, peer, Outbox::new(0, 0, &account), account)
    }

    /// Returns the same connection with more information about its peer. Only for a connection that is not registered
    /// yet: the outbox is a new one.
    pub fn with_peer(&self, peer: Peer, limits: &ConnectionLimits) -> Self {
        let account = self.account.memory().account();
        let outbox = outbox(limits, &account);
        let mut connection = Self::create(self.id, self.stage, self.connected_at, peer, outbox, account);
        connection.message_bytes = limits.message_bytes;
        connection.message_count = self.message_count.clone();
        connection
    }

    fn create(
        id: ConnectionId,
        stage: StageId,
        connected_at: EpochMillis,
        peer: Peer,
        outbox: Outbox,
        account: Arc<Account>,
    ) -> Self {
        Self {
            id,
            stage,
            connected_at,
            peer,
            outbox,
            message_bytes: 0,
            account,
            throttle: LazyThrottle::default(),
            message_count: Counter::noop(),
            last_active_at: AtomicU64::new(connected_at),
            is_given_up: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
        }
    }

    /// Returns the bytes that wait for the peer or have come from it, as far as they are charged. Payloads that wait for
    /// other peers too are included.
    fn held_bytes(&self) -> usize {
        self.account.bytes() + self.outbox.shared_bytes()
    }

    /// Leaves its `$disconnect` and its row to another node.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// Whether another node runs its `$disconnect` and has its row.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// Requests that the task of the socket reads no more, handles what it has read, and closes with 1001.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.outbox.wake();
    }

    /// Takes no lock. A task that checks it after it has registered to be woken misses no request to leave.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// When the last message was sent or received.
    pub fn last_active_at(&self) -> EpochMillis {
        self.last_active_at.load(Ordering::Relaxed)
    }

    /// Records that a message was sent or received.
    pub fn touch(&self, at: EpochMillis) {
        self.last_active_at.store(at, Ordering::Relaxed);
    }
}

fn outbox(limits: &ConnectionLimits, account: &Arc<Account>) -> Outbox {
    Outbox::new(limits.outbox_messages, limits.outbox_bytes, account).with_message_limit(limits.message_bytes)
}

/// All connections of this node, by id.
pub struct Connections {
    by_id: DashMap<ConnectionId, Arc<Connection>>,
    /// The ids of the connections of each stage. Only `register`, its end and `ids_in_stage` lock an entry, so a post
    /// does not wait for it.
    by_stage: DashMap<StageId, HashSet<ConnectionId>>,
    counters: ConnectionCounters,
    memory: Arc<PeerMemory>,
    close_log: RateLimitedLog,
}

/// Metrics of connections.
pub struct ConnectionCounters {
    /// Messages that were queued.
    pub posts: Counter,
    /// Messages that a full outbox rejected.
    pub outbox_refusals: Counter,
    /// Messages that were rejected because all peers together hold too much.
    pub memory_refusals: Counter,
    /// Connections that were closed for the same reason.
    pub memory_closes: Counter,
}

impl ConnectionCounters {
    pub fn noop() -> Self {
        let noop = Counter::noop;
        Self { posts: noop(), outbox_refusals: noop(), memory_refusals: noop(), memory_closes: noop() }
    }
}

impl Connections {
    pub fn new(counters: ConnectionCounters, memory: Arc<PeerMemory>) -> Arc<Self> {
        Arc::new(Self {
            by_id: DashMap::new(),
            by_stage: DashMap::new(),
            counters,
            memory,
            close_log: RateLimitedLog::default(),
        })
    }

    /// The memory of all peers.
    pub fn memory(&self) -> &Arc<PeerMemory> {
        &self.memory
    }

    /// Adds the connection. Dropping the returned value removes it.
    pub fn register(self: &Arc<Self>, connection: impl Into<Arc<Connection>>) -> Presence {
        let connection = connection.into();
        self.by_stage.entry(connection.stage).or_default().insert(connection.id);
        self.by_id.insert(connection.id, Arc::clone(&connection));
        Presence { connections: Arc::clone(self), connection }
    }

    /// Returns the connection of that stage if messages can be sent to it.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id.
    pub fn get_open(&self, stage: StageId, id: &ConnectionId) -> Result<Arc<Connection>, PostError> {
        let connection = self.by_id.get(id).filter(|connection| connection.stage == stage).ok_or(PostError::Gone)?;
        if connection.outbox.is_open() { Ok(Arc::clone(&connection)) } else { Err(PostError::Gone) }
    }

    /// Prepares a payload that many connections get.
    ///
    /// # Errors
    /// `OverBudget` if it does not fit into the memory of all peers.
    pub fn share(&self, payload: Payload) -> Result<Post, PostError> {
        let shared = Post::share(payload, &self.memory);
        if shared.is_err() {
            self.counters.memory_refusals.increment(1);
        }
        shared
    }

    /// Queues a message for the peer. Returns when it is queued, not when it is delivered.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id, `TooLarge` if the message is larger than those of that
    /// connection, `LimitExceeded` if the outbox is full, `OverBudget` if the message does not fit into the memory of all
    /// peers.
    pub fn post(&self, stage: StageId, id: &ConnectionId, post: impl Into<Post>) -> Result<(), PostError> {
        // The guard of the map is held only while the payload is queued, and never across an await.
        let connection = self.by_id.get(id).filter(|connection| connection.stage == stage).ok_or(PostError::Gone)?;
        let posted = connection.outbox.post(post);
        match posted {
            Ok(()) => {
                self.counters.posts.increment(1);
                connection.message_count.increment(1);
            }
            Err(PostError::LimitExceeded) => self.counters.outbox_refusals.increment(1),
            Err(PostError::OverBudget) => self.counters.memory_refusals.increment(1),
            Err(PostError::Gone | PostError::TooLarge(_) | PostError::Unanswered) => {}
        }
        posted
    }

    /// Closes the connection from this side.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id.
    pub fn delete(&self, stage: StageId, id: &ConnectionId, frame: CloseFrame) -> Result<(), PostError> {
        let connection = self.by_id.get(id).filter(|connection| connection.stage == stage).ok_or(PostError::Gone)?;
        if connection.outbox.close(frame) { Ok(()) } else { Err(PostError::Gone) }
    }

    /// Requests that every connection leaves.
    pub fn leave_all(&self) {
        self.by_id.iter().for_each(|connection| connection.leave());
    }

    /// Returns the connections that have not been asked to leave and that `is_due` gives a time, with their times.
    pub fn staying<T>(&self, is_due: impl Fn(&ConnectionId) -> Option<T>) -> Vec<(T, Arc<Connection>)> {
        let staying = self.by_id.iter().filter(|connection| !connection.is_leaving());
        staying.filter_map(|connection| Some((is_due(&connection.id)?, Arc::clone(&connection)))).collect()
    }

    /// Closes connections with 1013, the one that holds most first, whenever all peers together hold too much for a
    /// while or a message was rejected for it. Never returns.
    pub async fn enforce_memory_limit(&self) {
        loop {
            self.memory.must_close().await;
            while self.memory.is_short(0) {
                self.close_largest();
                sleep(PEER_MEMORY_CLOSE_INTERVAL).await;
            }
        }
    }

    /// Closes the open connection that holds most, if one holds anything and those that are closed already do not hold
    /// enough: the message that a handler has is held until the handler ends.
    fn close_largest(&self) {
        let (mut largest, mut releasing) = (None, 0);
        for connection in &self.by_id {
            if !connection.outbox.can_abort() {
                releasing += connection.account.bytes();
                continue;
            }
            let bytes = connection.held_bytes();
            if bytes > largest.as_ref().map_or(0, |(bytes, _)| *bytes) {
                largest = Some((bytes, Arc::clone(&connection)));
            }
        }
        let Some((bytes, connection)) = largest.filter(|_| self.memory.is_short(releasing)) else { return };
        let (code, reason) = OVER_BUDGET;
        if connection.outbox.abort(CloseFrame::new(code, reason)) {
            self.counters.memory_closes.increment(1);
            self.close_log.log(|suppressed| {
                let max = self.memory.bytes_max();
                warn!(
                    connection_id = %connection.id, source = %connection.peer.source_ip, bytes, code, suppressed,
                    "closed the connection that holds most: all peers together hold more than {max} bytes (peer_memory \
                     in [server])"
                );
            });
        }
    }

    /// Ends all open connections with `frame`, and leaves their `$disconnect` and their rows to another node. Returns how
    /// many there were.
    pub fn give_up(&self, frame: &CloseFrame) -> usize {
        let mut count = 0;
        for connection in &self.by_id {
            connection.give_up();
            count += usize::from(connection.outbox.abort(frame.clone()));
        }
        count
    }

    /// Returns the ids of all connections of a stage, including those whose `$connect` still runs.
    pub fn ids_in_stage(&self, stage: StageId) -> Vec<ConnectionId> {
        self.by_stage.get(&stage).map(|ids| ids.iter().copied().collect()).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Keeps a connection registered. Dropping it closes the outbox and removes the connection.
pub struct Presence {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Deref for Presence {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.connection.outbox.shut();
        self.connections.by_id.remove(&self.connection.id);
        if let Some(mut ids) = self.connections.by_stage.get_mut(&self.connection.stage) {
            ids.remove(&self.connection.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ApiNumber, NodeId, StageNames};

    #[test]
    fn a_connection_is_reached_only_in_its_own_stage() {
        let stages = StageNames::default();
        let [dev, prod, empty] = ["dev", "prod", "empty"].map(|name| stages.id(ApiNumber(0), name));
        let connections = Connections::new(ConnectionCounters::noop(), PeerMemory::new(usize::MAX));
        let open = |stage| {
            let id = ConnectionId::random(NodeId(0));
            let connection =
                Connection::new(id, stage, Peer::default(), &ConnectionLimits::default(), connections.memory());
            connection.outbox.open();
            connections.register(connection)
        };
        let (first, second) = (open(dev), open(prod));
        let hello = || Payload::from("hello".to_owned());
        for (stage, own, other) in [(dev, &first, &second), (prod, &second, &first)] {
            assert_eq!(connections.ids_in_stage(stage), [own.id]);
            assert!(connections.get_open(stage, &own.id).is_ok());
            assert_eq!(connections.get_open(stage, &other.id).err(), Some(PostError::Gone));
            assert_eq!(connections.post(stage, &own.id, hello()), Ok(()));
            assert_eq!(connections.post(stage, &other.id, hello()), Err(PostError::Gone));
            assert_eq!(connections.delete(stage, &other.id, CloseFrame::new(1000, "")), Err(PostError::Gone));
        }
        assert_eq!(connections.ids_in_stage(empty), []);
        drop(first);
        assert_eq!(connections.ids_in_stage(dev), []);
        assert_eq!(connections.ids_in_stage(prod), [second.id]);
        assert_eq!(connections.delete(prod, &second.id, CloseFrame::new(1000, "")), Ok(()));
    }
}
