//! Power functions of firmware.

use crate::{arch, platform::PlatformError};
use hv_abi::{Regs, guest, psci};
use machine::{Conduit, Mpidr, PsciVersion};

/// A way to call PSCI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Psci {
    pub(super) conduit: Conduit,
    pub(super) version: PsciVersion,
}

impl Psci {
    fn call(self, function: u32, arguments: [u64; 3]) -> i64 {
        let [a, b, c] = arguments;
        let function = u64::from(function);
        let result = match self.conduit {
            Conduit::Hvc => guest::hvc(Regs([function, a, b, c, 0, 0, 0, 0])).0[0],
            Conduit::Smc => arch::smc([function, a, b, c]),
        };
        i64::from(result as i32)
    }

    pub(super) fn cpu_on(self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        let function = match self.version {
            PsciVersion::V0_1 { cpu_on, .. } => {
                cpu_on.ok_or(PlatformError("this PSCI cannot start cores"))?
            }
            _ => psci::CPU_ON_64,
        };
        match self.call(function, [mpidr.raw(), entry, context]) {
            0 => Ok(()),
            status if status == psci::Status::AlreadyOn as i64 => {
                Err(PlatformError("the core is on already"))
            }
            status if status == psci::Status::InvalidParameters as i64 => {
                Err(PlatformError("firmware knows no such core"))
            }
            _ => Err(PlatformError("firmware refuses to start the core")),
        }
    }

    /// The numbers of 0.1 are the tree's, which does not have this one.
    pub(super) const fn can_stop_cores(self) -> bool {
        !matches!(self.version, PsciVersion::V0_1 { .. })
    }

    pub(super) fn cpu_off(self) -> PlatformError {
        if self.can_stop_cores() {
            self.call(psci::CPU_OFF, [0; 3]);
        }
        PlatformError("firmware does not switch the core off")
    }

    pub(super) fn system_off(self) -> ! {
        self.call(psci::SYSTEM_OFF, [0; 3]);
        arch::halt()
    }
}
