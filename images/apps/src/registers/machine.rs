//! Instructions made at run time, and exceptions that are noted instead of fatal.

use core::arch::asm;
use lwk_core::memory::{self, Block};
use machine::Region;

core::arch::global_asm!(include_str!("probe.S"));

unsafe extern "C" {
    static probe_vectors: u8;
    fn probe_call(before: *const Picture, after: *mut Picture);
}

const PAGE: usize = 4096;
const RET: u32 = 0xd65f_03c0;
/// `MRS x0` (or `SYSL`) with a register's encoding at bit 5; `MSR` and `SYS` without the bit.
const READ: u32 = 0xd520_0000;
const WRITE: u32 = 0xd500_0000;
/// `PACGA x0, x0, x0`.
const PACGA: u32 = 0x9ac0_3000;
/// `CNTB x0`, an instruction of SVE.
const CNTB: u32 = 0x0420_e3e0;

/// What came of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It was executed, and left this in x0.
    Value(u64),
    /// It is undefined.
    Undefined,
    /// Another exception, with this syndrome.
    Exception(u64),
}

/// General and vector registers around a call, as `probe_call` has them.
#[derive(Clone)]
#[repr(C, align(16))]
pub(super) struct Picture {
    pub(super) x: [u64; 32],
    pub(super) q: [u128; 32],
}

impl Picture {
    pub(super) const EMPTY: Self = Self { x: [0; 32], q: [0; 32] };
}

/// A page of code to be written and executed, with interrupts masked and exceptions noted while it exists.
pub(super) struct Probe {
    page: Block,
    code: usize,
    used: usize,
    vectors: u64,
    daif: u64,
}

impl Probe {
    pub(super) fn new() -> Option<Self> {
        let page = memory::allocate(PAGE as u64)?;
        let region = Region::new(page.phys().0, PAGE as u64)?;
        // SAFETY: the page is this program's own, and holds what `assemble` writes before anything is
        // executed. That the linear map has it writable is what this program needs it for.
        let code = unsafe { memory::map_code(region) }.ok()?;
        let (vectors, daif): (u64, u64);
        // SAFETY: the vectors skip what faults; with all interrupts masked nothing but a probe does, and
        // `drop` puts the kernel's back.
        unsafe {
            asm!("mrs {0}, daif", "msr daifset, #0xf", "mrs {1}, vbar_el1", "msr vbar_el1, {2}", "isb",
                out(reg) daif, out(reg) vectors, in(reg) &raw const probe_vectors, options(nostack));
        }
        Some(Self { page, code, used: 0, vectors, daif })
    }

    /// Forgets all instructions.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    fn add(&mut self, word: u32) -> usize {
        let at = self.used;
        self.used += 1;
        self.page.as_slice::<[u32; 2]>()[at] = [word, RET];
        at
    }

    pub(super) fn add_read(&mut self, register: u16) -> usize {
        self.add(READ | u32::from(register) << 5)
    }

    pub(super) fn add_write(&mut self, register: u16) -> usize {
        self.add(WRITE | u32::from(register) << 5)
    }

    pub(super) fn add_pacga(&mut self) -> usize {
        self.add(PACGA)
    }

    pub(super) fn add_sve(&mut self) -> usize {
        self.add(CNTB)
    }

    /// Makes the added instructions executable.
    pub(super) fn assemble(&mut self) {
        let base = self.page.base().as_ptr().addr();
        for offset in (0..PAGE).step_by(16) {
            // SAFETY: cache maintenance of this page.
            unsafe { asm!("dc cvau, {}", in(reg) base + offset, options(nostack)) };
        }
        // SAFETY: as above; other cores do not execute it.
        unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack)) };
    }

    /// Executes the instruction that was added as number `at`, with `x0`.
    pub(super) fn execute(&self, at: usize, x0: u64) -> Outcome {
        let (value, noted): (u64, u64);
        // SAFETY: the page holds an instruction that uses x0 alone, and a return. What the instruction does
        // to the processor is what the caller wants to know.
        unsafe {
            asm!("blr {}", in(reg) self.code + at * 8, inlateout("x0") x0 => value, inlateout("x15") 0_u64 => noted,
                out("x16") _, out("x17") _, out("x30") _);
        }
        match noted {
            0 => Outcome::Value(value),
            // Class 0, or (FEAT_IDST, for reserved identification registers) that of trapped system
            // registers.
            esr if [0, 0x18].contains(&(esr >> 26 & 0x3f)) => Outcome::Undefined,
            esr => Outcome::Exception(esr & !(1 << 63)),
        }
    }

    /// Calls the hypervisor with the general and vector registers of `before`; `after` is what they are then.
    #[expect(
        clippy::unused_self,
        reason = "a probe has interrupts masked, which the registers are exchanged under"
    )]
    pub(super) fn call(&self, before: &Picture, after: &mut Picture) {
        // SAFETY: the function reads and writes the two pictures, and keeps the caller's registers. The calls
        // that are made, yielding and running, touch no memory of this kernel.
        unsafe { probe_call(before, after) };
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: puts back what `new` found.
        unsafe {
            asm!("msr vbar_el1, {0}", "isb", "msr daif, {1}", in(reg) self.vectors, in(reg) self.daif, options(nostack));
        }
    }
}
