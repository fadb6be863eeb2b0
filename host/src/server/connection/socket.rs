//! A WebSocket that is polled: what comes in, what goes out, and the last word.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{self, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::End;
use crate::limits::{CLOSE_TIMEOUT, ConnectionLimits, WRITE_BUFFER_BYTES};
use crate::payload::Payload;
use crate::server::counted::CountedStream;

/// The socket, and whether something was written that the kernel does not have yet.
pub struct Socket {
    socket: WebSocketStream<CountedStream>,
    unflushed: bool,
}

impl Socket {
    /// A stream on which the protocols were switched, and what the peer has sent behind its request.
    pub async fn new(stream: TcpStream, already_read: Vec<u8>, limits: &ConnectionLimits) -> Self {
        let (stream, config) = (CountedStream::new(stream), socket_config(limits));
        let socket = WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config)).await;
        Self { socket, unflushed: false }
    }

    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error shows again at the flush, where it ends the connection.
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

    /// Pending also where there is nothing to flush.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        if !self.unflushed {
            return Poll::Pending;
        }
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(context));
        self.unflushed = false;
        Poll::Ready(flushed)
    }

    /// What still waits for the kernel to take it: then, how much it has taken before.
    pub fn waiting(&self) -> Option<u64> {
        self.unflushed.then(|| self.socket.get_ref().taken_bytes())
    }

    /// Puts a message into the write buffer.
    pub fn queue(&mut self, message: Message) -> Result<(), End> {
        self.unflushed = true;
        Pin::new(&mut self.socket).start_send(message).map_err(|_| End::Vanished)
    }

    /// Says the last word to the peer, and waits a moment for its own.
    pub async fn finish(mut self, end: End) {
        let frame = match &end {
            End::Vanished => return,
            End::ByPeer(_) => None,
            End::ByUs(frame) | End::Refused(frame, _) => Some(frame),
        };
        let goodbye = async {
            if let Some(frame) = frame {
                let frame = protocol::CloseFrame { code: frame.code.into(), reason: frame.reason.as_str().into() };
                futures_util::SinkExt::send(&mut self.socket, Message::Close(Some(frame))).await?;
            }
            if !matches!(end, End::Refused(..)) {
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
