//! What a task may reserve, and why it may not.

use crate::{Nanos, PolicyError, TaskId};
use core::{error, fmt};

/// Processor time that a task is promised: in each period, `runtime` within `deadline` of the period's start.
/// As `sched_runtime`, `sched_deadline` and `sched_period` of Linux's `SCHED_DEADLINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// The budget of a period. Not 0.
    pub runtime: Nanos,
    /// The relative deadline. Not before `runtime`.
    pub deadline: Nanos,
    /// Not shorter than `deadline`.
    pub period: Nanos,
}

impl Reservation {
    /// A reservation whose deadline is the end of the period.
    pub const fn implicit(runtime: Nanos, period: Nanos) -> Self {
        Self { runtime, deadline: period, period }
    }

    /// Returns whether 0 < runtime ≤ deadline ≤ period.
    pub const fn is_valid(&self) -> bool {
        0 < self.runtime.0 && self.runtime.0 <= self.deadline.0 && self.deadline.0 <= self.period.0
    }

    /// The share of the core that admission counts: runtime / deadline. The deadline is the shorter one of
    /// deadline and period.
    pub const fn bandwidth(&self) -> Bandwidth {
        Bandwidth::ratio(self.runtime.0, self.deadline.0)
    }
}

/// A share of a core, in parts of 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

impl Bandwidth {
    /// The whole core.
    pub const ONE: Self = Self(1 << 32);

    /// `part / whole`, rounded up, so that what is admitted by such numbers is never more than there is.
    /// Nothing for a `whole` of 0.
    pub const fn ratio(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self(0);
        }
        let parts = ((part as u128) << 32).div_ceil(whole as u128);
        Self(if parts > u64::MAX as u128 { u64::MAX } else { parts as u64 })
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(super) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Bandwidth {
    /// In percent, with three digits after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (u128::from(self.0) * 100_000) >> 32;
        write!(f, "{}.{:03} %", thousandths / 1000, thousandths % 1000)
    }
}

/// Why a reservation is refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionError {
    /// The task cannot be added, or is not there.
    Policy(PolicyError),
    /// Not 0 < runtime ≤ deadline ≤ period.
    Malformed(TaskId, Reservation),
    /// The task asks for more than is free.
    NoBandwidth {
        /// Whose reservation is refused.
        task: TaskId,
        /// What it asks for.
        wanted: Bandwidth,
        /// What is left up to the bound.
        free: Bandwidth,
    },
    /// The tasks that are there have more than the new bound.
    BoundTooLow {
        /// The bound that is refused.
        bound: Bandwidth,
        /// What has been reserved.
        reserved: Bandwidth,
    },
}

impl From<PolicyError> for AdmissionError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(error) => error.fmt(f),
            Self::Malformed(task, Reservation { runtime, deadline, period }) => write!(
                f,
                "task {} cannot reserve {} ns within {} ns of each {} ns: it must be 0 < runtime <= deadline <= period",
                task.0, runtime.0, deadline.0, period.0
            ),
            Self::NoBandwidth { task, wanted, free } => {
                write!(f, "task {} wants to reserve {wanted} of the core, and {free} is free", task.0)
            }
            Self::BoundTooLow { bound, reserved } => {
                write!(f, "the bound cannot be {bound} of the core: {reserved} is reserved")
            }
        }
    }
}

impl error::Error for AdmissionError {}
