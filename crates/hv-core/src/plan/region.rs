//! Ranges of physical memory.

use core::fmt;
use hv_abi::layout::PAGE;
use plain_numbers::Hex;

/// A range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Region {
    pub(crate) base: u64,
    pub(crate) len: u64,
}

impl Region {
    /// `len` bytes from `base`.
    pub(crate) const fn new(base: u64, len: u64) -> Self {
        Self { base, len }
    }

    /// The first address after it.
    pub(crate) const fn end(self) -> u64 {
        self.base.saturating_add(self.len)
    }

    /// Whether it has no bytes.
    pub(crate) const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether the byte at `address` is in it.
    pub(crate) const fn contains(self, address: u64) -> bool {
        self.base <= address && address < self.end()
    }

    /// The bytes that are in both.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let base = self.base.max(other.base);
        let end = self.end().min(other.end());
        (base < end).then(|| Self::new(base, end - base))
    }

    /// Whether it is within the pages that `other` is in, a part of them at least.
    pub(crate) fn is_in_pages_of(self, other: Self) -> bool {
        other.base / PAGE * PAGE <= self.base && self.end() <= other.end().next_multiple_of(PAGE)
    }

    /// The whole pages in it.
    pub(super) fn pages(self) -> Option<Self> {
        let base = self.base.checked_next_multiple_of(PAGE)?;
        let end = self.end() / PAGE * PAGE;
        (base < end).then(|| Self::new(base, end - base))
    }

    pub(crate) fn wraps(self) -> bool {
        self.base.checked_add(self.len).is_none()
    }

    /// The lowest `len` bytes in it on a multiple of `align`.
    pub(super) fn lowest(self, len: u64, align: u64) -> Option<Self> {
        let place = Self::new(self.base.checked_next_multiple_of(align)?, len);
        (!place.wraps() && place.end() <= self.end()).then_some(place)
    }

    /// The highest `len` bytes in it on a multiple of `align`.
    pub(super) fn highest(self, len: u64, align: u64) -> Option<Self> {
        let place = Self::new(self.end().checked_sub(len)? / align * align, len);
        (place.base >= self.base).then_some(place)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", Hex(self.base), Hex(self.end()))
    }
}
