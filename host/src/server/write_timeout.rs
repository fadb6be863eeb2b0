//! A TCP stream whose writes fail if the client accepts no bytes for too long.
//!
//! The HTTP library has a timeout for request heads and none for responses: a client that never reads its responses
//! would keep its connection for as long as it likes.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::limits::RESPONSE_WRITE_TIMEOUT;

pub struct WriteTimeout {
    stream: TcpStream,
    /// Set while bytes wait that the client does not accept.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, timeout: None }
    }

    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Returns the result of a write of `bytes`, or an error if the client has accepted nothing for too long.
    fn limit(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timeout = None;
            return written;
        }
        // The kernel reports that a socket can be written again when a third of its buffer is free. A slow client may not
        // have accepted so much, but then there is space for some bytes. So the buffer is kept full: whatever it takes
        // later, the client has accepted.
        match rustix::io::write(&self.stream, bytes) {
            Ok(count @ 1..) => {
                self.timeout = None;
                return Poll::Ready(Ok(count));
            }
            Ok(0) | Err(Errno::AGAIN) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(sleep(RESPONSE_WRITE_TIMEOUT)));
        ready!(timeout.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.limit(context, written, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        this.limit(context, written, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
