//! The header names of a request as the peer sent them.
//!
//! The HTTP library converts them to lower case and loses their order, but handlers get both as sent. So the first
//! request head of a connection is kept until it is dispatched. An upgrade is always the first request, because
//! WebSocket clients open a connection for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::event::Field;
use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};
use crate::server::write_timeout::WriteTimeout;

/// The bytes read so far; `None` once they were taken, or are more than a head may have.
type Recording = Arc<Mutex<Option<Vec<u8>>>>;

/// A TCP stream that records what is read from it until its head is taken.
pub struct HeadRecorder {
    stream: WriteTimeout,
    recording: Option<Recording>,
}

/// The recording of one connection, which its first request takes.
#[derive(Clone)]
pub struct HeadRecording(Recording);

/// The bytes of a connection's first request; `None` for a later request.
pub struct Head(Option<Vec<u8>>);

impl HeadRecorder {
    pub fn new(stream: TcpStream) -> (Self, HeadRecording) {
        let recording = Arc::new(Mutex::new(Some(Vec::new())));
        let recorder = Self { stream: WriteTimeout::new(stream), recording: Some(Arc::clone(&recording)) };
        (recorder, HeadRecording(recording))
    }

    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl HeadRecording {
    /// Ends the recording. Every request must call it, so that no request gets the headers of an earlier one.
    pub fn take(&self) -> Head {
        Head(self.0.lock().expect("no code panics while holding the head").take())
    }
}

impl Head {
    /// Returns the headers in the peer's own case and order. If they were not recorded, returns `headers`.
    pub fn fields(&self, headers: &HeaderMap) -> Vec<Field> {
        self.0.as_deref().and_then(fields_as_sent).unwrap_or_else(|| fields_as_parsed(headers))
    }
}

fn fields_as_sent(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut headers = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(bytes).ok()?.is_complete().then_some(())?;
    let field = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned())
    };
    Some(request.headers.iter().map(field).collect())
}

fn fields_as_parsed(headers: &HeaderMap) -> Vec<Field> {
    let field = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(field).collect()
}

impl AsyncRead for HeadRecorder {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Some(recording) = &this.recording {
            let mut recorded = recording.lock().expect("no code panics while holding the head");
            match &mut *recorded {
                Some(bytes) if bytes.len() <= REQUEST_HEAD_BYTES_MAX => {
                    bytes.extend_from_slice(&buffer.filled()[before..]);
                }
                taken => {
                    *taken = None;
                    drop(recorded);
                    this.recording = None;
                }
            }
        }
        read
    }
}

impl AsyncWrite for HeadRecorder {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
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
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_case_and_their_order() {
        let head = b"GET /dev HTTP/1.1\r\nX-b: 2\r\nhost: h\r\nX-A: 1\r\nX-b:  3 \r\n\r\n";
        let fields = fields_as_sent(head).unwrap();
        let expected = [("X-b", "2"), ("host", "h"), ("X-A", "1"), ("X-b", "3")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_incomplete_head_has_no_fields() {
        assert_eq!(fields_as_sent(b"GET /dev HTTP/1.1\r\nX-b: 2\r\n"), None);
    }
}
