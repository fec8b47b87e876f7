//! What the hypervisor does for every VM, whatever its interrupt controller.

use super::PlatformError;
use crate::arch;
use hv_abi::{Regs, guest, psci};
use machine::Mpidr;

pub(super) fn start_core(mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
    match guest::cpu_on(mpidr.raw(), entry, context) as i32 {
        0 => Ok(()),
        _ => Err(PlatformError("the hypervisor refuses to start the core")),
    }
}

pub(super) fn stop_core() -> PlatformError {
    guest::hvc(Regs::func(psci::CPU_OFF));
    PlatformError("the hypervisor does not switch the core off")
}

pub(super) fn power_off() -> ! {
    guest::hvc(Regs::func(psci::SYSTEM_OFF));
    arch::halt()
}
