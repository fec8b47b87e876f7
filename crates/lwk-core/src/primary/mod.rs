//! The primary personality: which partitions there are, and one task for each vCPU.
//!
//! `partitions::discover` asks the hypervisor what there is to run. `Machines` runs it: each vCPU has an ordinary
//! kernel task whose body is the loop in `run.rs`, so vCPUs share a core as any tasks do.

#[cfg(target_os = "none")]
pub mod partitions;
pub mod placement;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod vms;

#[cfg(target_os = "none")]
pub(crate) use vms::ring;
#[cfg(target_os = "none")]
pub use vms::{Ending, Machines, Vm};
