//! The bytes of a WebSocket connection: read, written, and counted as its peer accepts them.
//!
//! Does not know frames. TCP is the only transport; another one, such as TLS, would be a second variant in here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::server::turn::ReadTurn;

pub struct Wire {
    stream: TcpStream,
    accepted_bytes: u64,
    received_bytes: u64,
    turn: ReadTurn,
    reads: bool,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, accepted_bytes: 0, received_bytes: 0, turn: ReadTurn::default(), reads: true }
    }

    /// Ready when a read is worth a try. It may still find nothing.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.reads {
            return Poll::Pending;
        }
        // An error occurs again at the read.
        self.stream.poll_read_ready(context).map(|_| ())
    }

    /// Sets whether the peer is read. If not, reading is pending, and its task is not woken for it.
    pub fn set_reads(&mut self, reads: bool) {
        self.reads = reads;
    }

    /// Reads into `buffer` and returns the number of bytes; 0 if the peer sends no more. Gives way to other tasks after
    /// `TURN_BYTES`.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.reads {
            return Poll::Pending;
        }
        ready!(self.turn.poll_start(context));
        let mut buffer = ReadBuf::new(buffer);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        if read.is_pending() {
            self.turn.end();
        }
        ready!(read)?;
        let count = buffer.filled().len();
        self.turn.count(count);
        self.received_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Returns how many bytes were read so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Writes a part of `slices`, in their order, and returns the number of bytes that the kernel has accepted.
    pub fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let count = ready!(match slices {
            // The system call for one buffer is cheaper.
            [slice] => stream.poll_write(context, slice),
            _ => stream.poll_write_vectored(context, slices),
        })?;
        self.accepted_bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Returns how many written bytes the kernel has accepted so far.
    pub fn accepted_bytes(&self) -> u64 {
        self.accepted_bytes
    }

    /// Shuts down the sending side and reads until the peer closes. Closing a socket with unread data resets the
    /// connection, and a reset can overtake our close frame.
    pub async fn linger(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut unread = [0; 4096];
        while self.stream.read(&mut unread).await? > 0 {}
        Ok(())
    }
}
