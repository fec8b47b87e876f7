//! The Margay hypervisor, as a library.
//!
//! `hv-core` runs at EL2 and does three things: it keeps every VM in its own memory, it switches a core between vCPUs
//! when the primary VM asks, and it answers hypercalls. It has no scheduler and, once VMs run, allocates nothing,
//! formats nothing on a path that counts, and takes no lock that another core's run path takes.
//!
//! An image crate supplies a board ([`board::Board`]) and calls [`image!`]; the result is an arm64 `Image` that is
//! entered at EL2 with the device tree in x0.
//!
//! | module | what it does |
//! |---|---|
//! | `boot` | from the first Rust instruction to the first VM: machine, bundle, memory plan, tables, images |
//! | `plan` | which physical memory is whose |
//! | `el2_map`, `tables` | the hypervisor's own address space; memory for stage-2 tables |
//! | `vm`, `vcpu`, `percore`, `system` | what there is, and who may touch which part of it when |
//! | `run` | the run path: `FFA_RUN`, exits, switching |
//! | `service` | hypercalls: FF-A, para-virtual interrupts, PSCI, Margay's own; `service::access` says who may call what |
//! | `teardown`, `reload` | stopping a VM (its phases: `vm-lifecycle`), reclaiming its memory, starting it again; what it held at boot |
//! | `statistics` | what vCPUs have done |
//! | `notifications` | FF-A notifications of a VM |
//! | `trap` | what a VM does that traps, by the policy in `hv_abi::registers` and docs/security.md |
//! | `serror` | asynchronous errors: which VM they are attributed to, and what follows |
//! | `skip` | stepping over a trapped instruction |
//! | `firmware` | what of firmware VMs reach |
//! | `interrupt`, `routing` | physical interrupts; whose those of devices are |
//! | `gic`, `bcm2836` | VMs that see an interrupt controller of the machine's kind |
//! | `lists` | VMs whose para-virtual interrupts come by list registers |
//! | `vmtree` | device trees for VMs |
//! | `console`, `printable`, `report`, `syndrome` | what people read |
//! | `stop_notice` | why the VM that has devices stopped, told at its own terminal |
//! | `arch` | the processor |
#![no_std]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, unused_imports, reason = "what only the target calls is compiled for tests too")
)]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

mod arch;
mod bcm2836;
pub mod board;
#[cfg(target_os = "none")]
mod boot;
mod console;
mod devices;
mod el2_map;
#[cfg(target_os = "none")]
mod entry;
mod firmware;
mod gic;
#[cfg(target_os = "none")]
mod heap;
mod interrupt;
mod lists;
mod lock;
mod measured;
mod notifications;
mod percore;
mod plan;
mod printable;
mod regs;
mod reload;
mod report;
mod ring;
mod routing;
mod run;
mod serror;
mod service;
mod skip;
mod statistics;
mod stop_notice;
mod syndrome;
mod system;
mod tables;
mod teardown;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trap;
mod vcpu;
mod vm;
mod vmtree;

#[doc(hidden)]
pub use machine;
