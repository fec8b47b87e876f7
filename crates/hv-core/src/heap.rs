//! The hypervisor's heap, for boot: after the first VM has been entered nothing allocates.

use talc::{TalcLock, source::Manual};

/// A small arena within the image, for what is needed before the machine's memory is known.
const ARENA: usize = 256 * 1024;

#[repr(C, align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; ARENA]>);

// SAFETY: only the allocator touches the arena, under its lock.
unsafe impl Sync for Arena {}

static FIRST: Arena = Arena(core::cell::UnsafeCell::new([0; ARENA]));

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: TalcLock<crate::lock::Raw, Manual> = TalcLock::new(Manual);

/// Gives the arena to the heap. Once, first thing.
pub(crate) fn init() {
    // SAFETY: nothing else uses the arena.
    let _ = unsafe { HEAP.lock().claim(FIRST.0.get().cast(), ARENA) };
}

/// Gives more memory to the heap.
///
/// # Safety
/// `bytes` at `base` are mapped, writable, and used by nobody else, for ever.
pub(crate) unsafe fn add(base: u64, bytes: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { HEAP.lock().claim(base as *mut u8, bytes as usize) };
}
