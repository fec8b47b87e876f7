//! FF-A: discovery, scheduling and the console (DEN0077A).

use super::{access, answer};
use crate::{
    console, gic,
    run::{self, Next},
    vcpu::{Loaded, VcpuState},
    vm::Rx,
};
use core::sync::atomic::Ordering;
use hv_abi::{
    Regs,
    exit::Exit,
    ffa,
    ids::{VirtIntId, VmId},
    paravirt,
};

/// `FFA_VERSION` (section 13.2): the caller's version is noted if it is one that Margay can speak, and it has not spoken
/// another one yet.
pub(super) fn version(mut current: Loaded) -> Next {
    let w1 = current.regs().x[1] as u32;
    let ours = ffa::VERSION_1_2;
    let not_supported = ffa::Error::NotSupported.bits();
    let result = match ffa::Version::from_bits(w1) {
        Some(theirs) if theirs.major == ours.major && !current.vm().negotiate(theirs.min(ours)) => {
            not_supported
        }
        // A caller of another major version sees which one it would have to speak.
        Some(_) => u64::from(ours.to_bits()),
        None => not_supported,
    };
    current.regs().set_results(&Regs([result, 0, 0, 0, 0, 0, 0, 0]));
    current.vcpu()
}

/// `FFA_FEATURES` (section 13.3).
pub(super) fn features(mut current: Loaded) -> Next {
    let function = current.regs().x[1] as u32;
    let vm = current.vm();
    // The functions of 1.2 have the largest numbers.
    let spoken = function < ffa::PARTITION_INFO_GET_REGS || vm.ffa_version_so_far() >= ffa::VERSION_1_2;
    let known = spoken && access::is_ffa(function) && access::may_call(function, vm.kind);
    let special =
        [ffa::ERROR, ffa::SUCCESS, ffa::SUCCESS_64, ffa::INTERRUPT, ffa::FEATURES, ffa::MEM_RETRIEVE_RESP];
    let id = |interrupt: VirtIntId| Ok((gic::number(vm, interrupt).into(), 0));
    let result = match function {
        ffa::FEATURE_NOTIFICATION_PENDING => id(paravirt::NOTIFICATION_PENDING),
        ffa::FEATURE_SCHEDULE_RECEIVER if current.vm().is_primary() => id(paravirt::SCHEDULE_RECEIVER),
        // These may name a buffer other than TX: not here.
        ffa::MEM_DONATE..=ffa::MEM_RETRIEVE_REQ | ffa::MEM_DONATE_64..=ffa::MEM_RETRIEVE_REQ_64 => Ok((0, 0)),
        // Buffers of one page: minimum size and alignment 4 KiB, maximum one page (bits 31:16).
        ffa::RXTX_MAP | ffa::RXTX_MAP_64 => Ok((1 << 16, 0)),
        _ if known || special.contains(&function) => Ok((0, 0)),
        _ => Err(ffa::Error::NotSupported),
    };
    answer(current, result)
}

/// `FFA_ID_GET`.
pub(super) fn id_get(current: Loaded) -> Next {
    let id = current.vm().id.0;
    answer(current, Ok((u64::from(id), 0)))
}

/// `FFA_SPM_ID_GET`: the partition manager is the hypervisor.
pub(super) fn spm_id_get(current: Loaded) -> Next {
    answer(current, Ok((u64::from(VmId::HYPERVISOR.0), 0)))
}

/// `FFA_YIELD`: results are written now, because the vCPU goes on after the call when it is run again. w2 and w3 say for how
/// many nanoseconds it can do without its core, if it says so.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
pub(super) fn yield_now(mut current: Loaded) -> Next {
    let x = &current.regs().x;
    let ns = x[2] & 0xffff_ffff | x[3] << 32;
    let timeout_ns = if ns == 0 { None } else { Some(ns) };
    current.regs().set_results(&Regs::func(ffa::SUCCESS));
    if current.vm().is_primary() {
        return current.vcpu();
    }
    run::exit(&current, Exit::Yield { timeout_ns }, VcpuState::Ready)
}

/// w2 of `FFA_MSG_WAIT`: the caller keeps its RX buffer.
const RETAIN_RX: u64 = 1;

/// `FFA_MSG_WAIT` (section 14.4). It ends with a direct request, with `FFA_RUN` if there is something to be read, or with `FFA_INTERRUPT`.
pub(super) fn msg_wait(mut current: Loaded) -> Next {
    let (vm, id) = (current.vm(), current.vcpu().id().pack());
    let flags = current.regs().x[2] & 0xffff_ffff;
    if flags & !RETAIN_RX != 0 {
        return answer(current, Err(ffa::Error::InvalidParameters));
    }
    if current.vcpu().request().is_some() {
        // It owes a response.
        return answer(current, Err(ffa::Error::Denied));
    }
    let unread = if flags & RETAIN_RX == 0 {
        // The RX page is filled under this lock, and only what this vCPU has had is released: no unread message, no other vCPU's response.
        let mut mailbox = vm.mailbox.lock();
        let unread = vm.attention.load(Ordering::SeqCst);
        if !unread && mailbox.rx == Rx::Held(current.vcpu().index()) {
            mailbox.rx = Rx::Free;
        }
        unread
    } else {
        vm.attention.load(Ordering::SeqCst)
    };
    let function = if unread { ffa::RUN } else { ffa::INTERRUPT };
    current.regs().set_results(&Regs([u64::from(function), id, 0, 0, 0, 0, 0, 0]));
    if unread { current.vcpu() } else { run::wait(&current, VcpuState::WaitingForMessage) }
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
