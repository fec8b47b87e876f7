//! The last lines of the kernel's log, with level and time, in a fixed piece of memory: new ones take the
//! place of the oldest; and how programs get to see them.

use core::fmt::Write as _;

/// The longest text of a record; what is longer is cut.
pub const LONGEST: usize = 256;
/// A record as programs read it: four bytes for each of the text, and what is around it.
pub type Line = heapless::Vec<u8, { 4 * LONGEST + 64 }>;
/// Time, length and level.
const HEADER: usize = 12;

/// Position of a reader: before a record, or before the next one to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// How many records there were before, since the beginning.
    pub sequence: u64,
    /// How many bytes.
    at: u64,
}

/// A line, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    text: [u8; LONGEST],
    length: usize,
    /// Time that the writer gave.
    pub time: u64,
    /// How urgent, as syslog has it: 3 error, 4 warning, 6 information, 7 debugging; from 8 on, a program's.
    pub level: u8,
    /// Its number.
    pub sequence: u64,
}

impl Record {
    /// Returns the text of the record.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Formats the record for `/dev/kmsg`, at so many microseconds since boot.
    pub fn for_kmsg(&self, us: u64) -> Line {
        let mut line = Line::new();
        // It is long enough for every record.
        let _ = write!(line, "{},{},{us},-;", self.level, self.sequence);
        for &byte in self.text() {
            let _ = if byte == b'\\' || !(b' '..0x7f).contains(&byte) {
                write!(line, "\\x{byte:02x}")
            } else {
                line.push(byte).map_err(|_| core::fmt::Error)
            };
        }
        let _ = line.push(b'\n');
        line
    }

    /// Formats the record for `syslog(2)`, at so many microseconds since boot.
    pub fn for_syslog(&self, us: u64) -> Line {
        let mut line = Line::new();
        let _ = write!(line, "<{}>[{:5}.{:06}] ", self.level, us / 1_000_000, us % 1_000_000);
        let _ = line.extend_from_slice(self.text());
        let _ = line.push(b'\n');
        line
    }
}

/// The record that a reader wanted is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// The log: `BYTES` of it, a power of two.
#[derive(Debug)]
pub struct LogRing<const BYTES: usize> {
    bytes: [u8; BYTES],
    first: Position,
    end: Position,
}

impl<const BYTES: usize> Default for LogRing<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl Position {
    /// In front of the first record of all.
    pub const START: Self = Self { sequence: 0, at: 0 };
}

impl<const BYTES: usize> LogRing<BYTES> {
    /// Without records. All of it is zero, so that a static one takes no room in an image.
    pub const fn new() -> Self {
        const { assert!(BYTES.is_power_of_two() && BYTES >= HEADER + LONGEST) };
        Self { bytes: [0; BYTES], first: Position::START, end: Position::START }
    }

    /// The oldest record that is there.
    pub const fn first(&self) -> Position {
        self.first
    }

    /// Behind the last record.
    pub const fn end(&self) -> Position {
        self.end
    }

    /// A position, or that of the oldest record if this is later.
    pub fn not_before(&self, position: Position) -> Position {
        if position.at < self.first.at { self.first } else { position }
    }

    #[inline(never)]
    fn copy_in(&mut self, at: u64, from: &[u8]) {
        for (at, byte) in (at..).zip(from) {
            self.bytes[at as usize & (BYTES - 1)] = *byte;
        }
    }

    #[inline(never)]
    fn copy_out(&self, at: u64, to: &mut [u8]) {
        for (at, byte) in (at..).zip(to) {
            *byte = self.bytes[at as usize & (BYTES - 1)];
        }
    }

    /// Adds a record.
    pub fn push(&mut self, level: u8, time: u64, text: &[u8]) {
        let text = &text[..text.len().min(LONGEST)];
        let end = self.end.at + (HEADER + text.len()) as u64;
        while end - self.first.at > BYTES as u64 {
            let (_, _, length) = self.header(self.first);
            self.first = Self::behind(self.first, length);
        }
        let length = (text.len() as u32) << 8 | u32::from(level);
        self.copy_in(self.end.at, &time.to_le_bytes());
        self.copy_in(self.end.at + 8, &length.to_le_bytes());
        self.copy_in(self.end.at + HEADER as u64, text);
        self.end = Self::behind(self.end, text.len());
    }

    fn behind(position: Position, length: usize) -> Position {
        Position { sequence: position.sequence + 1, at: position.at + (HEADER + length) as u64 }
    }

    /// Time, level and length of a record.
    fn header(&self, position: Position) -> (u64, u8, usize) {
        let (mut time, mut word) = ([0; 8], [0; 4]);
        self.copy_out(position.at, &mut time);
        self.copy_out(position.at + 8, &mut word);
        let word = u32::from_le_bytes(word);
        (u64::from_le_bytes(time), word as u8, (word >> 8) as usize)
    }

    /// The record at a reader's position, which moves behind it. `None` if there is none yet.
    ///
    /// # Errors
    /// [`Overrun`]; the position is that of the oldest record then.
    pub fn read(&self, position: &mut Position) -> Result<Option<Record>, Overrun> {
        if position.at < self.first.at {
            *position = self.first;
            return Err(Overrun);
        }
        if position.at >= self.end.at {
            return Ok(None);
        }
        let (time, level, length) = self.header(*position);
        let mut record = Record { text: [0; LONGEST], length, time, level, sequence: position.sequence };
        self.copy_out(position.at + HEADER as u64, &mut record.text[..length]);
        *position = Self::behind(*position, length);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{boxed::Box, collections::VecDeque, vec::Vec};

    #[test]
    fn records_come_in_order() {
        let mut ring = Box::new(LogRing::<1024>::new());
        let mut reader = ring.first();
        assert_eq!(ring.read(&mut reader), Ok(None));
        ring.push(6, 10, b"one");
        ring.push(3, 20, b"");
        let one = ring.read(&mut reader).unwrap().unwrap();
        assert_eq!((one.text(), one.level, one.time, one.sequence), (&b"one"[..], 6, 10, 0));
        let two = ring.read(&mut reader).unwrap().unwrap();
        assert_eq!((two.text(), two.level, two.time, two.sequence), (&b""[..], 3, 20, 1));
        assert_eq!(ring.read(&mut reader), Ok(None));
        assert_eq!(reader, ring.end());
    }

    #[test]
    fn programs_see_what_linux_shows_them() {
        let mut ring = Box::new(LogRing::<1024>::new());
        ring.push(6, 0, b"a\\b\x1b\xc3\xa9");
        ring.push(12, 0, b"text");
        let mut reader = ring.first();
        let record = ring.read(&mut reader).unwrap().unwrap();
        assert_eq!(record.for_kmsg(1_234_567), b"6,0,1234567,-;a\\x5cb\\x1b\\xc3\\xa9\n");
        let record = ring.read(&mut reader).unwrap().unwrap();
        assert_eq!(record.for_kmsg(9), b"12,1,9,-;text\n");
        assert_eq!(record.for_syslog(61_000_009), b"<12>[   61.000009] text\n");
    }

    #[test]
    fn truncates_long_records() {
        let mut ring = Box::new(LogRing::<512>::new());
        ring.push(6, 0, &[b'x'; 1000]);
        let record = ring.read(&mut ring.first()).unwrap().unwrap();
        assert_eq!(record.text(), [b'x'; LONGEST]);
    }

    proptest! {
        /// The ring holds the last records, as many as fit, and a reader sees each once or learns that it
        /// missed some.
        #[test]
        fn the_last_ones_stay(texts in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..60)) {
            let mut ring = Box::new(LogRing::<1024>::new());
            let mut model: VecDeque<(u64, u8, Vec<u8>)> = VecDeque::new();
            let mut reader = ring.first();
            let mut next = 0;
            for (number, (level, mut text, reads)) in (0..).zip(texts) {
                ring.push(level, number * 3, &text);
                text.truncate(LONGEST);
                model.push_back((number, level, text));
                while model.iter().map(|(_, _, text)| text.len() + HEADER).sum::<usize>() > 1024 {
                    model.pop_front();
                }
                let mut position = ring.first();
                for (number, level, text) in &model {
                    let record = ring.read(&mut position).unwrap().unwrap();
                    prop_assert_eq!((record.sequence, record.time, record.level), (*number, number * 3, *level));
                    prop_assert_eq!(record.text(), &text[..]);
                }
                prop_assert_eq!(ring.read(&mut position), Ok(None));
                if reads {
                    let first = model.front().map_or(0, |record| record.0);
                    match ring.read(&mut reader) {
                        Ok(Some(record)) => {
                            prop_assert_eq!(record.sequence, next);
                            next += 1;
                        }
                        Ok(None) => prop_assert_eq!(next, number + 1),
                        Err(Overrun) => {
                            prop_assert!(next < first);
                            next = first;
                        }
                    }
                }
            }
        }
    }
}
