//! Whether this VM's vCPUs run at the same time, seen from within: time is cut into windows, each core says
//! in which of them it runs, and then these are compared.

use crate::support::AllCores;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use hpc_kernels::Team;
use lwk_core::time;

/// A window's length. Short beside a quantum; an emulator's core may stand still for some milliseconds, and
/// runs all the same.
const WINDOW_NS: u64 = 25_000_000;
/// Beyond this there is no sense in it.
const MOST_WINDOWS: u64 = 10_000;

/// What was seen, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The part of all windows in which a core runs.
    pub(crate) ran: usize,
    /// The part of those in which any core runs where another one does not.
    pub(crate) apart: usize,
}

/// Lets all cores run, and looks for so many milliseconds after as many others. `None`: there is one core
/// only, or that is no time.
pub(crate) fn look(team: &AllCores, after_ms: u64, ms: u64) -> Option<Seen> {
    let window = time::frequency().ns_to_ticks(WINDOW_NS).max(1);
    let count = (ms.saturating_mul(1_000_000) / WINDOW_NS).min(MOST_WINDOWS) as usize;
    if team.size() < 2 || count == 0 {
        return None;
    }
    let windows: Vec<Vec<_>> = (0..count)
        .map(|_| core::iter::repeat_with(|| AtomicBool::new(false)).take(team.size()).collect())
        .collect();
    let after = time::frequency().ns_to_ticks(after_ms.saturating_mul(1_000_000));
    let start = time::stopwatch().saturating_add(after);
    team.run(&|member| {
        loop {
            let Some(since) = time::stopwatch().checked_sub(start) else { continue };
            let Some(runs) = windows.get((since / window) as usize) else { break };
            runs[member].store(true, Ordering::Relaxed);
        }
    });
    let running: Vec<usize> = windows
        .iter()
        .map(|runs| runs.iter().filter(|runs| runs.load(Ordering::Relaxed)).count())
        .filter(|running| *running > 0)
        .collect();
    let apart = running.iter().filter(|running| **running < team.size()).count();
    let ran: usize = running.iter().sum();
    Some(Seen { ran: ran * 1000 / (count * team.size()), apart: apart * 1000 / running.len().max(1) })
}
