//! Follows the frames in the bytes of a peer, to find the moments between two messages. Does not check anything: the
//! WebSocket library does.

/// The longest header: two bytes, a length of eight and a mask of four.
const HEADER_BYTES_MAX: usize = 14;

#[derive(Default)]
pub struct FrameScanner {
    /// The part of a header that has arrived.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// Bytes of the payload of the current frame that have not arrived yet.
    payload_bytes_left: u64,
    /// Whether a message of several frames has begun and not ended.
    in_message: bool,
    largest_payload_bytes: u64,
}

impl FrameScanner {
    /// Reads the next bytes of the peer.
    pub fn scan(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = bytes.len().min(usize::try_from(self.payload_bytes_left).unwrap_or(usize::MAX));
            self.payload_bytes_left -= skipped as u64;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let missing = header_length(&self.header[..self.header_bytes]) - self.header_bytes;
            let count = missing.min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + count].copy_from_slice(&bytes[..count]);
            self.header_bytes += count;
            bytes = &bytes[count..];
            if self.header_bytes == header_length(&self.header[..self.header_bytes]) {
                self.begin_payload();
            }
        }
    }

    /// Whether the bytes end where a message ends, so that nothing of the peer is incomplete.
    pub fn is_between_messages(&self) -> bool {
        self.header_bytes == 0 && self.payload_bytes_left == 0 && !self.in_message
    }

    /// Returns the length of the largest payload so far.
    pub fn largest_payload_bytes(&self) -> u64 {
        self.largest_payload_bytes
    }

    fn begin_payload(&mut self) {
        let header = &self.header;
        self.payload_bytes_left = match header[1] & 0x7f {
            126 => u16::from_be_bytes([header[2], header[3]]).into(),
            127 => u64::from_be_bytes(header[2..10].try_into().expect("the slice has eight bytes")),
            length => length.into(),
        };
        self.largest_payload_bytes = self.largest_payload_bytes.max(self.payload_bytes_left);
        let (is_last, opcode) = (header[0] & 0x80 != 0, header[0] & 0x0f);
        // Control frames, from 8 on, may arrive between the frames of a message.
        if opcode < 8 {
            self.in_message = !is_last;
        }
        self.header_bytes = 0;
    }
}

/// Returns the length of the header that begins with `header`, or that of its first part if that is all that is known.
fn header_length(header: &[u8]) -> usize {
    let Some(second) = header.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(0x80 | length as u8),
            126..=0xffff => bytes.extend([&[0x80 | 126][..], &(length as u16).to_be_bytes()].concat()),
            _ => bytes.extend([&[0x80 | 127][..], &(length as u64).to_be_bytes()].concat()),
        }
        bytes.extend([0xff; 4]);
        // Bytes that look like headers.
        bytes.extend([0x81, 0xfe].into_iter().cycle().take(length));
        bytes
    }

    /// Checks that exactly the end of the last frame is between messages, however the bytes arrive.
    fn assert_is_one_message(frames: &[Vec<u8>]) {
        let bytes = frames.concat();
        let mut byte_by_byte = FrameScanner::default();
        for (index, byte) in bytes.iter().enumerate() {
            byte_by_byte.scan(&[*byte]);
            assert_eq!(byte_by_byte.is_between_messages(), index + 1 == bytes.len(), "after {} bytes", index + 1);
        }
        for split in 0..bytes.len().min(300) {
            let mut scanner = FrameScanner::default();
            scanner.scan(&bytes[..split]);
            assert_eq!(scanner.is_between_messages(), split == 0, "after {split} bytes");
            scanner.scan(&bytes[split..]);
            assert!(scanner.is_between_messages(), "the rest after {split} bytes");
        }
    }

    #[test]
    fn a_message_ends_with_its_last_byte() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000] {
            assert_is_one_message(&[frame(0x81, length)]);
            assert_is_one_message(&[frame(0x02, length), frame(0x80, length)]);
        }
        assert_is_one_message(&[frame(0x01, 3), frame(0x89, 5), frame(0x00, 0), frame(0x8a, 0), frame(0x80, 126)]);
    }

    #[test]
    fn several_messages_may_arrive_at_once() {
        let mut scanner = FrameScanner::default();
        scanner.scan(&[frame(0x81, 3), frame(0x89, 0), frame(0x82, 70_000), frame(0x81, 0)].concat());
        assert!(scanner.is_between_messages());
        assert_eq!(scanner.largest_payload_bytes(), 70_000);
        scanner.scan(&[frame(0x88, 2), frame(0x01, 1)].concat());
        assert!(!scanner.is_between_messages());
    }
}
