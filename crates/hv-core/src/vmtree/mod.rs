//! Device trees for VMs.
//!
//! * [`secondary`](secondary::secondary): made from nothing. The VM sees one block of memory, its vCPUs, and the hypervisor.
//! * [`amended`](secondary::amended): from a tree that the bundle brings.
//! * [`primary`](machine::primary), [`super_secondary`](machine::super_secondary): from the machine's tree, with the nodes that are the
//!   VM's ([`Subset`](crate::devices::subset::Subset)). Nothing in them names what the VM does not have, because that is a driver that faults.
//! * `parts` has what is the same in all of them.

mod machine;
mod parts;
mod secondary;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    machine::{PrimaryTree, primary, super_secondary},
    secondary::{SecondaryTree, amended, secondary},
};

use crate::plan::Region;
use core::fmt;

/// How deeply nodes of a tree may be nested; real ones need five levels.
const DEPTH_MAX: usize = 16;

const ENABLE_METHOD: &str = "enable-method";

/// Why a tree cannot be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The machine's tree is malformed.
    Malformed(devtree::Error),
    /// The machine's tree is nested more deeply than [`DEPTH_MAX`].
    TooDeep,
    /// `#address-cells` or `#size-cells` of the machine's root is neither 1 nor 2.
    RootCells,
    /// The root's `#address-cells` cannot express where this region is.
    Beyond(Region),
    /// A name or a text cannot be in a device tree.
    Write,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::TooDeep => f.write_str("the machine's device tree is too deep"),
            Self::RootCells => f.write_str("#address-cells and #size-cells must be 1 or 2"),
            Self::Beyond(region) => {
                write!(f, "memory at {region} is beyond #address-cells")
            }
            Self::Write => {
                write!(f, "a text with a zero byte cannot be in a device tree")
            }
        }
    }
}

/// The affinity of vCPU `index` of a secondary: Aff0 counts to 15, as the SGIs of a real machine require, then Aff1.
pub(crate) fn vcpu_mpidr(index: u16) -> u64 {
    u64::from(index) & 0xf | u64::from(index) >> 4 << 8
}
