//! Identification registers as programs read them: `MRS` at EL0, which the kernel emulates.
//!
//! The registers, their fields and the values of hidden fields are those of Linux
//! (`Documentation/arch/arm64/cpu-feature-registers.rst`, `arch/arm64/kernel/cpufeature.c`).

use crate::hwcap::IdRegisters;

/// An `MRS` of an identification register (Arm ARM, C5.2; op0 3, op1 0, CRn 0) that Linux emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mrs {
    /// The register that is written: 31 for none.
    pub target: usize,
    register: (u32, u32),
}

/// `MPIDR_EL1` for programs: bit 31 alone is set, which always is.
const MPIDR: u64 = 1 << 31;
/// `ID_AA64DFR0_EL1`: an Armv8 debug architecture, and nothing else.
const DFR0: u64 = 6;

impl Mrs {
    /// Decodes an instruction; `None` if it is another one, or of a register that is not emulated.
    pub const fn decode(instruction: u32) -> Option<Self> {
        // MRS: 1101 0101 0011, o0 (op0 - 2), op1, CRn, CRm, op2, Rt.
        if instruction >> 12 != 0xd_5380 {
            return None;
        }
        let (crm, op2) = (instruction >> 8 & 15, instruction >> 5 & 7);
        if !matches!((crm, op2), (0, 0 | 5 | 6) | (2..=7, _)) {
            return None;
        }
        Some(Self { target: (instruction & 31) as usize, register: (crm, op2) })
    }

    /// The value that a program reads. Without SVE, pointer authentication, BTI, MTE and SME, which are
    /// hidden.
    pub const fn value(self, midr: u64, registers: &IdRegisters) -> u64 {
        match self.register {
            (0, 0) => midr,
            (0, 5) => MPIDR,
            // FP and AdvSIMD, DIT; EL0 and EL1 in AArch64 alone.
            (4, 0) => registers.pfr0 & 0x000f_0000_00ff_0000 | 0x11,
            // SSBS.
            (4, 1) => registers.pfr1 & 0xf0,
            (5, 0) => DFR0,
            (6, 0) => registers.isar0 & 0xf0ff_ffff_f0ff_fff0,
            (6, 1) => registers.isar1 & 0x00ff_f0ff_00ff_f00f,
            (6, 2) => registers.isar2 & 0x00ff_0000_00f0_00ff,
            // ECV; no page sizes.
            (7, 0) => registers.mmfr0 & 0xf << 60 | 0xff00_0000,
            // AFP, and the width of atomic accesses (AT).
            (7, 1) => registers.mmfr1 & 0xf << 44,
            (7, 2) => registers.mmfr2 & 0xf << 32,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDR_TO_X3: u32 = 0xd538_0003;

    fn mrs(crm: u32, op2: u32) -> Option<Mrs> {
        Mrs::decode(MIDR_TO_X3 | crm << 8 | op2 << 5)
    }

    #[test]
    fn decodes_only_emulated_registers() {
        assert_eq!(mrs(0, 0), Some(Mrs { target: 3, register: (0, 0) }));
        assert!(mrs(0, 5).is_some() && mrs(0, 6).is_some() && mrs(7, 7).is_some());
        assert!(mrs(0, 1).is_none() && mrs(1, 0).is_none() && mrs(8, 0).is_none());
        // SCTLR_EL1, CTR_EL0, MSR, and an instruction that is not defined.
        for other in [0xd538_1003, 0xd53b_0023, 0xd518_0003, 0] {
            assert_eq!(Mrs::decode(other), None, "{other:#x}");
        }
    }

    #[test]
    fn hides_fields_that_programs_must_not_use() {
        let all = u64::MAX;
        let registers = IdRegisters {
            isar0: all,
            isar1: all,
            isar2: all,
            pfr0: all,
            pfr1: all,
            mmfr0: all,
            mmfr1: all,
            mmfr2: all,
            zfr0: all,
        };
        let read = |crm, op2| mrs(crm, op2).unwrap().value(0x410f_d0c1, &registers);
        assert_eq!(read(0, 0), 0x410f_d0c1);
        assert_eq!((read(0, 5), read(0, 6)), (1 << 31, 0));
        assert_eq!(read(4, 0) >> 32 & 0xf, 0, "no SVE");
        assert_eq!(read(4, 4), 0, "no SVE2");
        assert_eq!(read(6, 1) & 0xff00_0ff0, 0, "no pointer authentication");
        assert_eq!(read(4, 1) & 0xf0f, 0, "no BTI and no MTE");
        assert_eq!(read(7, 0) & 0xff00_0000, 0xff00_0000);
    }
}
