//! The hypervisor's heap, for boot: after the first VM has been entered nothing allocates.

use core::alloc::{GlobalAlloc, Layout};
use talc::{TalcLock, source::Manual};

/// A small arena within the image, for what is needed before the machine's memory is known.
const ARENA: usize = 256 * 1024;

#[repr(C, align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; ARENA]>);

// SAFETY: only the allocator touches the arena, under its lock.
unsafe impl Sync for Arena {}

static FIRST: Arena = Arena(core::cell::UnsafeCell::new([0; ARENA]));

/// `talc`, without its way to grow in place: what the boot allocates is not worth the code.
struct Heap(TalcLock<crate::lock::Raw, Manual>);

// SAFETY: `talc`'s promises.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(memory, layout) }
    }
}

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: Heap = Heap(TalcLock::new(Manual));

/// Gives the arena to the heap. Once, first thing.
pub(crate) fn init() {
    // SAFETY: nothing else uses the arena.
    let _ = unsafe { HEAP.0.lock().claim(FIRST.0.get().cast(), ARENA) };
}

/// Gives more memory to the heap.
///
/// # Safety
/// `bytes` at `base` are mapped, writable, and used by nobody else, for ever.
pub(crate) unsafe fn add(base: u64, bytes: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { HEAP.0.lock().claim(base as *mut u8, bytes as usize) };
}
