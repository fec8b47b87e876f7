//! VMs with a virtual GIC: `margay,gic` in the manifest. The state machine is [`drivers_gic::vgic`]; here is what it means for vCPUs.
//!
//! A vCPU's para-virtual controller still tells whether there is something for it: interrupts go through it as those of any VM, and
//! wake, kick and tell the primary in the same way. When its line is high, what it has is moved to the virtual GIC instead.

mod place;
mod timer;
mod traps;

pub(crate) use place::Place;
use place::{DISTRIBUTOR_SIZE, DISTRIBUTOR_V2_SIZE, room, stride};
use timer::guard;
pub(crate) use timer::{fire_timer, tick, watch_timer};
pub(crate) use traps::{access, is_sgi, send_sgi, system_register};

use crate::{
    board::{self, VirtualInterface},
    lists,
    percore::Core,
    routing::Routes,
    run,
    system::System,
    vcpu::{Loaded, Vcpu},
    vm::Vm,
};
use alloc::{boxed::Box, vec, vec::Vec};
use drivers_gic::{
    RedistributorRegion,
    vgic::{Cpu, Effects, Frame, Irq, Version, Vgic},
};
use hv_abi::{
    ids::{VirtIntId, VmId},
    paravirt,
};

/// The virtual timer's interrupt (Arm Base System Architecture, 3.8.3).
const VIRTUAL_TIMER: u32 = 27;
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
        vcpu.irqs.set_pending(paravirt::DEVICE);
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
pub(crate) fn save_before_cpu_off(current: &mut Loaded) {
    if is_possible()
        && let Some(gic) = &current.vm().gic
    {
        unload(gic, current.vcpu(), current.core(), current.gic());
    }
}

/// It has not gone off.
pub(crate) fn load_after_cpu_on(current: &mut Loaded) {
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

/// Moves what has come for a vCPU into its GIC.
#[inline(always)]
fn collect(gic: &Gic, state: &mut Vgic<'_>, acts: &mut Acts) {
    let come = acts.vcpu.irqs.take_of(u64::MAX) & !LOOK.bit();
    if come != 0 {
        collect_of(come, gic, state, acts);
    }
}

#[inline(never)]
fn collect_of(come: u64, gic: &Gic, state: &mut Vgic<'_>, acts: &mut Acts) {
    let (vcpu, index) = (acts.vcpu, acts.vcpu.index().0);
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
