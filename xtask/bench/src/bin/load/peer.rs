//! One client connection: bytes out of a socket into messages, messages into it.
//!
//! Does not know what the messages say, nor that there are other peers.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use jackfield_bench::wire::{self, Malformed, Opcode};
use mio::net::TcpStream;

/// A server that leaves more than this unread has stopped; what is due then is not sent.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

pub struct Peer {
    pub socket: TcpStream,
    stage: Stage,
    /// The start of something that has not arrived whole.
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

/// Why a connection ended, in words for a person.
pub struct Lost(pub String);

impl From<Malformed> for Lost {
    fn from(Malformed(text): Malformed) -> Self {
        Self(text)
    }
}

impl From<std::io::Error> for Lost {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Peer {
    /// A peer on a socket that is still connecting; `request` is the upgrade that it sends first.
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

    pub fn lose(&mut self) {
        self.stage = Stage::Lost;
    }

    /// Whether the server still takes in what is sent.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() - self.written < UNSENT_BYTES_MAX
    }

    /// Takes in what has arrived and calls `message` for each, with the buffer for an answer.
    ///
    /// A read that does not fill `scratch` has emptied the socket; only where the server's end is
    /// known to be closed (`to_the_end`) is it read until it says so.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        to_the_end: bool,
        mut message: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<(), Lost> {
        loop {
            let got = match self.socket.read(scratch) {
                Ok(0) => return Err(Lost("the server closed the connection".into())),
                Ok(got) => got,
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if self.incoming.is_empty() {
                let used = self.take_in(&scratch[..got], &mut message)?;
                self.incoming.extend_from_slice(&scratch[used..got]);
            } else {
                let mut bytes = std::mem::take(&mut self.incoming);
                bytes.extend_from_slice(&scratch[..got]);
                let used = self.take_in(&bytes, &mut message)?;
                bytes.drain(..used);
                self.incoming = bytes;
            }
            if got < scratch.len() && !to_the_end {
                return Ok(());
            }
        }
    }

    /// Handles what is whole at the start of `bytes`, and says how many that were.
    fn take_in(&mut self, bytes: &[u8], message: &mut impl FnMut(&[u8], &mut Vec<u8>)) -> Result<usize, Lost> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head) = wire::upgrade_answer(bytes)? else {
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
                Opcode::Close => return Err(Lost(closed_with(frame.payload))),
            }
        }
        Ok(used)
    }

    /// Writes what is waiting, as far as the socket takes it; the rest goes when it is writable.
    pub fn flush(&mut self) -> Result<(), Lost> {
        while self.written < self.outgoing.len() {
            match self.socket.write(&self.outgoing[self.written..]) {
                Ok(wrote) => self.written += wrote,
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }
}

/// The socket is still connecting, or has nothing to read, or no room to write.
fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

fn closed_with(payload: &[u8]) -> String {
    match payload {
        &[high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            format!("the server closed with {code} {:?}", String::from_utf8_lossy(reason))
        }
        _ => "the server closed without a code".into(),
    }
}
