//! The regions of a process's address space.
//!
//! ```
//! use address_space::{AddressSpace, Purpose, Region};
//! use linux_program::{Access, UserAddr, UserRange};
//!
//! let range = |start, end| UserRange { start: UserAddr::new(start), end: UserAddr::new(end) };
//! let data = Access { read: true, write: true, execute: false };
//! let mut space = AddressSpace::new(range(0x1_0000, 1 << 47), range(1 << 36, 1 << 46));
//! let place = space.free_place(0x4000, None).unwrap();
//! space.insert(Region { range: place, access: data, purpose: Purpose::Anonymous, lazy: false }).unwrap();
//! let page = range(place.start.get() + 0x1000, place.start.get() + 0x2000);
//! space.prepare_removal(page).unwrap();
//! assert_eq!(space.take_first(page).map(|region| region.range), Some(page));
//! assert_eq!(space.iter().count(), 2);
//! ```
//!
//! Memory for the list is needed where a region is added or cut, and may be missing: what needs it comes
//! first, as [`prepare_removal`](AddressSpace::prepare_removal) and its like, and what follows cannot fail.
//! So a kernel can do its own part in between.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "on the development host"
    )
)]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(test)]
mod tests;

mod sorted;

use core::fmt;
use linux_program::{Access, UserAddr, UserRange};
use sorted::Sorted;

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Regions that are this large begin at a multiple of it, so that tables can map them with blocks.
pub const BLOCK: u64 = 2 << 20;
/// Maximum number of regions of a process, the default of Linux' `max_map_count`.
pub const MOST_REGIONS: usize = 65_530;

/// Purpose of a region. Regions of different purposes are never merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A segment of the program.
    Program,
    /// Between the program and the break.
    Heap,
    /// The first thread's stack.
    Stack,
    /// From `mmap`.
    Anonymous,
    /// A private mapping of a file, by its number among the files that the owner has mapped.
    File(u32),
    /// Physical memory that was asked for as such: its pages belong to something else than the region.
    Physical,
    /// The kernel's clock and vDSO, which stay as they are.
    Kernel,
}

/// A piece of an address space with the same properties everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Whole pages.
    pub range: UserRange,
    /// What the program may do.
    pub access: Access,
    /// What it is for.
    pub purpose: Purpose,
    /// It gets memory only where it is touched.
    pub lazy: bool,
}

impl Region {
    fn same(&self, other: &Self) -> bool {
        (self.access, self.purpose, self.lazy) == (other.access, other.purpose, other.lazy)
    }
}

/// Why an operation is refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// It is not whole pages, empty, or outside of what a program can have (`EINVAL`, `ENOMEM`).
    Range,
    /// Part of it is in use (`EEXIST`).
    Overlap,
    /// Part of it is not mapped (`ENOMEM`).
    Hole,
    /// Part of it is the kernel's (`EACCES`).
    Kernel,
    /// There would be too many regions (`ENOMEM`).
    TooMany,
    /// There is no memory for the list of regions (`ENOMEM`).
    NoMemory,
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "the range is empty, not whole pages, or outside of the address space",
            Self::Overlap => "part of the range is in use",
            Self::Hole => "part of the range is not mapped",
            Self::Kernel => "part of the range is the kernel's",
            Self::TooMany => "there are too many regions",
            Self::NoMemory => "there is no memory for the list of regions",
        })
    }
}

impl core::error::Error for SpaceError {}

/// The regions of a process.
#[derive(Debug)]
pub struct AddressSpace {
    /// By their first address.
    regions: Sorted,
    /// What regions can be in.
    all: UserRange,
    /// Where places are looked for.
    area: UserRange,
    /// Bytes in all regions.
    bytes: u64,
}

const fn range(start: UserAddr, end: UserAddr) -> UserRange {
    UserRange { start, end }
}

fn align_up(address: UserAddr, alignment: u64) -> Option<UserAddr> {
    let mask = alignment - 1;
    Some(UserAddr::new(address.get().checked_add(mask)? & !mask))
}

impl AddressSpace {
    /// Without a region: there can be some anywhere in `all`, and places are found in `area`.
    pub const fn new(all: UserRange, area: UserRange) -> Self {
        Self { regions: Sorted::new(), all, area, bytes: 0 }
    }

    /// All regions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.from(UserAddr::new(0))
    }

    /// Returns the number of regions.
    pub const fn count(&self) -> usize {
        self.regions.len()
    }

    /// Returns the bytes of all regions.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that the list of regions takes from the kernel's memory.
    pub const fn memory(&self) -> usize {
        self.regions.memory()
    }

    /// The region that has this address.
    pub fn find(&self, address: UserAddr) -> Option<&Region> {
        self.regions.at_or_before(address).filter(|region| region.range.contains(address))
    }

    /// The regions that have a part in `range`, whole, ascending.
    pub fn overlapping(&self, range: UserRange) -> impl Iterator<Item = &Region> {
        // Nothing is in an empty range, not even what it lies in.
        self.regions
            .from(range.start)
            .take_while(move |region| region.range.start < range.end && !range.is_empty())
    }

    /// Returns the first region that overlaps `range`.
    pub fn first(&self, range: UserRange) -> Option<Region> {
        self.overlapping(range).next().copied()
    }

    /// Returns whether nothing is in `range`.
    pub fn is_free(&self, range: UserRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    fn check(&self, range: UserRange) -> Result<(), SpaceError> {
        let whole = range.start.get().is_multiple_of(PAGE) && range.end.get().is_multiple_of(PAGE);
        if whole && !range.is_empty() && self.all.covers(range) { Ok(()) } else { Err(SpaceError::Range) }
    }

    /// A free place of `size` bytes (whole pages): at `wish` if it is free, otherwise the first in the area,
    /// at a multiple of 2 MiB if it is that large and there is one.
    pub fn free_place(&self, size: u64, wish: Option<UserAddr>) -> Option<UserRange> {
        if size == 0 || !size.is_multiple_of(PAGE) {
            return None;
        }
        let wished = wish.and_then(|start| {
            let place = range(start, start.checked_add(size)?);
            (self.check(place).is_ok() && self.is_free(place)).then_some(place)
        });
        let large = || if size >= BLOCK { self.first_place(size, BLOCK) } else { None };
        wished.or_else(large).or_else(|| self.first_place(size, PAGE))
    }

    fn first_place(&self, size: u64, alignment: u64) -> Option<UserRange> {
        let mut start = align_up(self.area.start, alignment)?;
        for region in self.overlapping(self.area) {
            let place = range(start, start.checked_add(size)?);
            if place.end <= region.range.start {
                break;
            }
            start = align_up(region.range.end.max(start), alignment)?;
        }
        let place = range(start, start.checked_add(size)?);
        self.area.covers(place).then_some(place)
    }

    /// Checks that [`insert`](Self::insert) can add a region, and makes room for it.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Overlap`], [`SpaceError::TooMany`] or [`SpaceError::NoMemory`].
    pub fn prepare_insertion(&mut self, place: UserRange) -> Result<(), SpaceError> {
        self.check(place)?;
        if !self.is_free(place) {
            return Err(SpaceError::Overlap);
        }
        self.reserve(1)
    }

    /// Adds a region where nothing is, joined with its neighbours if they are the same.
    ///
    /// # Errors
    /// See [`prepare_insertion`](Self::prepare_insertion), after which it does not fail.
    pub fn insert(&mut self, region: Region) -> Result<(), SpaceError> {
        self.prepare_insertion(region.range)?;
        self.regions.insert(region);
        self.bytes += region.range.len();
        self.join(region.range.end);
        self.join(region.range.start);
        Ok(())
    }

    fn reserve(&mut self, count: usize) -> Result<(), SpaceError> {
        if self.regions.len() + count > MOST_REGIONS {
            return Err(SpaceError::TooMany);
        }
        self.regions.reserve(count)
    }

    /// Joins two regions that touch at an address, if they are the same.
    fn join(&mut self, at: UserAddr) {
        let Some(last) = at.get().checked_sub(1).and_then(|last| self.find(UserAddr::new(last)).copied())
        else {
            return;
        };
        let Some(next) = self.find(at).copied() else { return };
        if last.range.end == at && last.same(&next) {
            self.regions.remove(at);
            if let Some(joined) = self.regions.get_mut(last.range.start) {
                joined.range.end = next.range.end;
            }
        }
    }

    /// Cuts what crosses the ends of `cut`, so that every region is inside or outside; refuses if there would
    /// be too many.
    fn split(&mut self, cut: UserRange) -> Result<(), SpaceError> {
        let crosses =
            |space: &Self, at: UserAddr| space.find(at).filter(|region| region.range.start < at).copied();
        let (first, last) = (crosses(self, cut.start), crosses(self, cut.end));
        let more = usize::from(first.is_some()) + usize::from(last.is_some());
        if more > 0 {
            self.reserve(more)?;
        }
        for at in [cut.start, cut.end] {
            let Some(region) = crosses(self, at) else { continue };
            if let Some(lower) = self.regions.get_mut(region.range.start) {
                lower.range.end = at;
            }
            self.regions.insert(Region { range: range(at, region.range.end), ..region });
        }
        Ok(())
    }

    /// Checks that what is in `cut` can be taken out, and cuts regions at its ends. There may be holes.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Kernel`], [`SpaceError::TooMany`] or [`SpaceError::NoMemory`].
    pub fn prepare_removal(&mut self, cut: UserRange) -> Result<(), SpaceError> {
        self.check(cut)?;
        if self.overlapping(cut).any(|region| region.purpose == Purpose::Kernel) {
            return Err(SpaceError::Kernel);
        }
        self.split(cut)
    }

    /// Takes the first region out that has a part in `cut`, whole.
    pub fn take_first(&mut self, cut: UserRange) -> Option<Region> {
        let region = self.regions.remove(self.first(cut)?.range.start)?;
        self.bytes -= region.range.len();
        Some(region)
    }

    /// Checks that what the program may do in `cut` can be changed: all of it is mapped. Cuts regions at its
    /// ends.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Hole`], [`SpaceError::Kernel`], [`SpaceError::TooMany`] or
    /// [`SpaceError::NoMemory`].
    pub fn prepare_protection(&mut self, cut: UserRange) -> Result<(), SpaceError> {
        self.check(cut)?;
        let mut end = cut.start;
        for region in self.overlapping(cut) {
            if region.purpose == Purpose::Kernel {
                return Err(SpaceError::Kernel);
            }
            if region.range.start > end {
                return Err(SpaceError::Hole);
            }
            end = region.range.end;
        }
        if end < cut.end {
            return Err(SpaceError::Hole);
        }
        self.split(cut)
    }

    /// Changes what the program may do in the regions inside of `cut`, which has been prepared.
    pub fn protect(&mut self, cut: UserRange, access: Access) {
        let mut at = cut.start;
        while let Some(region) = self.find(at).copied().filter(|region| region.range.start < cut.end) {
            if let Some(region) = self.regions.get_mut(region.range.start) {
                region.access = access;
            }
            // What is joined here has been changed already, or lies outside.
            self.join(region.range.start);
            at = region.range.end;
        }
        self.join(at);
    }
}
