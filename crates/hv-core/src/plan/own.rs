//! Where the hypervisor goes: out of the way of the memory of VMs.
//!
//! ```text
//! low                                                                      high
//! [ VMs' memory … | pool | bundle | rest of the pool | image | (a hole, or the end of RAM)
//!                 ^ 2 MiB boundary                           ^ a 64 KiB boundary
//! ```
//! The bundle keeps its distance from a 2 MiB boundary, so that its new place is mapped by blocks at the address where its old place is.

use super::{
    Error, Memory, PAGE_ZERO, Region,
    room::{Blocks, Gaps},
};
use hv_abi::layout::{BLOCK, PAGE};

/// What the image's place is a multiple of, as that where it is linked is. The first heap is in the image, and up to 16 concatenated tables of
/// stage 2, which must be aligned to their size (Arm ARM, `VTTBR_EL2.BADDR`), are taken from it by their address there.
const IMAGE_ALIGN: u64 = 16 * PAGE;

/// The hypervisor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// The image.
    pub(crate) image: Region,
    /// The bundle.
    pub(crate) bundle: Region,
    /// The pool; the first part has all that was asked for.
    pub(crate) pool: [Region; 2],
}

impl Own {
    /// The highest place in `room` for as much as these are, and `pool` bytes.
    fn highest(room: Region, image: Region, bundle: Region, pool: u64) -> Option<Self> {
        let down = |address: u64, align: u64| address / align * align;
        let image = Region::new(down(room.end().checked_sub(image.len)?, IMAGE_ALIGN), image.len);
        // The last address before the image that is as far from a boundary as the bundle is now.
        let limit = image.base.checked_sub(bundle.len)?;
        let base = down(limit.checked_sub(bundle.base % BLOCK)?, BLOCK) + bundle.base % BLOCK;
        let bundle = Region::new(base, bundle.len);
        let end = down(bundle.base, PAGE);
        let start = down(end.checked_sub(pool)?, BLOCK);
        let rest = bundle.end().next_multiple_of(PAGE);
        let pool = [Region::new(start, end - start), Region::new(rest, image.base - rest)];
        (start >= room.base).then_some(Self { image, bundle, pool })
    }

    /// All of it.
    fn whole(&self) -> Region {
        Region::new(self.pool[0].base, self.image.end() - self.pool[0].base)
    }
}

impl Memory<'_> {
    /// A better place for the image and the bundle, with `pool` bytes beside them; `None` if there is no room. The caller moves them.
    /// Needs no heap.
    #[inline(never)]
    pub(crate) fn own(&self, image: Region, bundle: Region, pool: u64) -> Result<Option<Own>, Error> {
        self.check()?;
        let taken = [self.hypervisor, self.reserved, self.loaded, &[PAGE_ZERO]];
        let gaps = Gaps { ram: self.ram, taken: &taken, at: 0 };
        let mut place = |room| Some(Own::highest(room, image, bundle, pool)?.whole());
        // What is in the hypervisor's present place will be memory like the rest.
        let best = Blocks { ram: self.ram, owned: &[self.reserved] }.best(gaps, &mut place);
        Ok(best.and_then(|best| Own::highest(best, image, bundle, pool)))
    }
}
