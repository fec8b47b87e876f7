//! VMs with a virtual GIC: `margay,gic` in the manifest. The state machine is [`drivers_gic::vgic`]; here is what it means for vCPUs.
//!
//! A vCPU's para-virtual controller still tells whether there is something for it: interrupts go through it as those of any VM, and
//! wake, kick and tell the primary in the same way. When its line is high, what it has is moved to the virtual GIC instead.

use crate::{
    board::{self, VirtualInterface},
    percore::Core,
    routing::Routes,
    run,
    syndrome::Syndrome,
    system::System,
    vcpu::{Loaded, Vcpu, VcpuState},
    vm::Vm,
};
use alloc::{boxed::Box, vec};
use core::sync::atomic::Ordering;
use drivers_gic::vgic::{Cpu, Effects, Frame, Irq, REDISTRIBUTOR_SIZE, Version, Vgic};
use hv_abi::{
    ids::{Ipa, VirtIntId, VmId},
    layout::PAGE,
    paravirt,
};
use machine::Machine;

/// Where a VM sees its GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// GICv2. The CPU interface is the core's own virtual one, mapped.
    V2 {
        distributor: u64,
        cpu_interface: u64,
    },
    V3 {
        distributor: u64,
        redistributors: u64,
    },
}

impl Place {
    /// Unless the VM sees the machine's devices.
    pub(crate) fn usual(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2 { distributor: DISTRIBUTOR, cpu_interface: CPU_INTERFACE },
            Version::V3 => Self::V3 { distributor: DISTRIBUTOR, redistributors: REDISTRIBUTORS },
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
                Self::V3 { distributor: real.gicd.base, redistributors: real.redistributors().first()?.base }
            }
        })
    }

    /// Its parts: address and bytes.
    pub(crate) fn parts(self, vcpus: u16) -> [(u64, u64); 2] {
        match self {
            Self::V2 { distributor, cpu_interface } => {
                [(distributor, DISTRIBUTOR_V2_SIZE), (cpu_interface, CPU_INTERFACE_SIZE)]
            }
            Self::V3 { distributor, redistributors } => {
                [(distributor, DISTRIBUTOR_SIZE), (redistributors, u64::from(vcpus) * REDISTRIBUTOR_SIZE)]
            }
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
/// As above.
const REDISTRIBUTORS: u64 = 0x080a_0000;
/// As above: GICv2's.
const CPU_INTERFACE: u64 = 0x0801_0000;
/// Most vCPUs that a GICv2 is for.
pub(crate) const V2_CPUS: u32 = 8;
/// Bytes of the distributor.
const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// As above: GICv2's.
const DISTRIBUTOR_V2_SIZE: u64 = 0x1000;
/// Bytes of GICv2's CPU interface.
const CPU_INTERFACE_SIZE: u64 = 0x2000;
/// The virtual timer's interrupt, for every VM (Arm Base System Architecture, 3.8.3).
const TIMER: u32 = 27;
/// `ICC_SGI1R_EL1`.
const SGI1R: u16 = hv_abi::registers::encoding(3, 0, 12, 11, 5);

/// There may be something new in its GIC, and in nothing else: what a hypercall would have sent a vCPU that has none.
pub(crate) const LOOK: VirtIntId = paravirt::IPI;

/// A VM's GIC.
#[derive(Debug)]
pub(crate) struct Gic {
    state: crate::lock::Lock<Vgic<'static>>,
    distributor: (u64, u64),
    /// Where the first one is; GICv2 has none, and none below this address.
    redistributors: u64,
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
        target.irqs.pend(LOOK);
        match target.state() {
            VcpuState::Running(core) if core != self.core.index => run::kick(core),
            VcpuState::Waiting | VcpuState::WaitingForMessage => {
                // The primary is told whom to run when it asks; this core goes there at once.
                target.irqs.pend(paravirt::DEVICE);
                target.reported.store(false, Ordering::Relaxed);
                let primary = self.core.primary();
                primary.irqs.pend(paravirt::DEVICE_WAITS);
                primary.irqs.pend(paravirt::SCHEDULE_RECEIVER);
                run::kick(self.core.index);
            }
            _ => {}
        }
    }

    fn enable(&mut self, intid: u32, enable: bool) {
        System::get().routes.enable(intid, self.vcpu, self.core, enable);
    }

    fn ended(&mut self, intid: u32) {
        System::get().routes.end(intid, self.vcpu, self.core);
    }
}

impl Gic {
    /// The GIC of VM `id`, for vCPUs with these affinities.
    pub(crate) fn new(
        id: VmId,
        affinities: &mut dyn Iterator<Item = u64>,
        routes: &Routes,
        place: Place,
    ) -> Self {
        let (version, distributor, redistributors) = match place {
            Place::V2 { distributor, .. } => (Version::V2, (distributor, DISTRIBUTOR_V2_SIZE), u64::MAX),
            Place::V3 { distributor, redistributors } => {
                (Version::V3, (distributor, DISTRIBUTOR_SIZE), redistributors)
            }
        };
        let shared = Box::leak(vec![Irq::RESET; 988].into_boxed_slice());
        let mut cpus = alloc::vec::Vec::with_capacity(affinities.size_hint().0);
        for affinity in affinities {
            cpus.push(Cpu::new(affinity));
        }
        let mut state = Vgic::new(version, shared, cpus.leak());
        for intid in 32..1020 {
            if routes.owner(intid).is_some_and(|owner| owner.vm == id) {
                state.assign(intid);
            }
        }
        Self { state: crate::lock::Lock::new(state), distributor, redistributors }
    }

    /// As at the start.
    pub(crate) fn reset(&self) {
        self.state.lock().reset();
    }

    /// Which registers are at an address.
    fn frame(&self, ipa: u64) -> Option<(Frame, u64)> {
        let (distributor, size) = self.distributor;
        if let Some(offset) = ipa.checked_sub(distributor).filter(|offset| *offset < size) {
            return Some((Frame::Distributor, offset));
        }
        let offset = ipa.checked_sub(self.redistributors)?;
        let vcpu = offset / REDISTRIBUTOR_SIZE;
        (vcpu < 1024).then_some((Frame::Redistributor(vcpu as u16), offset % REDISTRIBUTOR_SIZE))
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
    gic.state.lock().load(vcpu.index().0, interface);
    update(gic, vcpu, core);
}

/// `vcpu` is leaving this core.
pub(crate) fn unload(gic: &Gic, vcpu: &'static Vcpu, core: &'static Core, saved: &mut board::SavedInterface) {
    let Some(interface) = interface() else { return };
    let mut state = gic.state.lock();
    state.unload(vcpu.index().0, interface, &mut acts(vcpu, core));
    if state.has_ready(vcpu.index().0) {
        vcpu.irqs.pend(paravirt::DEVICE);
    }
    *saved = interface.leave();
}

/// Moves what has come for the loaded `vcpu` into its GIC, and from there into list registers.
#[cold]
pub(crate) fn update(gic: &Gic, vcpu: &'static Vcpu, core: &'static Core) {
    let Some(interface) = interface() else { return };
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, core));
    let mut state = gic.state.lock();
    while let Some(id) = vcpu.irqs.take() {
        if id == paravirt::TIMER {
            state.pulse(index, TIMER, &mut acts);
        } else if id == paravirt::DEVICE {
            let arrived = &mut |intid| state.set_level(index, intid, true, &mut acts);
            System::get().routes.drain(vcpu.vm(), arrived);
        }
    }
    state.update(index, interface, &mut acts);
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
    if !access.is_read || Vgic::is_live(offset) {
        state.update(index, interface, &mut acts);
    }
    let register = usize::from(access.rt.0);
    if access.is_read {
        let value = state.read(index, frame, offset, access.bytes);
        if let Some(register) = current.regs().x.get_mut(register) {
            *register = value;
        }
    } else {
        let value = current.regs().x.get(register).copied().unwrap_or_default();
        state.write(index, frame, offset, access.bytes, value, &mut acts);
        state.update(index, interface, &mut acts);
    }
    crate::arch::advance_pc();
    true
}

/// A trapped write of a system register: if it sends an SGI in the VM's GIC, that is done.
pub(crate) fn system_register(current: &mut Loaded, encoding: u16, is_read: bool, register: u8) -> bool {
    let (vcpu, core) = (current.vcpu(), current.core());
    let (Some(gic), Some(interface)) = (&vcpu.vm().gic, interface()) else { return false };
    if encoding != SGI1R || is_read {
        return false;
    }
    let value = current.regs().x.get(usize::from(register)).copied().unwrap_or_default();
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, core));
    let mut state = gic.state.lock();
    state.send_sgi(index, value, &mut acts);
    if state.has_ready(index) {
        state.update(index, interface, &mut acts);
    }
    crate::arch::advance_pc();
    true
}

/// What a GIC for `vcpus` vCPUs takes of the pool, at most.
pub(crate) const fn bytes(vcpus: u64) -> u64 {
    (size_of::<Gic>() + 988 * size_of::<Irq>()) as u64 + 4 * vcpus * size_of::<Cpu>() as u64
}

/// What of its para-virtual controller a vCPU with a GIC has enabled.
pub(crate) fn enable_sources(vcpu: &Vcpu) {
    vcpu.irqs.enable(paravirt::TIMER, true);
    vcpu.irqs.enable(paravirt::DEVICE, true);
    vcpu.irqs.enable(LOOK, true);
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
