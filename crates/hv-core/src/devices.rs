//! The devices of the machine: which the hypervisor keeps, and which the super-secondary has.

use crate::plan::Region;
use ::bundle::DeviceRegion;
use alloc::vec::Vec;
use hv_abi::{ids::VmId, layout::PAGE};
use machine::Machine;

/// Devices, as regions of whole pages.
pub(crate) struct Devices<'a> {
    pub(crate) machine: &'a Machine<'a>,
    /// The registers of those that a VM can have, disjoint.
    pub(crate) regions: Vec<Region>,
    /// The names of the nodes of all others.
    pub(crate) hidden: Vec<&'a str>,
}

/// The pages that registers are in.
pub(crate) fn pages(base: u64, len: u64) -> Region {
    let start = base & !(PAGE - 1);
    Region::new(start, base.saturating_add(len).next_multiple_of(PAGE).saturating_sub(start))
}

impl<'a> Devices<'a> {
    /// Adds a region; those that it meets (two devices in one page, or a part of another one's registers) become one with it.
    fn add(&mut self, mut region: Region) {
        while let Some(i) = self.regions.iter().position(|other| other.intersect(region).is_some()) {
            let other = self.regions.swap_remove(i);
            let base = other.base.min(region.base);
            region = Region::new(base, other.end().max(region.end()) - base);
        }
        self.regions.push(region);
    }

    /// Sorts them: what shares a page with memory, with a device of the hypervisor's `own`, or with one that a partition manifest
    /// gives to a VM (`given`), is not for the super-secondary.
    #[inline(never)]
    pub(crate) fn new(
        machine: &'a Machine<'a>,
        ram: &[Region],
        own: Vec<Region>,
        given: &[(VmId, DeviceRegion<'_>)],
    ) -> Self {
        let mut kept = own;
        for region in ram {
            kept.push(pages(region.base, region.len));
        }
        for (_, device) in given {
            kept.push(Region::new(device.address, device.bytes));
        }
        let mut this = Self { machine, regions: Vec::new(), hidden: Vec::new() };
        machine.for_each_device(&mut |name, region| {
            let device = pages(region.base, region.size);
            let known = |other: &Region| other.intersect(device).is_some();
            if device.wraps() || kept.iter().any(known) {
                this.hidden.push(name);
            } else {
                this.add(device);
            }
        });
        this
    }
}
