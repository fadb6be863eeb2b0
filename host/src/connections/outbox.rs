//! The messages that wait to be sent to one peer: a bounded queue, and the close frame that ends it.
//!
//! Many senders post; the task of one socket takes. An empty outbox allocates no memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::connections::budget::{Account, Charge, OverBudget, PeerMemory};
use crate::limits::CHARGE_STEP_BYTES;
use crate::payload::Payload;

/// A message for one peer, or the same message for many of them.
#[derive(Clone)]
pub struct Post {
    payload: Payload,
    /// The charge of a payload that many outboxes share. `None`: each outbox charges it.
    shared: Option<Arc<Charge>>,
}

impl Post {
    /// Prepares a payload that many connections get: it is charged once, for as long as one of them holds it.
    ///
    /// # Errors
    /// `OverBudget` if it does not fit into the memory of all peers.
    pub fn share(payload: Payload, memory: &Arc<PeerMemory>) -> Result<Self, PostError> {
        // A smaller payload takes not much more than its place in each queue.
        if payload.len() < CHARGE_STEP_BYTES {
            return Ok(payload.into());
        }
        let mut charge = memory.account().charge();
        charge.try_set(payload.len())?;
        Ok(Self { payload, shared: Some(Arc::new(charge)) })
    }

    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Returns the payload, and the charge that must be kept as long as the payload.
    pub fn into_parts(self) -> (Payload, Option<Arc<Charge>>) {
        (self.payload, self.shared)
    }

    /// Returns the bytes that an outbox is charged for the post.
    fn own_bytes(&self) -> usize {
        let payload = if self.shared.is_some() { 0 } else { self.payload.len() };
        size_of::<Self>() + payload
    }
}

impl From<Payload> for Post {
    fn from(payload: Payload) -> Self {
        Self { payload, shared: None }
    }
}

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
    /// Describes the violation of RFC 6455: a code that may not be sent (section 7.4, and what was registered later:
    /// 1012 to 1014) or a reason that is too long (section 5.5).
    pub fn checked(code: u16, reason: &str) -> Result<Self, String> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(format!(
                "{code} is no close code that can be sent: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999"
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
    /// The payload is larger than this number of bytes, the largest message of the connection.
    #[error("the connection takes messages of at most {0} bytes")]
    TooLarge(usize),
    #[error("all peers together hold too much (peer_memory in [server])")]
    OverBudget,
    /// Another node has the connection and does not answer. It may have queued the message.
    #[error("the node of the connection does not answer")]
    Unanswered,
}

impl From<OverBudget> for PostError {
    fn from(OverBudget: OverBudget) -> Self {
        Self::OverBudget
    }
}

pub struct Outbox {
    messages_max: usize,
    bytes_max: usize,
    message_bytes_max: usize,
    /// Whether the state is `Shut`; reading it needs no lock.
    is_shut: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: VecDeque<Post>,
    /// The length of all payloads.
    bytes: usize,
    /// What the charge is computed from: less than `bytes` where payloads are shared.
    own_bytes: usize,
    charge: Charge,
    state: State,
    reader: Option<Reader>,
}

/// The task of the socket, which waits.
struct Reader {
    waker: Waker,
    awaits: Awaits,
}

#[derive(Clone, Copy, PartialEq)]
enum Awaits {
    Posts,
    /// The peer cannot be sent anything at present.
    Abort,
}

#[derive(PartialEq)]
enum State {
    /// `$connect` has not returned yet.
    Connecting,
    Open,
    /// The queued messages are still sent, and then the close frame.
    Closing(CloseFrame),
    /// The same at once: nothing is queued any more.
    Aborted(CloseFrame),
    Shut,
}

impl Outbox {
    pub fn new(messages_max: usize, bytes_max: usize, account: &Arc<Account>) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            bytes: 0,
            own_bytes: 0,
            charge: account.charge(),
            state: State::Connecting,
            reader: None,
        };
        let (message_bytes_max, is_shut) = (usize::MAX, AtomicBool::new(false));
        Self { messages_max, bytes_max, message_bytes_max, is_shut, inner: Mutex::new(inner) }
    }

    /// Returns the same outbox for messages of at most `message_bytes_max`.
    pub fn with_message_limit(self, message_bytes_max: usize) -> Self {
        Self { message_bytes_max, ..self }
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

    /// Returns the bytes of the shared payloads that wait, which are not in the account of the connection.
    pub fn shared_bytes(&self) -> usize {
        let inner = self.lock();
        inner.queue.iter().filter(|post| post.shared.is_some()).map(|post| post.payload.len()).sum()
    }

    /// Queues a payload. Returns an error at once if that is not possible.
    pub fn post(&self, post: impl Into<Post>) -> Result<(), PostError> {
        let post = post.into();
        let mut inner = self.lock();
        if inner.state != State::Open {
            return Err(PostError::Gone);
        }
        if post.payload.len() > self.message_bytes_max {
            return Err(PostError::TooLarge(self.message_bytes_max));
        }
        let bytes = inner.bytes + post.payload.len();
        // An empty outbox accepts a payload that is larger than `bytes_max`; otherwise it could never be sent.
        let full = inner.queue.len() >= self.messages_max || (bytes > self.bytes_max && !inner.queue.is_empty());
        if full {
            return Err(PostError::LimitExceeded);
        }
        let own_bytes = inner.own_bytes + post.own_bytes();
        inner.charge.try_set(own_bytes)?;
        (inner.bytes, inner.own_bytes) = (bytes, own_bytes);
        inner.queue.push_back(post);
        inner.wake(Awaits::Posts);
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
        let post = Post::from(payload);
        inner.bytes += post.payload.len();
        inner.own_bytes += post.own_bytes();
        let own_bytes = inner.own_bytes;
        inner.charge.set(own_bytes);
        inner.queue.push_back(post);
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
        inner.wake(Awaits::Posts);
        true
    }

    /// Drops the queued messages and ends the connection with `frame`, also if its peer reads nothing. Returns whether
    /// the connection was open.
    pub fn abort(&self, frame: CloseFrame) -> bool {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Open | State::Closing(_)) {
            return false;
        }
        inner.state = State::Aborted(frame);
        inner.clear();
        inner.wake(Awaits::Abort);
        true
    }

    /// Wakes the task of the socket, whatever it waits for.
    pub fn wake(&self) {
        self.lock().wake(Awaits::Abort);
    }

    /// Rejects all further posts and drops the queued messages.
    pub fn shut(&self) {
        let mut inner = self.lock();
        inner.state = State::Shut;
        self.is_shut.store(true, Ordering::Relaxed);
        inner.clear();
        inner.reader = None;
    }

    /// Returns whether the peer has gone.
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// Ready when `take` or `closing` returns a value.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() || matches!(inner.state, State::Closing(_) | State::Aborted(_)) {
            return Poll::Ready(());
        }
        inner.await_wake(Awaits::Posts, context);
        Poll::Pending
    }

    /// Ready when the connection must end at once. For a socket that cannot be written at present: posts do not wake it.
    pub fn poll_abort(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if matches!(inner.state, State::Aborted(_)) {
            return Poll::Ready(());
        }
        inner.await_wake(Awaits::Abort, context);
        Poll::Pending
    }

    /// Removes and returns the next post; `None` if the queue is empty.
    pub fn take(&self) -> Option<Post> {
        let mut inner = self.lock();
        let post = inner.queue.pop_front()?;
        inner.bytes -= post.payload.len();
        inner.own_bytes -= post.own_bytes();
        let own_bytes = inner.own_bytes;
        inner.charge.set(own_bytes);
        if inner.queue.is_empty() {
            // Release the memory that a burst of messages needed.
            inner.queue = VecDeque::new();
        }
        Some(post)
    }

    /// Returns whether `abort` would have an effect.
    pub fn can_abort(&self) -> bool {
        matches!(self.lock().state, State::Open | State::Closing(_))
    }

    pub fn is_aborted(&self) -> bool {
        matches!(self.lock().state, State::Aborted(_))
    }

    /// Returns the frame to close the connection with, if there is one and the queue is empty.
    pub fn closing(&self) -> Option<CloseFrame> {
        let inner = self.lock();
        match &inner.state {
            State::Closing(frame) if inner.queue.is_empty() => Some(frame.clone()),
            State::Aborted(frame) => Some(frame.clone()),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Wakes the task of the socket for posts if it awaits them, and for an abort in any case.
    fn wake(&mut self, why: Awaits) {
        if let Some(reader) = self.reader.take_if(|reader| why == Awaits::Abort || reader.awaits == why) {
            reader.waker.wake();
        }
    }

    fn await_wake(&mut self, awaits: Awaits, context: &Context<'_>) {
        match &mut self.reader {
            Some(reader) if reader.waker.will_wake(context.waker()) => reader.awaits = awaits,
            reader => *reader = Some(Reader { waker: context.waker().clone(), awaits }),
        }
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        (self.bytes, self.own_bytes) = (0, 0);
        self.charge.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(messages: usize, bytes: usize) -> Outbox {
        let outbox = Outbox::new(messages, bytes, &Account::detached());
        outbox.open();
        outbox
    }

    fn text(length: usize) -> Payload {
        "x".repeat(length).into()
    }

    fn take(outbox: &Outbox) -> Option<Payload> {
        outbox.take().map(|post| post.payload)
    }

    #[test]
    fn an_outbox_accepts_no_more_than_its_limits_allow() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post(Payload::from("12345".to_owned())), Ok(()));
        assert_eq!(outbox.post(Payload::from("123456".to_owned())), Err(PostError::LimitExceeded));
        assert_eq!(outbox.post(Payload::from("12345".to_owned())), Ok(()));
        assert_eq!(outbox.post(Payload::from(String::new())), Err(PostError::LimitExceeded));
        assert_eq!(take(&outbox), Some("12345".to_owned().into()));
        assert_eq!(outbox.post(Payload::from("12345".to_owned())), Ok(()));
    }

    #[test]
    fn an_outbox_takes_messages_of_the_size_of_its_connection_and_no_larger_ones() {
        let outbox = Outbox::new(10, 100, &Account::detached()).with_message_limit(5);
        assert_eq!(outbox.post(text(6)), Err(PostError::Gone), "it is not open");
        outbox.open();
        assert_eq!(outbox.post(text(6)), Err(PostError::TooLarge(5)));
        assert_eq!(outbox.post(text(5)), Ok(()));
        assert_eq!(take(&outbox), Some(text(5)));
    }

    #[test]
    fn an_empty_outbox_accepts_a_payload_larger_than_its_limit() {
        let outbox = open(2, 10);
        assert_eq!(outbox.post(Payload::from("larger than ten bytes".to_owned())), Ok(()));
        assert_eq!(outbox.post(Payload::from("x".to_owned())), Err(PostError::LimitExceeded));
    }

    #[test]
    fn a_response_is_queued_behind_posts_and_never_rejected() {
        let outbox = open(1, 10);
        assert_eq!(outbox.queue_response("first".to_owned().into()), Some("first".to_owned().into()));
        outbox.post(Payload::from("1234567890".to_owned())).unwrap();
        assert_eq!(outbox.queue_response("second".to_owned().into()), None);
        assert_eq!(outbox.post(Payload::from(String::new())), Err(PostError::LimitExceeded));
        assert_eq!(take(&outbox), Some("1234567890".to_owned().into()));
        assert_eq!(take(&outbox), Some("second".to_owned().into()));
        assert_eq!(outbox.post(Payload::from("1234567890".to_owned())), Ok(()));
    }

    #[test]
    fn queued_messages_are_sent_before_the_close_frame() {
        let outbox = open(2, 10);
        outbox.post(Payload::from("last".to_owned())).unwrap();
        assert!(outbox.close(CloseFrame::new(1000, "")));
        assert!(!outbox.close(CloseFrame::new(1001, "too late")));
        assert_eq!(outbox.closing(), None);
        assert_eq!(outbox.post(Payload::from("x".to_owned())), Err(PostError::Gone));
        assert!(outbox.take().is_some());
        assert_eq!(outbox.closing(), Some(CloseFrame::new(1000, "")));
    }

    #[test]
    fn posts_before_the_peer_is_admitted_return_gone() {
        let outbox = Outbox::new(2, 10, &Account::detached());
        assert_eq!(outbox.post(Payload::from("x".to_owned())), Err(PostError::Gone));
    }

    #[test]
    fn a_payload_for_many_peers_is_charged_once_until_the_last_one_has_taken_it() {
        const LARGE: usize = 100 * CHARGE_STEP_BYTES;
        let memory = PeerMemory::new(LARGE + 5 * CHARGE_STEP_BYTES);
        let outboxes = [(); 10].map(|()| {
            let outbox = Outbox::new(1000, 10 * LARGE, &memory.account());
            outbox.open();
            outbox
        });
        let post = Post::share(text(LARGE), &memory).unwrap();
        for outbox in &outboxes {
            assert_eq!(outbox.post(post.clone()), Ok(()));
            assert_eq!(outbox.shared_bytes(), LARGE);
        }
        drop(post);
        assert_eq!(outboxes[0].post(text(6 * CHARGE_STEP_BYTES)), Err(PostError::OverBudget));
        assert_eq!(outboxes[0].post(text(CHARGE_STEP_BYTES)), Ok(()));
        assert_eq!(outboxes[0].post(text(1)), Ok(()));
        assert!(Post::share(text(LARGE), &memory).is_err());
        let (last, others) = outboxes.split_last().unwrap();
        others.iter().for_each(|outbox| outbox.shut());
        assert!(Post::share(text(LARGE), &memory).is_err(), "one peer still holds it");
        let taken = last.take();
        assert!(Post::share(text(LARGE), &memory).is_err(), "it is being written");
        drop(taken);
        assert!(Post::share(text(LARGE), &memory).is_ok());
    }

    #[test]
    fn many_small_posts_are_charged_with_their_places_in_the_queue() {
        let memory = PeerMemory::new(10 * CHARGE_STEP_BYTES);
        let outbox = Outbox::new(100_000, 1_000_000, &memory.account());
        outbox.open();
        let queued = (0..100_000).take_while(|_| outbox.post(text(1)).is_ok()).count();
        let bytes = queued * (size_of::<Post>() + 1);
        assert!((10 * CHARGE_STEP_BYTES..11 * CHARGE_STEP_BYTES).contains(&bytes), "{queued} posts");
        while outbox.take().is_some() {}
        assert_eq!(outbox.post(text(10 * CHARGE_STEP_BYTES - size_of::<Post>())), Ok(()));
    }

    #[test]
    fn an_abort_drops_the_queued_messages_and_ends_also_a_connection_that_is_closing() {
        let memory = PeerMemory::new(10 * CHARGE_STEP_BYTES);
        let account = memory.account();
        let outbox = Outbox::new(10, 100 * CHARGE_STEP_BYTES, &account);
        assert!(!outbox.abort(CloseFrame::new(1013, "")), "it is not open");
        outbox.open();
        outbox.post(text(5 * CHARGE_STEP_BYTES)).unwrap();
        assert!(account.bytes() > 0);
        assert!(outbox.close(CloseFrame::new(1000, "")));
        let mut context = Context::from_waker(Waker::noop());
        assert!(outbox.poll_abort(&mut context).is_pending());
        assert!(outbox.abort(CloseFrame::new(1013, "")));
        assert!(outbox.poll_abort(&mut context).is_ready());
        assert_eq!(account.bytes(), 0);
        assert_eq!(outbox.closing(), Some(CloseFrame::new(1013, "")));
        assert!(!outbox.abort(CloseFrame::new(1013, "")));
    }
}
