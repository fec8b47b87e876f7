//! Names of tasks, for messages: in a fixed piece of memory.

use core::fmt::{self, Write};

/// The longest name; what is longer is cut.
const LONGEST: usize = 31;

/// Name of a task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    text: [u8; LONGEST],
    length: u8,
}

impl Name {
    /// A formatted name, cut at the end of a character where it is too long.
    pub fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut name = Self { text: [0; LONGEST], length: 0 };
        // An error says that it has been cut.
        let _ = name.write_fmt(arguments);
        name
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text[..self.length.into()]).unwrap_or_default()
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.text[self.length.into()..];
        let count = text.floor_char_boundary(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count as u8;
        if count == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_at_characters() {
        assert_eq!(Name::new(format_args!("{}/{}", "vm", 7)).as_str(), "vm/7");
        let long = Name::new(format_args!("{}{}", "x".repeat(30), "\u{e9}y"));
        assert_eq!(long.as_str(), "x".repeat(30));
        assert_eq!(Name::new(format_args!("{}", "x".repeat(40))).as_str().len(), LONGEST);
    }
}
