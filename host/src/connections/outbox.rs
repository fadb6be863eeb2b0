//! What waits for one peer: a bounded queue, and the close frame that ends it.
//!
//! Many post, one socket takes. An empty outbox holds no memory beyond itself.

use std::collections::VecDeque;
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

    /// One that somebody asked for.
    ///
    /// # Errors
    /// What is wrong with it by RFC 6455, sections 5.5 and 7.4: which codes may be sent, and how long a
    /// reason may be. The socket library sends 1002 in place of 1014, which was registered later.
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

/// RFC 6455, section 5.5: 125 bytes of a control frame, less the code.
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
    /// `$connect` has not answered yet.
    Connecting,
    Open,
    /// What is queued still goes out, then the frame.
    Closing(CloseFrame),
    Shut,
}

impl Outbox {
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        let inner = Inner { queue: VecDeque::new(), bytes: 0, state: State::Connecting, reader: None };
        Self { messages_max, bytes_max, inner: Mutex::new(inner) }
    }

    /// From here on posts are taken.
    pub fn open(&self) {
        let mut inner = self.lock();
        if inner.state == State::Connecting {
            inner.state = State::Open;
        }
    }

    pub fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// Queues a payload, or says at once why not.
    pub fn post(&self, payload: Payload) -> Result<(), PostError> {
        let mut inner = self.lock();
        if inner.state != State::Open {
            return Err(PostError::Gone);
        }
        let bytes = inner.bytes + payload.len();
        // A payload that alone is larger than the outbox still goes to a peer that has read all.
        let full = inner.queue.len() >= self.messages_max || (bytes > self.bytes_max && !inner.queue.is_empty());
        if full {
            return Err(PostError::LimitExceeded);
        }
        inner.bytes = bytes;
        inner.queue.push_back(payload);
        inner.wake();
        Ok(())
    }

    /// Queues an answer behind the posts that came before it; gives it back where there are none.
    ///
    /// No limit refuses it: a connection has few answers at a time.
    pub fn answer(&self, payload: Payload) -> Option<Payload> {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            return Some(payload);
        }
        inner.bytes += payload.len();
        inner.queue.push_back(payload);
        None
    }

    /// Ends the connection with `frame`, once what is queued has gone out. Only the first close
    /// counts; says whether this was it.
    pub fn close(&self, frame: CloseFrame) -> bool {
        let mut inner = self.lock();
        if inner.state != State::Open {
            return false;
        }
        inner.state = State::Closing(frame);
        inner.wake();
        true
    }

    /// Nothing is taken any more and what is queued is dropped.
    pub fn shut(&self) {
        let mut inner = self.lock();
        inner.state = State::Shut;
        inner.queue = VecDeque::new();
        inner.bytes = 0;
        inner.reader = None;
    }

    /// Ready when `take` has something to give.
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

    /// The next payload; `None` when the queue is empty.
    pub fn take(&self) -> Option<Payload> {
        let mut inner = self.lock();
        let payload = inner.queue.pop_front()?;
        inner.bytes -= payload.len();
        if inner.queue.is_empty() {
            // A burst is over: give its memory back.
            inner.queue = VecDeque::new();
        }
        Some(payload)
    }

    /// The frame to close with, once the queue is empty.
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
    fn an_outbox_takes_what_its_limits_allow_and_no_more() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
        assert_eq!(outbox.post("123456".to_owned().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
        assert_eq!(outbox.post(String::new().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.take(), Some("12345".to_owned().into()));
        assert_eq!(outbox.post("12345".to_owned().into()), Ok(()));
    }

    #[test]
    fn a_payload_larger_than_the_outbox_goes_to_a_peer_that_has_read_all() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post("larger than ten bytes".to_owned().into()), Ok(()));
        assert_eq!(outbox.post("x".to_owned().into()), Err(PostError::LimitExceeded));
    }

    #[test]
    fn an_answer_comes_behind_what_is_queued_and_is_never_refused() {
        let outbox = open(1, 10);
        assert_eq!(outbox.answer("first".to_owned().into()), Some("first".to_owned().into()));
        outbox.post("1234567890".to_owned().into()).unwrap();
        assert_eq!(outbox.answer("second".to_owned().into()), None);
        assert_eq!(outbox.post(String::new().into()), Err(PostError::LimitExceeded));
        assert_eq!(outbox.take(), Some("1234567890".to_owned().into()));
        assert_eq!(outbox.take(), Some("second".to_owned().into()));
        assert_eq!(outbox.post("1234567890".to_owned().into()), Ok(()));
    }

    #[test]
    fn what_was_queued_goes_out_before_the_close_frame() {
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
    fn before_the_peer_is_admitted_posts_answer_gone() {
        let outbox = Outbox::new(2, 10);
        assert_eq!(outbox.post("x".to_owned().into()), Err(PostError::Gone));
    }
}
