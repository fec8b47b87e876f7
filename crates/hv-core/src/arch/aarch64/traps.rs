//! What traps: the configuration registers behind the policy in `hv_abi::registers`, and docs/security.md.
//!
//! A bit that belongs to a feature which this core lacks is RES0 and does nothing, so it is set without a question. A
//! register that may be missing is written only after its feature has been seen.

use super::el2::{isb, read, write};
use crate::vm::VmKind;

/// Trap configuration of a VM kind: `HCR_EL2` and `CNTHCTL_EL2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traps {
    pub(crate) hcr: u64,
    pub(crate) cnthctl: u64,
}

// HCR_EL2 (Arm ARM, D19.2.48).
const VM: u64 = 1 << 0;
const SWIO: u64 = 1 << 1;
const PTW: u64 = 1 << 2;
const FMO: u64 = 1 << 3;
const IMO: u64 = 1 << 4;
const AMO: u64 = 1 << 5;
const VI: u64 = 1 << 7;
/// A virtual SError is pending. The processor clears it when EL1 takes the SError, or defers it by an ESB.
pub(crate) const VSE: u64 = 1 << 8;
const FB: u64 = 1 << 9;
const BSU_INNER: u64 = 0b01 << 10;
/// WFI traps.
pub(crate) const TWI: u64 = 1 << 13;
const TID1: u64 = 1 << 16;
const TID3: u64 = 1 << 18;
const TSC: u64 = 1 << 19;
const TIDCP: u64 = 1 << 20;
const TACR: u64 = 1 << 21;
const TSW: u64 = 1 << 22;
const RW: u64 = 1 << 31;
const TLOR: u64 = 1 << 35;
const TERR: u64 = 1 << 36;
const TEA: u64 = 1 << 37;
/// Lets the VM use pointer authentication keys and instructions: APK and API.
pub(crate) const KEYS: u64 = 0b11 << 40;
const TID5: u64 = 1 << 58;

/// For every VM: stage 2 on, walks may not touch device memory, all physical interrupts come to EL2, TLB and
/// instruction-cache maintenance reaches all cores. Trapped are feature and revision registers, SMC, IMPLEMENTATION
/// DEFINED and auxiliary registers, set/way cache maintenance, LOR. What is allowed by a bit is not: pointer
/// authentication (APK, API; until it is used), memory tags (ATA), context numbers (`EnSCXT`), activity monitor
/// offsets, transactions.
const HCR_COMMON: u64 = VM
    | SWIO
    | PTW
    | FMO
    | IMO
    | AMO
    | FB
    | BSU_INNER
    | TID1
    | TID3
    | TSC
    | TIDCP
    | TACR
    | TSW
    | RW
    | TLOR
    | TID5;

/// Where errors are recorded (FEAT_RAS): error records trap, and external aborts come to EL2.
const HCR_RAS: u64 = TERR | TEA;

// CNTHCTL_EL2 without VHE (Arm ARM, D19.12.2).
const EL1PCTEN: u64 = 1 << 0;
const EL1PCEN: u64 = 1 << 1;

impl Traps {
    /// What a VM of this kind may do without the hypervisor. All cores are taken to be like this one.
    pub(crate) fn of(kind: VmKind) -> Self {
        let hcr = if field(read!("id_aa64pfr0_el1"), 28) == 0 { HCR_COMMON } else { HCR_COMMON | HCR_RAS };
        match kind {
            // The primary waits for interrupts in hardware, and owns the EL1 physical timer. The physical counter is
            // everybody's: it is the virtual one.
            VmKind::Primary => Self { hcr, cnthctl: EL1PCTEN | EL1PCEN },
            VmKind::SuperSecondary | VmKind::Secondary => Self { hcr: hcr | TWI, cnthctl: EL1PCTEN },
        }
    }
}

/// `CPTR_EL2` without VHE: RES1 bits, and activity monitors, trace, SVE and SME trapped (Arm ARM, D19.2.34).
const CPTR: u64 = 0x22ff | 1 << 30 | 1 << 20 | 1 << 8 | 1 << 12;
const CPTR_TFP: u64 = 1 << 10;

/// `MDCR_EL2` (Arm ARM, D19.3.20): performance monitors (TPM, TPMCR), debug (TDA), OS lock (TDOSA), debug ROM (TDRA),
/// statistical profiling (TPMS), trace filter (TTRF), debug channel (TDCC). The buffers of profiling and trace (E2PB, E2TB)
/// are EL2's, which does not use them.
const MDCR_TRAPS: u64 = 1 << 6 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19 | 1 << 27;
const MDCR_HPMN: u64 = 0x1f;

/// `HDFGRTR_EL2` (Arm ARM, D19.2.47): identification of profiling and trace buffers, which nothing else traps.
const PMBIDR: u64 = 1 << 63;
const TRBIDR: u64 = 1 << 51;

/// `ICH_HCR_EL2` (GIC spec, 12.4.5): the virtual interface is off, and every access of EL1 to it traps.
const ICH_TRAP_ALL: u64 = 1 << 10 | 1 << 11 | 1 << 12;

/// `MPAM2_EL2` (Arm ARM, D19.8): MPAM0_EL1, MPAM1_EL1 and MPAMIDR_EL1 trap.
const MPAM_TRAPS: u64 = 1 << 48 | 1 << 49 | 1 << 58;

/// Sets this core's traps, as far as no VM changes them. What a VM cannot reach holds nothing.
pub(super) fn init() {
    // These registers only make accesses of EL1 and EL0 trap, or hold what only EL1 and EL0 use.
    write!("cptr_el2", CPTR | CPTR_TFP);
    write!("mdcr_el2", (read!("mdcr_el2") & MDCR_HPMN) | MDCR_TRAPS);
    write!("mdscr_el1", 0);
    write!("hstr_el2", 0);
    write!("cntvoff_el2", 0);
    write!("vpidr_el2", read!("midr_el1"));
    let pfr0 = read!("id_aa64pfr0_el1");
    if field(pfr0, 40) != 0 || field(read!("id_aa64pfr1_el1"), 16) != 0 {
        write!("s3_4_c10_c5_0", MPAM_TRAPS); // MPAM2_EL2
    }
    if field(pfr0, 28) != 0 {
        write!("s3_0_c12_c1_1", 0); // DISR_EL1 is unknown at reset
    }
    if field(read!("id_aa64mmfr1_el1"), 40) != 0 {
        write!("s3_4_c1_c2_2", 0); // HCRX_EL2: every extension off
    }
    let fgt = field(read!("id_aa64mmfr0_el1"), 56);
    if fgt != 0 {
        // Bits whose name begins with n trap while they are zero: what came with or after fine-grained traps.
        write!("s3_4_c1_c1_4", 0); // HFGRTR_EL2
        write!("s3_4_c1_c1_5", 0); // HFGWTR_EL2
        write!("s3_4_c1_c1_6", 0); // HFGITR_EL2
        write!("s3_4_c3_c1_4", PMBIDR | TRBIDR); // HDFGRTR_EL2
        write!("s3_4_c3_c1_5", 0); // HDFGWTR_EL2
    }
    if fgt > 1 {
        write!("s3_4_c3_c1_2", 0); // HFGRTR2_EL2
        write!("s3_4_c3_c1_3", 0); // HFGWTR2_EL2
        write!("s3_4_c3_c1_7", 0); // HFGITR2_EL2
        write!("s3_4_c3_c1_0", 0); // HDFGRTR2_EL2
        write!("s3_4_c3_c1_1", 0); // HDFGWTR2_EL2
    }
    isb();
}

/// Makes the GIC's registers trap, once its driver has set the core up: the virtual interface, which EL1 would see, is
/// not used, and would keep what one VM writes for the next.
pub(crate) fn hide_interrupt_controller() {
    // ICC_SRE_EL2.SRE: the GIC is used through system registers. Without it EL1 has none either (ICC_SRE_EL1.SRE).
    if field(read!("id_aa64pfr0_el1"), 24) != 0 && read!("s3_4_c12_c9_5") & 1 != 0 {
        // The hypervisor's own use of the physical interface does not depend on either.
        write!("s3_4_c12_c9_5", read!("s3_4_c12_c9_5") & !(1 << 3)); // Enable: ICC_SRE_EL1 traps
        write!("s3_4_c12_c11_0", ICH_TRAP_ALL); // ICH_HCR_EL2
        isb();
    }
}

/// A feature field of an identification register.
const fn field(register: u64, low: u32) -> u64 {
    register >> low & 0xf
}

/// Loads a VM's traps: `hcr` is its `HCR_EL2` or, with [`KEYS`], that of a vCPU whose keys are in the registers.
#[inline]
pub(crate) fn load_traps(cnthctl: u64, hcr: u64, line: bool) {
    // They act on EL1 and EL0.
    write!("cnthctl_el2", cnthctl);
    if hcr & TERR != 0 {
        write!("s3_4_c12_c1_1", 0); // VDISR_EL2, which EL1 reaches as DISR_EL1 (FEAT_RAS)
    }
    set_virtual_irq(hcr, line);
}

/// Sets the virtual interrupt line of the loaded vCPU, and what `hcr` says.
#[inline]
pub(crate) fn set_virtual_irq(hcr: u64, high: bool) {
    // Only bits that the loaded vCPU's own `hcr` and its line decide.
    write!("hcr_el2", if high { hcr | VI } else { hcr });
}

/// Takes the SErrors that accesses so far have caused; returns the syndrome of the last one. `hcr` is that of a VM: it has `TERR` if the core
/// has FEAT_RAS. EL0's registers of no VM are loaded, or all of them are saved.
#[inline]
pub(crate) fn take_serror(hcr: u64) -> Option<u64> {
    unsafe extern "C" {
        fn hv_take_serror() -> u64;
    }
    if hcr & TERR != 0 {
        // SAFETY: a barrier. With PSTATE.A set, it defers a pending SError: DISR_EL1.A and a syndrome (Arm ARM, ESB).
        unsafe { core::arch::asm!("hint #16", options(nostack, preserves_flags)) };
        let disr = read!("s3_0_c12_c1_1"); // DISR_EL1
        if disr >> 31 & 1 == 0 {
            return None;
        }
        write!("s3_0_c12_c1_1", 0); // for the next one
        return Some(disr);
    }
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
    if read!("isr_el1") >> 8 & 1 == 0 {
        return None; // ISR_EL1.A: no SError is pending
    }
    // SAFETY: changes SP_EL0 and TPIDR_EL0, which the caller lets it, and nothing else that is not the caller's.
    let esr = unsafe { hv_take_serror() };
    (esr != 0).then_some(esr)
}

/// Sets the syndrome that EL1 sees of its virtual SError, where it sees one (FEAT_RAS).
pub(crate) fn set_virtual_serror(hcr: u64, iss: u64) {
    if hcr & TERR != 0 {
        write!("s3_4_c5_c2_3", iss); // VSESR_EL2: used by virtual SErrors only
    }
}

/// Makes a virtual SError pending for the loaded vCPU.
pub(crate) fn raise_virtual_serror() {
    // A virtual exception of EL1.
    write!("hcr_el2", read!("hcr_el2") | VSE);
}

/// Whether the loaded vCPU's virtual SError is still pending.
pub(crate) fn has_virtual_serror() -> bool {
    read!("hcr_el2") & VSE != 0
}

/// Whether the loaded vCPU has deferred a virtual SError, and not cleared its `DISR_EL1`. `hcr` is its own.
pub(crate) fn has_deferred_virtual_serror(hcr: u64) -> bool {
    hcr & TERR != 0 && read!("s3_4_c12_c1_1") >> 31 & 1 != 0 // VDISR_EL2.A
}

/// Whether this core authenticates pointers at all.
pub(crate) fn has_keys() -> bool {
    // APA and API of ID_AA64ISAR1_EL1, APA3 of ID_AA64ISAR2_EL1.
    read!("id_aa64isar1_el1") & 0xff0 != 0 || field(read!("s3_0_c0_c6_2"), 12) != 0
}

/// Lets the loaded vCPU use FP/SIMD, or makes its first use trap.
#[inline]
pub(crate) fn trap_fp(trap: bool) {
    // What the registers hold then is the loaded vCPU's.
    write!("cptr_el2", if trap { CPTR | CPTR_TFP } else { CPTR });
}
