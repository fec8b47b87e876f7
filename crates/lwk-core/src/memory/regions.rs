//! Which physical memory is free: a sorted list of ranges.

use super::Phys;
use core::ops::Range;
use heapless::Vec;

/// Size of a page.
pub const PAGE: u64 = 4096;
/// Alignments worth having, the largest first: what the translation tables can map with one entry.
const ALIGNMENTS: [u64; 3] = [1 << 30, 2 << 20, PAGE];
/// The most ranges that the list holds: programs map and unmap what they like.
const MOST: usize = if cfg!(programs) { 1024 } else { 128 };

/// Free physical memory.
#[derive(Debug, Default)]
pub struct FreeList {
    ranges: Vec<Range<u64>, MOST>,
}

/// The list is full: memory is too fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListFull;

impl FreeList {
    /// Returns an allocator without free memory.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Returns the number of free bytes.
    pub fn free_bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds the whole pages of a range, which must not be in the list yet.
    pub fn insert(&mut self, range: Range<u64>) -> Result<(), ListFull> {
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end & !(PAGE - 1);
        if start >= end {
            return Ok(());
        }
        let at = self.ranges.iter().position(|r| r.start > start).unwrap_or(self.ranges.len());
        let joins_next = self.ranges.get(at).is_some_and(|next| next.start == end);
        let joins_last = at > 0 && self.ranges[at - 1].end == start;
        match (joins_last, joins_next) {
            (true, true) => self.ranges[at - 1].end = self.ranges.remove(at).end,
            (true, false) => self.ranges[at - 1].end = end,
            (false, true) => self.ranges[at].start = start,
            (false, false) => self.ranges.insert(at, start..end).map_err(|_| ListFull)?,
        }
        Ok(())
    }

    /// Takes a range out, as far as it is in; pages that it only touches go too.
    pub fn remove(&mut self, range: Range<u64>) -> Result<(), ListFull> {
        let start = range.start & !(PAGE - 1);
        let end = range.end.next_multiple_of(PAGE);
        let mut at = 0;
        while at < self.ranges.len() {
            let old = self.ranges[at].clone();
            if old.end <= start || end <= old.start {
                at += 1;
                continue;
            }
            self.ranges.remove(at);
            for piece in [old.start..start.max(old.start), end.min(old.end)..old.end] {
                if piece.start < piece.end {
                    self.ranges.insert(at, piece).map_err(|_| ListFull)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Takes `size` bytes, contiguous, rounded up to whole pages and aligned as large entries of the
    /// translation tables want it: a region of a GiB or more to a GiB, of 2 MiB or more to 2 MiB, if there is
    /// such a place.
    pub fn allocate(&mut self, size: u64) -> Option<Phys> {
        let size = size.max(1).checked_next_multiple_of(PAGE)?;
        ALIGNMENTS
            .into_iter()
            .filter(|&align| align <= size || align == PAGE)
            .find_map(|align| self.allocate_aligned(size, align))
    }

    /// Takes `size` bytes (whole pages) at a multiple of `align`: the first place that is large enough.
    fn allocate_aligned(&mut self, size: u64, align: u64) -> Option<Phys> {
        let start = self.ranges.iter().find_map(|range| {
            let start = range.start.checked_next_multiple_of(align)?;
            (start.checked_add(size)? <= range.end).then_some(start)
        })?;
        self.remove(start..start + size).ok()?;
        Some(Phys(start))
    }

    /// The free ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn neighbours_are_joined() {
        let mut free = FreeList::new();
        for range in [0..PAGE, 2 * PAGE..3 * PAGE, PAGE..2 * PAGE] {
            free.insert(range).unwrap();
        }
        assert_eq!(free.iter().count(), 1);
        assert_eq!(free.iter().next(), Some(&(0..3 * PAGE)));
    }

    #[test]
    fn alignment_is_as_large_as_the_size_allows() {
        let mut free = FreeList::new();
        free.insert(MIB..3 << 30).unwrap();
        assert_eq!(free.allocate(PAGE), Some(Phys(MIB)));
        assert_eq!(free.allocate(3 * MIB), Some(Phys(2 * MIB)));
        assert_eq!(free.allocate(1 << 30), Some(Phys(1 << 30)));
        // No place at a multiple of a GiB left for more than one.
        assert_eq!(free.allocate((1 << 30) - 2 * PAGE), Some(Phys(2 << 30)));
    }

    #[test]
    fn partial_pages_are_not_free() {
        let mut free = FreeList::new();
        free.insert(1..2 * PAGE + 5).unwrap();
        assert_eq!(free.free_bytes(), PAGE);
        free.remove(PAGE + 7..PAGE + 8).unwrap();
        assert_eq!(free.free_bytes(), 0);
        assert_eq!(free.allocate(1), None);
    }

    proptest! {
        #[test]
        fn allocations_are_disjoint_and_freed(sizes in prop::collection::vec(1..9 * MIB, 1..40)) {
            let mut free = FreeList::new();
            free.insert(5 * PAGE..64 * MIB).unwrap();
            let before = free.free_bytes();
            let mut taken: std::vec::Vec<Range<u64>> = std::vec::Vec::new();
            for size in sizes {
                if let Some(Phys(start)) = free.allocate(size) {
                    let range = start..start + size.next_multiple_of(PAGE);
                    prop_assert!(taken.iter().all(|t| t.end <= range.start || range.end <= t.start));
                    prop_assert!(range.start >= 5 * PAGE && range.end <= 64 * MIB);
                    taken.push(range);
                }
            }
            for range in taken {
                free.insert(range).unwrap();
            }
            prop_assert_eq!(free.free_bytes(), before);
            prop_assert_eq!(free.iter().count(), 1);
        }
    }
}
