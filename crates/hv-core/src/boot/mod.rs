//! From the first Rust instruction to the first instruction of a VM.
//!
//! Everything is checked before anything starts: the machine, the bundle, the memory plan. Whatever is wrong ends in
//! one sentence on the console. What is built here is fixed from then on: VMs, cores, tables.

mod bundle;
mod load;

use crate::{
    arch,
    bcm2836::{self, Bcm2836},
    board,
    console::{self, Text},
    devices::{self, Devices},
    el2_map::{self, El2Map, Kind, STACK_SIZE},
    firmware::{self, Whitelist},
    gic::{self, Gic},
    interrupt::{STAND_IN, TIMERS},
    percore::Core,
    plan::{Memory, Plan, Region, Request},
    reload::{Mapped, Reload},
    report,
    routing::Routes,
    system::System,
    tables::VmTables,
    vcpu::{Claimed, Vcpu, VcpuState},
    vm::{self, Messaging, Vm, VmKind},
    vmtree,
};
use ::bundle::{Service, VmSpec};
use alloc::{boxed::Box, vec, vec::Vec};
use bundle::Bundle;
use core::sync::atomic::Ordering;
use hv_abi::{
    SMCCC_NOT_SUPPORTED,
    ids::{Ipa, Pa, VcpuIndex, VmId},
    layout, psci,
};
use machine::{Conduit, Machine};
use page_ownership::Ownership;
use plain_numbers::{Dec, Hex};
use stage2_mmu::{Access, IpaWidth, MemoryType};

/// How much of the device tree's surroundings the early tables map.
const TREE_WINDOW: u64 = 2 * layout::BLOCK;

/// Ends the boot with a sentence.
macro_rules! fail {
    ($($argument:tt)*) => { report::fatal(format_args!($($argument)*)) };
}
use fail;

/// The hypervisor, entered at EL2 with the device tree at `tree` and the image at `image`.
pub(crate) fn boot(tree: u64, image: Pa) -> ! {
    crate::heap::init();
    let layout = arch::image_layout();
    let image_region = Region::new(image.0, layout.end - layout.start);
    el2_map::set_image(image, image_region.len);

    // The early tables are writable and executable all over. These are not, and grow as more becomes known.
    let mut map = El2Map::new(&layout);
    map.identity(tree & !(layout::BLOCK - 1), TREE_WINDOW, Kind::ReadOnly);
    map.identity(board::early_console(), 1, Kind::Device);
    // SAFETY: the image, this stack in it, and the device tree stay where they are.
    unsafe { arch::set_el2_tables(map.root()) };

    let machine = read_machine(tree);
    board::devices(&machine, &mut |base, bytes| map.identity(base, bytes, Kind::Device));
    if let Err(why) = board::init_console(&machine) {
        fail!("{}", Text(why));
    }
    let cores = cores(&machine);
    console::info!(
        concat!("Margay ", env!("CARGO_PKG_VERSION"), " on {}, cores: {}"),
        Text(machine.model().unwrap_or("an unnamed machine")),
        Dec(cores.len() as u64)
    );
    let (virtual_timer, physical_timer) = timers(&machine);
    TIMERS.set(virtual_timer, physical_timer);

    // The bundle, checked as a whole.
    let ram = ram(&machine);
    let initrd = initrd(&machine, &ram);
    map.identity(initrd.base, initrd.len, Kind::ReadOnly);
    // SAFETY: within RAM, just mapped, and nobody writes it: no VM runs yet.
    let bytes: &'static [u8] =
        unsafe { core::slice::from_raw_parts(initrd.base as *const u8, initrd.len as usize) };
    let bundle = Bundle::check(bytes, ram.iter().map(|r| r.len).sum());

    // Memory for what the bundle asks for, then the plan for all of it.
    let reserved = machine.reserved().map(|r| Region::new(r.region.base, r.region.size));
    let mut reserved = regions(&mut { reserved });
    board::memory(&machine, &mut |base, bytes| {
        if reserved.push(Region::new(base, bytes)).is_err() {
            fail!("the device tree has too much reserved memory");
        }
    });
    let tree_region = Region::new(tree, machine.dtb().len() as u64);
    let loaded = [tree_region];
    // The bundle stays: VMs are made anew from it.
    let hypervisor = [image_region, initrd];
    let memory = Memory { ram: &ram, hypervisor: &hypervisor, reserved: &reserved, loaded: &loaded };
    let pool = match memory.carve(pool_bytes(&bundle, cores.len(), &ram), layout::BLOCK) {
        Ok(pool) => pool,
        Err(why) => fail!("{why}"),
    };
    map.identity(pool.base, pool.len, Kind::Data);
    // SAFETY: just mapped, and the plan gives it to nobody.
    unsafe { crate::heap::add(pool.base, pool.len) };
    let hypervisor = [image_region, initrd, pool];
    let memory = Memory { hypervisor: &hypervisor, ..memory };
    let needs = bundle.primary_needs(machine.dtb().len());
    let mut requests = Vec::new();
    for vm in bundle.secondaries() {
        requests.push(Request { vm: id_of(vm), bytes: vm.mem_size.unwrap_or_default() });
    }
    for (vm, region) in bundle.regions() {
        requests.push(Request { vm: *vm, bytes: region.bytes });
    }
    check_devices(&machine, &bundle, &ram, &reserved);
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
    let devices = devices(&machine, &bundle, &ram);
    let primary = load::primary(&bundle, &plan, &devices);

    let mut own = El2Map::new(&layout);
    own.identity(pool.base, pool.len, Kind::Data);
    own.identity(initrd.base, initrd.len, Kind::ReadOnly);
    board::devices(&machine, &mut |base, bytes| own.identity(base, bytes, Kind::Device));
    let (system, reloads) = build(&devices, &bundle, &plan, &cores, &ram, own);
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

#[inline(never)]
fn read_machine(tree: u64) -> Machine<'static> {
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
fn ram(machine: &Machine<'_>) -> heapless::Vec<Region, MAX_REGIONS> {
    match machine.ram(&mut [machine::Region::default(); MAX_REGIONS]) {
        Ok(runs) => regions(&mut runs.iter().map(|r| Region::new(r.base, r.size))),
        Err(why) => fail!("{why}"),
    }
}

/// The affinities of the enabled cores, in the tree's order.
fn cores(machine: &Machine<'_>) -> heapless::Vec<u64, 128> {
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

fn timers(machine: &Machine<'_>) -> (u32, u32) {
    let id = |interrupt: Option<machine::Interrupt>| interrupt.map(|i| i.number());
    match machine.timer().map(|info| (id(info.virtual_), id(info.physical))) {
        Some((Some(virtual_timer), Some(physical_timer))) => (virtual_timer, physical_timer),
        _ => fail!("the device tree has no generic timer with interrupts"),
    }
}

/// The bundle's place, which must be memory.
fn initrd(machine: &Machine<'_>, ram: &[Region]) -> Region {
    let Some(initrd) = machine.initrd() else {
        fail!("there is no bundle: /chosen has no linux,initrd-start")
    };
    let region = Region::new(initrd.base, initrd.size);
    if !ram.iter().any(|r| r.intersect(region) == Some(region)) {
        fail!("the bundle at {}, {} bytes, is not in memory", Hex(region.base), Dec(region.len));
    }
    region
}

fn id_of(vm: &VmSpec<'_>) -> VmId {
    VmId(vm.index)
}

/// What the hypervisor allocates: tables of its own and of every VM (one table for each GiB and two for each uneven
/// end, of every region), stacks, vCPUs, trees.
fn pool_bytes(bundle: &Bundle<'_>, cores: usize, ram: &[Region]) -> u64 {
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
    bytes.next_multiple_of(layout::BLOCK)
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

/// Makes everything that lives as long as the machine runs, and loads the secondaries; returns how they were loaded, too.
#[inline(never)]
fn build(
    devices: &Devices<'_>,
    bundle: &Bundle<'static>,
    plan: &Plan,
    cores: &[u64],
    ram: &[Region],
    mut map: El2Map,
) -> (&'static System, Vec<Reload>) {
    let (machine, width) = (devices.machine, ipa_width(bundle, plan, devices));
    let routes = routes(bundle);
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

/// Device interrupts are those VMs' whose manifests have the devices; all others are the super-secondary's, or the VM's that has its
/// place, or nobody's.
#[inline(never)]
fn routes(bundle: &Bundle<'_>) -> Routes {
    let with_devices = |vm: &&VmSpec<'_>| vm.devices;
    let mut routes = Routes::new(bundle.vms().iter().find(with_devices).map(id_of));
    routes.forwards = bundle.forwards_interrupts();
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

/// Pages by which the tables of a VM with `bytes` of memory can grow while it runs.
fn spare_tables(bytes: u64) -> u64 {
    (16 + (bytes >> 26)).min(128)
}

/// Wide enough for all memory of the primary, which sees physical addresses, and for the secondaries' layout.
fn ipa_width(bundle: &Bundle<'_>, plan: &Plan, devices: &Devices<'_>) -> IpaWidth {
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

/// The devices of the VM that has some.
#[inline(never)]
fn devices<'a>(machine: &'a Machine<'a>, bundle: &Bundle<'_>, ram: &[Region]) -> Devices<'a> {
    let Some(spec) = bundle.vms().iter().find(|vm| vm.devices) else { return Devices::none(machine) };
    let mut taken = Vec::new();
    board::devices(machine, &mut |base, bytes| taken.push(devices::pages(base, bytes)));
    taken.extend(ram.iter().map(|region| devices::pages(region.base, region.len)));
    taken.extend(bundle.devices().iter().map(|(_, device)| Region::new(device.address, device.bytes)));
    let policy = devices::Policy {
        allowed: board::allowed(),
        granted: spec.granted_devices,
        taken: &taken,
        limit: 1 << arch::pa_bits(),
    };
    let primary = spec.kind == ::bundle::Kind::Primary;
    let devices = Devices::new(machine, primary, load::controllers(spec), &policy);
    devices.announce(spec.debug_name, &policy);
    devices
}

/// Tables with a VM's memory, with regions that replace part of it or are beside it, and with its devices. Returns where those
/// beside it are, too: addresses and bytes.
fn tables(
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

/// Sees to it that registers given to VMs are those of devices, and neither memory nor the hypervisor's own.
fn check_devices(machine: &Machine<'_>, bundle: &Bundle<'_>, ram: &[Region], reserved: &[Region]) {
    for (vm, device) in bundle.devices() {
        let this = Region::new(device.address, device.bytes);
        let refuse = |why: &str| -> ! {
            let (file, name, why) = (Text(bundle.file_of(*vm)), Text(device.name), Text(why));
            fail!("{file}: /device-regions/{name}: base-address: what is at {this} is {why}")
        };
        let within = |list: &[Region]| list.iter().any(|other| other.intersect(this).is_some());
        if within(ram) || within(reserved) {
            refuse("memory");
        }
        board::devices(machine, &mut |base, bytes| {
            if devices::pages(base, bytes).intersect(this).is_some() {
                refuse("the hypervisor's");
            }
        });
        // Whatever is there, page by page: devices may be side by side, and smaller than a page.
        let mut at = this.base;
        while at < this.end() {
            let mut end = at;
            machine.for_each_device(&mut |_, device| {
                let device = devices::pages(device.base, device.size);
                if device.contains(at) {
                    end = end.max(device.end());
                }
            });
            if end == at {
                refuse("no device");
            }
            at = end;
        }
    }
}
