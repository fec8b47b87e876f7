//! What an exception syndrome says, in words.
//!
//! [`Syndrome`] is a value of `ESR_EL2` (Arm ARM, D19.2.39). Its accessors take fields apart, and `Display` makes the
//! phrase that reports print:
//!
//! ```text
//! data abort from a lower exception level: translation fault, level 2, on a write of x3
//! trapped MSR/MRS: read of s3_0_c1_c0_1 into x0
//! ```
//! Values that no architecture document explains yet are shown as numbers.

use core::fmt;

/// A value of `ESR_EL2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syndrome(pub(crate) u64);

impl Syndrome {
    /// The exception class.
    pub(crate) const fn ec(self) -> u8 {
        self.bits(26, 6) as u8
    }

    /// The instruction-specific syndrome.
    pub(crate) const fn iss(self) -> u32 {
        self.bits(0, 25)
    }

    const fn bits(self, low: u32, count: u32) -> u32 {
        (self.0 >> low & ((1 << count) - 1)) as u32
    }

    const fn bit(self, bit: u32) -> bool {
        self.bits(bit, 1) != 0
    }

    /// Of a data abort: whether a write caused it. Cache maintenance counts as a write.
    pub(crate) const fn is_write(self) -> bool {
        self.bit(6)
    }

    /// Of a data abort: whether a cache maintenance or address translation instruction caused it.
    pub(crate) const fn is_maintenance(self) -> bool {
        self.bit(8)
    }

    /// Of an abort: whether it happened at stage 2, in a walk of stage-1 tables.
    pub(crate) const fn in_stage1_walk(self) -> bool {
        self.bit(7)
    }

    /// Of a data abort: the register that was to be loaded or stored, SRT, if ISV says that this is known.
    pub(crate) fn transfer_register(self) -> Option<Register> {
        self.bit(24).then(|| Register(self.bits(16, 5) as u8))
    }

    /// Of an abort: what went wrong.
    pub(crate) const fn fault(self) -> FaultStatus {
        FaultStatus(self.bits(0, 6) as u8)
    }

    /// Of a trapped MSR, MRS or system instruction: what it wanted.
    pub(crate) const fn system_access(self) -> SystemAccess {
        SystemAccess {
            op0: self.bits(20, 2) as u8,
            op1: self.bits(14, 3) as u8,
            crn: self.bits(10, 4) as u8,
            crm: self.bits(1, 4) as u8,
            op2: self.bits(17, 3) as u8,
            rt: Register(self.bits(5, 5) as u8),
            is_read: self.bit(0),
        }
    }
}

/// A general register, as a load, store or move names it: 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u8);

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 31 { write!(f, "xzr") } else { write!(f, "x{}", self.0) }
    }
}

impl SystemAccess {
    /// The register, as `hv_abi::registers` names it.
    pub(crate) const fn encoding(self) -> u16 {
        let Self { op0, op1, crn, crm, op2, .. } = self;
        hv_abi::registers::encoding(op0 as u16, op1 as u16, crn as u16, crm as u16, op2 as u16)
    }
}

/// A trapped access to a system register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SystemAccess {
    pub(crate) op0: u8,
    pub(crate) op1: u8,
    pub(crate) crn: u8,
    pub(crate) crm: u8,
    pub(crate) op2: u8,
    pub(crate) rt: Register,
    pub(crate) is_read: bool,
}

impl fmt::Display for SystemAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op0, op1, crn, crm, op2, rt, is_read } = self;
        let (access, into) = if *is_read { ("read", "into") } else { ("write", "from") };
        write!(f, "{access} of s{op0}_{op1}_c{crn}_c{crm}_{op2} {into} {rt}")
    }
}

/// The fault status code of an abort, IFSC or DFSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultStatus(pub(crate) u8);

/// What went wrong, without where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    AddressSize,
    Translation,
    AccessFlag,
    Permission,
    External,
    ExternalOnWalk,
    TagCheck,
    Ecc,
    EccOnWalk,
    Alignment,
    GranuleProtection,
    GranuleProtectionOnWalk,
    TlbConflict,
    AtomicHardwareUpdate,
    Lockdown,
    UnsupportedAtomic,
}

impl FaultStatus {
    /// The kind of fault; `None` if the code is reserved.
    pub(crate) const fn kind(self) -> Option<FaultKind> {
        Some(match self.0 {
            0b00_0000..=0b00_0011 | 0b10_1001 => FaultKind::AddressSize,
            0b00_0100..=0b00_0111 | 0b10_1011 => FaultKind::Translation,
            0b00_1000..=0b00_1011 => FaultKind::AccessFlag,
            0b00_1100..=0b00_1111 => FaultKind::Permission,
            0b01_0000 => FaultKind::External,
            0b01_0001 => FaultKind::TagCheck,
            0b01_0011..=0b01_0111 => FaultKind::ExternalOnWalk,
            0b01_1000 => FaultKind::Ecc,
            0b01_1011..=0b01_1111 => FaultKind::EccOnWalk,
            0b10_0001 => FaultKind::Alignment,
            0b10_0011..=0b10_0111 => FaultKind::GranuleProtectionOnWalk,
            0b10_1000 => FaultKind::GranuleProtection,
            0b11_0000 => FaultKind::TlbConflict,
            0b11_0001 => FaultKind::AtomicHardwareUpdate,
            0b11_0100 => FaultKind::Lockdown,
            0b11_0101 => FaultKind::UnsupportedAtomic,
            _ => return None,
        })
    }

    /// The level of the tables at which it went wrong, for the kinds that have one.
    pub(crate) const fn level(self) -> Option<i8> {
        match self.0 {
            0b01_0011 | 0b01_1011 | 0b10_0011 | 0b10_1001 | 0b10_1011 => Some(-1),
            0b00_0000..=0b00_1111 | 0b01_0100..=0b01_0111 | 0b01_1100..=0b01_1111 | 0b10_0100..=0b10_0111 => {
                Some((self.0 & 3) as i8)
            }
            _ => None,
        }
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.kind() else { return write!(f, "fault status {:#x}", self.0) };
        f.write_str(match kind {
            FaultKind::AddressSize => "address size fault",
            FaultKind::Translation => "translation fault",
            FaultKind::AccessFlag => "access flag fault",
            FaultKind::Permission => "permission fault",
            FaultKind::External => "external abort",
            FaultKind::ExternalOnWalk => "external abort on a table walk",
            FaultKind::TagCheck => "tag check fault",
            FaultKind::Ecc => "parity or ECC error",
            FaultKind::EccOnWalk => "parity or ECC error on a table walk",
            FaultKind::Alignment => "alignment fault",
            FaultKind::GranuleProtection => "granule protection fault",
            FaultKind::GranuleProtectionOnWalk => "granule protection fault on a table walk",
            FaultKind::TlbConflict => "TLB conflict",
            FaultKind::AtomicHardwareUpdate => "unsupported atomic hardware update",
            FaultKind::Lockdown => "lockdown fault",
            FaultKind::UnsupportedAtomic => "unsupported exclusive or atomic access",
        })?;
        self.level().map_or(Ok(()), |level| write!(f, ", level {level}"))
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.ec() & 1 == 0 { "a lower exception level" } else { "the same exception level" };
        match self.ec() {
            0x01 => f.write_str(["WFI", "WFE", "WFIT", "WFET"][self.bits(0, 2) as usize]),
            0x15 => self.call(f, "SVC"),
            0x16 => self.call(f, "HVC"),
            0x17 => self.call(f, "SMC"),
            0x18 => write!(f, "trapped MSR/MRS: {}", self.system_access()),
            0x20 | 0x21 => write!(f, "instruction abort from {from}: {}{}", self.fault(), self.walk()),
            0x24 | 0x25 => {
                write!(f, "data abort from {from}: {}{}", self.fault(), self.walk())?;
                let access = match (self.is_maintenance(), self.is_write()) {
                    (true, _) => "cache maintenance",
                    (false, true) => "a write",
                    (false, false) => "a read",
                };
                write!(f, ", on {access}")?;
                self.transfer_register().map_or(Ok(()), |register| write!(f, " of {register}"))
            }
            0x30 | 0x31 => write!(f, "breakpoint at {from}"),
            0x32 | 0x33 => write!(f, "software step at {from}"),
            0x34 | 0x35 => write!(f, "watchpoint at {from}"),
            0x3c => self.call(f, "BRK"),
            class => match class_name(class) {
                Some(name) => f.write_str(name),
                None => write!(f, "exception class {class:#x}, syndrome {:#x}", self.iss()),
            },
        }
    }
}

impl Syndrome {
    /// An instruction that calls, and its immediate if that is used.
    fn call(self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        match self.bits(0, 16) {
            0 => f.write_str(name),
            immediate => write!(f, "{name} #{immediate:#x}"),
        }
    }

    fn walk(self) -> &'static str {
        if self.in_stage1_walk() { ", in a stage 1 walk" } else { "" }
    }
}

/// Exception classes of which the class is all there is to say.
fn class_name(class: u8) -> Option<&'static str> {
    Some(match class {
        0x00 => "undefined instruction or unknown reason",
        0x03..=0x06 | 0x08 | 0x0c => "trapped AArch32 system access",
        0x07 => "trapped floating-point or SIMD instruction",
        0x09 => "trapped pointer authentication",
        0x0a => "trapped 64-byte load or store, or instruction of a disabled extension",
        0x0d => "branch target exception",
        0x0e => "illegal execution state",
        0x11 => "SVC in AArch32",
        0x12 => "HVC in AArch32",
        0x13 => "SMC in AArch32",
        0x14 => "trapped MSRR/MRRS",
        0x19 => "trapped SVE instruction",
        0x1a => "trapped ERET",
        0x1b => "TSTART",
        0x1c => "pointer authentication failure",
        0x1d => "trapped SME instruction",
        0x1e => "granule protection check",
        0x22 => "misaligned program counter",
        0x26 => "misaligned stack pointer",
        0x27 => "memory copy or set exception",
        0x28 | 0x2c => "floating-point exception",
        0x2d => "guarded control stack exception",
        0x2f => "SError",
        0x38 => "BKPT in AArch32",
        0x3a => "vector catch in AArch32",
        0x3d => "profiling exception",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn words() {
        let table = [
            (0x9203_0046, "data abort from a lower exception level: translation fault, level 2, on a write"),
            (
                0x9383_0046,
                "data abort from a lower exception level: translation fault, level 2, on a write of x3",
            ),
            (
                0x9380_0007,
                "data abort from a lower exception level: translation fault, level 3, on a read of x0",
            ),
            (
                0x939f_004d,
                "data abort from a lower exception level: permission fault, level 1, on a write of xzr",
            ),
            (0x9600_0061, "data abort from the same exception level: alignment fault, on a write"),
            (
                0x9200_0145,
                "data abort from a lower exception level: translation fault, level 1, on cache maintenance",
            ),
            (0x9600_0010, "data abort from the same exception level: external abort, on a read"),
            (0x9600_003f, "data abort from the same exception level: fault status 0x3f, on a read"),
            (0x8200_0006, "instruction abort from a lower exception level: translation fault, level 2"),
            (
                0x8200_0087,
                "instruction abort from a lower exception level: translation fault, level 3, in a stage 1 walk",
            ),
            (0x8600_002b, "instruction abort from the same exception level: translation fault, level -1"),
            (0x6232_0401, "trapped MSR/MRS: read of s3_0_c1_c0_1 into x0"),
            // ICC_SGI1R_EL1.
            (0x623a_3016 | 31 << 5, "trapped MSR/MRS: write of s3_0_c12_c11_5 from xzr"),
            (0x0600_0001, "WFE"),
            (0x0600_0000, "WFI"),
            (0x5a00_0000, "HVC"),
            (0x5a00_0123, "HVC #0x123"),
            (0x5e00_0000, "SMC"),
            (0x5600_0000, "SVC"),
            (0x1fe0_0000, "trapped floating-point or SIMD instruction"),
            (0x3a00_0000, "illegal execution state"),
            (0x0200_0000, "undefined instruction or unknown reason"),
            (0xbe00_0011, "SError"),
            (0xf200_0001, "BRK #0x1"),
            (0xc600_0022, "breakpoint at the same exception level"),
            (0xfe00_0042, "exception class 0x3f, syndrome 0x42"),
        ];
        for (esr, words) in table {
            assert_eq!(Syndrome(esr).to_string(), words, "{esr:#x}");
        }
    }

    #[test]
    fn fields() {
        let abort = Syndrome(0x1_9383_0046);
        assert_eq!((abort.ec(), abort.iss()), (0x24, 0x183_0046));
        assert!(abort.is_write() && !abort.is_maintenance() && !abort.in_stage1_walk());
        assert_eq!(abort.transfer_register(), Some(Register(3)));
        assert_eq!((abort.fault().kind(), abort.fault().level()), (Some(FaultKind::Translation), Some(2)));

        let access = Syndrome(0x6232_0401).system_access();
        let expected =
            SystemAccess { op0: 3, op1: 0, crn: 1, crm: 0, op2: 1, rt: Register(0), is_read: true };
        assert_eq!(access, expected);
    }

    #[test]
    fn every_value_has_words() {
        for class in 0..64u64 {
            for iss in (0..1 << 25).step_by(4099) {
                assert!(!Syndrome(class << 26 | iss).to_string().is_empty());
            }
        }
    }

    #[test]
    fn levels_go_with_kinds() {
        for code in (0..64).map(FaultStatus) {
            let text = code.to_string();
            assert_eq!(text.contains("level"), code.level().is_some(), "{text}");
            assert!(code.kind().is_some() || code.level().is_none());
            assert!(!text.contains("walk") || code.level().is_some());
        }
    }
}
