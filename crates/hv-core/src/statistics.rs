//! What a vCPU has done: counted by the core that runs it, read by anybody.

use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::exit::Exit;

/// Why a vCPU has left its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Yield,
    Wait,
    Message,
    Interrupt,
    Other,
}

impl Reason {
    /// The reason behind an exit.
    #[inline(always)]
    pub(crate) const fn of(exit: &Exit) -> Self {
        match exit {
            Exit::Yield { .. } => Self::Yield,
            Exit::WaitForInterrupt { .. } => Self::Wait,
            Exit::MessageWait { .. } | Exit::DirectResponse { .. } => Self::Message,
            Exit::Interrupt => Self::Interrupt,
            _ => Self::Other,
        }
    }
}

/// The counts of a vCPU.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    entered_at: AtomicU64,
    ticks: AtomicU64,
    entries: AtomicU64,
    exits: [AtomicU64; 5],
    external_aborts: AtomicU64,
}

/// Only the core that owns the vCPU writes, so no atomic addition is needed.
#[inline(always)]
fn add(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Statistics {
    /// It is entered, at `now`.
    #[inline(always)]
    pub(crate) fn enter(&self, now: u64) {
        self.entered_at.store(now, Ordering::Relaxed);
        add(&self.entries, 1);
    }

    /// It has left, at `now`.
    #[inline(always)]
    pub(crate) fn leave(&self, now: u64) {
        add(&self.ticks, now.wrapping_sub(self.entered_at.load(Ordering::Relaxed)));
    }

    /// It is about to leave, for a reason.
    #[inline(always)]
    pub(crate) fn exit(&self, reason: Reason) {
        add(&self.exits[reason as usize], 1);
    }

    /// It is given an external abort.
    pub(crate) fn external_abort(&self) {
        add(&self.external_aborts, 1);
    }

    /// External aborts injected.
    pub(crate) fn external_aborts(&self) -> u64 {
        self.external_aborts.load(Ordering::Relaxed)
    }

    /// How often it has been entered.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// All of it, as `VCPU_STATISTICS_GET` returns it from x1 on.
    pub(crate) fn read(&self) -> [u64; 7] {
        let mut all = [0; 7];
        let counts = [&self.ticks, &self.entries].into_iter().chain(&self.exits);
        for (value, count) in all.iter_mut().zip(counts) {
            *value = count.load(Ordering::Relaxed);
        }
        all
    }
}
