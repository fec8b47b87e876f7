//! Why there is no plan, in one sentence.

use super::Region;
use core::fmt;
use hv_abi::ids::VmId;
use plain_numbers::{Dec, Hex};

/// What a block of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The hypervisor's own pool.
    Pool,
    /// The memory of a secondary.
    Memory,
    /// The primary's kernel, with the distance to its start and its uninitialised data.
    Kernel,
    /// The primary's ramdisk.
    Ramdisk,
    /// The primary's device tree.
    Tree,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Something reserved or loaded ends beyond the last address.
    BadReservation(Region),
    /// What the boot loader brought lies over the hypervisor, so that one has overwritten the other.
    LoadedOver {
        /// The bundle or the device tree.
        loaded: Region,
        /// The part of the hypervisor.
        hypervisor: Region,
    },
    /// A block of no bytes, or of more than there are addresses.
    BadSize { vm: VmId, purpose: Purpose, wanted: u64 },
    /// No block is large enough.
    NoRoom {
        vm: VmId,
        purpose: Purpose,
        /// Bytes wanted.
        wanted: u64,
        /// Bytes that are still free.
        left: u64,
        /// Bytes in the largest block of them.
        largest: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadReservation(r) => {
                write!(f, "the {} bytes reserved at {} end beyond the last address", Dec(r.len), Hex(r.base))
            }
            Self::LoadedOver { loaded, hypervisor } => write!(
                f,
                "the boot loader put the bundle or the device tree at {loaded}, over the hypervisor at {hypervisor}"
            ),
            Self::BadSize { vm, purpose, wanted } => {
                write!(f, "{} cannot be {} bytes", Wanted(vm, purpose), Dec(wanted))
            }
            Self::NoRoom { vm, purpose, wanted, left, largest } => write!(
                f,
                "{} needs {} contiguous bytes, but {} are free, {} of them in one block",
                Wanted(vm, purpose),
                Dec(wanted),
                Dec(left),
                Dec(largest)
            ),
        }
    }
}

/// Whose block for what, in words.
struct Wanted(VmId, Purpose);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Purpose::Pool => write!(f, "the hypervisor's pool"),
            Purpose::Memory => write!(f, "the memory of {}", self.0),
            Purpose::Kernel => write!(f, "the kernel of {}", self.0),
            Purpose::Ramdisk => write!(f, "the ramdisk of {}", self.0),
            Purpose::Tree => write!(f, "the device tree of {}", self.0),
        }
    }
}
