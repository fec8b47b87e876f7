//! What can go wrong.
use crate::{Intid, Mpidr};
use core::fmt;

/// Why a request to the interrupt controller was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicError {
    /// The controller does not have this interrupt.
    NoSuchInterrupt(Intid),
    /// The operation does not apply to this kind of interrupt, such as routing a private one.
    NotApplicable(Intid),
    /// The core has no CPU interface of its own, or has not been set up.
    NoCpuInterface(Mpidr),
    /// No redistributor in the given regions belongs to this core.
    NoRedistributor(Mpidr),
    /// The block at the distributor's address is not a GICv3 or GICv4; the value is the architecture revision
    /// read.
    NotGicV3(u8),
    /// A register did not reach the state that was waited for; the name is the register's.
    Timeout(&'static str),
    /// The system-register interface cannot be enabled: a higher exception level has it switched off.
    NoSystemRegisters,
}

impl fmt::Display for GicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchInterrupt(intid) => write!(f, "the interrupt controller has no {intid}"),
            Self::NotApplicable(intid) => write!(f, "the operation does not apply to {intid}"),
            Self::NoCpuInterface(mpidr) => write!(f, "no CPU interface for core {mpidr}"),
            Self::NoRedistributor(mpidr) => write!(f, "no redistributor for core {mpidr}"),
            Self::NotGicV3(rev) => write!(f, "not a GICv3: architecture revision {rev}"),
            Self::Timeout(register) => write!(f, "{register} did not settle"),
            Self::NoSystemRegisters => {
                write!(f, "the GIC's system-register interface is disabled from above")
            }
        }
    }
}

impl core::error::Error for GicError {}
