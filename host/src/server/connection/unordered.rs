//! The messages of a connection that are handled without an order: those of routes whose `ordering` is `"none"`.
//!
//! Each handler runs in a task of its own, so that several of them can compute in parallel. At most
//! `UNORDERED_HANDLERS_MAX` run at the same time; further messages wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinError, JoinSet};

use crate::connections::Connection;
use crate::connections::budget::Charge;
use crate::gateway::Gateway;
use crate::limits::{BACKLOG_BYTES_MAX, BACKLOG_MESSAGES_MAX, CHARGE_STEP_BYTES, UNORDERED_HANDLERS_MAX};
use crate::payload::Payload;

pub struct UnorderedMessages {
    running: JoinSet<Option<(Payload, Charge)>>,
    waiting: VecDeque<(Payload, Charge)>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
}

impl UnorderedMessages {
    /// Creates an empty backlog for messages of at most `message_bytes`.
    pub fn new(message_bytes: usize) -> Self {
        let waiting_bytes_max = BACKLOG_BYTES_MAX.max(message_bytes);
        Self { running: JoinSet::new(), waiting: VecDeque::new(), waiting_bytes: 0, waiting_bytes_max }
    }

    pub fn push(&mut self, body: Payload, mut charge: Charge) {
        self.waiting_bytes += body.len();
        charge.set(charged_bytes(&body));
        self.waiting.push_back((body, charge));
    }

    /// Returns whether one more message may be received.
    pub fn has_space(&self) -> bool {
        self.waiting.len() < BACKLOG_MESSAGES_MAX && self.waiting_bytes < self.waiting_bytes_max
    }

    /// Drops the messages that wait.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Returns whether a message waits and another handler may run.
    pub fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.running.len() < UNORDERED_HANDLERS_MAX
    }

    /// Starts the handler of the message that has waited longest.
    pub fn start(&mut self, gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
        let Some((body, mut charge)) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= body.len();
        let (gateway, connection) = (Arc::clone(gateway), Arc::clone(connection));
        self.running.spawn(async move {
            let response = gateway.message(&connection, body).await?;
            // The response waits until those before it are written.
            charge.set(charged_bytes(&response));
            Some((response, charge))
        });
    }

    /// Returns the response of the next handler that finishes. Pending if no handler runs.
    ///
    /// # Errors
    /// If the host panicked in its task; the panic is logged.
    pub fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Payload>, JoinError>> {
        match ready!(self.running.poll_join_next(context)) {
            Some(finished) => Poll::Ready(finished.map(|response| response.map(|(payload, _)| payload))),
            None => Poll::Pending,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Handles all waiting messages and returns when every handler has finished. Their responses are dropped.
    pub async fn finish(mut self, gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
        loop {
            while self.can_start() {
                self.start(gateway, connection);
            }
            if self.running.join_next().await.is_none() {
                return;
            }
        }
    }
}

/// Returns the bytes to charge for one message: also a small one takes a step, for the task of its handler.
fn charged_bytes(payload: &Payload) -> usize {
    payload.len() + CHARGE_STEP_BYTES
}
