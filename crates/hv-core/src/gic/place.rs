//! Where a VM sees its GIC.

use super::interface;
use crate::plan::Region;
use alloc::vec::Vec;
use drivers_gic::{
    RedistributorRegion,
    vgic::{REDISTRIBUTOR_SIZE, Version},
};
use hv_abi::layout::PAGE;
use machine::Machine;

/// Where a VM sees its GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// GICv2. The CPU interface is the core's own virtual one, mapped.
    V2 { distributor: u64, cpu_interface: u64 },
    /// The redistributors are in one region or several.
    V3 { distributor: u64, redistributors: &'static [RedistributorRegion] },
}

impl Place {
    /// Unless the VM sees physical addresses.
    pub(crate) fn usual(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2 { distributor: DISTRIBUTOR, cpu_interface: CPU_INTERFACE },
            Version::V3 => Self::V3 { distributor: DISTRIBUTOR, redistributors: &REDISTRIBUTORS },
        }
    }

    /// Where the machine's own GIC is.
    pub(crate) fn real(version: Version, machine: &Machine<'_>) -> Option<Self> {
        Some(match version {
            Version::V2 => {
                let real = machine.gic_v2()?;
                Self::V2 { distributor: real.gicd.base, cpu_interface: real.gicc.base }
            }
            Version::V3 => {
                let real = machine.gic_v3()?;
                let redistributors = Vec::from(real.redistributors()).leak();
                Self::V3 { distributor: real.gicd.base, redistributors }
            }
        })
    }

    /// Its parts, the distributor first.
    pub(crate) fn parts(self, vcpus: u16) -> Vec<Region> {
        let mut parts = Vec::new();
        match self {
            Self::V2 { distributor, cpu_interface } => {
                parts.push(Region::new(distributor, DISTRIBUTOR_V2_SIZE));
                parts.push(Region::new(cpu_interface, CPU_INTERFACE_SIZE));
            }
            Self::V3 { distributor, redistributors } => {
                parts.push(Region::new(distributor, DISTRIBUTOR_SIZE));
                let mut left = u64::from(vcpus);
                for region in redistributors {
                    let here = left.min(room(region));
                    left -= here;
                    if here > 0 {
                        parts.push(Region::new(region.base, here * stride(region)));
                    }
                }
            }
        }
        parts
    }

    /// For how many vCPUs there is room.
    pub(crate) fn room(self) -> u64 {
        match self {
            Self::V2 { .. } => V2_CPUS,
            Self::V3 { redistributors, .. } => redistributors.iter().map(room).sum(),
        }
    }

    /// What of the machine is mapped into the VM: where the VM sees it, its physical address, and bytes.
    pub(crate) fn mapped(self, machine: &Machine<'_>) -> Option<(u64, u64, u64)> {
        let Self::V2 { cpu_interface, .. } = self else { return None };
        let (pa, bytes) = interface()?.cpu_interface(machine)?;
        // Boards that repeat each page of registers, so that pages may be of 64 KiB, have the second one elsewhere (Linux: `irq-gic.c`,
        // `gic_check_eoimode`). A guest at EL1 does without it: it has no reason to split the end of an interrupt in two.
        let own = if bytes > CPU_INTERFACE_SIZE { PAGE } else { bytes };
        Some((cpu_interface, pa, own))
    }
}

/// As on QEMU's `virt`.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// As above, and as many as a VM can have.
static REDISTRIBUTORS: [RedistributorRegion; 1] =
    [RedistributorRegion::new(0x080a_0000, 512 * REDISTRIBUTOR_SIZE)];
/// As above: GICv2's.
const CPU_INTERFACE: u64 = 0x0801_0000;
/// Most vCPUs that a GICv2 is for.
const V2_CPUS: u64 = 8;
/// Bytes of the distributor.
pub(super) const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// As above: GICv2's.
pub(super) const DISTRIBUTOR_V2_SIZE: u64 = 0x1000;
/// Bytes of GICv2's CPU interface.
const CPU_INTERFACE_SIZE: u64 = 0x2000;
/// Bytes from one redistributor of a region to the next.
pub(super) fn stride(region: &RedistributorRegion) -> u64 {
    region.stride.unwrap_or(REDISTRIBUTOR_SIZE).max(REDISTRIBUTOR_SIZE)
}

/// How many a region has.
pub(super) fn room(region: &RedistributorRegion) -> u64 {
    region.size / stride(region)
}
