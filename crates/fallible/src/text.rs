//! Formatted text that grows only if there is memory.

use crate::{OutOfMemory, TryVec};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Text, as bytes. `write!` to it fails when memory is exhausted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Text {
    /// Returns an empty text.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds formatted text.
    ///
    /// # Errors
    /// There is no memory for all of it; a part may have been added.
    pub fn try_format(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), OutOfMemory> {
        self.write_fmt(arguments).map_err(|_| OutOfMemory)
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn try_extend(&mut self, bytes: &[u8]) -> Result<(), OutOfMemory> {
        self.0.try_extend(bytes)
    }

    /// Returns the bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes of the text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_extend(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
