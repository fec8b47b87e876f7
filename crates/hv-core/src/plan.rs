//! Where everything goes in physical memory.
//!
//! The plan is made once, before any VM runs, and is nothing but arithmetic on [`Region`]s:
//!
//! ```text
//! low                                                                                        high
//! [ hypervisor image | its pool | primary: kernel, tree, ramdisk, all the rest … | vm3 |  vm2   ]
//! ```
//!
//! * The hypervisor's pool is carved as low as possible, next to the image, so that the holes in the primary's memory
//!   are one hole.
//! * A secondary gets one contiguous block from the top of memory, on a 2 MiB boundary (a page boundary if it is smaller
//!   than that, as memory regions of partition manifests are), or on a 1 GiB boundary if it is that large and there is such a place: its stage-2 tables then need few, large entries. Larger VMs choose
//!   first.
//! * The primary gets everything that is nobody else's. What the boot loader brought (bundle and device tree) is
//!   kept clear of while VMs are loaded from it, and is the primary's memory afterwards.
//!
//! Nothing is ever removed from a list: free memory is what [`Gaps`] finds between the regions that are taken. That
//! needs no allocation, so the pool can be carved before there is a heap. Nothing is placed in page 0, because a
//! pointer to it would be null; it still belongs to the primary.

use alloc::{vec, vec::Vec};
use core::fmt;
use hv_abi::{
    ids::{Pa, VmId},
    layout::{BLOCK, PAGE},
};
use plain_numbers::{Dec, Hex};

const GIB: u64 = 1 << 30;
const PAGE_ZERO: Region = Region::new(0, PAGE);

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

    /// The whole pages in it.
    fn pages(self) -> Option<Self> {
        let base = self.base.checked_next_multiple_of(PAGE)?;
        let end = self.end() / PAGE * PAGE;
        (base < end).then(|| Self::new(base, end - base))
    }

    pub(crate) fn wraps(self) -> bool {
        self.base.checked_add(self.len).is_none()
    }

    /// The lowest `len` bytes in it on a multiple of `align`.
    fn lowest(self, len: u64, align: u64) -> Option<Self> {
        let place = Self::new(self.base.checked_next_multiple_of(align)?, len);
        (!place.wraps() && place.end() <= self.end()).then_some(place)
    }

    /// The highest `len` bytes in it on a multiple of `align`.
    fn highest(self, len: u64, align: u64) -> Option<Self> {
        let place = Self::new(self.end().checked_sub(len)? / align * align, len);
        (place.base >= self.base).then_some(place)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", Hex(self.base), Hex(self.end()))
    }
}

/// What a block of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The hypervisor's own pool.
    Pool,
    /// The memory of a secondary.
    Memory,
    /// The primary's kernel, with the distance to its start and its uninitialised data.
    Kernel,
    /// The primary's ramdisk.
    Ramdisk,
    /// The primary's device tree.
    Tree,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Something reserved or loaded ends beyond the last address.
    BadReservation(Region),
    /// What the boot loader brought lies over the hypervisor, so that one has overwritten the other.
    LoadedOver {
        /// The bundle or the device tree.
        loaded: Region,
        /// The part of the hypervisor.
        hypervisor: Region,
    },
    /// A block of no bytes, or of more than there are addresses.
    BadSize { vm: VmId, purpose: Purpose, wanted: u64 },
    /// No block is large enough.
    NoRoom {
        vm: VmId,
        purpose: Purpose,
        /// Bytes wanted.
        wanted: u64,
        /// Bytes that are still free.
        left: u64,
        /// Bytes in the largest block of them.
        largest: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadReservation(r) => {
                write!(f, "the {} bytes reserved at {} end beyond the last address", Dec(r.len), Hex(r.base))
            }
            Self::LoadedOver { loaded, hypervisor } => write!(
                f,
                "the boot loader put the bundle or the device tree at {loaded}, over the hypervisor at {hypervisor}"
            ),
            Self::BadSize { vm, purpose, wanted } => {
                write!(f, "{} cannot be {} bytes", Wanted(vm, purpose), Dec(wanted))
            }
            Self::NoRoom { vm, purpose, wanted, left, largest } => write!(
                f,
                "{} needs {} contiguous bytes, but {} are free, {} of them in one block",
                Wanted(vm, purpose),
                Dec(wanted),
                Dec(left),
                Dec(largest)
            ),
        }
    }
}

/// Whose block for what, in words.
struct Wanted(VmId, Purpose);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Purpose::Pool => write!(f, "the hypervisor's pool"),
            Purpose::Memory => write!(f, "the memory of {}", self.0),
            Purpose::Kernel => write!(f, "the kernel of {}", self.0),
            Purpose::Ramdisk => write!(f, "the ramdisk of {}", self.0),
            Purpose::Tree => write!(f, "the device tree of {}", self.0),
        }
    }
}

/// Physical memory as the boot loader left it. `ram` is runs that are sorted and do not touch (`machine::Machine::ram`); the
/// other lists may be in any order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    /// All RAM: runs.
    pub(crate) ram: &'a [Region],
    /// The hypervisor's image and, once carved, its pool: no VM's, ever.
    pub(crate) hypervisor: &'a [Region],
    /// What firmware keeps for itself: no VM's, ever.
    pub(crate) reserved: &'a [Region],
    /// The bundle and the device tree: in use while VMs are loaded, then the primary's.
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
        Want { vm, purpose, len, align: align.max(PAGE), near: Near::Low }.find(self.ram, &taken)
    }

    /// Places everything. The primary's things come first, so that they are low.
    #[inline(never)]
    pub(crate) fn plan(&self, requests: &[Request], needs: &PrimaryNeeds) -> Result<Plan, Error> {
        self.check()?;
        let mut placed = vec![PAGE_ZERO];
        let mut place = |want: Want| {
            let region = want.find(self.ram, &[self.hypervisor, self.reserved, self.loaded, &placed])?;
            placed.push(region);
            Ok(region)
        };

        let low = |purpose, len, align| Want { vm: VmId::PRIMARY, purpose, len, align, near: Near::Low };
        let kernel_len = needs.text_offset.saturating_add(needs.image_size);
        let kernel = place(low(Purpose::Kernel, kernel_len, BLOCK))?;
        let tree = place(low(Purpose::Tree, needs.tree, PAGE))?;
        let ramdisk = match needs.ramdisk {
            0 => None,
            len => Some(place(low(Purpose::Ramdisk, len, PAGE))?),
        };

        // The largest that has no place yet, again and again: a sort of `core` would be larger than all of this.
        let mut secondaries = vec![Region::new(0, 0); requests.len()];
        for _ in requests {
            let mut largest = None;
            for (request, region) in requests.iter().zip(&mut secondaries) {
                let larger =
                    largest.as_ref().is_none_or(|(other, _): &(Request, _)| request.bytes > other.bytes);
                if region.is_empty() && larger {
                    largest = Some((*request, region));
                }
            }
            let Some((Request { vm, bytes }, region)) = largest else { break };
            // No block fits into less than one anyway.
            let align = if bytes < BLOCK { PAGE } else { BLOCK };
            let mut want = Want { vm, purpose: Purpose::Memory, len: bytes, align: GIB, near: Near::High };
            if bytes >= GIB
                && let Ok(place) = place(want)
            {
                *region = place;
            } else {
                want.align = align;
                *region = place(want)?;
            }
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

/// Which end of memory a block should be near.
#[derive(Clone, Copy)]
enum Near {
    Low,
    High,
}

/// A block that somebody wants.
#[derive(Clone, Copy)]
struct Want {
    vm: VmId,
    purpose: Purpose,
    len: u64,
    align: u64,
    near: Near,
}

impl Want {
    /// Finds a place among `taken`, in whole pages.
    fn find(self, ram: &[Region], taken: &[&[Region]]) -> Result<Region, Error> {
        let Self { vm, purpose, len: wanted, align, near } = self;
        let len = match wanted.checked_next_multiple_of(PAGE) {
            None | Some(0) => return Err(Error::BadSize { vm, purpose, wanted }),
            Some(len) => len,
        };
        let gaps = || Gaps { ram, taken, at: 0 };
        let place = match near {
            Near::Low => gaps().find_map(|gap| gap.lowest(len, align)),
            Near::High => gaps().filter_map(|gap| gap.highest(len, align)).last(),
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
struct Gaps<'a> {
    ram: &'a [Region],
    taken: &'a [&'a [Region]],
    /// Everything below has been seen.
    at: u64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::{collection::vec as many, prelude::*};

    const MIB: u64 = 1 << 20;
    const NEEDS: PrimaryNeeds =
        PrimaryNeeds { text_offset: 0x8_0000, image_size: 3 * MIB, ramdisk: 5000, tree: 9000 };

    fn request(vm: u16, bytes: u64) -> Request {
        Request { vm: VmId(vm), bytes }
    }

    fn region(base: u64, end: u64) -> Region {
        Region::new(base, end - base)
    }

    #[test]
    fn a_usual_machine() {
        let ram = [region(0x4000_0000, 0x1_4000_0000)];
        let image = region(0x4020_0000, 0x4040_0000);
        let loaded = [region(0x4800_0000, 0x4840_0123), region(0x4a00_0000, 0x4a10_0000)];
        let mut memory = Memory { ram: &ram, hypervisor: &[image], reserved: &[], loaded: &loaded };
        let pool = memory.carve(16 * MIB - 1, 2 * MIB).unwrap();
        assert_eq!(pool, region(0x4040_0000, 0x4140_0000));

        let hypervisor = [image, pool];
        memory.hypervisor = &hypervisor;
        let plan = memory.plan(&[request(2, 64 * MIB), request(3, GIB)], &NEEDS).unwrap();
        assert_eq!(
            plan.secondaries,
            [
                Placement { vm: VmId(2), pa: Pa(0xfc00_0000), bytes: 64 * MIB },
                Placement { vm: VmId(3), pa: Pa(0x1_0000_0000), bytes: GIB }
            ]
        );
        assert_eq!(plan.primary.kernel_pa, Pa(0x4148_0000));
        assert_eq!(plan.primary.tree_pa, Pa(0x4000_0000));
        assert_eq!(plan.primary.ramdisk_pa, Some(Pa(0x4000_3000)));
        assert_eq!(
            plan.primary.regions,
            [region(0x4000_0000, 0x4020_0000), region(0x4140_0000, 0xfc00_0000)]
        );
    }

    #[test]
    fn gigabyte_alignment_only_where_there_is_room() {
        let ram = [region(0x4000_0000, 0x9000_0000)];
        let memory = Memory { ram: &ram, hypervisor: &[], reserved: &[], loaded: &[] };
        let at = |bytes| memory.plan(&[request(2, bytes)], &NEEDS).unwrap().secondaries[0].pa.0;
        // The kernel is in the only aligned gigabyte.
        assert_eq!(at(GIB), 0x5000_0000);
        let ram = [region(0x3000_0000, 0x9000_0000)];
        let memory = Memory { ram: &ram, ..memory };
        let at = |bytes| memory.plan(&[request(2, bytes)], &NEEDS).unwrap().secondaries[0].pa.0;
        assert_eq!(at(GIB), 0x4000_0000);
        assert_eq!(at(GIB - 1), 0x5000_0000);
    }

    #[test]
    fn page_zero_is_owned_but_not_given_out() {
        let memory = Memory { ram: &[region(0, 16 * MIB)], hypervisor: &[], reserved: &[], loaded: &[] };
        assert_eq!(memory.carve(1, 1).unwrap(), Region::new(PAGE, PAGE));
        let plan = memory.plan(&[], &NEEDS).unwrap();
        assert_eq!(plan.primary.kernel_pa, Pa(0x28_0000));
        assert_eq!(plan.primary.regions, memory.ram);
    }

    #[test]
    fn adjacent_descriptions_of_ram_are_one() {
        let ram = [region(4 * MIB, 16 * MIB), region(2 * MIB + 1, 4 * MIB), region(16 * MIB, 20 * MIB + 5)];
        let memory = Memory { ram: &ram, hypervisor: &[], reserved: &[], loaded: &[] };
        assert_eq!(memory.carve(17 * MIB, PAGE).unwrap().base, 2 * MIB + PAGE);
        assert_eq!(memory.plan(&[], &NEEDS).unwrap().primary.regions, [region(2 * MIB + PAGE, 20 * MIB)]);
    }

    #[test]
    fn impossible_memory_is_refused() {
        let good = [region(MIB, 64 * MIB)];
        let memory = Memory { ram: &good, hypervisor: &[], reserved: &[], loaded: &[] };
        let error = |memory: Memory| {
            let error = memory.plan(&[], &NEEDS).unwrap_err();
            assert_eq!(memory.carve(PAGE, PAGE), Err(error));
            error.to_string()
        };
        assert_eq!(
            error(Memory { reserved: &[Region::new(u64::MAX, 2)], ..memory }),
            "the 2 bytes reserved at 0xffffffffffffffff end beyond the last address"
        );
        assert_eq!(
            error(Memory {
                hypervisor: &[region(0x1000, 0x3000)],
                loaded: &[region(0x2fff, 0x4000)],
                ..memory
            }),
            "the boot loader put the bundle or the device tree at 0x2fff..0x4000, over the hypervisor at 0x1000..0x3000"
        );
    }

    #[test]
    fn requests_that_do_not_fit_are_refused() {
        let ram = [region(0, 32 * MIB)];
        let reserved = [region(16 * MIB, 16 * MIB + 1)];
        let memory = Memory { ram: &ram, hypervisor: &[], reserved: &reserved, loaded: &[] };
        let error = |requests: &[Request], needs| memory.plan(requests, &needs).unwrap_err().to_string();
        assert_eq!(
            error(
                &[request(2, 8 * MIB), request(3, 14 * MIB)],
                PrimaryNeeds { image_size: 7 * MIB, ..NEEDS }
            ),
            "the memory of vm2 needs 8388608 contiguous bytes, but 10981376 are free, 6815744 of them in one block"
        );
        assert_eq!(error(&[request(2, 0)], NEEDS), "the memory of vm2 cannot be 0 bytes");
        let huge = "the memory of vm2 cannot be 18446744073709551615 bytes";
        assert_eq!(error(&[request(2, u64::MAX)], NEEDS), huge);
        assert!(error(&[request(2, u64::MAX - 4095)], NEEDS).starts_with("the memory of vm2 needs"));
        assert!(
            error(&[], PrimaryNeeds { ramdisk: 17 * MIB, ..NEEDS }).starts_with("the ramdisk of vm1 needs")
        );
        assert!(error(&[], PrimaryNeeds { tree: 0, ..NEEDS }).starts_with("the device tree of vm1 cannot"));
        let huge = PrimaryNeeds { image_size: u64::MAX, ..NEEDS };
        assert!(error(&[], huge).starts_with("the kernel of vm1 cannot"));
        let pool = memory.carve(33 * MIB, PAGE).unwrap_err().to_string();
        assert!(pool.starts_with("the hypervisor's pool needs 34603008 contiguous bytes"), "{pool}");
        assert!(memory.carve(PAGE, 1 << 63).is_err());
    }

    /// Small regions, not in order, with ends that need not be page-aligned.
    fn regions(count: usize, pages: u64) -> impl Strategy<Value = Vec<Region>> {
        let piece = (0..96 * MIB / PAGE, 0..=pages, 0..PAGE, 0..PAGE);
        many(
            piece.prop_map(|(base, len, up, more)| Region::new(base * PAGE + up, len * PAGE + more)),
            0..count,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn every_page_has_one_owner(
            mut ram in regions(4, 64 * MIB / PAGE),
            image in 0..64 * MIB / PAGE,
            reserved in regions(4, 300),
            loaded in regions(3, 300),
            sizes in many(0..24 * MIB, 0..4),
            (pool, align) in (1..8 * MIB, 0..24u32),
            (text_offset, image_size, ramdisk, tree) in (0..MIB, 1..6 * MIB, 0..6 * MIB, 1..MIB),
        ) {
            // Enough to be solvable most of the time, and legal: no overlaps, nothing loaded over the hypervisor.
            ram.push(region(8 * MIB, 40 * MIB));
            let mut i = 0;
            while i < ram.len() {
                let clash = ram[i].is_empty() || ram[i + 1..].iter().any(|other| ram[i].intersect(*other).is_some());
                if clash { ram.remove(i); } else { i += 1; }
            }
            let image = [Region::new(image * PAGE, 2 * MIB)];
            let mut loaded = loaded;
            loaded.retain(|region| region.intersect(image[0]).is_none());

            let memory = Memory { ram: &ram, hypervisor: &image, reserved: &reserved, loaded: &loaded };
            let Ok(carved) = memory.carve(pool, 1u64 << align) else { return Ok(()) };
            prop_assert!(carved.base % (1u64 << align) == 0 && carved.base % PAGE == 0 && carved.len >= pool);
            let hypervisor = [image[0], carved];
            let memory = Memory { hypervisor: &hypervisor, ..memory };
            let requests: Vec<_> = sizes.iter().zip(2..).map(|(&bytes, vm)| request(vm, bytes)).collect();
            let needs = PrimaryNeeds { text_offset, image_size, ramdisk, tree };
            let Ok(plan) = memory.plan(&requests, &needs) else { return Ok(()) };

            for (placement, request) in plan.secondaries.iter().zip(&requests) {
                prop_assert_eq!(placement.vm, request.vm);
                prop_assert_eq!(placement.bytes, request.bytes.next_multiple_of(PAGE));
                prop_assert_eq!(placement.pa.0 % if request.bytes < BLOCK { PAGE } else { BLOCK }, 0);
            }
            prop_assert_eq!((plan.primary.kernel_pa.0 - text_offset) % BLOCK, 0);
            prop_assert_eq!(plan.primary.ramdisk_pa.is_some(), ramdisk > 0);
            prop_assert_eq!(plan.primary.tree_pa.0 % PAGE, 0);

            let secondaries: Vec<_> = plan.secondaries.iter().map(|p| Region::new(p.pa.0, p.bytes)).collect();
            let mut things = vec![
                Region::new(plan.primary.kernel_pa.0 - text_offset, text_offset + image_size),
                Region::new(plan.primary.tree_pa.0, tree),
            ];
            things.extend(plan.primary.ramdisk_pa.map(|pa| Region::new(pa.0, ramdisk)));

            // Page by page, from the definition.
            let touches = |list: &[Region], page: Region| list.iter().any(|r| r.intersect(page).is_some());
            let bytes = |list: &[Region], page: Region| {
                list.iter().filter_map(|r| r.intersect(page)).map(|r| r.len).sum::<u64>()
            };
            for page in (0..200 * MIB / PAGE).map(|n| Region::new(n * PAGE, PAGE)) {
                let is_ram = bytes(&ram, page) == PAGE;
                let never = touches(&hypervisor, page) || touches(&reserved, page);
                let secondary = bytes(&secondaries, page);
                prop_assert!(secondary == 0 || secondary == PAGE && is_ram && !never && !touches(&loaded, page));
                let primary = bytes(&plan.primary.regions, page);
                prop_assert_eq!(primary, if is_ram && !never && secondary == 0 { PAGE } else { 0 }, "{}", page);
                let thing = things.iter().filter(|r| r.intersect(page).is_some()).count();
                prop_assert!(thing == 0 || thing == 1 && primary == PAGE && !touches(&loaded, page));
                prop_assert!(!touches(&[carved], page) || is_ram && !touches(&image, page));
            }
            prop_assert!(carved.intersect(image[0]).is_none());
            for list in [&reserved, &loaded] {
                prop_assert!(!list.iter().any(|r| carved.intersect(*r).is_some()));
            }
            prop_assert!(plan.primary.regions.is_sorted_by(|a, b| a.end() < b.base));
        }
    }
}
