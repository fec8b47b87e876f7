//! Copying images to where the plan wants them.

use super::{Bundle, fail};
use crate::{
    arch, bcm2836,
    board::Version,
    console::Text,
    devices::{Devices, subset::Subset},
    gic,
    plan::{Placement, Plan, Region},
    reload::{Mapped, Progress, Reload},
    report,
    stop_notice::{self, REASON_LEN},
    vmtree,
};
use ::bundle::{Kind, VmSpec};
use alloc::{boxed::Box, vec, vec::Vec};
use hv_abi::{ids::Ipa, layout};
use machine::{BCM2835, BCM2836_LOCAL, GIC_V2, GIC_V3, Machine};
use plain_numbers::Dec;

/// Where a VM's first vCPU starts, and what it finds in x0.
pub(super) type Start = (u64, u64);

/// Copies `bytes` to physical memory at `pa`, for a VM that will read it with its caches off.
fn copy(pa: u64, bytes: &[u8]) {
    // SAFETY: the plan gave this memory to one VM, which does not run yet; it is mapped writable, and large enough: the
    // bundle's check compared the sizes, and the plan placed them.
    unsafe { arch::copy(pa as *mut u8, bytes) };
    arch::clean_to_memory(pa as usize, bytes.len());
}

/// Loads a secondary; returns what it takes to do that again. What the bundle holds stays where it is.
pub(super) fn secondary(
    vm: &VmSpec<'static>,
    placement: &Placement,
    devices: &Devices<'_>,
    regions: Box<[Mapped]>,
) -> Reload {
    let base = memory_base(vm, placement);
    let loading = vm.loading();
    let mut segments = vec![(loading.kernel, vm.kernel)];
    let (mut ramdisk, mut last_stop) = (None, None);
    if let (Some(bytes), Some(offset)) = (vm.ramdisk, loading.ramdisk) {
        segments.push((offset, bytes));
        ramdisk = Some((base + offset, base + offset + bytes.len() as u64));
    }
    if let Some(offset) = loading.tree {
        let memory = Region::new(base, placement.bytes);
        let tree = tree(vm, devices, memory, ramdisk, loading.tree_room);
        last_stop = stop_notice::property(tree).map(|at| (offset + at, [0; REASON_LEN]));
        segments.push((offset, tree));
    }
    for (offset, bytes) in &segments {
        copy(placement.pa.0 + offset, bytes);
    }
    let (register, entry) =
        vm.partition.as_ref().map_or((0, 0), |p| (p.gp_register.unwrap_or(0), p.entrypoint_offset));
    Reload {
        ipa: Ipa(base),
        pa: placement.pa,
        bytes: placement.bytes,
        segments: segments.into_boxed_slice(),
        last_stop,
        regions,
        mailbox: None,
        register,
        entry: base + loading.kernel + entry,
        argument: loading.argument(base, placement.bytes),
        progress: Progress::Transactions,
    }
}

/// Where a VM sees its memory.
pub(super) fn memory_base(vm: &VmSpec<'_>, placement: &Placement) -> u64 {
    if vm.kind == Kind::SuperSecondary { placement.pa.0 } else { layout::RAM_BASE }
}

/// Where a VM's virtual GIC is, if it has one: where the machine's is, for one that sees physical addresses.
pub(super) fn gic_place(vm: &VmSpec<'_>, machine: &Machine<'_>) -> Option<gic::Place> {
    if !vm.gic && !vm.list_registers || vm.gic && bcm2836::is_possible() {
        return None;
    }
    let Some(interface) = gic::interface() else {
        fail!(
            "{} is to have a GIC, or list registers, which this hypervisor has not been built for",
            Text(vm.debug_name)
        )
    };
    let version = interface.version();
    if !vm.gic {
        if version == Version::V2 {
            fail!("{} is to have list registers, which needs GICv3", Text(vm.debug_name));
        }
        return None;
    }
    let real = if vm.kind == Kind::Secondary { None } else { gic::Place::real(version, machine) };
    let place = real.unwrap_or_else(|| gic::Place::usual(version));
    let vcpus = vcpus(vm, machine);
    if u64::from(vcpus) > place.room() {
        fail!(
            "{} has {} vCPUs, and is to have a GIC (margay,gic): this machine's has room for {}",
            Text(vm.debug_name),
            vcpus,
            place.room()
        );
    }
    Some(place)
}

/// The same for the primary's tree.
fn primary_gic(vm: &VmSpec<'_>, machine: &Machine<'_>) -> Option<(gic::Place, u16)> {
    if !gic::is_possible() {
        return None;
    }
    Some((gic_place(vm, machine)?, vcpus(vm, machine)))
}

/// How many vCPUs a VM has.
fn vcpus(vm: &VmSpec<'_>, machine: &Machine<'_>) -> u16 {
    if vm.kind == Kind::Primary {
        machine.cores().filter(|core| core.enabled).count() as u16
    } else {
        vm.vcpu_count as u16
    }
}

/// Where a VM's controllers of BCM2836 are, likewise.
pub(super) fn bcm2836_place(vm: &VmSpec<'_>, machine: &Machine<'_>) -> Option<bcm2836::Place> {
    if !vm.gic || !bcm2836::is_possible() {
        return None;
    }
    let name = Text(vm.debug_name);
    if vm.kind == Kind::Primary {
        fail!(
            "{name} is the primary, which cannot have interrupt controllers of this machine's kind (margay,gic)"
        );
    }
    if vm.vcpu_count > bcm2836::CPUS {
        fail!(
            "{name} has {} vCPUs, and is to have an interrupt controller (margay,gic): this machine's has room for {}",
            Dec(vm.vcpu_count.into()),
            Dec(bcm2836::CPUS.into())
        );
    }
    if vm.kind != Kind::SuperSecondary {
        return Some(bcm2836::Place::USUAL);
    }
    let Some(real) = bcm2836::Place::real(machine) else {
        fail!("{name} is to have interrupt controllers (margay,gic), of which the machine lacks one")
    };
    Some(real)
}

/// The kinds of the machine's interrupt controllers that a VM has virtual ones of.
pub(super) fn controllers(vm: &VmSpec<'_>) -> &'static [&'static [&'static str]] {
    match vm.gic {
        true if bcm2836::is_possible() => &[BCM2836_LOCAL, BCM2835],
        true if gic::is_possible() => &[GIC_V3, GIC_V2],
        _ => &[],
    }
}

/// The device tree of a secondary: its own, amended, the machine's with its devices, or one that is made from nothing.
#[inline(never)]
fn tree(
    vm: &VmSpec<'static>,
    devices: &Devices<'_>,
    memory: Region,
    ramdisk: Option<(u64, u64)>,
    room: u64,
) -> &'static [u8] {
    let mut regions = Vec::new();
    for region in vm.partition.iter().flat_map(|partition| &partition.memory_regions) {
        if region.anywhere {
            regions.push(region.address);
        }
    }
    let ask = vmtree::SecondaryTree {
        memory_base: memory.base,
        memory_len: memory.len,
        vcpus: vm.vcpu_count as u16,
        bootargs: vm.bootargs.unwrap_or_default(),
        ramdisk,
        name: vm.debug_name,
        gic: gic_place(vm, devices.machine),
        bcm2836: bcm2836_place(vm, devices.machine),
        list_registers: vm.list_registers,
        allwinner: devices.machine.timer().is_some_and(|timer| timer.allwinner_erratum),
        regions: &regions,
    };
    let tree = match vm.tree() {
        Some(own) => vmtree::amended(own, &ask),
        None if vm.kind == Kind::SuperSecondary => {
            vmtree::super_secondary(devices.machine, &ask, &devices.subset)
        }
        None => vmtree::secondary(&ask),
    };
    checked(tree, vm, room).leak()
}

/// A tree that has been made for a VM, and fits where it is to be.
#[inline(never)]
fn checked(tree: Result<Vec<u8>, vmtree::Error>, vm: &VmSpec<'_>, room: u64) -> Vec<u8> {
    let name = Text(vm.debug_name);
    match tree {
        Ok(tree) if tree.len() as u64 <= room => tree,
        Ok(tree) => {
            let (bytes, room) = (Dec(tree.len() as u64), Dec(room));
            fail!("the device tree of {name} has {bytes} bytes, more than its {room}")
        }
        Err(why) => fail!("no device tree for {name}: {why}"),
    }
}

/// Loads the primary.
#[inline(never)]
pub(super) fn primary(bundle: &Bundle<'_>, plan: &Plan, devices: &Devices<'_>) -> Start {
    let (vm, machine) = (bundle.primary(), devices.machine);
    let place = &plan.primary;
    copy(place.kernel_pa.0, vm.kernel);
    let mut ramdisk = None;
    if let (Some(bytes), Some(pa)) = (vm.ramdisk, place.ramdisk_pa) {
        copy(pa.0, bytes);
        ramdisk = Some((pa.0, pa.0 + bytes.len() as u64));
    }
    let bootargs = vm.bootargs.or(machine.bootargs()).unwrap_or_default();
    let mut others = Vec::new();
    for vm in bundle.secondaries() {
        others.push((vm.index, vm.debug_name, vm.control.unwrap_or_default()));
    }
    let tree = vmtree::PrimaryTree {
        others: &others,
        regions: &place.regions,
        bootargs,
        ramdisk,
        gic: primary_gic(vm, machine).filter(|_| !vm.devices),
    };
    let own;
    let nodes = if vm.devices {
        &devices.subset
    } else {
        own = Subset::new(machine, true, &[], None);
        &own
    };
    let room = bundle.primary_needs(machine.dtb().len()).tree;
    copy(place.tree_pa.0, &checked(vmtree::primary(machine, &tree, nodes), vm, room));
    (place.kernel_pa.0, place.tree_pa.0)
}
