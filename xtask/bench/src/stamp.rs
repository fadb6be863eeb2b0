//! Stamps: the time at which a message was sent, as a part of the message.
//!
//! With them the load generator can compute the latency of a message that any peer receives, and stores nothing about
//! messages that it has sent.

use std::ops::Range;

use crate::wire::{self, MASK, Opcode};

/// The first character of a stamp, which sixteen hexadecimal digits follow. A stamp is at the start of a message's
/// content.
const STAMP_MARK: u8 = b'@';
const STAMP_BYTES: usize = 17;

/// A text frame that is built and masked once. The copies that are sent differ only in their stamp.
pub struct Template {
    frame: Vec<u8>,
    stamp: Range<usize>,
    /// The position of the stamp in the payload, which selects the byte of the mask.
    mask_from: usize,
}

impl Template {
    /// Creates a frame of `before`, `content_bytes` bytes of content that begins with the stamp, and `after`.
    pub fn new(before: &str, content_bytes: usize, after: &str) -> Self {
        let padding = "x".repeat(content_bytes.saturating_sub(STAMP_BYTES));
        let text = format!("{before}{}{padding}{after}", "@".repeat(STAMP_BYTES));
        let mut frame = Vec::new();
        wire::encode(Opcode::Text, text.as_bytes(), &mut frame);
        let stamp = frame.len() - text.len() + before.len();
        Self { frame, stamp: stamp..stamp + STAMP_BYTES, mask_from: before.len() }
    }

    /// Appends the frame with this stamp to `out`.
    pub fn write(&self, stamp: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let place = &mut out[start + self.stamp.start..start + self.stamp.end];
        let digits = (0..16).rev().map(|digit| b"0123456789abcdef"[(stamp >> (digit * 4)) as usize & 15]);
        let text = std::iter::once(STAMP_MARK).chain(digits);
        for (at, (byte, letter)) in place.iter_mut().zip(text).enumerate() {
            *byte = letter ^ MASK[(self.mask_from + at) % MASK.len()];
        }
    }
}

/// Returns the stamp at the start of the content of a received message.
pub fn read(content: &[u8]) -> Option<u64> {
    let (&STAMP_MARK, digits) = content.get(..STAMP_BYTES)?.split_first()? else {
        return None;
    };
    digits.iter().try_fold(0, |stamp, &letter| {
        let digit = (letter as char).to_digit(16)?;
        Some(stamp << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::unmask;

    #[test]
    fn a_stamp_can_be_read_back_from_any_position() {
        for before in ["", "a", "ab", "abc", r#"{"action":"echo","content":""#] {
            let template = Template::new(before, 32, "\"}");
            for stamp in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
                let mut frame = vec![b'?'; 3];
                template.write(stamp, &mut frame);
                let text = unmask(&frame[3..]);
                assert_eq!(text.len(), before.len() + 32 + 2);
                assert_eq!(read(&text[before.len()..]), Some(stamp));
            }
        }
    }

    #[test]
    fn an_incomplete_stamp_is_not_read() {
        assert_eq!(read(b"{\"message\": \"Internal server error\"}"), None);
        assert_eq!(read(b"@0123456789abcde"), None);
        assert_eq!(read(b"@0123456789abcdeg"), None);
        assert_eq!(read(b"@000000000000000f and more"), Some(15));
    }
}
