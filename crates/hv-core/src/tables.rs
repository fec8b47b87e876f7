//! Memory for stage-2 tables at EL2: pages of the heap.

use crate::{
    arch,
    el2_map::{physical, virtual_address},
};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::ids::{Ipa, Pa};
use stage2_mmu::{PAGE_SIZE, TableMemory};

/// Table memory of the VM behind a VTTBR.
pub(crate) struct Tables {
    vttbr: u64,
}

impl Tables {
    /// For a VM that has not been built yet: nothing can be in a TLB.
    pub(crate) fn for_new_vm() -> Self {
        Self { vttbr: 0 }
    }

    /// For the VM behind `vttbr`.
    pub(crate) fn for_vm(vttbr: u64) -> Self {
        Self { vttbr }
    }

    fn layout(pages: usize) -> Option<Layout> {
        let bytes = pages * PAGE_SIZE as usize;
        Layout::from_size_align(bytes, bytes).ok()
    }

    fn entry(table: Pa, index: usize) -> &'static AtomicU64 {
        // SAFETY: `table` came from `allocate` of this type, whose pages are mapped, and is in use as a table;
        // `stage2-mmu` keeps indices within it. Entries are only ever accessed as atomics.
        unsafe { AtomicU64::from_ptr((virtual_address(table) as *mut u64).add(index)) }
    }
}

impl TableMemory for Tables {
    fn allocate(&mut self, count: usize) -> Option<Pa> {
        let layout = Self::layout(count)?;
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc_zeroed(layout) };
        (!page.is_null()).then(|| physical(page as u64))
    }

    fn free(&mut self, table: Pa) {
        if let Some(layout) = Self::layout(1) {
            // SAFETY: allocated with this layout, and out of use, as the trait says.
            unsafe { dealloc(virtual_address(table) as *mut u8, layout) };
        }
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        Self::entry(table, index).load(Ordering::Relaxed)
    }

    fn write(&mut self, table: Pa, index: usize, value: u64) {
        Self::entry(table, index).store(value, Ordering::Release);
    }

    fn synchronise(&mut self, ipa: Ipa, len: u64) {
        if len == 0 || self.vttbr == 0 {
            arch::publish_tables();
        } else {
            arch::flush_stage2(self.vttbr, ipa, len);
        }
    }
}
