//! Programs, as the processor sees them. The assembly is in `user.S`.

use crate::memory::Phys;
use aarch64_cpu::{
    asm::barrier,
    registers::{CNTKCTL_EL1, ReadWriteable, Readable, SCTLR_EL1, TPIDR_EL0, TTBR0_EL1, Writeable},
};
use core::arch::asm;

core::arch::global_asm!(include_str!("user.S"));

unsafe extern "C" {
    fn lwk_copy_from_user(to: *mut u8, from: u64, bytes: usize) -> usize;
    fn lwk_copy_to_user(to: u64, from: *const u8, bytes: usize) -> usize;
    fn lwk_load_user_u32(from: u64) -> u64;
    fn lwk_enter_user(frame: *const UserFrame, thread: *const ());
    fn lwk_leave_user(frame: *const UserFrame) -> !;
    fn lwk_save_user(state: *mut UserState);
    fn lwk_switch_user(save: *mut usize, restore: usize, state: *mut UserState);
    fn lwk_restore_user(state: *const UserState);
    fn lwk_zero(start: *mut u8, bytes: usize);
    fn lwk_copy(to: *mut u8, from: *const u8, bytes: usize);
}

/// A program's general registers while its thread is in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct UserFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// `SPSR_EL1`.
    pub pstate: u64,
}

const _: () = assert!(size_of::<UserFrame>() == 272);

/// Lazily switched registers of a thread: they stay in the core in system calls, and are saved when another
/// thread runs.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct UserState {
    /// `FPSR`.
    pub fpsr: u64,
    /// `FPCR`.
    pub fpcr: u64,
    /// `TPIDR_EL0`: the thread pointer.
    pub thread_pointer: u64,
    /// `TTBR0_EL1`: the address space.
    pub tables: u64,
    /// q0 to q31.
    pub q: [u128; 32],
}

// For `user.S`.
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(UserState, fpsr) == 0 && offset_of!(UserState, fpcr) == 8);
    assert!(offset_of!(UserState, thread_pointer) == 16 && offset_of!(UserState, tables) == 24);
    assert!(offset_of!(UserState, q) == 32);
};

/// Condition flags: all of PSTATE that a program can set with `rt_sigreturn`.
const USER_PSTATE: u64 = 0xf000_0000;

impl UserFrame {
    /// A program's start.
    pub fn new(pc: u64, sp: u64) -> Self {
        Self { sp, pc, ..Self::default() }
    }

    /// Takes what a program may say of its PSTATE: EL0 in AArch64, interrupts on.
    pub const fn set_pstate(&mut self, pstate: u64) {
        self.pstate = pstate & USER_PSTATE;
    }
}

/// Saves FP/SIMD registers and thread pointer. The address space does not change behind the kernel's back.
///
/// # Safety
/// `state` is valid, and nobody else uses it.
#[inline]
pub unsafe fn save_user(state: *mut UserState) {
    // SAFETY: the caller's duty.
    unsafe { lwk_save_user(state) };
}

/// [`save_user`], then [`switch`](super::switch).
///
/// # Safety
/// As of both.
#[inline]
pub unsafe fn switch_user(save: *mut usize, restore: usize, state: *mut UserState) {
    // SAFETY: the caller's duty.
    unsafe { lwk_switch_user(save, restore, state) };
}

/// Restores all of it.
///
/// # Safety
/// `state` is valid, and its tables are those of an address space that lives while the thread runs.
#[inline]
pub unsafe fn restore_user(state: *const UserState) {
    // SAFETY: the caller's duty.
    unsafe { lwk_restore_user(state) };
}

/// The running thread's pointer to its own data.
pub fn thread_pointer() -> u64 {
    TPIDR_EL0.get()
}

/// The value of `TTBR0_EL1` for a root table and an address space number.
pub const fn user_tables(root: Phys, asid: u16) -> u64 {
    root.0 | (asid as u64) << 48
}

fn set_user_tables(tables: u64) {
    TTBR0_EL1.set(tables);
    barrier::isb(barrier::SY);
}

/// Leaves the address space: the lower half is empty.
pub fn leave_user_tables() {
    set_user_tables(crate::memory::empty_table().0);
}

/// Enters a program on the running task's kernel stack; returns when the thread [leaves](leave_user).
///
/// # Safety
/// `thread` begins with the word that says whether there is work before the program goes on, and lives until
/// this returns. The state has been given to the scheduler.
pub unsafe fn enter_user(frame: &UserFrame, state: *const UserState, thread: *const ()) {
    let before = super::mask_interrupts();
    // SAFETY: the state is the thread's, and has the tables of its address space.
    unsafe {
        restore_user(state);
        lwk_enter_user(frame, thread);
    }
    super::restore_interrupts(before);
}

/// Leaves the program for good: [`enter_user`] returns.
///
/// # Safety
/// The frame is the one that the program's entry into the kernel made, on this stack; nothing between is to
/// be dropped.
pub unsafe fn leave_user(frame: &UserFrame) -> ! {
    // SAFETY: the caller's duty.
    unsafe { lwk_leave_user(frame) }
}

/// Copies from the program's memory; how many bytes could not be.
pub fn copy_from_user(from: u64, to: &mut [u8]) -> usize {
    // SAFETY: the slice is writable; the program's memory is read as the program would read it, and a fault
    // ends it.
    unsafe { lwk_copy_from_user(to.as_mut_ptr(), from, to.len()) }
}

/// Copies to the program's memory; how many bytes could not be.
pub fn copy_to_user(to: u64, from: &[u8]) -> usize {
    // SAFETY: the slice is readable; the program's memory is written as the program would write it, a fault
    // ends it.
    unsafe { lwk_copy_to_user(to, from.as_ptr(), from.len()) }
}

/// Reads a word of the program's memory, at once; `None` after a fault.
pub fn load_user_u32(from: u64) -> Option<u32> {
    // SAFETY: reads as the program would; a fault ends it.
    u32::try_from(unsafe { lwk_load_user_u32(from) }).ok()
}

/// Zeroes whole pages.
///
/// # Safety
/// They are ordinary memory, and nobody else's.
pub unsafe fn zero_pages(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller's duty.
        unsafe { lwk_zero(start, bytes) };
    }
}

/// Copies to memory of a program, by the kernel's own address of it.
///
/// # Safety
/// `to` is writable for as many bytes, and no Rust reference is to them.
pub unsafe fn copy_to_memory(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's duty.
    unsafe { lwk_copy(to, from.as_ptr(), from.len()) };
}

/// Makes changes of an address space's tables take effect on all cores.
pub fn invalidate_space(asid: u16) {
    let operand = u64::from(asid) << 48;
    // SAFETY: TLB maintenance; what is in use is fetched again.
    unsafe {
        asm!("dsb ishst", "tlbi aside1is, {}", "dsb ish", "isb", in(reg) operand,
            options(nostack, preserves_flags));
    }
}

/// Makes changes of a few pages of an address space take effect on all cores.
pub fn invalidate_pages(asid: u16, start: u64, pages: u64) {
    // SAFETY: as above.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
    for page in 0..pages {
        let operand = u64::from(asid) << 48 | ((start >> 12) + page) & 0xfff_ffff_ffff;
        // SAFETY: as above.
        unsafe { asm!("tlbi vae1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
    }
    // SAFETY: as above.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Makes what was written to memory visible to instruction fetches on all cores.
pub fn synchronise_code(start: *const u8, bytes: usize) {
    let start = start.addr();
    let caches: usize;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    // CTR_EL0.DminLine: words, as a power of two.
    let size = 4 << (caches >> 16 & 15);
    for line in (start & !(size - 1)..start + bytes).step_by(size) {
        // SAFETY: cleaning a line of mapped memory changes nothing that code can see.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: instruction caches are filled again.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Sets this core up for programs: what they may do themselves, and PAN if the core has it.
pub fn init_programs() {
    // Cache maintenance by address, CTR_EL0, DC ZVA, WFE and WFI: as on Linux. The virtual counter too.
    SCTLR_EL1.modify(
        SCTLR_EL1::UCI::DontTrap
            + SCTLR_EL1::UCT::DontTrap
            + SCTLR_EL1::DZE::DontTrap
            + SCTLR_EL1::NTWE::DontTrap
            + SCTLR_EL1::NTWI::DontTrap,
    );
    CNTKCTL_EL1.modify(CNTKCTL_EL1::EL0VCTEN::SET);
    let features: u64;
    // SAFETY: reads an identification register, and zeroes a register that programs can read.
    unsafe {
        asm!("mrs {}, id_aa64mmfr1_el1", "msr tpidrro_el0, xzr", out(reg) features,
            options(nostack, preserves_flags));
    }
    if features >> 20 & 0xf != 0 {
        // SCTLR_EL1.SPAN clear: each exception from a program sets PSTATE.PAN.
        const SPAN: u64 = 1 << 23;
        SCTLR_EL1.set(SCTLR_EL1.get() & !SPAN);
        // SAFETY: MSR PAN, #1: the kernel touches programs' memory only with unprivileged loads and stores.
        unsafe { asm!(".inst 0xd500419f", options(nostack, preserves_flags)) };
    }
    barrier::isb(barrier::SY);
}

/// `MIDR_EL1` and `REVIDR_EL1` of the calling core.
pub fn main_id() -> (u64, u64) {
    let (midr, revidr);
    // SAFETY: reads identification registers.
    unsafe {
        asm!("mrs {}, midr_el1", "mrs {}, revidr_el1", out(reg) midr, out(reg) revidr,
            options(nomem, nostack, preserves_flags));
    }
    (midr, revidr)
}

/// Returns whether the lowest affinity level is a thread of a core (`MPIDR_EL1.MT`).
pub fn has_threads() -> bool {
    const MT: u64 = 1 << 24;
    let mpidr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags)) };
    mpidr & MT != 0
}

/// The processor's identification registers.
pub fn identification() -> linux_program::hwcap::IdRegisters {
    macro_rules! read {
        ($($field:ident: $register:literal),*) => {
            linux_program::hwcap::IdRegisters {
                $($field: {
                    let value;
                    // SAFETY: reads an identification register.
                    unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
                    value
                }),*
            }
        };
    }
    read! {
        isar0: "id_aa64isar0_el1", isar1: "id_aa64isar1_el1", isar2: "S3_0_C0_C6_2", pfr0: "id_aa64pfr0_el1",
        pfr1: "id_aa64pfr1_el1", mmfr0: "id_aa64mmfr0_el1", mmfr1: "id_aa64mmfr1_el1",
        mmfr2: "id_aa64mmfr2_el1", zfr0: "S3_0_C0_C4_4"
    }
}
