//! What a core's scheduling policy goes by: Linux' calls for the thread, one of Margay's own for the core.
//!
//! Which policy there is is the core's, not the thread's: a call that asks for another one is `EPERM`.

use super::threads::find;
use crate::{
    arch::UserFrame,
    percore::CoreIndex,
    task::{self, ParameterError, Parameters, PolicyKind, TaskError},
    time,
    user::{
        copy,
        errno::{Errno, Result},
        thread::UserThread,
    },
};
use core::num::NonZeroU32;
use sched_policies::{Nanos, Reservation};

const SCHED_OTHER: u64 = 0;
const SCHED_FIFO: u64 = 1;
const SCHED_DEADLINE: u32 = 6;
/// Priorities of `SCHED_FIFO`, as in Linux.
const PRIORITIES: core::ops::RangeInclusive<u32> = 1..=99;
const PRIO_PROCESS: u64 = 0;

impl From<ParameterError> for Errno {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::OtherPolicy => Self::EPERM,
            ParameterError::Invalid => Self::EINVAL,
            ParameterError::Full => Self::EBUSY,
        }
    }
}

/// Shorter turns would be nothing but interrupts.
const LEAST_QUANTUM_NS: u64 = 100_000;

/// `policy(core, kind, quantum_ns)`: another policy for a core, with the tasks that it has. Kinds are 0 for
/// round-robin, 1 pinned, 2 fifo, 3 share, 4 edf.
pub fn set_policy(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [core, kind, quantum, ..] = frame.x;
    let quantum = time::frequency().ns_to_ticks(quantum.max(LEAST_QUANTUM_NS));
    let kind = match kind {
        0 => PolicyKind::RoundRobin { quantum },
        1 => PolicyKind::Pinned,
        2 => PolicyKind::Fifo,
        3 => PolicyKind::Share { quantum },
        4 => PolicyKind::Edf { quantum },
        _ => return Err(Errno::EINVAL),
    };
    let core = u16::try_from(core).map_err(|_| Errno::EINVAL)?;
    task::set_policy(CoreIndex(core), kind).map(|()| 0).map_err(|error| match error {
        TaskError::Policy(_) => Errno::EBUSY,
        TaskError::NoMemory => Errno::ENOMEM,
    })
}

fn set_priority(thread: &UserThread, id: u64, policy: u64, parameters: u64) -> Result<u64> {
    let thread = find(thread, id)?;
    let priority = copy::load_u32(parameters)?;
    match policy {
        SCHED_OTHER if priority == 0 => match thread.set_parameters(Parameters::Priority(0)) {
            // It is what every thread is unless something else was asked for.
            Ok(()) | Err(ParameterError::OtherPolicy) => Ok(0),
            Err(error) => Err(error.into()),
        },
        SCHED_FIFO if PRIORITIES.contains(&priority) => {
            thread.set_parameters(Parameters::Priority(priority as u8))?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_setscheduler(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, policy, parameters, ..] = frame.x;
    set_priority(thread, id, policy, parameters)
}

pub fn sched_setparam(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, parameters, ..] = frame.x;
    let policy = if copy::load_u32(parameters)? == 0 { SCHED_OTHER } else { SCHED_FIFO };
    set_priority(thread, id, policy, parameters)
}

/// The policy that was set for the thread, where it is now: `SCHED_OTHER` unless its core's policy has
/// priorities or reservations, and it has one.
pub fn sched_getscheduler(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    Ok(match find(thread, frame.x[0])?.parameters() {
        Some(Parameters::Priority(_)) => SCHED_FIFO,
        Some(Parameters::Reservation(_)) => u64::from(SCHED_DEADLINE),
        _ => SCHED_OTHER,
    })
}

pub fn sched_getparam(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let priority = match find(thread, frame.x[0])?.parameters() {
        Some(Parameters::Priority(priority)) => u32::from(priority),
        _ => 0,
    };
    copy::write(frame.x[1], &priority)?;
    Ok(0)
}

/// `struct sched_attr`, of which `SCHED_DEADLINE` is taken.
pub fn sched_setattr(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, attributes, ..] = frame.x;
    let [_, policy] = copy::read::<[u32; 2]>(attributes)?;
    if policy != SCHED_DEADLINE {
        return Err(Errno::EINVAL);
    }
    let [runtime, deadline, period] = copy::read::<[u64; 3]>(attributes.wrapping_add(24))?;
    let ticks = |ns: u64| Nanos(time::frequency().ns_to_ticks(ns));
    let period = if period == 0 { deadline } else { period };
    let reservation =
        Reservation { runtime: ticks(runtime), deadline: ticks(deadline), period: ticks(period) };
    find(thread, id)?.set_parameters(Parameters::Reservation(Some(reservation)))?;
    Ok(0)
}

/// The nice value becomes a weight as in Linux: 1024 for 0, a quarter more or less for each step.
pub fn setpriority(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [which, id, nice, ..] = frame.x;
    if which != PRIO_PROCESS {
        return Err(Errno::EINVAL);
    }
    let nice = (nice as i32).clamp(-20, 19);
    let mut weight: u64 = 1024 << 10;
    for _ in 0..nice.unsigned_abs() {
        weight = if nice < 0 { weight * 5 / 4 } else { weight * 4 / 5 };
    }
    let weight = NonZeroU32::new((weight >> 10) as u32).ok_or(Errno::EINVAL)?;
    match find(thread, id)?.set_parameters(Parameters::Weight(weight)) {
        // Without shares it is a wish that nothing heeds.
        Ok(()) | Err(ParameterError::OtherPolicy) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

pub fn priority_max(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    limit(frame.x[0], *PRIORITIES.end())
}

pub fn priority_min(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    limit(frame.x[0], *PRIORITIES.start())
}

fn limit(policy: u64, of_fifo: u32) -> Result<u64> {
    match policy {
        SCHED_OTHER => Ok(0),
        SCHED_FIFO => Ok(u64::from(of_fifo)),
        _ => Err(Errno::EINVAL),
    }
}
