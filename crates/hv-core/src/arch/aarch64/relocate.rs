//! The move of the hypervisor to another place in memory: `relocate.S`.

use hv_abi::ids::Pa;

unsafe extern "C" {
    fn hv_copy(to: *mut u8, from: *const u8, bytes: usize);
    fn hv_zero(at: *mut u8, bytes: usize);
    fn hv_move_image(to: u64, from: u64, root: u64);
}

/// Copies bytes at boot, in the fewest instructions.
///
/// # Safety
/// `to` is writable and overlaps nothing that is in use, and no VM has run on this core.
pub(crate) unsafe fn copy(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's promise; the registers that it changes are free in C's convention, and FP/SIMD belongs to nobody yet.
    unsafe { hv_copy(to, from.as_ptr(), from.len()) };
}

/// Zeroes memory at boot, and leaves nothing of it in a cache.
///
/// # Safety
/// The memory is writable and not in use, and no VM has run on this core.
pub(crate) unsafe fn scrub(at: u64, bytes: u64) {
    // SAFETY: the caller's promise.
    unsafe { hv_zero(at as *mut u8, bytes as usize) };
    super::clean_data(at as usize, bytes as usize);
}

/// Moves the image from physical address `from` to `to`, and this core with it.
///
/// # Safety
/// The tables in use map the new place writable at its physical address, and the first pages of the old one executable at theirs.
/// Those at `root`, which lies in the new place, map the image there and all else that is in use.
pub(crate) unsafe fn move_image(to: Pa, from: Pa, root: Pa) {
    // SAFETY: the caller's promise. What is written between the copy and the exchange of tables is registers.
    unsafe { hv_move_image(to.0, from.0, root.0) };
}
