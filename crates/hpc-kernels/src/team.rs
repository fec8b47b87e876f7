//! Workers.

use core::ops::Range;

/// Maximum number of workers that a kernel uses.
pub const MAX_WORKERS: usize = 64;

/// Workers that run a piece of code together: one per core, each always on the same core.
pub trait Team {
    /// How many they are; at least 1.
    fn size(&self) -> usize;

    /// Runs `work(rank)` once for each rank from 0 to `size() - 1`, each on its own worker, and returns when
    /// all have returned. What the caller did before is seen by all workers, and what they did is seen by the
    /// caller.
    fn run(&self, work: &(dyn Fn(usize) + Sync));
}

/// A team of one: the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Team for Serial {
    fn size(&self) -> usize {
        1
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        work(0);
    }
}

/// The share of worker `rank` in `len` things that come in blocks of `block`: contiguous, and at most one
/// block larger than that of others.
pub fn share(len: usize, block: usize, rank: usize, workers: usize) -> Range<usize> {
    let blocks = len.div_ceil(block);
    let (each, more) = (blocks / workers, blocks % workers);
    let bound = |rank: usize| ((each * rank + more.min(rank)) * block).min(len);
    bound(rank)..bound(rank + 1)
}
