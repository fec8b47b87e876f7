//! AArch64, EL1.

mod frame;
mod instructions;
#[cfg(programs)]
mod user;

pub use frame::TrapFrame;
pub use instructions::*;
#[cfg(programs)]
pub use user::*;

use crate::{memory::Phys, percore};
use core::ops::Range;

core::arch::global_asm!(include_str!("boot.S"));
core::arch::global_asm!(
    include_str!("vectors.S"),
    REPORT_STACK = const percore::REPORT_STACK_OFFSET,
    NEON = const NEON,
);
core::arch::global_asm!(include_str!("switch.S"), NEON = const NEON);

/// Whether the kernel itself uses FP/SIMD registers. If not, they are the programs' alone.
const NEON: usize = cfg!(target_feature = "neon") as usize;

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __symbols_start: u8;
    static __symbols_end: u8;
    static __empty_table: u8;
    static __boot_stack_bottom: u8;
    static __image_end: u8;
    pub(crate) static __report_stack_top: u8;

    fn lwk_secondary_entry();
    fn lwk_change_tables(root: u64, image: u64);
    fn lwk_switch(save: *mut usize, restore: usize);
    fn lwk_task_entry();
}

/// Addresses of the image's parts, from the linker script.
#[derive(Clone, Debug)]
pub struct Image {
    /// Code.
    pub text: Range<usize>,
    /// Constants.
    pub rodata: Range<usize>,
    /// Variables, up to the guard page of the boot stack.
    pub data: Range<usize>,
    /// Boot stack and report stack.
    pub stacks: Range<usize>,
    /// A translation table without an entry.
    pub empty_table: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Returns the image.
pub fn image() -> Image {
    let [start, text, rodata, stack, empty_table, end] = [
        &raw const __image_start,
        &raw const __text_end,
        &raw const __rodata_end,
        &raw const __boot_stack_bottom,
        &raw const __empty_table,
        &raw const __image_end,
    ]
    .map(<*const u8>::addr);
    Image {
        text: start..text,
        rodata: text..rodata,
        data: rodata..stack - 4096,
        stacks: stack..end,
        empty_table,
        end,
    }
}

/// The bytes of the image's symbol table.
pub fn symbol_table() -> &'static [u8] {
    let (start, end) = (&raw const __symbols_start, &raw const __symbols_end);
    // SAFETY: the linker script lays the section out between these two symbols, in read-only memory.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Returns the physical entry point of secondary cores.
pub fn secondary_entry() -> usize {
    lwk_secondary_entry as *const () as usize
}

/// Data that a starting core reads with its MMU off; `boot.S` depends on the field order.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct CoreStart {
    /// Physical address of the translation tables' root.
    pub root: u64,
    /// The address after its stack.
    pub stack_top: u64,
    /// Its per-core data.
    pub per_core: &'static percore::PerCore,
}

/// Switches this core from the early tables to the table at `root`.
///
/// # Safety
/// The new tables map everything that is in use at the same address as the old ones.
pub unsafe fn change_tables(root: Phys, image: Phys) {
    // SAFETY: the early tables hold the identity map of the image, as `lwk_change_tables` needs; the rest is
    // the caller's duty.
    unsafe { lwk_change_tables(root.0, image.0) };
}

/// The stack of a task that has not run yet, laid out so that [`switch`] enters `lwk_task_main()`.
///
/// # Safety
/// `top` is the end of a stack that nobody uses.
pub unsafe fn prepare_stack(top: usize) -> usize {
    const CONTEXT_WORDS: usize = 20;
    let sp = top - CONTEXT_WORDS * 8;
    let words = core::ptr::with_exposed_provenance_mut::<usize>(sp);
    // SAFETY: the stack is the caller's to give, and larger than a context. x29 and x30 come first.
    unsafe {
        words.write_bytes(0, CONTEXT_WORDS);
        words.add(1).write(lwk_task_entry as *const () as usize);
    }
    sp
}

/// Saves this context in `save` and continues the one at `restore`.
///
/// # Safety
/// `restore` is a stack pointer that [`switch`] saved or [`prepare_stack`] made, used once. Interrupts are
/// masked.
#[inline]
pub unsafe fn switch(save: *mut usize, restore: usize) {
    // SAFETY: the caller's duty.
    unsafe { lwk_switch(save, restore) };
}
