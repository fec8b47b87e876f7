//! FF-A: discovery, scheduling and the console (DEN0077A).

use super::{access, answer};
use crate::{
    console,
    run::{self, Next},
    vcpu::{Loaded, VcpuState},
};
use core::sync::atomic::Ordering;
use hv_abi::{exit::Exit, ffa, ids::VmId};

/// `FFA_VERSION` (section 13.2): the caller's version is noted if it is one that Margay can speak.
pub(super) fn version(mut current: Loaded) -> Next {
    let w1 = current.regs().x[1] as u32;
    let ours = ffa::VERSION_1_2;
    current.regs().x[0] = match ffa::Version::from_bits(w1) {
        Some(theirs) if theirs.major == ours.major => {
            current.vm().ffa_version.store(theirs.min(ours).to_bits(), Ordering::Relaxed);
            u64::from(ours.to_bits())
        }
        Some(_) => u64::from(ours.to_bits()),
        None => ffa::Error::NotSupported.bits(),
    };
    current.vcpu()
}

/// `FFA_FEATURES` (section 13.3).
pub(super) fn features(mut current: Loaded) -> Next {
    let function = current.regs().x[1] as u32;
    let known = access::is_ffa(function) && access::may_call(function, current.vm().kind);
    let special = [ffa::ERROR, ffa::SUCCESS, ffa::SUCCESS_64, ffa::INTERRUPT, ffa::FEATURES];
    let result = match function {
        // Buffers of one page: minimum size and alignment 4 KiB, maximum one page (bits 31:16).
        ffa::RXTX_MAP | ffa::RXTX_MAP_64 => Ok((1 << 16, 0)),
        _ if known || special.contains(&function) => Ok((0, 0)),
        _ => Err(ffa::Error::NotSupported),
    };
    answer(current, result)
}

/// `FFA_SPM_ID_GET`: the partition manager is the hypervisor.
pub(super) fn spm_id_get(current: Loaded) -> Next {
    answer(current, Ok((u64::from(VmId::HYPERVISOR.0), 0)))
}

/// `FFA_YIELD`: results are written now, because the vCPU goes on after the call when it is run again.
#[inline]
pub(super) fn yield_now(mut current: Loaded) -> Next {
    let x = &mut current.regs().x;
    x[0] = u64::from(ffa::SUCCESS);
    x[1..8].fill(0);
    if current.vm().is_primary() {
        return current.vcpu();
    }
    run::exit(&current, Exit::Yield, VcpuState::Ready)
}

/// `FFA_MSG_WAIT`: no message can come in yet, so this waits for interrupts, as `FFA_SUCCESS` tells.
pub(super) fn msg_wait(mut current: Loaded) -> Next {
    super::success(&mut current, 0, 0);
    run::wait(&current, VcpuState::WaitingForMessage)
}

/// `FFA_CONSOLE_LOG` with four characters to a register (section 13.13).
pub(super) fn console_log_32(current: Loaded) -> Next {
    console_log(current, 4)
}

/// `FFA_CONSOLE_LOG` with eight characters to a register.
pub(super) fn console_log_64(current: Loaded) -> Next {
    console_log(current, 8)
}

fn console_log(mut current: Loaded, per_register: usize) -> Next {
    const REGISTERS: usize = 6;
    let words = current.regs().arguments().0;
    let count = words[1] as usize;
    if count == 0 || count > per_register * REGISTERS {
        return answer(current, Err(ffa::Error::InvalidParameters));
    }
    let bytes = words[2..].iter().flat_map(|w| w.to_le_bytes().into_iter().take(per_register)).take(count);
    console::log(&mut current, bytes);
    answer(current, Ok((0, 0)))
}
