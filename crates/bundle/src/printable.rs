//! Texts of a bundle in messages.

use core::fmt::{self, Write};

/// Writes a text of the bundle with a dot in place of each control character, so that the sentence is one
/// line.
pub(crate) fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| f.write_char(if c.is_control() { '.' } else { c }))
}
