//! The devices of the machine: which the hypervisor keeps, and which the super-secondary has.

use crate::{board, plan::Region};
use alloc::vec::Vec;
use hv_abi::layout::PAGE;
use machine::Machine;

/// Devices, as regions of whole pages.
pub(super) struct Devices<'a> {
    pub(super) machine: &'a Machine<'a>,
    /// The registers of those that a VM can have, sorted and disjoint.
    pub(super) regions: Vec<Region>,
    /// The names of the nodes of all others.
    pub(super) hidden: Vec<&'a str>,
}

fn pages(base: u64, len: u64) -> Region {
    let start = base & !(PAGE - 1);
    Region::new(start, base.saturating_add(len).next_multiple_of(PAGE).saturating_sub(start))
}

impl<'a> Devices<'a> {
    /// Sorts them: what shares a page with memory, or with a device of the hypervisor's own, is not for a VM.
    pub(super) fn new(machine: &'a Machine<'a>, ram: &[Region]) -> Self {
        let mut kept: Vec<Region> = ram.iter().map(|region| pages(region.base, region.len)).collect();
        board::devices(machine, &mut |base, bytes| kept.push(pages(base, bytes)));
        let mut this = Self { machine, regions: Vec::new(), hidden: Vec::new() };
        machine.for_each_device(&mut |name, region| {
            let device = pages(region.base, region.size);
            let known = |other: &Region| other.intersect(device).is_some();
            if device.wraps() || kept.iter().any(known) {
                this.hidden.push(name);
            } else if let Some(i) = this.regions.iter().position(known) {
                // Two devices in one page, or a part of another one's registers.
                let one = this.regions[i];
                let base = one.base.min(device.base);
                this.regions[i] = Region::new(base, one.end().max(device.end()) - base);
            } else {
                this.regions.push(device);
            }
        });
        this.regions.sort_by_key(|region| region.base);
        // Growing one region may have made it meet the next.
        this.regions.dedup_by(|next, one| {
            let meets = next.base < one.end();
            if meets {
                *one = Region::new(one.base, one.end().max(next.end()) - one.base);
            }
            meets
        });
        this
    }
}
