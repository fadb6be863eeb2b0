//! One WebSocket connection, from the 101 response until its socket is closed.
//!
//! One task reads, runs the handler and writes. The socket is also read while a handler runs, so that pings are
//! answered and a close is noticed; further messages wait in a small backlog and are handled in order. The messages of
//! routes without an order (`ordering = "none"`) are handled concurrently, in tasks of their own. The write buffer is
//! flushed when nothing else can be done.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tracing::{error, info};

use crate::connections::{CloseFrame, Connection};
use crate::event::Disconnect;
use crate::gateway::Ordering;
use crate::limits::{CLOSE_TIMEOUT, ConnectionLimits};
use crate::panics::catch_panic;
use crate::payload::Payload;
use crate::server::Shared;
use crate::server::pending_upgrade::{PendingUpgrade, UpgradedStream};
use crate::server::turn::Turn;

mod backlog;
mod clock;
mod incoming;
mod socket;
mod unordered;

use backlog::Backlog;
use clock::{Clock, Due, Reading};
use incoming::{BINARY_REFUSED, Incoming, receive};
use socket::Socket;
use unordered::UnorderedMessages;

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
    let socket_token = shared.close_tasks.token();
    let ended = catch_panic(run(shared, connection, limits, &mut socket)).await;
    let Ended { reason, unhandled } = ended.unwrap_or_else(|_| Ended::after_panic(connection));
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
    drop(socket_token);
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
    fn server_error() -> Self {
        Self::ClosedByServer(CloseFrame::new(1011, "Internal server error"))
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

fn going_away() -> CloseFrame {
    CloseFrame::new(1001, "Going away")
}

/// Why a connection ended, and the messages that were received before and are not handled yet.
struct Ended<'a> {
    reason: EndReason,
    unhandled: UnhandledMessages<'a>,
}

impl Ended<'_> {
    /// The state of the loop is lost, and with it the messages that waited.
    fn after_panic(connection: &Connection) -> Self {
        log_panic(connection);
        let backlog = Backlog::new(0, connection.account.charge());
        Self {
            reason: EndReason::server_error(),
            unhandled: UnhandledMessages { running: None, backlog, unordered: None },
        }
    }
}

struct UnhandledMessages<'a> {
    running: Option<RunningHandler<'a>>,
    backlog: Backlog,
    unordered: Option<Box<UnorderedMessages>>,
}

impl UnhandledMessages<'_> {
    fn is_empty(&self) -> bool {
        self.running.is_none() && self.backlog.is_empty() && self.unordered.is_none()
    }

    /// Handles all messages and drops the responses, because their peer has gone.
    async fn finish(self, shared: &Shared, connection: &Arc<Connection>) {
        let Self { running, mut backlog, unordered } = self;
        let in_order = async {
            if let Some(running) = running {
                running.await;
            }
            while let Some(body) = backlog.start_next() {
                shared.gateway.message(connection, body).await;
                backlog.update_charge(0);
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
    /// The task of a message without an order has panicked.
    Panicked,
    /// The outbox has a message, or was closed.
    Posted,
    Received(Option<Result<Message, tungstenite::Error>>),
    Flushed(Result<(), tungstenite::Error>),
    /// The socket may be read again, because all peers together hold less.
    Readable,
    /// A deadline of the clock has passed.
    Due,
    /// The server closes the connection because it stops, or the stop now has a deadline.
    Stop,
    /// The same, and everything that was read is handled and everything that was posted is queued.
    Drained,
}

/// Runs the loop of a connection until it ends.
async fn run<'a>(
    shared: &'a Shared,
    connection: &'a Arc<Connection>,
    limits: &ConnectionLimits,
    socket: &mut Socket,
) -> Ended<'a> {
    let mut running: Option<RunningHandler<'a>> = None;
    let (account, memory) = (&connection.account, connection.account.memory());
    let mut backlog = Backlog::new(limits.message_bytes, account.charge());
    let mut unordered: Option<Box<UnorderedMessages>> = None;
    let mut clock = Clock::start(Instant::now(), limits);
    let mut timer = pin!(sleep_until(clock.next_deadline()));
    // Whether the server closes the connection: nothing more is read, and the connection ends when all that was read is
    // handled; and whether it ends by the deadline of the stop.
    let (mut leaving, mut has_deadline) = (false, false);
    if shared.stop.is_requested() {
        // The stop may have asked all connections to leave before this one was registered.
        connection.leave();
    }
    let mut turn = Turn::default();
    // The bytes of the socket up to the last message; those after it belong to a message that has not arrived completely.
    let mut received_bytes = 0;
    let reason = loop {
        let idle = running.is_none();
        let has_space = backlog.has_space() && unordered.as_ref().is_none_or(|unordered| unordered.has_space());
        let may_read = has_space && !memory.is_over();
        let waiting = !backlog.is_empty();
        let turn_is_over = turn.is_over();
        if turn_is_over {
            backlog.update_charge(socket_bytes(socket, received_bytes));
            tokio::task::yield_now().await;
            turn = Turn::default();
        }
        let mut poll_all = turn_is_over;
        let stop_has_come =
            || if leaving { !has_deadline && shared.stop.is_requested() } else { connection.is_leaving() };
        let step = poll_fn(|context| {
            if poll_all {
                // A peer that sends without a pause, or is sent to without a pause, must not delay the other steps.
                poll_all = false;
                if stop_has_come() {
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
            let is_writable = socket.poll_writable(context).is_ready();
            if is_writable {
                if idle && waiting {
                    return Poll::Ready(Step::StartHandler);
                }
                if let Some(unordered) = &mut unordered {
                    // Several handlers may have finished: each response waits until the previous one is written.
                    if let Poll::Ready(finished) = unordered.poll_finished(context) {
                        return Poll::Ready(finished.map_or(Step::Panicked, Step::UnorderedFinished));
                    }
                    if unordered.can_start() {
                        return Poll::Ready(Step::StartUnordered);
                    }
                }
                if connection.outbox.poll_ready(context).is_ready() {
                    return Poll::Ready(Step::Posted);
                }
            } else if connection.outbox.poll_abort(context).is_ready() {
                return Poll::Ready(Step::Posted);
            }
            if may_read && let Poll::Ready(received) = socket.poll_receive(context) {
                return Poll::Ready(Step::Received(received));
            }
            if let Poll::Ready(flushed) = socket.poll_flush(context) {
                return Poll::Ready(Step::Flushed(flushed));
            }
            // The outbox has registered the task: a stop that is requested after this check wakes it.
            if stop_has_come() {
                return Poll::Ready(Step::Stop);
            }
            if leaving && is_writable && may_read && idle && !waiting && unordered.is_none() {
                return Poll::Ready(Step::Drained);
            }
            clock.track_write_progress(socket.write_progress(), timer.as_mut());
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Due);
            }
            backlog.update_charge(socket_bytes(socket, received_bytes));
            if has_space && !may_read && account.poll_readable(context).is_ready() {
                return Poll::Ready(Step::Readable);
            }
            turn = Turn::default();
            Poll::Pending
        })
        .await;
        let end = match step {
            Step::StartHandler => {
                let message = backlog.start_next().map(|body| shared.gateway.message(connection, body));
                running = message.map(|handler| Box::pin(handler) as RunningHandler<'a>);
                None
            }
            Step::HandlerFinished(response) => {
                running = None;
                backlog.finished();
                let now = Instant::now();
                turn.check_time(now);
                send_response(response, connection, socket, &mut clock, now)
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
                let now = Instant::now();
                turn.count_message(now);
                send_response(response, connection, socket, &mut clock, now)
            }
            Step::Posted => match connection.outbox.take() {
                Some(post) => {
                    let now = Instant::now();
                    turn.count_message(now);
                    clock.message_sent(now);
                    connection.touch(crate::event::now());
                    let (payload, charge) = post.into_parts();
                    socket.queue_shared(payload.into(), charge).err()
                }
                None => {
                    if connection.outbox.is_aborted() {
                        backlog.clear();
                        unordered.iter_mut().for_each(|unordered| unordered.clear());
                    }
                    connection.outbox.closing().map(EndReason::ClosedByServer)
                }
            },
            Step::Received(received) => {
                let now = Instant::now();
                turn.count_message(now);
                match receive(received, limits) {
                    Ok(Incoming::Message(body)) => {
                        received_bytes = socket.received_bytes();
                        clock.message_received(now);
                        match shared.gateway.ordering(connection, &body) {
                            Ordering::Connection => backlog.push(body),
                            Ordering::None => unordered
                                .get_or_insert_with(|| Box::new(UnorderedMessages::new(limits.message_bytes)))
                                .push(body, account.charge()),
                        }
                        None
                    }
                    Ok(Incoming::Control { frame_bytes, is_ping }) => {
                        received_bytes += frame_bytes as u64;
                        if is_ping && limits.ping_resets_idle {
                            clock.message_received(now);
                        } else {
                            clock.frame_received(now);
                        }
                        None
                    }
                    Err(end) => Some(end),
                }
            }
            Step::Panicked => {
                log_panic(connection);
                Some(EndReason::server_error())
            }
            Step::Readable => None,
            Step::Flushed(flushed) => flushed.err().map(|_| EndReason::Lost),
            Step::Stop => {
                leaving = true;
                socket.stop_reading();
                if let Some(deadline) = shared.stop.deadline() {
                    has_deadline = true;
                    clock.end_by(deadline);
                }
                timer.as_mut().reset(clock.next_deadline());
                None
            }
            Step::Drained => {
                // A post that comes now is either queued before the close frame and sent, or gets Gone.
                connection.outbox.close(going_away());
                None
            }
            Step::Due => {
                let reading = if may_read && !leaving { Reading::Active } else { Reading::Paused };
                match clock.due(Instant::now(), reading) {
                    Due::Nothing => None,
                    Due::Ping => socket.queue(Message::Ping(Bytes::new())).err(),
                    // What was queued is still sent, if the peer reads it.
                    Due::Close if connection.outbox.close(going_away()) => {
                        clock.end_after_close(Instant::now() + CLOSE_TIMEOUT);
                        None
                    }
                    Due::Close => Some(EndReason::ClosedByServer(going_away())),
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

/// Logs that the connection ends because of a panic, which the panic hook has logged.
fn log_panic(connection: &Connection) {
    error!(connection_id = %connection.id, "closed connection with 1011: the server panicked; report the panic above");
}

/// Sends the response of a handler, after the messages that it posted to its own connection.
fn send_response(
    response: Option<Payload>,
    connection: &Connection,
    socket: &mut Socket,
    clock: &mut Clock,
    now: Instant,
) -> Option<EndReason> {
    let payload = connection.outbox.queue_response(response?)?;
    clock.message_sent(now);
    socket.queue(payload.into()).err()
}

/// Returns how many bytes the socket holds: those that wait to be written, and those of a message that has not arrived
/// completely. `received_bytes` is what had arrived with the messages before it.
fn socket_bytes(socket: &Socket, received_bytes: u64) -> usize {
    let unfinished = socket.received_bytes().saturating_sub(received_bytes);
    socket.own_bytes() + usize::try_from(unfinished).unwrap_or(0)
}
