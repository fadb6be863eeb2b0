//! What happens on a connection, as handlers are told it, and what they answer.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::RequestId;
use crate::payload::Payload;

/// A name and its value, in the order and the case in which they were sent.
pub type Field = (String, String);

/// Milliseconds since the Unix epoch, as API Gateway counts.
pub type EpochMillis = u64;

pub fn now() -> EpochMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The upgrade request, held open until the handler answers.
    Connect {
        headers: Vec<Field>,
        query_string: Vec<Field>,
    },
    Message {
        message_id: RequestId,
        body: Payload,
    },
    /// The connection is gone already.
    Disconnect(Disconnect),
}

/// How a connection ended, as `$disconnect` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub status_code: u16,
    pub reason: String,
}

impl Disconnect {
    /// The peer vanished, or the process that held the connection died.
    pub fn abnormal() -> Self {
        Self { status_code: 1006, reason: String::new() }
    }
}

/// What a handler answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub status_code: u16,
    pub headers: Vec<Field>,
    pub body: Option<Payload>,
}

impl Response {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}
