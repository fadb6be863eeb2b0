//! A WebSocket that is polled: reading, writing, and the close handshake.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{self, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::EndReason;
use crate::limits::{CLOSE_TIMEOUT, ConnectionLimits, WRITE_BUFFER_BYTES};
use crate::payload::Payload;
use crate::server::counting_stream::CountingStream;

pub struct Socket {
    socket: WebSocketStream<CountingStream>,
    /// Whether something was written that the kernel has not accepted yet.
    unflushed: bool,
}

impl Socket {
    /// Wraps a stream after the 101 response. `already_read` is what the peer sent directly after its request.
    pub async fn new(stream: TcpStream, already_read: Vec<u8>, limits: &ConnectionLimits) -> Self {
        let (stream, config) = (CountingStream::new(stream), socket_config(limits));
        let socket = WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config)).await;
        Self { socket, unflushed: false }
    }

    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error occurs again at the flush, where it ends the connection.
        Pin::new(&mut self.socket).poll_ready(context).map(|_| ())
    }

    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, tungstenite::Error>>> {
        let received = ready!(Pin::new(&mut self.socket).poll_next(context));
        // The library queues the answer to a ping or a close as it reads one.
        if matches!(received, Some(Ok(Message::Ping(_) | Message::Close(_)))) {
            self.unflushed = true;
        }
        Poll::Ready(received)
    }

    /// Flushes the write buffer. Also pending when there is nothing to flush.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        if !self.unflushed {
            return Poll::Pending;
        }
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(context));
        self.unflushed = false;
        Poll::Ready(flushed)
    }

    /// Returns how many bytes the kernel has accepted so far, or `None` if nothing waits for it.
    pub fn write_progress(&self) -> Option<u64> {
        self.unflushed.then(|| self.socket.get_ref().accepted_bytes())
    }

    /// Puts a message into the write buffer.
    pub fn queue(&mut self, message: Message) -> Result<(), EndReason> {
        self.unflushed = true;
        Pin::new(&mut self.socket).start_send(message).map_err(|_| EndReason::Lost)
    }

    /// Performs the close handshake, for at most `CLOSE_TIMEOUT`, and closes the socket.
    pub async fn finish(mut self, reason: EndReason) {
        let frame = match &reason {
            EndReason::Lost => return,
            EndReason::ClosedByPeer(_) => None,
            EndReason::ClosedByServer(frame) | EndReason::ProtocolViolation(frame, _) => Some(frame),
        };
        let handshake = async {
            if let Some(frame) = frame {
                let frame = protocol::CloseFrame { code: frame.code.into(), reason: frame.reason.as_str().into() };
                futures_util::SinkExt::send(&mut self.socket, Message::Close(Some(frame))).await?;
            }
            if !matches!(reason, EndReason::ProtocolViolation(..)) {
                // The stream ends when the peer's answer is read, or our answer to its close frame is written.
                while let Some(received) = futures_util::StreamExt::next(&mut self.socket).await {
                    received?;
                }
            }
            Ok::<(), tungstenite::Error>(linger(self.socket.into_inner().into_inner()).await?)
        };
        let _ = timeout(CLOSE_TIMEOUT, handshake).await;
    }
}

/// Buffers start small: with the library's defaults, 10,000 idle connections would take 1.3 GB.
fn socket_config(limits: &ConnectionLimits) -> WebSocketConfig {
    // The buffer must hold what is buffered already, a post, and the response of the handler that ran meanwhile. The
    // factor of two leaves space for frame headers and pings.
    let write_bytes_max = 2 * (WRITE_BUFFER_BYTES + limits.message_bytes);
    WebSocketConfig::default()
        .read_buffer_size(limits.read_buffer_bytes)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(write_bytes_max)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.frame_bytes))
}

/// Shuts down the sending side and reads until the peer closes. Closing a socket with unread data resets the
/// connection, and a reset can overtake our close frame.
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
