//! The messages of a connection that wait to be handled in order, and the one that is being handled.
//!
//! Knows sizes and the charge for them. Does not know handlers.

use std::collections::VecDeque;

use crate::connections::budget::Charge;
use crate::limits::{BACKLOG_BYTES_MAX, BACKLOG_MESSAGES_MAX};
use crate::payload::Payload;

pub struct Backlog {
    waiting: VecDeque<Payload>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    /// The length of the message that is being handled.
    running_bytes: usize,
    charge: Charge,
}

impl Backlog {
    /// Creates an empty backlog for messages of at most `message_bytes`.
    pub fn new(message_bytes: usize, charge: Charge) -> Self {
        let waiting_bytes_max = BACKLOG_BYTES_MAX.max(message_bytes);
        Self { waiting: VecDeque::new(), waiting_bytes: 0, waiting_bytes_max, running_bytes: 0, charge }
    }

    /// Returns whether one more message may be received.
    pub fn has_space(&self) -> bool {
        self.waiting.len() < BACKLOG_MESSAGES_MAX && self.waiting_bytes < self.waiting_bytes_max
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, body: Payload) {
        self.waiting_bytes += body.len();
        self.waiting.push_back(body);
    }

    /// Removes and returns the next message, which counts as handled from now on until the next call or `finished`.
    pub fn start_next(&mut self) -> Option<Payload> {
        let body = self.waiting.pop_front()?;
        self.waiting_bytes -= body.len();
        self.running_bytes = body.len();
        Some(body)
    }

    /// Records that the message that was started is handled.
    pub fn finished(&mut self) {
        self.running_bytes = 0;
    }

    /// Drops the messages that wait.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Charges all messages, and the bytes that the socket holds. The loop calls it before it waits, so a message that is
    /// handled at once is not charged at all.
    pub fn update_charge(&mut self, socket_bytes: usize) {
        self.charge.set(self.waiting_bytes + self.running_bytes + socket_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connections::budget::{Account, PeerMemory};
    use crate::limits::{CHARGE_STEP_BYTES, MESSAGE_BYTES_MAX};

    fn backlog(message_bytes: usize, account: &Arc<Account>) -> Backlog {
        Backlog::new(message_bytes, account.charge())
    }

    fn message(length: usize) -> Payload {
        "x".repeat(length).into()
    }

    #[test]
    fn sixteen_messages_wait_or_as_many_bytes_as_the_limit_and_the_message_that_reaches_it() {
        let mut small = backlog(MESSAGE_BYTES_MAX, &Account::detached());
        for _ in 0..BACKLOG_MESSAGES_MAX {
            assert!(small.has_space());
            small.push(message(1));
        }
        assert!(!small.has_space());
        small.start_next();
        assert!(small.has_space());

        let mut large = backlog(MESSAGE_BYTES_MAX, &Account::detached());
        large.push(message(MESSAGE_BYTES_MAX));
        large.push(message(BACKLOG_BYTES_MAX - MESSAGE_BYTES_MAX - 1));
        assert!(large.has_space());
        large.push(message(1));
        assert!(!large.has_space());

        let mut larger = backlog(2 * BACKLOG_BYTES_MAX, &Account::detached());
        larger.push(message(2 * BACKLOG_BYTES_MAX - 1));
        assert!(larger.has_space());
        larger.push(message(1));
        assert!(!larger.has_space());
    }

    #[test]
    fn a_message_is_charged_from_its_first_bytes_until_it_is_handled() {
        let memory = PeerMemory::new(usize::MAX);
        let account = memory.account();
        let mut backlog = backlog(MESSAGE_BYTES_MAX, &account);
        backlog.update_charge(4 * CHARGE_STEP_BYTES);
        assert_eq!(account.bytes(), 4 * CHARGE_STEP_BYTES);
        backlog.push(message(6 * CHARGE_STEP_BYTES));
        backlog.push(message(CHARGE_STEP_BYTES));
        backlog.update_charge(0);
        assert_eq!(account.bytes(), 7 * CHARGE_STEP_BYTES);
        backlog.start_next();
        backlog.update_charge(0);
        assert_eq!(account.bytes(), 7 * CHARGE_STEP_BYTES);
        backlog.finished();
        backlog.update_charge(0);
        assert_eq!(account.bytes(), CHARGE_STEP_BYTES);
        backlog.clear();
        backlog.update_charge(0);
        assert_eq!(account.bytes(), 0);
    }
}
