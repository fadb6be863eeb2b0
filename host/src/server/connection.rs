//! One WebSocket connection, from the 101 response until its socket is closed.
//!
//! One task reads, runs the handler and writes. The socket is also read while a handler runs, so that pings are
//! answered and a close is noticed; further messages wait in a small backlog and are handled in order. The messages of
//! routes without an order (`ordering = "none"`) are handled concurrently, in tasks of their own. The write buffer is
//! flushed when nothing else can be done.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tracing::info;

use crate::connections::{CloseFrame, Connection};
use crate::event::Disconnect;
use crate::gateway::Ordering;
use crate::limits::{BACKLOG_MESSAGES_MAX, ConnectionLimits};
use crate::payload::Payload;
use crate::server::Shared;
use crate::server::pending_upgrade::{PendingUpgrade, UpgradedStream};

mod clock;
mod socket;
mod unordered;

use clock::{Clock, Due, Reading};
use socket::Socket;
use unordered::UnorderedMessages;

/// Steps that the loop may take by priority before every source of steps is polled once. It is large enough that the
/// responses to everything a peer sends at once are written together.
const STEPS_MAX: u32 = 256;

/// Close reason for a binary message where the API is strict, as API Gateway is.
const BINARY_REFUSED: &str = "binary frames are not supported";

/// Serves a connection that `$connect` accepted. Returns how it ended, after its handlers have finished.
pub(super) async fn serve(
    shared: &Shared,
    limits: &ConnectionLimits,
    connection: &Arc<Connection>,
    pending: PendingUpgrade,
) -> Disconnect {
    let Some(UpgradedStream { stream, already_read, permit }) = pending.complete().await else {
        return Disconnect::abnormal();
    };
    let mut socket = Socket::new(stream, already_read, limits);
    let Ended { reason, unhandled } = run(shared, connection, limits, &mut socket).await;
    // From here on a post returns Gone, also while handlers of this connection still run.
    connection.outbox.shut();
    let disconnect = reason.disconnect_event();
    if let Some((code, fault)) = reason.peer_fault() {
        shared.fault_log.log(|suppressed| {
            let (connection_id, source) = (connection.id, &connection.peer.source_ip);
            info!(%connection_id, %source, code, suppressed, "closed connection: {fault}");
        });
    }
    // The close handshake runs in a task of its own, so that a peer that does not answer our close frame delays no
    // handler, least of all `$disconnect`.
    shared.close_tasks.spawn(async move {
        socket.finish(reason).await;
        drop(permit);
    });
    if !unhandled.is_empty() {
        // Boxed, so that the many idle connections do not hold the memory for this future.
        Box::pin(unhandled.finish(shared, connection)).await;
    }
    disconnect
}

/// Why a connection ends; nothing has been sent to the peer about it yet.
enum EndReason {
    /// The peer sent a close frame; tungstenite has queued the answer to it.
    ClosedByPeer(Option<protocol::CloseFrame>),
    ClosedByServer(CloseFrame),
    /// What the peer sent makes it impossible to read any further, so its answer to our close frame cannot be read
    /// either. The text describes the fault for the log.
    ProtocolViolation(CloseFrame, Box<str>),
    /// The peer is not reachable any more.
    Lost,
}

impl EndReason {
    fn going_away() -> Self {
        Self::ClosedByServer(CloseFrame::new(1001, "Going away"))
    }

    /// Returns the content of the `$disconnect` event.
    fn disconnect_event(&self) -> Disconnect {
        let (status_code, reason) = match self {
            Self::ClosedByPeer(Some(frame)) => (frame.code.into(), frame.reason.as_str()),
            Self::ClosedByPeer(None) => (1005, "Client-side close frame status not set"),
            // API Gateway reports the same after a DELETE of the connection.
            Self::ClosedByServer(frame) if frame.code == 1000 && frame.reason.is_empty() => {
                (1000, "Connection Closed Normally")
            }
            Self::ClosedByServer(frame) | Self::ProtocolViolation(frame, _) => (frame.code, frame.reason.as_str()),
            Self::Lost => return Disconnect::abnormal(),
        };
        Disconnect { status_code, reason: reason.to_owned() }
    }

    /// Returns the close code and a description for the log if the connection ends because of an error of its peer.
    fn peer_fault(&self) -> Option<(u16, &str)> {
        match self {
            Self::ProtocolViolation(frame, fault) => Some((frame.code, fault)),
            Self::ClosedByServer(frame) if frame.code == 1003 && frame.reason == BINARY_REFUSED => {
                Some((1003, "the peer sent a binary message, which strict = true in [api] rejects"))
            }
            Self::ClosedByPeer(_) | Self::ClosedByServer(_) | Self::Lost => None,
        }
    }
}

/// Why a connection ended, and the messages that were received before and are not handled yet.
struct Ended<'a> {
    reason: EndReason,
    unhandled: UnhandledMessages<'a>,
}

struct UnhandledMessages<'a> {
    running: Option<RunningHandler<'a>>,
    backlog: VecDeque<Payload>,
    unordered: Option<Box<UnorderedMessages>>,
}

impl UnhandledMessages<'_> {
    fn is_empty(&self) -> bool {
        self.running.is_none() && self.backlog.is_empty() && self.unordered.is_none()
    }

    /// Handles all messages and drops the responses, because their peer has gone.
    async fn finish(self, shared: &Shared, connection: &Arc<Connection>) {
        let Self { running, backlog, unordered } = self;
        let in_order = async {
            if let Some(running) = running {
                running.await;
            }
            for body in backlog {
                shared.gateway.message(connection, body).await;
            }
        };
        let without_order = async {
            if let Some(unordered) = unordered {
                unordered.finish(&shared.gateway, connection).await;
            }
        };
        tokio::join!(in_order, without_order);
    }
}

type RunningHandler<'a> = Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>>;

/// The next thing that the loop of a connection does.
enum Step {
    /// Start the handler of the first message of the backlog.
    StartHandler,
    HandlerFinished(Option<Payload>),
    /// Start the handler of a message without an order.
    StartUnordered,
    UnorderedFinished(Option<Payload>),
    /// The outbox has a message, or was closed.
    Posted,
    Received(Option<Result<Message, tungstenite::Error>>),
    Flushed(Result<(), tungstenite::Error>),
    /// A deadline of the clock has passed.
    Due,
    Stop,
}

/// Runs the loop of a connection until it ends.
async fn run<'a>(
    shared: &'a Shared,
    connection: &'a Arc<Connection>,
    limits: &ConnectionLimits,
    socket: &mut Socket,
) -> Ended<'a> {
    let mut running: Option<RunningHandler<'a>> = None;
    let mut backlog = VecDeque::new();
    let mut unordered: Option<Box<UnorderedMessages>> = None;
    let mut clock = Clock::start(Instant::now(), limits);
    let mut timer = pin!(sleep_until(clock.next_deadline()));
    let mut stopped = pin!(shared.stop.cancelled());
    let mut steps = 0;
    let reason = loop {
        let idle = running.is_none();
        let may_read =
            backlog.len() < BACKLOG_MESSAGES_MAX && unordered.as_ref().is_none_or(|unordered| unordered.has_space());
        let waiting = !backlog.is_empty();
        steps += 1;
        let step = poll_fn(|context| {
            if steps >= STEPS_MAX {
                // A peer that sends without a pause, or is sent to without a pause, must not delay the other steps.
                steps = 0;
                if stopped.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Step::Stop);
                }
                if let Poll::Ready(flushed @ Err(_)) = socket.poll_flush(context) {
                    return Poll::Ready(Step::Flushed(flushed));
                }
                clock.track_write_progress(socket.write_progress(), timer.as_mut());
                if timer.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Step::Due);
                }
                if may_read && let Poll::Ready(received) = socket.poll_receive(context) {
                    return Poll::Ready(Step::Received(received));
                }
            }
            if let Some(handler) = &mut running
                && let Poll::Ready(response) = handler.as_mut().poll(context)
            {
                return Poll::Ready(Step::HandlerFinished(response));
            }
            // No further handler is started for a peer that does not read, so what waits for it stays bounded.
            if socket.poll_writable(context).is_ready() {
                if idle && waiting {
                    return Poll::Ready(Step::StartHandler);
                }
                if let Some(unordered) = &mut unordered {
                    // Several handlers may have finished: each response waits until the previous one is written.
                    if let Poll::Ready(response) = unordered.poll_finished(context) {
                        return Poll::Ready(Step::UnorderedFinished(response));
                    }
                    if unordered.can_start() {
                        return Poll::Ready(Step::StartUnordered);
                    }
                }
                if connection.outbox.poll_ready(context).is_ready() {
                    return Poll::Ready(Step::Posted);
                }
            }
            if may_read && let Poll::Ready(received) = socket.poll_receive(context) {
                return Poll::Ready(Step::Received(received));
            }
            if let Poll::Ready(flushed) = socket.poll_flush(context) {
                return Poll::Ready(Step::Flushed(flushed));
            }
            if stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Stop);
            }
            clock.track_write_progress(socket.write_progress(), timer.as_mut());
            timer.as_mut().poll(context).map(|()| Step::Due)
        })
        .await;
        let end = match step {
            Step::StartHandler => {
                let message = backlog.pop_front().map(|body| shared.gateway.message(connection, body));
                running = message.map(|handler| Box::pin(handler) as RunningHandler<'a>);
                None
            }
            Step::HandlerFinished(response) => {
                running = None;
                send_response(response, connection, socket, &mut clock)
            }
            Step::StartUnordered => {
                if let Some(unordered) = &mut unordered {
                    unordered.start(&shared.gateway, connection);
                }
                None
            }
            Step::UnorderedFinished(response) => {
                // Most connections are idle most of the time, and must not hold the memory for these messages.
                unordered = unordered.filter(|unordered| !unordered.is_empty());
                send_response(response, connection, socket, &mut clock)
            }
            Step::Posted => match connection.outbox.take() {
                Some(payload) => {
                    clock.message_sent(Instant::now());
                    connection.touch(crate::event::now());
                    socket.queue(payload.into()).err()
                }
                None => connection.outbox.closing().map(EndReason::ClosedByServer),
            },
            Step::Received(received) => match receive(received, limits) {
                Ok(Incoming::Message(body)) => {
                    clock.message_received(Instant::now());
                    match shared.gateway.ordering(connection, &body) {
                        Ordering::Connection => backlog.push_back(body),
                        Ordering::None => unordered.get_or_insert_default().push(body),
                    }
                    None
                }
                Ok(Incoming::Ping) if limits.ping_resets_idle => {
                    clock.message_received(Instant::now());
                    None
                }
                Ok(Incoming::Ping | Incoming::Other) => {
                    clock.frame_received(Instant::now());
                    None
                }
                Err(end) => Some(end),
            },
            Step::Flushed(flushed) => flushed.err().map(|_| EndReason::Lost),
            Step::Stop => Some(EndReason::going_away()),
            Step::Due => {
                let reading = if may_read { Reading::Active } else { Reading::Paused };
                match clock.due(Instant::now(), reading) {
                    Due::Nothing => None,
                    Due::Ping => socket.queue(Message::Ping(Bytes::new())).err(),
                    Due::Close => Some(EndReason::going_away()),
                    Due::PeerLost => Some(EndReason::Lost),
                }
            }
        };
        if let Some(reason) = end {
            break reason;
        }
        if timer.is_elapsed() {
            timer.as_mut().reset(clock.next_deadline());
        }
    };
    Ended { reason, unhandled: UnhandledMessages { running, backlog, unordered } }
}

/// Sends the response of a handler, after the messages that it posted to its own connection.
fn send_response(
    response: Option<Payload>,
    connection: &Connection,
    socket: &mut Socket,
    clock: &mut Clock,
) -> Option<EndReason> {
    let payload = connection.outbox.queue_response(response?)?;
    clock.message_sent(Instant::now());
    socket.queue(payload.into()).err()
}

/// What the peer has sent. The library answers control frames itself.
enum Incoming {
    Message(Payload),
    Ping,
    /// A frame that only shows that the peer is reachable.
    Other,
}

fn receive(
    received: Option<Result<Message, tungstenite::Error>>,
    limits: &ConnectionLimits,
) -> Result<Incoming, EndReason> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Incoming::Message(Payload::Text(text))),
        Some(Ok(Message::Binary(_))) if limits.strict => {
            Err(EndReason::ClosedByServer(CloseFrame::new(1003, BINARY_REFUSED)))
        }
        Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Message(Payload::Binary(bytes))),
        Some(Ok(Message::Close(frame))) => Err(EndReason::ClosedByPeer(frame)),
        Some(Ok(Message::Ping(_))) => Ok(Incoming::Ping),
        Some(Ok(Message::Pong(_) | Message::Frame(_))) => Ok(Incoming::Other),
        Some(Err(error)) => Err(end_after_error(&error, limits)),
        None => Err(EndReason::Lost),
    }
}

/// Returns how a connection ends after a read error, with the close frame that RFC 6455 and API Gateway prescribe.
fn end_after_error(error: &tungstenite::Error, limits: &ConnectionLimits) -> EndReason {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            let (message, frame) = (limits.message_bytes, limits.frame_bytes);
            let reason = format!("a message has at most {message} bytes, a frame {frame}");
            let fault = format!(
                "the peer sent too much: {reason}; raise message_size or frame_size in [connection], or let the client \
                 send a message as several frames"
            );
            EndReason::ProtocolViolation(CloseFrame { code: 1009, reason }, fault.into())
        }
        tungstenite::Error::Utf8(_) => {
            let fault = "the peer sent text that is not UTF-8; other data must be sent as a binary message";
            EndReason::ProtocolViolation(CloseFrame::new(1007, "text is not UTF-8"), fault.into())
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => EndReason::Lost,
        tungstenite::Error::Protocol(error) => {
            let fault =
                format!("the peer violated RFC 6455 ({error}); check its WebSocket library, or a proxy in between");
            EndReason::ProtocolViolation(CloseFrame::new(1002, "protocol error"), fault.into())
        }
        _ => EndReason::Lost,
    }
}
