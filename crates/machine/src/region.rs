//! Ranges of physical addresses.
use core::fmt;
use plain_numbers::Hex;

/// A range of CPU physical addresses that does not wrap around.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// The first address.
    pub base: u64,
    /// The length in bytes.
    pub size: u64,
}

impl Region {
    /// The range, unless it would wrap around.
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        if base.checked_add(size).is_some() { Some(Self { base, size }) } else { None }
    }

    /// Returns the address after the last one.
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Returns whether the address is within.
    pub const fn contains(&self, address: u64) -> bool {
        self.base <= address && address < self.end()
    }

    /// Returns whether the two ranges have an address in common.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.size != 0 && other.size != 0 && self.base < other.end() && other.base < self.end()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", Hex(self.base), Hex(self.base.wrapping_add(self.size)))
    }
}
