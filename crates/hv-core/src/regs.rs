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
        // One by one: built for size, a copy of the array would be a call of `memcpy`.
        let x = &mut self.x;
        [x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]] = results.0;
    }

    /// Reads x0 to x7.
    #[inline]
    pub fn arguments(&self) -> hv_abi::Regs {
        let mut regs = hv_abi::Regs::default();
        regs.0.copy_from_slice(&self.x[..8]);
        regs
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

/// Reads registers, two at a time, so that one instruction stores both.
#[cfg(target_os = "none")]
macro_rules! save_pairs {
    ($to:ident;) => {};
    ($to:ident; $field:ident $name:literal) => {
        // SAFETY: reading a system register of the VM has no side effect.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) $to.$field, options(nomem, nostack, preserves_flags)) };
    };
    ($to:ident; $field:ident $name:literal $field2:ident $name2:literal $($rest:tt)*) => {
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                concat!("mrs {}, ", $name), concat!("mrs {}, ", $name2),
                out(reg) $to.$field, out(reg) $to.$field2, options(nomem, nostack, preserves_flags)
            );
        }
        save_pairs!($to; $($rest)*);
    };
}

/// Writes registers, two at a time, in the order in which they are given.
#[cfg(target_os = "none")]
macro_rules! load_pairs {
    ($from:ident;) => {};
    ($from:ident; $field:ident $name:literal) => {
        // SAFETY: these registers act on EL1 and EL0 only; the hypervisor's own execution does not depend on them.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) $from.$field, options(nomem, nostack, preserves_flags)) };
    };
    ($from:ident; $field:ident $name:literal $field2:ident $name2:literal $($rest:tt)*) => {
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                concat!("msr ", $name, ", {}"), concat!("msr ", $name2, ", {}"),
                in(reg) $from.$field, in(reg) $from.$field2, options(nomem, nostack, preserves_flags)
            );
        }
        load_pairs!($from; $($rest)*);
    };
}

/// Declares the EL1 and EL0 system registers that belong to a vCPU, and on the target the code that saves and
/// restores them.
macro_rules! system_registers {
    ($($(#[$doc:meta])* $field:ident = $name:literal),+ $(,)?) => {
        /// EL1 and EL0 system registers of a vCPU that is not loaded.
        #[derive(Clone, Debug, Default)]
        #[repr(C)]
        pub struct SysRegs {
            $($(#[$doc])* pub(crate) $field: u64,)+
        }

        #[cfg(target_os = "none")]
        impl SysRegs {
            /// Reads the registers of this core.
            #[inline]
            pub(crate) fn save(&mut self) {
                save_pairs!(self; $($field $name)+);
            }

            /// Writes the registers of this core.
            #[inline]
            pub(crate) fn load(&self) {
                load_pairs!(self; $($field $name)+);
            }
        }
    };
}

system_registers! {
    sctlr_el1 = "sctlr_el1",
    cpacr_el1 = "cpacr_el1",
    ttbr0_el1 = "ttbr0_el1",
    ttbr1_el1 = "ttbr1_el1",
    tcr_el1 = "tcr_el1",
    mair_el1 = "mair_el1",
    amair_el1 = "amair_el1",
    vbar_el1 = "vbar_el1",
    contextidr_el1 = "contextidr_el1",
    esr_el1 = "esr_el1",
    far_el1 = "far_el1",
    afsr0_el1 = "afsr0_el1",
    afsr1_el1 = "afsr1_el1",
    elr_el1 = "elr_el1",
    spsr_el1 = "spsr_el1",
    sp_el0 = "sp_el0",
    sp_el1 = "sp_el1",
    tpidr_el0 = "tpidr_el0",
    tpidrro_el0 = "tpidrro_el0",
    tpidr_el1 = "tpidr_el1",
    par_el1 = "par_el1",
    csselr_el1 = "csselr_el1",
    cntkctl_el1 = "cntkctl_el1",
    /// The virtual timer's control: kept last with its compare value, so that it may fire only when all else is set.
    cntv_cval_el0 = "cntv_cval_el0",
    cntv_ctl_el0 = "cntv_ctl_el0",
}

/// `SCTLR_EL1` of a vCPU that starts: MMU and caches off, RES1 bits set (Arm ARM, D19.2.118).
const SCTLR_EL1_START: u64 = 0x30d0_0800;

impl SysRegs {
    /// Registers of a vCPU that starts.
    pub(crate) fn start() -> Self {
        Self { sctlr_el1: SCTLR_EL1_START, ..Self::default() }
    }
}
