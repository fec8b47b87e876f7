//! The run path: `FFA_RUN` from the primary to a vCPU, and every way back.
//!
//! A switch has two halves. The handler that decides on it (here) says which vCPU comes next and in what state the
//! current one is left; `vectors.S` then saves the registers that Rust preserves and calls [`switch`], which saves
//! the rest, publishes that state, and loads the next vCPU. No other core can take a vCPU before all of it is saved.

use crate::{
    arch, bcm2836, console, gic, lists,
    percore::Core,
    serror, service,
    statistics::Reason,
    stop_notice,
    system::System,
    vcpu::{Claimed, Loaded, NO_CORE, Vcpu, VcpuState},
    vm::Vm,
};
use core::sync::atomic::Ordering;
use hv_abi::{
    Regs,
    exit::Exit,
    ffa,
    ids::{VcpuId, VmId},
    paravirt,
};
use vtimer::{Remaining, TimerState};

/// The vCPU to go on with: the same one, or another.
pub(crate) type Next = &'static Vcpu;

/// `FFA_RUN` by the primary.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(crate) fn run(mut primary: Loaded) -> Next {
    let id = VcpuId::unpack(primary.regs().x[1]);
    if let Some(tell) = primary.core().take_tell() {
        primary.regs().set_results(&Exit::Interrupt.to_regs(tell.id()));
        return primary.vcpu();
    }
    match take_for_run(&primary, id) {
        Ok(vcpu) => vcpu,
        Err(exit) => {
            primary.regs().set_results(&exit.to_regs(id));
            primary.vcpu()
        }
    }
}

fn take_for_run(primary: &Loaded, id: VcpuId) -> Result<&'static Vcpu, Exit> {
    let invalid = Exit::Refused(ffa::Error::InvalidParameters);
    let system = System::get();
    if id.vm == VmId::PRIMARY {
        return Err(invalid);
    }
    let vm = system.vm(id.vm).ok_or(invalid)?;
    let vcpu = vm.vcpus.get(usize::from(id.index.0)).ok_or(invalid)?;
    // An interrupt that waits for the primary itself comes first.
    if primary.vcpu().irqs.line() || gic::is_possible() && gic::is_interrupted(primary.vcpu(), primary.core())
    {
        return Err(Exit::Interrupt);
    }
    let state = vcpu.state();
    match state {
        VcpuState::Running(_) => return Err(Exit::Refused(ffa::Error::Busy)),
        VcpuState::Off | VcpuState::WaitingForResponse(_) => {
            return Err(vm.stop_reason().unwrap_or(Exit::WaitForInterrupt { timeout_ns: None }));
        }
        // Without a reason to stop it is being started this moment.
        VcpuState::Parked => return Err(vm.stop_reason().unwrap_or(Exit::Refused(ffa::Error::Busy))),
        _ => {}
    }
    let mut claimed = vcpu.claim(state, primary.core()).ok_or(Exit::Refused(ffa::Error::Busy))?;
    // Looked at after the claim: whoever stops the VM after this sees the vCPU running, and sends this core a kick.
    if let Some(reason) = vm.stop_reason() {
        // Before it is given up: afterwards the VM may be torn down and started again, and somebody may wait for its next life.
        service::fail_requester(vcpu, primary.core());
        claimed.release(VcpuState::Off);
        return Err(reason);
    }
    if matches!(state, VcpuState::Waiting | VcpuState::WaitingForMessage)
        && let Err(timeout_ns) = wake(&mut claimed, state, system)
    {
        claimed.release(state);
        if is_woken(vcpu, state) {
            // Came in while the claim was held: whoever sent it saw a running vCPU.
            return Err(Exit::Interrupt);
        }
        return Err(wait_exit(state, timeout_ns));
    }
    primary.core().ran.set(vcpu);
    Ok(vcpu)
}

/// Whether a vCPU in a waiting state has been sent something since.
fn is_woken(vcpu: &Vcpu, state: VcpuState) -> bool {
    let attention = || state == VcpuState::WaitingForMessage && vcpu.vm().attention.load(Ordering::SeqCst);
    vcpu.irqs.line() || attention()
}

/// Whether the current vCPU would not wait if it were told to, or not for long.
pub(crate) fn has_reason_to_run(current: &Loaded) -> bool {
    let (ctl, cval) = arch::virtual_timer();
    let timer = remaining(current.vm(), ctl, cval) != Remaining::Never;
    timer || is_woken(current.vcpu(), VcpuState::WaitingForMessage)
}

fn wait_exit(state: VcpuState, timeout_ns: Option<u64>) -> Exit {
    if state == VcpuState::WaitingForMessage {
        Exit::MessageWait { timeout_ns }
    } else {
        Exit::WaitForInterrupt { timeout_ns }
    }
}

/// How long until the virtual timer of a VM with these registers fires.
fn remaining(vm: &Vm, ctl: u64, cval: u64) -> Remaining {
    TimerState { ctl, cval }.remaining(arch::counter(), vm.counter_offset.load(Ordering::Relaxed))
}

/// A wait of `ticks` in nanoseconds; at least 1, because 0 means for ever.
fn nanoseconds(system: &System, ticks: u64) -> u64 {
    system.frequency.ticks_to_ns(ticks).max(1)
}

/// Whether a vCPU that waits has a reason to run; if not, how long its timer still has, in nanoseconds.
fn wake(claimed: &mut Claimed, state: VcpuState, system: &System) -> Result<(), Option<u64>> {
    let vcpu = claimed.vcpu();
    let irqs = &vcpu.irqs;
    if irqs.line() {
        return Ok(());
    }
    if is_woken(vcpu, state) {
        claimed.regs().set_results(&Regs([u64::from(ffa::RUN), vcpu.id().pack(), 0, 0, 0, 0, 0, 0]));
        return Ok(());
    }
    let sys = claimed.sys();
    match remaining(vcpu.vm(), sys.cntv_ctl_el0, sys.cntv_cval_el0) {
        Remaining::Never => Err(None),
        // Its interrupt stays asserted until the VM does something about it, so it is not masked here.
        Remaining::Expired if bcm2836::of(vcpu).is_some() || gic::has(vcpu.vm()) => Ok(()),
        Remaining::Expired => {
            sys.cntv_ctl_el0 |= TimerState::IMASK;
            if irqs.pend(paravirt::TIMER) { Ok(()) } else { Err(None) }
        }
        Remaining::Ticks(ticks) => Err(Some(nanoseconds(system, ticks))),
    }
}

/// Leaves the current vCPU, a secondary's, for the primary, which sees `exit` about `about`.
#[inline(always)]
pub(crate) fn exit_about(current: &Loaded, about: VcpuId, exit: Exit, state: VcpuState) -> Next {
    current.vcpu().statistics.exit(Reason::of(&exit));
    let core = current.core();
    core.set_departing(state);
    let primary = core.primary();
    // SAFETY: the primary's vCPU of this core is owned by this core for ever, is not loaded now (a secondary is), and
    // its registers were saved when it called FFA_RUN.
    unsafe { Claimed::assume(primary) }.regs().set_results(&exit.to_regs(about));
    primary
}

/// As [`exit_about`], where it is not counted.
#[inline(never)]
pub(crate) fn leave(current: &Loaded, about: VcpuId, exit: Exit, state: VcpuState) -> Next {
    exit_about(current, about, exit, state)
}

/// Leaves the current vCPU for the primary, which sees `exit`.
#[inline(always)]
pub(crate) fn exit(current: &Loaded, reason: Exit, state: VcpuState) -> Next {
    exit_about(current, current.vcpu().id(), reason, state)
}

/// The current vCPU waits for an interrupt (WFI, `CPU_SUSPEND`) or for a message.
pub(crate) fn wait(current: &Loaded, state: VcpuState) -> Next {
    let vcpu = current.vcpu();
    if current.vm().is_primary() {
        // It waits in hardware, but for a console that has more to write.
        console::drain_on(current);
    }
    if current.vm().is_primary() || vcpu.irqs.line() {
        return current.update_line();
    }
    let (ctl, cval) = arch::virtual_timer();
    let timeout_ns = match remaining(current.vm(), ctl, cval) {
        // Its interrupt is on the way. To mask it here, and send it by hand, would be wrong where the timer's own status lags behind
        // the counter, as an emulator's may: the VM would not find it to have fired, and leave it masked.
        Remaining::Expired => return vcpu,
        Remaining::Ticks(ticks) => Some(nanoseconds(System::get(), ticks)),
        Remaining::Never => None,
    };
    leave(current, vcpu.id(), wait_exit(state, timeout_ns), state)
}

/// What an interrupt to this core may have changed: the VM was stopped, the primary has something to do, or the
/// current vCPU has an interrupt.
#[inline(always)]
pub(crate) fn after_interrupt(current: Loaded) -> Next {
    if !current.vm().is_primary() {
        if !current.vm().is_active() {
            return leave_for_good(current);
        }
        if !current.core().tell.get().is_null() {
            return leave_to_tell(current);
        }
        if current.core().primary().irqs.line() {
            return exit(&current, Exit::Interrupt, VcpuState::Ready);
        }
    }
    current.update_line()
}

/// As [`after_interrupt`], out of line: to be called last.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(crate) fn look_again(current: Loaded) -> Next {
    after_interrupt(current)
}

/// Leaves the current vCPU, because the primary is to be told of another one.
#[cold]
#[inline(never)]
#[expect(clippy::needless_pass_by_value, reason = "for a reference the caller would need a stack frame")]
fn leave_to_tell(current: Loaded) -> Next {
    let about = current.core().take_tell().unwrap_or(current.vcpu());
    leave(&current, about.id(), Exit::Interrupt, VcpuState::Ready)
}

/// Leaves the current vCPU, whose VM has been stopped.
#[cold]
#[inline(never)]
#[expect(clippy::needless_pass_by_value, reason = "for a reference the caller would need a stack frame")]
fn leave_for_good(current: Loaded) -> Next {
    leave_stopped(&current)
}

fn leave_stopped(current: &Loaded) -> Next {
    service::fail_requester(current.vcpu(), current.core());
    let reason = current.vm().stop_reason().unwrap_or(Exit::Off { reset: false });
    // Its own terminal may get a line.
    console::drain_on(current);
    leave(current, current.vcpu().id(), reason, VcpuState::Off)
}

/// Leaves the current vCPU, whose VM has been stopped; `first`: by this call, so that this core halts the other vCPUs.
#[cold]
pub(crate) fn stop(current: &Loaded, first: bool) -> Next {
    if first {
        halt(current.vm(), current.core());
    }
    leave_stopped(current)
}

/// Takes the consequences for the vCPUs of a VM that this core has stopped: those that run on other cores are sent a kick, and nobody
/// waits for the others any more. The VM cannot be torn down before that is done; who wants that asks for it ([`crate::teardown`]).
#[cold]
pub(crate) fn halt(vm: &Vm, core: &'static Core) {
    for vcpu in &vm.vcpus {
        match vcpu.state() {
            VcpuState::Running(other) if other != core.index => kick(other),
            // The others are not run any more; the one on this core is about to leave.
            _ => service::fail_requester(vcpu, core),
        }
    }
    stop_notice::stopped(vm);
    vm.halted();
}

/// Makes a core look at its interrupts.
pub(crate) fn kick(core: u16) {
    if let Some(core) = System::get().cores.get(usize::from(core)) {
        crate::board::kick(core.mpidr);
    }
}

/// There may be something new for a vCPU whose VM has an interrupt controller of the machine's kind: it looks when it runs. If it waits, the
/// primary is told.
pub(crate) fn have_look(target: &'static Vcpu, core: &'static Core) {
    target.irqs.set_pending(gic::LOOK);
    match target.state() {
        VcpuState::Running(other) if other != core.index => kick(other),
        VcpuState::Waiting | VcpuState::WaitingForMessage => {
            // The primary is told whom to run when it asks; this core goes there at once.
            target.irqs.set_pending(paravirt::DEVICE);
            target.reported.store(false, Ordering::Relaxed);
            let primary = core.primary();
            primary.irqs.set_pending(paravirt::DEVICE_WAITS);
            primary.irqs.set_pending(paravirt::SCHEDULE_RECEIVER);
            kick(core.index);
        }
        _ => {}
    }
}

/// Second half of a switch: saves `from` (none: the core has just been powered up), publishes its state, loads `to`; returns the vCPU to enter.
pub(crate) fn switch(from: Option<&'static Vcpu>, to: &'static Vcpu) -> &'static Vcpu {
    let core = if let Some(from) = from {
        // SAFETY: `from` is the vCPU that this core has loaded; the assembly has saved its general registers.
        let core = unsafe { Loaded::assume(from) }.core();
        save(from, core, to);
        core
    } else {
        // SAFETY: boot, or `CPU_ON`, claimed the vCPU for this core.
        let core = unsafe { Loaded::assume(to) }.core();
        core.contents.reset();
        core
    };
    load(to, core);
    to
}

fn save(from: &'static Vcpu, core: &'static Core, to: &'static Vcpu) {
    // SAFETY: this core owns `from`, whose general registers are saved; from here on the rest is too.
    let mut claimed = unsafe { Claimed::assume(from) };
    let vm = from.vm();
    claimed.sys().save();
    claimed.regs().pc = arch::pc();
    claimed.regs().spsr = arch::spsr();
    if gic::is_possible()
        && let Some(gic) = &vm.gic
    {
        gic::unload(gic, from, core, claimed.gic());
        if vm.is_primary() {
            let sys = claimed.sys();
            gic::watch_timer(sys.cntv_ctl_el0, sys.cntv_cval_el0);
        }
    }
    if lists::has(vm) {
        lists::unload(from, claimed.lists());
    }
    if !vm.departure.is_plain() {
        if vm.departure.has_devices() {
            serror::synchronise(from, core, claimed.regs().pc);
        }
        if vm.departure.stays() {
            return;
        }
    }
    if core.contents.fp_in_use.get() {
        arch::trap_fp(false);
        arch::isb();
        arch::fp::save(claimed.fp());
    }
    if from.hcr.get() & arch::KEYS != 0 {
        arch::keys::save(claimed.keys());
        from.hcr.set(from.hcr.get() & !arch::KEYS);
    }
    from.statistics.leave(arch::counter_now());
    if let Some(controllers) = bcm2836::of(from) {
        controllers.unload(from, core);
    }
    let state = core.departing();
    claimed.release_packed(state);
    // Pairs with the sender of an interrupt, which makes it pending and then looks at the state: one of us sees it.
    if state.is_idle() && is_woken(from, state.state()) {
        // SAFETY: `to` is owned by this core, and not loaded.
        let mut to = unsafe { Claimed::assume(to) };
        if !to.vcpu().vm().is_primary() {
            core.tell.set(from);
            kick(core.index);
        } else if matches!(to.regs().x[0] as u32, ffa::MSG_WAIT | paravirt::RUN_WAIT_FOR_INTERRUPT) {
            // Otherwise it gets a direct response, after which it runs the vCPU again anyway.
            to.regs().set_results(&Exit::Interrupt.to_regs(from.id()));
        }
    }
}

fn load(to: &'static Vcpu, core: &'static Core) {
    let vm = to.vm();
    // SAFETY: this core has claimed `to`, and it is not loaded.
    let mut claimed = unsafe { Claimed::assume(to) };
    arch::load_vm(vm.vttbr, to.vmpidr(), vm.counter_offset.load(Ordering::Relaxed));
    if core.another_ran_last(vm.id, to.index().0) {
        arch::flush_vm_on_this_core();
    }
    claimed.sys().load();
    if !vm.is_primary() {
        to.statistics.enter(arch::counter_now());
    }
    let regs = claimed.regs();
    arch::set_return(regs.pc, regs.spsr);
    let fp = fp_is_here(to, core);
    core.contents.fp_in_use.set(fp);
    arch::trap_fp(!fp);
    arch::set_current(core::ptr::from_ref(to) as usize);
    let mut line = to.irqs.line();
    if gic::is_possible()
        && let Some(gic) = &vm.gic
    {
        gic::load(gic, to, core, claimed.gic());
        line = false;
        if vm.is_primary() {
            arch::watch_timer(0, 0);
        }
    }
    if lists::has(vm) {
        lists::load(to, claimed.lists());
        line = false;
    }
    if let Some(controllers) = bcm2836::of(to) {
        // The timer's status is that of the values that have just been loaded.
        arch::isb();
        line = controllers.update(to, core);
    }
    if to.hcr.get() & arch::VSE != 0 {
        serror::load_virtual(to);
    }
    arch::load_traps(vm.traps.cnthctl, to.hcr.get(), line);
}

fn fp_is_here(vcpu: &Vcpu, core: &Core) -> bool {
    core::ptr::eq(core.contents.fp_owner.get(), vcpu)
        && vcpu.fp_core.load(Ordering::Relaxed) == u32::from(core.index)
}

/// First use of FP/SIMD since the vCPU was loaded: its values replace those that are in the registers.
pub(crate) fn give_fp(current: &Loaded) {
    let (core, vcpu) = (current.core(), current.vcpu());
    arch::trap_fp(false);
    arch::isb();
    let owner = core.contents.fp_owner.get();
    let primary = core.primary();
    if core::ptr::eq(owner, primary) && primary.fp_core.load(Ordering::Relaxed) == u32::from(core.index) {
        // Secondaries save theirs when they leave; the primary's are still only in the registers.
        // SAFETY: this core owns its primary vCPU; `current` is another one, or the primary is not the owner.
        arch::fp::save(unsafe { Claimed::assume(primary) }.fp());
        primary.fp_core.store(NO_CORE, Ordering::Relaxed);
    }
    // SAFETY: the vCPU is loaded on this core, and its FP/SIMD values, which trap handlers do not touch otherwise, are
    // in memory.
    arch::fp::load(unsafe { Claimed::assume(vcpu) }.fp());
    core.contents.fp_owner.set(vcpu);
    vcpu.fp_core.store(u32::from(core.index), Ordering::Relaxed);
    core.contents.fp_in_use.set(true);
}

/// First use of pointer authentication since the vCPU was loaded: its keys replace those that are in the registers.
#[cold]
pub(crate) fn give_keys(current: &Loaded) {
    let (primary, vcpu) = (current.core().primary(), current.vcpu());
    if !core::ptr::eq(primary, vcpu) && primary.hcr.get() & arch::KEYS != 0 {
        // A secondary saves its keys when it leaves; the primary's are still only in the registers.
        // SAFETY: this core owns its primary vCPU, which is not loaded, because the current one is another.
        arch::keys::save(unsafe { Claimed::assume(primary) }.keys());
        primary.hcr.set(primary.hcr.get() & !arch::KEYS);
    }
    // SAFETY: the vCPU is loaded on this core, and its keys, which nothing else touches, are in memory.
    arch::keys::load(unsafe { Claimed::assume(vcpu) }.keys());
    vcpu.hcr.set(vcpu.hcr.get() | arch::KEYS);
    current.update_line();
}
