//! Makes everything that lives as long as the machine runs: VMs, vCPUs, cores, the owners of memory.

use super::{
    Bundle, fail, id_of, load,
    machine::timers,
    tables::{ipa_width, spare_tables, tables},
};
use crate::{
    arch,
    bcm2836::{self, Bcm2836},
    devices::Devices,
    el2_map::{self, El2Map, STACK_SIZE},
    firmware::Whitelist,
    gic::{self, Gic},
    interrupt::STAND_IN,
    percore::Core,
    plan::{Plan, Region},
    reload::Reload,
    report,
    routing::Routes,
    system::System,
    vcpu::Vcpu,
    vm::{self, Messaging, Vm, VmKind},
    vmtree,
};
use ::bundle::{Service, VmSpec};
use alloc::{boxed::Box, vec, vec::Vec};
use core::sync::atomic::Ordering;
use hv_abi::{
    ids::{Pa, VcpuIndex, VmId},
    layout,
};
use machine::Machine;
use page_ownership::Ownership;
use plain_numbers::Hex;

/// Makes everything that lives as long as the machine runs, and loads the secondaries; returns how they were loaded, too.
#[inline(never)]
pub(super) fn build(
    devices: &Devices<'_>,
    bundle: &Bundle<'static>,
    plan: &Plan,
    cores: &[u64],
    ram: &[Region],
    mut map: El2Map,
) -> (&'static System, Vec<Reload>) {
    let (machine, width) = (devices.machine, ipa_width(bundle, plan, devices));
    let routes = routes(bundle, devices);
    let (mut vms, mut reloads) = (Vec::new(), Vec::new());
    for spec in bundle.vms() {
        let (tables, regions) = tables(bundle, plan, devices, spec, width);
        let primary = plan.of(id_of(spec)).is_none();
        let mut vcpus = Vec::with_capacity(if primary { cores.len() } else { spec.vcpu_count as usize });
        let (kind, memory, growth) = if let Some(placement) = plan.of(id_of(spec)) {
            reloads.push(load::secondary(spec, placement, devices, regions));
            for index in 0..spec.vcpu_count as u16 {
                vcpus.push(Vcpu::new(VcpuIndex(index), vmtree::vcpu_mpidr(index)));
            }
            let own = spec.kind == ::bundle::Kind::SuperSecondary;
            let kind = if own { VmKind::SuperSecondary } else { VmKind::Secondary };
            (kind, layout::window(placement.bytes), placement.bytes)
        } else {
            for (index, mpidr) in cores.iter().enumerate() {
                vcpus.push(Vcpu::new(VcpuIndex(index as u16), *mpidr));
            }
            (VmKind::Primary, 0, u64::MAX)
        };
        let mut vm = Vm::new(
            id_of(spec),
            kind,
            spec.debug_name,
            services(spec),
            messaging(spec, kind),
            vcpus.into_boxed_slice(),
            tables,
            [memory, spare_tables(growth)],
        );
        if let Some(place) = load::gic_place(spec, machine).filter(|_| gic::is_possible()) {
            let mut affinities = vm.vcpus.iter().map(Vcpu::affinity);
            let timers = gic_timers(machine, kind);
            vm.gic = Some(Box::new(Gic::new(vm.id, &mut affinities, &routes, place, timers)));
        }
        if let Some(place) = load::bcm2836_place(spec, machine).filter(|_| bcm2836::is_possible()) {
            vm.bcm2836 = Some(Box::new(Bcm2836::new(place)));
        }
        if spec.devices || bundle.devices().iter().any(|(owner, _)| *owner == vm.id) {
            vm.set_devices();
        }
        vm.list_registers = spec.list_registers;
        vm.time_from_start = spec.time_from_start;
        vm.start_time();
        vm.whitelist = Whitelist { functions: spec.smc_whitelist, permissive: spec.smc_whitelist_permissive };
        vms.push(vm);
    }

    // The map is complete before a core has it.
    let mut parts = Vec::new();
    for index in 0..cores.len() as u16 {
        let stack = stack_memory();
        parts.push((map.stack(index, stack), map.window(index)));
    }
    let root = map.root();
    let mut physical_cores = Vec::new();
    for (index, (top, window)) in parts.into_iter().enumerate() {
        physical_cores.push(Core::new(index as u16, cores[index], vms.len(), window, root, top));
    }

    let ownership = ownership(ram, plan, &vms);
    let Some(frequency) = vtimer::frequency() else {
        fail!("firmware has not set the frequency of the counter")
    };
    let system = System::publish(Box::new(System {
        vms: vms.into_boxed_slice(),
        cores: physical_cores.into_boxed_slice(),
        ownership: crate::lock::Lock::new(ownership),
        frequency,
        vtcr: arch::vtcr(width.bits()),
        conduit: machine.psci().map(|psci| psci.conduit),
        workarounds: Default::default(),
        routes,
    }));
    for vm in &system.vms {
        vm.vcpus.iter().for_each(|vcpu| vcpu.attach(vm));
    }
    for (core, vcpu) in system.cores.iter().zip(&system.vms[0].vcpus) {
        core.attach(vcpu);
    }
    (system, reloads)
}

/// Interrupts of devices are those VMs' whose manifests have the devices; then the super-secondary's, or the VM's that has its place, if
/// it has the device; all others are nobody's.
#[inline(never)]
fn routes(bundle: &Bundle<'_>, devices: &Devices<'_>) -> Routes {
    let mut routes = Routes::new();
    routes.forwards = bundle.forwards_interrupts();
    if let Some(vm) = bundle.vms().iter().find(|vm| vm.devices) {
        for id in &devices.interrupts {
            routes.fix(*id, id_of(vm));
        }
    }
    for (vm, device) in bundle.devices() {
        for id in device.interrupts.iter().step_by(2) {
            routes.fix(id, *vm);
        }
    }
    routes
}

/// The timers of a VM with a GIC: as the tree says that the VM sees.
#[inline(never)]
fn gic_timers(machine: &Machine<'_>, kind: VmKind) -> gic::Timers {
    let (virtual_timer, physical) = timers(machine);
    match kind {
        VmKind::Secondary => return gic::Timers { physical: virtual_timer, ..gic::Timers::USUAL },
        VmKind::SuperSecondary => {
            return gic::Timers { own: virtual_timer, second: None, physical: virtual_timer };
        }
        VmKind::Primary => {}
    }
    // While another VM runs, that one has the virtual timer.
    let Some(id) = machine.timer().and_then(|timer| timer.hypervisor) else {
        fail!("the device tree has no hypervisor timer, which a primary with a GIC (margay,gic) needs")
    };
    STAND_IN.store(id.number(), Ordering::Relaxed);
    gic::Timers { own: physical, second: Some(virtual_timer), physical: virtual_timer }
}

fn messaging(spec: &VmSpec<'_>, kind: VmKind) -> Messaging {
    match &spec.partition {
        Some(p) => Messaging::by_manifest(kind, p.messaging_method, p.notification_support, p.version),
        None => Messaging::of(kind),
    }
}

fn services<'a>(spec: &'a VmSpec<'_>) -> &'a [Service] {
    match &spec.partition {
        Some(partition) => &partition.services,
        None => &[vm::ANY_SERVICE],
    }
}

/// A stack's worth of pages from the heap.
fn stack_memory() -> Pa {
    // One page more than needed, because the heap aligns to words.
    let stack = vec![0u64; (STACK_SIZE + layout::PAGE) as usize / size_of::<u64>()];
    el2_map::physical((stack.leak().as_ptr() as u64).next_multiple_of(layout::PAGE))
}

/// Whose each page is when the first VM starts. What nobody has been given is the hypervisor's.
fn ownership(ram: &[Region], plan: &Plan, vms: &[Vm]) -> Ownership {
    let whole = |region: &Region| {
        let base = region.base.next_multiple_of(layout::PAGE);
        (base, (region.end() & !(layout::PAGE - 1)).saturating_sub(base))
    };
    let mut ownership = Ownership::new(ram.iter().map(whole), vms.iter().map(|vm| vm.id));
    let mut assign = |vm, pa, bytes: u64| {
        if !ownership.assign(vm, pa, bytes / layout::PAGE) {
            fail!("memory at {} has been planned for two", Hex(pa.0));
        }
    };
    for region in &plan.primary.regions {
        assign(VmId::PRIMARY, Pa(region.base), region.len);
    }
    for placement in &plan.secondaries {
        assign(placement.vm, placement.pa, placement.bytes);
    }
    ownership
}
