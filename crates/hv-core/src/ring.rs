//! What is to go out on the console and has not yet: a ring in memory, with a share for each who writes.

use bundle::manifest::MAX_VMS;

/// Bytes of the ring: with as many VMs as there may be, each can print some fifty lines before the UART has taken one.
pub(crate) const CAPACITY: usize = 1 << 18;
/// The most that one writer may have in it.
const LARGEST_SHARE: usize = 1 << 15;
/// The hypervisor and each VM.
const WRITERS: usize = MAX_VMS as usize + 1;
/// Writer and length of a piece, in front of its text.
const HEAD: usize = 4;

/// A ring of pieces of text. No writer can have more than its share in it, and all shares fit, so that no writer takes another one's.
pub(crate) struct Ring {
    bytes: [u8; CAPACITY],
    /// Where the next piece goes, and where the oldest one begins, or goes on: both only grow.
    end: usize,
    start: usize,
    /// How much is left of the oldest piece, and whose that is.
    left: usize,
    writer: usize,
    /// How many bytes there are of each writer, and how many each has lost since it was last told.
    queued: [u16; WRITERS],
    lost: [u32; WRITERS],
    share: usize,
}

impl Ring {
    #[expect(clippy::large_stack_arrays, reason = "it is the value of a static")]
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            end: 0,
            start: 0,
            left: 0,
            writer: 0,
            queued: [0; WRITERS],
            lost: [0; WRITERS],
            share: 0,
        }
    }

    /// Divides the ring among so many writers.
    pub(crate) const fn set_writers(&mut self, writers: usize) {
        let share = CAPACITY / writers;
        self.share = if share < LARGEST_SHARE { share } else { LARGEST_SHARE };
    }

    /// Whether there is nothing in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether a writer has room for a piece of that length.
    pub(crate) fn has_room(&self, writer: usize, length: usize) -> bool {
        self.queued.get(writer).is_some_and(|queued| usize::from(*queued) + HEAD + length <= self.share)
    }

    /// Adds a piece of text, all of it; if there is no room in the writer's share, none of it, and it is counted as lost.
    pub(crate) fn push(&mut self, writer: usize, text: &[u8]) -> bool {
        let Some(queued) = self.queued.get_mut(writer) else { return false };
        if text.is_empty() {
            return true;
        }
        let all = HEAD + text.len();
        if usize::from(*queued) + all > self.share {
            let lost = &mut self.lost[writer];
            *lost = lost.saturating_add(text.len() as u32);
            return false;
        }
        *queued += all as u16;
        let [a, b] = (writer as u16).to_le_bytes();
        let [c, d] = (text.len() as u16).to_le_bytes();
        self.write(&[a, b, c, d]);
        self.write(text);
        true
    }

    fn write(&mut self, bytes: &[u8]) {
        let at = self.end % CAPACITY;
        let first = bytes.len().min(CAPACITY - at);
        self.bytes[at..at + first].copy_from_slice(&bytes[..first]);
        self.bytes[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.end += bytes.len();
    }

    fn byte(&self, offset: usize) -> u8 {
        self.bytes[(self.start + offset) % CAPACITY]
    }

    /// Copies what is to go out next; returns how many bytes. It stays until [`Self::consume`].
    pub(crate) fn peek(&mut self, to: &mut [u8]) -> usize {
        if self.left == 0 {
            if self.is_empty() {
                return 0;
            }
            self.writer = usize::from(u16::from_le_bytes([self.byte(0), self.byte(1)]));
            self.left = usize::from(u16::from_le_bytes([self.byte(2), self.byte(3)]));
            self.start += HEAD;
        }
        let count = self.left.min(to.len());
        for (offset, byte) in to[..count].iter_mut().enumerate() {
            *byte = self.byte(offset);
        }
        count
    }

    /// Removes the first bytes of what [`Self::peek`] has shown.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.left);
        self.start += count;
        self.left -= count;
        let ended = if self.left == 0 { HEAD } else { 0 };
        if let Some(queued) = self.queued.get_mut(self.writer) {
            *queued = queued.saturating_sub((count + ended) as u16);
        }
    }

    /// How many bytes a writer has lost since the last time it was asked.
    pub(crate) fn take_lost(&mut self, writer: usize) -> u32 {
        self.lost.get_mut(writer).map_or(0, core::mem::take)
    }

    /// Counts what a writer could not write, or not be told.
    pub(crate) fn add_lost(&mut self, writer: usize, bytes: u32) {
        if let Some(lost) = self.lost.get_mut(writer) {
            *lost = lost.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{boxed::Box, vec::Vec};

    fn ring(writers: usize) -> Box<Ring> {
        let mut ring = Box::new(Ring::new());
        ring.set_writers(writers);
        ring
    }

    fn drain(ring: &mut Ring, most: usize) -> Vec<u8> {
        let (mut out, mut part) = (Vec::new(), [0; 7]);
        while out.len() < most {
            let count = ring.peek(&mut part);
            if count == 0 {
                break;
            }
            // Not always all of it goes.
            let gone = count.div_ceil(2);
            out.extend_from_slice(&part[..gone]);
            ring.consume(gone);
        }
        out
    }

    #[test]
    fn pieces_come_out_whole_and_in_order_however_often_the_ring_goes_round() {
        let mut ring = ring(2);
        let (mut wanted, mut got) = (Vec::new(), Vec::new());
        for n in 0..4000_usize {
            let text: Vec<u8> = (0..n % 300).map(|i| (n + i) as u8).collect();
            assert!(ring.push(n % 2, &text), "piece {n}");
            wanted.extend_from_slice(&text);
            got.extend_from_slice(&drain(&mut ring, 200));
            if n % 50 == 0 {
                got.extend_from_slice(&drain(&mut ring, usize::MAX));
            }
        }
        got.extend_from_slice(&drain(&mut ring, usize::MAX));
        assert!(wanted == got);
        assert_eq!((ring.queued[0], ring.queued[1], ring.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_flood_takes_no_room_from_others_and_is_counted() {
        for writers in [2, 4, WRITERS] {
            let mut ring = ring(writers);
            let line = [b'x'; 280];
            let mut lost = 0;
            for _ in 0..1000 {
                lost += if ring.push(1, &line) { 0 } else { 280 };
            }
            assert!(lost > 0);
            for other in (0..writers).filter(|other| *other != 1) {
                assert!(ring.push(other, &line), "writer {other} of {writers} has no room");
            }
            assert_eq!((ring.take_lost(1), ring.take_lost(1), ring.take_lost(0)), (lost, 0, 0));
            // All that is there comes out, and then there is room again.
            let kept = drain(&mut ring, usize::MAX).len();
            assert_eq!(kept, 280_000 - lost as usize + 280 * (writers - 1));
            assert!(ring.push(1, &line));
        }
    }

    #[test]
    fn a_writer_that_is_none_is_refused() {
        let mut ring = ring(2);
        assert!(!ring.push(WRITERS, b"x"));
        assert!(ring.is_empty() && ring.take_lost(WRITERS) == 0);
    }
}
