//! A WebSocket that is polled: reading, writing, and the close handshake.
//!
//! The WebSocket library reads: it unmasks, joins fragments, checks UTF-8, limits and close codes, and encodes the
//! answers to control frames. Everything that is written waits in one queue of whole frames. Both hold memory only while
//! they have something to do: the library never releases its read buffer, which is as large as the largest frame so far,
//! so its state is dropped between two messages, when it has nothing to lose.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{self, Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{self, Message};

use super::EndReason;
use crate::connections::budget::Charge;
use crate::limits::{CLOSE_TIMEOUT, ConnectionLimits, WRITE_BUFFER_BYTES};
use crate::payload::Payload;
use crate::server::wire::Wire;

mod frame_queue;
mod frame_scanner;

use frame_queue::{FrameQueue, HEADER_BYTES_MAX, Opcode, SLICES_MAX};
use frame_scanner::FrameScanner;

pub struct Socket {
    wire: Wire,
    frames: FrameQueue,
    /// `None` between two messages.
    reader: Option<Reader>,
    /// Whether nothing more can be received, because the peer has closed or an error was returned.
    ended: bool,
    config: WebSocketConfig,
    queued_bytes_max: usize,
}

impl Socket {
    /// Wraps a stream after the 101 response. `already_read` is what the peer sent directly after its request.
    pub fn new(stream: TcpStream, already_read: Vec<u8>, limits: &ConnectionLimits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(limits.read_buffer_bytes)
            // The library passes each control frame on as soon as it is encoded.
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.frame_bytes));
        Self {
            wire: Wire::new(stream),
            frames: FrameQueue::default(),
            reader: (!already_read.is_empty()).then(|| Reader::new(already_read, config)),
            ended: false,
            config,
            // The queue must hold what is queued already, a post, and the response of the handler that ran meanwhile.
            // The factor of two leaves space for frame headers and pings.
            queued_bytes_max: 2 * (WRITE_BUFFER_BYTES + limits.message_bytes),
        }
    }

    /// Ready unless more than `WRITE_BUFFER_BYTES` wait for the peer to read.
    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.frames.bytes() <= WRITE_BUFFER_BYTES {
            return Poll::Ready(());
        }
        let written = self.poll_write(context);
        // An error occurs again at the flush, where it ends the connection.
        if written.is_pending() && self.frames.bytes() > WRITE_BUFFER_BYTES { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Receives the next message. `None` means that the WebSocket has ended.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, tungstenite::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.reader.is_none() {
            ready!(self.wire.poll_readable(context));
        }
        let reader = self.reader.get_or_insert_with(|| Reader::new(Vec::new(), self.config));
        let mut stream =
            LibraryStream { wire: &mut self.wire, frames: &mut self.frames, scanner: &mut reader.scanner, context };
        match reader.library.read(&mut stream) {
            Ok(message @ (Message::Ping(_) | Message::Close(_))) => {
                // The library queues its answer now. That returns an error if it was the answer to a close frame.
                self.ended = reader.library.flush(&mut stream).is_err();
                Poll::Ready(Some(Ok(message)))
            }
            Ok(message) => Poll::Ready(Some(Ok(reader.detach(message, &self.config)))),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if reader.is_idle() {
                    self.reader = None;
                }
                Poll::Pending
            }
            Err(error) => {
                self.ended = true;
                let closed = matches!(error, tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed);
                Poll::Ready((!closed).then_some(Err(error)))
            }
        }
    }

    /// Reads no more from the peer; what has been read of it is still received.
    pub fn stop_reading(&mut self) {
        self.wire.set_reads(false);
    }

    /// Writes all queued frames. Also pending when there are none.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        if self.frames.is_empty() {
            return Poll::Pending;
        }
        self.poll_write(context).map_err(tungstenite::Error::Io)
    }

    /// Returns how many bytes the kernel has accepted so far, or `None` if nothing waits for it.
    pub fn write_progress(&self) -> Option<u64> {
        (!self.frames.is_empty()).then(|| self.wire.accepted_bytes())
    }

    /// Returns how many bytes the peer has sent after its upgrade request.
    pub fn received_bytes(&self) -> u64 {
        self.wire.received_bytes()
    }

    /// Returns the bytes of the queued frames that the connection must be charged for.
    pub fn own_bytes(&self) -> usize {
        self.frames.own_bytes()
    }

    /// Queues a message to be written.
    pub fn queue(&mut self, message: Message) -> Result<(), EndReason> {
        self.queue_shared(message, None)
    }

    /// As `queue`. `charge` is that of a payload which other connections hold too.
    pub fn queue_shared(&mut self, message: Message, charge: Option<Arc<Charge>>) -> Result<(), EndReason> {
        let (opcode, payload) = match message {
            Message::Text(text) => (Opcode::Text, text.into()),
            Message::Binary(bytes) => (Opcode::Binary, bytes),
            Message::Ping(data) => (Opcode::Ping, data),
            Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {
                unreachable!("pongs and close frames are encoded by the library")
            }
        };
        if self.ended || self.frames.bytes() + HEADER_BYTES_MAX + payload.len() > self.queued_bytes_max {
            return Err(EndReason::Lost);
        }
        self.frames.push(opcode, payload, charge);
        Ok(())
    }

    /// Performs the close handshake, for at most `CLOSE_TIMEOUT`, and closes the socket.
    pub async fn finish(mut self, reason: EndReason) {
        let frame = match &reason {
            EndReason::Lost => return,
            EndReason::ClosedByPeer(_) => None,
            EndReason::ClosedByServer(frame) | EndReason::ProtocolViolation(frame, _) => Some(frame),
        };
        self.wire.set_reads(true);
        let handshake = async {
            if let Some(frame) = frame {
                self.queue_close(protocol::CloseFrame {
                    code: frame.code.into(),
                    reason: frame.reason.as_str().into(),
                })?;
            }
            std::future::poll_fn(|context| self.poll_write(context)).await?;
            if !matches!(reason, EndReason::ProtocolViolation(..)) {
                // This ends when the peer's answer is read, or at once if our frame was the answer.
                while let Some(received) = std::future::poll_fn(|context| self.poll_receive(context)).await {
                    received?;
                }
            }
            Ok::<(), tungstenite::Error>(self.wire.linger().await?)
        };
        let _ = timeout(CLOSE_TIMEOUT, handshake).await;
    }

    /// Queues our close frame. From here on the library answers no pings and waits for the peer's close frame.
    fn queue_close(&mut self, frame: protocol::CloseFrame) -> Result<(), tungstenite::Error> {
        let reader = self.reader.get_or_insert_with(|| Reader::new(Vec::new(), self.config));
        // Nothing is read here, so there is nothing to be woken for.
        let mut context = Context::from_waker(Waker::noop());
        reader.library.close(
            &mut LibraryStream {
                wire: &mut self.wire,
                frames: &mut self.frames,
                scanner: &mut reader.scanner,
                context: &mut context,
            },
            Some(frame),
        )
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = ready!(self.wire.poll_write(context, self.frames.slices(&mut slices)))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.frames.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

/// The state of the library for reading, and how far it has read.
struct Reader {
    library: WebSocketContext,
    scanner: FrameScanner,
}

impl Reader {
    fn new(already_read: Vec<u8>, config: WebSocketConfig) -> Self {
        let mut scanner = FrameScanner::default();
        scanner.scan(&already_read);
        let library = WebSocketContext::from_partially_read(already_read, Role::Server, Some(config));
        Self { library, scanner }
    }

    /// Whether a new reader would continue in the same way. Only called when the library waits for more bytes: then it
    /// has returned every whole message, so between two messages its buffers are empty.
    fn is_idle(&self) -> bool {
        self.scanner.is_between_messages() && self.library.can_write()
    }

    /// Copies a payload that is small compared with the read buffer, which a message that waits would keep alive.
    fn detach(&self, message: Message, config: &WebSocketConfig) -> Message {
        let buffer_bytes = self.scanner.largest_payload_bytes().max(config.read_buffer_size as u64);
        match message {
            Message::Text(text) if text.len() as u64 <= buffer_bytes / 2 => Message::Text(text.as_str().into()),
            Message::Binary(bytes) if bytes.len() as u64 <= buffer_bytes / 2 => {
                Message::Binary(Bytes::copy_from_slice(&bytes))
            }
            other => other,
        }
    }
}

/// The stream of the library: it reads from the wire, and what it writes, control frames only, is queued behind the
/// other frames.
struct LibraryStream<'a, 'b> {
    wire: &'a mut Wire,
    frames: &'a mut FrameQueue,
    scanner: &'a mut FrameScanner,
    context: &'a mut Context<'b>,
}

impl Read for LibraryStream<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.wire.poll_read(self.context, buffer) {
            Poll::Ready(Ok(count)) => {
                self.scanner.scan(&buffer[..count]);
                Ok(count)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for LibraryStream<'_, '_> {
    /// The library writes one whole frame at a time, because its own write buffer is off and every write succeeds.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.frames.push_control(frame);
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Payload> for Message {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}
