//! The system's allocator, which fails when a test asks for it: each allocation of an operation can be made
//! to fail in turn.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

std::thread_local! {
    /// Allocations of this thread until one fails: 0 if none does, [`ALWAYS`] if each does.
    pub static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Makes each allocation fail, as the value of [`LEFT`].
pub const ALWAYS: u32 = u32::MAX;

/// The allocator, to be a test program's `#[global_allocator]`.
#[derive(Debug)]
pub struct FailingAllocator;

fn fails() -> bool {
    LEFT.try_with(|left| match left.get() {
        ALWAYS => true,
        now => {
            left.set(now.saturating_sub(1));
            now == 1
        }
    })
    .unwrap_or(false)
}

// SAFETY: what is not null comes from the system's allocator, and goes back to it.
unsafe impl GlobalAlloc for FailingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if fails() { core::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if fails() { core::ptr::null_mut() } else { unsafe { System.realloc(memory, layout, size) } }
    }
}
