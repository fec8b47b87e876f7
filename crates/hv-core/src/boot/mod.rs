//! From the first Rust instruction to the first instruction of a VM.
//!
//! Everything is checked before anything starts: the machine, the bundle, the memory plan. Whatever is wrong ends in
//! one sentence on the console. What is built here is fixed from then on: VMs, cores, tables.

mod build;
mod bundle;
mod devices;
mod load;
mod machine;
mod own;
mod tables;

use crate::{
    arch, board,
    console::{self, Text},
    el2_map::{self, El2Map, Kind},
    firmware, gic,
    interrupt::{STAND_IN, TIMERS},
    percore::Core,
    plan::{Memory, Region, Request},
    report, stop_notice,
    system::System,
    vcpu::{Claimed, Vcpu, VcpuState},
    vm::{Vm, VmKind},
};
use ::bundle::VmSpec;
use alloc::vec::Vec;
use bundle::Bundle;
use core::sync::atomic::Ordering;
use hv_abi::{
    ids::{Ipa, Pa, VmId},
    layout,
};
use plain_numbers::Dec;

/// Ends the boot with a sentence.
macro_rules! fail {
    ($($argument:tt)*) => { report::fatal(format_args!($($argument)*)) };
}
use fail;

/// The hypervisor, entered at EL2 with the device tree at `tree` and the image at `image`.
pub(crate) fn boot(tree: u64, image: Pa) -> ! {
    crate::heap::init();
    let layout = arch::image_layout();
    let image = Region::new(image.0, layout.end - layout.start);
    el2_map::set_image(Pa(image.base), image.len);

    // The early tables are writable and executable all over. These are not, and grow as more becomes known.
    let mut map = own::early_map(tree, None);
    // SAFETY: the image, this stack in it, and the device tree stay where they are.
    unsafe { arch::set_el2_tables(map.root()) };

    let machine = machine::read_machine(tree);
    board::devices(&machine, &mut |base, bytes| map.identity(base, bytes, Kind::Device));
    if let Err(why) = board::init_console(&machine) {
        fail!("{}", Text(why));
    }
    let cores = machine::cores(&machine);
    console::info!(
        concat!("Margay ", env!("CARGO_PKG_VERSION"), " on {}, cores: {}"),
        Text(machine.model().unwrap_or("an unnamed machine")),
        Dec(cores.len() as u64)
    );
    let (virtual_timer, physical_timer) = machine::timers(&machine);
    TIMERS.set(virtual_timer, physical_timer);

    // The bundle, checked as a whole.
    let ram = machine::ram(&machine);
    let initrd = machine::initrd(&machine, &ram);
    let bytes = map.bundle(initrd.base, initrd.len) as *const u8;
    // SAFETY: within RAM, just mapped, and nobody writes it. It stays at this address, for ever: VMs are made anew from it.
    let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(bytes, initrd.len as usize) };
    let bundle = Bundle::check(bytes, ram.iter().map(|r| r.len).sum());

    // Memory for what the bundle asks for, then the plan for all of it.
    let loaded = [Region::new(tree, machine.dtb().len() as u64)];
    let reserved = machine::reserved(&machine, &[initrd, loaded[0]]);
    let present = [image, initrd];
    let memory = Memory { ram: &ram, hypervisor: &present, reserved: &reserved, loaded: &loaded };
    let pool = own::pool_bytes(&bundle, cores.len(), &ram);
    let (own, mut map) = own::settle((tree, &machine), &memory, present, bytes, map, pool);
    let hypervisor = [own.image, own.bundle, own.pool[0], own.pool[1]];
    let memory = Memory { hypervisor: &hypervisor, ..memory };
    let needs = bundle.primary_needs(machine.dtb().len());
    let mut requests = Vec::new();
    for vm in bundle.secondaries() {
        requests.push(Request { vm: id_of(vm), bytes: vm.mem_size.unwrap_or_default() });
    }
    for (vm, region) in bundle.regions() {
        requests.push(Request { vm: *vm, bytes: region.bytes });
    }
    devices::check_devices(&machine, &bundle, &ram, &reserved);
    let plan = match memory.plan(&requests, &needs) {
        Ok(plan) => plan,
        Err(why) => fail!("{why}"),
    };

    // While images are copied, the memory of every VM is mapped; afterwards only the hypervisor's own.
    for placement in &plan.secondaries {
        map.identity(placement.pa.0, placement.bytes, Kind::Data);
    }
    for region in &plan.primary.regions {
        map_except(&mut map, *region, &loaded);
    }
    let devices = devices::devices(&machine, &bundle, &ram);
    let primary = load::primary(&bundle, &plan, &devices);

    let mut last = El2Map::new(&layout);
    for part in own.pool.iter().filter(|part| !part.is_empty()) {
        last.identity(part.base, part.len, Kind::Data);
    }
    last.bundle(own.bundle.base, own.bundle.len);
    board::devices(&machine, &mut |base, bytes| last.identity(base, bytes, Kind::Device));
    let terminal = devices.uart();
    if let Some(uart) = terminal {
        last.identity(uart.region.base, uart.region.size, Kind::Device);
    }
    let (system, reloads) = build::build(&devices, &bundle, &plan, &cores, &ram, last);
    let owner = system.vms.iter().find(|vm| vm.kind == VmKind::SuperSecondary);
    if let (Some(vm), Some(uart)) = (owner, terminal) {
        stop_notice::attach(vm, uart);
    }
    let bootargs = bundle.primary().bootargs.or(machine.bootargs()).unwrap_or_default();
    own::log_memory(bootargs, &own, &plan, &system.vms);
    let this = system.cores.iter().find(|core| core.mpidr == arch::mpidr());
    let Some(this) = this else { fail!("the device tree lacks the core that this is") };

    for (index, mut reload) in reloads.into_iter().enumerate() {
        let (vm, spec) = (&system.vms[index + 1], &bundle.secondaries()[index]);
        let mut claimed = claim(&vm.vcpus[0], this);
        reload.start(&mut claimed);
        claimed.release(VcpuState::Ready);
        reload.mailbox = link_mailbox(vm, spec);
        *vm.reload.lock() = Some(reload);
    }
    link_mailbox(&system.vms[0], bundle.primary());
    let mut running = claim(this.primary(), this);
    running.reset(primary.0, primary.1);
    if let Err(why) = board::init(&machine) {
        fail!("{}", Text(why));
    }
    // SAFETY: they map the image, with the boot stack in it, and the pool; nothing else is used from here on.
    unsafe { arch::set_el2_tables(this.start.tables) };
    enter(this)
}

/// Another core of the primary has been started.
pub(crate) fn core_started(core: &'static Core) -> ! {
    enter(core)
}

/// Sets this core up and enters its primary vCPU, which has been claimed for it.
fn enter(core: &'static Core) -> ! {
    let system = System::get();
    arch::init_core(system.vtcr);
    arch::stop_timers();
    arch::flush_all_vms();
    let [virtual_timer, physical_timer] = TIMERS.ids();
    let stand_in = STAND_IN.load(Ordering::Relaxed);
    let done = if gic::is_possible() && stand_in != u32::MAX {
        board::init_core(core.mpidr, &[virtual_timer, physical_timer, stand_in])
    } else {
        board::init_core(core.mpidr, &[virtual_timer, physical_timer])
    };
    if let Err(why) = done {
        fail!("{}", Text(why));
    }
    firmware::probe();
    arch::hide_interrupt_controller();
    arch::enter(core.primary(), core.start.stack_top)
}

fn id_of(vm: &VmSpec<'_>) -> VmId {
    VmId(vm.index)
}

/// Maps what of `region` is not in `except`, which is mapped already.
fn map_except(map: &mut El2Map, region: Region, except: &[Region]) {
    let mut at = region.base;
    while at < region.end() {
        let page = Region::new(at, layout::PAGE);
        let overlapping = except.iter().any(|e| e.intersect(page).is_some());
        let end = if overlapping {
            at + layout::PAGE
        } else {
            let next = except.iter().map(|e| e.base & !(layout::PAGE - 1)).filter(|base| *base > at).min();
            next.unwrap_or(u64::MAX).min(region.end())
        };
        if !overlapping {
            map.identity(at, end - at, Kind::Data);
        }
        at = end;
    }
}

fn claim(vcpu: &'static Vcpu, core: &'static Core) -> Claimed {
    let Some(claimed) = vcpu.claim(VcpuState::Off, core) else {
        fail!("a vCPU is running before it was started")
    };
    claimed
}

/// Makes the buffers that a VM's partition manifest names its mailbox: (TX, RX).
#[inline(never)]
fn link_mailbox(vm: &Vm, spec: &VmSpec<'_>) -> Option<(Pa, Pa)> {
    let partition = spec.partition.as_ref()?;
    let page = |index: usize| {
        let region = partition.memory_regions.get(index)?;
        Some(vm.stage2.lock().walk(Ipa(region.address))?.pa)
    };
    let [rx, tx] = partition.rx_tx?;
    let (tx, rx) = (page(tx)?, page(rx)?);
    if !System::get().ownership.lock().link_mailbox(vm.id, [tx, rx]) {
        fail!("the RX and TX buffers of {} are not its own", vm.id);
    }
    vm.mailbox.lock().pages = Some((tx, rx));
    Some((tx, rx))
}
