//! [`Share`] against its definition: the ideal that gives each moment to all tasks by weight, EEVDF's own
//! bookkeeping in other arithmetic, and what the theory promises, in simulations.

mod common;

use common::{check, ops};
use proptest::prelude::*;
use sched_policies::{DEFAULT_WEIGHT, Nanos, Policy, PolicyError, Share, TaskId};
use std::num::NonZeroU32;

const N: usize = 8;

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

fn weights(most: usize) -> impl Strategy<Value = Vec<u32>> {
    let one = prop_oneof![3 => 1u32..10, 2 => 1u32..5000, 1 => Just(1024)];
    prop::collection::vec(one, 2..=most)
}

/// A core, and beside it the ideal: each moment is shared among the runnable tasks by weight.
struct Core {
    policy: Share<64>,
    weights: Vec<u32>,
    runnable: Vec<bool>,
    /// What each has run.
    ran: Vec<u64>,
    /// What each should have, over the time that it was runnable.
    ideal: Vec<f64>,
    now: u64,
}

impl Core {
    fn new(weights: &[u32], quantum: u64) -> Self {
        let mut policy = Share::new(Nanos(quantum));
        for (task, of) in weights.iter().enumerate() {
            policy.add_with(TaskId(task as u32), weight(*of)).unwrap();
        }
        let tasks = weights.len();
        let (runnable, ran, ideal) = (vec![true; tasks], vec![0; tasks], vec![0.0; tasks]);
        Self { policy, weights: weights.to_vec(), runnable, ran, ideal, now: 0 }
    }

    /// Goes on to `end` as a kernel does: it asks when the policy is due. Calls `at_switch` at each of these
    /// moments.
    fn run_until(&mut self, end: u64, mut at_switch: impl FnMut(&Self)) {
        loop {
            if self.policy.on_tick(Nanos(self.now)) {
                self.policy.pick_next(Nanos(self.now));
            }
            at_switch(self);
            if self.now >= end {
                return;
            }
            let due = self.policy.next_deadline(Nanos(self.now)).map_or(end, |at| at.0.min(end));
            assert!(due > self.now, "time stands still");
            self.pass(due - self.now);
        }
    }

    /// Goes on until the policy is asked the next time, or until the current task has run for `most`.
    fn step(&mut self, most: u64) {
        let due = self.policy.next_deadline(Nanos(self.now)).map_or(u64::MAX, |at| at.0);
        self.run_until(due.min(self.now + most), |_| ());
    }

    /// Goes on until a task has run for `time`.
    fn run_for(&mut self, task: usize, time: u64) {
        let until = self.ran[task] + time;
        while self.ran[task] < until {
            let left = until - self.ran[task];
            let mine = self.policy.current() == Some(TaskId(task as u32));
            self.step(if mine { left } else { u64::MAX / 2 });
        }
    }

    fn pass(&mut self, time: u64) {
        if let Some(task) = self.policy.current() {
            self.ran[task.0 as usize] += time;
        }
        let here = || (0..self.weights.len()).filter(|task| self.runnable[*task]);
        let all: u64 = here().map(|task| u64::from(self.weights[task])).sum();
        for task in here() {
            self.ideal[task] += time as f64 * f64::from(self.weights[task]) / all as f64;
        }
        self.now += time;
    }

    fn block(&mut self, task: usize) {
        self.policy.block(TaskId(task as u32)).unwrap();
        self.runnable[task] = false;
        self.policy.pick_next(Nanos(self.now));
    }

    fn wake(&mut self, task: usize) {
        if self.policy.wake_preempts(TaskId(task as u32), Nanos(self.now)).unwrap() {
            self.policy.pick_next(Nanos(self.now));
        }
        self.runnable[task] = true;
    }

    /// What a task is behind its ideal.
    fn lag(&self, task: usize) -> f64 {
        self.ideal[task] - self.ran[task] as f64
    }
}

/// EEVDF's bookkeeping as in the paper: a virtual time that goes by as 1 / weights, and jumps when tasks with
/// a lag come and go (TR-95-22, equations 18 and 19).
#[derive(Default)]
struct Paper {
    virtual_time: f64,
    tasks: Vec<PaperTask>,
    quantum: f64,
}

#[derive(Clone, Copy, Debug)]
struct PaperTask {
    weight: f64,
    here: bool,
    /// While it is here.
    time: f64,
    deadline: f64,
    /// While it is not.
    lag: f64,
}

impl Paper {
    fn weights(&self) -> f64 {
        self.tasks.iter().filter(|task| task.here).map(|task| task.weight).sum()
    }

    fn pass(&mut self, time: f64, current: Option<usize>) {
        if self.weights() > 0.0 {
            self.virtual_time += time / self.weights();
        }
        if let Some(task) = current {
            let quantum = self.quantum;
            let task = &mut self.tasks[task];
            task.time += time / task.weight;
            if task.time >= task.deadline - 1e-9 {
                task.deadline = task.time + quantum / task.weight;
            }
        }
    }

    fn leave(&mut self, task: usize) {
        let PaperTask { weight, time, .. } = self.tasks[task];
        let lag = weight * (self.virtual_time - time);
        (self.tasks[task].here, self.tasks[task].lag) = (false, lag.min(self.quantum));
        if self.weights() > 0.0 {
            self.virtual_time += lag / self.weights();
        }
    }

    fn join(&mut self, task: usize) {
        let (lag, weight) = (self.tasks[task].lag, self.tasks[task].weight);
        if self.weights() > 0.0 {
            self.virtual_time -= lag / self.weights();
        } else {
            // Alone it is neither ahead nor behind.
            self.virtual_time -= lag / weight;
        }
        let time = self.virtual_time - if self.weights() > 0.0 { lag / weight } else { 0.0 };
        let deadline = time + self.quantum / weight;
        self.tasks[task] = PaperTask { weight, here: true, time, deadline, lag: 0.0 };
    }

    /// Whether it is right that this task is chosen, but for what is too close to say.
    fn may_choose(&self, chosen: usize) -> bool {
        let chosen = &self.tasks[chosen];
        let close = |task: &PaperTask| 1e-4 / task.weight;
        let eligible = chosen.time <= self.virtual_time + close(chosen);
        let first = self.tasks.iter().filter(|task| task.here).all(|task| {
            task.time > self.virtual_time - close(task)
                || task.deadline + close(task) >= chosen.deadline - close(chosen)
        });
        chosen.here && eligible && first
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 256 }))]

    #[test]
    fn always_ready_task_is_within_quantum_of_ideal(weights in weights(20), quantum in 1u64..2000) {
        let mut core = Core::new(&weights, quantum);
        let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        let mut worst = Ok(());
        core.run_until(quantum * 400, |core| for (task, ran) in core.ran.iter().enumerate() {
            // In whole numbers: |ran - now * weight / all| < quantum.
            let (has, due) = (u128::from(*ran) * all, u128::from(core.now) * u128::from(weights[task]));
            if has.abs_diff(due) >= u128::from(quantum) * all {
                worst = Err(format!("task {task} ran {ran} of {}", core.now));
            }
        });
        prop_assert!(worst.is_ok(), "{worst:?}");
    }

    #[test]
    fn short_sleep_does_not_cancel_lag(
        others in prop::collection::vec(1u32..100, 1..8),
        own in 1u32..100,
        naps in prop::collection::vec((1u64..=1000, 1u64..5000), 1..6),
    ) {
        // It naps when it has run for a part of a quantum, again and again.
        let quantum = 1000;
        let mut weights = others;
        weights.insert(0, own);
        let mut core = Core::new(&weights, quantum);
        for (most, nap) in naps.iter().cycle().take(100) {
            core.run_for(0, *most);
            // Never more than a quantum ahead of what it should have while it was runnable.
            prop_assert!(core.lag(0) > -1001.0, "{} ahead at {}", -core.lag(0), core.now);
            core.block(0);
            core.run_until(core.now + nap, |_| ());
            core.wake(0);
        }
        // What the others miss is what it owes, and their own quantum.
        for task in 1..core.weights.len() {
            prop_assert!(core.lag(task) < 2001.0, "task {task} is {} behind", core.lag(task));
        }
    }

    #[test]
    fn temporary_weight_change_gains_no_time(others in prop::collection::vec(1u32..100, 1..5), low in 1u32..50, high in 50u32..2000) {
        let quantum = 1000;
        let mut weights = others;
        weights.insert(0, low);
        let mut core = Core::new(&weights, quantum);
        for _ in 0..100 {
            for (wanted, to) in [(true, high), (false, low)] {
                // High while it runs, low while it waits.
                while (core.policy.current() == Some(TaskId(0))) != wanted {
                    core.step(u64::MAX / 2);
                }
                core.policy.advance(Nanos(core.now));
                core.policy.set_weight(TaskId(0), weight(to)).unwrap();
                core.weights[0] = to;
            }
            prop_assert!(core.lag(0) > -1002.0, "{} ahead at {}", -core.lag(0), core.now);
        }
    }

    #[test]
    fn share_matches_eevdf_paper(
        weights in weights(N),
        events in prop::collection::vec((0usize..N, any::<bool>(), 0u64..700), 1..250),
    ) {
        let quantum = 200;
        let mut core = Core::new(&weights, quantum);
        let task = |weight: &u32| PaperTask { weight: f64::from(*weight), here: false, time: 0.0, deadline: 0.0, lag: 0.0 };
        let mut paper = Paper { tasks: weights.iter().map(task).collect(), quantum: quantum as f64, virtual_time: 0.0 };
        (0..weights.len()).for_each(|task| paper.join(task));
        core.policy.pick_next(Nanos(0));
        let mut turn = core.policy.current();
        for (task, blocks, later) in events {
            let end = core.now + later;
            loop {
                if core.policy.on_tick(Nanos(core.now)) || turn != core.policy.current() {
                    turn = core.policy.pick_next(Nanos(core.now));
                    let Some(chosen) = turn else { break };
                    prop_assert!(paper.may_choose(chosen.0 as usize), "{chosen:?} at {}", core.now);
                }
                if core.now == end {
                    break;
                }
                let next = core.policy.next_deadline(Nanos(core.now)).map_or(end, |at| at.0.min(end));
                paper.pass((next - core.now) as f64, core.policy.current().map(|task| task.0 as usize));
                core.pass(next - core.now);
                core.policy.advance(Nanos(core.now));
            }
            core.now = end;
            let task = task % weights.len();
            match (core.runnable[task], blocks) {
                (true, true) => {
                    paper.leave(task);
                    core.policy.block(TaskId(task as u32)).unwrap();
                    core.policy.advance(Nanos(core.now));
                    core.runnable[task] = false;
                    if turn == Some(TaskId(task as u32)) {
                        turn = None;
                        if core.policy.runnable() > 0 {
                            turn = core.policy.pick_next(Nanos(core.now));
                            prop_assert!(paper.may_choose(turn.unwrap().0 as usize), "{turn:?} at {}", core.now);
                        }
                    }
                }
                (false, false) => {
                    paper.join(task);
                    core.policy.wake(TaskId(task as u32)).unwrap();
                    core.policy.advance(Nanos(core.now));
                    core.runnable[task] = true;
                }
                _ => {}
            }
        }
    }

    #[test]
    fn share_keeps_policy_invariants(ops in ops(N, u64::MAX / 50), quantum in prop_oneof![Just(1), Just(u64::MAX), 1..=u64::MAX]) {
        check(Share::<N>::new(Nanos(quantum)), ops, N, set)?;
    }

    #[test]
    fn share_keeps_policy_invariants_at_small_times(ops in ops(N, 20), quantum in 1u64..10) {
        check(Share::<N>::new(Nanos(quantum)), ops, N, set)?;
    }

    #[test]
    fn nobody_starves(
        weights in prop::collection::vec(1u32..30, 2..=N),
        ops in prop::collection::vec((0u32..N as u32, 0u8..6, 0u64..300), 0..200),
    ) {
        // Whatever has happened: everyone who is runnable then gets its share.
        let quantum = 100;
        let mut core = Core::new(&weights, quantum);
        for (task, op, later) in ops {
            core.run_until(core.now + later, |_| ());
            let task = TaskId(task % weights.len() as u32);
            match op {
                0 | 1 => core.policy.block(task).unwrap(),
                2 => core.policy.yield_current(),
                3 => core.policy.set_weight(task, core.policy.weight(task).unwrap()).unwrap(),
                _ => assert!(core.policy.wake(task).is_ok()),
            }
            if core.policy.current().is_none() {
                core.policy.pick_next(Nanos(core.now));
            }
        }
        for task in 0..weights.len() as u32 {
            core.policy.wake(TaskId(task)).unwrap();
        }
        core.policy.pick_next(Nanos(core.now));
        let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        // Long enough for the lightest. Debts and credits from before are settled in this time.
        let window = quantum * 40 * all / u64::from(*weights.iter().min().unwrap());
        core.run_until(core.now + window, |_| ());
        let (from, before) = (core.now, core.ran.clone());
        core.run_until(from + window, |_| ());
        for (task, ran) in core.ran.iter().enumerate() {
            let due = (core.now - from) * u64::from(weights[task]) / all;
            prop_assert!((ran - before[task]).abs_diff(due) <= 2 * quantum, "task {task}: {} of {due}", ran - before[task]);
        }
    }
}

/// Any weight.
fn set(
    policy: &mut Share<N>,
    tasks: &common::Tasks,
    task: TaskId,
    value: u64,
    _: Nanos,
) -> Result<(), TestCaseError> {
    let to = NonZeroU32::new((value >> (value % 40)) as u32).unwrap_or(NonZeroU32::MAX);
    let known = tasks.0.contains_key(&task.0);
    prop_assert_eq!(policy.set_weight(task, to).is_ok(), known);
    prop_assert_eq!(policy.weight(task).ok(), known.then_some(to));
    Ok(())
}

#[test]
fn weights_hold_over_long_traces() {
    // A hundred thousand turns: rounding adds up to nothing.
    let weights: Vec<u32> = (1..=64).map(|task| task * 1021 % 977 + 1).collect();
    let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let quantum = 100_000_007;
    let mut core = Core::new(&weights, quantum);
    core.run_until(quantum * 100_000, |_| ());
    for (weight, ran) in weights.iter().zip(&core.ran) {
        let due = u128::from(core.now) * u128::from(*weight) / all;
        assert!(u128::from(*ran).abs_diff(due) < u128::from(quantum), "{ran} of {due}");
    }
}

#[test]
fn a_nap_before_the_end_of_a_turn() {
    // 9 of 10, a nap of 10, again and again, beside one that always runs: over the time that it wants the
    // core it gets half of it.
    let mut core = Core::new(&[1, 1], 10);
    let mut wanted = 0;
    for _ in 0..1000 {
        let from = core.now;
        core.run_for(0, 9);
        wanted += core.now - from;
        core.block(0);
        core.run_until(core.now + 10, |_| ());
        core.wake(0);
    }
    assert_eq!(core.ran[0], 9000);
    assert!(wanted.abs_diff(18_000) < 20, "{wanted}");
}

#[test]
fn idle_core_resets_virtual_time() {
    let mut core = Core::new(&[1, 1], 10);
    core.run_until(9, |_| ());
    core.block(0);
    core.block(1);
    core.run_until(1000, |_| ());
    core.wake(0);
    core.run_until(1001, |_| ());
    assert_eq!((core.ran[0], core.ran[1]), (10, 0));
    core.wake(1);
    core.run_until(1021, |_| ());
    assert!(core.ran[1] >= 10, "{:?}", core.ran);
}

#[test]
fn single_task_is_tickless() {
    let mut policy: Share<2> = Share::default();
    policy.add(TaskId(1)).unwrap();
    assert_eq!(policy.weight(TaskId(1)), Ok(DEFAULT_WEIGHT));
    assert_eq!(policy.pick_next(Nanos(0)), Some(TaskId(1)));
    assert_eq!(policy.next_deadline(Nanos(1 << 40)), None);
    assert_eq!(policy.weight(TaskId(0)), Err(PolicyError::Unknown(TaskId(0))));
}

#[test]
fn yield_lets_another_task_run() {
    let mut core = Core::new(&[1000, 1], 100);
    core.run_until(50, |_| ());
    assert_eq!(core.policy.current(), Some(TaskId(0)));
    core.policy.yield_current();
    assert_eq!(core.policy.pick_next(Nanos(50)), Some(TaskId(1)));
    core.policy.yield_current();
    assert_eq!(core.policy.pick_next(Nanos(50)), Some(TaskId(0)));
}
