//! Fields of `ESR_EL2` (Arm ARM, D19.2.39). What a syndrome says in words is for those who read it: the hypervisor prints and passes
//! on the number, and the primary's kernel explains it.

/// Fault status code of translation faults, without their level (Arm ARM, DFSC).
const TRANSLATION_FAULT: u32 = 0b0001;

/// A value of `ESR_EL2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syndrome(pub(crate) u64);

impl Syndrome {
    const fn bits(self, low: u32, count: u32) -> u32 {
        (self.0 >> low & ((1 << count) - 1)) as u32
    }

    /// Of a data abort by an access that the syndrome describes (Arm ARM, ISS encoding for a data abort: ISV, SAS, SRT, `WnR`), to an
    /// address that is not mapped: after any other fault `HPFAR_EL2` does not say which (Arm ARM, `HPFAR_EL2`).
    pub(crate) const fn memory_access(self) -> Option<MemoryAccess> {
        if self.bits(26, 6) != 0x24 || self.bits(24, 1) == 0 || self.bits(2, 4) != TRANSLATION_FAULT {
            return None;
        }
        Some(MemoryAccess {
            rt: Register(self.bits(16, 5) as u8),
            bytes: 1 << self.bits(22, 2),
            is_read: self.bits(6, 1) == 0,
        })
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
            is_read: self.bits(0, 1) != 0,
        }
    }
}

/// A trapped load or store of one general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryAccess {
    pub(crate) rt: Register,
    pub(crate) bytes: u8,
    pub(crate) is_read: bool,
}

/// A general register, as a move names it: 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u8);

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

impl SystemAccess {
    /// The register, as `hv_abi::registers` names it.
    pub(crate) const fn encoding(self) -> u16 {
        let Self { op0, op1, crn, crm, op2, .. } = self;
        hv_abi::registers::encoding(op0 as u16, op1 as u16, crn as u16, crm as u16, op2 as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_access_is_taken_apart() {
        // str w7, [...], and the same without a description; an instruction abort.
        let store = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 7 << 16 | 1 << 6 | 0b00_0111;
        let access = MemoryAccess { rt: Register(7), bytes: 4, is_read: false };
        assert_eq!(Syndrome(store).memory_access(), Some(access));
        assert_eq!(Syndrome(store & !(1 << 24)).memory_access(), None);
        // An access flag fault, a permission fault, an external abort, a tag check: the address is not told.
        for status in [0b00_1011, 0b00_1111, 0b01_0000, 0b01_0001] {
            assert_eq!(Syndrome(store & !0x3f | status).memory_access(), None, "{status:#b}");
        }
        assert_eq!(Syndrome(store & !(0x3f << 26) | 0x20 << 26).memory_access(), None);
    }

    #[test]
    fn a_trapped_access_is_taken_apart() {
        // mrs x5, s3_1_c15_c2_7.
        let esr = 0x18 << 26 | 1 << 25 | 3 << 20 | 7 << 17 | 1 << 14 | 15 << 10 | 5 << 5 | 2 << 1 | 1;
        let access = Syndrome(esr).system_access();
        let SystemAccess { op0, op1, crn, crm, op2, rt, is_read } = access;
        assert_eq!((op0, op1, crn, crm, op2, rt, is_read), (3, 1, 15, 2, 7, Register(5), true));
        assert_eq!(access.encoding(), hv_abi::registers::encoding(3, 1, 15, 2, 7));
    }
}
