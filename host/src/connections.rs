//! The connections of this node: who is here, and how to reach them.
//!
//! Knows ids and outboxes. Does not know sockets, routes or guests.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use metrics::Counter;

use crate::event::{EpochMillis, Field, now};
use crate::id::ConnectionId;
use crate::limits::ConnectionLimits;
use crate::payload::Payload;
use crate::throttle::OwnThrottle;

mod outbox;

pub use outbox::{CloseFrame, Outbox, PostError};

/// Who is at the far end of a connection, as its upgrade request told. It stays as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    pub source_ip: String,
    pub user_agent: Option<String>,
    /// The host that the peer asked for.
    pub domain_name: String,
    /// What the authorizer put into its grant.
    pub authorizer: Vec<Field>,
    /// The user whose access key signed the upgrade request.
    pub user: Option<String>,
    pub api_key: Option<HeldApiKey>,
}

/// The API key that a peer came in with.
#[derive(Clone, PartialEq, Eq)]
pub struct HeldApiKey {
    /// The manifest's name of it.
    pub id: Arc<str>,
    /// The key itself, which is kept nowhere else: a connection that another process left behind has it no more.
    value: Option<Arc<str>>,
}

impl HeldApiKey {
    pub fn new(id: &Arc<str>, value: &str) -> Self {
        Self { id: Arc::clone(id), value: Some(value.into()) }
    }

    /// The same where only its name is known.
    pub fn named(id: &str) -> Self {
        Self { id: id.into(), value: None }
    }

    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

impl fmt::Debug for HeldApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One connection, from its upgrade request until its `$disconnect` has run.
pub struct Connection {
    pub id: ConnectionId,
    /// The name of the stage that the peer asked for.
    pub stage: Arc<str>,
    pub connected_at: EpochMillis,
    pub peer: Peer,
    pub outbox: Outbox,
    /// Of its messages.
    pub throttle: OwnThrottle,
    /// Counts what is posted to it, as CloudWatch's metric of that name does.
    pub message_count: Counter,
    last_active_at: AtomicU64,
}

impl Connection {
    /// A connection whose `$connect` is still to run: posts to it answer `Gone`.
    pub fn new(id: ConnectionId, stage: Arc<str>, peer: Peer, limits: &ConnectionLimits) -> Self {
        Self::at(id, stage, now(), peer, Outbox::new(limits.outbox_messages, limits.outbox_bytes))
    }

    /// A connection that another process left behind; nothing can be sent to it.
    pub fn left_behind(id: ConnectionId, stage: Arc<str>, connected_at: EpochMillis, peer: Peer) -> Self {
        Self::at(id, stage, connected_at, peer, Outbox::new(0, 0))
    }

    /// The same connection, before anybody knows it, of a peer that is known better.
    pub fn of_peer(&self, peer: Peer, limits: &ConnectionLimits) -> Self {
        let outbox = Outbox::new(limits.outbox_messages, limits.outbox_bytes);
        let mut connection = Self::at(self.id, Arc::clone(&self.stage), self.connected_at, peer, outbox);
        connection.message_count = self.message_count.clone();
        connection
    }

    fn at(id: ConnectionId, stage: Arc<str>, connected_at: EpochMillis, peer: Peer, outbox: Outbox) -> Self {
        let last_active_at = AtomicU64::new(connected_at);
        let throttle = OwnThrottle::default();
        Self { id, stage, connected_at, peer, outbox, throttle, message_count: Counter::noop(), last_active_at }
    }

    /// When a message last went either way.
    pub fn last_active_at(&self) -> EpochMillis {
        self.last_active_at.load(Ordering::Relaxed)
    }

    pub fn touch(&self, at: EpochMillis) {
        self.last_active_at.store(at, Ordering::Relaxed);
    }
}

/// All connections of this node by their ids.
pub struct Connections {
    by_id: DashMap<ConnectionId, Arc<Connection>>,
    posts: Counter,
    refusals: Counter,
}

impl Connections {
    /// `posts` counts what was queued, `refusals` what a full outbox refused.
    pub fn new(posts: Counter, refusals: Counter) -> Arc<Self> {
        Arc::new(Self { by_id: DashMap::new(), posts, refusals })
    }

    /// Makes the connection known. Leaving the scope of what comes back, in any way, removes it.
    pub fn enter(self: &Arc<Self>, connection: impl Into<Arc<Connection>>) -> Presence {
        let connection = connection.into();
        self.by_id.insert(connection.id, Arc::clone(&connection));
        Presence { connections: Arc::clone(self), connection }
    }

    pub fn get(&self, id: &ConnectionId) -> Option<Arc<Connection>> {
        self.by_id.get(id).map(|entry| Arc::clone(entry.value()))
    }

    /// The connection of that stage, if something can be sent to it.
    pub fn open(&self, stage: &str, id: &ConnectionId) -> Result<Arc<Connection>, PostError> {
        let reachable = |connection: &Arc<Connection>| connection.outbox.is_open() && *connection.stage == *stage;
        self.get(id).filter(reachable).ok_or(PostError::Gone)
    }

    /// Queues `payload` for the peer; returns when it is queued, not when it is delivered.
    ///
    /// # Errors
    /// `Gone` if nobody of that stage holds the id (yet, or any more), `LimitExceeded` if its outbox
    /// is full.
    pub fn post(&self, stage: &str, id: &ConnectionId, payload: Payload) -> Result<(), PostError> {
        // The guard of the map is held for the few instructions of a push; nothing is awaited.
        let connection = self.by_id.get(id).filter(|connection| *connection.stage == *stage).ok_or(PostError::Gone)?;
        let posted = connection.outbox.post(payload);
        match posted {
            Ok(()) => {
                self.posts.increment(1);
                connection.message_count.increment(1);
            }
            Err(PostError::LimitExceeded) => self.refusals.increment(1),
            Err(PostError::Gone) => {}
        }
        posted
    }

    /// Closes the connection from this side.
    pub fn delete(&self, stage: &str, id: &ConnectionId, frame: CloseFrame) -> Result<(), PostError> {
        let connection = self.by_id.get(id).filter(|connection| *connection.stage == *stage).ok_or(PostError::Gone)?;
        if connection.outbox.close(frame) { Ok(()) } else { Err(PostError::Gone) }
    }

    /// All of that stage, also those whose `$connect` still runs.
    pub fn of_stage(&self, stage: &str) -> Vec<ConnectionId> {
        self.by_id.iter().filter(|connection| *connection.stage == *stage).map(|connection| connection.id).collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Keeps a connection among the known ones for as long as it is held.
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
    }
}
