//! What the vectors save.

/// Registers at an exception, as `vectors.S` lays them out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TrapFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// `SPSR_EL1`.
    pub pstate: u64,
    /// `FPSR`; of an interrupt only.
    pub fpsr: u64,
    /// `FPCR`; of an interrupt only.
    pub fpcr: u64,
    /// q0 to q31; of an interrupt only.
    pub q: [u128; 32],
    /// A frame record for backtraces.
    pub link: [u64; 2],
}

const _: () = assert!(size_of::<TrapFrame>() == 816 && core::mem::offset_of!(TrapFrame, q) == 288);
