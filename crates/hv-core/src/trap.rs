//! What a VM does that traps, other than a hypercall.

use crate::{
    arch, idregs,
    run::{self, Next},
    service,
    syndrome::Syndrome,
    vcpu::{Loaded, VcpuState},
};
use hv_abi::{exit::Fault, ids::Ipa};

// Exception classes (Arm ARM, ESR_ELx).
const EC_WF: u64 = 0x01;
const EC_FP: u64 = 0x07;
const EC_SMC64: u64 = 0x17;
const EC_SYSREG: u64 = 0x18;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;

/// ISS.IL: the trapped instruction is 32 bits long.
const IL: u64 = 1 << 25;

/// ISS.WnR and ISS.S1PTW of aborts.
const WRITE: u64 = 1 << 6;
const WALK: u64 = 1 << 7;
/// Fault status codes, without their level.
const TRANSLATION_FAULT: u64 = 0b00_0100;
const PERMISSION_FAULT: u64 = 0b00_1100;

/// A trap of `current` with syndrome `esr`. All its general registers are in memory.
pub(crate) fn handle(current: Loaded, esr: u64) -> Next {
    match esr >> 26 & 0x3f {
        EC_WF => {
            arch::advance_pc();
            run::wait(&current, VcpuState::Waiting)
        }
        EC_FP => {
            run::give_fp(&current);
            current.vcpu()
        }
        // FF-A calls may be made by SMC as well as by HVC; ELR points to a trapped SMC, not behind it.
        EC_SMC64 => {
            arch::advance_pc();
            service::call(current)
        }
        EC_SYSREG => system_register(current, esr),
        EC_INSTRUCTION_ABORT | EC_DATA_ABORT => abort(&current, esr),
        _ => forbidden(&current, esr),
    }
}

/// An access to a system register. Identification registers show what the VM may use; everything else is forbidden.
fn system_register(mut current: Loaded, esr: u64) -> Next {
    let (op0, op2, op1) = (esr >> 20 & 3, esr >> 17 & 7, esr >> 14 & 7);
    let (crn, rt, crm, read) = (esr >> 10 & 0xf, esr >> 5 & 0x1f, esr >> 1 & 0xf, esr & 1 != 0);
    let is_id = op0 == 3 && op1 == 0 && crn == 0 && (1..=7).contains(&crm);
    if !is_id || !read {
        return forbidden(&current, esr);
    }
    let (crm, op2) = (crm as u8, op2 as u8);
    let value = idregs::visible(crm, op2, arch::id_register(crm, op2));
    if let Some(register) = current.regs().x.get_mut(rt as usize) {
        *register = value;
    }
    arch::advance_pc();
    current.vcpu()
}

/// Whether a stage-2 translation fault has no reason any more: the page was being moved between table levels, by another core, when
/// the VM used it. Then it just tries again.
#[cold]
fn is_over(current: &Loaded, esr: u64) -> bool {
    if esr & 0b11_1100 != TRANSLATION_FAULT {
        return false;
    }
    let mapping = current.vm().stage2.lock().walk(Ipa(arch::fault_ipa()));
    let instruction = esr >> 26 & 0x3f == EC_INSTRUCTION_ABORT;
    let write = !instruction && esr & WRITE != 0;
    mapping.is_some_and(|m| m.access.read && (m.access.write || !write) && (m.access.execute || !instruction))
}

/// A stage-2 fault. The primary gets it as an external abort and can say what it did; others are stopped.
fn abort(current: &Loaded, esr: u64) -> Next {
    if is_over(current, esr) {
        return current.vcpu();
    }
    if current.vm().is_primary() {
        let far = arch::fault_address();
        let from_el0 = arch::spsr() & 0xf == 0;
        // Synchronous external abort, not on a walk (ESR_EL1: EC, IL, and the fault status 0b010000).
        let class = (esr >> 26 & 0x3f) + u64::from(!from_el0);
        arch::inject_sync(class << 26 | IL | (esr & 1 << 6) | 0x10, far);
        return current.vcpu();
    }
    let fault = fault(esr, true);
    stop(current, fault)
}

/// An instruction that the VM may not execute. The primary gets an undefined-instruction exception; others are
/// stopped.
fn forbidden(current: &Loaded, esr: u64) -> Next {
    if current.vm().is_primary() {
        arch::inject_sync(IL, 0);
        return current.vcpu();
    }
    stop(current, fault(esr, false))
}

/// A physical SError while the VM ran: an error of the machine, or of what the VM may touch. The VM is stopped.
pub(crate) fn serror(current: &Loaded, esr: u64) -> Next {
    if current.vm().is_primary() {
        crate::report::fatal(format_args!("SError in the primary VM, syndrome {esr:#x}"));
    }
    stop(current, fault(esr, false))
}

fn fault(esr: u64, memory: bool) -> Fault {
    let (address, ipa) = match (memory, esr & 0b11_1100, esr & WALK != 0) {
        (false, ..) => (0, 0),
        (_, PERMISSION_FAULT, false) => {
            let address = arch::fault_address();
            (address, arch::translate_stage1(address))
        }
        _ => (arch::fault_address(), arch::fault_ipa()),
    };
    Fault { syndrome: esr, address, ipa, pc: arch::pc() }
}

#[cold]
fn stop(current: &Loaded, fault: Fault) -> Next {
    let (vm, vcpu) = (current.vm(), current.vcpu());
    crate::console::info!(
        "{} (vm{}) vcpu {} stopped at {:#x}: {}, address {:#x}, ipa {:#x}",
        vm.name,
        vm.id.0,
        vcpu.index().0,
        fault.pc,
        Syndrome(fault.syndrome),
        fault.address,
        fault.ipa,
    );
    vm.abort(vcpu.index(), fault);
    run::stop(current)
}
