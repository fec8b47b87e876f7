//! Accesses of a VM to its GIC that trap: registers in memory, and system registers.

use super::{Gic, acts, interface, look};
use crate::{
    board::{self, VirtualCpu, VirtualInterface},
    run::{self, Next},
    syndrome::Syndrome,
    vcpu::Loaded,
};
use drivers_gic::{
    vgic::{Frame, Version, Vgic},
    virtual_cpu::{self, Group1},
};
use hv_abi::ids::Ipa;

/// `ICC_DIR_EL1`.
const DIR: u16 = hv_abi::registers::encoding(3, 0, 12, 11, 1);
/// `ICC_SRE_EL1`.
const SRE: u16 = hv_abi::registers::encoding(3, 0, 12, 12, 5);
/// Its bits SRE, DFB and DIB.
const SYSTEM_REGISTERS_ONLY: u64 = 0b111;

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

/// What ESR says of a trapped write of `ICC_SGI1R_EL1`, without its `Rt` (Arm ARM, ESR_ELx, ISS of EC 0x18).
const SGI: u64 = 0x18 << 26 | 0b11 << 20 | 5 << 17 | 12 << 10 | 11 << 1;
const RT: u64 = 0x1f << 5;

/// Whether ESR says that a VM has written `ICC_SGI1R_EL1`. `IL` (bit 25) does not matter.
#[inline(always)]
pub(crate) fn is_sgi(esr: u64) -> bool {
    esr & (0x3f << 26 | 0x3f_ffff) & !RT == SGI
}

/// A trapped write of `ICC_SGI1R_EL1`.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(crate) fn send_sgi(mut current: Loaded, esr: u64, gic: &Gic) -> Next {
    let vcpu = current.vcpu();
    let number = (esr & RT) as usize >> RT.trailing_zeros();
    let value = current.regs().x.get(number).copied().unwrap_or_default();
    let (index, mut acts) = (vcpu.index().0, acts(vcpu, current.core()));
    let mut state = gic.state.lock();
    state.send_sgi(index, value, &mut acts);
    if state.has_ready(index)
        && let Some(interface) = interface()
    {
        look(&mut state, interface, &mut acts);
    }
    drop(state);
    crate::arch::advance_pc();
    run::look_again(current)
}

/// A trapped access to a system register: if it is one of the VM's GIC, it is done.
#[cold]
#[inline(never)]
pub(crate) fn system_register(current: &mut Loaded, encoding: u16, is_read: bool, register: u8) -> bool {
    let register = usize::from(register);
    let (vm, Some(interface)) = (current.vm(), interface()) else { return false };
    if encoding == SRE && vm.by_list_registers() && interface.version() == Version::V3 {
        // The system registers are all that there is: what says so cannot be changed (GIC spec, `ICC_SRE_EL1`: RAO/WI).
        if is_read && let Some(register) = current.regs().x.get_mut(register) {
            *register = SYSTEM_REGISTERS_ONLY;
        }
        crate::arch::advance_pc();
        return true;
    }
    if encoding == DIR
        && !is_read
        && let (Some(gic), Some(cpu)) = (&vm.gic, interface.virtual_cpu())
    {
        deactivate(current, gic, interface, cpu, register);
        return true;
    }
    match (&vm.gic, group_1(encoding)) {
        (Some(gic), Some(group_1)) => cpu_interface(current, gic, interface, group_1, is_read, register),
        _ => false,
    }
}

/// A trapped write of `ICC_DIR_EL1`: something is active that has no list register.
fn deactivate(
    current: &mut Loaded,
    gic: &Gic,
    interface: &dyn VirtualInterface,
    cpu: &dyn VirtualCpu,
    register: usize,
) {
    let value = current.regs().x.get(register).copied().unwrap_or_default();
    let (index, mut acts) = (current.vcpu().index().0, acts(current.vcpu(), current.core()));
    let mut state = gic.state.lock();
    look(&mut state, interface, &mut acts);
    if virtual_cpu::splits_end(cpu) {
        state.deactivate(index, value as u32 & 0xff_ffff, interface, &mut acts);
        look(&mut state, interface, &mut acts);
    }
    crate::arch::advance_pc();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_writes_of_sgi1r_by_their_syndrome() {
        // EC, IL, op0, op2, op1, CRn, Rt, CRm, direction.
        let esr = |ec: u64, op2: u64, rt: u64, crm: u64, read: u64| {
            ec << 26 | 1 << 25 | 3 << 20 | op2 << 17 | 12 << 10 | rt << 5 | crm << 1 | read
        };
        assert!((0..32).all(|rt| is_sgi(esr(0x18, 5, rt, 11, 0))));
        assert!(!is_sgi(esr(0x18, 5, 0, 11, 1)), "a read");
        assert!(!is_sgi(esr(0x18, 6, 0, 11, 0)), "ICC_ASGI1R_EL1");
        assert!(!is_sgi(esr(0x18, 5, 0, 12, 0)), "ICC_SRE_EL1");
        assert!(!is_sgi(esr(0x24, 5, 0, 11, 0)), "an abort");
        assert!(!is_sgi(esr(0x18, 5, 0, 11, 0) | 1 << 14), "another op1");
    }
}
