//! A client that sends any bytes and frames a test writes, valid or not.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Server, TEST_TIMEOUT};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The bit of the last frame of a message. Without it, more frames follow.
pub const FIN: u8 = 0x80;

/// The `Sec-WebSocket-Accept` value for the key in `UPGRADE`, which is the example of RFC 6455.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The headers of an upgrade request.
pub const UPGRADE: &str = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A TCP connection to the server.
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns the code and the reason of a close frame.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "expected a close frame, found {self:?}");
        match self.payload.split_at_checked(2) {
            Some((code, reason)) => {
                (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(reason.to_vec()).unwrap())
            }
            None => (1005, String::new()),
        }
    }

    pub fn text(&self) -> &str {
        assert_eq!(self.opcode, TEXT, "expected text, found {self:?}");
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// Returns a frame as a client sends it. Its mask is all zeros, so the payload is unchanged.
///
/// `first` is the first byte: the opcode and flags such as `FIN`.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns the header of a frame whose payload has `length` bytes.
pub fn head(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes
}

impl Wire {
    /// Opens a TCP connection and sends nothing.
    pub async fn dial(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Does the same as `dial`, with a small receive buffer in the kernel, so that the server soon has to wait.
    pub async fn dial_with_small_buffer(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Does the same as `dial`, from another loopback address.
    pub async fn dial_from(server: &Server, source: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Opens a WebSocket connection to the stage `dev`.
    pub async fn open(server: &Server, query: &str) -> Self {
        let mut wire = Self::dial(server).await;
        wire.upgrade(query).await;
        wire
    }

    pub async fn upgrade(&mut self, query: &str) {
        self.send(format!("GET /dev{query} HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "rejected: {head}");
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends bytes. Ignores the error if the server has closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(TEST_TIMEOUT, self.stream.write_all(bytes))
            .await
            .expect("the server reads no more bytes");
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(&frame(FIN | TEXT, text.as_bytes())).await;
    }

    /// Reads the head of an HTTP response, up to its empty line.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(
                self.more().await,
                "the connection ended within the head of the response: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    /// Reads `count` bytes. `None` means that the connection has ended.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// Reads the next frame. `None` means that the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let head = self.bytes(2).await?;
        assert_eq!(head[0] & FIN, FIN, "the server sends no fragments");
        assert_eq!(head[1] & 0x80, 0, "the server masks nothing");
        let length = match head[1] {
            126 => u16::from_be_bytes(self.bytes(2).await?.try_into().unwrap()) as usize,
            127 => u64::from_be_bytes(self.bytes(8).await?.try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        Some(Frame { opcode: head[0] & 0x0f, payload: self.bytes(length).await? })
    }

    /// Reads the next text message, skipping pings and pongs.
    pub async fn text(&mut self) -> String {
        loop {
            let frame = self.next().await.expect("the connection has ended");
            if frame.opcode != PING && frame.opcode != PONG {
                return frame.text().to_owned();
            }
        }
    }

    /// Sends a text message and reads the next one.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send_text(text).await;
        self.text().await
    }

    /// Waits until the server closes. Returns the code and the reason; 1006 if there was no close frame.
    pub async fn closed(&mut self) -> (u16, String) {
        while let Some(frame) = self.next().await {
            if frame.opcode == CLOSE {
                return frame.close();
            }
        }
        (1006, String::new())
    }

    /// Resets the TCP connection without a close frame, as a machine that has lost power and restarted does.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Waits until the server ends the TCP connection.
    pub async fn wait_for_end(&mut self) {
        while self.more().await {
            self.read.clear();
        }
    }

    /// Returns all bytes that arrive within `wait`.
    pub async fn read_for(&mut self, wait: Duration) -> Vec<u8> {
        let _ = tokio::time::timeout(wait, async { while self.more().await {} }).await;
        std::mem::take(&mut self.read)
    }

    /// Reads once. Returns `false` at the end of the connection.
    async fn more(&mut self) -> bool {
        let read =
            tokio::time::timeout(TEST_TIMEOUT, self.stream.read_buf(&mut self.read)).await.expect("no bytes arrived");
        matches!(read, Ok(count) if count > 0)
    }
}
