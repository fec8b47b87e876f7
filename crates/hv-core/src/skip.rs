//! Stepping over a trapped instruction that the hypervisor has executed in the VM's place.
//!
//! EL1 runs in AArch64 in every VM, but `HCR_EL2` cannot keep a VM from entering EL0 in AArch32, where instructions have two sizes and
//! may stand in an IT block.

/// `SPSR_EL2.M[4]`: the exception was taken from AArch32.
const AARCH32: u64 = 1 << 4;
/// `SPSR_EL2.IT[7:2]` and `IT[1:0]`, of AArch32: what is left of the IT block.
const IT_HIGH: u64 = 0x3f << 10;
const IT_LOW: u64 = 0b11 << 25;
/// `ESR_EL2.IL`: the instruction has 32 bits.
const IL: u64 = 1 << 25;

/// Returns whether an exception was taken from AArch32, where stepping over an instruction does more than add 4 to the program counter.
#[inline(always)]
pub(crate) const fn is_aarch32(spsr: u64) -> bool {
    spsr & AARCH32 != 0
}

/// Returns the size in bytes of the trapped AArch32 instruction with syndrome `esr`, and PSTATE after it, from PSTATE before it (Arm
/// ARM, `AArch32.ITAdvance`).
///
/// In AArch64 PSTATE stays as it is. `BTYPE` needs no change: in a guarded page only a landing pad can follow an indirect branch, and
/// anything else raises a Branch Target exception at EL1 before it traps; in other pages `BTYPE` is not looked at.
pub(crate) const fn step(spsr: u64, esr: u64) -> (u64, u64) {
    let it = spsr >> 8 & 0xfc | spsr >> 25 & 0b11;
    let next = if it & 0b111 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f };
    let pstate = spsr & !(IT_HIGH | IT_LOW) | (next & 0xfc) << 8 | (next & 0b11) << 25;
    (if esr & IL == 0 { 2 } else { 4 }, pstate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User mode, T32, interrupts masked.
    const T32: u64 = 0x1f0;

    const fn with_it(it: u64) -> u64 {
        T32 | (it & 0xfc) << 8 | (it & 3) << 25
    }

    #[test]
    fn aarch64_is_not_aarch32() {
        assert!(!is_aarch32(0x3c5) && !is_aarch32(0x3c0) && is_aarch32(T32));
    }

    #[test]
    fn aarch32_instructions_have_the_size_that_the_syndrome_gives() {
        assert_eq!(step(T32, 0x01 << 26), (2, T32));
        assert_eq!(step(T32, 0x01 << 26 | IL), (4, T32));
    }

    #[test]
    fn an_it_block_advances_to_its_end() {
        // ITETE EQ. IT[4] is the low bit of the condition: EQ, NE, EQ, NE.
        let states = [0b0000_1011, 0b0001_0110, 0b0000_1100, 0b0001_1000, 0];
        for pair in states.windows(2) {
            assert_eq!(step(with_it(pair[0]), 0), (2, with_it(pair[1])), "{:#010b}", pair[0]);
        }
    }
}
