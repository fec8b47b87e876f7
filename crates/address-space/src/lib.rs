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
//! let gone = space.remove(range(place.start.get() + 0x1000, place.start.get() + 0x2000)).unwrap();
//! assert_eq!(gone.len(), 1);
//! assert_eq!(space.iter().count(), 2);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;
use linux_program::{Access, UserAddr, UserRange};

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Regions that are this large begin at a multiple of it, so that tables can map them with blocks.
pub const BLOCK: u64 = 2 << 20;
/// The most regions of a process, as Linux' `max_map_count` by default.
pub const MOST_REGIONS: usize = 65_530;

/// What a region is for. What differs is never joined.
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
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "the range is empty, not whole pages, or outside of the address space",
            Self::Overlap => "part of the range is in use",
            Self::Hole => "part of the range is not mapped",
            Self::Kernel => "part of the range is the kernel's",
            Self::TooMany => "there are too many regions",
        })
    }
}

impl core::error::Error for SpaceError {}

/// The regions of a process.
#[derive(Clone, Debug)]
pub struct AddressSpace {
    /// By their first address.
    regions: BTreeMap<UserAddr, Region>,
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
        Self { regions: BTreeMap::new(), all, area, bytes: 0 }
    }

    /// All regions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.values()
    }

    /// Bytes in all regions.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The region that has this address.
    pub fn find(&self, address: UserAddr) -> Option<&Region> {
        let (_, region) = self.regions.range(..=address).next_back()?;
        region.range.contains(address).then_some(region)
    }

    /// The regions that have a part in `range`, whole, ascending.
    pub fn overlapping(&self, range: UserRange) -> impl Iterator<Item = &Region> {
        let first = self.find(range.start).map_or(range.start, |region| region.range.start);
        // A range that ends before it begins would not be one for the map.
        self.regions.range(first..range.end.max(first)).map(|(_, region)| region)
    }

    /// Whether nothing is in `range`.
    pub fn is_free(&self, range: UserRange) -> bool {
        self.overlapping(range).next().is_none()
    }

    fn check(&self, range: UserRange) -> Result<(), SpaceError> {
        let whole = range.start.get().is_multiple_of(PAGE) && range.end.get().is_multiple_of(PAGE);
        if whole && !range.is_empty() && self.all.covers(range) { Ok(()) } else { Err(SpaceError::Range) }
    }

    /// A free place of `size` bytes (whole pages): at `wish` if it is free, otherwise the first in the area, at a multiple
    /// of 2 MiB if it is that large and there is one.
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

    /// Adds a region where nothing is.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Overlap`] or [`SpaceError::TooMany`].
    pub fn insert(&mut self, region: Region) -> Result<(), SpaceError> {
        self.check(region.range)?;
        if !self.is_free(region.range) {
            return Err(SpaceError::Overlap);
        }
        if self.regions.len() >= MOST_REGIONS {
            return Err(SpaceError::TooMany);
        }
        self.bytes += region.range.len();
        self.put(region);
        Ok(())
    }

    /// Adds a region that overlaps none, joined with its neighbours.
    fn put(&mut self, mut region: Region) {
        let before = self.regions.range(..region.range.start).next_back().map(|(_, region)| *region);
        if let Some(before) = before.filter(|b| b.range.end == region.range.start && b.same(&region)) {
            region.range.start = before.range.start;
        }
        let after = self.regions.get(&region.range.end).copied();
        if let Some(after) = after.filter(|after| after.same(&region)) {
            self.regions.remove(&after.range.start);
            region.range.end = after.range.end;
        }
        self.regions.insert(region.range.start, region);
    }

    /// Cuts what crosses the ends of `cut`, so that every region is inside or outside; refuses if there would be too many.
    fn split(&mut self, cut: UserRange) -> Result<(), SpaceError> {
        let crosses = |at: UserAddr| self.find(at).filter(|region| region.range.start < at).copied();
        let (first, last) = (crosses(cut.start), crosses(cut.end));
        let more = usize::from(first.is_some()) + usize::from(last.is_some());
        if self.regions.len() + more > MOST_REGIONS {
            return Err(SpaceError::TooMany);
        }
        for at in [cut.start, cut.end] {
            let Some(region) = self.find(at).filter(|region| region.range.start < at).copied() else {
                continue;
            };
            self.regions
                .insert(region.range.start, Region { range: range(region.range.start, at), ..region });
            self.regions.insert(at, Region { range: range(at, region.range.end), ..region });
        }
        Ok(())
    }

    /// Takes the regions in `cut` out; returns them, ascending. There may be holes.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Kernel`] or [`SpaceError::TooMany`].
    pub fn remove(&mut self, cut: UserRange) -> Result<Vec<Region>, SpaceError> {
        self.check(cut)?;
        if self.overlapping(cut).any(|region| region.purpose == Purpose::Kernel) {
            return Err(SpaceError::Kernel);
        }
        self.split(cut)?;
        let gone: Vec<Region> = self.overlapping(cut).copied().collect();
        for region in &gone {
            self.regions.remove(&region.range.start);
            self.bytes -= region.range.len();
        }
        Ok(gone)
    }

    /// Changes what the program may do in `cut`, all of which is mapped; returns the regions as they were, ascending.
    ///
    /// # Errors
    /// [`SpaceError::Range`], [`SpaceError::Hole`], [`SpaceError::Kernel`] or [`SpaceError::TooMany`].
    pub fn protect(&mut self, cut: UserRange, access: Access) -> Result<Vec<Region>, SpaceError> {
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
        self.split(cut)?;
        let before: Vec<Region> = self.overlapping(cut).copied().collect();
        for region in &before {
            self.regions.remove(&region.range.start);
        }
        for region in &before {
            self.put(Region { access, ..*region });
        }
        Ok(before)
    }
}
