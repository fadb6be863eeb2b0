//! What nodes send to each other, and how nodes of neighbouring versions understand each other.
//!
//! A message is the version of its format, its head and its body. The head never changes, so a request that cannot be read
//! still gets an answer: that its version is unknown.

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::backend::AttributeChange;
use crate::event::EpochMillis;
use crate::payload::Payload;

/// The version of the format. It grows by one in the first release after a change of these types: 2 added the answer that a
/// version is unknown, and requests about a node.
///
/// A variant never changes its encoding or its place, also not by a field at its end; new ones come last. So a node reads
/// what a neighbour sends, except variants that it does not have. A variant that replaces another one is read first, written
/// one version later, and the old one is removed another version later. An answer uses nothing that is newer than the version
/// of its request.
pub const FORMAT: u8 = 2;

/// The versions that are read: this one and its neighbours.
pub const READ: RangeInclusive<u8> = FORMAT - 1..=FORMAT + 1;

/// In place of a version: the message is the answer that the version of a request is unknown. After the head it has the
/// newest version that its sender knows. This form never changes.
const UNKNOWN_VERSION: u8 = 0;

/// The place of `Answer` in `Body`. Every other variant is a request, also those that this version does not have.
const ANSWER_PLACE: u8 = 2;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The node that has sent it.
    pub from: u16,
    /// The number of a request of the node that has sent it, or, in an answer, of the one that receives it.
    pub request: u64,
    pub body: Body,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Request { stage: String, request: Request },
    Change { stage: String, change: Change },
    Answer(Answer),
    Node(NodeRequest),
}

/// A request about connections of the node that receives it, which is answered at once.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Sends the same payload to each of them.
    Post {
        ids: Vec<String>,
        payload: SentPayload,
    },
    Info {
        ids: Vec<String>,
    },
    Close {
        id: String,
        code: u16,
        reason: String,
    },
}

/// A change of the attributes of a row in the shared store, or in a named one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub id: String,
    pub store: Option<String>,
    pub change: AttributeChange,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum SentPayload {
    Text(String),
    Binary(Bytes),
}

impl From<&Payload> for SentPayload {
    fn from(payload: &Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text.to_string()),
            Payload::Binary(bytes) => Self::Binary(bytes.clone()),
        }
    }
}

impl From<SentPayload> for Payload {
    fn from(payload: SentPayload) -> Self {
        match payload {
            SentPayload::Text(text) => Self::Text(text.into()),
            SentPayload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Posted(Vec<PostOutcome>),
    /// `None` for a connection that is gone.
    Info(Vec<Option<ConnectionInfo>>),
    /// Whether the connection was open.
    Closed(bool),
    Changed(ChangeOutcome),
    Node(NodeAnswer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostOutcome {
    Queued,
    Gone,
    LimitExceeded,
    OverBudget,
    TooLarge(u32),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeOutcome {
    Changed,
    NoSuchConnection,
    TooLarge(String),
    Unavailable(String),
}

/// A request about the node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeRequest {
    /// Is answered before anything that has arrived later.
    Ping,
    /// Which deployments the node can restore.
    Contents,
    /// Restores the last deployment with this content, or one plugin as it was in it.
    RollBack { content: String, plugin: Option<String> },
}

/// The answer to a request about the node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeAnswer {
    Pong,
    /// The contents of the last deployments.
    Contents(Vec<String>),
    /// The number of the new deployment.
    RolledBack(u64),
    /// The content is in none of the last deployments.
    NotKept,
    /// Why the roll-back has changed nothing.
    NotRolledBack(String),
    /// The node starts or stops.
    NotServing,
}

/// What is known of a connection, whichever node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    pub connected_at: EpochMillis,
    pub last_active_at: EpochMillis,
    pub source_ip: String,
    pub user_agent: Option<String>,
    /// Largest message of the connection.
    pub message_bytes: usize,
}

/// What was received from another node.
#[derive(Debug, PartialEq)]
pub enum Received {
    Message(Message),
    /// A request or an answer that this version cannot read.
    Unreadable(Unreadable),
    /// The other node cannot read a request of this one.
    UnknownVersion {
        from: u16,
        request: u64,
        /// The newest version that it knows.
        newest: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub from: u16,
    pub request: u64,
    pub version: u8,
    pub is_answer: bool,
}

/// What every version of a message begins with.
#[derive(Serialize, Deserialize)]
struct Head {
    from: u16,
    request: u64,
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("every part of a message can be written")
    }

    /// Returns `None` if the bytes have no head.
    pub fn decode(bytes: &[u8]) -> Option<Received> {
        let (&version, rest) = bytes.split_first()?;
        let (Head { from, request }, body) = postcard::take_from_bytes(rest).ok()?;
        if version == UNKNOWN_VERSION {
            return body.first().map(|&newest| Received::UnknownVersion { from, request, newest });
        }
        match postcard::take_from_bytes(body) {
            Ok((body, [])) if READ.contains(&version) => Some(Received::Message(Self { from, request, body })),
            _ => {
                let is_answer = body.first() == Some(&ANSWER_PLACE);
                Some(Received::Unreadable(Unreadable { from, request, version, is_answer }))
            }
        }
    }
}

/// Returns the answer to a request that cannot be read, whatever its version is.
pub fn unknown_version(from: u16, request: u64) -> Vec<u8> {
    let mut bytes =
        postcard::to_extend(&Head { from, request }, vec![UNKNOWN_VERSION]).expect("numbers can be written");
    bytes.push(FORMAT);
    bytes
}

#[cfg(test)]
mod tests;
