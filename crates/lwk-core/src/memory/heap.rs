//! The kernel's heap: `talc`, fed from free memory as it grows.

use super::{failing, physical};
use crate::sync::RawIrqLock;
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::null_mut,
};
use talc::{TalcLock, base::Talc, base::binning::Binning, source::Source};

/// The heap grows by at least this much: one block of the linear map.
const STEP: u64 = 2 << 20;

#[global_allocator]
static HEAP: Heap = Heap(TalcLock::new(Grow));

/// The allocator, of which tests can have an allocation fail.
struct Heap(TalcLock<RawIrqLock, Grow>);

// SAFETY: what is not null comes from `talc`, and goes back to it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if failing::fails() {
            return null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && failing::fails() {
            return null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.realloc(memory, layout, size) }
    }
}

/// Takes physical memory whenever the heap is full.
#[derive(Debug)]
struct Grow;

// SAFETY: `acquire` claims memory that it has just taken from free physical memory, which is mapped
// read-write and used by nobody else, and touches no other part of the allocator.
unsafe impl Source for Grow {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own records, also when this is the first heap.
        let wanted = (layout.size() + layout.align()) as u64 + 16 * 1024;
        let size = wanted.next_multiple_of(STEP);
        let phys = physical::take(size).ok_or(())?;
        // SAFETY: as above.
        unsafe { talc.claim(phys.linear(), size as usize) }.map(drop).ok_or(())
    }
}
