//! The policy of a core: one of those in `sched-policies`.
//!
//! Policies only compare and add times, so the kernel gives them ticks of its counter where they say
//! nanoseconds: that saves a division on every switch.

use alloc::boxed::Box;
use core::{fmt, num::NonZeroU32};
use fallible::{OutOfMemory, try_box};
use sched_policies::{
    Column, Edf, EmptyPlace, Fifo, Gang, GangId, Nanos, Pinned, Policy, Priority, Reservation, Result,
    RoundRobin, Share, TaskId,
};

/// How many tasks a core can have.
pub(super) const MOST_TASKS: usize = 256;
/// How many it can have under policies that know more of each task: they are made on a stack.
const FEWER_TASKS: usize = 64;
/// How many gangs can take turns on a core.
pub(crate) const GANG_SLOTS: usize = 8;

/// Which policy a core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Tasks take turns, each for a quantum of so many ticks.
    RoundRobin {
        /// Ticks.
        quantum: u64,
    },
    /// One task owns the core; a second one is refused. The kernel's first task does not count.
    Pinned,
    /// Fixed priorities; equals in the order in which they became ready, without quanta.
    Fifo,
    /// Time in proportion to weights.
    Share {
        /// Ticks.
        quantum: u64,
    },
    /// Reservations, earliest deadline first; other tasks in the background.
    Edf {
        /// Of those in the background, in ticks.
        quantum: u64,
    },
    /// Gangs, each on all of its cores at the same time; tasks without a place share the core with them.
    Gang {
        /// Of gangs, as in the core's column of the matrix, in ticks.
        quantum: u64,
    },
}

/// Scheduling parameters of a task, each used by one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Of [`PolicyKind::Fifo`]: the higher number goes first.
    Priority(u8),
    /// Of [`PolicyKind::Share`].
    Weight(NonZeroU32),
    /// Of [`PolicyKind::Edf`], in ticks; or none.
    Reservation(Option<Reservation>),
    /// Of [`PolicyKind::Gang`]: the gang that it is a member of.
    Gang(GangId),
}

/// Why a task is not given parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// The core has another policy.
    OtherPolicy,
    /// They make no sense.
    Invalid,
    /// There is not so much of the core left.
    Full,
}

/// What a core has to know of the matrix of gangs.
pub(crate) type GangColumn = Column<GANG_SLOTS>;

/// A core's policy. What is usual is in its place; the others, which know more of each task, are allocated.
#[expect(clippy::large_enum_variant, reason = "one a core")]
pub(super) enum CorePolicy {
    RoundRobin(RoundRobin<MOST_TASKS>),
    Pinned(Pinned),
    Other(Box<dyn WithParameters>),
}

impl fmt::Debug for CorePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin(_) => "round-robin",
            Self::Pinned(_) => "pinned",
            Self::Other(_) => "with parameters",
        })
    }
}

/// What a yield comes to.
pub(super) enum PassOn {
    /// Nobody else is ready.
    Alone,
    /// Another task is current since now.
    To {
        next: TaskId,
        now: u64,
        /// When its turn is over.
        until: u64,
        /// See [`CorePolicy::slack`].
        slack: u64,
    },
    /// Nothing has changed: [`CorePolicy::yield_current`] and [`CorePolicy::pick_next`].
    TheLongWay,
}

/// A policy whose tasks have parameters.
pub(super) trait WithParameters: Policy + Send {
    /// Gives a task parameters.
    fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given;

    /// A task's parameters, if it was given some that Linux has a call for.
    #[cfg(programs)]
    fn parameters(&self, _task: TaskId) -> Option<Parameters> {
        None
    }

    /// Sets a new gang matrix on the core, at `now`.
    fn set_column(&mut self, _column: &GangColumn, _now: Nanos) -> Given {
        Err(ParameterError::OtherPolicy)
    }
}

type Given = core::result::Result<(), ParameterError>;

fn invalid<E>(_: E) -> ParameterError {
    ParameterError::Invalid
}

impl WithParameters for Fifo<FEWER_TASKS> {
    fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given {
        let Parameters::Priority(priority) = parameters else { return Err(ParameterError::OtherPolicy) };
        self.set_priority(task, Priority(priority)).map_err(invalid)
    }

    #[cfg(programs)]
    fn parameters(&self, task: TaskId) -> Option<Parameters> {
        self.priority(task)
            .ok()
            .filter(|priority| priority.0 > 0)
            .map(|priority| Parameters::Priority(priority.0))
    }
}

impl WithParameters for Share<FEWER_TASKS> {
    fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given {
        let Parameters::Weight(weight) = parameters else { return Err(ParameterError::OtherPolicy) };
        self.set_weight(task, weight).map_err(invalid)
    }
}

impl WithParameters for Edf<FEWER_TASKS> {
    fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given {
        let Parameters::Reservation(reservation) = parameters else {
            return Err(ParameterError::OtherPolicy);
        };
        if reservation.is_some_and(|reservation| !reservation.is_valid()) {
            return Err(ParameterError::Invalid);
        }
        self.reserve(task, reservation).map_err(|_| ParameterError::Full)
    }

    #[cfg(programs)]
    fn parameters(&self, task: TaskId) -> Option<Parameters> {
        let reservation = self.reservation(task).ok().flatten()?;
        Some(Parameters::Reservation(Some(reservation)))
    }
}

impl WithParameters for Gang<FEWER_TASKS, GANG_SLOTS> {
    fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given {
        let Parameters::Gang(gang) = parameters else { return Err(ParameterError::OtherPolicy) };
        self.set_gang(task, Some(gang)).map_err(invalid)
    }

    fn set_column(&mut self, column: &GangColumn, now: Nanos) -> Given {
        Self::set_column(self, *column, now);
        Ok(())
    }
}

const fn slack_of(quantum: Nanos) -> u64 {
    quantum.0 / 16
}

/// Calls the policy, whichever it is.
macro_rules! each {
    ($self:ident, $policy:ident => $call:expr) => {
        match $self {
            Self::RoundRobin($policy) => $call,
            Self::Pinned($policy) => $call,
            Self::Other($policy) => $call,
        }
    };
}

impl CorePolicy {
    /// Turns of a length that is set at boot.
    pub(super) const fn new() -> Self {
        Self::RoundRobin(RoundRobin::new(Nanos(u64::MAX)))
    }

    /// A policy without tasks, for a core that may have a task of the kernel's own with this number.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn of(
        kind: PolicyKind,
        housekeeping: Option<TaskId>,
    ) -> core::result::Result<Self, OutOfMemory> {
        Ok(match kind {
            PolicyKind::RoundRobin { quantum } => Self::RoundRobin(RoundRobin::new(Nanos(quantum))),
            PolicyKind::Pinned => Self::Pinned(Pinned::with_housekeeping(housekeeping)),
            PolicyKind::Fifo => Self::Other(try_box(Fifo::new())?),
            PolicyKind::Share { quantum } => Self::Other(try_box(Share::new(Nanos(quantum)))?),
            PolicyKind::Edf { quantum } => Self::Other(try_box(Edf::new(Nanos(quantum)))?),
            // The kernel's own tasks are outsiders, so no gang can keep their core from them.
            PolicyKind::Gang { quantum } => {
                Self::Other(try_box(Gang::with_quantum(EmptyPlace::ShareWithOutsiders, Nanos(quantum)))?)
            }
        })
    }

    /// Gives a task parameters.
    pub(super) fn set_parameters(&mut self, task: TaskId, parameters: Parameters) -> Given {
        match self {
            Self::RoundRobin(_) | Self::Pinned(_) => Err(ParameterError::OtherPolicy),
            Self::Other(policy) => policy.set_parameters(task, parameters),
        }
    }

    /// See [`WithParameters::parameters`].
    #[cfg(programs)]
    pub(super) fn parameters(&self, task: TaskId) -> Option<Parameters> {
        match self {
            Self::RoundRobin(_) | Self::Pinned(_) => None,
            Self::Other(policy) => policy.parameters(task),
        }
    }

    /// Sets a new gang matrix on the core, at `now`.
    pub(super) fn set_column(&mut self, column: &GangColumn, now: u64) -> Given {
        match self {
            Self::RoundRobin(_) | Self::Pinned(_) => Err(ParameterError::OtherPolicy),
            Self::Other(policy) => policy.set_column(column, Nanos(now)),
        }
    }

    /// Accounts for the time until now.
    #[inline(always)]
    pub(super) fn advance(&mut self, now: u64) {
        each!(self, policy => policy.advance(Nanos(now)));
    }

    pub(super) fn add(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.add(task))
    }

    pub(super) fn remove(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.remove(task))
    }

    #[inline(always)]
    pub(super) fn block(&mut self, task: TaskId) -> Result {
        each!(self, policy => policy.block(task))
    }

    #[inline(always)]
    pub(super) fn wake(&mut self, task: TaskId) -> Result<bool> {
        each!(self, policy => policy.wake(task))
    }

    #[inline(always)]
    pub(super) fn yield_current(&mut self) {
        each!(self, policy => policy.yield_current());
    }

    /// Returns whether another task may run if the running one yields. Without a current task the idle task
    /// runs.
    fn has_others(&self) -> bool {
        each!(self, policy => policy.runnable() > usize::from(policy.current().is_some()))
    }

    /// The fast way of a yield, for what is usual.
    #[inline(always)]
    pub(super) fn pass_on(&mut self, now: impl FnOnce() -> u64) -> PassOn {
        let Self::RoundRobin(policy) = self else {
            return if self.has_others() { PassOn::TheLongWay } else { PassOn::Alone };
        };
        if !policy.has_ready() {
            return PassOn::Alone;
        }
        let now = now();
        match policy.pass_on(Nanos(now)) {
            Some(next) => {
                PassOn::To { next, now, until: policy.quantum_end().0, slack: slack_of(policy.quantum()) }
            }
            None => PassOn::TheLongWay,
        }
    }

    #[inline(always)]
    pub(super) fn pick_next(&mut self, now: u64) -> Option<TaskId> {
        each!(self, policy => policy.pick_next(Nanos(now)))
    }

    pub(super) fn on_tick(&self, now: u64) -> bool {
        each!(self, policy => policy.on_tick(Nanos(now)))
    }

    #[inline(always)]
    pub(super) fn next_deadline(&self, now: u64) -> Option<u64> {
        each!(self, policy => policy.next_deadline(Nanos(now))).map(|at| at.0)
    }

    /// How much later than a turn's end the timer may be: where turns end early again and again, it is then
    /// seldom set.
    #[inline(always)]
    pub(super) fn slack(&self) -> u64 {
        match self {
            Self::RoundRobin(policy) => slack_of(policy.quantum()),
            Self::Pinned(_) | Self::Other(_) => 0,
        }
    }

    #[inline(always)]
    pub(super) fn runnable(&self) -> usize {
        each!(self, policy => policy.runnable())
    }
}
