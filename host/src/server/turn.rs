//! When the task of a connection gives way to others: after `TURN_MESSAGES`, `TURN_TIME` or `TURN_BYTES`.
//!
//! tokio's own budget counts operations of a socket, and one read returns hundreds of tiny messages. A task that gives way
//! is woken after its thread has looked for other events: a task that wakes itself would delay those until its thread has
//! run 61 tasks.

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::limits::{TURN_BYTES, TURN_MESSAGES, TURN_TIME};

/// What a task has done since it last waited or gave way.
#[derive(Default)]
pub struct Turn {
    messages: u32,
    began: Option<Instant>,
    is_late: bool,
}

impl Turn {
    /// Counts a message or another frame that was received or sent.
    pub fn count_message(&mut self, now: Instant) {
        self.messages += 1;
        self.check_time(now);
    }

    /// Records the time after work that is no message.
    pub fn check_time(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        self.is_late = now >= began + TURN_TIME;
    }

    /// Returns whether others must get their turn before the next message.
    pub fn is_over(&self) -> bool {
        self.is_late || self.messages >= TURN_MESSAGES
    }
}

/// What was read from a socket since it last had nothing to read, or others had their turn.
///
/// The WebSocket library reads fragments and empty frames in a loop of its own, in which only the read itself can give
/// way.
#[derive(Default)]
pub struct ReadTurn {
    bytes: usize,
}

impl ReadTurn {
    /// Ready when the socket may be read. Pending once after `TURN_BYTES`; then the task is woken after others.
    pub fn poll_start(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.bytes < TURN_BYTES {
            return Poll::Ready(());
        }
        self.bytes = 0;
        // The future registers the task to be woken later when it is polled, and is not needed afterwards.
        let _ = pin!(tokio::task::yield_now()).poll(context);
        Poll::Pending
    }

    /// Records that this many bytes were read.
    pub fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Records that there was nothing to read.
    pub fn end(&mut self) {
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_after_32_messages_or_a_millisecond() {
        let start = Instant::now();
        let mut turn = Turn::default();
        for _ in 1..TURN_MESSAGES {
            turn.count_message(start);
        }
        assert!(!turn.is_over());
        turn.count_message(start);
        assert!(turn.is_over());

        let mut turn = Turn::default();
        turn.check_time(start);
        turn.check_time(start + TURN_TIME / 2);
        assert!(!turn.is_over());
        turn.check_time(start + TURN_TIME);
        assert!(turn.is_over());
    }

    #[test]
    fn a_socket_gives_way_after_16_kib_unless_it_had_nothing_to_read_meanwhile() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut turn = ReadTurn::default();
        turn.count(TURN_BYTES - 1);
        assert!(turn.poll_start(&mut context).is_ready());
        turn.end();
        turn.count(TURN_BYTES - 1);
        assert!(turn.poll_start(&mut context).is_ready());
        turn.count(1);
        assert!(turn.poll_start(&mut context).is_pending());
        assert!(turn.poll_start(&mut context).is_ready());
    }
}
