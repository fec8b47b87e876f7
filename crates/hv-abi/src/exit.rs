//! Why `FFA_RUN` came back: the exit reasons that the primary VM acts on.

use crate::{
    Regs, ffa,
    ids::{VcpuId, VcpuIndex, VmId},
    paravirt,
};

/// An exit of a vCPU to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `FFA_YIELD`: the vCPU has work but offers its core.
    Yield {
        /// For how long, in nanoseconds, if it said so.
        timeout_ns: Option<u64>,
    },
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
    /// `FFA_INTERRUPT`: the named vCPU should be run. For the vCPU that was run this is a preemption; if
    /// another one is named, that one has just got an interrupt, and the one that was run still has work.
    Interrupt,
    /// The vCPU's VM has been stopped for a fault: no vCPU of it will run again.
    Aborted(Fault),
    /// The VM has switched itself off (PSCI `SYSTEM_OFF`, `SYSTEM_RESET`, or its last vCPU's `CPU_OFF`).
    Off {
        /// It asked to be started again.
        reset: bool,
    },
    /// `FFA_MSG_SEND_DIRECT_RESP`: the vCPU has answered a direct request of the primary. The answer is in
    /// the registers: `guest::run_regs` shows them. Run the vCPU again to learn what it waits for.
    DirectResponse {
        /// The VM to which it has answered.
        to: VmId,
    },
    /// The vCPU could not be run; nothing has changed.
    Refused(ffa::Error),
}

/// Fault by which a VM was stopped.
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

#[inline(always)]
const fn timeout_bits(ns: Option<u64>) -> u64 {
    match ns {
        Some(ns) => ns,
        None => paravirt::SLEEP_INDEFINITE,
    }
}

impl Exit {
    /// The registers that the primary sees, for an exit of (or about) `vcpu`.
    #[inline(always)]
    pub const fn to_regs(&self, vcpu: VcpuId) -> Regs {
        let id = vcpu.pack();
        let error = ffa::ERROR as u64;
        let aborted = ffa::Error::Aborted.bits();
        Regs(match *self {
            Self::Yield { timeout_ns } => {
                let ns = timeout_bits(timeout_ns);
                [ffa::YIELD as u64, id, ns & 0xffff_ffff, ns >> 32, 0, 0, 0, 0]
            }
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
            Self::DirectResponse { to } => {
                [ffa::MSG_SEND_DIRECT_RESP as u64, (vcpu.vm.0 as u64) << 16 | to.0 as u64, 0, 0, 0, 0, 0, 0]
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
            ffa::YIELD => Self::Yield { timeout_ns: timeout(r[2] & 0xffff_ffff | r[3] << 32) },
            ffa::MSG_SEND_DIRECT_RESP | ffa::MSG_SEND_DIRECT_RESP_64 | ffa::MSG_SEND_DIRECT_RESP2 => {
                // w1 names the two VMs; which vCPU it was is known to who ran it.
                let from = VcpuId { vm: VmId((r[1] >> 16) as u16), index: VcpuIndex(0) };
                return Ok((from, Self::DirectResponse { to: VmId(r[1] as u16) }));
            }
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

    #[test]
    fn every_exit_survives_the_registers() {
        let vcpu = VcpuId { vm: VmId(3), index: VcpuIndex(1) };
        let fault = Fault { syndrome: 0x9200_0046, address: 1, ipa: 2, pc: 3 };
        for exit in [
            Exit::Yield { timeout_ns: None },
            Exit::Yield { timeout_ns: Some(5_000_000_000) },
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
        let (from, to) = (VcpuId { vm: VmId(3), index: VcpuIndex(0) }, VmId(1));
        let response = Exit::DirectResponse { to };
        assert_eq!(Exit::from_regs(&response.to_regs(from)), Ok((from, response)));
        assert_eq!(Exit::from_regs(&Regs::func(ffa::SUCCESS)), Err(UnknownExit));
    }
}
