//! PSCI 1.1 (DEN0022): forwarded for the primary, whose vCPUs are the cores; emulated for the others.

use super::access;
use crate::{
    arch, console, firmware, gic, measured,
    percore::Core,
    report,
    run::{self, Next},
    system::System,
    vcpu::{Loaded, VcpuState},
    vm::Vm,
};
use core::sync::atomic::Ordering;
use hv_abi::{exit::Exit, ids::Ipa, psci, psci::Status, smccc};
use vm_lifecycle::StopReason;

fn done(mut current: Loaded, x0: u64) -> Next {
    current.regs().x[0] = x0;
    current.vcpu()
}

fn status(current: Loaded, status: Status) -> Next {
    done(current, status.bits())
}

/// An argument of a call in 32- or 64-bit form.
fn argument(current: &mut Loaded, n: usize) -> u64 {
    let x = &current.regs().x;
    if x[0] as u32 & smccc::CONVENTION_64 == 0 { x[n] & 0xffff_ffff } else { x[n] }
}

pub(super) fn version(current: Loaded) -> Next {
    done(current, psci::VERSION_1_1)
}

pub(super) fn migrate_info_type(current: Loaded) -> Next {
    done(current, psci::MIGRATE_NOT_REQUIRED)
}

pub(super) fn features(mut current: Loaded) -> Next {
    let function = current.regs().x[1] as u32;
    let ours =
        psci::FUNCTION_RANGE.contains(&(function & !smccc::CONVENTION_64)) || function == smccc::VERSION;
    let known = ours && access::may_call(function, current.vm().kind);
    let primary = current.vm().is_primary();
    let answer = match function {
        psci::CPU_SUSPEND | psci::CPU_SUSPEND_64 if primary => {
            // The states that the machine's tree lists have firmware's format.
            let format = firmware::call(psci::FEATURES, [function.into(), 0, 0]);
            if format & 1 << 31 != 0 { 0 } else { format & psci::EXTENDED_POWER_STATE }
        }
        psci::CPU_SUSPEND | psci::CPU_SUSPEND_64 => psci::EXTENDED_POWER_STATE,
        // It is the machine's, and optional.
        psci::SYSTEM_RESET2 | psci::SYSTEM_RESET2_64 if primary => {
            firmware::call(psci::FEATURES, [function.into(), 0, 0])
        }
        _ if known => Status::Success.bits(),
        _ => Status::NotSupported.bits(),
    };
    done(current, answer)
}

/// Whether a vCPU of `vm` can start at `entry`: an instruction of its own memory.
fn is_entry(vm: &Vm, entry: u64) -> bool {
    entry.is_multiple_of(4) && vm.stage2.lock().walk(Ipa(entry)).is_some_and(|mapping| mapping.access.execute)
}

/// `CPU_SUSPEND`: a wait for an interrupt that keeps all state, also where less was asked for (DEN0022, 5.4.5).
pub(super) fn cpu_suspend(mut current: Loaded) -> Next {
    let [state, entry] = [1, 2].map(|n| argument(&mut current, n));
    if current.vm().is_primary() {
        // The format of its states is firmware's, and none is entered.
    } else if state & psci::POWER_STATE_RESERVED != 0 {
        return status(current, Status::InvalidParameters);
    } else if state & psci::POWER_STATE_DOWN != 0 && !is_entry(current.vm(), entry) {
        return status(current, Status::InvalidAddress);
    }
    current.regs().x[0] = Status::Success.bits();
    run::wait(&current, VcpuState::Waiting)
}

/// `CPU_ON` by a secondary: the vCPU becomes ready, and the primary is told to run it.
pub(super) fn cpu_on(mut current: Loaded) -> Next {
    let [mpidr, entry, context] = [1, 2, 3].map(|n| argument(&mut current, n));
    let vm = current.vm();
    let Some(target) = vm.vcpu_by_affinity(mpidr) else {
        return status(current, Status::InvalidParameters);
    };
    if !is_entry(vm, entry) {
        return status(current, Status::InvalidAddress);
    }
    let Some(mut claimed) = target.claim(VcpuState::Off, current.core()) else {
        return status(current, if target.is_starting() { Status::OnPending } else { Status::AlreadyOn });
    };
    if !vm.is_active() {
        // Looked at after the claim: teardown waits for this core to give the vCPU up.
        claimed.release(VcpuState::Off);
        return status(current, Status::Denied);
    }
    claimed.reset(entry, context);
    gic::set_on(target, current.core(), true);
    target.note_start();
    vm.vcpus_on.fetch_add(1, Ordering::SeqCst);
    claimed.release(VcpuState::Ready);
    current.regs().x[0] = Status::Success.bits();
    run::leave(&current, target.id(), Exit::Interrupt, VcpuState::Ready)
}

/// `CPU_OFF` by a secondary. The VM is off when its last vCPU is.
pub(super) fn cpu_off(current: Loaded) -> Next {
    let vm = current.vm();
    super::fail_requester(current.vcpu(), current.core());
    if vm.vcpus_on.fetch_sub(1, Ordering::SeqCst) == 1 {
        let first = vm.switch_off(StopReason::Off);
        return run::stop(&current, first);
    }
    gic::set_on(current.vcpu(), current.core(), false);
    run::leave(&current, current.vcpu().id(), Exit::WaitForInterrupt { timeout_ns: None }, VcpuState::Off)
}

pub(super) fn affinity_info(mut current: Loaded) -> Next {
    let [mpidr, level] = [1, 2].map(|n| argument(&mut current, n));
    let Some(target) = current.vm().vcpu_by_affinity(mpidr).filter(|_| level == 0) else {
        return status(current, Status::InvalidParameters);
    };
    let state = match target.state() {
        VcpuState::Off => psci::AFFINITY_OFF,
        _ if target.is_starting() => psci::AFFINITY_ON_PENDING,
        _ => psci::AFFINITY_ON,
    };
    done(current, state)
}

pub(super) fn system_off(mut current: Loaded) -> Next {
    off(&mut current, StopReason::Off)
}

pub(super) fn system_reset(mut current: Loaded) -> Next {
    off(&mut current, StopReason::Reset)
}

/// `SYSTEM_RESET2` of a VM: as `SYSTEM_RESET`.
pub(super) fn system_reset2(mut current: Loaded) -> Next {
    if current.regs().x[1] as u32 == psci::SYSTEM_WARM_RESET {
        off(&mut current, StopReason::Reset)
    } else {
        status(current, Status::InvalidParameters)
    }
}

fn off(current: &mut Loaded, reason: StopReason) -> Next {
    if !current.line().is_empty() {
        console::flush(current);
    }
    let first = current.vm().switch_off(reason);
    run::stop(current, first)
}

/// `CPU_ON` by the primary: starts the physical core, which enters the primary's vCPU at `entry`.
pub(super) fn primary_cpu_on(mut current: Loaded) -> Next {
    let [mpidr, entry, context] = [1, 2, 3].map(|n| argument(&mut current, n));
    let system = System::get();
    let found = system.cores.iter().find(|c| c.mpidr == mpidr);
    let Some(core) = found else { return status(current, Status::InvalidParameters) };
    if !is_entry(current.vm(), entry) {
        return status(current, Status::InvalidAddress);
    }
    let Some(mut claimed) = core.primary().claim(VcpuState::Off, core) else {
        return status(current, Status::AlreadyOn);
    };
    claimed.reset(entry, context);
    core.start.core.store(core::ptr::from_ref(core).cast_mut(), Ordering::Release);
    let start = core::ptr::from_ref(&core.start);
    // The core reads this with its caches off.
    arch::clean_to_memory(start as usize, size_of_val(&core.start));
    let entry = arch::secondary_entry(crate::el2_map::image());
    let start = crate::el2_map::physical(start as u64).0;
    let result = firmware::call(psci::CPU_ON_64, [mpidr, entry, start]);
    if result != Status::Success.bits() {
        claimed.release(VcpuState::Off);
    }
    done(current, result)
}

/// `CPU_OFF` by the primary: the core goes off. If firmware refuses, so does the call.
pub(super) fn primary_cpu_off(mut current: Loaded) -> Next {
    let vcpu = current.vcpu();
    let core = current.core();
    let is_on = |other: &&Core| other.index != core.index && other.primary().state() != VcpuState::Off;
    if let Some(other) = System::get().cores.iter().find(is_on) {
        System::get().routes.reroute(core, other);
    }
    // Its interface goes off with the core: what is in it comes back to its GIC, of which only that is left.
    gic::save_before_cpu_off(&mut current);
    // SAFETY: the vCPU is this core's, and nothing of it is needed any more: CPU_ON starts it afresh.
    unsafe { crate::vcpu::Claimed::assume(vcpu) }.release(VcpuState::Off);
    if firmware::call(psci::CPU_OFF, [0; 3]) == Status::Success.bits() {
        // Only a board's own returns, when the core is switched on again: whoever did that has claimed the vCPU.
        #[cfg(target_os = "none")]
        crate::boot::core_started(current.core());
    }
    let _ = vcpu.claim(VcpuState::Off, current.core());
    gic::load_after_cpu_on(&mut current);
    status(current, Status::Denied)
}

/// `AFFINITY_INFO` and `SYSTEM_RESET2` by the primary: they are about cores and the machine.
pub(super) fn forward(mut current: Loaded) -> Next {
    let [a, b] = [1, 2].map(|n| argument(&mut current, n));
    let function = current.regs().x[0] as u32;
    if function & !hv_abi::smccc::CONVENTION_64 == psci::SYSTEM_RESET2 {
        console::finish();
    }
    done(current, firmware::call(function, [a, b, 0]))
}

pub(super) fn primary_system_off(_: Loaded) -> Next {
    measured::report();
    report::power_off()
}

pub(super) fn primary_system_reset(_: Loaded) -> Next {
    console::finish();
    firmware::call(psci::SYSTEM_RESET, [0; 3]);
    report::power_off()
}
