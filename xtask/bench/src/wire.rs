//! The client's part of the WebSocket protocol, as far as the measurements need it.
//!
//! This module knows bytes but no sockets. It rejects fragmented messages, which no measured server sends.

/// The masking key of all frames. The cost for the server is the same for every key, and with a fixed one a frame is
/// masked once and sent many times.
pub const MASK: [u8; 4] = [0x5c, 0xa3, 0x17, 0xe9];
/// Larger than every message of the measured servers; a longer frame is an error in reading the stream.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Longest head of an upgrade response.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// An error in the bytes of the server, as text for a person.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// One complete frame at the start of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
    /// The length of the frame in bytes, at which the next frame starts.
    pub wire_bytes: usize,
}

/// Returns the upgrade request, with further headers as `Name: value`. The key contains `number`, so that each
/// connection has another one.
pub fn upgrade_request(path: &str, port: u16, headers: &[String], number: u64) -> String {
    // Sixteen bytes are 22 digits of base64. The last digit has only two bits of data, so `A` is valid there.
    let key = format!("{number:021}A==");
    let further: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{further}\r\n"
    )
}

/// Returns the length of the upgrade response at the start of `bytes`, or `None` while it is not complete.
///
/// # Errors
/// If the server responds with another status than 101. The error contains the status line.
pub fn upgrade_response(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(Malformed("the head of the upgrade response is too long".into()));
        }
        return Ok(None);
    };
    if bytes.starts_with(b"HTTP/1.1 101 ") {
        return Ok(Some(end + 4));
    }
    let status = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Err(Malformed(format!("the upgrade response was {:?}", String::from_utf8_lossy(status))))
}

/// Appends one masked frame to `out`.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Returns the frame at the start of `bytes`, or `None` while it is not complete.
///
/// # Errors
/// If the bytes are not a valid frame of a server.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err(Malformed("the server masked a frame".into()));
    }
    let (head, length) = match (second, rest) {
        (126, &[a, b, ..]) => (4, usize::from(u16::from_be_bytes([a, b]))),
        (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize),
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, usize::from(short)),
    };
    if length > FRAME_BYTES_MAX {
        return Err(Malformed(format!("the server sent a frame of {length} bytes")));
    }
    let opcode = match first {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        other => {
            return Err(Malformed(format!("the server sent a frame that begins with {other:#04x}")));
        }
    };
    let Some(payload) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    Ok(Some(Frame { opcode, payload, wire_bytes: head + length }))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns the payload that a server reads from a client's frame.
    pub fn unmask(frame: &[u8]) -> Vec<u8> {
        let head = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let (mask, payload) = frame[head..].split_at(4);
        payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }

    /// Returns the frame that a server sends.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(Opcode::Text, payload, &mut frame);
        let head = frame.len() - payload.len() - MASK.len();
        frame.truncate(head);
        frame[0] = first;
        frame[1] &= 0x7f;
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn an_encoded_frame_can_be_unmasked_on_both_sides_of_each_length_limit() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut frame = Vec::new();
            encode(Opcode::Binary, &payload, &mut frame);
            assert_eq!(frame[0], 0x82);
            assert_eq!(unmask(&frame), payload, "{length} bytes");
        }
    }

    #[test]
    fn a_frame_is_decoded_only_when_it_is_complete() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'y'; length];
            let mut bytes = server_frame(0x81, &payload);
            let complete = bytes.len();
            assert_eq!(decode(&bytes[..complete - 1]), Ok(None), "{length} bytes without the last one");
            bytes.extend_from_slice(b"next");
            let frame = decode(&bytes).expect("well formed").expect("complete");
            assert_eq!((frame.opcode, frame.payload, frame.wire_bytes), (Opcode::Text, &payload[..], complete));
        }
    }

    #[test]
    fn an_invalid_frame_is_rejected() {
        assert!(decode(&[0x81, 0x80, 0, 0, 0, 0]).is_err(), "masked");
        assert!(decode(&[0x01, 1, b'a']).is_err(), "a fragment");
        assert!(decode(&[0x83, 0]).is_err(), "an undefined opcode");
        assert!(decode(&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0]).is_err(), "a terabyte");
    }

    #[test]
    fn only_status_101_accepts_an_upgrade() {
        let accepted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(upgrade_response(accepted), Ok(Some(accepted.len())));
        assert_eq!(upgrade_response(&accepted[..accepted.len() - 1]), Ok(None));
        let Err(Malformed(text)) = upgrade_response(b"HTTP/1.1 403 Forbidden\r\n\r\n") else {
            panic!("403 is not an upgrade");
        };
        assert!(text.contains("403 Forbidden"), "{text}");
    }

    #[test]
    fn further_headers_are_at_the_end_of_the_request() {
        let request = upgrade_request("/dev", 80, &["A: 1".into(), "B: 2".into()], 1);
        assert!(request.ends_with("\r\nA: 1\r\nB: 2\r\n\r\n"), "{request}");
    }

    #[test]
    fn every_connection_has_another_key_of_sixteen_bytes() {
        let first = upgrade_request("/dev", 80, &[], 1);
        let last = upgrade_request("/dev", 80, &[], u64::MAX);
        assert_ne!(first, last);
        for request in [first, last] {
            let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            assert_eq!(key.map(str::len), Some(24), "{request}");
        }
    }
}
