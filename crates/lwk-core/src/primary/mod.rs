//! The primary personality: which partitions there are, and one task for each vCPU.
//!
//! `partitions::discover` asks the hypervisor what there is to run. `Machines` runs it: each vCPU has an
//! ordinary kernel task whose body is the loop in `run.rs`, so vCPUs share a core as any tasks do. What is to
//! run when is decided by whoever drives `Machines`: an application that is linked in, or the control task,
//! by `/dev/margay`.

#[cfg(programs)]
mod control;
#[cfg(target_os = "none")]
mod events;
pub mod gangs;
#[cfg(target_os = "none")]
mod machines;
#[cfg(target_os = "none")]
pub mod partitions;
pub mod placement;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod tuning;
#[cfg(target_os = "none")]
mod vm;

#[cfg(programs)]
pub(crate) use control::machines;
#[cfg(programs)]
pub use control::main;
#[cfg(target_os = "none")]
pub use events::{Events, Happened};
#[cfg(target_os = "none")]
pub(crate) use machines::ring;
#[cfg(target_os = "none")]
pub use machines::{Machines, Refusal};
#[cfg(target_os = "none")]
pub use tuning::Tuning;
#[cfg(target_os = "none")]
pub use vm::{Ending, Vm};
