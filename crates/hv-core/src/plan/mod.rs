//! Where everything goes in physical memory.
//!
//! The plan is made once, before any VM runs, and is nothing but arithmetic on [`Region`]s:
//!
//! ```text
//! low                                                                                        high
//! [ primary: kernel, tree, ramdisk, all the rest …            | vm3 | vm2 | hypervisor: pool, bundle, image ]
//! ```
//!
//! * The hypervisor moves itself to the top of RAM ([`own`]), with its pool and the bundle beside it, so that all of it is one
//!   hole. If there is no room for that it stays where it was loaded, and its pool is as low as possible.
//! * A secondary gets one contiguous block near the top of memory, on a 2 MiB boundary (a page boundary if it is smaller
//!   than that, as memory regions of partition manifests are), or on a 1 GiB boundary if it is that large and there is such a
//!   place: its stage-2 tables then need few, large entries. Larger VMs choose first.
//! * Near the top means: where the fewest whole 1 GiB blocks are broken, so that the primary keeps as many as there can be, and the
//!   highest place of those.
//! * The primary gets everything that is nobody else's. The device tree that the boot loader brought is kept clear of while VMs are
//!   loaded, and is the primary's memory afterwards.
//!
//! Nothing is ever removed from a list: free memory is what [`Gaps`] finds between the regions that are taken. That
//! needs no allocation, so the pool can be carved before there is a heap. Nothing is placed in page 0, because a
//! pointer to it would be null; it still belongs to the primary.

mod error;
mod own;
mod region;
mod room;

use alloc::{vec, vec::Vec};
use hv_abi::{
    ids::{Pa, VmId},
    layout::{BLOCK, PAGE},
};
use room::{GIB, Gaps, Near, Want};

pub(crate) use error::{Error, Purpose};
pub(crate) use own::Own;
pub(crate) use region::Region;

const PAGE_ZERO: Region = Region::new(0, PAGE);

/// Physical memory as the boot loader left it. `ram` is runs that are sorted and do not touch (`machine::Machine::ram`); the
/// other lists may be in any order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    /// All RAM: runs.
    pub(crate) ram: &'a [Region],
    /// The hypervisor's image, the bundle and, once carved, the pool: no VM's, ever.
    pub(crate) hypervisor: &'a [Region],
    /// What firmware keeps for itself: no VM's, ever.
    pub(crate) reserved: &'a [Region],
    /// The device tree: in use while VMs are loaded, then the primary's.
    pub(crate) loaded: &'a [Region],
}

/// Memory that a secondary asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) vm: VmId,
    pub(crate) bytes: u64,
}

/// What must be placed in the primary's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrimaryNeeds {
    /// `text_offset` of the kernel image: its distance from a 2 MiB boundary.
    pub(crate) text_offset: u64,
    /// `image_size` of the kernel image: bytes from its start to the end of its uninitialised data.
    pub(crate) image_size: u64,
    /// Bytes of the ramdisk; 0 if there is none.
    pub(crate) ramdisk: u64,
    /// Bytes of the device tree.
    pub(crate) tree: u64,
}

/// Where the memory of a secondary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) vm: VmId,
    pub(crate) pa: Pa,
    /// What was asked for, rounded up to pages.
    pub(crate) bytes: u64,
}

/// Where the primary's things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrimaryPlan {
    /// The first byte of the kernel: `text_offset` above a 2 MiB boundary.
    pub(crate) kernel_pa: Pa,
    /// Where the ramdisk begins, on a page boundary, if there is one.
    pub(crate) ramdisk_pa: Option<Pa>,
    /// Where the device tree begins, on a page boundary.
    pub(crate) tree_pa: Pa,
    /// All memory of the primary, in whole pages, from low to high.
    pub(crate) regions: Vec<Region>,
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of the requests: the memory of each secondary, then the memory regions of their manifests.
    pub(crate) secondaries: Vec<Placement>,
    pub(crate) primary: PrimaryPlan,
}

impl Plan {
    /// The memory of a secondary.
    pub(crate) fn of(&self, vm: VmId) -> Option<&Placement> {
        self.secondaries.iter().find(|placement| placement.vm == vm)
    }

    /// The memory regions of its manifest.
    pub(crate) fn regions_of(&self, vm: VmId) -> impl Iterator<Item = &Placement> {
        self.secondaries.iter().filter(move |placement| placement.vm == vm).skip(1)
    }
}

impl Memory<'_> {
    /// `len` bytes, rounded up to pages, for the hypervisor's pool, as low as possible. The caller adds them to
    /// [`Self::hypervisor`]. Needs no heap.
    #[inline(never)]
    pub(crate) fn carve(&self, len: u64, align: u64) -> Result<Region, Error> {
        self.check()?;
        let taken = [self.hypervisor, self.reserved, self.loaded, &[PAGE_ZERO]];
        let (vm, purpose) = (VmId::HYPERVISOR, Purpose::Pool);
        Want { vm, purpose, len, align: align.max(PAGE), near: Near::Low }.find(self.ram, &taken, &[])
    }

    /// Places everything. The primary's things come first, so that they are low.
    #[inline(never)]
    pub(crate) fn plan(&self, requests: &[Request], needs: &PrimaryNeeds) -> Result<Plan, Error> {
        self.check()?;
        let mut placed = vec![PAGE_ZERO];
        let mut secondaries = vec![Region::new(0, 0); requests.len()];
        let mut low = |purpose, len, align| {
            let want = Want { vm: VmId::PRIMARY, purpose, len, align, near: Near::Low };
            let region = self.place(want, &placed, &[])?;
            placed.push(region);
            Ok(region)
        };
        let kernel_len = needs.text_offset.saturating_add(needs.image_size);
        let kernel = low(Purpose::Kernel, kernel_len, BLOCK)?;
        let tree = low(Purpose::Tree, needs.tree, PAGE)?;
        let ramdisk = match needs.ramdisk {
            0 => None,
            len => Some(low(Purpose::Ramdisk, len, PAGE)?),
        };

        // The largest that has no place yet, again and again: a sort of `core` would be larger than all of this.
        for _ in requests {
            let mut largest: Option<(usize, &Request)> = None;
            for (index, request) in requests.iter().enumerate() {
                let larger = largest.is_none_or(|(_, other)| request.bytes > other.bytes);
                if secondaries[index].is_empty() && larger {
                    largest = Some((index, request));
                }
            }
            let Some((index, &Request { vm, bytes })) = largest else { break };
            // No block fits into less than one anyway.
            let align = if bytes < BLOCK { PAGE } else { BLOCK };
            let mut want = Want { vm, purpose: Purpose::Memory, len: bytes, align: GIB, near: Near::High };
            let mut place = Err(Error::BadSize { vm, purpose: want.purpose, wanted: bytes });
            if bytes >= GIB {
                place = self.place(want, &placed, &secondaries);
            }
            if place.is_err() {
                want.align = align;
                place = self.place(want, &placed, &secondaries);
            }
            secondaries[index] = place?;
        }

        let mut regions = Vec::new();
        for gap in (Gaps { ram: self.ram, taken: &[self.hypervisor, self.reserved, &secondaries], at: 0 }) {
            regions.push(gap);
        }
        let mut placements = Vec::new();
        for (request, region) in requests.iter().zip(&secondaries) {
            placements.push(Placement { vm: request.vm, pa: Pa(region.base), bytes: region.len });
        }
        Ok(Plan {
            secondaries: placements,
            primary: PrimaryPlan {
                kernel_pa: Pa(kernel.base + needs.text_offset),
                ramdisk_pa: ramdisk.map(|region| Pa(region.base)),
                tree_pa: Pa(tree.base),
                regions,
            },
        })
    }

    /// A place beside those of the primary's things, which are its own memory, and of the other secondaries.
    #[inline(never)]
    fn place(&self, want: Want, primary: &[Region], secondaries: &[Region]) -> Result<Region, Error> {
        let taken = [self.hypervisor, self.reserved, secondaries, self.loaded, primary];
        want.find(self.ram, &taken, &taken[..3])
    }

    fn check(&self) -> Result<(), Error> {
        for &region in self.hypervisor.iter().chain(self.reserved).chain(self.loaded) {
            if region.wraps() {
                return Err(Error::BadReservation(region));
            }
        }
        for &loaded in self.loaded {
            if let Some(&hypervisor) = self.hypervisor.iter().find(|h| loaded.intersect(**h).is_some()) {
                return Err(Error::LoadedOver { loaded, hypervisor });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
