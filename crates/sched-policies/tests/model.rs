//! The policies against models that are too simple to be wrong.

use proptest::prelude::*;
use sched_policies::{DEFAULT_QUANTUM, Nanos, Pinned, Policy, PolicyError, RoundRobin, TaskId};
use std::collections::{BTreeSet, VecDeque};

const N: usize = 6;

#[derive(Clone, Debug)]
enum Op {
    Add(u32),
    Remove(u32),
    Block(u32),
    Wake(u32),
    Yield,
    PassOn,
    Pick,
    Quantum(u64),
}

fn ops() -> impl Strategy<Value = Vec<(Op, u64)>> {
    // One task more than there is room for.
    let task = 0..=N as u32;
    let op = prop_oneof![
        3 => task.clone().prop_map(Op::Add),
        1 => task.clone().prop_map(Op::Remove),
        2 => task.clone().prop_map(Op::Block),
        3 => task.prop_map(Op::Wake),
        1 => Just(Op::Yield),
        2 => Just(Op::PassOn),
        6 => Just(Op::Pick),
        1 => (0u64..50).prop_map(Op::Quantum),
    ];
    prop::collection::vec((op, 0u64..40), 0..200)
}

/// Round robin with lists.
#[derive(Default)]
struct Model {
    blocked: BTreeSet<u32>,
    ready: VecDeque<u32>,
    current: Option<u32>,
    quantum: u64,
    end: u64,
}

impl Model {
    fn knows(&self, task: u32) -> bool {
        self.blocked.contains(&task) || self.ready.contains(&task) || self.current == Some(task)
    }

    fn take(&mut self, task: u32) -> Result<(), PolicyError> {
        if !self.knows(task) {
            return Err(PolicyError::Unknown(TaskId(task)));
        }
        self.blocked.remove(&task);
        self.ready.retain(|other| *other != task);
        self.current = self.current.filter(|current| *current != task);
        Ok(())
    }

    fn add(&mut self, task: u32) -> Result<(), PolicyError> {
        if task as usize >= N {
            return Err(PolicyError::NoRoom(TaskId(task)));
        }
        if self.knows(task) {
            return Err(PolicyError::AlreadyThere(TaskId(task)));
        }
        self.ready.push_back(task);
        Ok(())
    }

    fn wake(&mut self, task: u32) -> Result<bool, PolicyError> {
        if !self.knows(task) {
            return Err(PolicyError::Unknown(TaskId(task)));
        }
        let blocked = self.blocked.remove(&task);
        if blocked {
            self.ready.push_back(task);
        }
        Ok(blocked)
    }

    fn pick(&mut self, now: u64) -> Option<u32> {
        if let Some(current) = self.current
            && now >= self.end
        {
            self.ready.push_back(current);
            self.current = None;
        }
        if self.current.is_none()
            && let Some(next) = self.ready.pop_front()
        {
            self.current = Some(next);
            self.end = now + self.quantum;
        }
        self.current
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 2000 }))]

    #[test]
    fn round_robin_matches_model(ops in ops()) {
        let mut policy: RoundRobin<N> = RoundRobin::new(Nanos(20));
        let mut model = Model { quantum: 20, ..Model::default() };
        let mut now = 0;
        for (op, later) in ops {
            now += later;
            match op {
                Op::Add(task) => prop_assert_eq!(policy.add(TaskId(task)), model.add(task)),
                Op::Remove(task) => prop_assert_eq!(policy.remove(TaskId(task)), model.take(task)),
                Op::Block(task) => {
                    let taken = model.take(task);
                    if taken.is_ok() {
                        model.blocked.insert(task);
                    }
                    prop_assert_eq!(policy.block(TaskId(task)), taken);
                }
                Op::Wake(task) => prop_assert_eq!(policy.wake(TaskId(task)), model.wake(task)),
                Op::Yield => {
                    policy.yield_current();
                    model.ready.extend(model.current.take());
                }
                Op::PassOn => {
                    prop_assert_eq!(policy.has_ready(), !model.ready.is_empty());
                    let passes = model.current.is_some() && !model.ready.is_empty();
                    if passes {
                        model.ready.extend(model.current.take());
                    }
                    let next = if passes { model.pick(now) } else { None };
                    prop_assert_eq!(policy.pass_on(Nanos(now)), next.map(TaskId));
                    prop_assert!(!passes || policy.quantum_end() == Nanos(model.end));
                }
                Op::Pick => {
                    let (before, tick) = (policy.current(), policy.on_tick(Nanos(now)));
                    let picked = policy.pick_next(Nanos(now));
                    prop_assert_eq!(picked, model.pick(now).map(TaskId));
                    prop_assert_eq!(tick, picked != before);
                }
                Op::Quantum(quantum) => {
                    policy.set_quantum(Nanos(quantum));
                    model.quantum = quantum;
                    prop_assert_eq!(policy.quantum(), Nanos(quantum));
                }
            }
            let runnable = model.ready.len() + usize::from(model.current.is_some());
            prop_assert_eq!(policy.runnable(), runnable);
            prop_assert_eq!(policy.current(), model.current.map(TaskId));
            // A timer only if it is needed, never in the past, and it is then that there is something to do.
            let deadline = policy.next_deadline(Nanos(now));
            prop_assert_eq!(deadline.is_some(), runnable > 1);
            if let Some(deadline) = deadline {
                prop_assert!(deadline >= Nanos(now) && policy.on_tick(deadline));
                prop_assert!(deadline == Nanos(now) || !policy.on_tick(Nanos(deadline.0 - 1)));
            }
        }
        // No task is lost: blocking what is picked brings up every runnable one, in order.
        let mut left: VecDeque<u32> = model.current.into_iter().chain(model.ready.iter().copied()).collect();
        if model.current.is_some() && now >= model.end {
            left.rotate_left(1);
        }
        for task in left {
            prop_assert_eq!(policy.pick_next(Nanos(now)), Some(TaskId(task)));
            policy.block(TaskId(task)).unwrap();
        }
        prop_assert_eq!(policy.pick_next(Nanos(now)), None);
    }

    #[test]
    fn turns_are_equal_and_as_long_as_the_quantum(tasks in 2u32..=64, quantum in 1u64..1000, rounds in 1u64..20) {
        let mut policy: RoundRobin<64> = RoundRobin::new(Nanos(quantum));
        for task in 0..tasks {
            policy.add(TaskId(task)).unwrap();
        }
        let mut now = Nanos(0);
        let mut ran = vec![0; tasks as usize];
        for turn in 0..rounds * u64::from(tasks) {
            let task = policy.pick_next(now).unwrap();
            prop_assert_eq!(u64::from(task.0), turn % u64::from(tasks));
            let end = policy.next_deadline(now).unwrap();
            ran[task.0 as usize] += end.0 - now.0;
            now = end;
        }
        prop_assert!(ran.iter().all(|time| *time == rounds * quantum));
    }

    #[test]
    fn a_pinned_core_has_one_task_and_no_timer(ops in ops()) {
        let mut policy = Pinned::new();
        let (mut owner, mut runnable) = (None, false);
        for (op, later) in ops {
            let now = Nanos(later);
            match op {
                Op::Add(task) => {
                    let expected = match owner {
                        None => Ok(()),
                        Some(other) if other == task => Err(PolicyError::AlreadyThere(TaskId(task))),
                        Some(_) => Err(PolicyError::NoRoom(TaskId(task))),
                    };
                    prop_assert_eq!(policy.add(TaskId(task)), expected);
                    if expected.is_ok() {
                        (owner, runnable) = (Some(task), true);
                    }
                }
                Op::Remove(task) => {
                    prop_assert_eq!(policy.remove(TaskId(task)).is_ok(), owner == Some(task));
                    if owner == Some(task) {
                        (owner, runnable) = (None, false);
                    }
                }
                Op::Block(task) => {
                    prop_assert_eq!(policy.block(TaskId(task)).is_ok(), owner == Some(task));
                    runnable &= owner != Some(task);
                }
                Op::Wake(task) => {
                    let woken = policy.wake(TaskId(task));
                    prop_assert_eq!(woken.is_ok(), owner == Some(task));
                    prop_assert_eq!(woken.unwrap_or(false), owner == Some(task) && !runnable);
                    runnable |= owner == Some(task);
                }
                Op::Yield | Op::PassOn => policy.yield_current(),
                Op::Pick | Op::Quantum(_) => {
                    let expected = owner.filter(|_| runnable).map(TaskId);
                    prop_assert_eq!(policy.on_tick(now), policy.current() != expected);
                    prop_assert_eq!(policy.pick_next(now), expected);
                }
            }
            prop_assert_eq!(policy.next_deadline(now), None);
            prop_assert_eq!(policy.runnable(), usize::from(runnable));
        }
    }
}

#[test]
fn time_alone_counts() {
    let mut policy: RoundRobin<2> = RoundRobin::default();
    policy.add(TaskId(0)).unwrap();
    assert_eq!(policy.pick_next(Nanos(0)), Some(TaskId(0)));
    let late = Nanos(10 * DEFAULT_QUANTUM.0);
    assert!(!policy.on_tick(late));
    policy.add(TaskId(1)).unwrap();
    assert_eq!(policy.next_deadline(late), Some(late));
    assert_eq!(policy.pick_next(late), Some(TaskId(1)));
    assert_eq!(policy.next_deadline(late), Some(late.saturating_add(DEFAULT_QUANTUM)));
}

#[test]
fn survives_largest_times() {
    let mut policy: RoundRobin<2> = RoundRobin::new(Nanos(u64::MAX));
    policy.add(TaskId(0)).unwrap();
    policy.add(TaskId(1)).unwrap();
    assert_eq!(policy.pick_next(Nanos(u64::MAX - 1)), Some(TaskId(0)));
    assert_eq!(policy.next_deadline(Nanos(u64::MAX - 1)), Some(Nanos(u64::MAX)));
}

#[test]
fn policies_can_be_chosen_while_running() {
    let mut round_robin: RoundRobin<4> = RoundRobin::default();
    let mut pinned = Pinned::new();
    let policies: [&mut dyn Policy; 2] = [&mut round_robin, &mut pinned];
    for policy in policies {
        policy.add(TaskId(3)).unwrap();
        assert_eq!(policy.pick_next(Nanos(1)), Some(TaskId(3)));
        assert_eq!(policy.add(TaskId(3)).unwrap_err().to_string(), "task 3 is there already");
    }
}
