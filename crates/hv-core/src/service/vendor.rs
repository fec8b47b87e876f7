//! SMCCC discovery and Margay's own calls.

use crate::{
    console, firmware,
    run::{self, Next},
    system::System,
    teardown,
    vcpu::Loaded,
    vm::Vm,
};
use hv_abi::{Regs, exit::AbortCause, ffa, ids::VcpuId, ids::VmId, smccc, vendor};
use vm_lifecycle::StopReason;

pub(super) fn smccc_version(mut current: Loaded) -> Next {
    current.regs().x[0] = smccc::VERSION_1_2;
    current.vcpu()
}

pub(super) fn arch_features(mut current: Loaded) -> Next {
    let function = current.regs().x[1] as u32;
    let known = matches!(function, smccc::VERSION | smccc::ARCH_FEATURES);
    current.regs().x[0] = if known { 0 } else { firmware::feature(function) };
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

/// The VM that w1 names, which is not the primary.
fn other(current: &mut Loaded) -> Result<&'static Vm, ffa::Error> {
    let id = VmId(current.regs().x[1] as u16);
    System::get().vm(id).filter(|vm| !vm.is_primary()).ok_or(ffa::Error::InvalidParameters)
}

/// `VM_STOP`.
pub(super) fn stop(mut current: Loaded) -> Next {
    let result = other(&mut current).map(|vm| {
        if vm.switch_off(StopReason::Stopped) {
            run::halt(vm, current.core());
            console::drain_on(&current);
        }
        (0, 0)
    });
    super::answer(current, result)
}

/// `VM_RESTART`.
pub(super) fn restart(mut current: Loaded) -> Next {
    let result = other(&mut current).and_then(|vm| teardown::restart(vm, current.core()));
    super::answer(current, result.map(|left| (left, 0)))
}

/// `VCPU_STATISTICS_GET`.
pub(super) fn statistics(mut current: Loaded) -> Next {
    let id = VcpuId::unpack(current.regs().x[1]);
    let second = current.regs().x[2] as u32 != 0;
    let vcpu = System::get().vm(id.vm).filter(|vm| !vm.is_primary());
    let Some(vcpu) = vcpu.and_then(|vm| vm.vcpus.get(usize::from(id.index.0))) else {
        return super::answer(current, Err(ffa::Error::InvalidParameters));
    };
    let mut results = [u64::from(ffa::SUCCESS), 0, 0, 0, 0, 0, 0, 0];
    if second {
        results[1] = vcpu.statistics.external_aborts();
    } else {
        results[1..].copy_from_slice(&vcpu.statistics.read());
    }
    current.regs().set_results(&Regs(results));
    current.vcpu()
}

/// `INTERRUPT_ROUTE_GET`.
pub(super) fn route(mut current: Loaded) -> Next {
    let (intid, routes) = (current.regs().x[1] as u32, &System::get().routes);
    let owner = routes.owner(intid);
    let result =
        owner.map(|owner| (owner.pack(), routes.arrivals(intid).into())).ok_or(ffa::Error::InvalidParameters);
    super::answer(current, result)
}

/// `INTERRUPT_ROUTE_SET`.
pub(super) fn set_route(mut current: Loaded) -> Next {
    let (intid, to) = (current.regs().x[1] as u32, VcpuId::unpack(current.regs().x[2]));
    let system = System::get();
    let vm = system.vm(to.vm);
    let exists = to.pack() == 0 || vm.is_some_and(|vm| usize::from(to.index.0) < vm.vcpus.len());
    let result = match system.routes.owner(intid) {
        Some(_) if exists => system.routes.set(intid, to).then_some((0, 0)).ok_or(ffa::Error::Denied),
        _ => Err(ffa::Error::InvalidParameters),
    };
    super::answer(current, result)
}

/// A decimal number, or a hexadecimal one.
const fn number(text: Option<&str>, base: u64) -> u64 {
    let Some(text) = text else { return 0 };
    let (bytes, mut value, mut i) = (text.as_bytes(), 0, 0);
    while i < bytes.len() && i < 16 {
        let digit = match bytes[i] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => return value,
        };
        value = value * base + digit as u64;
        i += 1;
    }
    value
}

const VERSION: u64 = number(Some(env!("CARGO_PKG_VERSION_MAJOR")), 10) << 32
    | number(Some(env!("CARGO_PKG_VERSION_MINOR")), 10) << 16
    | number(Some(env!("CARGO_PKG_VERSION_PATCH")), 10);
/// Set by whoever builds: `cargo xtask build` takes it from git.
const BUILD: u64 = number(option_env!("MARGAY_REVISION"), 16);

/// `BUILD_ID_GET`.
pub(super) fn build_id(mut current: Loaded) -> Next {
    current.regs().set_results(&Regs([u64::from(ffa::SUCCESS), VERSION, BUILD, 0, 0, 0, 0, 0]));
    current.vcpu()
}
