//! Writing flattened device trees (*Devicetree Specification* v0.4, chapter 5).
//!
//! Names are written as they are: a tree that is amended may have longer ones than the specification allows. None of them
//! holds a zero byte, for they come from trees that have been read, or from this crate.

use alloc::vec::Vec;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;
/// The header, and an empty memory reservation block.
const HEADER: usize = 40;
const RESERVATIONS: usize = 16;

/// A tree that is being written: every node that is begun must be ended, and has its properties before its children.
#[derive(Debug, Default)]
pub(crate) struct TreeWriter {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl TreeWriter {
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    pub(crate) fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.pad();
    }

    pub(crate) fn end(&mut self) {
        self.word(END_NODE);
    }

    pub(crate) fn property(&mut self, name: &str, value: &[u8]) {
        let with_end = |bytes: &[u8]| bytes.strip_suffix(&[0]) == Some(name.as_bytes());
        let known = self.strings.windows(name.len() + 1).position(with_end);
        let at = known.unwrap_or(self.strings.len());
        if known.is_none() {
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
        }
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(at as u32);
        self.structure.extend_from_slice(value);
        self.pad();
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        let mut value = Vec::from(text.as_bytes());
        value.push(0);
        self.property(name, &value);
    }

    pub(crate) fn cell(&mut self, name: &str, cell: u32) {
        self.property(name, &cell.to_be_bytes());
    }

    pub(crate) fn numbers(&mut self, name: &str, numbers: &[u64]) {
        let value: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        self.property(name, &value);
    }

    /// The tree.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.word(END);
        let structure = HEADER + RESERVATIONS;
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let mut tree = Vec::with_capacity(total);
        let sizes = [self.strings.len(), self.structure.len()];
        // Magic, sizes and places, version 17 and the oldest that can read it, the boot core, sizes.
        let header = [0xd00d_feed, total, structure, strings, HEADER, 17, 16, 0, sizes[0], sizes[1]];
        tree.extend(header.iter().flat_map(|word| (*word as u32).to_be_bytes()));
        tree.resize(structure, 0);
        tree.append(&mut self.structure);
        tree.append(&mut self.strings);
        tree
    }
}
