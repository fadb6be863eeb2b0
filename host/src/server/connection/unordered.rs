//! The messages of a connection that are handled without an order: those of routes whose `ordering` is `"none"`.
//!
//! Each handler runs in a task of its own, so that several of them can compute in parallel. At most
//! `UNORDERED_HANDLERS_MAX` run at the same time; further messages wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::JoinSet;

use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::limits::{BACKLOG_MESSAGES_MAX, UNORDERED_HANDLERS_MAX};
use crate::payload::Payload;

#[derive(Default)]
pub struct UnorderedMessages {
    running: JoinSet<Option<Payload>>,
    waiting: VecDeque<Payload>,
}

impl UnorderedMessages {
    pub fn push(&mut self, body: Payload) {
        self.waiting.push_back(body);
    }

    /// Returns whether one more message may be received.
    pub fn has_space(&self) -> bool {
        self.waiting.len() < BACKLOG_MESSAGES_MAX
    }

    /// Returns whether a message waits and another handler may run.
    pub fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.running.len() < UNORDERED_HANDLERS_MAX
    }

    /// Starts the handler of the message that has waited longest.
    pub fn start(&mut self, gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
        let Some(body) = self.waiting.pop_front() else { return };
        let (gateway, connection) = (Arc::clone(gateway), Arc::clone(connection));
        self.running.spawn(async move { gateway.message(&connection, body).await });
    }

    /// Returns the response of the next handler that finishes. Pending if no handler runs.
    pub fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<Option<Payload>> {
        match ready!(self.running.poll_join_next(context)) {
            Some(Ok(response)) => Poll::Ready(response),
            // The handler's task panicked, and the panic is logged.
            Some(Err(_)) => Poll::Ready(None),
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
