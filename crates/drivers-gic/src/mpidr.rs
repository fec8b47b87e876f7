//! Core identities.
use core::fmt;

/// The affinity of a core: the Aff0, Aff1, Aff2 and Aff3 fields of its `MPIDR_EL1`, where they are in that
/// register (Arm ARM, D24.2 `MPIDR_EL1`). All other bits are dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Mpidr(u64);

impl Mpidr {
    const AFFINITY: u64 = 0x0000_00ff_00ff_ffff;

    /// From a value of `MPIDR_EL1`, a `reg` of a `/cpus/cpu` node or a PSCI `target_cpu`.
    #[inline]
    pub const fn new(mpidr: u64) -> Self {
        Self(mpidr & Self::AFFINITY)
    }

    /// The affinity fields, laid out as in `MPIDR_EL1`.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Aff0: the core within its cluster, or the thread within its core.
    #[inline]
    pub const fn aff0(self) -> u8 {
        self.0 as u8
    }

    /// Aff1.
    #[inline]
    pub const fn aff1(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Aff2.
    #[inline]
    pub const fn aff2(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Aff3.
    #[inline]
    pub const fn aff3(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// The four fields in one 32-bit word, Aff3 on top, as `GICR_TYPER.Affinity_Value` has them.
    #[inline]
    pub const fn packed(self) -> u32 {
        (self.0 & 0x00ff_ffff) as u32 | ((self.0 >> 8) & 0xff00_0000) as u32
    }
}

impl fmt::Display for Mpidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.aff3(), self.aff2(), self.aff1(), self.aff0())
    }
}

impl fmt::Debug for Mpidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpidr({:#x})", self.0)
    }
}
