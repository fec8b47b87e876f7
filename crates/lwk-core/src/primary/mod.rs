//! The primary personality: partitions, and one task for each vCPU.

pub mod placement;
