//! What a processor can do, in the bits that programs know: `AT_HWCAP` and `AT_HWCAP2`.
//!
//! Bits from Linux' `uapi/asm/hwcap.h` for AArch64, fields from the Arm ARM, D24.2 "General system control
//! registers". Not reported, because they need a kernel that takes part: `EVTSTRM`, MTE, SME, GCS and MOPS.
//! `CPUID` is for the kernel to add, if it emulates reads of identification registers ([`crate::cpuid`]).

use core::ops::BitAnd;

/// Identification registers, as read from the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// `ID_AA64ISAR0_EL1`.
    pub isar0: u64,
    /// `ID_AA64ISAR1_EL1`.
    pub isar1: u64,
    /// `ID_AA64ISAR2_EL1`.
    pub isar2: u64,
    /// `ID_AA64PFR0_EL1`.
    pub pfr0: u64,
    /// `ID_AA64PFR1_EL1`.
    pub pfr1: u64,
    /// `ID_AA64MMFR0_EL1`.
    pub mmfr0: u64,
    /// `ID_AA64MMFR1_EL1`.
    pub mmfr1: u64,
    /// `ID_AA64MMFR2_EL1`.
    pub mmfr2: u64,
    /// `ID_AA64ZFR0_EL1`.
    pub zfr0: u64,
}

/// Features that programs may use only if the kernel does something for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// SVE and SVE2: the kernel enables it, and saves its registers.
    pub sve: bool,
    /// Pointer authentication: the kernel enables it, and keys differ between processes.
    pub pointer_authentication: bool,
    /// Branch target identification: the kernel maps code that has landing pads as guarded.
    pub bti: bool,
}

/// `AT_HWCAP` and `AT_HWCAP2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hwcaps {
    /// `AT_HWCAP`.
    pub hwcap: u64,
    /// `AT_HWCAP2`.
    pub hwcap2: u64,
}

/// What both processors can do: on machines with different cores, a program may use only that.
impl BitAnd for Hwcaps {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self { hwcap: self.hwcap & other.hwcap, hwcap2: self.hwcap2 & other.hwcap2 }
    }
}

/// The vector of a capability.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vector {
    Hwcap,
    Hwcap2,
}

/// What allows a capability.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Sve,
    PointerAuthentication,
    Bti,
}

type Read = fn(&IdRegisters) -> u64;

/// A capability: its name in `asm/hwcap.h`, its bit, and the field that has at least this value if it is
/// there.
struct Capability {
    name: &'static str,
    vector: Vector,
    bit: u32,
    register: Read,
    shift: u32,
    least: u64,
    needs: Needs,
}

impl Capability {
    const fn one(name: &'static str, bit: u32, register: Read, shift: u32, least: u64) -> Self {
        Self { name, vector: Vector::Hwcap, bit, register, shift, least, needs: Needs::Nothing }
    }

    const fn two(name: &'static str, bit: u32, register: Read, shift: u32, least: u64) -> Self {
        Self { vector: Vector::Hwcap2, ..Self::one(name, bit, register, shift, least) }
    }

    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    const fn is_signed(&self) -> bool {
        // ID_AA64PFR0_EL1.FP and AdvSIMD: 0 is there, 1 is with half precision, 15 is not there.
        matches!(self.name.as_bytes(), b"FP" | b"FPHP" | b"ASIMD" | b"ASIMDHP")
    }

    fn is_in(&self, registers: &IdRegisters) -> bool {
        let field = (self.register)(registers) >> self.shift & 0xf;
        field >= self.least && !(self.is_signed() && field >= 8)
    }
}

const ISAR0: Read = |registers| registers.isar0;
const ISAR1: Read = |registers| registers.isar1;
const ISAR2: Read = |registers| registers.isar2;
const PFR0: Read = |registers| registers.pfr0;
const PFR1: Read = |registers| registers.pfr1;
const MMFR0: Read = |registers| registers.mmfr0;
const MMFR1: Read = |registers| registers.mmfr1;
const MMFR2: Read = |registers| registers.mmfr2;
const ZFR0: Read = |registers| registers.zfr0;

use Capability as C;
use Needs::{Bti, PointerAuthentication, Sve};

/// A capability that is in several fields is in several lines.
const CAPABILITIES: &[Capability] = &[
    C::one("FP", 0, PFR0, 16, 0),
    C::one("ASIMD", 1, PFR0, 20, 0),
    C::one("AES", 3, ISAR0, 4, 1),
    C::one("PMULL", 4, ISAR0, 4, 2),
    C::one("SHA1", 5, ISAR0, 8, 1),
    C::one("SHA2", 6, ISAR0, 12, 1),
    C::one("CRC32", 7, ISAR0, 16, 1),
    C::one("ATOMICS", 8, ISAR0, 20, 2),
    C::one("FPHP", 9, PFR0, 16, 1),
    C::one("ASIMDHP", 10, PFR0, 20, 1),
    C::one("ASIMDRDM", 12, ISAR0, 28, 1),
    C::one("JSCVT", 13, ISAR1, 12, 1),
    C::one("FCMA", 14, ISAR1, 16, 1),
    C::one("LRCPC", 15, ISAR1, 20, 1),
    C::one("DCPOP", 16, ISAR1, 0, 1),
    C::one("SHA3", 17, ISAR0, 32, 1),
    C::one("SM3", 18, ISAR0, 36, 1),
    C::one("SM4", 19, ISAR0, 40, 1),
    C::one("ASIMDDP", 20, ISAR0, 44, 1),
    C::one("SHA512", 21, ISAR0, 12, 2),
    C::one("SVE", 22, PFR0, 32, 1).needs(Sve),
    C::one("ASIMDFHM", 23, ISAR0, 48, 1),
    C::one("DIT", 24, PFR0, 48, 1),
    C::one("USCAT", 25, MMFR2, 32, 1),
    C::one("ILRCPC", 26, ISAR1, 20, 2),
    C::one("FLAGM", 27, ISAR0, 52, 1),
    C::one("SSBS", 28, PFR1, 4, 2),
    C::one("SB", 29, ISAR1, 36, 1),
    // QARMA5, the maker's own algorithm, QARMA3.
    C::one("PACA", 30, ISAR1, 4, 1).needs(PointerAuthentication),
    C::one("PACA", 30, ISAR1, 8, 1).needs(PointerAuthentication),
    C::one("PACA", 30, ISAR2, 12, 1).needs(PointerAuthentication),
    C::one("PACG", 31, ISAR1, 24, 1).needs(PointerAuthentication),
    C::one("PACG", 31, ISAR1, 28, 1).needs(PointerAuthentication),
    C::one("PACG", 31, ISAR2, 8, 1).needs(PointerAuthentication),
    C::two("DCPODP", 0, ISAR1, 0, 2),
    C::two("SVE2", 1, ZFR0, 0, 1).needs(Sve),
    C::two("SVEAES", 2, ZFR0, 4, 1).needs(Sve),
    C::two("SVEPMULL", 3, ZFR0, 4, 2).needs(Sve),
    C::two("SVEBITPERM", 4, ZFR0, 16, 1).needs(Sve),
    C::two("SVESHA3", 5, ZFR0, 32, 1).needs(Sve),
    C::two("SVESM4", 6, ZFR0, 40, 1).needs(Sve),
    C::two("FLAGM2", 7, ISAR0, 52, 2),
    C::two("FRINT", 8, ISAR1, 32, 1),
    C::two("SVEI8MM", 9, ZFR0, 44, 1).needs(Sve),
    C::two("SVEF32MM", 10, ZFR0, 52, 1).needs(Sve),
    C::two("SVEF64MM", 11, ZFR0, 56, 1).needs(Sve),
    C::two("SVEBF16", 12, ZFR0, 20, 1).needs(Sve),
    C::two("I8MM", 13, ISAR1, 52, 1),
    C::two("BF16", 14, ISAR1, 44, 1),
    C::two("DGH", 15, ISAR1, 48, 1),
    C::two("RNG", 16, ISAR0, 60, 1),
    C::two("BTI", 17, PFR1, 0, 1).needs(Bti),
    C::two("ECV", 19, MMFR0, 60, 1),
    C::two("AFP", 20, MMFR1, 44, 1),
    C::two("RPRES", 21, ISAR2, 4, 1),
    C::two("WFXT", 31, ISAR2, 0, 2),
    C::two("EBF16", 32, ISAR1, 44, 2),
    C::two("SVE_EBF16", 33, ZFR0, 20, 2).needs(Sve),
    C::two("CSSC", 34, ISAR2, 52, 1),
    C::two("RPRFM", 35, ISAR2, 48, 1),
    C::two("SVE2P1", 36, ZFR0, 0, 2).needs(Sve),
];

impl Hwcaps {
    /// `HWCAP_CPUID`: a program may read identification registers.
    pub const CPUID: u64 = 1 << 11;

    /// Returns the features of a processor with these registers, under a kernel that allows this.
    pub fn of(registers: &IdRegisters, allowed: Allowed) -> Self {
        // Without SVE, ID_AA64ZFR0_EL1 means nothing.
        let sve = allowed.sve && registers.pfr0 >> 32 & 0xf != 0;
        let mut caps = Self::default();
        for capability in CAPABILITIES.iter().filter(|capability| capability.is_in(registers)) {
            let granted = match capability.needs {
                Needs::Nothing => true,
                Sve => sve,
                PointerAuthentication => allowed.pointer_authentication,
                Bti => allowed.bti,
            };
            let vector = match capability.vector {
                Vector::Hwcap => &mut caps.hwcap,
                Vector::Hwcap2 => &mut caps.hwcap2,
            };
            *vector |= u64::from(granted) << capability.bit;
        }
        caps
    }

    /// Names of what is there, as in `/proc/cpuinfo` but in capitals.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let mut last = "";
        CAPABILITIES.iter().filter_map(move |capability| {
            let vector = if capability.vector == Vector::Hwcap { self.hwcap } else { self.hwcap2 };
            let new = core::mem::replace(&mut last, capability.name) != capability.name;
            (vector >> capability.bit & 1 != 0 && new).then_some(capability.name)
        })
    }
}
