//! Free memory, and places in it.

use super::{Error, Purpose, Region};
use hv_abi::{ids::VmId, layout::PAGE};

/// What one entry of the largest size maps.
pub(super) const GIB: u64 = 1 << 30;

/// Which end of memory a block should be near.
#[derive(Clone, Copy)]
pub(super) enum Near {
    Low,
    /// The high end, but where it breaks the fewest [`Blocks`].
    High,
}

/// The 1 GiB blocks of RAM that one VM can have as a whole: what `owned` has none of.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) ram: &'a [Region],
    pub(super) owned: &'a [&'a [Region]],
}

impl Blocks<'_> {
    /// How many of them `region` breaks: takes a part of.
    fn broken_by(self, region: Region) -> u64 {
        let mut broken = 0;
        let mut block = Region::new(region.base / GIB * GIB, GIB);
        while block.base < region.end() {
            let is_part = region.intersect(block) != Some(block);
            if is_part && self.is_whole(block) {
                broken += 1;
            }
            block.base += GIB;
        }
        broken
    }

    /// Whether all of `block` is RAM, and none of it owned.
    #[inline(never)]
    fn is_whole(self, block: Region) -> bool {
        let touches = |list: &[Region]| list.iter().any(|r| r.intersect(block).is_some());
        self.ram.iter().any(|ram| ram.intersect(block) == Some(block))
            && !self.owned.iter().any(|list| touches(list))
    }

    /// The place that breaks the fewest, the highest one of those; `place` makes one from a range that is free.
    #[inline(never)]
    pub(super) fn best(
        self,
        gaps: Gaps<'_>,
        place: &mut dyn FnMut(Region) -> Option<Region>,
    ) -> Option<Region> {
        let mut best: Option<(u64, Region)> = None;
        for gap in gaps {
            // At its top, or at the top of what lies below its first block.
            let first = gap.base.next_multiple_of(GIB).min(gap.end());
            for end in [first, gap.end()] {
                let Some(region) = place(Region::new(gap.base, end - gap.base)) else { continue };
                let broken = self.broken_by(region);
                if best.is_none_or(|(least, _)| broken <= least) {
                    best = Some((broken, region));
                }
            }
        }
        best.map(|(_, region)| region)
    }
}

/// A block that somebody wants.
#[derive(Clone, Copy)]
pub(super) struct Want {
    pub(super) vm: VmId,
    pub(super) purpose: Purpose,
    pub(super) len: u64,
    pub(super) align: u64,
    pub(super) near: Near,
}

impl Want {
    /// Finds a place among `taken`, in whole pages. What of that is `owned` is not one VM's memory with the rest.
    pub(super) fn find(
        self,
        ram: &[Region],
        taken: &[&[Region]],
        owned: &[&[Region]],
    ) -> Result<Region, Error> {
        let Self { vm, purpose, len: wanted, align, near } = self;
        let len = match wanted.checked_next_multiple_of(PAGE) {
            None | Some(0) => return Err(Error::BadSize { vm, purpose, wanted }),
            Some(len) => len,
        };
        let gaps = || Gaps { ram, taken, at: 0 };
        let place = match near {
            Near::Low => gaps().find_map(|gap| gap.lowest(len, align)),
            Near::High => Blocks { ram, owned }.best(gaps(), &mut |gap| gap.highest(len, align)),
        };
        place.ok_or_else(|| {
            let (mut left, mut largest) = (0, 0);
            for gap in gaps() {
                left += gap.len;
                largest = gap.len.max(largest);
            }
            Error::NoRoom { vm, purpose, wanted, left, largest }
        })
    }
}

/// The whole pages of RAM that nobody has taken, from low to high, each as long as it can be.
pub(super) struct Gaps<'a> {
    pub(super) ram: &'a [Region],
    pub(super) taken: &'a [&'a [Region]],
    /// Everything below has been seen.
    pub(super) at: u64,
}

impl Iterator for Gaps<'_> {
    type Item = Region;

    #[inline(never)]
    fn next(&mut self) -> Option<Region> {
        loop {
            let mut start = None;
            for ram in self.ram.iter().filter(|ram| ram.end() > self.at) {
                let base = ram.base.max(self.at);
                start = Some(start.map_or(base, |start: u64| start.min(base)));
            }
            let start = start?;
            // RAM may be described in adjacent pieces.
            let mut end = start;
            while let Some(ram) = self.ram.iter().find(|ram| ram.contains(end)) {
                end = ram.end();
            }
            self.at = start;
            for taken in self.taken.iter().copied().flatten().filter(|taken| !taken.is_empty()) {
                if taken.contains(start) {
                    self.at = taken.end();
                } else if taken.base > start {
                    end = end.min(taken.base);
                }
            }
            if self.at > start {
                continue;
            }
            self.at = end;
            if let Some(pages) = Region::new(start, end - start).pages() {
                return Some(pages);
            }
        }
    }
}
