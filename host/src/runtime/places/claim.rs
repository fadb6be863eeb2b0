//! What an event needs in order to run: its line, how long it may wait there, and how many places it takes.

use std::time::Duration;

use crate::capability::Caller;
use crate::event::Event;
use crate::limits::{DEPARTED_MESSAGE_WAIT_MAX, EVENT_WAIT_MAX};

/// The line in which an event waits for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `$connect` and its authorizer, for which a client waits that is not connected yet.
    Connect,
    Message,
    /// Events whose peers have gone: `$disconnect`, and the messages that a peer sent before it closed.
    Departed,
}

pub(super) const LINES: [Line; 3] = [Line::Connect, Line::Message, Line::Departed];

/// The line of an event, and how long the event may wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub line: Line,
    /// `None`: forever.
    pub wait_max: Option<Duration>,
}

impl Claim {
    pub const CONNECT: Self = Self { line: Line::Connect, wait_max: Some(EVENT_WAIT_MAX) };
    pub const MESSAGE: Self = Self { line: Line::Message, wait_max: Some(EVENT_WAIT_MAX) };
    /// No peer waits for these messages, so they may run late.
    pub const DEPARTED_MESSAGE: Self = Self { line: Line::Departed, wait_max: Some(DEPARTED_MESSAGE_WAIT_MAX) };
    /// A `$disconnect` must run in any case.
    pub const DISCONNECT: Self = Self { line: Line::Departed, wait_max: None };

    pub fn of(caller: &Caller, event: &Event) -> Self {
        match event {
            Event::Connect { .. } => Self::CONNECT,
            Event::Message { .. } if caller.connection.outbox.is_shut() => Self::DEPARTED_MESSAGE,
            Event::Message { .. } => Self::MESSAGE,
            Event::Disconnect(_) => Self::DISCONNECT,
        }
    }
}

/// What an event needs.
#[derive(Clone, Copy, Debug)]
pub struct PlaceRequest {
    pub claim: Claim,
    /// Places that the event takes.
    pub count: u32,
    /// The most events of its plugin that may run at the same time; `None`: as many as there are places.
    pub concurrency: Option<u32>,
}
