//! Addresses of a program.

use core::fmt;

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// An address in a program's address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(u64);

impl UserAddr {
    /// The address of this number.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// Returns the address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address this many bytes further, if there is one.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The first multiple of `alignment`, a power of two, that is not below; if there is one.
    pub(crate) fn align_up(self, alignment: u64) -> Option<Self> {
        let mask = alignment - 1;
        self.checked_add(mask).map(|end| Self(end.0 & !mask))
    }

    /// The last multiple of `alignment`, a power of two, that is not above.
    pub(crate) const fn align_down(self, alignment: u64) -> Self {
        Self(self.0 & !(alignment - 1))
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Addresses from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    /// The first.
    pub start: UserAddr,
    /// The first that is no longer in it.
    pub end: UserAddr,
}

impl UserRange {
    /// Returns the size in bytes.
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Returns whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns whether this address is in it.
    pub const fn contains(self, address: UserAddr) -> bool {
        self.start.0 <= address.0 && address.0 < self.end.0
    }

    /// Returns whether all of `inner` is in it.
    pub const fn covers(self, inner: Self) -> bool {
        self.start.0 <= inner.start.0 && inner.end.0 <= self.end.0
    }

    pub(crate) fn shifted(self, bias: u64) -> Self {
        let shift = |address: UserAddr| UserAddr(address.0.wrapping_add(bias));
        Self { start: shift(self.start), end: shift(self.end) }
    }
}
