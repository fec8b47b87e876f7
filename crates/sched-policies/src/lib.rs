//! Scheduling policies as plain data structures: no kernel, no clock, no allocation.
//!
//! A policy decides which task a core runs next, and when it next has to be asked. The kernel reports to it
//! what happens (a task is added, blocks, wakes, yields, goes away; time passes), asks [`Policy::pick_next`]
//! whenever the choice may have changed, and arms its timer for [`Policy::next_deadline`]. Where that is
//! `None` no tick is needed: a task that is alone on its core is never interrupted by its scheduler.
//!
//! ```
//! use sched_policies::{Nanos, Policy, RoundRobin, TaskId};
//!
//! const MS: u64 = 1_000_000;
//! let mut core: RoundRobin<8> = RoundRobin::new(Nanos(100 * MS));
//! core.add(TaskId(0))?;
//! assert_eq!(core.pick_next(Nanos(0)), Some(TaskId(0)));
//! assert_eq!(core.next_deadline(Nanos(0)), None); // alone: tickless
//! core.add(TaskId(1))?;
//! assert_eq!(core.next_deadline(Nanos(40 * MS)), Some(Nanos(100 * MS)));
//! assert!(core.on_tick(Nanos(100 * MS)));
//! assert_eq!(core.pick_next(Nanos(100 * MS)), Some(TaskId(1)));
//! # Ok::<(), sched_policies::PolicyError>(())
//! ```
//!
//! * [`RoundRobin`]: tasks take turns, in the order in which they became runnable, with a long quantum.
//! * [`Pinned`]: one task owns the core.
//! * [`Fifo`]: fixed priorities, first in, first out among equals.
//! * [`Edf`]: reserved bandwidth, earliest deadline first, with admission control; other tasks in the
//!   background.
//! * [`Share`]: processor time in proportion to weights.
//! * [`Gang`]: the virtual processors of a VM run at the same time on all their cores, as [`Gangs`] says.
//!
//! One policy object serves one core, so there are no locks. Operations of [`RoundRobin`], [`Pinned`] and
//! [`Fifo`] take constant time, whatever the number of tasks. [`Edf`], [`Share`] and [`Gang`] look at each
//! ready task once or twice.
#![no_std]
#![forbid(unsafe_code)]

mod edf;
mod fifo;
mod gang;
mod levels;
mod pinned;
mod queue;
mod round_robin;
mod share;

use core::{error, fmt};

pub use edf::{AdmissionError, Bandwidth, Edf, Reservation};
pub use fifo::{DEFAULT_PRIORITY, Fifo, Priority};
pub use gang::{Column, CoreId, EmptyPlace, Gang, GangError, GangId, Gangs, Rotation};
pub use pinned::Pinned;
pub use round_robin::{DEFAULT_QUANTUM, RoundRobin};
pub use share::{DEFAULT_WEIGHT, Share};

/// What a policy knows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Blocked,
    /// Ready or current.
    Runnable,
}

/// A task's number on its core: an index, below the capacity of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

/// Nanoseconds: a length of time, or a moment, counted from any fixed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The moment `length` later, or the last one there is.
    #[must_use]
    pub const fn saturating_add(self, length: Self) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The time since `earlier`; 0 if that is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Reason why a policy refuses a change; nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The policy has no room for this task: its number is not below the capacity, or another task owns the
    /// core.
    NoRoom(TaskId),
    /// The task is there already.
    AlreadyThere(TaskId),
    /// The task was not added, or has been removed.
    Unknown(TaskId),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom(task) => write!(f, "the scheduling policy has no room for task {}", task.0),
            Self::AlreadyThere(task) => write!(f, "task {} is there already", task.0),
            Self::Unknown(task) => write!(f, "there is no task {}", task.0),
        }
    }
}

impl error::Error for PolicyError {}

/// A result of [`Policy`].
pub type Result<T = (), E = PolicyError> = core::result::Result<T, E>;

/// Which task a core runs.
///
/// A task is unknown, blocked, ready, or current. At most one is current: the one that [`Self::pick_next`]
/// chose last, until it yields, blocks, is removed, or another is chosen.
pub trait Policy {
    /// Makes a task known; it is ready.
    ///
    /// # Errors
    /// [`PolicyError::NoRoom`], [`PolicyError::AlreadyThere`].
    fn add(&mut self, task: TaskId) -> Result;

    /// Forgets a task, whatever its state.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    fn remove(&mut self, task: TaskId) -> Result;

    /// The task waits for something. Nothing changes if it does already.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    fn block(&mut self, task: TaskId) -> Result;

    /// What the task waited for has happened: it is ready. Returns whether it was blocked; if not, nothing
    /// changes.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    fn wake(&mut self, task: TaskId) -> Result<bool>;

    /// [`Self::wake`] at `now`. Returns whether the task may preempt the current one, so that
    /// [`Self::pick_next`] has to be asked.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    fn wake_preempts(&mut self, task: TaskId, now: Nanos) -> Result<bool> {
        let woken = self.wake(task)?;
        self.advance(now);
        Ok(woken && self.on_tick(now))
    }

    /// The current task lets all others go first; there is no current task until the next one is picked.
    fn yield_current(&mut self);

    /// It is `now`: accounts for the time since the last call of this or [`Self::pick_next`], which does so
    /// too. What is reported to the policy in between counts as happening at the later of the two: so a task
    /// that blocks pays for the time until then. Policies that do not keep accounts ignore it.
    fn advance(&mut self, now: Nanos) {
        let _ = now;
    }

    /// Chooses the task to run from `now` on: the current one, if it may go on. `None`: no task may run now.
    fn pick_next(&mut self, now: Nanos) -> Option<TaskId>;

    /// The timer went off, or any other moment: whether [`Self::pick_next`] has to be asked, because it may
    /// choose another task. While this is false it would choose the current one.
    fn on_tick(&self, now: Nanos) -> bool;

    /// When the policy has to be asked again if nothing else happens: not before `now`, and later if
    /// [`Self::on_tick`] is false. `None`: never, so no timer is needed. Holds while the core idles, too.
    fn next_deadline(&self, now: Nanos) -> Option<Nanos>;

    /// The current task.
    fn current(&self) -> Option<TaskId>;

    /// How many tasks are ready or current. One that has to let time pass before it may run (its budget is
    /// used up, or another gang has the core) is not counted, as of the last [`Self::advance`] or
    /// [`Self::pick_next`].
    fn runnable(&self) -> usize;
}
