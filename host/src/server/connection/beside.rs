//! The messages of a connection that wait for no other: those of routes whose `ordering` is `"none"`.
//!
//! Each runs in a task of its own, so that they compute side by side too. There are so many, and no
//! more; a further one waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::JoinSet;

use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::limits::{BACKLOG_MESSAGES_MAX, HANDLERS_BESIDE_MAX};
use crate::payload::Payload;

#[derive(Default)]
pub struct Beside {
    running: JoinSet<Option<Payload>>,
    waiting: VecDeque<Payload>,
}

impl Beside {
    pub fn push(&mut self, body: Payload) {
        self.waiting.push_back(body);
    }

    /// Whether one more may be received.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < BACKLOG_MESSAGES_MAX
    }

    /// Whether one waits for which there is a place.
    pub fn may_start(&self) -> bool {
        !self.waiting.is_empty() && self.running.len() < HANDLERS_BESIDE_MAX
    }

    /// Runs the one that has waited for the longest time.
    pub fn start(&mut self, gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
        let Some(body) = self.waiting.pop_front() else { return };
        let (gateway, connection) = (Arc::clone(gateway), Arc::clone(connection));
        self.running.spawn(async move { gateway.message(&connection, body).await });
    }

    /// The next answer of any of them; pending where none runs.
    pub fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Payload>> {
        match ready!(self.running.poll_join_next(context)) {
            Some(Ok(answer)) => Poll::Ready(answer),
            // It panicked, and the log has it.
            Some(Err(_)) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Runs all of them to their ends.
    pub async fn finish(mut self, gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
        loop {
            while self.may_start() {
                self.start(gateway, connection);
            }
            if self.running.join_next().await.is_none() {
                return;
            }
        }
    }
}
