//! [`Edf`] against its definition: a model that counts single nanoseconds, and what the theory promises, in
//! simulations.

mod common;

use common::{check, ops};
use proptest::prelude::*;
use sched_policies::{AdmissionError, Bandwidth, Edf, Nanos, Policy, PolicyError, Reservation, TaskId};

const N: usize = 8;

fn reservation(runtime: u64, deadline: u64, period: u64) -> Reservation {
    Reservation { runtime: Nanos(runtime), deadline: Nanos(deadline), period: Nanos(period) }
}

/// Small reservations, of which several fit.
fn reservations() -> impl Strategy<Value = Reservation> {
    (1u64..40, 0u64..60, prop_oneof![2 => Just(0u64), 1 => 0u64..60])
        .prop_map(|(runtime, slack, gap)| reservation(runtime, runtime + slack, runtime + slack + gap))
}

/// A task of the simulation.
#[derive(Clone, Debug)]
struct Job {
    /// What it is promised.
    reservation: Reservation,
    /// When it is released first.
    offset: u64,
    /// How long each of its jobs runs, in turn.
    work: Vec<u64>,
    /// How much longer than a period it waits for its next release, in turn.
    late: Vec<u64>,
    /// It ends its jobs by yielding.
    yields: bool,
    /// Nobody promises anything, because it does not keep to its reservation.
    rogue: bool,
}

fn job(rogue: bool) -> impl Strategy<Value = Job> {
    let most: u64 = if rogue { 200 } else { 100 };
    let percent = prop::collection::vec(1..=most, 1..5);
    let late = prop::collection::vec(prop_oneof![2 => Just(0u64), 1 => 0u64..100], 1..5);
    (reservations(), 0u64..100, percent, late, any::<bool>()).prop_map(
        move |(reservation, offset, percent, late, yields)| Job {
            reservation,
            offset,
            work: percent.iter().map(|percent| (reservation.runtime.0 * percent).div_ceil(100)).collect(),
            late,
            yields,
            rogue,
        },
    )
}

#[derive(Clone, Debug, Default)]
struct Running {
    released: u64,
    /// What is left to do. 0 while it waits for its release.
    left: u64,
    next_release: u64,
    jobs: usize,
    ran: u64,
}

/// Runs jobs on a policy, as a kernel does, until `end`. Returns how long each has run.
fn simulate(policy: &mut Edf<N>, jobs: &[Job], end: u64) -> Result<Vec<u64>, TestCaseError> {
    let mut running: Vec<Running> =
        jobs.iter().map(|job| Running { next_release: job.offset, ..Running::default() }).collect();
    for task in 0..jobs.len() as u32 {
        policy.block(TaskId(task)).unwrap();
    }
    let mut now = 0;
    while now < end {
        // Releases.
        for (task, (job, state)) in jobs.iter().zip(&mut running).enumerate() {
            if state.left == 0 && state.next_release <= now {
                state.left = job.work[state.jobs % job.work.len()];
                state.released = now;
                let late = job.late[state.jobs % job.late.len()];
                // A rogue comes whenever it likes.
                let gap = if job.rogue { late } else { job.reservation.period.0 + late };
                state.next_release = now + gap;
                state.jobs += 1;
                policy.wake(TaskId(task as u32)).unwrap();
            }
        }
        if policy.on_tick(Nanos(now)) {
            policy.pick_next(Nanos(now));
        }
        let current = policy.current().map(|task| task.0 as usize);
        // The next thing to happen.
        let releases =
            running.iter().filter(|state| state.left == 0).map(|state| state.next_release.max(now + 1));
        let ends = current.filter(|task| *task < jobs.len()).map(|task| now + running[task].left);
        let timer = policy.next_deadline(Nanos(now)).map(|at| at.0);
        let next = releases.chain(ends).chain(timer).chain([end]).min().unwrap();
        prop_assert!(next > now, "time stands still at {now}");
        if let Some(task) = current.filter(|task| *task < jobs.len()) {
            let (job, state) = (&jobs[task], &mut running[task]);
            state.left -= next - now;
            state.ran += next - now;
            if state.left == 0 {
                let deadline = state.released + job.reservation.deadline.0;
                prop_assert!(job.rogue || next <= deadline, "task {task} missed {deadline} at {next}");
                if job.yields {
                    policy.yield_current();
                    policy.pick_next(Nanos(next));
                }
                policy.block(TaskId(task as u32)).unwrap();
                policy.pick_next(Nanos(next));
            }
        }
        now = next;
        // What is not done by its deadline is noticed even if it never ends.
        for (task, (job, state)) in jobs.iter().zip(&running).enumerate() {
            let late = state.left > 0 && now > state.released + job.reservation.deadline.0;
            prop_assert!(job.rogue || !late, "task {task} is late at {now}");
        }
    }
    Ok(running.iter().map(|state| state.ran).collect())
}

/// A policy with as many of these as are admitted.
fn admitted(candidates: Vec<Job>) -> (Edf<N>, Vec<Job>) {
    let mut policy = Edf::new(Nanos(10));
    let mut jobs = Vec::new();
    for job in candidates {
        if policy.add_reserved(TaskId(jobs.len() as u32), job.reservation).is_ok() {
            jobs.push(job);
        }
    }
    (policy, jobs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 500 }))]

    #[test]
    fn admitted_tasks_meet_all_deadlines(candidates in prop::collection::vec(job(false), 1..=N)) {
        let (mut policy, jobs) = admitted(candidates);
        simulate(&mut policy, &jobs, 5000)?;
    }

    #[test]
    fn a_full_core_meets_all_deadlines(parts in prop::collection::vec((0u32..4, 1u64..8, 0u64..64), 1..N)) {
        // Fractions of powers of two add up without rounding; the last task takes all that is left.
        let (mut policy, mut jobs) = (Edf::<N>::new(Nanos(10)), Vec::new());
        let add = |policy: &mut Edf<N>, jobs: &mut Vec<Job>, runtime, period, offset| {
            let reservation = Reservation::implicit(Nanos(runtime), Nanos(period));
            policy.add_reserved(TaskId(jobs.len() as u32), reservation).is_ok().then(|| {
                let (work, late) = (vec![runtime], vec![0]);
                jobs.push(Job { reservation, offset, work, late, yields: false, rogue: false });
            })
        };
        for (scale, part, offset) in parts {
            add(&mut policy, &mut jobs, part << scale, 16 << scale, offset);
        }
        let free = Bandwidth::ONE.0 - policy.reserved_bandwidth().0;
        add(&mut policy, &mut jobs, (free * 128) >> 32, 128, 3);
        prop_assert_eq!(policy.reserved_bandwidth(), Bandwidth::ONE);
        prop_assert!(policy.add_reserved(TaskId(7), reservation(1, 1 << 40, 1 << 40)).is_err());
        simulate(&mut policy, &jobs, 3000)?;
    }

    #[test]
    fn overrun_does_not_affect_other_tasks(
        honest in prop::collection::vec(job(false), 1..5),
        rogues in prop::collection::vec(job(true), 1..4),
    ) {
        let mut mixed = rogues;
        mixed.extend(honest);
        let (mut policy, jobs) = admitted(mixed);
        let ran = simulate(&mut policy, &jobs, 5000)?;
        // A server gives no more than its bandwidth, and what it had in advance.
        for (job, ran) in jobs.iter().zip(ran) {
            let Reservation { runtime, deadline, .. } = job.reservation;
            prop_assert!(ran * deadline.0 <= runtime.0 * (5000 + deadline.0), "{ran} for {:?}", job.reservation);
        }
    }

    #[test]
    fn always_ready_task_gets_runtime_in_each_period(wanted in prop::collection::vec(reservations(), 1..=N)) {
        let endless = wanted.into_iter().map(|reservation| Job {
            reservation, offset: 0, work: vec![u64::MAX / 2], late: vec![0], yields: false, rogue: true,
        });
        let (mut policy, jobs) = admitted(endless.collect());
        // By the end of each period it has had all, so at any moment as many runtimes as periods are over.
        let end = 1777;
        let ran = simulate(&mut policy, &jobs, end)?;
        for (job, ran) in jobs.iter().zip(ran) {
            let Reservation { runtime, deadline, period } = job.reservation;
            let least = (end + period.0 - deadline.0) / period.0 * runtime.0;
            let most = end.div_ceil(period.0) * runtime.0;
            prop_assert!((least..=most).contains(&ran), "{ran} in {end} for {:?}", job.reservation);
        }
    }

    #[test]
    fn deadlines_hold_while_others_come_and_go(
        honest in prop::collection::vec(job(false), 1..4),
        changes in prop::collection::vec((3u32..N as u32, prop::option::of(reservations()), 0u64..40), 1..60),
    ) {
        // Those that change always want to run, so that they take all that they can get.
        let (mut policy, jobs) = admitted(honest);
        let mut states: Vec<Running> =
            jobs.iter().map(|job| Running { next_release: job.offset, ..Running::default() }).collect();
        for task in 0..jobs.len() as u32 {
            policy.block(TaskId(task)).unwrap();
        }
        let (mut now, mut at) = (0, 0);
        for (changing, to, later) in changes {
            at += later;
            while now < at {
                for (task, (job, state)) in jobs.iter().zip(&mut states).enumerate() {
                    if state.left == 0 && state.next_release <= now {
                        (state.left, state.released) = (job.reservation.runtime.0, now);
                        state.next_release = now + job.reservation.period.0;
                        policy.wake(TaskId(task as u32)).unwrap();
                    }
                }
                if policy.on_tick(Nanos(now)) {
                    policy.pick_next(Nanos(now));
                }
                now += 1;
                let current = policy.current().map(|task| task.0 as usize);
                for (task, (job, state)) in jobs.iter().zip(&mut states).enumerate() {
                    if current == Some(task) {
                        state.left -= 1;
                        if state.left == 0 {
                            policy.block(TaskId(task as u32)).unwrap();
                            policy.pick_next(Nanos(now));
                        }
                    }
                    let deadline = state.released + job.reservation.deadline.0;
                    prop_assert!(state.left == 0 || now < deadline, "task {task} missed {deadline}");
                }
            }
            policy.advance(Nanos(now));
            let task = TaskId(changing);
            match (policy.reservation(task), to) {
                (Err(_), Some(to)) => drop(policy.add_reserved(task, to)),
                (Err(_), None) => {}
                (Ok(_), None) => policy.remove(task).unwrap(),
                (Ok(_), Some(to)) => drop(policy.reserve(task, Some(to))),
            }
            prop_assert!(policy.reserved_bandwidth() <= Bandwidth::ONE);
        }
    }

    #[test]
    fn no_more_than_the_bound_is_admitted(wanted in prop::collection::vec(reservations(), 1..=N), bound in 1u64..120) {
        let bound = Bandwidth::ratio(bound, 100);
        let mut policy: Edf<N> = Edf::default();
        policy.set_bound(bound).unwrap();
        let mut sum = 0.0;
        for (task, wanted) in wanted.into_iter().enumerate() {
            let task = TaskId(task as u32);
            let share = wanted.runtime.0 as f64 / wanted.deadline.0 as f64;
            let free = bound.0 as f64 / Bandwidth::ONE.0 as f64 - sum;
            match policy.add_reserved(task, wanted) {
                Ok(()) => {
                    prop_assert!(share <= free + 1e-8);
                    sum += share;
                }
                Err(error) => {
                    prop_assert!(share >= free - 1e-8, "{error}");
                    let refused = matches!(error, AdmissionError::NoBandwidth { task: named, .. } if named == task);
                    prop_assert!(refused);
                    prop_assert_eq!(policy.reservation(task), Err(PolicyError::Unknown(task)));
                }
            }
            prop_assert!((policy.reserved_bandwidth().0 as f64 / Bandwidth::ONE.0 as f64 - sum).abs() < 1e-8);
            prop_assert!(policy.reserved_bandwidth() <= bound);
        }
    }

    #[test]
    fn edf_keeps_policy_invariants(ops in ops(N, u64::MAX / 50)) {
        check(Edf::<N>::new(Nanos(1 << 40)), ops, N, set)?;
    }

    #[test]
    fn edf_keeps_policy_invariants_at_small_times(ops in ops(N, 20)) {
        check(Edf::<N>::new(Nanos(5)), ops, N, set)?;
    }

    #[test]
    fn edf_matches_model(
        tasks in prop::collection::vec(prop::option::of(reservations()), 1..=N),
        ops in prop::collection::vec((0u32..N as u32, 0u8..8, 0u64..12), 0..300),
    ) {
        let mut policy: Edf<N> = Edf::new(Nanos(7));
        policy.set_bound(Bandwidth(u64::MAX)).unwrap();
        let mut model = Model { tasks: Vec::new(), order: Vec::new(), current: None, turn: 0, now: 0 };
        for (task, reservation) in tasks.iter().enumerate() {
            match reservation {
                Some(reservation) => policy.add_reserved(TaskId(task as u32), *reservation).unwrap(),
                None => policy.add(TaskId(task as u32)).unwrap(),
            }
            model.tasks.push(ModelTask { reservation: *reservation, ..ModelTask::default() });
            model.wake(task);
        }
        for (task, op, later) in ops {
            let task = task as usize % tasks.len();
            match op {
                0 | 1 => {
                    policy.block(TaskId(task as u32)).unwrap();
                    model.block(task);
                }
                2 => {
                    policy.yield_current();
                    model.yield_current();
                }
                _ => {
                    let wakes = policy.wake(TaskId(task as u32)).unwrap();
                    prop_assert_eq!(wakes, !model.order.contains(&task));
                    if wakes {
                        model.wake(task);
                    }
                }
            }
            if policy.current().is_none() {
                // Whoever gives the core up has another one picked.
                policy.pick_next(Nanos(model.now));
            }
            for _ in 0..=later {
                // The kernel asks when the policy says so, and at no other time.
                let due = policy.next_deadline(Nanos(model.now)) == Some(Nanos(model.now));
                prop_assert_eq!(due, policy.on_tick(Nanos(model.now)));
                if due {
                    policy.pick_next(Nanos(model.now));
                }
                model.pick();
                prop_assert_eq!(policy.current(), model.current.map(|task| TaskId(task as u32)), "at {}", model.now);
                model.run();
            }
        }
    }
}

/// Anything that a kernel may try to set.
fn set(
    policy: &mut Edf<N>,
    tasks: &common::Tasks,
    task: TaskId,
    value: u64,
    _: Nanos,
) -> Result<(), TestCaseError> {
    let known = tasks.0.contains_key(&task.0);
    let shift = value % 60;
    let wanted = match value % 7 {
        0 => None,
        1 => Some(reservation(value, value >> 1, value)),
        2 => Some(reservation(0, value, value)),
        3 => Some(reservation(value, value, value)),
        4 => Some(reservation(1, u64::MAX, u64::MAX)),
        _ => Some(reservation((value >> shift >> 3) + 1, (value >> shift).max(1), value >> (shift / 2))),
    };
    let before = policy.reservation(task);
    prop_assert_eq!(before.is_ok(), known);
    let reserved = policy.reserve(task, wanted);
    prop_assert!(known || reserved.is_err());
    prop_assert_eq!(policy.reservation(task), if reserved.is_ok() { Ok(wanted) } else { before });
    prop_assert!(policy.reserved_bandwidth() <= policy.bound());
    Ok(())
}

/// A task of the model. What is left of its budget is counted in single nanoseconds.
#[derive(Clone, Debug, Default)]
struct ModelTask {
    reservation: Option<Reservation>,
    budget: u64,
    deadline: u64,
    next: u64,
}

/// EDF and servers, nanosecond by nanosecond.
struct Model {
    tasks: Vec<ModelTask>,
    /// Runnable tasks: those with a reservation by when they became so, the others by whose turn it is.
    order: Vec<usize>,
    current: Option<usize>,
    /// What whoever has the turn in the background has used of it.
    turn: u64,
    now: u64,
}

impl Model {
    fn is_reserved(&self, task: usize) -> bool {
        self.tasks[task].reservation.is_some()
    }

    fn background(&self) -> Option<usize> {
        self.order.iter().copied().find(|task| !self.is_reserved(*task))
    }

    fn wake(&mut self, task: usize) {
        self.order.push(task);
        let now = self.now;
        let ModelTask { reservation, budget, deadline, next } = &mut self.tasks[task];
        let Some(Reservation { runtime: Nanos(runtime), deadline: Nanos(relative), period: Nanos(period) }) =
            *reservation
        else {
            return;
        };
        if now >= *next || *budget == runtime {
            (*budget, *deadline, *next) = (runtime, now + relative, now + period);
        } else if *budget > 0 && now >= *deadline {
            *budget = 0;
        } else if *budget > 0 && *budget * relative > (*deadline - now) * runtime {
            if relative == period {
                (*budget, *deadline, *next) = (runtime, now + relative, now + period);
            } else {
                *budget = (*deadline - now) * runtime / relative;
            }
        }
    }

    fn take(&mut self, task: usize) {
        if self.background() == Some(task) {
            self.turn = 0;
        }
        self.order.retain(|other| *other != task);
    }

    fn block(&mut self, task: usize) {
        self.take(task);
        self.current = self.current.filter(|current| *current != task);
    }

    fn yield_current(&mut self) {
        if let Some(task) = self.current.take() {
            if self.is_reserved(task) {
                self.tasks[task].budget = 0;
            } else {
                self.take(task);
                self.order.push(task);
            }
        }
    }

    fn pick(&mut self) {
        let runnable = self.order.clone();
        for task in &runnable {
            let task = &mut self.tasks[*task];
            if let Some(reservation) = task.reservation
                && task.budget == 0
                && self.now >= task.next
            {
                task.budget = reservation.runtime.0;
                task.deadline = task.next + reservation.deadline.0;
                task.next += reservation.period.0;
            }
        }
        let background = runnable.iter().filter(|task| !self.is_reserved(**task)).count();
        let funded = |task: &usize| self.is_reserved(*task) && self.tasks[*task].budget > 0;
        let earliest = self.order.iter().copied().filter(funded).map(|task| self.tasks[task].deadline).min();
        let at_earliest = |task: &usize| funded(task) && Some(self.tasks[*task].deadline) == earliest;
        let first = self.order.iter().copied().find(at_earliest);
        self.current = self.current.filter(at_earliest).or(first);
        if self.current.is_none() {
            if let Some(task) = self.background()
                && background > 1
                && self.turn >= 7
            {
                self.take(task);
                self.order.push(task);
            }
            self.current = self.background();
        }
    }

    fn run(&mut self) {
        match self.current {
            Some(task) if self.is_reserved(task) => self.tasks[task].budget -= 1,
            Some(_) => self.turn += 1,
            None => {}
        }
        self.now += 1;
    }
}

#[test]
fn errors_name_task_and_reason() {
    let mut policy: Edf<4> = Edf::default();
    policy.add_reserved(TaskId(0), reservation(3, 5, 10)).unwrap();
    let error = policy.add_reserved(TaskId(1), reservation(1, 2, 2)).unwrap_err();
    assert_eq!(error.to_string(), "task 1 wants to reserve 50.000 % of the core, and 39.999 % is free");
    let error = policy.add_reserved(TaskId(1), reservation(5, 4, 10)).unwrap_err();
    assert_eq!(error, AdmissionError::Malformed(TaskId(1), reservation(5, 4, 10)));
    assert_eq!(
        policy.add_reserved(TaskId(0), reservation(1, 2, 2)),
        Err(PolicyError::AlreadyThere(TaskId(0)).into())
    );
    assert_eq!(
        policy.add_reserved(TaskId(4), reservation(1, 2, 2)),
        Err(PolicyError::NoRoom(TaskId(4)).into())
    );
    assert_eq!(policy.reserve(TaskId(2), None), Err(PolicyError::Unknown(TaskId(2)).into()));
    let error = policy.set_bound(Bandwidth::ratio(1, 2)).unwrap_err();
    assert_eq!(error.to_string(), "the bound cannot be 50.000 % of the core: 60.000 % is reserved");
    policy.set_bound(Bandwidth::ratio(6, 5)).unwrap();
    policy.add_reserved(TaskId(1), reservation(1, 2, 2)).unwrap();
}

#[test]
fn background_tasks_get_remaining_time() {
    let mut policy: Edf<4> = Edf::new(Nanos(10));
    for task in 0..2 {
        policy.add(TaskId(task)).unwrap();
    }
    policy.add_reserved(TaskId(2), reservation(5, 20, 20)).unwrap();
    let mut now = Nanos(0);
    let mut trace = Vec::new();
    while now < Nanos(60) {
        let task = policy.pick_next(now).unwrap();
        let next = policy.next_deadline(now).unwrap();
        trace.push((task.0, next.0 - now.0));
        now = next;
    }
    // A turn goes on where it was interrupted.
    assert_eq!(trace, [(2, 5), (0, 10), (1, 5), (2, 5), (1, 5), (0, 10), (2, 5), (1, 10), (0, 5)]);
}

#[test]
fn a_throttled_task_leaves_the_core_idle_and_the_timer_set() {
    let mut policy: Edf<4> = Edf::default();
    policy.add_reserved(TaskId(0), reservation(5, 20, 20)).unwrap();
    assert_eq!(policy.pick_next(Nanos(100)), Some(TaskId(0)));
    assert_eq!(policy.next_deadline(Nanos(101)), Some(Nanos(105)));
    assert_eq!(policy.pick_next(Nanos(105)), None);
    assert_eq!((policy.runnable(), policy.next_deadline(Nanos(106))), (0, Some(Nanos(120))));
    policy.advance(Nanos(120));
    assert_eq!((policy.runnable(), policy.on_tick(Nanos(120))), (1, true));
    assert_eq!(policy.pick_next(Nanos(120)), Some(TaskId(0)));
    assert_eq!(policy.deadline(TaskId(0)), Ok(Some(Nanos(140))));
}

#[test]
fn a_lone_background_task_is_tickless() {
    let mut policy: Edf<4> = Edf::default();
    policy.add(TaskId(0)).unwrap();
    assert_eq!(policy.pick_next(Nanos(0)), Some(TaskId(0)));
    assert_eq!(policy.next_deadline(Nanos(0)), None);
}

#[test]
fn yield_waits_for_next_period() {
    let mut policy: Edf<4> = Edf::default();
    policy.add_reserved(TaskId(0), reservation(5, 20, 20)).unwrap();
    policy.pick_next(Nanos(0));
    policy.yield_current();
    assert_eq!(policy.pick_next(Nanos(2)), None);
    assert_eq!(policy.next_deadline(Nanos(2)), Some(Nanos(20)));
}

#[test]
fn used_bandwidth_is_released_at_deadline() {
    let mut policy: Edf<4> = Edf::default();
    policy.add_reserved(TaskId(0), reservation(5, 10, 10)).unwrap();
    policy.add_reserved(TaskId(1), reservation(5, 10, 10)).unwrap();
    policy.pick_next(Nanos(0));
    policy.pick_next(Nanos(5));
    policy.remove(TaskId(0)).unwrap();
    assert!(policy.add_reserved(TaskId(0), reservation(2, 4, 4)).is_err());
    policy.advance(Nanos(10));
    policy.add_reserved(TaskId(0), reservation(2, 4, 4)).unwrap();
}

#[test]
fn another_reservation_begins_at_the_deadline() {
    let mut policy: Edf<4> = Edf::default();
    policy.add_reserved(TaskId(0), reservation(5, 10, 10)).unwrap();
    policy.pick_next(Nanos(0));
    policy.advance(Nanos(3));
    policy.reserve(TaskId(0), Some(reservation(2, 20, 20))).unwrap();
    // What it gave up counts until then, too.
    assert_eq!(policy.reserved_bandwidth(), Bandwidth::ratio(1, 2));
    assert_eq!(policy.pick_next(Nanos(3)), None);
    assert_eq!(policy.next_deadline(Nanos(3)), Some(Nanos(10)));
    assert_eq!(policy.pick_next(Nanos(10)), Some(TaskId(0)));
    assert_eq!(policy.reserved_bandwidth(), Bandwidth::ratio(2, 20));
    policy.reserve(TaskId(0), None).unwrap();
    assert_eq!(policy.pick_next(Nanos(11)), Some(TaskId(0)));
    assert_eq!(policy.next_deadline(Nanos(11)), None);
}
