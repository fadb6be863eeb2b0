//! What nodes send to each other.
//!
//! A message begins with the version of its format. One of another version is dropped, so its sender gets no answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::backend::AttributeChange;
use crate::event::EpochMillis;
use crate::payload::Payload;

/// The version of the format, which grows with every change of these types.
pub const FORMAT: u8 = 1;

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

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("every part of a message can be written")
    }

    /// Returns `None` if the bytes are no message of a known format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&format, rest) = bytes.split_first()?;
        if format == FORMAT { postcard::from_bytes(rest).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_one_of_another_format_is_none() {
        let request = Request::Post { ids: vec!["a".to_owned()], payload: SentPayload::Binary(vec![0, 255].into()) };
        let message = Message { from: 7, request: 1, body: Body::Request { stage: "dev".to_owned(), request } };
        let mut bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Some(message));
        assert_eq!(Message::decode(&bytes[..bytes.len() - 1]), None);
        bytes[0] += 1;
        assert_eq!(Message::decode(&bytes), None);
        assert_eq!(Message::decode(&[]), None);
    }
}
