//! One client connection: reads frames from its socket and writes frames to it.
//!
//! This module does not know the contents of messages or other connections.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use jackfield_bench::wire::{self, Malformed, Opcode};
use mio::net::TcpStream;

/// If the server has not read more than this, it counts as stopped, and messages that are due are not sent.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

pub struct Peer {
    pub socket: TcpStream,
    stage: Stage,
    /// The start of a frame, or of the upgrade response, that has not arrived completely.
    incoming: Vec<u8>,
    pub outgoing: Vec<u8>,
    written: usize,
    pub began: Instant,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Stage {
    Upgrading,
    Open,
    Lost,
}

/// The reason why a connection ended, as text for a person.
pub struct Disconnected(pub String);

impl From<Malformed> for Disconnected {
    fn from(Malformed(text): Malformed) -> Self {
        Self(text)
    }
}

impl From<std::io::Error> for Disconnected {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Peer {
    /// Creates a peer on a socket that is still connecting. `request` is the upgrade request that it sends first.
    pub fn new(socket: TcpStream, request: String) -> Self {
        Self {
            socket,
            stage: Stage::Upgrading,
            incoming: Vec::new(),
            outgoing: request.into_bytes(),
            written: 0,
            began: Instant::now(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub fn is_lost(&self) -> bool {
        self.stage == Stage::Lost
    }

    pub fn mark_lost(&mut self) {
        self.stage = Stage::Lost;
    }

    /// Returns whether the server still reads what is sent.
    pub fn can_send(&self) -> bool {
        self.outgoing.len() - self.written < UNSENT_BYTES_MAX
    }

    /// Reads the socket and calls `message` for each message, with the buffer for a response.
    ///
    /// A read that does not fill `scratch` has emptied the socket, so there is no further read. Only if the server has
    /// closed its end (`until_end`), the socket is read until a read reports the end.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        until_end: bool,
        mut message: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<(), Disconnected> {
        loop {
            let length = match self.socket.read(scratch) {
                Ok(0) => return Err(Disconnected("the server closed the connection".into())),
                Ok(length) => length,
                Err(error) if is_not_ready(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if self.incoming.is_empty() {
                let used = self.parse(&scratch[..length], &mut message)?;
                self.incoming.extend_from_slice(&scratch[used..length]);
            } else {
                let mut bytes = std::mem::take(&mut self.incoming);
                bytes.extend_from_slice(&scratch[..length]);
                let used = self.parse(&bytes, &mut message)?;
                bytes.drain(..used);
                self.incoming = bytes;
            }
            if length < scratch.len() && !until_end {
                return Ok(());
            }
        }
    }

    /// Handles the complete frames at the start of `bytes`. Returns their length in bytes.
    fn parse(&mut self, bytes: &[u8], message: &mut impl FnMut(&[u8], &mut Vec<u8>)) -> Result<usize, Disconnected> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head) = wire::upgrade_response(bytes)? else {
                return Ok(0);
            };
            used = head;
            self.stage = Stage::Open;
        }
        while let Some(frame) = wire::decode(&bytes[used..])? {
            used += frame.wire_bytes;
            match frame.opcode {
                Opcode::Text | Opcode::Binary => message(frame.payload, &mut self.outgoing),
                Opcode::Ping => wire::encode(Opcode::Pong, frame.payload, &mut self.outgoing),
                Opcode::Pong => {}
                Opcode::Close => return Err(Disconnected(describe_close(frame.payload))),
            }
        }
        Ok(used)
    }

    /// Writes as many bytes as the socket accepts. The rest is written when the socket is writable again.
    pub fn flush(&mut self) -> Result<(), Disconnected> {
        while self.written < self.outgoing.len() {
            match self.socket.write(&self.outgoing[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if is_not_ready(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }
}

/// Returns whether the socket is still connecting, has nothing to read, or cannot accept more bytes.
fn is_not_ready(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

fn describe_close(payload: &[u8]) -> String {
    match payload {
        &[high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            format!("the server closed with {code} {:?}", String::from_utf8_lossy(reason))
        }
        _ => "the server closed without a code".into(),
    }
}
