//! VMs with a virtual GIC: `margay,gic` in the manifest. The state machine is [`drivers_gic::vgic`]; here is what it means for vCPUs.
//!
//! A vCPU's para-virtual controller still tells whether there is something for it: interrupts go through it as those of any VM, and
//! wake, kick and tell the primary in the same way. When its line is high, what it has is moved to the virtual GIC instead.

use crate::{
    board::{self, VirtualInterface},
    lists,
    percore::Core,
    plan::Region,
    routing::Routes,
    run,
    syndrome::Syndrome,
    system::System,
    vcpu::{Loaded, Vcpu},
    vm::Vm,
};
use alloc::{boxed::Box, vec, vec::Vec};
use drivers_gic::{
    RedistributorRegion,
    vgic::{Cpu, Effects, Frame, Irq, REDISTRIBUTOR_SIZE, Version, Vgic},
    virtual_cpu::{self, Group1},
};
use hv_abi::{
    ids::{Ipa, VirtIntId, VmId},
    layout::PAGE,
    paravirt,
};
use machine::Machine;
use vtimer::TimerState;

/// Where a VM sees its GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// GICv2. The CPU interface is the core's own virtual one, mapped.
    V2 { distributor: u64, cpu_interface: u64 },
    /// The redistributors are in one region or several.
    V3 { distributor: u64, redistributors: &'static [RedistributorRegion] },
}

impl Place {
    /// Unless the VM sees physical addresses.
    pub(crate) fn usual(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2 { distributor: DISTRIBUTOR, cpu_interface: CPU_INTERFACE },
            Version::V3 => Self::V3 { distributor: DISTRIBUTOR, redistributors: &REDISTRIBUTORS },
        }
    }

    /// Where the machine's own GIC is.
    pub(crate) fn real(version: Version, machine: &Machine<'_>) -> Option<Self> {
        Some(match version {
            Version::V2 => {
                let real = machine.gic_v2()?;
                Self::V2 { distributor: real.gicd.base, cpu_interface: real.gicc.base }
            }
            Version::V3 => {
                let real = machine.gic_v3()?;
                let redistributors = Vec::from(real.redistributors()).leak();
                Self::V3 { distributor: real.gicd.base, redistributors }
            }
        })
    }

    /// Its parts, the distributor first.
    pub(crate) fn parts(self, vcpus: u16) -> Vec<Region> {
        let mut parts = Vec::new();
        match self {
            Self::V2 { distributor, cpu_interface } => {
                parts.push(Region::new(distributor, DISTRIBUTOR_V2_SIZE));
                parts.push(Region::new(cpu_interface, CPU_INTERFACE_SIZE));
            }
            Self::V3 { distributor, redistributors } => {
                parts.push(Region::new(distributor, DISTRIBUTOR_SIZE));
                let mut left = u64::from(vcpus);
                for region in redistributors {
                    let here = left.min(room(region));
                    left -= here;
                    if here > 0 {
                        parts.push(Region::new(region.base, here * stride(region)));
                    }
                }
            }
        }
        parts
    }

    /// For how many vCPUs there is room.
    pub(crate) fn room(self) -> u64 {
        match self {
            Self::V2 { .. } => V2_CPUS,
            Self::V3 { redistributors, .. } => redistributors.iter().map(room).sum(),
        }
    }

    /// What of the machine is mapped into the VM: where the VM sees it, its physical address, and bytes.
    pub(crate) fn mapped(self, machine: &Machine<'_>) -> Option<(u64, u64, u64)> {
        let Self::V2 { cpu_interface, .. } = self else { return None };
        let (pa, bytes) = interface()?.cpu_interface(machine)?;
        // Boards that repeat each page of registers, so that pages may be of 64 KiB, have the second one elsewhere (Linux: `irq-gic.c`,
        // `gic_check_eoimode`). A guest at EL1 does without it: it has no reason to split the end of an interrupt in two.
        let own = if bytes > CPU_INTERFACE_SIZE { PAGE } else { bytes };
        Some((cpu_interface, pa, own))
    }
}

/// As on QEMU's `virt`.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// As above, and as many as a VM can have.
static REDISTRIBUTORS: [RedistributorRegion; 1] =
    [RedistributorRegion::new(0x080a_0000, 512 * REDISTRIBUTOR_SIZE)];
/// As above: GICv2's.
const CPU_INTERFACE: u64 = 0x0801_0000;
/// Most vCPUs that a GICv2 is for.
const V2_CPUS: u64 = 8;
/// Bytes of the distributor.
const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// As above: GICv2's.
const DISTRIBUTOR_V2_SIZE: u64 = 0x1000;
/// Bytes of GICv2's CPU interface.
const CPU_INTERFACE_SIZE: u64 = 0x2000;
/// The virtual timer's interrupt (Arm Base System Architecture, 3.8.3).
const VIRTUAL_TIMER: u32 = 27;
/// `ICC_SGI1R_EL1`.
const SGI1R: u16 = hv_abi::registers::encoding(3, 0, 12, 11, 5);
/// `ICC_SRE_EL1`.
const SRE: u16 = hv_abi::registers::encoding(3, 0, 12, 12, 5);
/// `SPSR_EL2.I`.
const IRQ_MASK: u64 = 1 << 7;
/// Its bits SRE, DFB and DIB.
const SYSTEM_REGISTERS_ONLY: u64 = 0b111;

const fn internal(id: u64) -> VirtIntId {
    match VirtIntId::new(id) {
        Some(id) => id,
        None => panic!("ids end at 62"),
    }
}
/// There may be something new in its GIC, and in nothing else. No VM can send this, nor the next one, to one with a GIC.
pub(crate) const LOOK: VirtIntId = internal(62);

/// A VM's GIC.
#[derive(Debug)]
pub(crate) struct Gic {
    state: crate::lock::ControllerLock<Vgic<'static>>,
    distributor: (u64, u64),
    /// GICv2 has none.
    redistributors: &'static [RedistributorRegion],
    timers: Timers,
}

/// Which interrupts a VM's timers have, as its device tree says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    /// [`paravirt::TIMER`]: the virtual one; the primary's physical one.
    pub(crate) own: u32,
    /// The primary's virtual one.
    pub(crate) second: Option<u32>,
    /// The virtual timer's on this machine.
    pub(crate) physical: u32,
}

impl Timers {
    fn virtual_timer(self) -> u32 {
        self.second.unwrap_or(self.own)
    }

    /// In a tree that is not the machine's.
    pub(crate) const USUAL: Self = Self { own: VIRTUAL_TIMER, second: None, physical: VIRTUAL_TIMER };
}

/// Bytes from one redistributor of a region to the next.
fn stride(region: &RedistributorRegion) -> u64 {
    region.stride.unwrap_or(REDISTRIBUTOR_SIZE).max(REDISTRIBUTOR_SIZE)
}

/// How many a region has.
fn room(region: &RedistributorRegion) -> u64 {
    region.size / stride(region)
}

/// What follows from something that `vcpu` does, or that happens on its core.
struct Acts {
    vcpu: &'static Vcpu,
    core: &'static Core,
}

impl Effects for Acts {
    fn kick(&mut self, index: u16) {
        // Its own list registers are filled afterwards in any case.
        let own = index == self.vcpu.index().0;
        let Some(target) = self.vcpu.vm().vcpus.get(usize::from(index)).filter(|_| !own) else { return };
        run::have_look(target, self.core);
    }

    fn enable(&mut self, intid: u32, enable: bool) {
        System::get().routes.enable(intid, self.vcpu, self.core, enable);
    }

    fn ended(&mut self, intid: u32) {
        System::get().routes.end(intid, self.vcpu, self.core);
    }

    fn hold(&mut self, intid: u32, active: bool) {
        board::set_active(intid, active, self.core.index, self.core.mpidr);
    }
}

impl Gic {
    /// The GIC of VM `id`, for vCPUs with these affinities.
    pub(crate) fn new(
        id: VmId,
        affinities: &mut dyn Iterator<Item = u64>,
        routes: &Routes,
        place: Place,
        timers: Timers,
    ) -> Self {
        let (version, distributor, redistributors) = match place {
            Place::V2 { distributor, .. } => (Version::V2, (distributor, DISTRIBUTOR_V2_SIZE), &[][..]),
            Place::V3 { distributor, redistributors } => {
                (Version::V3, (distributor, DISTRIBUTOR_SIZE), redistributors)
            }
        };
        let shared = Box::leak(vec![Irq::RESET; 988].into_boxed_slice());
        let mut cpus = Vec::with_capacity(affinities.size_hint().0);
        for affinity in affinities {
            cpus.push(Cpu::new(affinity));
        }
        let mut end = 0;
        for region in redistributors {
            end += room(region);
            if let Some(cpu) = end.checked_sub(1).and_then(|last| cpus.get_mut(last as usize)) {
                *cpu = cpu.last_of_region();
            }
        }
        let mut state = Vgic::new(version, shared, cpus.leak());
        state.link(timers.virtual_timer(), timers.physical);
        if id != VmId::PRIMARY {
            state.only_first_on();
        }
        for intid in 32..1020 {
            if routes.owner(intid).is_some_and(|owner| owner.vm == id) {
                state.assign(intid);
            }
        }
        Self { state: crate::lock::ControllerLock::new(state), distributor, redistributors, timers }
    }

    /// What tests look at, and set.
    #[cfg(test)]
    pub(crate) fn state(&self) -> impl core::ops::DerefMut<Target = Vgic<'static>> {
        self.state.lock()
    }

    /// As at the start: the first vCPU is on.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        state.reset();
        state.only_first_on();
    }

    /// Which registers are at an address.
    pub(crate) fn frame(&self, ipa: u64) -> Option<(Frame, u64)> {
        let (distributor, size) = self.distributor;
        if let Some(offset) = ipa.checked_sub(distributor).filter(|offset| *offset < size) {
            return Some((Frame::Distributor, offset));
        }
        let mut first = 0;
        for region in self.redistributors {
            let (stride, room) = (stride(region), room(region));
            if let Some(offset) = ipa.checked_sub(region.base).filter(|offset| *offset < room * stride) {
                let vcpu = u16::try_from(first + offset / stride).ok()?;
                return Some((Frame::Redistributor(vcpu), offset % stride));
            }
            first += room;
        }
        None
    }
}

/// The interface: a VM has a GIC only if there is one.
pub(crate) fn interface() -> Option<&'static dyn VirtualInterface> {
    board::virtual_interface()
}

fn acts(vcpu: &'static Vcpu, core: &'static Core) -> Acts {
    Acts { vcpu, core }
}

/// `vcpu` is being loaded on this core.
pub(crate) fn load(gic: &Gic, vcpu: &'static Vcpu, core: &'static Core, saved: &board::SavedInterface) {
    let Some(interface) = interface() else { return };
    interface.enter(saved);
    // The timer's status is that of the values that have just been loaded.
    crate::arch::isb();
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, core));
    let mut state = gic.state.lock();
    collect(gic, &mut state, &mut acts);
    state.set_line(index, crate::arch::virtual_timer_asserts(), &mut acts);
    if state.load(index, interface, &mut acts) {
        guard(&mut state, interface, index);
    }
}

/// `vcpu` is leaving this core.
pub(crate) fn unload(gic: &Gic, vcpu: &'static Vcpu, core: &'static Core, saved: &mut board::SavedInterface) {
    let Some(interface) = interface() else { return };
    let mut state = gic.state.lock();
    state.set_line(vcpu.index().0, crate::arch::virtual_timer_asserts(), &mut acts(vcpu, core));
    state.unload(vcpu.index().0, interface, &mut acts(vcpu, core));
    if state.has_ready(vcpu.index().0) {
        vcpu.irqs.pend(paravirt::DEVICE);
        if vcpu.vm().is_primary() {
            // Whom it has just handed the core to gives it back at once.
            run::kick(core.index);
        }
    }
    *saved = interface.leave();
}

/// A vCPU goes on or off (`CPU_ON`, `CPU_OFF`): shared interrupts are not routed to one that is off. Of a primary, whose vCPUs are the
/// cores, all count as on.
pub(crate) fn set_on(vcpu: &'static Vcpu, core: &'static Core, on: bool) {
    if is_possible()
        && let Some(gic) = &vcpu.vm().gic
    {
        gic.state.lock().set_on(vcpu.index().0, on, &mut acts(vcpu, core));
    }
}

/// The vCPU that is to have a device's interrupt, which `owner` has enabled.
pub(crate) fn target(owner: &'static Vcpu, intid: u32) -> &'static Vcpu {
    if !has(owner.vm()) {
        return owner;
    }
    let target = owner.vm().gic.as_ref().and_then(|gic| gic.state.lock().target(intid));
    target.and_then(|target| owner.vm().vcpus.get(usize::from(target))).unwrap_or(owner)
}

/// The core of the loaded vCPU, a primary's, goes off.
pub(crate) fn put_down(current: &mut Loaded) {
    if is_possible()
        && let Some(gic) = &current.vm().gic
    {
        unload(gic, current.vcpu(), current.core(), current.gic());
    }
}

/// It has not gone off.
pub(crate) fn pick_up(current: &mut Loaded) {
    if is_possible()
        && let Some(gic) = &current.vm().gic
    {
        load(gic, current.vcpu(), current.core(), current.gic());
    }
}

/// Whether the loaded `vcpu` has an interrupt that it has not acknowledged, perhaps because it does not let it come.
pub(crate) fn is_interrupted(vcpu: &'static Vcpu, core: &'static Core) -> bool {
    let (Some(gic), Some(interface)) = (&vcpu.vm().gic, interface()) else { return false };
    let index = vcpu.index().0;
    let mut state = gic.state.lock();
    state.is_interrupted(index) && {
        look(&mut state, interface, &mut acts(vcpu, core));
        state.is_interrupted(index)
    }
}

/// Whether `vm` has a GIC.
#[inline(always)]
pub(crate) fn has(vm: &Vm) -> bool {
    is_possible() && vm.gic.is_some()
}

/// The primary is no longer loaded: lets EL2's own timer interrupt when its virtual timer, with these registers, fires. One that fires
/// already has been delivered, or cannot be.
pub(crate) fn watch_timer(ctl: u64, cval: u64) {
    let fires = ctl & (TimerState::ENABLE | TimerState::IMASK | TimerState::ISTATUS)
        == TimerState::ENABLE | TimerState::ISTATUS;
    crate::arch::watch_timer(if fires { 0 } else { ctl }, cval);
}

/// The primary's virtual timer has fired while it was not loaded: EL2's own timer tells so.
#[cold]
pub(crate) fn fire_timer(primary: &Vcpu) {
    crate::arch::watch_timer(0, 0);
    primary.irqs.pend(LOOK);
}

/// Whether a para-virtual interrupt can come to `vm`: it has a number there.
#[inline(always)]
pub(crate) fn takes(vm: &Vm, id: VirtIntId) -> bool {
    !is_possible() || vm.gic.is_none() || id == paravirt::TIMER || paravirt::gic_intid(id).is_some()
}

/// The number of a para-virtual interrupt in `vm`.
#[inline(always)]
pub(crate) fn number(vm: &Vm, id: VirtIntId) -> u32 {
    let has_gic = is_possible() && vm.gic.is_some();
    paravirt::gic_intid(id).filter(|_| has_gic).unwrap_or(id.number())
}

/// Brings what is pending to a VM whose interrupts come by list registers.
#[inline(always)]
pub(crate) fn bring(current: &Loaded) {
    match &current.vm().gic {
        Some(gic) => update(gic, current.vcpu(), current.core()),
        None => lists::update(current),
    }
}

/// Moves what has come for the loaded `vcpu` into its GIC, and from there into list registers.
#[cold]
pub(crate) fn update(gic: &Gic, vcpu: &'static Vcpu, core: &'static Core) {
    let Some(interface) = interface() else { return };
    let mut acts = acts(vcpu, core);
    let mut state = gic.state.lock();
    collect(gic, &mut state, &mut acts);
    look(&mut state, interface, &mut acts);
}

/// The virtual timer's interrupt has come, and has been ended at the physical interface.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(crate) fn tick(current: &Loaded) {
    let vcpu = current.vcpu();
    let (Some(gic), Some(interface)) = (&vcpu.vm().gic, interface()) else { return };
    // It may be left from another VM's timer.
    if !crate::arch::virtual_timer_asserts() {
        return;
    }
    let mut state = gic.state.lock();
    if state.tick(vcpu.index().0, interface, &mut acts(vcpu, current.core())) {
        guard(&mut state, interface, vcpu.index().0);
    } else {
        vcpu.irqs.pend(LOOK);
    }
}

/// Moves what has come for a vCPU into its GIC.
fn collect(gic: &Gic, state: &mut Vgic<'_>, acts: &mut Acts) {
    let (vcpu, index) = (acts.vcpu, acts.vcpu.index().0);
    let come = vcpu.irqs.take_of(u64::MAX) & !LOOK.bit();
    if come == 0 {
        return;
    }
    if come & paravirt::TIMER.bit() != 0 {
        state.pulse(index, gic.timers.own, acts);
    }
    if come & paravirt::DEVICE.bit() != 0 {
        let arrived = &mut |intid| state.set_level(index, intid, true, acts);
        System::get().routes.drain(vcpu.vm(), arrived);
    }
    let mut others = come & !(paravirt::TIMER.bit() | paravirt::DEVICE.bit());
    while let Some(id) = VirtIntId::lowest(others) {
        others &= !id.bit();
        if let Some(intid) = paravirt::gic_intid(id) {
            state.pulse(index, intid, acts);
        }
    }
}

/// Looks at what the loaded vCPU has done with its interrupts, and at its timer, and gives it what is to be delivered.
fn look(state: &mut Vgic<'_>, interface: &dyn VirtualInterface, acts: &mut Acts) {
    let index = acts.vcpu.index().0;
    state.set_line(index, crate::arch::virtual_timer_asserts(), acts);
    if state.update(index, interface, acts) {
        guard(state, interface, index);
    }
}

/// A timer's interrupt that the vCPU cannot acknowledge at once may be over before it does: then its accesses to the CPU interface trap, where
/// that is possible, and its timer is looked at again.
#[inline(never)]
fn guard(state: &mut Vgic<'_>, interface: &dyn VirtualInterface, index: u16) {
    let trap = state.awaits(index) && is_delayed(state, interface, index);
    state.trap_group_1(index, trap, interface);
}

fn is_delayed(state: &Vgic<'_>, interface: &dyn VirtualInterface, index: u16) -> bool {
    let Some(cpu) = interface.virtual_cpu() else { return false };
    if crate::arch::spsr() & IRQ_MASK != 0 {
        return true;
    }
    match state.awaits_only(index) {
        Some(priority) => !virtual_cpu::lets_through(cpu, priority),
        None => !state.is_linked(virtual_cpu::signals(cpu)),
    }
}

/// An access to memory that is not there: if it is to the VM's GIC, it is done, and the VM goes on behind it.
pub(crate) fn access(current: &mut Loaded, esr: u64) -> bool {
    let (vcpu, core) = (current.vcpu(), current.core());
    let (Some(gic), Some(interface)) = (&vcpu.vm().gic, interface()) else { return false };
    let Some(access) = Syndrome(esr).memory_access() else { return false };
    let ipa = Ipa(crate::arch::fault_ipa() | crate::arch::fault_address() & 0xfff);
    let Some((frame, offset)) = gic.frame(ipa.0) else { return false };
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, core));
    let mut state = gic.state.lock();
    let is_live = Vgic::is_live(offset);
    if !access.is_read || is_live {
        look(&mut state, interface, &mut acts);
    }
    let register = usize::from(access.rt.0);
    if access.is_read {
        let mut value = state.read(index, frame, offset, access.bytes);
        if is_live && access.bytes == 4 {
            value |= quiet_lines(&state, frame, offset);
        }
        if let Some(register) = current.regs().x.get_mut(register) {
            *register = value;
        }
    } else {
        let value = current.regs().x.get(register).copied().unwrap_or_default();
        state.write(index, frame, offset, access.bytes, value, &mut acts);
        look(&mut state, interface, &mut acts);
    }
    crate::arch::advance_pc();
    true
}

/// Which devices' lines are high that have not interrupted, because the VM has not enabled them: bits of a register of pending interrupts.
fn quiet_lines(state: &Vgic<'_>, frame: Frame, offset: u64) -> u64 {
    let (first, mut quiet) = state.quiet_devices(frame, offset);
    let mut high = 0;
    while quiet != 0 {
        let n = quiet.trailing_zeros();
        quiet &= quiet - 1;
        high |= u64::from(board::is_asserted(first + n)) << n;
    }
    high
}

/// A trapped access to a system register: if it is one of the VM's GIC, it is done. Most are SGIs.
pub(crate) fn system_register(current: &mut Loaded, encoding: u16, is_read: bool, register: u8) -> bool {
    let number = usize::from(register);
    let Some(gic) = current.vm().gic.as_ref().filter(|_| encoding == SGI1R && !is_read) else {
        return other_register(current, encoding, is_read, number);
    };
    let value = current.regs().x.get(number).copied().unwrap_or_default();
    let vcpu = current.vcpu();
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, current.core()));
    let mut state = gic.state.lock();
    state.send_sgi(index, value, &mut acts);
    if state.has_ready(index)
        && let Some(interface) = interface()
    {
        look(&mut state, interface, &mut acts);
    }
    crate::arch::advance_pc();
    true
}

/// As above, where it sends nothing.
#[cold]
#[inline(never)]
fn other_register(current: &mut Loaded, encoding: u16, is_read: bool, register: usize) -> bool {
    let (vm, Some(interface)) = (current.vm(), interface()) else { return false };
    if encoding == SRE && vm.by_list_registers() && interface.version() == Version::V3 {
        // The system registers are all that there is: what says so cannot be changed (GIC spec, `ICC_SRE_EL1`: RAO/WI).
        if is_read && let Some(register) = current.regs().x.get_mut(register) {
            *register = SYSTEM_REGISTERS_ONLY;
        }
        crate::arch::advance_pc();
        return true;
    }
    match (&vm.gic, group_1(encoding)) {
        (Some(gic), Some(group_1)) => cpu_interface(current, gic, interface, group_1, is_read, register),
        _ => false,
    }
}

/// A trapped access to the CPU interface: the timer is looked at before and after.
fn cpu_interface(
    current: &mut Loaded,
    gic: &Gic,
    interface: &dyn VirtualInterface,
    group_1: Group1,
    is_read: bool,
    register: usize,
) -> bool {
    let Some(cpu) = interface.virtual_cpu() else { return false };
    let mut acts = acts(current.vcpu(), current.core());
    let mut state = gic.state.lock();
    look(&mut state, interface, &mut acts);
    let mut scratch = 0;
    let value = current.regs().x.get_mut(register).unwrap_or(&mut scratch);
    if is_read {
        *value = virtual_cpu::read(cpu, group_1);
    } else {
        virtual_cpu::write(cpu, group_1, *value);
    }
    look(&mut state, interface, &mut acts);
    crate::arch::advance_pc();
    true
}

/// The register of the CPU interface's group 1 with an encoding, if it is one.
const fn group_1(encoding: u16) -> Option<Group1> {
    let fields = encoding & 0x7ff;
    if encoding != hv_abi::registers::encoding(3, 0, 0, 0, 0) | fields {
        return None;
    }
    Group1::find((fields >> 7) as u8, (fields >> 3 & 0xf) as u8, (fields & 7) as u8)
}

/// What a GIC for `vcpus` vCPUs takes of the pool, at most.
pub(crate) const fn bytes(vcpus: u64) -> u64 {
    (size_of::<Gic>() + 988 * size_of::<Irq>()) as u64 + 4 * vcpus * size_of::<Cpu>() as u64
}

/// What of its para-virtual controller a vCPU with a GIC has enabled: everything, for whether it comes is its GIC's to say.
pub(crate) fn enable_sources(vcpu: &Vcpu) {
    let ids = (0..VirtIntId::COUNT).filter_map(|id| VirtIntId::new(id.into()));
    ids.chain([paravirt::DEVICE]).for_each(|id| vcpu.irqs.enable(id, true));
}

/// Whether a VM can have a GIC.
#[inline(always)]
pub(crate) fn is_possible() -> bool {
    interface().is_some()
}

/// As [`Gic::reset`], for a VM that may have one.
pub(crate) fn reset(vm: &Vm) {
    if is_possible()
        && let Some(gic) = &vm.gic
    {
        gic.reset();
    }
}
