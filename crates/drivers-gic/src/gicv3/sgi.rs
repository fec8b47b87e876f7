//! The register value that sends a software-generated interrupt.
use crate::{Intid, Mpidr};

/// The value to write to `ICC_SGI1R_EL1` for `sgi` to reach exactly the core `target` (GIC spec, 12.2.17):
/// Aff3 and Aff2 and Aff1 of the core, the sixteen cores that RS selects among its Aff0, and one of these by
/// bit.
#[inline]
pub const fn sgi_register(target: Mpidr, sgi: Intid) -> u64 {
    let aff0 = target.aff0() as u64;
    (target.aff3() as u64) << 48
        | (aff0 / 16) << 44
        | (target.aff2() as u64) << 32
        | (sgi.raw() as u64 & 0xf) << 24
        | (target.aff1() as u64) << 16
        | 1 << (aff0 % 16)
}
