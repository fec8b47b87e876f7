//! The virtual timer of a VM with a GIC: its interrupt is a level, and nobody but the VM writes its registers.

use super::{LOOK, acts, interface};
use crate::{
    board::VirtualInterface,
    vcpu::{Loaded, Vcpu},
};
use drivers_gic::{vgic::Vgic, virtual_cpu};
use vtimer::TimerState;

/// `SPSR_EL2.I`.
const IRQ_MASK: u64 = 1 << 7;
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
    primary.irqs.set_pending(LOOK);
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
        vcpu.irqs.set_pending(LOOK);
    }
}

/// A timer's interrupt that the vCPU cannot acknowledge at once may be over before it does: then its accesses to the CPU interface trap, where
/// that is possible, and its timer is looked at again.
#[inline(never)]
pub(super) fn guard(state: &mut Vgic<'_>, interface: &dyn VirtualInterface, index: u16) {
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
