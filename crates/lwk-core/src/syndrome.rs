//! `ESR_ELx` in words.

use core::fmt;

/// A syndrome: the value of `ESR_EL1` or `ESR_EL2`. Displays as a sentence.
///
/// ```
/// let read = lwk_core::syndrome::Syndrome(0x9600_0007);
/// assert_eq!(read.to_string(), "data abort at the same level: read, translation fault, level 3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syndrome(pub u64);

impl Syndrome {
    /// Exception class (Arm ARM, D19.2.37 `ESR_EL1.EC`).
    pub const fn class(self) -> u8 {
        (self.0 >> 26 & 0x3f) as u8
    }

    /// Instruction-specific syndrome (`ESR_EL1.ISS`).
    pub const fn iss(self) -> u32 {
        self.0 as u32 & 0x01ff_ffff
    }

    /// Returns whether `FAR_ELx` holds the faulting address.
    pub const fn has_address(self) -> bool {
        let aborts = matches!(self.class(), 0x20 | 0x21 | 0x24 | 0x25 | 0x22 | 0x34 | 0x35);
        // FnV: for external aborts, FAR may not be valid.
        aborts && self.iss() & 1 << 10 == 0
    }

    /// Returns whether the abort was a write.
    pub const fn is_write(self) -> bool {
        matches!(self.class(), 0x24 | 0x25) && self.iss() & 1 << 6 != 0
    }

    const fn class_text(self) -> &'static str {
        match self.class() {
            0x00 => "undefined instruction",
            0x01 => "trapped WFI or WFE",
            0x07 => "trapped FP or SIMD instruction",
            0x0e => "illegal execution state",
            0x15 => "SVC",
            0x16 => "HVC",
            0x17 => "SMC",
            0x18 => "trapped system register access",
            0x19 => "trapped SVE instruction",
            0x20 => "instruction abort at a lower level",
            0x21 => "instruction abort at the same level",
            0x22 => "misaligned program counter",
            0x24 => "data abort at a lower level",
            0x25 => "data abort at the same level",
            0x26 => "misaligned stack pointer",
            0x2c => "trapped floating-point exception",
            0x2f => "SError",
            0x30 | 0x31 => "hardware breakpoint",
            0x32 | 0x33 => "single step",
            0x34 | 0x35 => "watchpoint",
            0x3c => "BRK",
            _ => "exception of an unknown class",
        }
    }
}

/// Fault status code of an abort (Arm ARM, `ESR_EL1`, ISS encoding for aborts).
fn fault_status(f: &mut fmt::Formatter<'_>, code: u32) -> fmt::Result {
    let level = code & 3;
    match code {
        0x00..=0x03 => write!(f, "address size fault, level {level}"),
        0x04..=0x07 => write!(f, "translation fault, level {level}"),
        0x08..=0x0b => write!(f, "access flag fault, level {level}"),
        0x0c..=0x0f => write!(f, "permission fault, level {level}"),
        0x10 => f.write_str("external abort"),
        0x14..=0x17 => write!(f, "external abort on a table walk, level {level}"),
        0x21 => f.write_str("alignment fault"),
        0x30 => f.write_str("TLB conflict"),
        _ => write!(f, "fault status {code:#x}"),
    }
}

/// The register of a trapped MRS or MSR (ISS encoding for exception class 0x18).
fn system_register(f: &mut fmt::Formatter<'_>, iss: u32) -> fmt::Result {
    let direction = if iss & 1 == 0 { "write to" } else { "read of" };
    let (op0, op1, op2) = (iss >> 20 & 3, iss >> 14 & 7, iss >> 17 & 7);
    let (crn, crm) = (iss >> 10 & 15, iss >> 1 & 15);
    write!(f, ": {direction} S{op0}_{op1}_C{crn}_C{crm}_{op2}")
}

impl Syndrome {
    /// Of a fault at stage 2: whether it was in a walk of stage-1 tables (ISS.S1PTW).
    fn walk(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.iss() & 1 << 7 == 0 { "" } else { ", in a stage 1 walk" })
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class_text())?;
        let iss = self.iss();
        match self.class() {
            0x20 | 0x21 => {
                f.write_str(": ")?;
                fault_status(f, iss & 0x3f)?;
                self.walk(f)
            }
            0x24 | 0x25 => {
                f.write_str(if self.is_write() { ": write, " } else { ": read, " })?;
                fault_status(f, iss & 0x3f)?;
                self.walk(f)
            }
            0x15..=0x17 | 0x3c => write!(f, " #{:#x}", iss & 0xffff),
            0x18 => system_register(f, iss),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn aborts() {
        assert_eq!(
            Syndrome(0x9200_0046).to_string(),
            "data abort at a lower level: write, translation fault, level 2"
        );
        assert_eq!(
            Syndrome(0x8600_000f).to_string(),
            "instruction abort at the same level: permission fault, level 3"
        );
        assert_eq!(Syndrome(0x9600_0021).to_string(), "data abort at the same level: read, alignment fault");
        assert!(Syndrome(0x9600_0007).has_address());
        assert!(!Syndrome(0x0200_0000).has_address());
    }

    #[test]
    fn instructions() {
        assert_eq!(Syndrome(0x0200_0000).to_string(), "undefined instruction");
        assert_eq!(Syndrome(0xf200_0001).to_string(), "BRK #0x1");
        assert_eq!(Syndrome(0x5e00_0000).to_string(), "SMC #0x0");
        // mrs x0, hcr_el2: op0 3, op1 4, CRn 1, CRm 1, op2 0.
        let iss = 3 << 20 | 4 << 14 | 1 << 10 | 1 << 1 | 1;
        let text = "trapped system register access: read of S3_4_C1_C1_0";
        assert_eq!(Syndrome(0x18 << 26 | iss).to_string(), text);
    }

    #[test]
    fn every_syndrome_has_words() {
        for class in 0..64_u64 {
            for iss in [0, 1, 0x3f, 0x1ff_ffff] {
                assert!(!Syndrome(class << 26 | iss).to_string().is_empty());
            }
        }
    }
}
