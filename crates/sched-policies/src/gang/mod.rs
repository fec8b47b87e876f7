//! Gang scheduling: the virtual processors of a VM run at the same time on all their cores.
//!
//! J. Ousterhout, "Scheduling Techniques for Concurrent Systems", ICDCS 1982. A matrix has a row for each
//! slot of time and a column for each core. The members of a gang are in one row. Slots take turns, so a
//! member that waits for another one (spins on its lock, waits for its message) waits for one that runs.
//!
//! Which slot it is follows from the time alone, and all cores have one time. So they change slots at the
//! same moment, and need no message for it: [`Gangs`] is the matrix, a [`Column`] is what a core has to know
//! of it, and [`Gang`] is the policy of a core that goes by its column.

mod column;
mod matrix;
mod policy;

pub use column::{Column, Rotation};
pub use matrix::{GangError, Gangs};
pub use policy::{EmptyPlace, Gang};

/// A gang's number, such as that of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GangId(pub u32);

/// A core's number: a column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u32);
