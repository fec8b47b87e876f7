//! The hypervisor's own address space.
//!
//! ```text
//! 0 … 2^47              identity: devices, the pool with tables and vCPUs, during boot also RAM; and the one page of
//!                       boot code that runs while the MMU is turned on
//! IMAGE_VA              the image: text (read, execute), rodata (read), data and bss (read, write)
//! STACKS_VA             a stack for each core, with an unmapped page below it
//! WINDOWS_VA            a page for each core, through which it copies to and from a VM's memory; unmapped but for
//!                       the length of a copy
//! BUNDLE_VA             the bundle (read)
//! ```
//! Nothing is writable and executable. A VM's memory is not mapped while VMs run.
//!
//! Image and bundle are at addresses that do not depend on where they are in memory, so that boot can move them.
//!
//! The tables are VMSAv8-64's with a granule of 4 KiB and four levels (Arm ARM, D8.3). They are only ever added to, until the tables of the
//! boot are given up for those that stay.

use crate::arch::{self, ImageLayout};
use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::{
    ids::Pa,
    layout::{BLOCK, PAGE},
};

/// Where the image is linked (`hv.ld`).
pub(crate) const IMAGE_VA: u64 = 1 << 47;
const STACKS_VA: u64 = IMAGE_VA + (1 << 40);
const WINDOWS_VA: u64 = IMAGE_VA + (2 << 40);
const BUNDLE_VA: u64 = IMAGE_VA + (3 << 40);
/// Bytes of a core's stack.
pub(crate) const STACK_SIZE: u64 = 4 * PAGE;
const STACK_STRIDE: u64 = 2 * STACK_SIZE;

// Descriptors (Arm ARM, D8.3.1 and D8.3.2). Memory attributes are those of `boot.S`: 0 normal, 1 device.
const VALID: u64 = 1;
/// A table, or at the last level a page; otherwise a block.
const TABLE: u64 = 2;
const DEVICE: u64 = 1 << 2;
/// Bit 6, AP[1]: reserved, one, in a regime without EL0. Bit 10: accessed.
const BASE: u64 = VALID | 1 << 6 | 1 << 10;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Addresses have so many bits, nine for each level above pages.
const ROOT_SHIFT: u32 = 39;

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    ReadOnly,
    Data,
    Device,
}

impl Kind {
    fn attributes(self) -> u64 {
        BASE | match self {
            Self::Text => INNER_SHAREABLE | READ_ONLY,
            Self::ReadOnly => INNER_SHAREABLE | READ_ONLY | EXECUTE_NEVER,
            Self::Data => INNER_SHAREABLE | EXECUTE_NEVER,
            Self::Device => DEVICE | EXECUTE_NEVER,
        }
    }
}

/// Where the image is in physical memory, and how large: set first thing, and once more when it is about to move.
static IMAGE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Makes the place of the image known. Tables that were made before cannot be added to any more.
pub(crate) fn set_image(image: Pa, bytes: u64) {
    IMAGE[0].store(image.0, Ordering::Relaxed);
    IMAGE[1].store(bytes, Ordering::Relaxed);
}

/// Where the image is.
pub(crate) fn image() -> Pa {
    Pa(IMAGE[0].load(Ordering::Relaxed))
}

/// The physical address of something in the image or in the identity map.
pub(crate) fn physical(va: u64) -> Pa {
    if va >= IMAGE_VA { Pa(va - IMAGE_VA + image().0) } else { Pa(va) }
}

/// Where the hypervisor sees memory of its own.
pub(crate) fn virtual_address(pa: Pa) -> u64 {
    let in_image = pa.0.checked_sub(image().0).filter(|offset| *offset < IMAGE[1].load(Ordering::Relaxed));
    in_image.map_or(pa.0, |offset| IMAGE_VA + offset)
}

/// Tables are allocated so many at a time: alone, each would cost the heap two pages, because it begins at a multiple of its size.
const CHUNK: u64 = 8;

#[repr(align(4096))]
struct Pages(#[expect(dead_code, reason = "a layout")] [u64; 512 * CHUNK as usize]);

/// Tables that are allocated and not in use: the address of the first, and how many there are. Boot alone makes tables.
static SPARE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// A table: 512 descriptors.
#[derive(Clone, Copy)]
struct Table(Pa);

impl Table {
    /// An empty one, from the heap.
    fn new() -> Self {
        let [mut page, mut left] = [SPARE[0].load(Ordering::Relaxed), SPARE[1].load(Ordering::Relaxed)];
        if left == 0 {
            // SAFETY: the layout is not empty.
            page = unsafe { alloc_zeroed(Layout::new::<Pages>()) } as u64;
            left = CHUNK;
            if page == 0 {
                crate::report::fatal(format_args!("no memory left for the hypervisor's own tables"));
            }
        }
        SPARE[0].store(page + PAGE, Ordering::Relaxed);
        SPARE[1].store(left - 1, Ordering::Relaxed);
        Self(physical(page))
    }

    /// The descriptor for `va`, each of which covers `1 << shift` bytes.
    fn entry(self, va: u64, shift: u32) -> &'static AtomicU64 {
        let entries = virtual_address(self.0) as *mut u64;
        // SAFETY: tables are live for ever, and mapped where they were allocated; descriptors are only used as atomics.
        unsafe { AtomicU64::from_ptr(entries.add((va >> shift & 511) as usize)) }
    }

    /// Maps `va` to `end`, whole pages, at `va + offset`.
    fn map(self, shift: u32, mut va: u64, end: u64, offset: u64, attributes: u64) {
        while va < end {
            let size = 1 << shift;
            let (start, next) = (va & !(size - 1), end.min((va | (size - 1)) + 1));
            let entry = self.entry(va, shift);
            let (before, pa) = (entry.load(Ordering::Relaxed), va.wrapping_add(offset));
            let is_table = shift > 12 && before & (VALID | TABLE) == VALID | TABLE;
            if shift == 12 {
                entry.store(pa | attributes | TABLE, Ordering::Relaxed);
            } else if !is_table && shift < ROOT_SHIFT && next - va == size && pa & (size - 1) == 0 {
                entry.store(pa | attributes, Ordering::Relaxed);
            } else {
                let table = if is_table { Self(Pa(before & ADDRESS)) } else { Self::new() };
                if !is_table && before & VALID != 0 {
                    // A part of a block will be something else.
                    let offset = (before & ADDRESS).wrapping_sub(start);
                    table.map(shift - 9, start, start + size, offset, before & !ADDRESS);
                }
                table.map(shift - 9, va, next, offset, attributes);
                entry.store(table.0.0 | VALID | TABLE, Ordering::Relaxed);
            }
            if before & VALID != 0 && !is_table {
                arch::flush_el2_page(va);
            }
            va = next;
        }
    }
}

/// EL2 tables being built.
pub(crate) struct El2Map {
    root: Table,
}

impl El2Map {
    /// Tables that map the image, with its permissions, and nothing else.
    pub(crate) fn new(layout: &ImageLayout) -> Self {
        let mut map = Self { root: Table::new() };
        let offset = physical;
        map.map(layout.start, offset(layout.start), layout.text_end - layout.start, Kind::Text);
        map.map(
            layout.text_end,
            offset(layout.text_end),
            layout.rodata_end - layout.text_end,
            Kind::ReadOnly,
        );
        let guard = layout.boot_stack - PAGE;
        map.map(layout.rodata_end, offset(layout.rodata_end), guard - layout.rodata_end, Kind::Data);
        map.map(layout.boot_stack, offset(layout.boot_stack), layout.end - layout.boot_stack, Kind::Data);
        // The first pages of the text, where another core turns its MMU on.
        map.map(image().0, image(), 2 * PAGE, Kind::Text);
        map
    }

    #[inline(never)]
    fn map(&mut self, va: u64, pa: Pa, bytes: u64, kind: Kind) {
        self.root.map(ROOT_SHIFT, va, va + bytes, pa.0.wrapping_sub(va), kind.attributes());
        // If these tables are in use, from here on as they are now.
        arch::flush_el2_page(va);
    }

    /// Maps `bytes` at `pa`, widened to whole pages, at the same virtual address.
    pub(crate) fn identity(&mut self, pa: u64, bytes: u64, kind: Kind) {
        let start = pa & !(PAGE - 1);
        let end = (pa + bytes).next_multiple_of(PAGE);
        self.map(start, Pa(start), end - start, kind);
    }

    /// Maps the `bytes` of the bundle at `pa`; returns where it begins, which depends on its distance from a 2 MiB boundary alone.
    pub(crate) fn bundle(&mut self, pa: u64, bytes: u64) -> u64 {
        let va = BUNDLE_VA + pa % BLOCK;
        let (first, end) = (va & !(PAGE - 1), (va + bytes).next_multiple_of(PAGE));
        self.map(first, Pa(pa & !(PAGE - 1)), end - first, Kind::ReadOnly);
        va
    }

    /// Gives core `index` the stack at `pa`; returns its top.
    pub(crate) fn stack(&mut self, index: u16, pa: Pa) -> u64 {
        let base = STACKS_VA + u64::from(index) * STACK_STRIDE + STACK_SIZE;
        self.map(base, pa, STACK_SIZE, Kind::Data);
        base + STACK_SIZE
    }

    /// Gives core `index` its window. The tables must not be extended around it afterwards.
    pub(crate) fn window(&mut self, index: u16) -> Window {
        let va = WINDOWS_VA + u64::from(index) * 2 * PAGE;
        // Maps any page, so that the table that holds the descriptor exists, and takes it away again.
        self.map(va, image(), PAGE, Kind::ReadOnly);
        let descriptor = self.descriptor(va);
        descriptor.store(0, Ordering::Relaxed);
        Window { va, descriptor }
    }

    /// The last descriptor of `va`, which is mapped by a page.
    fn descriptor(&self, va: u64) -> &'static AtomicU64 {
        let mut table = self.root;
        for shift in [39, 30, 21] {
            table = Table(Pa(table.entry(va, shift).load(Ordering::Relaxed) & ADDRESS));
        }
        table.entry(va, 12)
    }

    /// The physical address of the root.
    pub(crate) fn root(&self) -> Pa {
        self.root.0
    }
}

/// Whether an address lies in a core's stack.
pub(crate) fn is_stack(va: u64) -> bool {
    let span = STACKS_VA..STACKS_VA + STACK_STRIDE * 4096;
    span.contains(&va)
        && (va - STACKS_VA) % STACK_STRIDE >= STACK_SIZE
        && !(va + 16 - STACKS_VA).is_multiple_of(STACK_STRIDE)
}

/// A page of address space for copies, of one core.
pub(crate) struct Window {
    va: u64,
    descriptor: &'static AtomicU64,
}

impl Window {
    /// A window that leads nowhere.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn nowhere() -> Self {
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        Self { va: 0, descriptor: &NOWHERE }
    }

    /// Host tests: memory is a map of pages.
    #[cfg(any(test, feature = "testing"))]
    #[allow(clippy::unused_self, reason = "mirrors the real one")]
    pub(crate) fn with_page(&self, pa: Pa, work: impl FnOnce(&mut [u8])) {
        crate::testing::with_page(pa, work);
    }

    /// Runs `work` on the page at `pa`, which is RAM, mapped just for that long.
    #[cfg(not(any(test, feature = "testing")))]
    pub(crate) fn with_page(&self, pa: Pa, work: impl FnOnce(&mut [u8])) {
        self.set(pa.0 | Kind::Data.attributes() | TABLE);
        // SAFETY: the page is mapped here for this core alone. A VM may write it at the same time: what is read from
        // it is bytes, which have no invalid values, and callers copy them once before they look.
        work(unsafe { core::slice::from_raw_parts_mut(self.va as *mut u8, PAGE as usize) });
        self.set(0);
    }

    /// Changes what is behind the window.
    #[cfg(not(any(test, feature = "testing")))]
    #[inline(never)]
    fn set(&self, descriptor: u64) {
        self.descriptor.store(descriptor, Ordering::Relaxed);
        crate::arch::flush_el2_page(self.va);
    }
}
