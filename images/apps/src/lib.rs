//! Applications that are linked into LWK images: functions from [`lwk_core::app::App`] to a status.
//!
//! | module | program |
//! |---|---|
//! | `hpc` | the HPC workloads, and the benchmarks of a kernel's own paths; command line `workload=` |
//! | `abreast` | whether a VM's vCPUs run at the same time |
//! | `bench` | the measured guest, and what the others measure with |
//! | `hostile` | a guest that misbehaves in a given way |
//! | `peers` | two guests that exchange messages and memory |
//! | `registers` | a guest that tries every system register, and whether its own stay its own |
//! | `sched` | the scheduler VM: runs all other VMs |
#![no_std]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod abreast;
#[cfg(target_os = "none")]
pub mod bench;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
pub mod hostile;
#[cfg(target_os = "none")]
pub mod hpc;
#[cfg(target_os = "none")]
pub mod peers;
#[cfg(target_os = "none")]
pub mod registers;
#[cfg(target_os = "none")]
pub mod sched;
#[cfg(target_os = "none")]
mod support;
