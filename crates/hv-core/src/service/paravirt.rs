//! Para-virtual interrupts ([`hv_abi::paravirt`]).

use super::notify;
use crate::{
    gic, lists,
    run::{self, Next},
    system::System,
    vcpu::{Loaded, Vcpu, VcpuState},
    vm::Vm,
};
use core::sync::atomic::Ordering;
use hv_abi::{
    exit::Exit,
    ids::{VirtIntId, VmId},
    paravirt,
};

const FAILED: u64 = u64::MAX;

/// `HF_INTERRUPT_GET`.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(super) fn get(mut current: Loaded) -> Next {
    let taken = current.vcpu().irqs.take();
    // One whose interrupts come by list registers has taken the sign of it there.
    if taken == Some(paravirt::DEVICE) || taken.is_none() && lists::has(current.vm()) {
        return get_device(current);
    }
    current.regs().x[0] = u64::from(taken.map_or(paravirt::NO_INTERRUPT, VirtIntId::number));
    current.update_line()
}

/// The same, if it is a device's.
#[cold]
#[inline(never)]
fn get_device(mut current: Loaded) -> Next {
    let taken = System::get().routes.take(current.vcpu());
    current.regs().x[0] = taken.unwrap_or(paravirt::NO_INTERRUPT).into();
    current.update_line()
}

/// `HF_INTERRUPT_DEACTIVATE`: the interrupt by its number at the controller, and by the one that the VM knows; they are the same.
pub(super) fn deactivate(mut current: Loaded) -> Next {
    let [_, id, same, ..] = current.regs().arguments().0;
    let ended =
        id as u32 == same as u32 && System::get().routes.end(id as u32, current.vcpu(), current.core());
    current.regs().x[0] = if ended { 0 } else { FAILED };
    current.vcpu()
}

/// `HF_INTERRUPT_ENABLE`.
pub(super) fn enable(mut current: Loaded) -> Next {
    let [_, id, enable, kind, ..] = current.regs().arguments().0;
    let (core, on) = (current.core(), enable as u32 != 0);
    current.regs().x[0] = match (VirtIntId::new(id & 0xffff_ffff), kind as u32) {
        // A VM that is being stopped has no interrupts of devices any more.
        (_, 0) if on && !current.vm().may_call() => FAILED,
        (_, 0) if System::get().routes.enable(id as u32, current.vcpu(), core, on) => 0,
        (Some(id), 0) => {
            current.vcpu().irqs.enable(id, on);
            0
        }
        _ => FAILED,
    };
    if lists::has(current.vm()) {
        // What it has disabled may be in one.
        lists::update(&current);
    }
    current.update_line()
}

/// `HF_INTERRUPT_INJECT`.
pub(super) fn inject(mut current: Loaded) -> Next {
    let [_, vm, index, id, ..] = current.regs().arguments().0;
    let target = find_target(&current, VmId(vm as u16), index as u32).zip(VirtIntId::new(id & 0xffff_ffff));
    let takes = |vm: &Vm, id| vm.is_active() && gic::takes(vm, id);
    let Some((target, id)) = target.filter(|(target, id)| takes(target.vm(), *id)) else {
        current.regs().x[0] = FAILED;
        return current.vcpu();
    };
    current.regs().x[0] = 0;
    let (next, run_it) = deliver(&current, target, id);
    if run_it && current.vm().is_primary() {
        current.regs().x[0] = 1;
    }
    next
}

fn find_target(current: &Loaded, vm: VmId, index: u32) -> Option<&'static Vcpu> {
    let own = current.vm();
    let vm = if vm == own.id {
        own
    } else if own.is_primary() {
        System::get().vm(vm)?
    } else {
        return None;
    };
    vm.vcpus.get(index as usize)
}

/// `HF_INTERRUPT_SEND_IPI`.
pub(super) fn send_ipi(mut current: Loaded) -> Next {
    let index = current.regs().x[1] as u32 as usize;
    let vm = current.vm();
    let Some(target) = vm.vcpus.get(index).filter(|_| vm.may_call()) else {
        current.regs().x[0] = FAILED;
        return current.vcpu();
    };
    current.regs().x[0] = 0;
    deliver(&current, target, paravirt::IPI).0
}

/// Sends `id` to a vCPU of a VM that has something to read; see [`deliver`]. Nobody is run for it now if `quietly`.
pub(super) fn notify(current: Loaded, target: &'static Vcpu, id: VirtIntId, quietly: bool) -> Next {
    if quietly {
        target.irqs.set_pending(id);
        return current.vcpu();
    }
    deliver(&current, target, id).0
}

/// A device interrupt is pending for `target`.
#[cold]
pub(crate) fn interrupt(current: Loaded, target: &'static Vcpu) -> Next {
    target.reported.store(false, Ordering::Relaxed);
    if System::get().routes.forwards && !target.vm().is_primary() && !current.vm().is_primary() {
        return forward(&current, target);
    }
    let (next, run_it) = deliver(&current, target, paravirt::DEVICE);
    if !core::ptr::eq(next, current.vcpu()) {
        return next;
    }
    if run_it {
        // The primary is told whom to run when it asks.
        current.vcpu().irqs.set_pending(paravirt::DEVICE_WAITS);
        notify::announce(&current);
    }
    run::look_again(current)
}

/// As [`interrupt`], where the primary is to have it first: it finds out whom to run, and runs it.
#[inline(never)]
fn forward(current: &Loaded, target: &'static Vcpu) -> Next {
    target.irqs.set_pending(paravirt::DEVICE);
    current.core().primary().irqs.set_pending(paravirt::DEVICE_WAITS);
    notify::announce(current);
    // On another core it leaves its VM in the same way.
    if let VcpuState::Running(core) = target.state()
        && core != current.core().index
    {
        run::kick(core);
    }
    run::leave(current, target.id(), Exit::Interrupt, VcpuState::Ready)
}

/// Makes `id` pending on `target`, and sees to it that somebody acts on it: the core that runs the target, or the
/// primary, which is told to run it. Returns who goes on, and whether the target should now be run.
fn deliver(current: &Loaded, target: &'static Vcpu, id: VirtIntId) -> (Next, bool) {
    let this = current.vcpu();
    let high = target.irqs.pend(id);
    if core::ptr::eq(target, this) {
        return (current.update_line(), false);
    }
    let state = target.state();
    let reads = state == VcpuState::WaitingForMessage && target.vm().attention.load(Ordering::SeqCst);
    if !high && !reads {
        return (this, false);
    }
    if target.vm().is_primary() {
        // Its vCPU n is on core n for ever, whatever that core runs at the moment.
        run::kick(target.index().0);
        return (this, false);
    }
    match state {
        VcpuState::Running(core) => {
            run::kick(core);
            (this, false)
        }
        VcpuState::Waiting | VcpuState::WaitingForMessage if !current.vm().is_primary() => {
            (run::leave(current, target.id(), Exit::Interrupt, VcpuState::Ready), true)
        }
        VcpuState::Waiting | VcpuState::WaitingForMessage => (this, true),
        // It takes the interrupt when it is run, which it waits for anyway; or when it has its response; or it is off.
        VcpuState::Ready | VcpuState::WaitingForResponse(_) | VcpuState::Off | VcpuState::Parked => {
            (this, false)
        }
    }
}
