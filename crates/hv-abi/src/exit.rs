//! Why `FFA_RUN` came back: the exit reasons that the primary VM acts on.

use crate::{Regs, ffa, ids::VcpuId, paravirt};

/// An exit of a vCPU to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `FFA_YIELD`: the vCPU has work but offers its core.
    Yield,
    /// `FFA_MSG_WAIT`: the vCPU waits for a message, at most `timeout_ns` if its timer runs.
    MessageWait {
        /// Nanoseconds until the vCPU's timer fires; `None`: no timer runs.
        timeout_ns: Option<u64>,
    },
    /// The vCPU executed WFI, or is off: run it again when it has an interrupt or its timer is due.
    WaitForInterrupt {
        /// Nanoseconds until the vCPU's timer fires; `None`: no timer runs.
        timeout_ns: Option<u64>,
    },
    /// `FFA_INTERRUPT`: the named vCPU should be run. For the vCPU that was run this is a preemption; if another one
    /// is named, that one has just got an interrupt, and the one that was run still has work.
    Interrupt,
    /// The vCPU's VM has been stopped for a fault: no vCPU of it will run again.
    Aborted(Fault),
    /// The VM has switched itself off (PSCI `SYSTEM_OFF`, `SYSTEM_RESET`, or its last vCPU's `CPU_OFF`).
    Off {
        /// It asked to be started again.
        reset: bool,
    },
    /// The vCPU could not be run; nothing has changed.
    Refused(ffa::Error),
}

/// What a VM did that stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `ESR_EL2` at the fault.
    pub syndrome: u64,
    /// `FAR_EL2`: the faulting virtual address, if there is one.
    pub address: u64,
    /// The faulting intermediate physical address (page), if there is one.
    pub ipa: u64,
    /// The program counter.
    pub pc: u64,
}

/// w3 of an `FFA_ERROR`/`ABORTED` exit: why the VM is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum AbortCause {
    /// A fault; x4 to x7 hold it.
    Fault = 0,
    /// The VM switched itself off.
    Off = 1,
    /// The VM asked for a reset.
    Reset = 2,
}

/// Registers that are no exit of `FFA_RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownExit;

const fn timeout(w2: u64) -> Option<u64> {
    if w2 == paravirt::SLEEP_INDEFINITE { None } else { Some(w2) }
}

const fn timeout_bits(ns: Option<u64>) -> u64 {
    match ns {
        Some(ns) => ns,
        None => paravirt::SLEEP_INDEFINITE,
    }
}

impl Exit {
    /// The registers that the primary sees, for an exit of (or about) `vcpu`.
    pub const fn to_regs(&self, vcpu: VcpuId) -> Regs {
        let id = vcpu.pack();
        let error = ffa::ERROR as u64;
        let aborted = ffa::Error::Aborted.bits();
        Regs(match *self {
            Self::Yield => [ffa::YIELD as u64, id, 0, 0, 0, 0, 0, 0],
            Self::MessageWait { timeout_ns } => {
                [ffa::MSG_WAIT as u64, id, timeout_bits(timeout_ns), 0, 0, 0, 0, 0]
            }
            Self::WaitForInterrupt { timeout_ns } => {
                [paravirt::RUN_WAIT_FOR_INTERRUPT as u64, id, timeout_bits(timeout_ns), 0, 0, 0, 0, 0]
            }
            Self::Interrupt => [ffa::INTERRUPT as u64, id, 0, 0, 0, 0, 0, 0],
            Self::Aborted(fault) => [
                error,
                id,
                aborted,
                AbortCause::Fault as u64,
                fault.syndrome,
                fault.address,
                fault.ipa,
                fault.pc,
            ],
            Self::Off { reset } => {
                let cause = if reset { AbortCause::Reset } else { AbortCause::Off };
                [error, id, aborted, cause as u64, 0, 0, 0, 0]
            }
            Self::Refused(code) => [error, id, code.bits(), 0, 0, 0, 0, 0],
        })
    }

    /// Reads what `FFA_RUN` returned.
    ///
    /// # Errors
    /// The registers are no exit that this crate knows.
    pub const fn from_regs(regs: &Regs) -> Result<(VcpuId, Self), UnknownExit> {
        let r = &regs.0;
        let vcpu = VcpuId::unpack(r[1]);
        let exit = match regs.function() {
            ffa::YIELD => Self::Yield,
            ffa::MSG_WAIT => Self::MessageWait { timeout_ns: timeout(r[2]) },
            paravirt::RUN_WAIT_FOR_INTERRUPT => Self::WaitForInterrupt { timeout_ns: timeout(r[2]) },
            ffa::INTERRUPT => Self::Interrupt,
            ffa::ERROR => match ffa::Error::from_bits(r[2]) {
                Some(ffa::Error::Aborted) => match r[3] {
                    1 => Self::Off { reset: false },
                    2 => Self::Off { reset: true },
                    _ => Self::Aborted(Fault { syndrome: r[4], address: r[5], ipa: r[6], pc: r[7] }),
                },
                Some(code) => Self::Refused(code),
                None => return Err(UnknownExit),
            },
            _ => return Err(UnknownExit),
        };
        Ok((vcpu, exit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{VcpuIndex, VmId};

    #[test]
    fn every_exit_survives_the_registers() {
        let vcpu = VcpuId { vm: VmId(3), index: VcpuIndex(1) };
        let fault = Fault { syndrome: 0x9200_0046, address: 1, ipa: 2, pc: 3 };
        for exit in [
            Exit::Yield,
            Exit::MessageWait { timeout_ns: None },
            Exit::MessageWait { timeout_ns: Some(7) },
            Exit::WaitForInterrupt { timeout_ns: None },
            Exit::WaitForInterrupt { timeout_ns: Some(u64::MAX) },
            Exit::Interrupt,
            Exit::Aborted(fault),
            Exit::Off { reset: false },
            Exit::Off { reset: true },
            Exit::Refused(ffa::Error::Busy),
        ] {
            assert_eq!(Exit::from_regs(&exit.to_regs(vcpu)), Ok((vcpu, exit)));
        }
        assert_eq!(Exit::from_regs(&Regs::func(ffa::SUCCESS)), Err(UnknownExit));
    }
}
