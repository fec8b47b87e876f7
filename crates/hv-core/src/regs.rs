//! The registers of a vCPU as they stand in memory.

/// General registers. The assembly in `arch/aarch64/vectors.S` knows this layout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GpRegs {
    /// x0 to x30.
    pub x: [u64; 31],
    /// `ELR_EL2`: valid only while the vCPU is not loaded.
    pub pc: u64,
    /// `SPSR_EL2`: valid only while the vCPU is not loaded.
    pub spsr: u64,
}

/// `SPSR` of a vCPU that starts: EL1 with its own stack pointer, all interrupts masked (Arm ARM, C5.2.19).
const SPSR_START: u64 = 0x3c5;

impl GpRegs {
    /// Registers of a vCPU that is off.
    pub const fn new() -> Self {
        Self { x: [0; 31], pc: 0, spsr: SPSR_START }
    }

    /// Registers of a vCPU that starts at `entry` with `argument` in x0 and zero in all others (PSCI `CPU_ON`).
    pub const fn start(entry: u64, argument: u64) -> Self {
        let mut regs = Self::new();
        regs.x[0] = argument;
        regs.pc = entry;
        regs
    }

    /// Writes x0 to x7.
    #[inline(always)]
    pub fn set_results(&mut self, results: &hv_abi::Regs) {
        if let Some(x) = self.x.first_chunk_mut() {
            *x = results.0;
        }
    }

    /// Reads x0 to x7.
    #[inline(always)]
    pub fn arguments(&self) -> hv_abi::Regs {
        let [a, b, c, d, e, f, g, h, ..] = self.x;
        hv_abi::Regs([a, b, c, d, e, f, g, h])
    }
}

/// FP/SIMD registers: q0 to q31, FPSR, FPCR.
#[derive(Clone)]
#[repr(C, align(16))]
pub struct FpRegs {
    pub(crate) q: [u128; 32],
    pub(crate) fpsr: u64,
    pub(crate) fpcr: u64,
}

impl FpRegs {
    pub(crate) const fn new() -> Self {
        Self { q: [0; 32], fpsr: 0, fpcr: 0 }
    }
}

/// Pointer authentication keys: IA, IB, DA, DB, GA, low half and high.
#[derive(Clone, Debug, Default)]
pub struct Keys(pub(crate) [[u64; 2]; 5]);

// SPSR_EL2 from AArch64 (Arm ARM, C5.2.20) and what an exception makes of it.
const SPSR_NZCV: u64 = 0xf << 28;
const SPSR_DIT: u64 = 1 << 24;
const SPSR_PAN: u64 = 1 << 22;
const SPSR_SSBS: u64 = 1 << 12;
const SPSR_AARCH32: u64 = 1 << 4;
/// `SCTLR_EL1.SPAN`: an exception leaves PAN as it is.
const SCTLR_SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`: the value of SSBS after an exception.
const SCTLR_DSSBS: u64 = 1 << 44;

/// A synchronous exception to EL1, taken where PSTATE is `spsr` and `SCTLR_EL1` is `sctlr`: the vector's offset and the
/// new PSTATE (Arm ARM, D1.3.1 and `AArch64.TakeException`).
pub(crate) const fn exception_entry(spsr: u64, sctlr: u64, has_pan: bool) -> (u64, u64) {
    let vector = match spsr & 0x1f {
        0b00101 => 0x200,
        0b00100 => 0,
        mode if mode & SPSR_AARCH32 == 0 => 0x400,
        _ => 0x600,
    };
    // AArch32 has DIT elsewhere.
    let dit = if spsr & SPSR_AARCH32 == 0 { spsr & SPSR_DIT } else { spsr << 3 & SPSR_DIT };
    let mut pstate = SPSR_START | (spsr & (SPSR_NZCV | SPSR_PAN)) | dit;
    if has_pan && sctlr & SCTLR_SPAN == 0 {
        pstate |= SPSR_PAN;
    }
    if sctlr & SCTLR_DSSBS != 0 {
        pstate |= SPSR_SSBS;
    }
    (vector, pstate)
}

/// Declares the EL1 and EL0 system registers that belong to a vCPU, one alone and the others two by two (so that
/// both go by one store or load), and on the target the code that saves and restores them.
macro_rules! system_registers {
    ($alone:ident; $($(#[$doc:meta])* $first:ident, $second:ident;)+) => {
        /// EL1 and EL0 system registers of a vCPU that is not loaded.
        #[derive(Clone, Debug, Default)]
        #[repr(C)]
        pub struct SysRegs {
            pub(crate) $alone: u64,
            $($(#[$doc])* pub(crate) $first: u64, pub(crate) $second: u64,)+
        }

        /// Their names.
        #[cfg(test)]
        const SWITCHED: &[&str] = &[stringify!($alone), $(stringify!($first), stringify!($second)),+];

        #[cfg(target_os = "none")]
        impl SysRegs {
            /// Reads the registers of this core.
            #[inline]
            pub(crate) fn save(&mut self) {
                // SAFETY: as below.
                unsafe {
                    core::arch::asm!(concat!("mrs {}, ", stringify!($alone)), out(reg) self.$alone,
                        options(nomem, nostack, preserves_flags));
                }
                $(
                    // SAFETY: reading a system register of the VM has no side effect; the two words that are written
                    // are fields of `self`, one after the other.
                    unsafe {
                        core::arch::asm!(
                            concat!("mrs {0}, ", stringify!($first)), concat!("mrs {1}, ", stringify!($second)),
                            "stp {0}, {1}, [{2}, {3}]", out(reg) _, out(reg) _, in(reg) core::ptr::from_mut(self),
                            const core::mem::offset_of!(Self, $first), options(nostack, preserves_flags)
                        );
                    }
                )+
            }

            /// Writes the registers of this core.
            #[inline]
            pub(crate) fn load(&self) {
                // SAFETY: as below.
                unsafe {
                    core::arch::asm!(concat!("msr ", stringify!($alone), ", {}"), in(reg) self.$alone,
                        options(nomem, nostack, preserves_flags));
                }
                $(
                    // SAFETY: these registers act on EL1 and EL0 only; the hypervisor's own execution does not depend
                    // on them. The two words that are read are fields of `self`, one after the other.
                    unsafe {
                        core::arch::asm!(
                            "ldp {0}, {1}, [{2}, {3}]",
                            concat!("msr ", stringify!($first), ", {0}"), concat!("msr ", stringify!($second), ", {1}"),
                            out(reg) _, out(reg) _, in(reg) core::ptr::from_ref(self),
                            const core::mem::offset_of!(Self, $first), options(readonly, nostack, preserves_flags)
                        );
                    }
                )+
            }
        }
    };
}

system_registers! {
    cntkctl_el1;
    sctlr_el1, cpacr_el1;
    ttbr0_el1, ttbr1_el1;
    tcr_el1, mair_el1;
    amair_el1, vbar_el1;
    contextidr_el1, esr_el1;
    far_el1, afsr0_el1;
    afsr1_el1, elr_el1;
    spsr_el1, sp_el0;
    sp_el1, tpidr_el0;
    tpidrro_el0, tpidr_el1;
    par_el1, csselr_el1;
    /// The virtual timer's control: kept last with its compare value, so that it may fire only when all else is set.
    cntv_cval_el0, cntv_ctl_el0;
}

/// `SCTLR_EL1` of a vCPU that starts: MMU and caches off, RES1 bits set (Arm ARM, D19.2.118).
const SCTLR_EL1_START: u64 = 0x30d0_0800;

impl SysRegs {
    /// Registers of a vCPU that starts.
    pub(crate) fn start() -> Self {
        Self { sctlr_el1: SCTLR_EL1_START, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_abi::registers::{Group, RULES, encoding};

    /// Registers of the group `Kernel` and the virtual timer by name, as far as EL1 can name them.
    const NAMES: &[(&str, u16)] = &[
        ("sctlr_el1", encoding(3, 0, 1, 0, 0)),
        ("cpacr_el1", encoding(3, 0, 1, 0, 2)),
        ("ttbr0_el1", encoding(3, 0, 2, 0, 0)),
        ("ttbr1_el1", encoding(3, 0, 2, 0, 1)),
        ("tcr_el1", encoding(3, 0, 2, 0, 2)),
        ("spsr_el1", encoding(3, 0, 4, 0, 0)),
        ("elr_el1", encoding(3, 0, 4, 0, 1)),
        ("sp_el0", encoding(3, 0, 4, 1, 0)),
        ("afsr0_el1", encoding(3, 0, 5, 1, 0)),
        ("afsr1_el1", encoding(3, 0, 5, 1, 1)),
        ("esr_el1", encoding(3, 0, 5, 2, 0)),
        ("far_el1", encoding(3, 0, 6, 0, 0)),
        ("par_el1", encoding(3, 0, 7, 4, 0)),
        ("mair_el1", encoding(3, 0, 10, 2, 0)),
        ("amair_el1", encoding(3, 0, 10, 3, 0)),
        ("vbar_el1", encoding(3, 0, 12, 0, 0)),
        ("contextidr_el1", encoding(3, 0, 13, 0, 1)),
        ("tpidr_el1", encoding(3, 0, 13, 0, 4)),
        ("cntkctl_el1", encoding(3, 0, 14, 1, 0)),
        ("csselr_el1", encoding(3, 2, 0, 0, 0)),
        ("tpidr_el0", encoding(3, 3, 13, 0, 2)),
        ("tpidrro_el0", encoding(3, 3, 13, 0, 3)),
        ("cntv_ctl_el0", encoding(3, 3, 14, 3, 1)),
        ("cntv_cval_el0", encoding(3, 3, 14, 3, 2)),
    ];
    /// CNTV_TVAL_EL0 is another view of CNTV_CVAL_EL0.
    const CNTV_TVAL: u16 = encoding(3, 3, 14, 3, 0);

    /// The policy calls a register the VM's own, so it must be switched.
    #[test]
    fn all_that_a_vm_owns_is_switched() {
        let own = RULES.iter().filter(|r| matches!(r.group, Group::Kernel | Group::VirtualTimer));
        for register in own.flat_map(|rule| rule.first..=rule.last).filter(|r| *r != CNTV_TVAL) {
            let name = NAMES.iter().find(|(_, encoding)| *encoding == register);
            let (name, _) = name.unwrap_or_else(|| panic!("{register:#06x} has no name"));
            assert!(SWITCHED.contains(name), "{name} is not switched");
        }
        // SP_EL1 has no name at EL1.
        assert_eq!(SWITCHED.len(), NAMES.len() + 1);
    }

    #[test]
    fn keys_are_those_of_the_policy() {
        let keys: u16 = RULES.iter().filter(|r| r.group == Group::Keys).map(|r| r.last - r.first + 1).sum();
        assert_eq!(size_of::<Keys>(), usize::from(keys) * 8);
    }

    #[test]
    fn an_exception_enters_the_vector_of_where_it_comes_from() {
        let vector = |spsr| exception_entry(spsr, SCTLR_SPAN, true).0;
        assert_eq!([vector(0x3c5), vector(0x3c4), vector(0), vector(0x10)], [0x200, 0, 0x400, 0x600]);
        // A system mode of AArch32 is still AArch32.
        assert_eq!(vector(0x1f), 0x600);
    }

    #[test]
    fn an_exception_sets_pstate_as_the_processor_does() {
        let pstate = |spsr, sctlr, has_pan| exception_entry(spsr, sctlr, has_pan).1;
        let flags = SPSR_NZCV | SPSR_DIT;
        // Kept: condition flags, DIT, PAN. Gone: UAO, IL, SS, BTYPE, SSBS, ALLINT.
        let others = 1 << 23 | 1 << 20 | 1 << 21 | 0b11 << 10 | SPSR_SSBS | 1 << 13;
        assert_eq!(pstate(flags | SPSR_PAN | others | 5, SCTLR_SPAN, true), SPSR_START | flags | SPSR_PAN);
        assert_eq!(pstate(5, SCTLR_SPAN, true), SPSR_START);
        assert_eq!(pstate(5, 0, true), SPSR_START | SPSR_PAN);
        assert_eq!(pstate(5, 0, false), SPSR_START);
        assert_eq!(pstate(5, SCTLR_SPAN | SCTLR_DSSBS, true), SPSR_START | SPSR_SSBS);
        assert_eq!(pstate(1 << 21 | 0x10, SCTLR_SPAN, true), SPSR_START | SPSR_DIT);
    }
}
