//! The life of one socket, from the 101 to its end.
//!
//! One task reads, runs the handler and writes. While a handler runs the socket is still read, so
//! that pings are answered and a close is noticed; further messages wait in a small backlog and
//! run in their order. Those of routes without an order run beside it, in tasks of their own. What
//! is written is flushed when nothing else is ready.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tracing::info;

use crate::connections::{CloseFrame, Connection};
use crate::event::Disconnect;
use crate::gateway::Ordering;
use crate::limits::{BACKLOG_MESSAGES_MAX, ConnectionLimits};
use crate::payload::Payload;
use crate::server::{Place, Shared, upgrade};

mod beside;
mod clock;
mod socket;

use beside::Beside;
use clock::{Clock, Due};
use socket::Socket;

/// After the 101, how long the switch of protocols may take.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

/// So many things may happen one upon the other before all that can happen has its turn: enough that
/// what a peer sends at once is answered in one write.
const STEPS_MAX: u32 = 256;

/// Why a binary frame closes a connection where API Gateway would do so.
const BINARY_REFUSED: &str = "binary frames are not supported";

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
    let mut socket = Socket::new(stream, already_read, limits).await;
    let Ending { end, left } = live(shared, connection, limits, &mut socket).await;
    // Posts from here on are told Gone, also while handlers of this connection still run.
    connection.outbox.shut();
    let told = end.told();
    if let Some((code, why)) = end.fault() {
        shared.telling.tell(|untold| {
            let (connection_id, source) = (connection.id, &connection.peer.source_ip);
            info!(%connection_id, %source, code, untold, "a connection is closed for what its peer did: {why}");
        });
    }
    // A task of its own: a peer that does not answer our close holds up no handler, `$disconnect` least.
    shared.farewells.spawn(async move {
        socket.finish(end).await;
        drop(place);
    });
    if !left.is_empty() {
        // Boxed, so that the many idle connections do not hold the room for it.
        Box::pin(left.finish(shared, connection)).await;
    }
    told
}

/// How a connection ends, before anything is said to the peer.
enum End {
    /// The peer closed; tungstenite has queued the answer.
    ByPeer(Option<protocol::CloseFrame>),
    ByUs(CloseFrame),
    /// What the peer sent cannot be read on from, so neither can its answer to our frame; and what it was.
    Refused(CloseFrame, Box<str>),
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
            Self::ByUs(frame) | Self::Refused(frame, _) => (frame.code, frame.reason.as_str()),
            Self::Vanished => return Disconnect::abnormal(),
        };
        Disconnect { status_code, reason: reason.to_owned() }
    }

    /// The code, and what the peer did wrong, where that is why it ends; in words for the log.
    fn fault(&self) -> Option<(u16, &str)> {
        match self {
            Self::Refused(frame, why) => Some((frame.code, why)),
            Self::ByUs(frame) if frame.code == 1003 && frame.reason == BINARY_REFUSED => {
                Some((1003, "it sent a binary message, which strict = true in [api] refuses"))
            }
            Self::ByPeer(_) | Self::ByUs(_) | Self::Vanished => None,
        }
    }
}

/// The end, and what was received before it and is still to be handled.
struct Ending<'a> {
    end: End,
    left: Left<'a>,
}

struct Left<'a> {
    running: Option<Running<'a>>,
    backlog: VecDeque<Payload>,
    beside: Option<Box<Beside>>,
}

impl Left<'_> {
    fn is_empty(&self) -> bool {
        self.running.is_none() && self.backlog.is_empty() && self.beside.is_none()
    }

    /// Handles all of it. The answers are nobody's.
    async fn finish(self, shared: &Shared, connection: &Arc<Connection>) {
        let Self { running, backlog, beside } = self;
        let in_order = async {
            if let Some(running) = running {
                running.await;
            }
            for body in backlog {
                shared.gateway.message(connection, body).await;
            }
        };
        let without_order = async {
            if let Some(beside) = beside {
                beside.finish(&shared.gateway, connection).await;
            }
        };
        tokio::join!(in_order, without_order);
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>>;

/// What happened next.
enum Step {
    /// A message can be handled.
    Next,
    Answered(Option<Payload>),
    /// One that waits for no other can be handled.
    NextBeside,
    AnsweredBeside(Option<Payload>),
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
    let mut beside: Option<Box<Beside>> = None;
    let mut clock = Clock::start(Instant::now(), limits);
    let mut alarm = pin!(sleep_until(clock.next()));
    let mut stopped = pin!(shared.stop.cancelled());
    let mut steps = 0;
    let end = loop {
        let idle = running.is_none();
        let may_read = backlog.len() < BACKLOG_MESSAGES_MAX && beside.as_ref().is_none_or(|beside| beside.has_room());
        let waiting = !backlog.is_empty();
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
                if let Some(beside) = &mut beside {
                    // Several may have answered: each waits until the one before it has gone out.
                    if let Poll::Ready(answer) = beside.poll_answer(context) {
                        return Poll::Ready(Step::AnsweredBeside(answer));
                    }
                    if beside.may_start() {
                        return Poll::Ready(Step::NextBeside);
                    }
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
                answered(answer, connection, socket, &mut clock)
            }
            Step::NextBeside => {
                if let Some(beside) = &mut beside {
                    beside.start(&shared.gateway, connection);
                }
                None
            }
            Step::AnsweredBeside(answer) => {
                // Most connections are idle most of the time, and none of those needs the room.
                beside = beside.filter(|beside| !beside.is_empty());
                answered(answer, connection, socket, &mut clock)
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
                Ok(Heard::Message(body)) => {
                    clock.received(Instant::now());
                    match shared.gateway.ordering(connection, &body) {
                        Ordering::Connection => backlog.push_back(body),
                        Ordering::None => beside.get_or_insert_default().push(body),
                    }
                    None
                }
                Ok(Heard::Ping) if limits.ping_resets_idle => {
                    clock.received(Instant::now());
                    None
                }
                Ok(Heard::Ping | Heard::Nothing) => {
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
    Ending { end, left: Left { running, backlog, beside } }
}

/// Sends what a handler answered, behind what it posted to its own connection.
fn answered(answer: Option<Payload>, connection: &Connection, socket: &mut Socket, clock: &mut Clock) -> Option<End> {
    let payload = connection.outbox.answer(answer?)?;
    clock.sent(Instant::now());
    socket.queue(payload.into()).err()
}

/// What the peer has sent. A control frame the library answers by itself.
enum Heard {
    Message(Payload),
    Ping,
    Nothing,
}

fn receive(received: Option<Result<Message, tungstenite::Error>>, limits: &ConnectionLimits) -> Result<Heard, End> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Heard::Message(Payload::Text(text))),
        Some(Ok(Message::Binary(_))) if limits.strict => Err(End::ByUs(CloseFrame::new(1003, BINARY_REFUSED))),
        Some(Ok(Message::Binary(bytes))) => Ok(Heard::Message(Payload::Binary(bytes))),
        Some(Ok(Message::Close(frame))) => Err(End::ByPeer(frame)),
        Some(Ok(Message::Ping(_))) => Ok(Heard::Ping),
        Some(Ok(Message::Pong(_) | Message::Frame(_))) => Ok(Heard::Nothing),
        Some(Err(error)) => Err(refusal(&error, limits)),
        None => Err(End::Vanished),
    }
}

/// The close frame that RFC 6455 and API Gateway have for what went wrong.
fn refusal(error: &tungstenite::Error, limits: &ConnectionLimits) -> End {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            let (message, frame) = (limits.message_bytes, limits.frame_bytes);
            let reason = format!("a message has at most {message} bytes, a frame {frame}");
            let why = format!(
                "it sent more: {reason}; message_size and frame_size in [connection] allow more, and a client may send \
                 several frames"
            );
            End::Refused(CloseFrame { code: 1009, reason }, why.into())
        }
        tungstenite::Error::Utf8(_) => {
            let why = "it sent text that is not UTF-8; what is no text goes into a binary message";
            End::Refused(CloseFrame::new(1007, "text is not UTF-8"), why.into())
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Vanished,
        tungstenite::Error::Protocol(error) => {
            let why = format!("it does not keep to RFC 6455 ({error}); look at its library, or a proxy in between");
            End::Refused(CloseFrame::new(1002, "protocol error"), why.into())
        }
        _ => End::Vanished,
    }
}
