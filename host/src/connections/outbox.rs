//! The messages that wait to be sent to one peer: a bounded queue, and the close frame that ends it.
//!
//! Many senders post; the task of one socket takes. An empty outbox allocates no memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::payload::Payload;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    pub code: u16,
    pub reason: String,
}

impl CloseFrame {
    pub fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.to_owned() }
    }

    /// Creates a close frame from the code and the reason that a guest or an HTTP client requested.
    ///
    /// # Errors
    /// Describes the violation of RFC 6455: a code that may not be sent (section 7.4) or a reason that is too long
    /// (section 5.5). Rejects 1014, which was registered later, because the socket library would send 1002 instead.
    pub fn checked(code: u16, reason: &str) -> Result<Self, String> {
        if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) {
            return Err(format!(
                "{code} is no close code that can be sent: expected 1000 to 1003, 1007 to 1013 or 3000 to 4999"
            ));
        }
        if reason.len() > CLOSE_REASON_BYTES_MAX {
            let length = reason.len();
            return Err(format!(
                "a close reason of {length} bytes: at most {CLOSE_REASON_BYTES_MAX} fit into the frame"
            ));
        }
        Ok(Self::new(code, reason))
    }
}

/// Longest close reason: a control frame has at most 125 bytes (RFC 6455, section 5.5), and the code takes two.
const CLOSE_REASON_BYTES_MAX: usize = 123;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("the connection is gone")]
    Gone,
    #[error("the peer reads too slowly: its outbox is full")]
    LimitExceeded,
}

pub struct Outbox {
    messages_max: usize,
    bytes_max: usize,
    /// Whether the state is `Shut`; reading it needs no lock.
    is_shut: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: VecDeque<Payload>,
    bytes: usize,
    state: State,
    reader: Option<Waker>,
}

#[derive(PartialEq)]
enum State {
    /// `$connect` has not returned yet.
    Connecting,
    Open,
    /// The queued messages are still sent, and then the close frame.
    Closing(CloseFrame),
    Shut,
}

impl Outbox {
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        let inner = Inner { queue: VecDeque::new(), bytes: 0, state: State::Connecting, reader: None };
        Self { messages_max, bytes_max, is_shut: AtomicBool::new(false), inner: Mutex::new(inner) }
    }

    /// Accepts posts from now on.
    pub fn open(&self) {
        let mut inner = self.lock();
        if inner.state == State::Connecting {
            inner.state = State::Open;
        }
    }

    pub fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// Queues a payload. Returns an error at once if that is not possible.
    pub fn post(&self, payload: Payload) -> Result<(), PostError> {
        let mut inner = self.lock();
        if inner.state != State::Open {
            return Err(PostError::Gone);
        }
        let bytes = inner.bytes + payload.len();
        // An empty outbox accepts a payload that is larger than `bytes_max`; otherwise it could never be sent.
        let full = inner.queue.len() >= self.messages_max || (bytes > self.bytes_max && !inner.queue.is_empty());
        if full {
            return Err(PostError::LimitExceeded);
        }
        inner.bytes = bytes;
        inner.queue.push_back(payload);
        inner.wake();
        Ok(())
    }

    /// Queues the response of a handler behind the earlier posts. Returns it instead if the queue is empty, so that the
    /// caller can send it at once.
    ///
    /// The limits do not apply, because a connection has few responses at a time.
    pub fn queue_response(&self, payload: Payload) -> Option<Payload> {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            return Some(payload);
        }
        inner.bytes += payload.len();
        inner.queue.push_back(payload);
        None
    }

    /// Ends the connection with `frame` after the queued messages are sent. Only the first close has an effect; returns
    /// whether this was the first.
    pub fn close(&self, frame: CloseFrame) -> bool {
        let mut inner = self.lock();
        if inner.state != State::Open {
            return false;
        }
        inner.state = State::Closing(frame);
        inner.wake();
        true
    }

    /// Rejects all further posts and drops the queued messages.
    pub fn shut(&self) {
        let mut inner = self.lock();
        inner.state = State::Shut;
        self.is_shut.store(true, Ordering::Relaxed);
        inner.queue = VecDeque::new();
        inner.bytes = 0;
        inner.reader = None;
    }

    /// Returns whether the peer has gone.
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// Ready when `take` or `closing` returns a value.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() || matches!(inner.state, State::Closing(_)) {
            return Poll::Ready(());
        }
        if !inner.reader.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            inner.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Removes and returns the next payload; `None` if the queue is empty.
    pub fn take(&self) -> Option<Payload> {
        let mut inner = self.lock();
        let payload = inner.queue.pop_front()?;
        inner.bytes -= payload.len();
        if inner.queue.is_empty() {
            // Release the memory that a burst of messages needed.
            inner.queue = VecDeque::new();
        }
        Some(payload)
    }

    /// Returns the frame to close the connection with, if there is one and the queue is empty.
    pub fn closing(&self) -> Option<CloseFrame> {
        let inner = self.lock();
        match &inner.state {
            State::Closing(frame) if inner.queue.is_empty() => Some(frame.clone()),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while holding the outbox")
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(messages: usize, bytes: usize) -> Outbox {
        let outbox = Outbox::new(messages, bytes);
        outbox.open();
        outbox
    }

    #[test]
    fn an_outbox_accepts_no_more_than_its_limits_allow() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
        assert_eq!(outbox.post("123456".to_owned().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
        assert_eq!(outbox.post(String::new().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.take(), Some("12345".to_owned().into()));
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
    }

    #[test]
    fn an_empty_outbox_accepts_a_payload_larger_than_its_limit() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post("larger than ten bytes".to_owned().into()), Ok(()));
        assert_eq!(outbox.post("x".to_owned().into()), Err(PostError::LimitExceeded));
    }

    #[test]
    fn a_response_is_queued_behind_posts_and_never_rejected() {
        let outbox = open(1, 10);
        assert_eq!(outbox.queue_response("first".to_owned().into()), Some("first".to_owned().into()));
        outbox.post("1234567890".to_owned().into()).unwrap();
        assert_eq!(outbox.queue_response("second".to_owned().into()), None);
        assert_eq!(outbox.post(String::new().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.take(), Some("1234567890".to_owned().into()));
        assert_eq!(outbox.take(), Some("second".to_owned().into()));
        assert_eq!(outbox.post("1234567890".to_owned().into()), Ok(()));
    }

    #[test]
    fn queued_messages_are_sent_before_the_close_frame() {
        let outbox = open(2, 10);
        outbox.post("last".to_owned().into()).unwrap();
        assert!(outbox.close(CloseFrame::new(1000, "")));
        assert!(!outbox.close(CloseFrame::new(1001, "too late")));
        assert_eq!(outbox.closing(), None);
        assert_eq!(outbox.post("x".to_owned().into()), Err(PostError::Gone));
        assert!(outbox.take().is_some());
        assert_eq!(outbox.closing(), Some(CloseFrame::new(1000, "")));
    }

    #[test]
    fn posts_before_the_peer_is_admitted_return_gone() {
        let outbox = Outbox::new(2, 10);
        assert_eq!(outbox.post("x".to_owned().into()), Err(PostError::Gone));
    }
}
