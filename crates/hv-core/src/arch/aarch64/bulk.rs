//! Zeroing and copying of pages. `memset` and `memcpy` of a hypervisor that is built for size go byte by byte where addresses are not aligned, which is
//! ten instructions and more for one of these.

use core::arch::asm;

/// Fills memory with zeroes.
pub(crate) fn zero(to: &mut [u8]) {
    let whole = to.len() & !63;
    let at = to.as_mut_ptr();
    // SAFETY: stores of `whole` bytes from the start of the slice on, 64 at a time; unaligned ones are allowed in normal memory (SCTLR_EL2.A is 0).
    unsafe {
        asm!(
            "cbz {left}, 2f",
            "1:",
            "stp xzr, xzr, [{at}]",
            "stp xzr, xzr, [{at}, #16]",
            "stp xzr, xzr, [{at}, #32]",
            "stp xzr, xzr, [{at}, #48]",
            "add {at}, {at}, #64",
            "subs {left}, {left}, #64",
            "b.ne 1b",
            "2:",
            at = inout(reg) at => _, left = inout(reg) whole => _, options(nostack)
        );
    }
    to[whole..].fill(0);
}

/// Copies `from` to the start of `to`, which is at least as long.
pub(crate) fn copy_bytes(to: &mut [u8], from: &[u8]) {
    let to = &mut to[..from.len()];
    let whole = from.len() & !15;
    // SAFETY: as in `zero`, 16 bytes at a time; both slices have that many, and do not overlap, because one of them is exclusive.
    unsafe {
        asm!(
            "cbz {left}, 2f",
            "1:",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "subs {left}, {left}, #16",
            "b.ne 1b",
            "2:",
            a = out(reg) _, b = out(reg) _, from = inout(reg) from.as_ptr() => _,
            to = inout(reg) to.as_mut_ptr() => _, left = inout(reg) whole => _, options(nostack)
        );
    }
    to[whole..].copy_from_slice(&from[whole..]);
}
