//! The connections of this node, and the outbox through which messages reach each of them.
//!
//! Knows ids and outboxes. Does not know sockets, routes or guests.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use metrics::Counter;

use crate::event::{EpochMillis, Field, now};
use crate::id::{ConnectionId, StageId};
use crate::limits::ConnectionLimits;
use crate::payload::Payload;
use crate::throttle::LazyThrottle;

mod outbox;

pub use outbox::{CloseFrame, Outbox, PostError};

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
    /// Limits the rate of messages that the peer sends.
    pub throttle: LazyThrottle,
    /// Counts the messages posted to the connection, for CloudWatch's metric `MessageCount`.
    pub message_count: Counter,
    last_active_at: AtomicU64,
}

impl Connection {
    /// Creates a connection whose `$connect` has not run yet: posts to it return `Gone`.
    pub fn new(id: ConnectionId, stage: StageId, peer: Peer, limits: &ConnectionLimits) -> Self {
        Self::create(id, stage, now(), peer, Outbox::new(limits.outbox_messages, limits.outbox_bytes))
    }

    /// Creates a connection without a socket in this process, for example one that another process left behind. Posts
    /// to it return `Gone`.
    pub fn detached(id: ConnectionId, stage: StageId, connected_at: EpochMillis, peer: Peer) -> Self {
        Self::create(id, stage, connected_at, peer, Outbox::new(0, 0))
    }

    /// Returns the same connection with more information about its peer. Only for a connection that is not registered
    /// yet: the outbox is a new one.
    pub fn with_peer(&self, peer: Peer, limits: &ConnectionLimits) -> Self {
        let outbox = Outbox::new(limits.outbox_messages, limits.outbox_bytes);
        let mut connection = Self::create(self.id, self.stage, self.connected_at, peer, outbox);
        connection.message_count = self.message_count.clone();
        connection
    }

    fn create(id: ConnectionId, stage: StageId, connected_at: EpochMillis, peer: Peer, outbox: Outbox) -> Self {
        let last_active_at = AtomicU64::new(connected_at);
        let throttle = LazyThrottle::default();
        Self { id, stage, connected_at, peer, outbox, throttle, message_count: Counter::noop(), last_active_at }
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

/// All connections of this node, by id.
pub struct Connections {
    by_id: DashMap<ConnectionId, Arc<Connection>>,
    /// The ids of the connections of each stage. Only `register`, its end and `ids_in_stage` lock an entry, so a post
    /// does not wait for it.
    by_stage: DashMap<StageId, HashSet<ConnectionId>>,
    posts: Counter,
    rejected_posts: Counter,
}

impl Connections {
    /// `posts` counts messages that were queued, `rejected_posts` those that a full outbox rejected.
    pub fn new(posts: Counter, rejected_posts: Counter) -> Arc<Self> {
        Arc::new(Self { by_id: DashMap::new(), by_stage: DashMap::new(), posts, rejected_posts })
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

    /// Queues `payload` for the peer. Returns when it is queued, not when it is delivered.
    ///
    /// # Errors
    /// `Gone` if the stage has no open connection with that id, `LimitExceeded` if the outbox is full.
    pub fn post(&self, stage: StageId, id: &ConnectionId, payload: Payload) -> Result<(), PostError> {
        // The guard of the map is held only while the payload is queued, and never across an await.
        let connection = self.by_id.get(id).filter(|connection| connection.stage == stage).ok_or(PostError::Gone)?;
        let posted = connection.outbox.post(payload);
        match posted {
            Ok(()) => {
                self.posts.increment(1);
                connection.message_count.increment(1);
            }
            Err(PostError::LimitExceeded) => self.rejected_posts.increment(1),
            Err(PostError::Gone) => {}
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
        let connections = Connections::new(Counter::noop(), Counter::noop());
        let open = |stage| {
            let id = ConnectionId::random(NodeId(0));
            let connection = Connection::new(id, stage, Peer::default(), &ConnectionLimits::default());
            connection.outbox.open();
            connections.register(connection)
        };
        let (first, second) = (open(dev), open(prod));
        for (stage, own, other) in [(dev, &first, &second), (prod, &second, &first)] {
            assert_eq!(connections.ids_in_stage(stage), [own.id]);
            assert!(connections.get_open(stage, &own.id).is_ok());
            assert_eq!(connections.get_open(stage, &other.id).err(), Some(PostError::Gone));
            assert_eq!(connections.post(stage, &own.id, "hello".to_owned().into()), Ok(()));
            assert_eq!(connections.post(stage, &other.id, "hello".to_owned().into()), Err(PostError::Gone));
            assert_eq!(connections.delete(stage, &other.id, CloseFrame::new(1000, "")), Err(PostError::Gone));
        }
        assert_eq!(connections.ids_in_stage(empty), []);
        drop(first);
        assert_eq!(connections.ids_in_stage(dev), []);
        assert_eq!(connections.ids_in_stage(prod), [second.id]);
        assert_eq!(connections.delete(prod, &second.id, CloseFrame::new(1000, "")), Ok(()));
    }
}
