//! What holds for every policy.

use proptest::prelude::*;
use sched_policies::{Nanos, Policy, PolicyError, Result, TaskId};
use std::collections::BTreeMap;

/// What can happen to any policy. Not all of it makes sense.
#[derive(Clone, Debug)]
pub enum Op {
    Add(u32),
    Remove(u32),
    Block(u32),
    Wake(u32),
    Yield,
    Advance,
    Pick,
    /// Other calls of the policy.
    Set(u32, u64),
}

/// Operations, and how much later the next one is. Numbers go up to one more than there is room for.
pub fn ops(capacity: usize, longest: u64) -> impl Strategy<Value = Vec<(Op, u64)>> {
    let task = 0..=capacity as u32;
    let op = prop_oneof![
        3 => task.clone().prop_map(Op::Add),
        1 => task.clone().prop_map(Op::Remove),
        2 => task.clone().prop_map(Op::Block),
        4 => task.clone().prop_map(Op::Wake),
        1 => Just(Op::Yield),
        1 => Just(Op::Advance),
        6 => Just(Op::Pick),
        2 => (task, any::<u64>()).prop_map(|(task, value)| Op::Set(task, value)),
    ];
    prop::collection::vec((op, 0..longest), 0..150)
}

/// What the trait promises of a policy that is in some state at `now`.
pub fn laws<P: Policy + Clone>(policy: &P, now: Nanos) -> Result<(), TestCaseError> {
    let (due, deadline) = (policy.on_tick(now), policy.next_deadline(now));
    let picked = policy.clone().pick_next(now);
    if due {
        prop_assert_eq!(deadline, Some(now), "what is due is due now");
    } else {
        prop_assert_eq!(picked, policy.current(), "nothing is due, so nothing changes");
        prop_assert!(
            deadline.is_none_or(|deadline| deadline > now || now.0 == u64::MAX),
            "{deadline:?} is a storm"
        );
    }
    if let Some(current) = policy.current() {
        prop_assert!(policy.clone().block(current).is_ok(), "the current task is known");
    }
    if picked.is_some() {
        let mut after = policy.clone();
        after.pick_next(now);
        prop_assert!(after.runnable() > 0);
        prop_assert_eq!(after.current(), picked);
    }
    Ok(())
}

/// Which tasks there are, and whether they are runnable: what all policies have to agree on.
#[derive(Default)]
pub struct Tasks(pub BTreeMap<u32, bool>);

impl Tasks {
    pub fn add(&mut self, task: u32, capacity: usize) -> Result {
        if task as usize >= capacity {
            return Err(PolicyError::NoRoom(TaskId(task)));
        }
        if self.0.contains_key(&task) {
            return Err(PolicyError::AlreadyThere(TaskId(task)));
        }
        self.0.insert(task, true);
        Ok(())
    }

    pub fn remove(&mut self, task: u32) -> Result {
        self.0.remove(&task).map(drop).ok_or(PolicyError::Unknown(TaskId(task)))
    }

    pub fn set(&mut self, task: u32, runnable: bool) -> Result<bool> {
        let state = self.0.get_mut(&task).ok_or(PolicyError::Unknown(TaskId(task)))?;
        Ok(std::mem::replace(state, runnable) != runnable)
    }
}

/// Runs operations against a policy. Every answer has to be right, every state lawful.
pub fn check<P: Policy + Clone>(
    mut policy: P,
    ops: Vec<(Op, u64)>,
    capacity: usize,
    set: impl Fn(&mut P, &Tasks, TaskId, u64, Nanos) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut tasks = Tasks::default();
    let mut now = Nanos(0);
    for (op, later) in ops {
        now = now.saturating_add(Nanos(later));
        match op {
            Op::Add(task) => prop_assert_eq!(policy.add(TaskId(task)), tasks.add(task, capacity)),
            Op::Remove(task) => prop_assert_eq!(policy.remove(TaskId(task)), tasks.remove(task)),
            Op::Block(task) => prop_assert_eq!(policy.block(TaskId(task)), tasks.set(task, false).map(drop)),
            Op::Wake(task) => prop_assert_eq!(policy.wake(TaskId(task)), tasks.set(task, true)),
            Op::Yield => policy.yield_current(),
            Op::Advance => policy.advance(now),
            Op::Pick => {
                let picked = policy.pick_next(now);
                prop_assert_eq!(policy.current(), picked);
                // At the end of time all that is to come is now.
                prop_assert!(!policy.on_tick(now) || now.0 == u64::MAX, "asked twice at the same moment");
                prop_assert!(
                    picked.is_none_or(|task| tasks.0.get(&task.0) == Some(&true)),
                    "{picked:?} runs"
                );
            }
            Op::Set(task, value) => set(&mut policy, &tasks, TaskId(task), value, now)?,
        }
        prop_assert!(policy.current().is_none_or(|task| tasks.0.get(&task.0) == Some(&true)));
        prop_assert!(policy.runnable() <= tasks.0.values().filter(|runnable| **runnable).count());
        laws(&policy, now)?;
    }
    Ok(())
}
