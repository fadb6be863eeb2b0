//! What jackfield and this program send to each other: one request, and one reply. Both begin with their length.

use std::io::{self, Read, Write};

/// The kind of a reply with content; jackfield knows others too.
const CONTENT: u8 = 1;

pub fn read_request(mut input: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub fn write_reply(mut output: impl Write, content: &[u8]) -> io::Result<()> {
    output.write_all(&[CONTENT])?;
    output.write_all(&(content.len() as u64).to_le_bytes())?;
    output.write_all(content)?;
    output.flush()
}
