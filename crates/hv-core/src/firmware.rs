//! Firmware, as far as VMs reach it: what it does for the processor, and the calls that a VM's manifest node allows.
//!
//! A VM learns of workarounds what the cores have found when they started, and pays for a call into firmware only if one of
//! them needs it. Everything else that a VM calls by SMC is answered by the hypervisor, unless the VM's `smc_whitelist` names it:
//! then it goes to firmware with the VM's id, as with Hafnium.

use crate::{arch, board, run::Next, system::System, vcpu::Loaded};
use bundle::Cells;
use core::sync::atomic::{AtomicU8, Ordering};
use hv_abi::{SMCCC_NOT_SUPPORTED, psci, smccc};
use machine::Conduit;

/// Firmware has no such workaround; it says that no core needs it; it has it; and a core needs it.
const ABSENT: u8 = 0;
const NOT_REQUIRED: u8 = 1;
const THERE: u8 = 2;
const NEEDED: u8 = 3;
const WORKAROUNDS: [u32; 3] = [smccc::ARCH_WORKAROUND_1, STATEFUL, smccc::ARCH_WORKAROUND_3];
/// The one that keeps a state for each core: it stays switched on.
const STATEFUL: u32 = smccc::ARCH_WORKAROUND_2;

/// For each of `WORKAROUNDS`, the most that a core has said.
pub(crate) type Workarounds = [AtomicU8; WORKAROUNDS.len()];

/// The calls that a VM's manifest node lets through to firmware.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Whitelist {
    pub(crate) functions: Cells<'static>,
    /// All others, too.
    pub(crate) permissive: bool,
}

impl Whitelist {
    /// Whether a function that is not the hypervisor's goes to firmware. Power functions, FF-A, and the services of
    /// hypervisors (SMCCC 1.2, section 6.1: owners 5 and 6) do not, whatever the manifest says: they are about other VMs.
    pub(crate) fn has(&self, function: u32) -> bool {
        let number = function & !smccc::CONVENTION_64;
        let hypervisors = matches!(function >> 24 & 0x3f, 5 | 6);
        let ours = psci::FUNCTION_RANGE.contains(&number) || hv_abi::ffa::FUNCTION_RANGE.contains(&number);
        (self.permissive || self.functions.iter().any(|listed| listed == function)) && !ours && !hypervisors
    }
}

/// Calls firmware, or what the board has in its place: a function and its arguments; returns x0.
#[inline(never)]
pub(crate) fn call(function: u32, arguments @ [a, b, c]: [u64; 3]) -> u64 {
    if System::get().conduit != Some(Conduit::Smc) {
        return board::power(function, arguments);
    }
    arch::smc([function.into(), a, b, c, 0, 0, 0, 0])[0]
}

/// Asks firmware what it can do for this core.
pub(crate) fn probe() {
    let ask = |function, argument: u32| call(function, [argument.into(), 0, 0]) as i32;
    // How SMCCC 1.1 is found (DEN0028, appendix on discovery).
    if ask(psci::FEATURES, smccc::VERSION) < 0 || ask(smccc::VERSION, 0) < smccc::VERSION_1_1 {
        return;
    }
    for (function, most) in WORKAROUNDS.iter().zip(&System::get().workarounds) {
        let found = match ask(smccc::ARCH_FEATURES, *function) {
            0 => NEEDED,
            1.. => THERE,
            smccc::NOT_REQUIRED => NOT_REQUIRED,
            _ => ABSENT,
        };
        most.fetch_max(found, Ordering::Relaxed);
        if *function == STATEFUL && found == NEEDED {
            ask(STATEFUL, 1);
        }
    }
}

/// What `SMCCC_ARCH_FEATURES` says of a workaround.
pub(crate) fn feature(function: u32) -> u64 {
    let number = WORKAROUNDS.iter().position(|known| *known == function);
    match number.map_or(ABSENT, |number| System::get().workarounds[number].load(Ordering::Relaxed)) {
        NEEDED if function != STATEFUL => 0,
        // It may be called, and changes nothing.
        NEEDED | THERE => 1,
        NOT_REQUIRED => i64::from(smccc::NOT_REQUIRED) as u64,
        _ => SMCCC_NOT_SUPPORTED,
    }
}

/// `SMCCC_ARCH_WORKAROUND_1` to `_3`, which return nothing.
pub(crate) fn work_around(mut current: Loaded) -> Next {
    let function = current.regs().x[0] as u32;
    match feature(function) {
        0 => drop(call(function, [0; 3])),
        1 => {}
        _ => current.regs().x[0] = SMCCC_NOT_SUPPORTED,
    }
    current.vcpu()
}

/// Passes a call on that the VM's whitelist has: with the VM's id in bits 15:0 of w7 (SMCCC 1.0, client id). The results
/// are x0 to x6; x7 stays what it was.
pub(crate) fn forward(mut current: Loaded) -> Next {
    let vm = current.vm().id;
    let mut arguments = current.regs().arguments().0;
    arguments[0] &= 0xffff_ffff;
    arguments[7] = arguments[7] & !0xffff | u64::from(vm.0);
    if System::get().conduit == Some(Conduit::Smc) {
        current.regs().x[..7].copy_from_slice(&arch::smc(arguments)[..7]);
    } else {
        current.regs().x[0] = SMCCC_NOT_SUPPORTED;
    }
    current.vcpu()
}
