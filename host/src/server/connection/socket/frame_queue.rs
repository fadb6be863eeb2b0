//! The frames that wait to be written to one peer. An empty queue holds no memory.
//!
//! Small payloads are copied behind each other, so that many of them are written by one system call. Large ones are
//! shared: a broadcast stores its payload once, however many connections it is queued for. Does not know sockets.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use crate::connections::budget::Charge;
use crate::limits::{COPIED_PAYLOAD_BYTES_MAX, WRITE_BUFFER_BYTES};

/// The bit of the last frame of a message. All frames of this server are whole messages.
const FIN: u8 = 0x80;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// Slices that one system call writes at most.
pub const SLICES_MAX: usize = 16;

/// Bytes that a run of copied frames has space for at first.
const COPIED_BYTES_MIN: usize = 256;

/// What a data or ping frame is.
#[derive(Clone, Copy)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
    Ping = 9,
}

/// Bytes that are written as they are.
struct Piece {
    bytes: Bytes,
    charge: Option<Arc<Charge>>,
}

#[derive(Default)]
pub struct FrameQueue {
    /// What is written first: alternately copied frames with the header of a shared payload, and that payload.
    shared: VecDeque<Piece>,
    /// Copied frames, which are written after `shared`.
    copied: Vec<u8>,
    /// The number of bytes of both.
    bytes: usize,
    /// The part of them that no charge of a payload for many peers covers.
    own_bytes: usize,
    /// The newest pong that the peer has to read other frames for. RFC 6455, section 5.5.3, permits to leave out older
    /// ones, so that a peer that sends pings and reads nothing uses no memory.
    delayed_pong: Option<Box<[u8]>>,
}

impl FrameQueue {
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that the connection must be charged for: all but the payloads that have a charge.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// Queues a frame. `charge` is that of a payload which other connections hold too.
    pub fn push(&mut self, opcode: Opcode, payload: Bytes, charge: Option<Arc<Charge>>) {
        let mut header = [0; HEADER_BYTES_MAX];
        let header = write_header(FIN | opcode as u8, payload.len(), &mut header);
        self.bytes += header.len() + payload.len();
        self.own_bytes += header.len();
        if payload.len() <= COPIED_PAYLOAD_BYTES_MAX {
            self.own_bytes += payload.len();
            self.copy(&[header, &payload]);
        } else {
            if charge.is_none() {
                self.own_bytes += payload.len();
            }
            self.copy(&[header]);
            self.shared.push_back(Piece { bytes: std::mem::take(&mut self.copied).into(), charge: None });
            self.shared.push_back(Piece { bytes: payload, charge });
        }
    }

    /// Queues a whole control frame that the WebSocket library has encoded.
    pub fn push_control(&mut self, frame: &[u8]) {
        if frame[0] == FIN | PONG && self.bytes > WRITE_BUFFER_BYTES {
            self.delayed_pong = Some(frame.into());
            return;
        }
        if frame[0] == FIN | CLOSE {
            // Nothing may follow a close frame.
            self.delayed_pong = None;
        }
        self.bytes += frame.len();
        self.own_bytes += frame.len();
        self.copy(&[frame]);
    }

    /// Returns what is to be written next, in its order. Every byte is in the slices if there are at most `SLICES_MAX`.
    pub fn slices<'a>(&'a self, slices: &'a mut [IoSlice<'a>; SLICES_MAX]) -> &'a [IoSlice<'a>] {
        let chunks =
            self.shared.iter().map(|piece| &*piece.bytes).chain([&*self.copied]).filter(|chunk| !chunk.is_empty());
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        &slices[..count]
    }

    /// Removes the first `count` bytes, which were written.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(first) = self.shared.front_mut() {
            let written = count.min(first.bytes.len());
            if first.charge.is_none() {
                self.own_bytes -= written;
            }
            if written < first.bytes.len() {
                first.bytes.advance(written);
                return;
            }
            count -= written;
            self.shared.pop_front();
        }
        self.own_bytes -= count;
        self.shared = VecDeque::new();
        if count == self.copied.len() {
            self.copied = Vec::new();
        } else {
            // What remains is short, because a large payload is not copied.
            self.copied.drain(..count);
        }
        if self.bytes <= WRITE_BUFFER_BYTES
            && let Some(pong) = self.delayed_pong.take()
        {
            self.push_control(&pong);
        }
    }

    fn copy(&mut self, parts: &[&[u8]]) {
        if self.copied.capacity() == 0 {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            self.copied.reserve(bytes.max(COPIED_BYTES_MIN));
        }
        for part in parts {
            self.copied.extend_from_slice(part);
        }
    }
}

/// Bytes of a frame without its payload, which a server does not mask.
pub const HEADER_BYTES_MAX: usize = 10;

/// Writes the header of a frame (RFC 6455, section 5.2) into `header`, and returns the part that it takes.
fn write_header(first: u8, length: usize, header: &mut [u8; HEADER_BYTES_MAX]) -> &[u8] {
    header[0] = first;
    match length {
        0..=125 => {
            header[1] = length as u8;
            &header[..2]
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            &header[..4]
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::budget::PeerMemory;

    fn payload(length: usize) -> Bytes {
        (0..length).map(|index| (index % 251) as u8).collect::<Vec<u8>>().into()
    }

    /// Removes up to `count` bytes as a write does that the kernel accepts only a part of.
    fn write(queue: &mut FrameQueue, count: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut bytes: Vec<u8> = queue.slices(&mut slices).iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(count);
        queue.advance(bytes.len());
        bytes
    }

    fn write_all(queue: &mut FrameQueue) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !queue.is_empty() {
            bytes.extend(write(queue, usize::MAX));
        }
        bytes
    }

    /// A pong as the library encodes one.
    fn pong(data: &[u8]) -> Vec<u8> {
        [&[FIN | PONG, data.len() as u8][..], data].concat()
    }

    fn assert_holds_no_memory(queue: &FrameQueue) {
        assert!(queue.is_empty());
        assert_eq!((queue.copied.capacity(), queue.shared.capacity()), (0, 0));
        assert_eq!(queue.delayed_pong, None);
    }

    #[test]
    fn every_length_has_the_header_of_rfc_6455() {
        for (length, header) in [
            (0, &[0x81, 0][..]),
            (1, &[0x81, 1]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (COPIED_PAYLOAD_BYTES_MAX, &[0x81, 126, 0x08, 0]),
            (COPIED_PAYLOAD_BYTES_MAX + 1, &[0x81, 126, 0x08, 1]),
            (0xffff, &[0x81, 126, 0xff, 0xff]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut queue = FrameQueue::default();
            queue.push(Opcode::Text, payload(length), None);
            assert_eq!(queue.bytes(), header.len() + length);
            assert_eq!(write_all(&mut queue), [header, &payload(length)].concat(), "{length}");
            assert_holds_no_memory(&queue);
        }
        let mut queue = FrameQueue::default();
        queue.push(Opcode::Binary, payload(1), None);
        queue.push(Opcode::Ping, payload(0), None);
        assert_eq!(write_all(&mut queue), [0x82, 1, 0, 0x89, 0]);
    }

    #[test]
    fn a_write_that_ends_anywhere_is_continued_at_the_next_byte() {
        let large = COPIED_PAYLOAD_BYTES_MAX + 1;
        let lengths = [3, large, 0, 5, large, large, 1];
        let queue = || {
            let mut queue = FrameQueue::default();
            for length in lengths {
                queue.push(Opcode::Text, payload(length), None);
            }
            queue
        };
        let expected = write_all(&mut queue());
        assert_eq!(queue().bytes(), expected.len());
        for split in 0..=expected.len() {
            let mut queue = queue();
            let mut written = write(&mut queue, split);
            // A frame that is queued between two writes comes after all others, also if one is half written.
            queue.push_control(&pong(b"data"));
            assert_eq!(queue.bytes(), expected.len() - split + 6);
            written.extend(write_all(&mut queue));
            assert_eq!(written, [&*expected, &pong(b"data")].concat(), "after {split}");
            assert_holds_no_memory(&queue);
        }
        let mut byte_by_byte = Vec::new();
        let mut queue = queue();
        while !queue.is_empty() {
            byte_by_byte.extend(write(&mut queue, 1));
        }
        assert_eq!(byte_by_byte, expected);
    }

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_copied() {
        let mut queue = FrameQueue::default();
        let (large, small) = (payload(COPIED_PAYLOAD_BYTES_MAX + 1), payload(COPIED_PAYLOAD_BYTES_MAX));
        queue.push(Opcode::Text, large.clone(), None);
        queue.push(Opcode::Text, small.clone(), None);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let slices = queue.slices(&mut slices);
        assert_eq!(slices.len(), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert!(small.is_unique(), "the queue holds no payload that it has copied");
    }

    #[test]
    fn the_connection_is_charged_for_all_but_the_payloads_that_have_a_charge() {
        let memory = PeerMemory::new(usize::MAX);
        let large = COPIED_PAYLOAD_BYTES_MAX + 1;
        let account = memory.account();
        let charge = || {
            let mut charge = account.charge();
            charge.set(large);
            Some(Arc::new(charge))
        };
        let mut queue = FrameQueue::default();
        queue.push(Opcode::Text, payload(large), charge());
        queue.push(Opcode::Text, payload(1), charge());
        queue.push(Opcode::Text, payload(large), None);
        queue.push_control(&pong(b"x"));
        let (header, headers) = (4, 4 + 2 + 4 + 2);
        assert_eq!(queue.own_bytes(), headers + 1 + large + 1);
        assert!(account.bytes() > 0, "the queue holds the charge of the payload that it shares");
        write(&mut queue, header + 1);
        assert_eq!(queue.own_bytes(), headers - header + 1 + large + 1);
        assert!(account.bytes() > 0);
        write(&mut queue, large - 1);
        assert_eq!((queue.own_bytes(), account.bytes()), (headers - header + 1 + large + 1, 0));
        write_all(&mut queue);
        assert_eq!(queue.own_bytes(), 0);
        assert_holds_no_memory(&queue);
    }

    #[test]
    fn small_frames_are_one_slice_and_more_slices_than_one_write_takes_are_written_by_several() {
        let mut queue = FrameQueue::default();
        for _ in 0..100 {
            queue.push(Opcode::Text, payload(10), None);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        assert_eq!(queue.slices(&mut slices).len(), 1);
        let mut queue = FrameQueue::default();
        for _ in 0..100 {
            queue.push(Opcode::Text, payload(COPIED_PAYLOAD_BYTES_MAX + 1), None);
        }
        let first = write(&mut queue, usize::MAX);
        assert_eq!(first.len(), SLICES_MAX / 2 * (COPIED_PAYLOAD_BYTES_MAX + 5));
        let rest = write_all(&mut queue);
        assert_eq!(rest.len(), (100 - SLICES_MAX / 2) * (COPIED_PAYLOAD_BYTES_MAX + 5));
        assert_holds_no_memory(&queue);
    }

    #[test]
    fn of_the_pongs_for_a_peer_that_does_not_read_only_the_newest_is_kept() {
        let mut queue = FrameQueue::default();
        queue.push(Opcode::Text, payload(WRITE_BUFFER_BYTES), None);
        let blocked = queue.bytes();
        for index in 0..100 {
            queue.push_control(&pong(&[index]));
        }
        assert_eq!(queue.bytes(), blocked);
        write(&mut queue, 3);
        queue.push(Opcode::Text, payload(2), None);
        let written = write_all(&mut queue);
        assert!(written.ends_with(&[&[0x81, 2, 0, 1][..], &pong(&[99])].concat()));
        assert_holds_no_memory(&queue);
        // Without a frame before it, a pong is not delayed.
        queue.push_control(&pong(b"a"));
        queue.push_control(&pong(b"b"));
        assert_eq!(write_all(&mut queue), [pong(b"a"), pong(b"b")].concat());
    }

    #[test]
    fn no_pong_follows_a_close_frame() {
        let mut queue = FrameQueue::default();
        queue.push(Opcode::Text, payload(WRITE_BUFFER_BYTES), None);
        queue.push_control(&pong(b"late"));
        let close = [FIN | CLOSE, 2, 0x03, 0xe8];
        queue.push_control(&close);
        assert!(write_all(&mut queue).ends_with(&close));
        assert_holds_no_memory(&queue);
    }
}
