//! Names of functions, for backtraces.
//!
//! The image tool fills the section `.symbols` after linking: little-endian words magic and count, then
//! `count` pairs (offset of the function from the image's start, offset of its name from the table's start)
//! sorted by address, then the NUL-terminated names. A table that has not been filled is all zero.

/// The magic number at the start of a filled table.
pub const MAGIC: u32 = 0x4d53_594d;

/// Bytes that an image reserves for its symbol table.
pub const ROOM: usize = 64 << 10;

/// Symbol table of an image.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a>(&'a [u8]);

/// A place in the code: the function it is in, and how far from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The function.
    pub function: &'a str,
    /// Bytes from its first instruction.
    pub offset: u32,
}

impl<'a> Symbols<'a> {
    /// The table in these bytes, which may hold anything.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn word(self, index: usize) -> Option<u32> {
        let at = index.checked_mul(4)?;
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Returns the number of functions in the table; 0 if it has not been filled.
    pub fn len(self) -> usize {
        match (self.word(0), self.word(1)) {
            (Some(MAGIC), Some(count)) => count as usize,
            _ => 0,
        }
    }

    /// Returns whether there are no names.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The function that has the instruction at `offset` from the image's start: the last one that begins
    /// there or before.
    pub fn find(self, offset: u32) -> Option<Place<'a>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.word(2 + 2 * middle)? <= offset { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        let start = self.word(2 + 2 * index)?;
        let name = self.0.get(self.word(3 + 2 * index)? as usize..)?;
        let end = name.iter().position(|&byte| byte == 0)?;
        Some(Place { function: core::str::from_utf8(&name[..end]).ok()?, offset: offset - start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn table(functions: &[(u32, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend((functions.len() as u32).to_le_bytes());
        let mut names = Vec::new();
        for (address, name) in functions {
            bytes.extend(address.to_le_bytes());
            bytes.extend((8 + 8 * functions.len() as u32 + names.len() as u32).to_le_bytes());
            names.extend(name.bytes().chain([0]));
        }
        bytes.extend(names);
        bytes
    }

    #[test]
    fn finds_the_function_around_an_address() {
        let bytes = table(&[(0x10, "one"), (0x20, "two"), (0x80, "three")]);
        let symbols = Symbols::new(&bytes);
        assert_eq!(symbols.len(), 3);
        assert_eq!(symbols.find(0xf), None);
        assert_eq!(symbols.find(0x10), Some(Place { function: "one", offset: 0 }));
        assert_eq!(symbols.find(0x7f), Some(Place { function: "two", offset: 0x5f }));
        assert_eq!(symbols.find(u32::MAX).unwrap().function, "three");
    }

    #[test]
    fn rejects_malformed_table() {
        assert_eq!(Symbols::new(&[0; 64]).find(1), None);
        assert!(Symbols::new(&[]).is_empty());
        let whole = table(&[(0, "name"), (4, "other")]);
        for length in 0..whole.len() {
            for offset in [0, 4, 9] {
                let _ = Symbols::new(&whole[..length]).find(offset);
            }
        }
    }
}
