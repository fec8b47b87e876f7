//! [`Fifo`] against lists, one for each priority.

mod common;

use common::{Op, check, ops};
use proptest::prelude::*;
use sched_policies::{DEFAULT_PRIORITY, Fifo, Nanos, Policy, PolicyError, Priority, TaskId};
use std::collections::{BTreeMap, VecDeque};

const N: usize = 7;
const NOW: Nanos = Nanos(0);

/// POSIX's thread lists. The running thread is in its list.
#[derive(Default)]
struct Model {
    priorities: BTreeMap<u32, u8>,
    lists: BTreeMap<u8, VecDeque<u32>>,
    current: Option<u32>,
}

impl Model {
    fn head(&self) -> Option<u32> {
        self.lists.values().rev().find_map(|list| list.front().copied())
    }

    fn is_runnable(&self, task: u32) -> bool {
        self.lists.values().any(|list| list.contains(&task))
    }

    fn take(&mut self, task: u32) {
        self.lists.values_mut().for_each(|list| list.retain(|other| *other != task));
    }

    fn append(&mut self, task: u32) {
        let priority = self.priorities[&task];
        self.lists.entry(priority).or_default().push_back(task);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 1500 }))]

    #[test]
    fn fifo_matches_model(ops in ops(N, 2), levels in 1u64..5) {
        let mut policy: Fifo<N> = Fifo::new();
        let mut model = Model::default();
        for (op, _) in ops {
            match op {
                Op::Add(task) => {
                    let added = policy.add(TaskId(task)).is_ok();
                    prop_assert_eq!(added, (task as usize) < N && !model.priorities.contains_key(&task));
                    if added {
                        model.priorities.insert(task, DEFAULT_PRIORITY.0);
                        model.append(task);
                    }
                }
                Op::Remove(task) => {
                    prop_assert_eq!(policy.remove(TaskId(task)).is_ok(), model.priorities.remove(&task).is_some());
                    model.take(task);
                    model.current = model.current.filter(|current| *current != task);
                }
                Op::Block(task) => {
                    prop_assert_eq!(policy.block(TaskId(task)).is_ok(), model.priorities.contains_key(&task));
                    model.take(task);
                    model.current = model.current.filter(|current| *current != task);
                }
                Op::Wake(task) => {
                    let wakes = model.priorities.contains_key(&task) && !model.is_runnable(task);
                    let head = model.head();
                    if wakes {
                        model.append(task);
                    }
                    let preempts = policy.wake_preempts(TaskId(task), NOW);
                    prop_assert_eq!(preempts.is_ok(), model.priorities.contains_key(&task));
                    // It does if it goes before the running task, which is the head of its list.
                    if wakes && model.current == head {
                        prop_assert_eq!(preempts, Ok(model.head() == Some(task)));
                    }
                }
                Op::Yield => {
                    policy.yield_current();
                    if let Some(task) = model.current.take() {
                        model.take(task);
                        model.append(task);
                    }
                }
                Op::Advance => policy.advance(NOW),
                Op::Pick => {
                    model.current = model.head();
                    prop_assert_eq!(policy.pick_next(NOW), model.current.map(TaskId));
                }
                Op::Set(task, value) => {
                    // Few levels, but any of the 256, so that tasks meet.
                    let to = (value % levels * 255 / levels) as u8;
                    let known = model.priorities.get(&task).copied();
                    prop_assert_eq!(policy.set_priority(TaskId(task), Priority(to)).is_ok(), known.is_some());
                    if let Some(before) = known {
                        model.priorities.insert(task, to);
                        if model.is_runnable(task) && before != to {
                            model.take(task);
                            let list = model.lists.entry(to).or_default();
                            if to > before { list.push_back(task) } else { list.push_front(task) }
                        }
                    }
                }
            }
            for task in 0..=N as u32 {
                let priority = model.priorities.get(&task).map(|level| Priority(*level));
                prop_assert_eq!(policy.priority(TaskId(task)).ok(), priority);
            }
            prop_assert_eq!(policy.current(), model.current.map(TaskId));
            prop_assert_eq!(policy.runnable(), model.lists.values().map(VecDeque::len).sum::<usize>());
            prop_assert_eq!(policy.on_tick(NOW), model.head() != model.current);
            common::laws(&policy, NOW)?;
        }
        // No task is lost: they come up in order.
        while let Some(task) = model.head() {
            prop_assert_eq!(policy.pick_next(NOW), Some(TaskId(task)));
            policy.block(TaskId(task)).unwrap();
            model.take(task);
        }
        prop_assert_eq!(policy.pick_next(NOW), None);
    }

    #[test]
    fn fifo_keeps_policy_invariants(ops in ops(N, u64::MAX / 50)) {
        check(Fifo::<N>::new(), ops, N, |policy, tasks, task, value, _| {
            let known = tasks.0.contains_key(&task.0);
            prop_assert_eq!(policy.set_priority(task, Priority(value as u8)).is_ok(), known);
            Ok(())
        })?;
    }
}

/// Tasks 0, 1 and 2 of priority 5, and task 3 of priority 9, which is blocked.
fn four() -> Fifo<8> {
    let mut policy = Fifo::default();
    for task in 0..3 {
        policy.add_with(TaskId(task), Priority(5)).unwrap();
    }
    policy.add_with(TaskId(3), Priority(9)).unwrap();
    policy.block(TaskId(3)).unwrap();
    policy
}

#[test]
fn preempted_task_stays_at_head() {
    let mut policy = four();
    assert_eq!(policy.pick_next(NOW), Some(TaskId(0)));
    assert_eq!(policy.wake_preempts(TaskId(3), NOW), Ok(true));
    assert_eq!(policy.pick_next(NOW), Some(TaskId(3)));
    policy.block(TaskId(3)).unwrap();
    assert_eq!(policy.pick_next(NOW), Some(TaskId(0)));
}

#[test]
fn yield_moves_to_tail() {
    let mut policy = four();
    for turn in 0..7 {
        assert_eq!(policy.pick_next(NOW), Some(TaskId(turn % 3)));
        policy.yield_current();
    }
}

#[test]
fn equal_priorities_do_not_preempt() {
    let mut policy = four();
    policy.block(TaskId(1)).unwrap();
    policy.pick_next(NOW);
    assert_eq!(policy.wake_preempts(TaskId(1), NOW), Ok(false));
    // It was ready already.
    assert_eq!(policy.wake_preempts(TaskId(1), NOW), Ok(false));
    assert_eq!(policy.next_deadline(NOW), None);
    policy.block(TaskId(0)).unwrap();
    assert_eq!(policy.pick_next(NOW), Some(TaskId(2)));
}

#[test]
fn priorities_change_at_run_time() {
    let mut policy = four();
    policy.pick_next(NOW);
    policy.set_priority(TaskId(2), Priority(6)).unwrap();
    assert_eq!(policy.next_deadline(Nanos(7)), Some(Nanos(7)));
    assert_eq!(policy.pick_next(NOW), Some(TaskId(2)));
    // Lowered, it is still before its new equals.
    policy.set_priority(TaskId(2), Priority(5)).unwrap();
    assert_eq!(policy.pick_next(NOW), Some(TaskId(2)));
    policy.set_priority(TaskId(2), Priority(4)).unwrap();
    assert_eq!(policy.pick_next(NOW), Some(TaskId(0)));
    assert_eq!(policy.set_priority(TaskId(7), Priority(1)), Err(PolicyError::Unknown(TaskId(7))));
    assert_eq!(policy.add_with(TaskId(8), Priority(1)), Err(PolicyError::NoRoom(TaskId(8))));
    assert_eq!(policy.add_with(TaskId(0), Priority(1)), Err(PolicyError::AlreadyThere(TaskId(0))));
}

#[test]
fn all_levels_are_there() {
    let mut policy: Fifo<256> = Fifo::new();
    for level in 0..=u8::MAX {
        let order = level.wrapping_mul(91);
        policy.add_with(TaskId(order.into()), Priority(order)).unwrap();
    }
    for level in (0..=u8::MAX).rev() {
        assert_eq!(policy.pick_next(NOW), Some(TaskId(level.into())));
        policy.remove(TaskId(level.into())).unwrap();
    }
    assert_eq!(policy.pick_next(NOW), None);
}
