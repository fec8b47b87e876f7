//! Who may run, stop and tear down a VM when several cores do so at the same time. One state machine for each
//! VM, two words for each vCPU, and no locks.
//!
//! ```text
//!            start               stop(reason)            halted              quiesced
//!   off ──────────────► running ──────────────► halting ─────────► stopping ─────────► reclaiming
//!    ▲                                                                                     │
//!    └─────────────────────────────────────────────────────────────────────────────────────┘
//!                                          reclaimed
//! ```
//!
//! Only *running* accepts calls that change anything. The other protections follow from four rules, which
//! `docs/lifecycle.md` explains:
//!
//! 1. Whoever claims a vCPU looks at the VM's phase after the claim; whoever stops the VM changes the phase
//!    before it looks at the vCPUs. One of the two sees the other.
//! 2. *Stopping* ends when every vCPU has been parked. A vCPU that a core owns cannot be parked, and a parked
//!    vCPU cannot be claimed: while memory is reclaimed no core owns one, and a restart takes none away.
//! 3. *Halting* ends when the core that has stopped the VM has looked at all of its vCPUs, so that a core
//!    which is late does not act on the VM's next life.
//! 4. All other transitions are made by the holder of the VM's teardown token, of whom there is one at a
//!    time.
//!
//! The logic here is pure; the hypervisor makes the transitions happen. `tests/exhaustive` and `tests/memory`
//! go through every state that two cores can put VMs, their vCPUs and their memory into.
//!
//! ```
//! use vm_lifecycle::{Event, LifeCycle, StateCell, Status, StopReason, VcpuState};
//!
//! let (vm, vcpu) = (LifeCycle::new(Status::Running), StateCell::new(VcpuState::Ready));
//! // Core 0 runs the vCPU, core 1 stops the VM: it can be torn down when core 0 has given the vCPU up.
//! assert!(vcpu.claim(VcpuState::Ready, 0) && vm.accepts_calls());
//! assert!(vm.apply(Event::Stop(StopReason::Off)) && vm.apply(Event::Halted));
//! assert!(!vcpu.park());
//! vcpu.publish(VcpuState::Off);
//! assert!(vcpu.park() && vm.apply(Event::Quiesced));
//! assert!(!vcpu.claim(VcpuState::Off, 0));
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod phase;
mod vcpu;

pub use phase::{Event, LifeCycle, Status, StopReason};
pub use vcpu::{PackedState, Request, RequestCell, StateCell, VcpuState};
