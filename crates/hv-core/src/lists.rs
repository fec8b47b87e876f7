//! VMs whose para-virtual interrupts come by list registers: `margay,list-registers` in the manifest. They enable and send interrupts by
//! call, as others do, and take and end them at the processor, without an exit. The state machine is [`paravirt_irq::Lists`].

use crate::{
    board::{SavedInterface, VirtualInterface},
    gic,
    vcpu::{Loaded, Vcpu},
    vm::Vm,
};
use drivers_gic::hyp::{Control, ListRegister};
use hv_abi::ids::VirtIntId;
use paravirt_irq::{BackEnd as _, ListRegisters, ListState, Listed, Lists};

/// The core's, as the para-virtual controller uses them.
struct Hardware(&'static dyn VirtualInterface);

/// All interrupts have one priority: none comes while another one is handled.
const PRIORITY: u8 = 0x80;

impl ListRegisters for Hardware {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn state(&self, n: usize) -> ListState {
        use drivers_gic::hyp::ListState as In;
        match self.0.read(n).state() {
            In::Free => ListState::Free,
            In::Pending => ListState::Pending,
            In::Active => ListState::Active,
            In::PendingAndActive => ListState::PendingAndActive,
        }
    }

    fn write(&self, n: usize, id: VirtIntId, state: ListState) {
        use drivers_gic::hyp::ListState as In;
        let state = match state {
            ListState::Free => return self.0.write(n, ListRegister::FREE),
            ListState::Pending => In::Pending,
            ListState::Active => In::Active,
            ListState::PendingAndActive => In::PendingAndActive,
        };
        self.0.write(n, ListRegister::new(id.number(), PRIORITY, state).group_1());
    }

    fn set_underflow_interrupt(&self, enabled: bool) {
        self.0.control(Control::ON.with(Control::UNDERFLOW, enabled));
    }
}

/// What list registers hold of a vCPU, and its interface while it is not loaded.
pub(crate) type Saved<'a> = (&'a mut Listed, &'a mut SavedInterface);

/// Whether `vm` is one of these.
#[inline(always)]
pub(crate) fn has(vm: &Vm) -> bool {
    gic::is_possible() && vm.list_registers
}

/// `vcpu` is being loaded on this core.
pub(crate) fn load(vcpu: &Vcpu, (listed, saved): Saved<'_>) {
    let Some(interface) = gic::interface() else { return };
    interface.enter(saved);
    for n in 0..interface.count() {
        interface.write(n, ListRegister::FREE);
    }
    Lists { hardware: Hardware(interface), listed }.load(&vcpu.irqs);
}

/// `vcpu` is leaving this core.
pub(crate) fn unload(vcpu: &Vcpu, (listed, saved): Saved<'_>) {
    let Some(interface) = gic::interface() else { return };
    Lists { hardware: Hardware(interface), listed }.unload(&vcpu.irqs);
    interface.control(Control::OFF);
    *saved = interface.leave();
}

/// Something may have become pending or been disabled, or there is room again.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(crate) fn update(current: &Loaded) {
    let Some(interface) = gic::interface() else { return };
    current.with_listed(|listed| {
        Lists { hardware: Hardware(interface), listed }.update(&current.vcpu().irqs);
    });
}
