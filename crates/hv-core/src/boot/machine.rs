//! What boot asks of the machine; ends with a sentence if that is not there.

use super::fail;
use crate::{board, plan::Region, report};
use hv_abi::{SMCCC_NOT_SUPPORTED, layout, psci};
use machine::{Conduit, Machine};
use plain_numbers::{Dec, Hex};

/// How much of the device tree's surroundings the early tables map.
pub(super) const TREE_WINDOW: u64 = 2 * layout::BLOCK;

#[inline(never)]
pub(super) fn read_machine(tree: u64) -> Machine<'static> {
    let mapped = TREE_WINDOW - tree % layout::BLOCK;
    // SAFETY: mapped, and written by nobody; if there is no device tree there, its bytes say so.
    let bytes = unsafe { core::slice::from_raw_parts(tree as *const u8, mapped as usize) };
    match Machine::from_dtb(bytes) {
        Ok(machine) => machine,
        Err(why) => fail!("the device tree at {} cannot be used: {why}", Hex(tree)),
    }
}

/// Most ranges of memory, and of reserved memory. There is no heap to put them on yet.
const MAX_REGIONS: usize = 64;

fn regions(found: &mut dyn Iterator<Item = Region>) -> heapless::Vec<Region, MAX_REGIONS> {
    let mut regions = heapless::Vec::new();
    for region in found {
        if regions.push(region).is_err() {
            fail!("the device tree has too much reserved memory");
        }
    }
    regions
}

/// All RAM in runs that do not touch: ownership is kept run by run, and nothing may reach across two.
pub(super) fn ram(machine: &Machine<'_>) -> heapless::Vec<Region, MAX_REGIONS> {
    match machine.ram(&mut [machine::Region::default(); MAX_REGIONS]) {
        Ok(runs) => regions(&mut runs.iter().map(|r| Region::new(r.base, r.size))),
        Err(why) => fail!("{why}"),
    }
}

/// The affinities of the enabled cores, in the tree's order.
pub(super) fn cores(machine: &Machine<'_>) -> heapless::Vec<u64, 128> {
    // First, so that every sentence from here on switches the machine off.
    let by_smc = machine.psci().is_some_and(|psci| psci.conduit == Conduit::Smc);
    if by_smc {
        report::set_power_by_smc();
    }
    let mut cores = heapless::Vec::new();
    for core in machine.cores().filter(|core| core.enabled) {
        if cores.push(core.mpidr.raw()).is_err() {
            fail!("the machine has more than {} cores", Dec(cores.capacity() as u64));
        }
    }
    if cores.is_empty() {
        fail!("the device tree names no core");
    }
    let by_board = board::power(psci::VERSION, [0; 3]) != SMCCC_NOT_SUPPORTED;
    if cores.len() > 1 && !by_smc && !by_board {
        fail!("there is no PSCI by SMC to start the other cores with");
    }
    cores
}

pub(super) fn timers(machine: &Machine<'_>) -> (u32, u32) {
    let id = |interrupt: Option<machine::Interrupt>| interrupt.map(|i| i.number());
    match machine.timer().map(|info| (id(info.virtual_), id(info.physical))) {
        Some((Some(virtual_timer), Some(physical_timer))) => (virtual_timer, physical_timer),
        _ => fail!("the device tree has no generic timer with interrupts"),
    }
}

/// The bundle's place, which must be memory.
pub(super) fn initrd(machine: &Machine<'_>, ram: &[Region]) -> Region {
    let Some(initrd) = machine.initrd() else {
        fail!("there is no bundle: /chosen has no linux,initrd-start")
    };
    let region = Region::new(initrd.base, initrd.size);
    if !ram.iter().any(|r| r.intersect(region) == Some(region)) {
        fail!("the bundle at {}, {} bytes, is not in memory", Hex(region.base), Dec(region.len));
    }
    region
}

/// What firmware and the board keep for themselves. Boot loaders also reserve what they have loaded, which ends here: that is looked after,
/// and moved or given up.
pub(super) fn reserved(machine: &Machine<'_>, loaded: &[Region]) -> heapless::Vec<Region, MAX_REGIONS> {
    let all = machine.reserved().map(|r| Region::new(r.region.base, r.region.size));
    let mut reserved = regions(&mut all.filter(|r| !loaded.iter().any(|loaded| r.is_in_pages_of(*loaded))));
    board::memory(machine, &mut |base, bytes| {
        if reserved.push(Region::new(base, bytes)).is_err() {
            fail!("the device tree has too much reserved memory");
        }
    });
    reserved
}
