//! SMCCC discovery and Margay's own calls.

use crate::{run::Next, system::System, vcpu::Loaded};
use hv_abi::{Regs, SMCCC_NOT_SUPPORTED, exit::AbortCause, ffa, ids::VcpuId, ids::VmId, smccc, vendor};

pub(super) fn smccc_version(mut current: Loaded) -> Next {
    current.regs().x[0] = smccc::VERSION_1_2;
    current.vcpu()
}

pub(super) fn arch_features(mut current: Loaded) -> Next {
    let function = current.regs().x[1] as u32;
    let known = matches!(function, smccc::VERSION | smccc::ARCH_FEATURES);
    current.regs().x[0] = if known { 0 } else { SMCCC_NOT_SUPPORTED };
    current.vcpu()
}

pub(super) fn uid(mut current: Loaded) -> Next {
    current.regs().x[..4].copy_from_slice(&vendor::UID.map(u64::from));
    current.vcpu()
}

pub(super) fn revision(mut current: Loaded) -> Next {
    let (major, minor) = vendor::REVISION;
    current.regs().x[..2].copy_from_slice(&[u64::from(major), u64::from(minor)]);
    current.vcpu()
}

pub(super) fn crash_record(mut current: Loaded) -> Next {
    let id = VmId(current.regs().x[1] as u16);
    let Some(vm) = System::get().vm(id) else {
        return super::answer(current, Err(ffa::Error::InvalidParameters));
    };
    let Some((index, fault)) = vm.crash() else {
        return super::answer(current, Err(ffa::Error::NoData));
    };
    let vcpu = VcpuId { vm: id, index }.pack();
    let cause = AbortCause::Fault as u64;
    let success = u64::from(ffa::SUCCESS);
    let record = [success, vcpu, fault.syndrome, fault.address, fault.ipa, fault.pc, cause, 0];
    current.regs().set_results(&Regs(record));
    current.vcpu()
}
