//! What a VM sees of the processor's registers: the policy, as data.
//!
//! A register is named by the 16 bits that `MRS`, `MSR` and `SYS` have for it in their instruction word
//! ([`encoding`]). [`RULES`] puts registers into [`Group`]s, and a group says what a VM sees
//! ([`Group::secondary`], [`Group::primary`]). A register that no rule names is undefined: what the
//! architecture adds later is no VM's until somebody has thought about it.
//!
//! The hypervisor answers trapped accesses by this table, and the guest `registers` tries every encoding
//! there is against it. `docs/security.md` says for each group what traps it and why.
//!
//! ```
//! use hv_abi::registers::{Seen, encoding, rule};
//!
//! // MDSCR_EL1: debug cannot be hidden, so it reads as zero. PMCR_EL0: there are no performance monitors.
//! assert_eq!(rule(encoding(2, 0, 0, 2, 2)).unwrap().group.secondary(), Seen::Zero);
//! assert_eq!(rule(encoding(3, 3, 9, 12, 0)).unwrap().group.secondary(), Seen::Undefined);
//! ```

/// The name of a register or system instruction: bits 20 to 5 of the instruction word.
pub const fn encoding(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// What a VM sees of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is not there: an undefined-instruction exception in the VM.
    Undefined,
    /// It reads as zero, and ignores writes.
    Zero,
    /// A system instruction that does nothing.
    Ignored,
    /// A value that the hypervisor chooses; read-only.
    Value,
    /// The processor's own; read-only, and the same for all VMs.
    Constant,
    /// The VM's own, private to each vCPU.
    Own,
}

/// How a register may be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written.
    Write,
    /// Both.
    Both,
}

/// Declares the groups: what secondaries see, what the primary sees, and the name in `docs/security.md`.
macro_rules! groups {
    ($($(#[$doc:meta])* $group:ident = $name:literal, $secondary:ident, $primary:ident;)+) => {
        /// Registers that are treated alike.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Group {
            $($(#[$doc])* $group,)+
        }

        impl Group {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$group),+];

            /// What a secondary VM sees.
            pub const fn secondary(self) -> Seen {
                match self { $(Self::$group => Seen::$secondary,)+ }
            }

            /// What the primary VM sees.
            pub const fn primary(self) -> Seen {
                match self { $(Self::$group => Seen::$primary,)+ }
            }

            /// Its name in the documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$group => $name,)+ }
            }
        }
    };
}

groups! {
    /// Translation, exceptions, thread pointers: what a kernel is made of. Switched with the vCPU.
    Kernel = "kernel", Own, Own;
    /// `PSTATE`, in part: goes with `SPSR_EL2`.
    ProcessState = "processor state", Own, Own;
    /// FPCR and FPSR; the vector registers have no encoding. Switched at the first use.
    FloatingPoint = "floating point", Own, Own;
    /// Pointer authentication keys. Switched at the first use.
    Keys = "pointer authentication", Own, Own;
    /// The virtual timer.
    VirtualTimer = "virtual timer", Own, Own;
    /// The EL1 physical timer: the primary's, in hardware.
    PhysicalTimer = "physical timer", Undefined, Own;
    /// `DISR_EL1`: storage for an error record that never comes, cleared at every switch.
    DeferredErrors = "deferred errors", Own, Own;
    /// Counters, all without offset.
    Counter = "counter", Constant, Constant;
    /// Random numbers.
    Random = "random numbers", Constant, Constant;
    /// Who the processor is, and its caches.
    Identity = "identity", Constant, Constant;
    /// `REVIDR_EL1` and `AIDR_EL1`: what the processor has.
    Revision = "revision", Value, Value;
    /// Feature registers: what the VM may use.
    Features = "features", Value, Value;
    /// Debug registers. A processor cannot do without, so they are there and do nothing.
    Debug = "debug", Zero, Zero;
    /// `ACTLR_EL1`.
    AuxiliaryControl = "auxiliary control", Zero, Zero;
    /// Cache maintenance by set and way.
    SetWay = "set/way", Ignored, Ignored;
    /// IMPLEMENTATION DEFINED registers and instructions.
    ImplementationDefined = "IMPLEMENTATION DEFINED", Undefined, Undefined;
    /// Performance monitors.
    PerformanceMonitors = "performance monitors", Undefined, Undefined;
    /// Activity monitors.
    ActivityMonitors = "activity monitors", Undefined, Undefined;
    /// Trace unit and trace filter.
    Trace = "trace", Undefined, Undefined;
    /// Statistical profiling, trace buffer, branch records.
    Profiling = "profiling", Undefined, Undefined;
    /// Error records.
    ErrorRecords = "RAS", Undefined, Undefined;
    /// Limited ordering regions.
    LimitedOrdering = "LOR", Undefined, Undefined;
    /// Vector lengths.
    ScalableVectors = "SVE", Undefined, Undefined;
    /// Streaming mode, its priorities, `TPIDR2_EL0`.
    ScalableMatrices = "SME", Undefined, Undefined;
    /// Memory tagging.
    Tagging = "MTE", Undefined, Undefined;
    /// Memory partitioning and monitoring.
    Partitioning = "MPAM", Undefined, Undefined;
    /// Software context numbers for branch prediction.
    ContextNumbers = "context numbers", Undefined, Undefined;
    /// The GIC's registers: interrupts are para-virtual.
    InterruptController = "interrupt controller", Undefined, Undefined;
    /// Extensions of control registers: TCR2, SCTLR2, permission indirection and overlays, guarded control
    /// stacks, 64-byte stores, 8-bit floating point.
    Extensions = "extensions", Undefined, Undefined;
}

/// Registers, from one encoding to another, and what they are.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// What they are.
    pub group: Group,
    /// What may be done.
    pub access: Access,
    /// Not every processor has them: where they are missing they are undefined.
    pub optional: bool,
}

impl Rule {
    const fn range(first: u16, last: u16, group: Group) -> Self {
        Self { first, last, group, access: Access::Both, optional: false }
    }

    const fn of(register: u16, group: Group) -> Self {
        Self::range(register, register, group)
    }

    const fn read(mut self) -> Self {
        self.access = Access::Read;
        self
    }

    const fn write(mut self) -> Self {
        self.access = Access::Write;
        self
    }

    const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Returns whether the access exists.
    pub const fn allows(&self, read: bool) -> bool {
        match self.access {
            Access::Both => true,
            Access::Read => read,
            Access::Write => !read,
        }
    }
}

/// The rule for a register.
pub fn rule(register: u16) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.first <= register && register <= rule.last)
}

/// Registers of op0 3 and op1 0: most of EL1's.
const fn el1(crn: u16, crm: u16, op2: u16) -> u16 {
    encoding(3, 0, crn, crm, op2)
}

/// Registers of op0 3 and op1 3: EL0's.
const fn el0(crn: u16, crm: u16, op2: u16) -> u16 {
    encoding(3, 3, crn, crm, op2)
}

/// Debug registers of EL1.
const fn debug(crn: u16, crm: u16, op2: u16) -> u16 {
    encoding(2, 0, crn, crm, op2)
}

/// Every register that is not simply undefined, and those undefined ones that deserve a name. Sorted by
/// nothing but the reader's convenience; no register is in two rules. Encodings: Arm ARM, C5.2 to C5.5 and
/// D19.
pub const RULES: &[Rule] = &{
    use Group as G;
    use Rule as R;
    [
        // SCTLR_EL1, CPACR_EL1; TTBR0_EL1, TTBR1_EL1, TCR_EL1; SPSR_EL1, ELR_EL1; SP_EL0.
        R::of(el1(1, 0, 0), G::Kernel),
        R::of(el1(1, 0, 2), G::Kernel),
        R::range(el1(2, 0, 0), el1(2, 0, 2), G::Kernel),
        R::range(el1(4, 0, 0), el1(4, 0, 1), G::Kernel),
        R::of(el1(4, 1, 0), G::Kernel),
        // AFSR0_EL1, AFSR1_EL1; ESR_EL1; FAR_EL1; PAR_EL1; MAIR_EL1; AMAIR_EL1; VBAR_EL1.
        R::range(el1(5, 1, 0), el1(5, 1, 1), G::Kernel),
        R::of(el1(5, 2, 0), G::Kernel),
        R::of(el1(6, 0, 0), G::Kernel),
        R::of(el1(7, 4, 0), G::Kernel),
        R::of(el1(10, 2, 0), G::Kernel),
        R::of(el1(10, 3, 0), G::Kernel),
        R::of(el1(12, 0, 0), G::Kernel),
        // CONTEXTIDR_EL1, TPIDR_EL1; CNTKCTL_EL1; CSSELR_EL1; TPIDR_EL0, TPIDRRO_EL0.
        R::of(el1(13, 0, 1), G::Kernel),
        R::of(el1(13, 0, 4), G::Kernel),
        R::of(el1(14, 1, 0), G::Kernel),
        R::of(encoding(3, 2, 0, 0, 0), G::Kernel),
        R::range(el0(13, 0, 2), el0(13, 0, 3), G::Kernel),
        // SPSel, CurrentEL, PAN and UAO, ALLINT; NZCV, DAIF, DIT, SSBS and TCO.
        R::of(el1(4, 2, 0), G::ProcessState),
        R::of(el1(4, 2, 2), G::ProcessState).read(),
        R::range(el1(4, 2, 3), el1(4, 2, 4), G::ProcessState).optional(),
        R::of(el1(4, 3, 0), G::ProcessState).optional(),
        R::range(el0(4, 2, 0), el0(4, 2, 1), G::ProcessState),
        R::range(el0(4, 2, 5), el0(4, 2, 7), G::ProcessState).optional(),
        // FPCR, FPSR.
        R::range(el0(4, 4, 0), el0(4, 4, 1), G::FloatingPoint),
        // APIAKeyLo_EL1 to APGAKeyHi_EL1: four each of IA and IB, DA and DB, and two of GA.
        R::range(el1(2, 1, 0), el1(2, 1, 3), G::Keys).optional(),
        R::range(el1(2, 2, 0), el1(2, 2, 3), G::Keys).optional(),
        R::range(el1(2, 3, 0), el1(2, 3, 1), G::Keys).optional(),
        // CNTV_TVAL_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, and the same of the physical timer.
        R::range(el0(14, 3, 0), el0(14, 3, 2), G::VirtualTimer),
        R::range(el0(14, 2, 0), el0(14, 2, 2), G::PhysicalTimer),
        R::of(el1(12, 1, 1), G::DeferredErrors).optional(),
        // CNTFRQ_EL0, CNTPCT_EL0, CNTVCT_EL0; CNTPCTSS_EL0, CNTVCTSS_EL0. RNDR, RNDRRS.
        R::range(el0(14, 0, 0), el0(14, 0, 2), G::Counter).read(),
        R::range(el0(14, 0, 5), el0(14, 0, 6), G::Counter).read().optional(),
        R::range(el0(2, 4, 0), el0(2, 4, 1), G::Random).read().optional(),
        // MIDR_EL1; MPIDR_EL1; CCSIDR_EL1 and CLIDR_EL1, CCSIDR2_EL1; CTR_EL0; DCZID_EL0; ISR_EL1.
        R::of(el1(0, 0, 0), G::Identity).read(),
        R::of(el1(0, 0, 5), G::Identity).read(),
        R::range(encoding(3, 1, 0, 0, 0), encoding(3, 1, 0, 0, 1), G::Identity).read(),
        R::of(encoding(3, 1, 0, 0, 2), G::Identity).read().optional(),
        R::of(el0(0, 0, 1), G::Identity).read(),
        R::of(el0(0, 0, 7), G::Identity).read(),
        R::of(el1(12, 1, 0), G::Identity).read(),
        // REVIDR_EL1, AIDR_EL1. Feature registers, those of AArch32 and reserved ones too.
        R::of(el1(0, 0, 6), G::Revision).read(),
        R::of(encoding(3, 1, 0, 0, 7), G::Revision).read(),
        R::range(el1(0, 1, 0), el1(0, 7, 7), G::Features).read(),
        // MDCCINT_EL1, MDSCR_EL1; two breakpoints and two watchpoints.
        R::of(debug(0, 2, 0), G::Debug),
        R::of(debug(0, 2, 2), G::Debug),
        R::range(debug(0, 0, 4), debug(0, 0, 7), G::Debug),
        R::range(debug(0, 1, 4), debug(0, 1, 7), G::Debug),
        // OSDTRRX_EL1, OSDTRTX_EL1, OSECCR_EL1: transfer of debug state, which emulators leave out.
        R::of(debug(0, 0, 2), G::Debug).optional(),
        R::of(debug(0, 3, 2), G::Debug).optional(),
        R::of(debug(0, 6, 2), G::Debug).optional(),
        // MDRAR_EL1; OSLAR_EL1, OSLSR_EL1, OSDLR_EL1, DBGPRCR_EL1.
        R::of(debug(1, 0, 0), G::Debug).read(),
        R::of(debug(1, 0, 4), G::Debug).write(),
        R::of(debug(1, 1, 4), G::Debug).read(),
        R::of(debug(1, 3, 4), G::Debug),
        R::of(debug(1, 4, 4), G::Debug).optional(),
        // DBGCLAIMSET_EL1, DBGCLAIMCLR_EL1, DBGAUTHSTATUS_EL1; MDCCSR_EL0, DBGDTR_EL0, DBGDTRRX_EL0 or
        // DBGDTRTX_EL0.
        R::of(debug(7, 8, 6), G::Debug).optional(),
        R::of(debug(7, 9, 6), G::Debug).optional(),
        R::of(debug(7, 14, 6), G::Debug).read().optional(),
        R::of(encoding(2, 3, 0, 1, 0), G::Debug).read(),
        R::of(encoding(2, 3, 0, 4, 0), G::Debug).optional(),
        R::of(encoding(2, 3, 0, 5, 0), G::Debug).optional(),
        // ACTLR_EL1. DC ISW, CSW, CISW.
        R::of(el1(1, 0, 1), G::AuxiliaryControl),
        R::of(encoding(1, 0, 7, 6, 2), G::SetWay).write(),
        R::of(encoding(1, 0, 7, 10, 2), G::SetWay).write(),
        R::of(encoding(1, 0, 7, 14, 2), G::SetWay).write(),
        // From here on: what is not there. IMPLEMENTATION DEFINED is CRn 11 and 15, whatever op1 is.
        R::range(encoding(1, 0, 11, 0, 0), encoding(1, 0, 11, 15, 7), G::ImplementationDefined),
        R::range(encoding(1, 0, 15, 0, 0), encoding(1, 0, 15, 15, 7), G::ImplementationDefined),
        R::range(el1(11, 0, 0), el1(11, 15, 7), G::ImplementationDefined),
        R::range(el1(15, 0, 0), el1(15, 15, 7), G::ImplementationDefined),
        R::range(el0(11, 0, 0), el0(11, 15, 7), G::ImplementationDefined),
        R::range(el0(15, 0, 0), el0(15, 15, 7), G::ImplementationDefined),
        // PMINTENSET_EL1 to PMMIR_EL1; PMCR_EL0 to PMOVSSET_EL0; PMEVCNTRn_EL0 to PMCCFILTR_EL0.
        R::range(el1(9, 14, 0), el1(9, 14, 7), G::PerformanceMonitors),
        R::range(el0(9, 12, 0), el0(9, 14, 7), G::PerformanceMonitors),
        R::range(el0(14, 8, 0), el0(14, 15, 7), G::PerformanceMonitors),
        R::range(el0(13, 2, 0), el0(13, 15, 7), G::ActivityMonitors),
        // The trace unit; TRFCR_EL1. Profiling and trace buffer; branch records.
        R::range(encoding(2, 1, 0, 0, 0), encoding(2, 1, 7, 15, 7), G::Trace),
        R::of(el1(1, 2, 1), G::Trace),
        R::range(el1(9, 9, 0), el1(9, 11, 7), G::Profiling),
        R::range(encoding(2, 1, 8, 0, 0), encoding(2, 1, 9, 15, 7), G::Profiling),
        // ERRIDR_EL1 to ERXMISC3_EL1. LORSA_EL1 to LORC_EL1; LORID_EL1.
        R::range(el1(5, 3, 0), el1(5, 5, 7), G::ErrorRecords),
        R::range(el1(10, 4, 0), el1(10, 4, 3), G::LimitedOrdering),
        R::of(el1(10, 4, 7), G::LimitedOrdering),
        // ZCR_EL1. SMPRI_EL1 and SMCR_EL1; SVCR; TPIDR2_EL0; SMIDR_EL1.
        R::of(el1(1, 2, 0), G::ScalableVectors),
        R::of(el1(1, 2, 4), G::ScalableMatrices),
        R::of(el1(1, 2, 6), G::ScalableMatrices),
        R::of(el0(4, 2, 2), G::ScalableMatrices),
        R::of(el0(13, 0, 5), G::ScalableMatrices),
        R::of(encoding(3, 1, 0, 0, 6), G::ScalableMatrices),
        // RGSR_EL1, GCR_EL1; TFSR_EL1, TFSRE0_EL1; GMID_EL1.
        R::range(el1(1, 0, 5), el1(1, 0, 6), G::Tagging),
        R::range(el1(5, 6, 0), el1(5, 6, 1), G::Tagging),
        R::of(encoding(3, 1, 0, 0, 4), G::Tagging),
        // MPAMIDR_EL1; MPAM1_EL1 to MPAMSM_EL1. SCXTNUM_EL1, SCXTNUM_EL0. ICC_PMR_EL1; the other ICC
        // registers.
        R::of(el1(10, 4, 4), G::Partitioning),
        R::range(el1(10, 5, 0), el1(10, 5, 3), G::Partitioning),
        R::of(el1(13, 0, 7), G::ContextNumbers),
        R::of(el0(13, 0, 7), G::ContextNumbers),
        R::of(el1(4, 6, 0), G::InterruptController),
        R::range(el1(12, 8, 0), el1(12, 12, 7), G::InterruptController),
        // SCTLR2_EL1; TCR2_EL1; GCSCR_EL1 to GCSCRE0_EL1; PIR, POR, MAIR2, AMAIR2; ACCDATA_EL1; FPMR;
        // GCSPR_EL0; POR_EL0.
        R::of(el1(1, 0, 3), G::Extensions),
        R::of(el1(2, 0, 3), G::Extensions),
        R::range(el1(2, 5, 0), el1(2, 5, 2), G::Extensions),
        R::of(el1(10, 2, 1), G::Extensions),
        R::range(el1(10, 2, 2), el1(10, 2, 5), G::Extensions),
        R::of(el1(10, 3, 1), G::Extensions),
        R::of(el1(13, 0, 5), G::Extensions),
        R::of(el0(2, 5, 1), G::Extensions),
        R::of(el0(4, 4, 2), G::Extensions),
        R::of(el0(10, 2, 4), G::Extensions),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "65 536 registers take Miri minutes")]
    fn each_register_has_one_rule() {
        for register in 0..=u16::MAX {
            let rules = RULES.iter().filter(|r| r.first <= register && register <= r.last).count();
            assert!(rules <= 1, "{register:#06x}");
        }
    }

    #[test]
    fn ranges_stay_within_one_op0_op1_and_crn() {
        for rule in RULES {
            assert!(rule.first <= rule.last, "{rule:?}");
            // The trace unit's and the profiling registers have several CRn to themselves.
            let same = if rule.first >> 14 == 2 { 11 } else { 7 };
            assert_eq!(rule.first >> same, rule.last >> same, "{rule:?}");
        }
    }

    #[test]
    fn a_named_group_has_registers() {
        for group in Group::ALL {
            assert!(RULES.iter().any(|rule| rule.group == *group), "{group:?}");
        }
    }

    #[test]
    fn the_primary_has_more_than_a_secondary_in_the_physical_timer_only() {
        for group in Group::ALL {
            assert_eq!(group.primary() == group.secondary(), *group != Group::PhysicalTimer, "{group:?}");
        }
    }

    /// The words of `docs/security.md` for what is seen.
    const fn word(seen: Seen) -> &'static str {
        match seen {
            Seen::Undefined => "undefined",
            Seen::Zero => "zero",
            Seen::Ignored => "ignored",
            Seen::Value => "value",
            Seen::Constant => "constant",
            Seen::Own => "own",
        }
    }

    #[test]
    fn documentation_matches_register_groups() {
        let book = include_str!("../../../docs/security.md");
        let row = |line: &'static str| -> Option<[&str; 3]> {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some([cells.next()?, cells.nth(2)?, cells.next()?])
        };
        for group in Group::ALL {
            let expected = [group.name(), word(group.secondary()), word(group.primary())];
            assert!(
                book.lines().filter_map(row).any(|row| row == expected),
                "{expected:?} is not in docs/security.md"
            );
        }
    }

    #[test]
    fn unlisted_registers_are_undefined() {
        assert!(rule(encoding(3, 4, 1, 1, 0)).is_none());
        assert!(rule(encoding(3, 0, 0, 0, 1)).is_none());
        assert!(rule(0).is_none());
    }
}
