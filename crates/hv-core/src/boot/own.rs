//! The hypervisor's own memory: how much it needs, and the move to a better place than where it was loaded.

use super::{Bundle, fail, machine::TREE_WINDOW, tables::spare_tables};
use crate::{
    arch, board, console,
    el2_map::{self, El2Map, Kind, STACK_SIZE},
    gic,
    percore::Core,
    plan::{Memory, Own, Plan, Region},
    report,
    vcpu::Vcpu,
    vm::Vm,
};
use hv_abi::{
    ids::{Ipa, Pa},
    layout,
};
use machine::Machine;
use page_ownership::Ownership;
use plain_numbers::Dec;

/// What the hypervisor allocates: tables of its own and of every VM (one table for each GiB and two for each uneven
/// end, of every region), stacks, vCPUs, trees.
pub(super) fn pool_bytes(bundle: &Bundle<'_>, cores: usize, ram: &[Region]) -> u64 {
    let vcpus: u64 = bundle.secondaries().iter().map(|vm| u64::from(vm.vcpu_count)).sum();
    let vms = bundle.secondaries().len() as u64 + 1;
    let gib: u64 = ram.iter().map(|r| r.len.div_ceil(1 << 30) + 2).sum();
    // Lists that grow as they are filled are twice as large for a moment.
    let fixed = 1024 * 1024 + vcpus * size_of::<Vcpu>() as u64 / 8;
    let per_core = STACK_SIZE + 4 * layout::PAGE + size_of::<Core>() as u64 + vms * 2;
    let spare: u64 =
        bundle.secondaries().iter().map(|vm| spare_tables(vm.mem_size.unwrap_or_default())).sum();
    let spare = spare + spare_tables(u64::MAX);
    let pages = ram.iter().map(|r| r.len / layout::PAGE).sum::<u64>();
    let gic = if gic::is_possible() { gic::bytes((vcpus + cores as u64) / vms + 1) } else { 0 };
    let per_vm = gic + 12 * layout::PAGE + size_of::<Vm>() as u64 + Ownership::BYTES_PER_VM as u64;
    let bytes = fixed
        + cores as u64 * (per_core + size_of::<Vcpu>() as u64)
        + vms * per_vm
        + vcpus * size_of::<Vcpu>() as u64
        + gib * (2 + vms) * layout::PAGE
        + (bundle.regions().len() + bundle.devices().len()) as u64 * 6 * layout::PAGE
        + spare * layout::PAGE
        + pages * Ownership::BYTES_PER_PAGE as u64;
    bytes.next_multiple_of(layout::PAGE)
}

/// Tables for the boot with the image, the device tree and, once it is known, what the machine has for the hypervisor.
#[inline(never)]
pub(super) fn early_map(tree: u64, machine: Option<&Machine<'_>>) -> El2Map {
    let mut map = El2Map::new(&arch::image_layout());
    map.identity(tree & !(layout::BLOCK - 1), TREE_WINDOW, Kind::ReadOnly);
    map.identity(board::early_console(), 1, Kind::Device);
    if let Some(machine) = machine {
        board::devices(machine, &mut |base, bytes| map.identity(base, bytes, Kind::Device));
    }
    map
}

/// Moves image and bundle to a better place, if there is one, and gives the heap `pool` bytes. Returns where all of it is, and tables for
/// the rest of the boot, which are in use and map it.
///
/// `present` is where image and bundle are, `map` the tables in use, and `bytes` the bundle, at an address that stays.
#[inline(never)]
pub(super) fn settle(
    (tree, machine): (u64, &Machine<'_>),
    memory: &Memory<'_>,
    [image, bundle]: [Region; 2],
    bytes: &[u8],
    mut map: El2Map,
    pool: u64,
) -> (Own, El2Map) {
    let own = match memory.own(image, bundle, pool) {
        Ok(Some(own)) => {
            map.identity(own.image.base, own.image.len, Kind::Data);
            map.identity(own.bundle.base, own.bundle.len, Kind::Data);
            map.identity(bundle.base, bundle.len, Kind::Data);
            // SAFETY: the plan found the new place free, and it is mapped. The old place is not used any more: it will be a VM's, who
            // may not see what is in the bundle.
            unsafe {
                arch::copy(own.bundle.base as *mut u8, bytes);
                arch::scrub(bundle.base, bundle.len);
            }
            el2_map::set_image(Pa(own.image.base), own.image.len);
            map = early_map(tree, Some(machine));
            map.bundle(own.bundle.base, own.bundle.len);
            // SAFETY: the tables that have been in use map both places, and these the new one with all that the rest of the boot uses.
            unsafe { arch::move_image(Pa(own.image.base), Pa(image.base), map.root()) };
            own
        }
        Ok(None) => match memory.carve(pool, layout::BLOCK) {
            Ok(pool) => Own { image, bundle, pool: [pool, Region::new(0, 0)] },
            Err(why) => fail!("{why}"),
        },
        Err(why) => fail!("{why}"),
    };
    for part in own.pool.iter().filter(|part| !part.is_empty()) {
        map.identity(part.base, part.len, Kind::Data);
        // SAFETY: just mapped, and the plan gives it to nobody.
        unsafe { crate::heap::add(part.base, part.len) };
    }
    (own, map)
}

/// With `loglevel=debug` on the primary's command line: says where the hypervisor is, and in what blocks each VM has its memory.
#[inline(never)]
pub(super) fn log_memory(bootargs: &str, own: &Own, plan: &Plan, vms: &[Vm]) {
    if bootargs.as_bytes().split(|byte| *byte == b' ').all(|word| word != b"loglevel=debug") {
        return;
    }
    let [low, high] = own.pool;
    console::info!("hypervisor: image at {}, bundle at {}, pool at {low} and {high}", own.image, own.bundle);
    for vm in vms {
        let tables = vm.stage2.lock();
        let own;
        let regions = match plan.of(vm.id) {
            Some(place) => {
                let base = if vm.receives_at_physical_addresses() { place.pa.0 } else { layout::RAM_BASE };
                own = [Region::new(base, place.bytes)];
                &own[..]
            }
            None => &plan.primary.regions,
        };
        let mut blocks = [0; 3];
        for region in regions {
            tables.count_blocks(Ipa(region.base), Ipa(region.end()), &mut blocks);
        }
        let [gib, mib, kib] = blocks.map(Dec);
        console::info!("{}: {gib} blocks of 1 GiB, {mib} of 2 MiB, {kib} of 4 KiB", vm.id);
    }
}
