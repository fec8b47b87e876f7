//! What a VM does that traps, other than a hypercall.

use crate::{
    arch, bcm2836, gic,
    run::{self, Next},
    serror, service,
    syndrome::{Syndrome, SystemAccess},
    vcpu::{Loaded, VcpuState},
};
use hv_abi::{
    exit::Fault,
    features,
    ids::Ipa,
    registers::{self, Group, Seen},
};
use plain_numbers::{Dec, Hex};

// Exception classes (Arm ARM, ESR_ELx).
const EC_WF: u64 = 0x01;
const EC_FP: u64 = 0x07;
const EC_KEYS: u64 = 0x09;
const EC_SMC64: u64 = 0x17;
const EC_SYSREG: u64 = 0x18;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;

/// Classes of instructions and registers that are not there for any VM: unknown reason; AArch32 coprocessor accesses (03
/// to 06, 08, 0c); extensions switched off (0a); 128-bit system registers (14); SVE (19); transactions (1b); SME (1d);
/// guarded control stacks (2d).
const UNDEFINED: u64 = 1 << 0x00
    | 0b1111 << 0x03
    | 1 << 0x08
    | 1 << 0x0a
    | 1 << 0x0c
    | 1 << 0x14
    | 1 << 0x19
    | 1 << 0x1b
    | 1 << 0x1d
    | 1 << 0x2d;

/// ESR.IL: the trapped instruction is 32 bits long.
const IL: u64 = 1 << 25;

/// ISS.WnR and ISS.S1PTW of aborts.
const WRITE: u64 = 1 << 6;
const WALK: u64 = 1 << 7;
/// ISS.FnV of an external abort: FAR does not hold its address.
const FNV: u64 = 1 << 10;
/// Fault status code of a synchronous external abort that is not on a translation table walk.
const EXTERNAL_ABORT: u64 = 0b01_0000;
/// Fault status codes, without their level.
const TRANSLATION_FAULT: u64 = 0b00_0100;
const PERMISSION_FAULT: u64 = 0b00_1100;

/// A trap of `current` with syndrome `esr`. All its general registers are in memory.
///
/// What is counted is called last, so that this needs no stack frame, and each of them has its own.
pub(crate) fn handle(current: Loaded, esr: u64) -> Next {
    if gic::is_possible()
        && gic::is_sgi(esr)
        && let Some(gic) = &current.vm().gic
    {
        return gic::send_sgi(current, esr, gic);
    }
    match esr >> 26 & 0x3f {
        EC_INSTRUCTION_ABORT | EC_DATA_ABORT => abort(current, esr),
        _ => other(current, esr),
    }
}

/// As [`handle`], what is neither an abort nor an SGI of a VM with a GIC.
#[inline(never)]
fn other(current: Loaded, esr: u64) -> Next {
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
            service::call_by_smc(current)
        }
        EC_SYSREG => system_register(current, esr),
        EC_KEYS => authenticate(&current, esr),
        ec if UNDEFINED >> ec & 1 != 0 => undefined(&current, esr),
        _ => unexpected(&current, esr),
    }
}

/// An access to a system register: what it sees is in `hv_abi::registers`.
fn system_register(mut current: Loaded, esr: u64) -> Next {
    let access = Syndrome(esr).system_access();
    if gic::is_possible()
        && gic::system_register(&mut current, access.encoding(), access.is_read, access.rt.0)
    {
        return run::look_again(current);
    }
    let value = match seen(&current, access) {
        Seen::Own if is_key(access) => return authenticate(&current, esr),
        Seen::Zero | Seen::Ignored => 0,
        Seen::Value if access.crn == 0 && access.op1 == 0 && access.crm > 0 => {
            features::visible(access.crm, access.op2, arch::id_register(access.crm, access.op2))
        }
        Seen::Value => arch::revision(access.op1 == 0),
        Seen::Undefined | Seen::Constant | Seen::Own => return undefined(&current, esr),
    };
    if access.is_read
        && let Some(register) = current.regs().x.get_mut(usize::from(access.rt.0))
    {
        *register = value;
    }
    arch::advance_pc();
    current.vcpu()
}

/// What a VM sees of a register.
fn seen(current: &Loaded, access: SystemAccess) -> Seen {
    match registers::rule(access.encoding()) {
        Some(rule) if rule.allows(access.is_read) => {
            if current.vm().is_primary() {
                rule.group.primary()
            } else {
                rule.group.secondary()
            }
        }
        _ => Seen::Undefined,
    }
}

/// APIAKeyLo_EL1 to APGAKeyHi_EL1.
fn is_key(access: SystemAccess) -> bool {
    registers::rule(access.encoding()).is_some_and(|rule| rule.group == Group::Keys)
}

/// The first use of pointer authentication after a switch: the instruction is executed again, with the VM's keys.
fn authenticate(current: &Loaded, esr: u64) -> Next {
    if !arch::has_keys() {
        return undefined(current, esr);
    }
    run::give_keys(current);
    current.vcpu()
}

/// An instruction that is not there for the VM: an undefined-instruction exception in it, and it goes on at its vector.
#[cold]
fn undefined(current: &Loaded, esr: u64) -> Next {
    arch::inject_sync(esr & IL);
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

/// A stage-2 fault, or an external abort of the machine itself. A VM that takes itself for a machine gets a synchronous external
/// abort, as from a bus without a device at the address, and goes on; others are stopped.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
fn abort(mut current: Loaded, esr: u64) -> Next {
    if gic::is_possible() && gic::access(&mut current, esr) {
        return run::look_again(current);
    }
    if bcm2836::access(&mut current, esr) {
        return run::look_again(current);
    }
    real_abort(current, esr)
}

/// As [`abort`], where the VM has no emulated device.
#[cold]
#[inline(never)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "for a reference the caller would need a place on its stack"
)]
fn real_abort(current: Loaded, esr: u64) -> Next {
    if is_over(&current, esr) {
        return current.vcpu();
    }
    if current.vm().is_machine_like() {
        inject_external_abort(&current, esr);
        return current.vcpu();
    }
    // An external abort has no intermediate address: HPFAR_EL2 would be that of some earlier fault, perhaps another VM's.
    let external = (0x10..0x20).contains(&(esr & 0x3f));
    stop(&current, fault(esr, !external))
}

/// Injects a synchronous external abort in place of the abort with syndrome `esr`, and counts it.
#[cold]
fn inject_external_abort(current: &Loaded, esr: u64) {
    let vcpu = current.vcpu();
    vcpu.statistics.external_abort();
    arch::set_el1_fault_address(arch::fault_address());
    arch::inject_sync(external_abort(esr, arch::spsr()));
}

/// The syndrome that EL1 reads in `ESR_EL1` of an external abort (Arm ARM, ISS encodings for instruction and data aborts), from that of
/// the abort at EL2 and the state that it was taken from. Whether a walk failed, and at which level, stage 2 does not tell: the fault
/// status is that of the access itself.
const fn external_abort(esr: u64, spsr: u64) -> u64 {
    // The modes of EL0 are 0b0000 in AArch64, 0b0000 in AArch32.
    let from_el0 = spsr & 0xf == 0;
    let class = (esr >> 26 & 0x3f) + !from_el0 as u64;
    class << 26 | IL | esr & (FNV | WRITE) | EXTERNAL_ABORT
}

/// An exception that has no business here: no VM can cause it by what it was given. The primary gets an
/// undefined-instruction exception; others are stopped.
fn unexpected(current: &Loaded, esr: u64) -> Next {
    if current.vm().is_primary() { undefined(current, esr) } else { stop(current, fault(esr, false)) }
}

/// A physical SError while the VM ran: an error of the machine, or of what the VM may touch.
#[cold]
pub(crate) fn serror(current: &Loaded, esr: u64) -> Next {
    let vcpu = current.vcpu();
    if vcpu.hcr.get() & arch::VSE != 0 {
        serror::update_virtual(vcpu);
    }
    if serror::attribute(vcpu, esr, arch::pc()) {
        return run::stop(current, true);
    }
    if vcpu.hcr.get() & arch::VSE != 0 {
        serror::load_virtual(vcpu);
        arch::raise_virtual_serror();
    }
    vcpu
}

/// What the primary learns of a fault. `HPFAR_EL2` is valid for translation faults and for faults of stage-1 walks (Arm ARM,
/// `HPFAR_EL2`); after a permission fault the intermediate address is not known and reads 0. The hypervisor does not ask by `AT S12E1R`
/// or `AT S1E1R`: without such an instruction at EL2, no core can execute one speculatively while the registers of two VMs are
/// being switched (docs/security.md, errata of address translation instructions).
fn fault(esr: u64, memory: bool) -> Fault {
    if !memory {
        return Fault { syndrome: esr, address: 0, ipa: 0, pc: arch::pc() };
    }
    let is_known = esr & 0b11_1100 != PERMISSION_FAULT || esr & WALK != 0;
    let ipa = if is_known { arch::fault_ipa() } else { 0 };
    Fault { syndrome: esr, address: arch::fault_address(), ipa, pc: arch::pc() }
}

#[cold]
fn stop(current: &Loaded, fault: Fault) -> Next {
    let (vm, vcpu) = (current.vm(), current.vcpu());
    crate::console::info!(
        "{} ({}) vcpu {} stopped at {}: syndrome {}, address {}, ipa {}",
        crate::console::Text(vm.name),
        vm.id,
        Dec(vcpu.index().0.into()),
        Hex(fault.pc),
        Hex(fault.syndrome),
        Hex(fault.address),
        Hex(fault.ipa),
    );
    let first = vm.abort(vcpu.index(), fault);
    run::stop(current, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_aborts_have_the_class_of_the_level_that_they_come_from() {
        let (fetch, data) = (EC_INSTRUCTION_ABORT << 26 | IL, EC_DATA_ABORT << 26);
        let class = |esr, spsr| external_abort(esr, spsr) >> 26;
        // EL1h, EL1t, EL0, EL0 in AArch32.
        assert_eq!([0x3c5, 0x3c4, 0x3c0, 0x1d0].map(|spsr| class(fetch, spsr)), [0x21, 0x21, 0x20, 0x20]);
        assert_eq!([0x3c5, 0x3c4, 0x3c0, 0x1d0].map(|spsr| class(data, spsr)), [0x25, 0x25, 0x24, 0x24]);
    }

    #[test]
    fn external_aborts_do_not_describe_the_access() {
        // A store of four bytes of w7 (ISV, SAS, SRT, SF, AR) that fails at level 2 of stage 2, on a walk.
        let iss = 1 << 24
            | 0b10 << 22
            | 1 << 21
            | 7 << 16
            | 1 << 15
            | 1 << 14
            | WALK
            | WRITE
            | TRANSLATION_FAULT
            | 2;
        assert_eq!(external_abort(EC_DATA_ABORT << 26 | IL | iss, 0), 0x24 << 26 | IL | WRITE | 0x10);
        // An external abort of the machine's, whose address is not known.
        assert_eq!(external_abort(EC_DATA_ABORT << 26 | IL | FNV | 0x10, 0), 0x24 << 26 | IL | FNV | 0x10);
    }
}
