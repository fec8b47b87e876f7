//! The policy of a core: one of those in `sched-policies`.
//!
//! Policies only compare and add times, so the kernel gives them ticks of its counter where they say nanoseconds: that
//! saves a division on every switch.

use sched_policies::{Nanos, Pinned, Policy, Result, RoundRobin, TaskId};

/// How many tasks a core can have.
pub(super) const MOST_TASKS: usize = 256;

/// Which policy a core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Tasks take turns, each for a quantum of so many ticks.
    RoundRobin {
        /// Ticks.
        quantum: u64,
    },
    /// One task owns the core; a second one is refused.
    Pinned,
}

/// A core's policy.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a core, and nothing is allocated to switch")]
pub(super) enum CorePolicy {
    RoundRobin(RoundRobin<MOST_TASKS>),
    Pinned(Pinned),
}

/// Calls the policy, whichever it is.
macro_rules! each {
    ($self:ident, $policy:ident => $call:expr) => {
        match $self {
            Self::RoundRobin($policy) => $call,
            Self::Pinned($policy) => $call,
        }
    };
}

impl CorePolicy {
    /// Turns of a length that is set at boot.
    pub(super) const fn new() -> Self {
        Self::RoundRobin(RoundRobin::new(Nanos(u64::MAX)))
    }

    /// Another policy, for a core without tasks.
    pub(super) const fn of(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::RoundRobin { quantum } => Self::RoundRobin(RoundRobin::new(Nanos(quantum))),
            PolicyKind::Pinned => Self::Pinned(Pinned::new()),
        }
    }

    pub(super) fn add(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.add(task))
    }

    pub(super) fn remove(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.remove(task))
    }

    pub(super) fn block(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.block(task))
    }

    pub(super) fn wake(&mut self, task: TaskId) -> Result<bool> {
        each!(self, policy => policy.wake(task))
    }

    #[inline]
    pub(super) fn yield_current(&mut self) {
        each!(self, policy => policy.yield_current());
    }

    #[inline]
    pub(super) fn pick_next(&mut self, now: u64) -> Option<TaskId> {
        each!(self, policy => policy.pick_next(Nanos(now)))
    }

    pub(super) fn on_tick(&self, now: u64) -> bool {
        each!(self, policy => policy.on_tick(Nanos(now)))
    }

    #[inline]
    pub(super) fn next_deadline(&self, now: u64) -> Option<u64> {
        each!(self, policy => policy.next_deadline(Nanos(now))).map(|at| at.0)
    }

    #[inline]
    pub(super) fn runnable(&self) -> usize {
        each!(self, policy => policy.runnable())
    }
}
