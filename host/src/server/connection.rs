//! The life of one socket, from the 101 to its end.
//!
//! One task reads, runs the handler and writes. While a handler runs the socket is still read, so
//! that pings are answered and a close is noticed; further messages wait in a small backlog and
//! run in their order. What is written is flushed when nothing else is ready.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{self, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};

use crate::connections::{CloseFrame, Connection};
use crate::event::Disconnect;
use crate::limits::{BACKLOG_MESSAGES_MAX, CLOSE_TIMEOUT, ConnectionLimits, WRITE_BUFFER_BYTES};
use crate::payload::Payload;
use crate::server::counted::CountedStream;
use crate::server::{Place, Shared, upgrade};

/// After the 101, how long the switch of protocols may take.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

/// So many things may happen one upon the other before all that can happen has its turn: enough that
/// what a peer sends at once is answered in one write.
const STEPS_MAX: u32 = 256;

/// The TCP connection that becomes a WebSocket, and its place.
pub(super) struct Below {
    pub on_upgrade: OnUpgrade,
    pub place: Place,
}

/// Serves a connection that `$connect` let in; says how it ended, once its handlers have run.
pub(super) async fn serve(
    shared: &Shared,
    limits: &ConnectionLimits,
    connection: &Arc<Connection>,
    below: Below,
) -> Disconnect {
    let Below { on_upgrade, place } = below;
    let Ok(Ok(upgraded)) = timeout(SWITCH_TIMEOUT, on_upgrade).await else {
        return Disconnect::abnormal();
    };
    let (stream, already_read) = upgrade::into_stream(upgraded);
    let socket = WebSocketStream::from_partially_read(
        CountedStream::new(stream),
        already_read,
        Role::Server,
        Some(socket_config(limits)),
    )
    .await;
    let mut socket = Socket { socket, unflushed: false };
    let Ending { end, running, backlog } = live(shared, connection, limits, &mut socket).await;
    // Posts from here on are told Gone, also while handlers of this connection still run.
    connection.outbox.shut();
    let told = end.told();
    // A task of its own: a peer that does not answer our close holds up no handler, `$disconnect` least.
    shared.farewells.spawn(async move {
        socket.finish(end).await;
        drop(place);
    });
    if let Some(running) = running {
        running.await;
    }
    for body in backlog {
        // Boxed, so that the many idle connections do not hold the room for it.
        Box::pin(shared.gateway.message(connection, body)).await;
    }
    told
}

/// Buffers start small: 10,000 idle connections with the library's own would take 1.3 GB.
fn socket_config(limits: &ConnectionLimits) -> WebSocketConfig {
    // What is buffered already, a post and the answer of the handler that ran meanwhile; as much again
    // for the heads of their frames and for pings.
    let write_bytes_max = 2 * (WRITE_BUFFER_BYTES + limits.message_bytes);
    WebSocketConfig::default()
        .read_buffer_size(limits.read_buffer_bytes)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(write_bytes_max)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.frame_bytes))
}

/// How a connection ends, before anything is said to the peer.
enum End {
    /// The peer closed; tungstenite has queued the answer.
    ByPeer(Option<protocol::CloseFrame>),
    ByUs(CloseFrame),
    /// What the peer sent cannot be read on from, so neither can its answer to our frame.
    Refused(CloseFrame),
    Vanished,
}

impl End {
    fn going_away() -> Self {
        Self::ByUs(CloseFrame::new(1001, "Going away"))
    }

    /// What `$disconnect` is told of it.
    fn told(&self) -> Disconnect {
        let (status_code, reason) = match self {
            Self::ByPeer(Some(frame)) => (frame.code.into(), frame.reason.as_str()),
            Self::ByPeer(None) => (1005, "Client-side close frame status not set"),
            // As API Gateway tells it after a DELETE of the connection.
            Self::ByUs(frame) if frame.code == 1000 && frame.reason.is_empty() => (1000, "Connection Closed Normally"),
            Self::ByUs(frame) | Self::Refused(frame) => (frame.code, frame.reason.as_str()),
            Self::Vanished => return Disconnect::abnormal(),
        };
        Disconnect { status_code, reason: reason.to_owned() }
    }
}

/// The end, and what was received before it and is still to be handled.
struct Ending<'a> {
    end: End,
    running: Option<Running<'a>>,
    backlog: VecDeque<Payload>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>>;

/// What happened next.
enum Step {
    /// A message can be handled.
    Next,
    Answered(Option<Payload>),
    Posted,
    Received(Option<Result<Message, tungstenite::Error>>),
    Written(Result<(), tungstenite::Error>),
    Due,
    Stop,
}

async fn live<'a>(
    shared: &'a Shared,
    connection: &'a Arc<Connection>,
    limits: &ConnectionLimits,
    socket: &mut Socket,
) -> Ending<'a> {
    let mut running: Option<Running<'a>> = None;
    let mut backlog = VecDeque::new();
    let mut clock = Clock::start(Instant::now(), limits);
    let mut alarm = pin!(sleep_until(clock.next()));
    let mut stopped = pin!(shared.stop.cancelled());
    let mut steps = 0;
    let end = loop {
        let idle = running.is_none();
        let (may_read, waiting) = (backlog.len() < BACKLOG_MESSAGES_MAX, !backlog.is_empty());
        steps += 1;
        let step = poll_fn(|context| {
            if steps >= STEPS_MAX {
                // A peer that never stops sending, or being sent to, keeps the rest from its turn.
                steps = 0;
                if stopped.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Step::Stop);
                }
                if let Poll::Ready(written @ Err(_)) = socket.poll_flush(context) {
                    return Poll::Ready(Step::Written(written));
                }
                clock.waiting(socket.waiting(), alarm.as_mut());
                if alarm.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Step::Due);
                }
                if may_read && let Poll::Ready(received) = socket.poll_receive(context) {
                    return Poll::Ready(Step::Received(received));
                }
            }
            if let Some(handler) = &mut running
                && let Poll::Ready(answer) = handler.as_mut().poll(context)
            {
                return Poll::Ready(Step::Answered(answer));
            }
            // A peer that does not read gets no further handler started, so what waits for it stays bounded.
            if socket.poll_writable(context).is_ready() {
                if idle && waiting {
                    return Poll::Ready(Step::Next);
                }
                if connection.outbox.poll_ready(context).is_ready() {
                    return Poll::Ready(Step::Posted);
                }
            }
            if may_read && let Poll::Ready(received) = socket.poll_receive(context) {
                return Poll::Ready(Step::Received(received));
            }
            if let Poll::Ready(written) = socket.poll_flush(context) {
                return Poll::Ready(Step::Written(written));
            }
            if stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Stop);
            }
            clock.waiting(socket.waiting(), alarm.as_mut());
            alarm.as_mut().poll(context).map(|()| Step::Due)
        })
        .await;
        let ended = match step {
            Step::Next => {
                let message = backlog.pop_front().map(|body| shared.gateway.message(connection, body));
                running = message.map(|handler| Box::pin(handler) as Running<'a>);
                None
            }
            Step::Answered(answer) => {
                running = None;
                // What the handler posted to its own connection goes out first.
                answer.and_then(|payload| connection.outbox.answer(payload)).and_then(|payload| {
                    clock.sent(Instant::now());
                    socket.queue(payload.into()).err()
                })
            }
            Step::Posted => match connection.outbox.take() {
                Some(payload) => {
                    clock.sent(Instant::now());
                    connection.touch(crate::event::now());
                    socket.queue(payload.into()).err()
                }
                None => connection.outbox.closing().map(End::ByUs),
            },
            Step::Received(received) => match receive(received, limits) {
                Ok(Some(body)) => {
                    clock.received(Instant::now());
                    backlog.push_back(body);
                    None
                }
                Ok(None) => {
                    clock.heard(Instant::now());
                    None
                }
                Err(end) => Some(end),
            },
            Step::Written(written) => written.err().map(|_| End::Vanished),
            Step::Stop => Some(End::going_away()),
            Step::Due => match clock.due(Instant::now(), may_read) {
                Due::Nothing => None,
                Due::Ping => socket.queue(Message::Ping(Bytes::new())).err(),
                Due::Close => Some(End::going_away()),
                Due::Vanished => Some(End::Vanished),
            },
        };
        if let Some(end) = ended {
            break end;
        }
        if alarm.is_elapsed() {
            alarm.as_mut().reset(clock.next());
        }
    };
    Ending { end, running, backlog }
}

/// A message of the peer; nothing for a control frame, which the library answers by itself.
fn receive(
    received: Option<Result<Message, tungstenite::Error>>,
    limits: &ConnectionLimits,
) -> Result<Option<Payload>, End> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Some(Payload::Text(text))),
        Some(Ok(Message::Binary(bytes))) => Ok(Some(Payload::Binary(bytes))),
        Some(Ok(Message::Close(frame))) => Err(End::ByPeer(frame)),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(refusal(&error, limits)),
        None => Err(End::Vanished),
    }
}

/// The close frame that RFC 6455 and API Gateway have for what went wrong.
fn refusal(error: &tungstenite::Error, limits: &ConnectionLimits) -> End {
    let frame = match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            let reason =
                format!("a message has at most {} bytes, a frame {}", limits.message_bytes, limits.frame_bytes);
            CloseFrame { code: 1009, reason }
        }
        tungstenite::Error::Utf8(_) => CloseFrame::new(1007, "text is not UTF-8"),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return End::Vanished,
        tungstenite::Error::Protocol(_) => CloseFrame::new(1002, "protocol error"),
        _ => return End::Vanished,
    };
    End::Refused(frame)
}

/// The socket, and whether something was written that the kernel does not have yet.
struct Socket {
    socket: WebSocketStream<CountedStream>,
    unflushed: bool,
}

impl Socket {
    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error shows again at the flush, where it ends the connection.
        Pin::new(&mut self.socket).poll_ready(context).map(|_| ())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, tungstenite::Error>>> {
        let received = ready!(Pin::new(&mut self.socket).poll_next(context));
        // The library queues the answer to a ping or a close as it reads one.
        if matches!(received, Some(Ok(Message::Ping(_) | Message::Close(_)))) {
            self.unflushed = true;
        }
        Poll::Ready(received)
    }

    /// Pending also where there is nothing to flush.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        if !self.unflushed {
            return Poll::Pending;
        }
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(context));
        self.unflushed = false;
        Poll::Ready(flushed)
    }

    /// What still waits for the kernel to take it: then, how much it has taken before.
    fn waiting(&self) -> Option<u64> {
        self.unflushed.then(|| self.socket.get_ref().taken_bytes())
    }

    /// Puts a message into the write buffer.
    fn queue(&mut self, message: Message) -> Result<(), End> {
        self.unflushed = true;
        Pin::new(&mut self.socket).start_send(message).map_err(|_| End::Vanished)
    }

    /// Says the last word to the peer, and waits a moment for its own.
    async fn finish(mut self, end: End) {
        let frame = match &end {
            End::Vanished => return,
            End::ByPeer(_) => None,
            End::ByUs(frame) | End::Refused(frame) => Some(frame),
        };
        let goodbye = async {
            if let Some(frame) = frame {
                let frame = protocol::CloseFrame { code: frame.code.into(), reason: frame.reason.as_str().into() };
                futures_util::SinkExt::send(&mut self.socket, Message::Close(Some(frame))).await?;
            }
            if !matches!(end, End::Refused(_)) {
                // Until the peer's answer is read, or ours to its close is written.
                while let Some(received) = futures_util::StreamExt::next(&mut self.socket).await {
                    received?;
                }
            }
            Ok::<(), tungstenite::Error>(linger(self.socket.into_inner().into_inner()).await?)
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// Reads what the peer still sends before the socket is closed: closing it with unread data resets
/// the connection, and a reset can overtake our close frame.
async fn linger(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

impl From<Payload> for Message {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// When something is due on a connection where nothing happens.
struct Clock {
    opened_at: Instant,
    /// The last message, either way.
    active_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    /// Since when the peer has taken no more than so many bytes, while others wait for it.
    stalled: Option<(Instant, u64)>,
    idle_timeout: Option<Duration>,
    duration: Option<Duration>,
    ping_interval: Option<Duration>,
    write_timeout: Duration,
}

#[derive(Debug, PartialEq)]
enum Due {
    Nothing,
    Ping,
    Close,
    Vanished,
}

impl Clock {
    fn start(now: Instant, limits: &ConnectionLimits) -> Self {
        Self {
            opened_at: now,
            active_at: now,
            heard_at: now,
            pinged_at: now,
            stalled: None,
            idle_timeout: limits.idle_timeout,
            duration: limits.duration,
            ping_interval: limits.ping_interval,
            write_timeout: limits.write_timeout,
        }
    }

    fn sent(&mut self, now: Instant) {
        self.active_at = now;
    }

    /// A message came; a control frame is only `heard`.
    fn received(&mut self, now: Instant) {
        self.heard_at = now;
        self.active_at = now;
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Notes whether the peer takes what is written: `taken` bytes so far, if more waits for it.
    /// The alarm is set back for one that takes nothing.
    fn waiting(&mut self, taken: Option<u64>, alarm: Pin<&mut Sleep>) {
        if taken != self.stalled.map(|(_, taken)| taken) {
            self.stalled = taken.map(|taken| (Instant::now(), taken));
            if self.next() < alarm.deadline() {
                alarm.reset(self.next());
            }
        }
    }

    fn next(&self) -> Instant {
        let far = self.opened_at + Duration::from_secs(365 * 24 * 60 * 60);
        let idle = self.idle_timeout.map(|timeout| self.active_at + timeout);
        let old = self.duration.map(|duration| self.opened_at + duration);
        let ping = self.ping_interval.map(|interval| self.pinged_at + interval);
        let stalled = self.stalled.map(|(since, _)| since + self.write_timeout);
        [idle, old, ping, stalled].into_iter().flatten().min().unwrap_or(far)
    }

    /// What is due now. A peer that has not been heard of since the last ping has vanished, unless
    /// it was not listened to.
    fn due(&mut self, now: Instant, listening: bool) -> Due {
        let past = |since: Instant, timeout: Option<Duration>| timeout.is_some_and(|timeout| now >= since + timeout);
        if past(self.opened_at, self.duration) || past(self.active_at, self.idle_timeout) {
            return Due::Close;
        }
        if self.stalled.is_some_and(|(since, _)| now >= since + self.write_timeout) {
            return Due::Vanished;
        }
        if !past(self.pinged_at, self.ping_interval) {
            return Due::Nothing;
        }
        let answered = self.pinged_at == self.opened_at || self.heard_at > self.pinged_at || !listening;
        self.pinged_at = now;
        if answered { Due::Ping } else { Due::Vanished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_peer_that_does_not_answer_a_ping_by_the_next_one_has_vanished() {
        let limits = ConnectionLimits::default();
        let interval = limits.ping_interval.unwrap();
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + interval - MOMENT, true), Due::Nothing);
        assert_eq!(clock.due(start + interval, true), Due::Ping);
        clock.heard(start + interval + MOMENT);
        assert_eq!(clock.due(start + interval * 2, true), Due::Ping);
        clock.sent(start + interval * 2 + MOMENT);
        assert_eq!(clock.due(start + interval * 3, false), Due::Ping, "nobody listened to it");
        assert_eq!(clock.due(start + interval * 4, true), Due::Vanished);
    }

    #[test]
    fn messages_put_off_the_idle_timeout_but_not_the_longest_duration() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let (idle, longest) = (limits.idle_timeout.unwrap(), limits.duration.unwrap());
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        let mut now = start;
        while now + idle < start + longest {
            now += idle - MOMENT;
            assert_eq!(clock.due(now, true), Due::Nothing);
            clock.received(now);
        }
        assert_eq!(clock.due(start + longest - MOMENT, true), Due::Nothing);
        assert_eq!(clock.due(start + longest, true), Due::Close);
    }

    #[test]
    fn without_messages_a_connection_is_closed_after_the_idle_timeout() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let start = Instant::now();
        let idle = limits.idle_timeout.unwrap();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + idle - MOMENT, true), Due::Nothing);
        assert_eq!(clock.next(), start + idle);
        assert_eq!(clock.due(start + idle, true), Due::Close);
    }
}
