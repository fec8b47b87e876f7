//! What a VM sees in identification registers: the policy's group `Features`, field by field.
//!
//! `HCR_EL2.TID3` traps reads of the feature registers (op0 3, op1 0, CRn 0, CRm 1 to 7), and [`visible`]
//! says what the VM reads instead. A VM must believe in a feature only if it can use it, so every register is
//! a list of fields that are shown; what is not listed reads as zero, which in nearly all fields means "not
//! implemented", and covers what the architecture adds later. Not shown is
//!
//! * what needs a trap to be switched off or registers to be saved for it: SVE, SME, MTE, activity monitors,
//!   performance monitors, trace, profiling, 64-byte stores, memory copy instructions, limited ordering
//!   regions, permission indirection;
//! * what the hypervisor keeps: EL2 and its extensions, EL3, the GIC (interrupts are para-virtual), RAS;
//! * AArch32, which no VM may use.
//!
//! Field positions: Arm ARM, D19.2, at each register.

/// A field of four bits: its name, its lowest bit, and the largest value that is shown.
type Field = (&'static str, u32, u64);

/// Any value. Also for signed fields, where 15 means "not implemented".
const ANY: u64 = 15;

/// `ID_AA64PFR0_EL1`. CSV2 from 2 on would offer SCXTNUM_ELx, which traps.
const PFR0: &[Field] =
    &[("FP", 16, ANY), ("AdvSIMD", 20, ANY), ("DIT", 48, ANY), ("CSV2", 56, 1), ("CSV3", 60, 1)];

/// `ID_AA64PFR0_EL1`: EL0 and EL1, in AArch64 only.
const PFR0_LEVELS: u64 = 0x11;

/// `ID_AA64PFR1_EL1`.
const PFR1: &[Field] = &[("SSBS", 4, ANY)];

/// `ID_AA64DFR0_EL1`: the least that the architecture allows. Armv8 debug, two breakpoints and two
/// watchpoints (the fields hold one less; all of them trap), no double lock, which is 15.
const DFR0: u64 = 6 | 1 << 12 | 1 << 20 | 15 << 36;

/// `ID_AA64ISAR0_EL1`: all but transactional memory.
const ISAR0: &[Field] = &[
    ("AES", 4, ANY),
    ("SHA1", 8, ANY),
    ("SHA2", 12, ANY),
    ("CRC32", 16, ANY),
    ("Atomic", 20, ANY),
    ("RDM", 28, ANY),
    ("SHA3", 32, ANY),
    ("SM3", 36, ANY),
    ("SM4", 40, ANY),
    ("DP", 44, ANY),
    ("FHM", 48, ANY),
    ("TS", 52, ANY),
    ("TLB", 56, ANY),
    ("RNDR", 60, ANY),
];

/// `ID_AA64ISAR1_EL1`: all but 64-byte loads and stores.
const ISAR1: &[Field] = &[
    ("DPB", 0, ANY),
    ("APA", 4, ANY),
    ("API", 8, ANY),
    ("JSCVT", 12, ANY),
    ("FCMA", 16, ANY),
    ("LRCPC", 20, ANY),
    ("GPA", 24, ANY),
    ("GPI", 28, ANY),
    ("FRINTTS", 32, ANY),
    ("SB", 36, ANY),
    ("SPECRES", 40, ANY),
    ("BF16", 44, ANY),
    ("DGH", 48, ANY),
    ("I8MM", 52, ANY),
    ("XS", 56, ANY),
];

/// `ID_AA64ISAR2_EL1`: arithmetic, hints and pointer authentication. Not WFxT: a WFIT that traps would be
/// taken for a WFI and forget its deadline.
const ISAR2: &[Field] = &[
    ("RPRES", 4, ANY),
    ("GPA3", 8, ANY),
    ("APA3", 12, ANY),
    ("BC", 20, ANY),
    ("PAC_frac", 24, ANY),
    ("CLRBHB", 28, ANY),
    ("PRFMSLC", 40, ANY),
    ("PCDPHINT", 44, ANY),
    ("RPRFM", 48, ANY),
    ("CSSC", 52, ANY),
    ("LUT", 56, ANY),
];

/// `ID_AA64MMFR0_EL1`: what stage 1 can do. 48-bit addresses (5), because stage 2 has no wider entries.
const MMFR0: &[Field] = &[
    ("PARange", 0, 5),
    ("ASIDBits", 4, ANY),
    ("BigEnd", 8, ANY),
    ("SNSMem", 12, ANY),
    ("BigEndEL0", 16, ANY),
    ("TGran16", 20, ANY),
    ("TGran64", 24, ANY),
    ("TGran4", 28, ANY),
    ("ExS", 44, ANY),
];

/// `ID_AA64MMFR1_EL1`. Hardware updates of access flag and dirty state (2), not what TCR2_EL1 adds to them,
/// which is not switched.
const MMFR1: &[Field] = &[
    ("HAFDBS", 0, 2),
    ("HPDS", 12, ANY),
    ("PAN", 20, ANY),
    ("SpecSEI", 24, ANY),
    ("XNX", 28, ANY),
    ("ETS", 36, ANY),
    ("AFP", 44, ANY),
    ("nTLBPA", 48, ANY),
    ("ECBHB", 60, ANY),
];

/// `ID_AA64MMFR2_EL1`. 52-bit virtual addresses at most (1): 56 bits go with 128-bit descriptors.
const MMFR2: &[Field] = &[
    ("CnP", 0, ANY),
    ("UAO", 4, ANY),
    ("LSM", 8, ANY),
    ("VARange", 16, 1),
    ("CCIDX", 20, ANY),
    ("ST", 28, ANY),
    ("AT", 32, ANY),
    ("IDS", 36, ANY),
    ("FWB", 40, ANY),
    ("TTL", 48, ANY),
    ("BBM", 52, ANY),
    ("E0PD", 60, ANY),
];

/// What a VM reads from the register with `CRm` and `op2` where the processor has `hardware`. What a VM reads
/// is shown unchanged.
pub fn visible(crm: u8, op2: u8, hardware: u64) -> u64 {
    match (crm, op2) {
        (4, 0) => show(hardware, const { limits(PFR0) }) | PFR0_LEVELS,
        (4, 1) => show(hardware, const { limits(PFR1) }),
        (5, 0) => DFR0,
        (6, 0) => show(hardware, const { limits(ISAR0) }),
        (6, 1) => show(hardware, const { limits(ISAR1) }),
        (6, 2) => show(hardware, const { limits(ISAR2) }),
        (7, 0) => show(hardware, const { limits(MMFR0) }),
        (7, 1) => show(hardware, const { limits(MMFR1) }),
        (7, 2) => show(hardware, const { limits(MMFR2) }),
        _ => 0,
    }
}

/// The largest value of each field, in the field: all that is left of a list at run time.
const fn limits(fields: &[Field]) -> u64 {
    let (mut limits, mut i) = (0, 0);
    while i < fields.len() {
        limits |= fields[i].2 << fields[i].1;
        i += 1;
    }
    limits
}

fn show(hardware: u64, limits: u64) -> u64 {
    (0..64).step_by(4).fold(0, |shown, low| shown | (hardware >> low & 0xf).min(limits >> low & 0xf) << low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: [(u8, u8, &[Field]); 8] = [
        (4, 0, PFR0),
        (4, 1, PFR1),
        (6, 0, ISAR0),
        (6, 1, ISAR1),
        (6, 2, ISAR2),
        (7, 0, MMFR0),
        (7, 1, MMFR1),
        (7, 2, MMFR2),
    ];

    /// Fields that no VM may see, whatever the processor has.
    const HIDDEN: [(u8, u8, &[Field]); 9] = [
        (
            4,
            0,
            &[
                ("EL2", 8, 0),
                ("EL3", 12, 0),
                ("GIC", 24, 0),
                ("RAS", 28, 0),
                ("SVE", 32, 0),
                ("SEL2", 36, 0),
                ("MPAM", 40, 0),
                ("AMU", 44, 0),
                ("RME", 52, 0),
            ],
        ),
        (
            4,
            1,
            &[
                ("MTE", 8, 0),
                ("RAS_frac", 12, 0),
                ("MPAM_frac", 16, 0),
                ("SME", 24, 0),
                ("RNDR_trap", 28, 0),
                ("CSV2_frac", 32, 0),
                ("NMI", 36, 0),
                ("MTE_frac", 40, 0),
                ("GCS", 44, 0),
                ("THE", 48, 0),
                ("MTEX", 52, 0),
                ("DF2", 56, 0),
                ("PFAR", 60, 0),
            ],
        ),
        (
            5,
            0,
            &[
                ("TraceVer", 4, 0),
                ("PMUVer", 8, 0),
                ("PMSS", 16, 0),
                ("CTX_CMPs", 28, 0),
                ("PMSVer", 32, 0),
                ("TraceFilt", 40, 0),
                ("TraceBuffer", 44, 0),
                ("MTPMU", 48, 0),
                ("BRBE", 52, 0),
                ("ExtTrcBuff", 56, 0),
                ("HPMN0", 60, 0),
            ],
        ),
        (6, 0, &[("TME", 24, 0)]),
        (6, 1, &[("LS64", 60, 0)]),
        (6, 2, &[("WFxT", 0, 0), ("MOPS", 16, 0), ("SYSREG_128", 32, 0), ("SYSINSTR_128", 36, 0)]),
        (7, 0, &[("FGT", 56, 0), ("ECV", 60, 0)]),
        (
            7,
            1,
            &[
                ("VMIDBits", 4, 0),
                ("VH", 8, 0),
                ("LO", 16, 0),
                ("TWED", 32, 0),
                ("HCX", 40, 0),
                ("TIDCP1", 52, 0),
                ("CMOW", 56, 0),
            ],
        ),
        (7, 2, &[("IESB", 12, 0), ("NV", 24, 0), ("EVT", 56, 0)]),
    ];

    fn field(register: u64, low: u32) -> u64 {
        register >> low & 0xf
    }

    #[test]
    fn hidden_fields_read_as_zero() {
        for (crm, op2, fields) in HIDDEN {
            for (name, low, _) in fields {
                assert_eq!(field(visible(crm, op2, u64::MAX), *low), 0, "c{crm} {op2} {name}");
            }
        }
    }

    #[test]
    fn visible_fields_match_processor() {
        for (crm, op2, fields) in REGISTERS {
            for &(name, low, most) in fields {
                assert_eq!(low % 4, 0, "{name}");
                for value in 0..16 {
                    let shown = field(visible(crm, op2, value << low), low);
                    assert_eq!(shown, value.min(most), "c{crm} {op2} {name}");
                }
            }
            let named: u64 = fields.iter().map(|(_, low, _)| 0xf << low).sum();
            let rest = visible(crm, op2, u64::MAX) & !named;
            assert_eq!(rest, if (crm, op2) == (4, 0) { PFR0_LEVELS } else { 0 }, "c{crm} {op2}");
        }
    }

    #[test]
    fn visible_registers_hide_nothing_more() {
        for (crm, op2) in (1..8).flat_map(|crm| (0..8).map(move |op2| (crm, op2))) {
            for hardware in [0, u64::MAX, 0x1122_3344_5566_7788, 0x8888_4444_2222_1111] {
                let seen = visible(crm, op2, hardware);
                assert_eq!(visible(crm, op2, seen), seen, "c{crm} {op2}");
            }
        }
    }

    #[test]
    fn limits() {
        let top = |crm, op2, low| field(visible(crm, op2, u64::MAX), low);
        assert_eq!([top(4, 0, 0), top(4, 0, 4), top(4, 0, 56), top(4, 0, 60)], [1, 1, 1, 1]);
        assert_eq!([top(7, 0, 0), top(7, 1, 0)], [5, 2]);
        // FP and Advanced SIMD that are not there stay away.
        assert_eq!([top(4, 0, 16), top(4, 0, 20)], [15, 15]);
        assert_eq!(visible(4, 0, 0), PFR0_LEVELS);
    }

    #[test]
    fn debug_does_not_depend_on_the_processor() {
        let debug = visible(5, 0, u64::MAX);
        assert_eq!(debug, visible(5, 0, 0));
        assert_eq!([field(debug, 0), field(debug, 12), field(debug, 20), field(debug, 36)], [6, 1, 1, 15]);
    }

    #[test]
    fn all_other_registers_read_as_zero() {
        let known = |crm, op2| (crm, op2) == (5, 0) || REGISTERS.iter().any(|r| (r.0, r.1) == (crm, op2));
        for (crm, op2) in (0..16).flat_map(|crm| (0..8).map(move |op2| (crm, op2))) {
            assert_eq!(visible(crm, op2, u64::MAX) != 0, known(crm, op2), "c{crm} {op2}");
        }
    }
}
