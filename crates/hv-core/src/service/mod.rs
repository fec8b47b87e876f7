//! Hypercalls.
//!
//! Every handler has one signature: it gets the current vCPU, whose x0 to x7 hold the call, writes the results there,
//! and says which vCPU goes on. Who may call what is one table, in `access`.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler consumes the token of the vCPU that it answers for"
)]

mod access;
mod bounds;
mod direct;
mod discovery;
mod ffa;
mod indirect;
mod mailbox;
mod memory;
mod notify;
mod paravirt;
mod psci;
mod steps;
mod vendor;

use crate::{firmware, run::Next, vcpu::Loaded};
use hv_abi::{Regs, SMCCC_NOT_SUPPORTED};

#[cfg(any(test, feature = "testing"))]
pub(crate) use access::functions;
pub(crate) use access::{ROWS, column, function, row};
pub(crate) use bounds::{LONGEST, bound};
pub(crate) use direct::fail_requester;
pub(crate) use paravirt::interrupt;
pub(crate) use steps::drive;

/// A hypercall of `current`. By HVC, `vectors.S` does the same, and answers `FFA_ID_GET` and what is no call by itself.
#[inline(never)]
pub(crate) fn call(mut current: Loaded) -> Next {
    let function = current.regs().x[0] as u32;
    if let Some(handler) = access::find(function, current.vm()) {
        return handler(current.vcpu());
    }
    if access::is_ffa(function) {
        error(&mut current, hv_abi::ffa::Error::NotSupported);
    } else {
        current.regs().x[0] = SMCCC_NOT_SUPPORTED;
    }
    current.vcpu()
}

/// A call of `current` by SMC: as by HVC, but what is not there may be firmware's.
pub(crate) fn call_by_smc(mut current: Loaded) -> Next {
    let function = current.regs().x[0] as u32;
    let vm = current.vm();
    if vm.whitelist.has(function) && access::find(function, vm).is_none() {
        firmware::forward(current)
    } else {
        call(current)
    }
}

/// Answers an FF-A call with `FFA_ERROR`.
#[inline(never)]
fn error(current: &mut Loaded, code: hv_abi::ffa::Error) {
    current.regs().set_results(&Regs([u64::from(hv_abi::ffa::ERROR), 0, code.bits(), 0, 0, 0, 0, 0]));
}

/// Answers an FF-A call with `FFA_SUCCESS` and results in w2 and w3.
#[inline(never)]
fn success(current: &mut Loaded, w2: u64, w3: u64) {
    current.regs().set_results(&Regs([u64::from(hv_abi::ffa::SUCCESS), 0, w2, w3, 0, 0, 0, 0]));
}

/// Answers an FF-A call.
fn answer(mut current: Loaded, result: Result<(u64, u64), hv_abi::ffa::Error>) -> Next {
    match result {
        Ok((w2, w3)) => success(&mut current, w2, w3),
        Err(code) => error(&mut current, code),
    }
    current.vcpu()
}
