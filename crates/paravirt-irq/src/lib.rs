//! A para-virtual interrupt controller, both halves.
//!
//! The controller has 64 interrupt ids for each vCPU and three operations: enable an id, make it pending,
//! take the next one. A vCPU's virtual IRQ line is high while an enabled id is pending. That is all a
//! lightweight guest needs, it works on every machine (with list registers or without), and it is small
//! enough to be checked completely.
//!
//! * [`VcpuInterrupts`] is the hypervisor's half: the state of one vCPU's controller. Any core may make an id
//!   pending at any time; only the core that runs the vCPU enables and takes. All of it is lock-free.
//! * [`BackEnd`] is how what is pending comes to the guest: by the virtual IRQ line ([`Line`]), with a call
//!   for each interrupt, or by list registers ([`Lists`]), where the hardware has them, without any exit.
//! * `guest` (AArch64 only) is the guest's half: a driver over the calls of [`hv_abi::paravirt`], and one
//!   over GICv3's CPU interface for list registers.
#![no_std]

mod back_end;
#[cfg(target_arch = "aarch64")]
pub mod guest;
mod state;
mod sync {
    pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
}

pub use back_end::{BackEnd, Line, ListRegisters, ListState, Listed, Lists, MAX_LIST_REGISTERS};
pub use state::VcpuInterrupts;

impl VcpuInterrupts {
    /// Returns a controller with nothing enabled and nothing pending.
    pub const fn new() -> Self {
        Self { enabled: sync::AtomicU64::new(0), pending: sync::AtomicU64::new(0) }
    }
}
