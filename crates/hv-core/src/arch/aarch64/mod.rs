//! The real processor: EL2 of an `ARMv8-A` core, without VHE.

mod el2;
pub(crate) mod fp;

pub(crate) use el2::*;

core::arch::global_asm!(include_str!("boot.S"));
core::arch::global_asm!(include_str!("vectors.S"));
