//! The Margay lightweight kernel as a library: native, primary (scheduler VM) and secondary from one source.
//!
//! An image is a platform and a program; the kernel is everything in between
//! (`images/guest/src/bin/hello.rs`):
//!
//! ```text
//! #![no_std]
//! #![no_main]
//!
//! use lwk_core::{
//!     app::{App, Status},
//!     platform::Vm,
//! };
//!
//! static PLATFORM: Vm = Vm::new();
//!
//! fn main(app: &App) -> Status {
//!     lwk_core::println!("hello from {} cores", app.cores());
//!     Status::SUCCESS
//! }
//!
//! lwk_core::image!(PLATFORM, main);
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`cmdline`], [`log_ring`], [`symbols`], [`syndrome`], [`memory::regions`], [`task::life`], [`primary::placement`] | pure logic, tested on the host |
//! | `boot`, `smp` | from the first instruction to the application, on all cores |
//! | `memory` | where everything is, W^X tables, heap, stacks with guard pages |
//! | `platform` | bare machine or VM: the only difference between the personalities |
//! | `task`, `team` | kernel tasks, and all cores at one job |
//! | `console`, `fault`, `backtrace` | what a person sees |
//! | `primary` | partitions, and one task for each vCPU |
//! | `user` | unmodified static Linux programs at EL0, in kernels built without FP/SIMD of their own |
//!
//! The kernel proper exists on bare-metal AArch64 only; the pure modules everywhere.
//!
//! The image is linked at a fixed address in the upper half with `lwk.ld`, and loaded anywhere.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "on the development host"
    )
)]
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cmdline;
pub mod log_ring;
pub mod memory;
pub mod primary;
pub mod symbols;
pub mod syndrome;
pub mod task;
pub mod watch;

// What needs the processor.
#[cfg(target_os = "none")]
pub mod app;
#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub mod backtrace;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(target_os = "none")]
mod interrupt;
#[cfg(target_os = "none")]
mod logging;
#[cfg(target_os = "none")]
pub mod percore;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod sync;
#[cfg(target_os = "none")]
pub mod team;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(programs)]
pub mod user;
