//! The header names of a request as the peer sent them.
//!
//! The HTTP library converts them to lower case and loses their order, but handlers get both as sent. So what a
//! connection sends is recorded from the end of a request's body to the end of the next head, which is taken when that
//! request is dispatched. A client may use a connection for other requests before it upgrades it, and may send the next
//! request without waiting for a response.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::event::Field;
use crate::limits::{RECORDED_BYTES_MAX, REQUEST_HEADERS_MAX};
use crate::server::write_timeout::WriteTimeout;

/// A TCP stream that records the heads of its requests.
pub struct HeadRecorder {
    stream: WriteTimeout,
    recording: HeadRecording,
}

/// The recording of one connection.
#[derive(Clone)]
pub struct HeadRecording(Arc<Mutex<Recorded>>);

/// The bytes of a request's head; `None` if they were not recorded.
pub struct Head(Option<Vec<u8>>);

/// What was read after the last head that was taken and its body.
#[derive(Default)]
struct Recorded {
    /// Empty while the body arrives.
    bytes: Vec<u8>,
    body: BodyRest,
}

/// What is still to come of the body of the last request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BodyRest {
    #[default]
    Nothing,
    Bytes(u64),
    /// A line with the size of the next chunk, as read so far.
    ChunkSize {
        size: u64,
        has_extension: bool,
    },
    /// The rest of a chunk and of the end of its line.
    Chunk(u64),
    Trailers {
        is_line_empty: bool,
    },
    /// It is not known where the next head begins, so none is recorded.
    Unknown,
}

impl HeadRecorder {
    pub fn new(stream: TcpStream) -> (Self, HeadRecording) {
        let recording = HeadRecording(Arc::default());
        let recorder = Self { stream: WriteTimeout::new(stream), recording: recording.clone() };
        (recorder, recording)
    }

    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl HeadRecording {
    /// Takes the head of a request. Every request must call it, before its body is read, so that no request gets the
    /// headers of another one.
    pub fn take<B: axum::body::HttpBody>(&self, request: &Request<B>) -> Head {
        let body = match request.body().size_hint().exact() {
            Some(length) => BodyRest::Bytes(length),
            // The HTTP library knows every other length.
            None => BodyRest::CHUNKED,
        };
        Head(self.0.lock().unwrap_or_else(PoisonError::into_inner).take(body))
    }
}

impl Recorded {
    fn push(&mut self, mut bytes: &[u8]) {
        self.body.skip(&mut bytes);
        if self.bytes.len() + bytes.len() > RECORDED_BYTES_MAX {
            (self.bytes, self.body) = (Vec::new(), BodyRest::Unknown);
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Returns the next head, which has been read as a whole. `body` is the body that follows it.
    fn take(&mut self, body: BodyRest) -> Option<Vec<u8>> {
        let mut head = mem::take(&mut self.bytes);
        let Some(length) = head_length(&head) else {
            self.body = BodyRest::Unknown;
            return None;
        };
        let after = head.split_off(length);
        self.body = body;
        self.push(&after);
        Some(head)
    }
}

/// Returns the length of the head at the start of these bytes, with the empty line at its end.
fn head_length(bytes: &[u8]) -> Option<usize> {
    // Empty lines before a request are allowed.
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    let mut lines = bytes[start..].split_inclusive(|byte| *byte == b'\n');
    let mut length = start;
    lines.find_map(|line| {
        length += line.len();
        matches!(line, b"\n" | b"\r\n").then_some(length)
    })
}

impl BodyRest {
    const CHUNKED: Self = Self::ChunkSize { size: 0, has_extension: false };

    /// Removes from the start of `bytes` what belongs to the body. The HTTP library checks the body; if it is invalid,
    /// it closes the connection.
    fn skip(&mut self, bytes: &mut &[u8]) {
        loop {
            *self = match *self {
                Self::Nothing | Self::Bytes(0) => return *self = Self::Nothing,
                Self::Unknown => return *bytes = &[],
                _ if bytes.is_empty() => return,
                Self::Bytes(rest) => Self::Bytes(skip_bytes(bytes, rest)),
                Self::Chunk(0) => Self::CHUNKED,
                Self::Chunk(rest) => Self::Chunk(skip_bytes(bytes, rest)),
                Self::ChunkSize { size, has_extension } => match next_byte(bytes) {
                    b'\n' if size == 0 => Self::Trailers { is_line_empty: true },
                    // The line end after the chunk has two bytes.
                    b'\n' => Self::Chunk(size.saturating_add(2)),
                    byte => match char::from(byte).to_digit(16) {
                        Some(digit) if !has_extension => Self::ChunkSize {
                            size: size.saturating_mul(16).saturating_add(digit.into()),
                            has_extension,
                        },
                        _ => Self::ChunkSize { size, has_extension: true },
                    },
                },
                Self::Trailers { is_line_empty } => match next_byte(bytes) {
                    b'\n' if is_line_empty => Self::Nothing,
                    b'\n' => Self::Trailers { is_line_empty: true },
                    byte => Self::Trailers { is_line_empty: is_line_empty && byte == b'\r' },
                },
            };
        }
    }
}

/// Removes at most `count` bytes from the start of `bytes`, and returns how many of them are still to come.
fn skip_bytes(bytes: &mut &[u8], count: u64) -> u64 {
    let skipped = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[skipped..];
    count - skipped as u64
}

fn next_byte(bytes: &mut &[u8]) -> u8 {
    let (first, rest) = bytes.split_first().expect("the caller has checked that there is one");
    *bytes = rest;
    *first
}

impl Head {
    /// Returns the headers with the names and the order of the peer. If the head was not recorded, or its names differ
    /// from those of `headers` by more than their case, returns `headers`.
    pub fn fields(&self, headers: &HeaderMap) -> Vec<Field> {
        self.0.as_deref().and_then(|head| fields_as_sent(head, headers)).unwrap_or_else(|| fields_as_parsed(headers))
    }
}

fn fields_as_sent(head: &[u8], headers: &HeaderMap) -> Option<Vec<Field>> {
    let mut parsed = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut parsed);
    request.parse(head).ok()?.is_complete().then_some(())?;
    let sent = &*request.headers;
    if sent.len() != headers.len() {
        return None;
    }
    let field = |(index, header): (usize, &httparse::Header<'_>)| {
        let earlier = sent[..index].iter().filter(|earlier| earlier.name.eq_ignore_ascii_case(header.name)).count();
        let value = headers.get_all(header.name).iter().nth(earlier)?;
        Some((header.name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    sent.iter().enumerate().map(field).collect()
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
        if let Some(bytes) = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.recording.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
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
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_keep_their_case_and_their_order() {
        let head = b"GET /dev HTTP/1.1\r\nX-b: 2\r\nhost: h\r\nX-A: 1\r\nx-B:  3 \r\n\r\n";
        let sent = [("X-b", "2"), ("host", "h"), ("X-A", "1"), ("x-B", "3")];
        assert_eq!(fields_as_sent(head, &headers(&sent)), Some(fields(&sent)));
    }

    #[test]
    fn recorded_names_are_used_only_where_they_equal_the_parsed_ones_but_for_their_case() {
        let head = || Head(Some(b"GET /dev HTTP/1.1\r\nX-A: 1\r\nX-B: 2\r\n\r\n".to_vec()));
        assert_eq!(head().fields(&headers(&[("x-a", "1"), ("x-b", "2")])), fields(&[("X-A", "1"), ("X-B", "2")]));
        // A value of the library wins: the host may come from the target.
        assert_eq!(head().fields(&headers(&[("x-a", "9"), ("x-b", "2")])), fields(&[("X-A", "9"), ("X-B", "2")]));
        for other in [&[("x-a", "1")][..], &[("x-a", "1"), ("x-c", "2")], &[("x-a", "1"), ("x-b", "2"), ("x-b", "3")]] {
            assert_eq!(head().fields(&headers(other)), fields(other));
        }
        assert_eq!(Head(None).fields(&headers(&[("x-a", "1")])), fields(&[("x-a", "1")]));
    }

    #[test]
    fn each_head_is_found_after_the_body_before_it_however_the_bytes_arrive() {
        let heads = ["GET /1 HTTP/1.1\r\nA: 1\r\n\r\n", "\r\nGET /2 HTTP/1.1\r\nB: 2\n\n", "GET /3 HTTP/1.1\r\n\r\n"];
        let length = |body: &str| BodyRest::Bytes(body.len() as u64);
        let misleading = "\r\n\r\nGET /x HTTP/1.1\r\nX: y\r\n\r\n";
        for (body, text) in [
            (BodyRest::Bytes(0), String::new()),
            (length(misleading), misleading.to_owned()),
            (BodyRest::CHUNKED, "0\r\n\r\n".to_owned()),
            (BodyRest::CHUNKED, format!("{:X};a=\"1f\"\r\n{misleading}\r\n000\r\n\r\n", misleading.len())),
            (BodyRest::CHUNKED, "1\r\na\r\n2 \r\nbc\r\n0;x\r\nT: 1\r\nU:\r\n\r\n".to_owned()),
        ] {
            let sent = format!("{}{text}{}{text}{}", heads[0], heads[1], heads[2]);
            for part in 1..=sent.len() {
                let mut recorded = Recorded::default();
                let mut parts = sent.as_bytes().chunks(part);
                for head in heads {
                    while head_length(&recorded.bytes).is_none() {
                        recorded.push(parts.next().unwrap());
                    }
                    let taken = recorded.take(body).unwrap();
                    assert_eq!(String::from_utf8(taken).unwrap(), head, "parts of {part} bytes, {text:?}");
                }
            }
        }
    }

    #[test]
    fn a_head_and_what_is_read_with_it_are_recorded_and_no_more() {
        let mut recorded = Recorded::default();
        recorded.push(b"GET / HTTP/1.1\r\n\r\n");
        assert!(recorded.take(BodyRest::Bytes(1 << 40)).is_some());
        for _ in 0..10 {
            recorded.push(&[b'a'; RECORDED_BYTES_MAX]);
            assert_eq!(recorded.bytes.capacity(), 0, "a body is not recorded");
        }
        for (more, is_recorded) in [(0, true), (1, false)] {
            let mut recorded = Recorded::default();
            recorded.push(b"GET / HTTP/1.1\r\n\r\n");
            recorded.push(&vec![b'a'; RECORDED_BYTES_MAX - recorded.bytes.len() + more]);
            assert_eq!(recorded.take(BodyRest::Nothing).is_some(), is_recorded);
            recorded.push(b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(recorded.body == BodyRest::Unknown, !is_recorded);
        }
    }
}
