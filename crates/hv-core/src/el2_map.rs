//! The hypervisor's own address space.
//!
//! ```text
//! 0 … 2^47              identity: devices, the pool with tables and vCPUs, during boot also RAM; and the one page of
//!                       boot code that runs while the MMU is turned on
//! IMAGE_VA              the image: text (read, execute), rodata (read), data and bss (read, write)
//! STACKS_VA             a stack for each core, with an unmapped page below it
//! WINDOWS_VA            a page for each core, through which it copies to and from a VM's memory; unmapped but for
//!                       the length of a copy
//! ```
//! Nothing is writable and executable. A VM's memory is not mapped while VMs run.

use crate::arch::ImageLayout;
use aarch64_paging::{
    descriptor::{El23Attributes as A, PhysicalAddress},
    paging::{Constraints, El2, MemoryRegion, PageTable, RootTable, Translation},
};
use alloc::alloc::{Layout, alloc_zeroed};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};
use hv_abi::{ids::Pa, layout::PAGE};

/// Where the image is linked (`hv.ld`).
pub(crate) const IMAGE_VA: u64 = 1 << 47;
const STACKS_VA: u64 = IMAGE_VA + (1 << 40);
const WINDOWS_VA: u64 = IMAGE_VA + (2 << 40);
/// Bytes of a core's stack.
pub(crate) const STACK_SIZE: u64 = 4 * PAGE;
const STACK_STRIDE: u64 = 2 * STACK_SIZE;

const NORMAL: A = A::ATTRIBUTE_INDEX_0.union(A::INNER_SHAREABLE);
const DEVICE: A = A::ATTRIBUTE_INDEX_1;
const BASE: A = A::VALID.union(A::ACCESSED).union(A::USER_RES1);

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    ReadOnly,
    Data,
    Device,
}

impl Kind {
    fn attributes(self) -> A {
        BASE | match self {
            Self::Text => NORMAL | A::READ_ONLY,
            Self::ReadOnly => NORMAL | A::READ_ONLY | A::XN,
            Self::Data => NORMAL | A::XN,
            Self::Device => DEVICE | A::XN,
        }
    }
}

/// Where the image is in physical memory, and how large: set once, first thing.
static IMAGE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Makes the place of the image known.
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

/// Where table pages come from, and how they are reached: the heap.
struct HeapTables;

impl Translation<A> for HeapTables {
    fn allocate_table(&mut self) -> (NonNull<PageTable<A>>, PhysicalAddress) {
        let layout = Layout::new::<PageTable<A>>();
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc_zeroed(layout) }.cast();
        let Some(page) = NonNull::new(page) else {
            crate::report::fatal(format_args!("no memory left for the hypervisor's own tables"))
        };
        (page, PhysicalAddress(physical(page.as_ptr() as u64).0 as usize))
    }

    unsafe fn deallocate_table(&mut self, _: NonNull<PageTable<A>>) {
        // Tables are only ever added to; see the crate's Drop.
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<A>> {
        let va = virtual_address(Pa(pa.0 as u64));
        NonNull::new(va as *mut PageTable<A>).unwrap_or(NonNull::dangling())
    }
}

/// EL2 tables being built.
pub(crate) struct El2Map {
    root: RootTable<El2, HeapTables>,
}

impl El2Map {
    /// Tables that map the image, with its permissions, and nothing else.
    pub(crate) fn new(layout: &ImageLayout) -> Self {
        let mut map = Self { root: RootTable::new(HeapTables, 0, El2) };
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

    fn map(&mut self, va: u64, pa: Pa, bytes: u64, kind: Kind) {
        let region = MemoryRegion::new(va as usize, (va + bytes) as usize);
        let constraints = Constraints::NO_CONTIGUOUS_HINT;
        let pa = PhysicalAddress(pa.0 as usize);
        if self.root.map_range(&region, pa, kind.attributes(), constraints).is_err() {
            crate::report::fatal(format_args!("cannot map {va:#x} for the hypervisor"));
        }
    }

    /// Maps `bytes` at `pa`, widened to whole pages, at the same virtual address.
    pub(crate) fn identity(&mut self, pa: u64, bytes: u64, kind: Kind) {
        let start = pa & !(PAGE - 1);
        let end = (pa + bytes).next_multiple_of(PAGE);
        self.map(start, Pa(start), end - start, kind);
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

    /// The level 3 descriptor of `va`, which is mapped by a page.
    fn descriptor(&self, va: u64) -> &'static AtomicU64 {
        let mut table = self.root();
        for level in 0..4u32 {
            let index = (va >> (39 - 9 * level)) & 511;
            let page = self.root.translation().physical_to_virtual(PhysicalAddress(table.0 as usize));
            // SAFETY: `table` is a live table of this tree, mapped where the translation says; descriptors are atomic.
            let entry = unsafe { AtomicU64::from_ptr(page.as_ptr().cast::<u64>().add(index as usize)) };
            if level == 3 {
                return entry;
            }
            table = Pa(entry.load(Ordering::Relaxed) & 0x0000_ffff_ffff_f000);
        }
        crate::report::fatal(format_args!("the hypervisor's tables do not map {va:#x}"))
    }

    /// The physical address of the root.
    pub(crate) fn root(&self) -> Pa {
        Pa(self.root.to_physical().0 as u64)
    }

    /// Keeps the tables for ever.
    pub(crate) fn leak(self) -> Pa {
        let root = self.root();
        core::mem::forget(self);
        root
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
        let attributes = Kind::Data.attributes().bits() as u64 | A::TABLE_OR_PAGE.bits() as u64;
        self.set(pa.0 | attributes);
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
