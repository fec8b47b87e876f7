//! The stage-2 tables of each VM, as the plan and the bundle want them.

use super::{Bundle, fail, id_of, load};
use crate::{
    arch,
    console::Text,
    devices::Devices,
    gic,
    plan::{Plan, Region},
    reload::Mapped,
    report,
    tables::VmTables,
};
use ::bundle::VmSpec;
use alloc::{boxed::Box, vec::Vec};
use hv_abi::{
    ids::{Ipa, Pa},
    layout,
};
use plain_numbers::Hex;
use stage2_mmu::{Access, IpaWidth, MemoryType};

/// Pages by which the tables of a VM with `bytes` of memory can grow while it runs.
pub(super) fn spare_tables(bytes: u64) -> u64 {
    (16 + (bytes >> 26)).min(128)
}

/// Wide enough for all memory of the primary, which sees physical addresses, and for the secondaries' layout.
pub(super) fn ipa_width(bundle: &Bundle<'_>, plan: &Plan, devices: &Devices<'_>) -> IpaWidth {
    let mut limit = 1 << 32;
    for region in plan.primary.regions.iter().chain(&devices.regions) {
        limit = limit.max(region.end());
    }
    for placement in &plan.secondaries {
        limit = limit.max(layout::window(placement.bytes) + (1 << 30));
    }
    for (_, region) in bundle.regions() {
        limit = limit.max(region.address + region.bytes);
    }
    for (_, device) in bundle.devices() {
        limit = limit.max(device.address + device.bytes);
    }
    let bits = (64 - (limit - 1).leading_zeros()) as u8;
    // 39 bits, which one root table translates, leave much room for memory that VMs receive.
    match IpaWidth::new(bits.max(39.min(arch::pa_bits()))) {
        Some(width) if bits <= arch::pa_bits() => width,
        _ => fail!("memory up to {} is beyond stage-2 tables", Hex(limit)),
    }
}

/// Tables with a VM's memory, with regions that replace part of it or are beside it, and with its devices. Returns where those
/// beside it are, too: addresses and bytes.
pub(super) fn tables(
    bundle: &Bundle<'_>,
    plan: &Plan,
    devices: &Devices<'_>,
    spec: &VmSpec<'_>,
    width: IpaWidth,
) -> (VmTables, Box<[Mapped]>) {
    let refuse = |why| -> ! { fail!("the memory of {} cannot be mapped: {why}", Text(spec.debug_name)) };
    let mut tables = match VmTables::new(width) {
        Ok(tables) => tables,
        Err(why) => refuse(why),
    };
    let mut map = |ipa, pa, bytes, access, memory| {
        if let Err(why) = tables.map(Ipa(ipa), Pa(pa), bytes, access, memory) {
            refuse(why)
        }
    };
    let id = id_of(spec);
    let placement = plan.of(id);
    if let Some(placement) = placement {
        let base = load::memory_base(spec, placement);
        map(base, placement.pa.0, placement.bytes, Access::RWX, MemoryType::Normal);
    } else {
        // The primary sees physical addresses, as the super-secondary does.
        for region in &plan.primary.regions {
            map(region.base, region.base, region.len, Access::RWX, MemoryType::Normal);
        }
    }
    if spec.devices {
        for device in &devices.regions {
            map(device.base, device.base, device.len, Access::RW, MemoryType::Device);
        }
    }
    if gic::is_possible()
        && let Some((ipa, pa, bytes)) =
            load::gic_place(spec, devices.machine).and_then(|place| place.mapped(devices.machine))
    {
        map(ipa, pa, bytes, Access::RW, MemoryType::Device);
    }
    for (_, device) in bundle.devices().iter().filter(|(vm, _)| *vm == id) {
        let access = Access { read: true, write: device.write, execute: false };
        map(device.address, device.address, device.bytes, access, MemoryType::Device);
    }
    let mut beside = plan.regions_of(id);
    let mut places = Vec::new();
    for region in spec.partition.iter().flat_map(|partition| &partition.memory_regions) {
        let pa = match (placement, spec.mem_size) {
            (Some(own), Some(bytes)) if region.is_within(bytes) => {
                own.pa.0 + (region.address - layout::RAM_BASE)
            }
            (Some(_), _) => match beside.next() {
                Some(place) => {
                    places.push((Ipa(region.address), place.pa, place.bytes));
                    place.pa.0
                }
                None => continue,
            },
            (None, _) => {
                // Memory regions of the primary's partition manifest are part of what it has anyway.
                let this = Region::new(region.address, region.bytes);
                if !plan.primary.regions.iter().any(|r| r.intersect(this) == Some(this)) {
                    let (file, name) = (Text(bundle.file_of(id)), Text(region.name));
                    fail!("{file}: /memory-regions/{name}: {this} is not memory of the primary VM");
                }
                continue;
            }
        };
        let access = Access { read: true, write: region.write, execute: region.execute };
        if let Err(why) = tables.replace(Ipa(region.address), Pa(pa), region.bytes, access) {
            refuse(why)
        }
    }
    (tables, places.into_boxed_slice())
}
