//! Lines of a process on their way to the console.

use crate::console;
use alloc::vec::Vec;
use fallible::TryVec as _;

/// The longest line that is kept until it is complete.
const LINE: usize = 1024;

/// What a process has said of its present line.
#[derive(Debug, Default)]
pub struct Output {
    line: Vec<u8>,
}

impl Output {
    /// Puts whole lines on the console, and keeps the rest.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.try_extend(piece).is_err() {
                // No memory to keep it: the line is cut here.
                self.flush();
                console::print_bytes(piece);
                continue;
            }
            if piece.ends_with(b"\n") || self.line.len() >= LINE {
                self.flush();
            }
        }
    }

    /// Puts the rest on the console.
    pub fn flush(&mut self) {
        if !self.line.is_empty() {
            console::print_bytes(&self.line);
            self.line.clear();
        }
    }
}
