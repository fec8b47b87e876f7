//! The kernel's clock and team, as `hpc-kernels` wants them.

use hpc_kernels::{Clock, Team};
use lwk_core::time;

/// The virtual counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter;

impl Clock for Counter {
    #[inline]
    fn now(&self) -> u64 {
        time::stopwatch()
    }

    fn frequency_hz(&self) -> u64 {
        time::frequency().hz()
    }
}

/// All cores.
#[derive(Debug)]
pub(crate) struct AllCores(pub(crate) lwk_core::team::Team);

impl Team for AllCores {
    fn size(&self) -> usize {
        self.0.size()
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        self.0.run(work);
    }
}
