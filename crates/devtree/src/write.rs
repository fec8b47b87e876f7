//! Writing a tree.

use crate::{BEGIN_NODE, END, END_NODE, HEADER_LENGTH, MAGIC, PROP, SUPPORTED_VERSION};
use alloc::vec::Vec;

/// The end of an empty memory reservation block.
const RESERVATIONS: usize = 16;

/// Makes a device tree, from the root's [`begin`](Self::begin) to its [`end`](Self::end).
///
/// Nothing fails before [`finish`](Self::finish), which then has no tree.
#[derive(Debug, Default)]
pub struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    open: usize,
    bad: bool,
}

impl Writer {
    /// Returns a writer of an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    #[inline(never)]
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    /// Adds bytes, and zeros up to the next word.
    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    /// Adds text and a zero byte.
    fn zero_ended(&mut self, text: &str) {
        self.bad |= text.as_bytes().contains(&0);
        self.structure.extend_from_slice(text.as_bytes());
        self.bytes(&[0]);
    }

    /// Opens a node. The root has an empty name.
    #[inline(never)]
    pub fn begin(&mut self, name: &str) {
        // There is one root.
        self.bad |= self.open == 0 && !self.structure.is_empty();
        self.open += 1;
        self.word(BEGIN_NODE);
        self.zero_ended(name);
    }

    /// Opens a node with a unit address: `name@unit`, the unit in hexadecimal (DT spec, 2.2.1).
    #[inline(never)]
    pub fn begin_at(&mut self, name: &str, unit: u64) {
        // 31 characters are the longest name that a node can have, and a number has 16.
        let (mut full, mut length) = ([0; 48], 0);
        let digits = (64 - (unit | 1).leading_zeros()).div_ceil(4);
        let unit = (0..digits).rev().map(|digit| b"0123456789abcdef"[(unit >> (4 * digit)) as usize & 15]);
        for (slot, byte) in full.iter_mut().zip(name.bytes().chain([b'@']).chain(unit)) {
            *slot = byte;
            length += 1;
        }
        self.begin(core::str::from_utf8(&full[..length]).unwrap_or_default());
    }

    /// Closes the node that was opened last.
    #[inline(never)]
    pub fn end(&mut self) {
        self.bad |= self.open == 0;
        self.open = self.open.saturating_sub(1);
        self.word(END_NODE);
    }

    /// A property. A node's properties come before its children.
    #[inline(never)]
    pub fn property(&mut self, name: &str, value: &[u8]) {
        self.head(name, value.len());
        self.bytes(value);
    }

    fn head(&mut self, name: &str, length: usize) {
        let name = self.string(name);
        self.word(PROP);
        self.word(length as u32);
        self.word(name);
    }

    /// A property that is a string.
    #[inline(never)]
    pub fn text(&mut self, name: &str, text: &str) {
        self.head(name, text.len() + 1);
        self.zero_ended(text);
    }

    /// A property that is a list of cells.
    #[inline(never)]
    pub fn cells(&mut self, name: &str, cells: &[u32]) {
        self.head(name, cells.len() * 4);
        for cell in cells {
            self.word(*cell);
        }
    }

    /// A property that is a list of numbers of two cells.
    #[inline(never)]
    pub fn long(&mut self, name: &str, numbers: &[u64]) {
        self.head(name, numbers.len() * 8);
        for number in numbers {
            self.word((number >> 32) as u32);
            self.word(*number as u32);
        }
    }

    /// Where a name is in the strings block.
    fn string(&mut self, name: &str) -> u32 {
        self.bad |= name.as_bytes().contains(&0);
        let mut at = 0;
        for known in self.strings.split(|&byte| byte == 0) {
            if known == name.as_bytes() && at < self.strings.len() {
                return at as u32;
            }
            at += known.len() + 1;
        }
        let at = self.strings.len();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at as u32
    }

    /// The tree; `None` if a node is open, there is not one root, or a name or text has a zero byte in it.
    #[inline(never)]
    pub fn finish(mut self) -> Option<Vec<u8>> {
        if self.bad || self.open > 0 || self.structure.is_empty() {
            return None;
        }
        self.word(END);
        let structure = HEADER_LENGTH + RESERVATIONS;
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            HEADER_LENGTH as u32,
            SUPPORTED_VERSION,
            // The oldest version that this one is compatible with.
            16,
            // The boot core's id, which nobody asks for.
            0,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ];
        let mut blob = Vec::with_capacity(total);
        for word in header {
            blob.extend_from_slice(&word.to_be_bytes());
        }
        blob.resize(structure, 0);
        blob.extend_from_slice(&self.structure);
        blob.extend_from_slice(&self.strings);
        Some(blob)
    }
}
