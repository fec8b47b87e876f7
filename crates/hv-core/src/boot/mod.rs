//! From the first Rust instruction to the first instruction of a VM.
//!
//! Everything is checked before anything starts: the machine, the bundle, the memory plan. Whatever is wrong ends in
//! one sentence on the console. What is built here is fixed from then on: VMs, cores, tables.

mod bundle;
mod devices;
mod load;

use crate::{
    arch, board, console,
    el2_map::{self, El2Map, Kind, STACK_SIZE},
    firmware::{self, Whitelist},
    interrupt::TIMERS,
    percore::Core,
    plan::{Memory, Placement, Plan, Region, Request},
    report,
    system::System,
    tables::VmTables,
    vcpu::{Claimed, Vcpu, VcpuState},
    vm::{Messaging, Vm, VmKind},
    vmtree,
};
use ::bundle::{MemoryRegion, VmSpec};
use alloc::{boxed::Box, vec::Vec};
use bundle::Bundle;
use devices::Devices;
use hv_abi::{
    ids::{Ipa, Pa, VcpuIndex, VmId},
    layout,
};
use machine::{Conduit, Machine};
use page_ownership::Ownership;
use spin::mutex::SpinMutex;
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
        fail!("{why}");
    }
    let cores = cores(&machine);
    console::info!(
        "Margay {} on {}, cores: {}",
        env!("CARGO_PKG_VERSION"),
        machine.model().unwrap_or("an unnamed machine"),
        cores.len()
    );
    let (virtual_timer, physical_timer) = timers(&machine);
    TIMERS.set(virtual_timer, physical_timer);

    // The bundle, checked as a whole.
    let ram = regions("memory", &mut machine.memory().map(|r| Region::new(r.base, r.size)));
    let initrd = initrd(&machine, &ram);
    map.identity(initrd.base, initrd.len, Kind::ReadOnly);
    // SAFETY: within RAM, just mapped, and nobody writes it: no VM runs yet.
    let bytes: &'static [u8] =
        unsafe { core::slice::from_raw_parts(initrd.base as *const u8, initrd.len as usize) };
    let bundle = Bundle::check(bytes, ram.iter().map(|r| r.len).sum());

    // Memory for what the bundle asks for, then the plan for all of it.
    let reserved = machine.reserved().map(|r| Region::new(r.region.base, r.region.size));
    let reserved = regions("reserved memory", &mut { reserved });
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
    let requests: Vec<Request> = bundle
        .secondaries()
        .iter()
        .map(|vm| Request { vm: id_of(vm), bytes: vm.mem_size.unwrap_or_default() })
        .chain(bundle.regions().iter().map(|(vm, region)| Request { vm: *vm, bytes: region.bytes }))
        .collect();
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
    let given = bundle.devices().iter().map(|(_, device)| Region::new(device.address, device.bytes));
    let devices = Devices::new(&machine, &ram, given);
    let secondaries = load::secondaries(&bundle, &plan, &devices);
    let primary = load::primary(&bundle, &plan, &machine);

    let mut own = El2Map::new(&layout);
    own.identity(pool.base, pool.len, Kind::Data);
    own.identity(initrd.base, initrd.len, Kind::ReadOnly);
    board::devices(&machine, &mut |base, bytes| own.identity(base, bytes, Kind::Device));
    let system = build(&devices, &bundle, &plan, &cores, &ram, own);
    let this = system.cores.iter().find(|core| core.mpidr == arch::mpidr());
    let Some(this) = this else {
        fail!("the device tree does not list the core that the hypervisor runs on")
    };

    for ((vm, mut reload), spec) in system.vms[1..].iter().zip(secondaries).zip(bundle.secondaries()) {
        let mut claimed = claim(&vm.vcpus[0], this);
        reload.start(&mut claimed);
        claimed.release(VcpuState::Ready);
        reload.regions =
            regions_of(&bundle, &plan, vm.id).map(|(_, place)| (place.pa, place.bytes)).collect();
        reload.mailbox = link_mailbox(vm, spec);
        *vm.reload.lock() = Some(reload);
    }
    link_mailbox(&system.vms[0], bundle.primary());
    let mut running = claim(this.primary(), this);
    running.reset(primary.0, primary.1);
    if let Err(why) = board::init(&machine) {
        fail!("{why}");
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
    if let Err(why) = board::init_core(core.mpidr, &TIMERS.ids()) {
        fail!("{why}");
    }
    firmware::probe();
    arch::hide_interrupt_controller();
    arch::enter(core.primary(), core.start.stack_top)
}

fn read_machine(tree: u64) -> Machine<'static> {
    let mapped = TREE_WINDOW - tree % layout::BLOCK;
    // SAFETY: mapped, and written by nobody; if there is no device tree there, its bytes say so.
    let bytes = unsafe { core::slice::from_raw_parts(tree as *const u8, mapped as usize) };
    match Machine::from_dtb(bytes) {
        Ok(machine) => machine,
        Err(why) => fail!("the device tree at {tree:#x} cannot be used: {why}"),
    }
}

/// Most ranges of memory, and of reserved memory. There is no heap to put them on yet.
const MAX_REGIONS: usize = 64;

fn regions(what: &str, found: &mut dyn Iterator<Item = Region>) -> heapless::Vec<Region, MAX_REGIONS> {
    let mut regions = heapless::Vec::new();
    for region in found {
        if regions.push(region).is_err() {
            fail!("the device tree has more than {MAX_REGIONS} ranges of {what}");
        }
    }
    regions
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
            fail!("the machine has more than {} cores", cores.capacity());
        }
    }
    if cores.is_empty() {
        fail!("the device tree names no core");
    }
    if cores.len() > 1 && !by_smc {
        fail!("the device tree offers no PSCI by SMC, without which the other cores cannot be started");
    }
    cores
}

fn timers(machine: &Machine<'_>) -> (u32, u32) {
    let Some(info) = machine.timer() else { fail!("the device tree has no ARM generic timer") };
    let id =
        |interrupt: Option<machine::Interrupt>| interrupt.and_then(|i| i.intid()).map(machine::Intid::raw);
    match (id(info.virtual_), id(info.physical)) {
        (Some(virtual_timer), Some(physical_timer)) => (virtual_timer, physical_timer),
        _ => fail!("the device tree gives no interrupt for the virtual or the physical timer"),
    }
}

/// The bundle's place, which must be memory.
fn initrd(machine: &Machine<'_>, ram: &[Region]) -> Region {
    let Some(initrd) = machine.initrd() else {
        fail!("there is no bundle: /chosen has no linux,initrd-start and linux,initrd-end")
    };
    let region = Region::new(initrd.base, initrd.size);
    if !ram.iter().any(|r| r.intersect(region) == Some(region)) {
        fail!("the bundle at {:#x}, {} bytes, is not in memory", region.base, region.len);
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
    let fixed = 512 * 1024;
    let per_core = STACK_SIZE + 4 * layout::PAGE + size_of::<Core>() as u64 + vms * 2;
    let spare: u64 =
        bundle.secondaries().iter().map(|vm| spare_tables(vm.mem_size.unwrap_or_default())).sum();
    let spare = spare + spare_tables(u64::MAX);
    let pages = ram.iter().map(|r| r.len / layout::PAGE).sum::<u64>();
    let per_vm = 12 * layout::PAGE + size_of::<Vm>() as u64 + Ownership::BYTES_PER_VM as u64;
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
fn ownership(ram: &[Region], plan: &Plan, vms: impl Iterator<Item = VmId>) -> Ownership {
    let whole = |region: &Region| {
        let base = region.base.next_multiple_of(layout::PAGE);
        (base, (region.end() & !(layout::PAGE - 1)).saturating_sub(base))
    };
    let mut ownership = Ownership::new(ram.iter().map(whole), vms);
    let primary = plan.primary.regions.iter().map(|region| (VmId::PRIMARY, Pa(region.base), region.len));
    let secondaries = plan.secondaries.iter().map(|placement| (placement.vm, placement.pa, placement.bytes));
    for (vm, pa, bytes) in primary.chain(secondaries) {
        if !ownership.assign(vm, pa, bytes / layout::PAGE) {
            fail!("memory at {:#x} has been planned for two", pa.0);
        }
    }
    ownership
}

/// Makes everything that lives as long as the machine runs.
fn build(
    devices: &Devices<'_>,
    bundle: &Bundle<'static>,
    plan: &Plan,
    cores: &[u64],
    ram: &[Region],
    mut map: El2Map,
) -> &'static System {
    let (machine, width) = (devices.machine, ipa_width(bundle, plan, devices));
    let mut vms = Vec::new();
    let affinities: Vec<u64> = cores.to_vec();
    let name = bundle.primary().debug_name;
    vms.push(Vm::new(
        VmId::PRIMARY,
        VmKind::Primary,
        name,
        bundle.primary().uuid(),
        messaging(bundle.primary(), VmKind::Primary),
        vcpus(&affinities),
        primary_tables(bundle, plan, width),
        [0, spare_tables(u64::MAX)],
    ));
    for (spec, placement) in bundle.secondaries().iter().zip(&plan.secondaries) {
        let affinities: Vec<u64> = (0..spec.vcpu_count as u16).map(vmtree::vcpu_mpidr).collect();
        let (kind, tables) = if spec.kind == ::bundle::Kind::SuperSecondary {
            (VmKind::SuperSecondary, super_secondary_tables(bundle, spec, placement, devices, width))
        } else {
            (VmKind::Secondary, secondary_tables(bundle, plan, spec, placement, width))
        };
        let messaging = messaging(spec, kind);
        vms.push(Vm::new(
            id_of(spec),
            kind,
            spec.debug_name,
            spec.uuid(),
            messaging,
            vcpus(&affinities),
            tables,
            [layout::window(placement.bytes), spare_tables(placement.bytes)],
        ));
    }

    let specs = core::iter::once(bundle.primary()).chain(bundle.secondaries());
    for (vm, spec) in vms.iter_mut().zip(specs) {
        vm.whitelist = Whitelist { functions: spec.smc_whitelist, permissive: spec.smc_whitelist_permissive };
    }

    let mut parts = Vec::new();
    for index in 0..cores.len() as u16 {
        let stack = stack_memory();
        parts.push((map.stack(index, stack), map.window(index)));
    }
    let root = map.leak();
    let physical_cores = cores
        .iter()
        .zip(parts)
        .enumerate()
        .map(|(index, (mpidr, (top, window)))| Core::new(index as u16, *mpidr, vms.len(), window, root, top))
        .collect();

    let ownership = ownership(ram, plan, vms.iter().map(|vm| vm.id));
    let Some(frequency) = vtimer::frequency() else {
        fail!("firmware has not set the frequency of the counter")
    };
    let system = System::publish(Box::new(System {
        vms: vms.into_boxed_slice(),
        cores: physical_cores,
        ownership: SpinMutex::new(ownership),
        frequency,
        vtcr: arch::vtcr(width.bits()),
        conduit: machine.psci().map(|psci| psci.conduit),
        workarounds: Default::default(),
    }));
    for vm in &system.vms {
        vm.vcpus.iter().for_each(|vcpu| vcpu.attach(vm));
    }
    for (core, vcpu) in system.cores.iter().zip(&system.vms[0].vcpus) {
        core.attach(vcpu);
    }
    system
}

fn messaging(spec: &VmSpec<'_>, kind: VmKind) -> Messaging {
    match &spec.partition {
        Some(p) => Messaging::by_manifest(kind, p.messaging_method, p.notification_support, p.version),
        None => Messaging::of(kind),
    }
}

fn vcpus(affinities: &[u64]) -> Box<[Vcpu]> {
    affinities.iter().enumerate().map(|(i, mpidr)| Vcpu::new(VcpuIndex(i as u16), *mpidr)).collect()
}

/// A stack's worth of pages from the heap.
fn stack_memory() -> Pa {
    let stack: Box<[[u64; 512]]> = (0..=STACK_SIZE / layout::PAGE).map(|_| [0; 512]).collect();
    // One page more than needed, because the heap aligns to words.
    el2_map::physical((Box::leak(stack).as_ptr() as u64).next_multiple_of(layout::PAGE))
}

/// Pages by which the tables of a VM with `bytes` of memory can grow while it runs.
fn spare_tables(bytes: u64) -> u64 {
    (16 + (bytes >> 26)).min(128)
}

/// Wide enough for all memory of the primary, which sees physical addresses, and for the secondaries' layout.
fn ipa_width(bundle: &Bundle<'_>, plan: &Plan, devices: &Devices<'_>) -> IpaWidth {
    let primary = plan.primary.regions.iter().chain(&devices.regions).map(|r| r.end());
    let largest = plan.secondaries.iter().map(|p| layout::window(p.bytes) + (1 << 30));
    let regions = bundle.regions().iter().map(|(_, region)| region.address + region.bytes);
    let given = bundle.devices().iter().map(|(_, device)| device.address + device.bytes);
    let limit = primary.chain(largest).chain(regions).chain(given).fold(1 << 32, u64::max);
    let bits = (64 - (limit - 1).leading_zeros()) as u8;
    // 39 bits, which one root table translates, leave much room for memory that VMs receive.
    match IpaWidth::new(bits.max(39.min(arch::pa_bits()))) {
        Some(width) if bits <= arch::pa_bits() => width,
        _ => fail!("memory reaches to {limit:#x}, further than stage-2 tables with three levels can"),
    }
}

/// The primary sees physical addresses. Memory regions of its partition manifest are part of what it has anyway.
#[inline(never)]
fn primary_tables(bundle: &Bundle<'_>, plan: &Plan, width: IpaWidth) -> VmTables {
    let spec = bundle.primary();
    for region in spec.partition.iter().flat_map(::bundle::Partition::memory_regions) {
        let this = Region::new(region.address, region.bytes);
        if !plan.primary.regions.iter().any(|r| r.intersect(this) == Some(this)) {
            let file = spec.fdt_filename.unwrap_or_default();
            fail!("{file}: /memory-regions/{}: {this} is not memory of the primary VM", region.name);
        }
    }
    let ranges = plan.primary.regions.iter().map(|r| (Ipa(r.base), Pa(r.base), r.len));
    map_memory(bundle, width, spec, ranges, core::iter::empty())
}

/// Its memory and the devices, at their physical addresses.
fn super_secondary_tables(
    bundle: &Bundle<'_>,
    spec: &VmSpec<'_>,
    placement: &Placement,
    devices: &Devices<'_>,
    width: IpaWidth,
) -> VmTables {
    let own = (Ipa(placement.pa.0), placement.pa, placement.bytes);
    let mut tables = map_memory(bundle, width, spec, core::iter::once(own), core::iter::empty());
    for device in &devices.regions {
        let (ipa, pa) = (Ipa(device.base), Pa(device.base));
        if tables.map(ipa, pa, device.len, Access::RW, MemoryType::Device).is_err() {
            fail!("the device at {device} cannot be mapped for a VM: there is no memory for its tables");
        }
    }
    tables
}

#[inline(never)]
fn secondary_tables(
    bundle: &Bundle<'_>,
    plan: &Plan,
    spec: &VmSpec<'_>,
    placement: &Placement,
    width: IpaWidth,
) -> VmTables {
    let own = (Ipa(layout::RAM_BASE), placement.pa, placement.bytes);
    let within = spec.partition.iter().flat_map(::bundle::Partition::memory_regions);
    let within = within.filter(|region| region.is_within(placement.bytes));
    let within = within.map(|region| (region, Pa(placement.pa.0 + (region.address - layout::RAM_BASE))));
    let beside = regions_of(bundle, plan, placement.vm).map(|(region, place)| (region, place.pa));
    map_memory(bundle, width, spec, core::iter::once(own), within.chain(beside))
}

/// Tables with a VM's memory, with regions that replace part of it or are beside it, and with its devices.
#[inline(never)]
fn map_memory<'a>(
    bundle: &Bundle<'_>,
    width: IpaWidth,
    spec: &VmSpec<'_>,
    ranges: impl Iterator<Item = (Ipa, Pa, u64)>,
    regions: impl Iterator<Item = (MemoryRegion<'a>, Pa)>,
) -> VmTables {
    let mapped = VmTables::new(width).and_then(|mut tables| {
        for (ipa, pa, bytes) in ranges {
            tables.map(ipa, pa, bytes, Access::RWX, MemoryType::Normal)?;
        }
        for (region, pa) in regions {
            let access = Access { read: true, write: region.write, execute: region.execute };
            tables.replace(Ipa(region.address), pa, region.bytes, access)?;
        }
        for (_, device) in bundle.devices().iter().filter(|(vm, _)| vm.0 == spec.index) {
            let access = Access { read: true, write: device.write, execute: false };
            let (ipa, pa) = (Ipa(device.address), Pa(device.address));
            tables.map(ipa, pa, device.bytes, access, MemoryType::Device)?;
        }
        Ok(tables)
    });
    match mapped {
        Ok(tables) => tables,
        Err(why) => fail!("the memory of {} cannot be mapped: {why}", spec.debug_name),
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
    let partition = spec.partition?;
    let page = |index| {
        let region = partition.memory_regions().nth(index)?;
        Some(vm.stage2.lock().walk(Ipa(region.address))?.pa)
    };
    let [rx, tx] = partition.rx_tx()?.map(page);
    let (tx, rx) = (tx?, rx?);
    if !System::get().ownership.lock().link_mailbox(vm.id, [tx, rx]) {
        fail!("the RX and TX buffers of {} are not its own", vm.id);
    }
    vm.mailbox.lock().pages = Some((tx, rx));
    Some((tx, rx))
}

/// Where the memory regions of a VM's partition manifest are, other than in its memory.
fn regions_of<'a>(
    bundle: &'a Bundle<'a>,
    plan: &'a Plan,
    vm: VmId,
) -> impl Iterator<Item = (MemoryRegion<'a>, &'a Placement)> {
    let placements = plan.secondaries[bundle.secondaries().len()..].iter();
    let all = bundle.regions().iter().zip(placements);
    all.filter(move |((of, _), _)| *of == vm).map(|((_, region), place)| (*region, place))
}

/// Sees to it that registers given to VMs are those of devices, and neither memory nor the hypervisor's own.
#[inline(never)]
fn check_devices(machine: &Machine<'_>, bundle: &Bundle<'_>, ram: &[Region], reserved: &[Region]) {
    for (vm, device) in bundle.devices() {
        let this = Region::new(device.address, device.bytes);
        let refuse = |why: &str| -> ! {
            let file = bundle.file_of(*vm);
            fail!("{file}: /device-regions/{}: base-address: what is at {this} is {why}", device.name)
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
