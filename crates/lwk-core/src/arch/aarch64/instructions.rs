//! Single instructions, and short sequences that belong together.

use crate::{memory::Phys, percore::PerCore};
use aarch64_cpu::{
    asm::barrier,
    registers::{DAIF, MPIDR_EL1, ReadWriteable, Readable, SCTLR_EL1, TPIDR_EL1, TTBR0_EL1, Writeable},
};
use core::arch::asm;

/// Masks IRQs on this core; returns what [`restore_interrupts`] wants.
#[inline]
pub fn mask_interrupts() -> u64 {
    let before = DAIF.get();
    // SAFETY: masking interrupts harms nobody. Memory accesses stay on their side of it.
    unsafe { asm!("msr daifset, #2", options(nostack, preserves_flags)) };
    before
}

/// Puts the interrupt mask back.
#[inline]
pub fn restore_interrupts(before: u64) {
    // SAFETY: the value was read from the same register. Memory accesses stay on their side of it.
    unsafe { asm!("msr daif, {}", in(reg) before, options(nostack, preserves_flags)) };
}

/// Lets IRQs and SErrors in on this core.
#[inline]
pub fn unmask_interrupts() {
    // SAFETY: the vectors are in place before anything unmasks interrupts.
    unsafe { asm!("msr daifclr, #6", options(nostack, preserves_flags)) };
}

/// Waits for an interrupt, also a masked one.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: WFI has no effect but to wait. What was written before is visible to whoever sends the
    // interrupt.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Stops this core.
pub fn halt() -> ! {
    loop {
        mask_interrupts();
        wait_for_interrupt();
    }
}

/// The per-core data of this core.
#[inline]
pub fn per_core() -> *const PerCore {
    core::ptr::with_exposed_provenance(TPIDR_EL1.get() as usize)
}

/// This core's affinity.
pub fn mpidr() -> machine::Mpidr {
    machine::Mpidr::new(MPIDR_EL1.get())
}

/// Makes entries of the translation tables that were invalid before take effect.
pub fn table_written() {
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
}

/// Replaces the lower half's table by `empty`, and makes writable memory not executable, whatever the tables
/// say.
///
/// # Safety
/// Nothing in the lower half is in use, and no writable mapping is executed.
pub unsafe fn enforce_wx(empty: Phys) {
    TTBR0_EL1.set(empty.0);
    SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
    barrier::isb(barrier::SY);
    // SAFETY: TLB maintenance; everything in use is in the upper half, whose entries are fetched again.
    unsafe { asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Writes the cache lines of a value back to memory, for a core whose MMU and caches are off.
pub fn clean_to_memory<T>(value: &T) {
    let start = core::ptr::from_ref(value).addr();
    // The smallest line that any implementation has is 16 bytes; cleaning one twice is harmless.
    for line in (start & !15..start + size_of::<T>()).step_by(16) {
        // SAFETY: cleaning a cache line by the address of memory that is mapped changes nothing that code can
        // see.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    barrier::dsb(barrier::SY);
}

/// Returns whether the 8 bytes at `address` can be read.
pub fn is_readable(address: usize) -> bool {
    if !address.is_multiple_of(8) {
        return false;
    }
    let par: u64;
    // SAFETY: an address translation instruction has no effect but in PAR_EL1, which nothing else uses.
    unsafe {
        asm!("at s1e1r, {}", "isb", "mrs {}, par_el1", in(reg) address, out(reg) par,
            options(nostack, preserves_flags));
    }
    par & 1 == 0
}

/// The frame pointer.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it would be this function's own otherwise")]
pub fn frame_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Calls firmware by SMC: the function and its arguments; returns x0.
pub fn smc([function, a, b, c]: [u64; 4]) -> u64 {
    let mut arguments = [0; 17];
    arguments[..3].copy_from_slice(&[a, b, c]);
    smccc::smc64(function as u32, arguments)[0]
}

/// A word of the processor's random number generator (FEAT_RNG), if it has one and it has a word.
#[cfg(programs)]
pub fn random() -> Option<u64> {
    let (features, word, failed): (u64, u64, u64);
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) features, options(nomem, nostack, preserves_flags)) };
    if features >> 60 == 0 {
        return None;
    }
    // SAFETY: reads RNDR, which the processor has.
    unsafe {
        asm!("mrs {}, S3_3_C2_C4_0", "cset {}, eq", out(reg) word, out(reg) failed, options(nomem, nostack));
    };
    (failed == 0).then_some(word)
}

/// Returns the interrupted PC; call it in the handler, before interrupts are unmasked.
pub fn interrupted_pc() -> u64 {
    aarch64_cpu::registers::ELR_EL1.get()
}
