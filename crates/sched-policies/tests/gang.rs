//! [`Gangs`] and [`Gang`] against their definition: Ousterhout's matrix, and cores that go by it with one
//! clock.

mod common;

use common::{check, ops};
use proptest::prelude::*;
use sched_policies::{Column, CoreId, EmptyPlace, Gang, GangError, GangId, Gangs, Nanos, Policy, TaskId};
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: usize = 4;
const CORES: usize = 6;
const N: usize = 16;

type Matrix = Gangs<SLOTS, CORES>;
type Core = Gang<N, SLOTS>;

#[derive(Clone, Debug)]
enum Change {
    Place(u32, usize),
    PlaceOn(u32, Vec<u32>),
    MoveTo(u32, Vec<u32>),
    Remove(u32),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let gang = 0u32..12;
    let change = prop_oneof![
        3 => (gang.clone(), 0..=CORES + 1).prop_map(|(gang, width)| Change::Place(gang, width)),
        2 => (gang.clone(), prop::collection::vec(0..=CORES as u32, 0..5))
            .prop_map(|(gang, cores)| Change::PlaceOn(gang, cores)),
        2 => (gang.clone(), prop::collection::vec(0..=CORES as u32, 0..5))
            .prop_map(|(gang, cores)| Change::MoveTo(gang, cores)),
        2 => gang.prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 0..60)
}

fn empty_places() -> impl Strategy<Value = EmptyPlace> {
    prop_oneof![Just(EmptyPlace::Idle), Just(EmptyPlace::RunOthers), Just(EmptyPlace::ShareWithOutsiders)]
}

/// The matrix as rows of sets: what cores each gang has.
#[derive(Default)]
struct Model(Vec<BTreeMap<u32, BTreeSet<u32>>>);

impl Model {
    fn free(row: &BTreeMap<u32, BTreeSet<u32>>) -> BTreeSet<u32> {
        (0..CORES as u32).filter(|core| !row.values().any(|cores| cores.contains(core))).collect()
    }

    /// The first row where it fits, on which cores.
    fn place(&mut self, gang: u32, fits: impl Fn(BTreeSet<u32>) -> Option<BTreeSet<u32>>) -> Option<usize> {
        if self.0.len() < SLOTS {
            self.0.push(BTreeMap::new());
        }
        let found = self.0.iter().enumerate().find_map(|(row, gangs)| Some((row, fits(Self::free(gangs))?)));
        let row = found.map(|(row, cores)| {
            self.0[row].insert(gang, cores);
            row
        });
        self.0.retain(|row| !row.is_empty());
        row
    }

    fn knows(&self, gang: u32) -> bool {
        self.0.iter().any(|row| row.contains_key(&gang))
    }

    fn remove(&mut self, gang: u32) {
        self.0.iter_mut().for_each(|row| drop(row.remove(&gang)));
        self.0.retain(|row| !row.is_empty());
    }
}

fn apply(matrix: &mut Matrix, change: &Change) -> Result<Option<usize>, GangError> {
    match change {
        Change::Place(gang, width) => matrix.place(GangId(*gang), *width).map(Some),
        Change::PlaceOn(gang, cores) => {
            let cores: Vec<CoreId> = cores.iter().copied().map(CoreId).collect();
            matrix.place_on(GangId(*gang), &cores).map(Some)
        }
        Change::MoveTo(gang, cores) => {
            let cores: Vec<CoreId> = cores.iter().copied().map(CoreId).collect();
            matrix.move_to(GangId(*gang), &cores).map(Some)
        }
        Change::Remove(gang) => matrix.remove(GangId(*gang)).map(|()| None),
    }
}

/// A machine: a core each, with a member for each gang that it has a place for.
struct Machine {
    matrix: Matrix,
    cores: Vec<Core>,
    /// Of each core, the gang of each task.
    members: Vec<BTreeMap<u32, u32>>,
    now: u64,
}

impl Machine {
    fn new(quantum: u64, empty: EmptyPlace) -> Self {
        let cores = (0..CORES).map(|_| Core::new(empty)).collect();
        Self { matrix: Gangs::new(Nanos(quantum)), cores, members: vec![BTreeMap::new(); CORES], now: 0 }
    }

    /// Sets the current matrix on all cores; it holds from `start` on. Members come when they have a place.
    fn announce(&mut self, start: u64) {
        self.matrix.start_at(Nanos(start));
        for (core, policy) in self.cores.iter_mut().enumerate() {
            let core = CoreId(core as u32);
            let members = &mut self.members[core.0 as usize];
            for gang in 0..N as u32 {
                let has = self.matrix.cores_of(GangId(gang)).any(|other| other == core);
                if has && !members.contains_key(&gang) {
                    // A task has its gang's number.
                    policy.add_member(TaskId(gang), GangId(gang)).unwrap();
                    members.insert(gang, gang);
                } else if !has && members.remove(&gang).is_some() {
                    policy.remove(TaskId(gang)).unwrap();
                }
            }
            policy.set_column(self.matrix.column(core).unwrap(), Nanos(self.now));
        }
    }

    /// Goes on to `end` as kernels do: each core asks when its policy is due. `at` sees every moment of a
    /// change, and how long what it sees lasts.
    fn run_until(&mut self, end: u64, mut at: impl FnMut(&Self, u64)) {
        while self.now < end {
            let now = Nanos(self.now);
            for core in &mut self.cores {
                if core.on_tick(now) {
                    core.pick_next(now);
                }
            }
            let due = self.cores.iter().filter_map(|core| core.next_deadline(now)).map(|at| at.0).min();
            let next = due.unwrap_or(end).min(end);
            assert!(next > self.now, "time stands still");
            at(self, next - self.now);
            self.now = next;
        }
    }

    /// The gangs that run, and on how many cores.
    fn running(&self) -> BTreeMap<u32, usize> {
        let mut running = BTreeMap::new();
        for task in self.cores.iter().filter_map(Gang::current) {
            *running.entry(task.0).or_default() += 1;
        }
        running
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 600 }))]

    #[test]
    fn the_matrix_is_rows_of_sets(changes in changes()) {
        let (mut matrix, mut model) = (Matrix::new(Nanos(10)), Model::default());
        for change in changes {
            let done = apply(&mut matrix, &change);
            match &change {
                Change::Place(gang, width) if *width > CORES => {
                    prop_assert_eq!(done, Err(GangError::TooWide { gang: GangId(*gang), width: *width }));
                }
                Change::Place(gang, _) | Change::PlaceOn(gang, _) if model.knows(*gang) => {
                    prop_assert_eq!(done, Err(GangError::AlreadyThere(GangId(*gang))));
                }
                Change::Place(gang, 0) => prop_assert_eq!(done, Err(GangError::Empty(GangId(*gang)))),
                Change::Place(gang, width) => {
                    let row = model.place(*gang, |free| {
                        (free.len() >= *width).then(|| free.into_iter().take(*width).collect())
                    });
                    prop_assert_eq!(done, row.map(Some).ok_or(GangError::NoRoom(GangId(*gang))));
                }
                Change::PlaceOn(gang, cores) => {
                    let wanted: BTreeSet<u32> = cores.iter().copied().collect();
                    if cores.is_empty() {
                        prop_assert_eq!(done, Err(GangError::Empty(GangId(*gang))));
                    } else if cores.contains(&(CORES as u32)) || wanted.len() != cores.len() {
                        let refused = matches!(done, Err(GangError::NoCore(..) | GangError::SameCore(..)));
                        prop_assert!(refused, "{done:?}");
                    } else {
                        let row = model.place(*gang, |free| wanted.is_subset(&free).then(|| wanted.clone()));
                        prop_assert_eq!(done, row.map(Some).ok_or(GangError::NoRoom(GangId(*gang))));
                    }
                }
                Change::MoveTo(gang, cores) => {
                    let wanted: BTreeSet<u32> = cores.iter().copied().collect();
                    let sound = !cores.is_empty() && wanted.len() == cores.len() && !wanted.contains(&(CORES as u32));
                    let mut moved = Model(model.0.clone());
                    moved.remove(*gang);
                    let row = moved.place(*gang, |free| wanted.is_subset(&free).then(|| wanted.clone()));
                    match row {
                        _ if !sound => prop_assert!(done.is_err()),
                        // Without places for itself, it cannot have others'.
                        _ if !model.knows(*gang) => prop_assert!(done.is_err()),
                        Some(row) => {
                            prop_assert_eq!(done, Ok(Some(row)));
                            model = moved;
                        }
                        None => prop_assert_eq!(done, Err(GangError::NoRoom(GangId(*gang)))),
                    }
                }
                Change::Remove(gang) => {
                    let known = model.knows(*gang);
                    prop_assert_eq!(done, if known { Ok(None) } else { Err(GangError::Unknown(GangId(*gang))) });
                    model.remove(*gang);
                }
            }
            // Whatever was refused has changed nothing.
            prop_assert_eq!(matrix.rotation().slots() as usize, model.0.len());
            for gang in 0..12 {
                let row = model.0.iter().position(|row| row.contains_key(&gang));
                prop_assert_eq!(matrix.slot_of(GangId(gang)), row);
                let cores: BTreeSet<u32> = matrix.cores_of(GangId(gang)).map(|core| core.0).collect();
                prop_assert_eq!(cores, row.map(|row| model.0[row][&gang].clone()).unwrap_or_default());
            }
        }
    }

    #[test]
    fn a_gang_runs_as_a_whole_or_not_at_all(changes in changes(), quantum in 1u64..50, empty in empty_places()) {
        let mut machine = Machine::new(quantum, empty);
        for change in &changes {
            let _ = apply(&mut machine.matrix, change);
        }
        machine.announce(machine.now);
        let slots = u64::from(machine.matrix.rotation().slots());
        // How long each gang has run with all of its members, in two rounds.
        let mut together: BTreeMap<u32, u64> = BTreeMap::new();
        let mut wrong = None;
        // Slot by slot, because a core that has one task for all of them does not look.
        for turn in 1..=2 * slots { machine.run_until(turn * quantum, |machine, time| {
            // From the time alone.
            let slot = (machine.now / quantum % slots) as usize;
            for (gang, count) in machine.running() {
                let width = machine.matrix.cores_of(GangId(gang)).count();
                if machine.matrix.slot_of(GangId(gang)) == Some(slot) {
                    *together.entry(gang).or_default() += time;
                    if count != width {
                        wrong = Some(format!("{count} of {width} members of gang {gang} run at {}", machine.now));
                    }
                } else if empty == EmptyPlace::Idle {
                    wrong = Some(format!("gang {gang} runs in another one's slot at {}", machine.now));
                }
            }
            // With others, no core idles that has anything to run.
            let idle = machine.cores.iter().zip(&machine.members);
            if empty != EmptyPlace::Idle
                && idle.clone().any(|(core, members)| core.current().is_none() && !members.is_empty())
            {
                wrong = Some(format!("a core idles at {}", machine.now));
            }
        }); }
        prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        // Every gang had each of its turns, in full.
        for gang in 0..12 {
            let due = if machine.matrix.slot_of(GangId(gang)).is_some() { 2 * quantum } else { 0 };
            prop_assert_eq!(together.get(&gang).copied().unwrap_or(0), due, "gang {}", gang);
        }
    }

    #[test]
    fn tasks_outside_gangs_have_own_slot(changes in changes(), quantum in 1u64..50, crowded in 0u32..1 << CORES) {
        const OUTSIDER: TaskId = TaskId(15);
        let mut machine = Machine::new(quantum, EmptyPlace::ShareWithOutsiders);
        for change in &changes {
            let _ = apply(&mut machine.matrix, change);
        }
        machine.announce(0);
        let is_crowded = |core: usize| crowded & 1 << core != 0;
        for core in (0..CORES).filter(|core| is_crowded(*core)) {
            // Of a gang that has its places elsewhere, or of none.
            let added = match core % 2 {
                0 => machine.cores[core].add(OUTSIDER),
                _ => machine.cores[core].add_member(OUTSIDER, GangId(99)),
            };
            added.unwrap();
        }
        let slots = u64::from(machine.matrix.rotation().slots());
        let mut together: BTreeMap<u32, u64> = BTreeMap::new();
        let mut wrong = None;
        for turn in 1..=slots * (slots + 1) { machine.run_until(turn * quantum, |machine, time| {
            let turn = machine.now / quantum;
            let for_outsiders = turn % (slots + 1) == slots;
            for (core, policy) in machine.cores.iter().enumerate() {
                let column = machine.matrix.column(CoreId(core as u32)).unwrap();
                let member = column.gang_at(Nanos(machine.now)).map(|gang| TaskId(gang.0));
                let due = if for_outsiders && is_crowded(core) { Some(OUTSIDER) } else { member };
                // In an empty place, it may be anybody.
                if due.is_some() && policy.current() != due {
                    wrong = Some(format!("core {core} runs {:?} in turn {turn} of {slots}", policy.current()));
                }
            }
            for (gang, count) in machine.running() {
                let place = machine.matrix.slot_of(GangId(gang));
                if place == Some((turn % slots) as usize) && count == machine.matrix.cores_of(GangId(gang)).count() {
                    *together.entry(gang).or_default() += time;
                }
            }
        }); }
        prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        // A gang with outsiders gave one of its turns, and ran as a whole in all others.
        for gang in (0..12).filter(|gang| machine.matrix.slot_of(GangId(*gang)).is_some()) {
            let gave = machine.matrix.cores_of(GangId(gang)).any(|core| is_crowded(core.0 as usize));
            let turns = slots + 1 - u64::from(gave);
            prop_assert_eq!(together.get(&gang).copied().unwrap_or(0), turns * quantum, "gang {}", gang);
        }
    }

    #[test]
    fn cores_switch_matrix_at_same_time(
        rounds in prop::collection::vec((changes(), 0u64..100, 0u64..60), 1..5),
        quantum in 1u64..50,
    ) {
        let mut machine = Machine::new(quantum, EmptyPlace::Idle);
        let mut before: Option<Vec<Column<SLOTS>>> = None;
        for (changes, notice, length) in rounds {
            for change in changes {
                // One that leaves stops at once; so only those that stay are looked at until the start.
                let _ = apply(&mut machine.matrix, &change);
            }
            let start = machine.now + notice;
            machine.announce(start);
            let after: Vec<_> = (0..CORES as u32).map(|core| machine.matrix.column(CoreId(core)).unwrap()).collect();
            let mut wrong = None;
            machine.run_until(start + length + 1, |machine, _| {
                for (core, policy) in machine.cores.iter().enumerate() {
                    let columns = if machine.now >= start { Some(&after) } else { before.as_ref() };
                    let gang = columns.and_then(|columns| columns[core].gang_at(Nanos(machine.now)));
                    let member = gang.filter(|gang| machine.members[core].contains_key(&gang.0));
                    // Before the first matrix there are no gangs, and all take turns.
                    if columns.is_some_and(|columns| columns[core].rotation().slots() > 0)
                        && policy.current() != member.map(|gang| TaskId(gang.0))
                    {
                        wrong = Some(format!("core {core} runs {:?} at {}", policy.current(), machine.now));
                    }
                }
            });
            prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
            before = Some(after);
        }
    }

    #[test]
    fn gang_keeps_policy_invariants(ops in ops(N, u64::MAX / 50), quantum in any::<u64>(), empty in empty_places()) {
        lawful(ops, quantum, empty)?;
    }

    #[test]
    fn gang_keeps_policy_invariants_at_small_times(ops in ops(N, 20), quantum in 0u64..30, empty in empty_places()) {
        lawful(ops, quantum, empty)?;
    }
}

/// With three gangs on the core, in three slots; numbers of tasks are anything.
fn lawful(ops: Vec<(common::Op, u64)>, quantum: u64, empty: EmptyPlace) -> Result<(), TestCaseError> {
    let mut policy = Core::new(empty);
    let mut matrix = Matrix::new(Nanos(quantum));
    for gang in 0..3 {
        matrix.place(GangId(gang), CORES).unwrap();
    }
    policy.set_column(matrix.column(CoreId(0)).unwrap(), Nanos(0));
    check(policy, ops, N, |policy, tasks, task, value, now| {
        let known = tasks.0.contains_key(&task.0);
        let gang = (value % 4).checked_sub(1).map(|gang| GangId(gang as u32));
        prop_assert_eq!(policy.set_gang(task, gang).is_ok(), known);
        prop_assert_eq!(policy.gang(task).ok(), known.then_some(gang));
        if value % 5 == 0 {
            let mut matrix = Matrix::new(Nanos(value % 100));
            for gang in 0..value as u32 % 4 {
                matrix.place(GangId(gang), 1).unwrap();
            }
            matrix.start_at(Nanos(now.0.saturating_add(value % 50)));
            policy.set_column(matrix.column(CoreId(0)).unwrap(), now);
        }
        Ok(())
    })
}

#[test]
fn gangs_take_turns_over_long_traces() {
    // Five gangs on four cores, in three slots, for a hundred thousand turns.
    let mut machine = Machine::new(100, EmptyPlace::Idle);
    let widths = [4, 2, 2, 3, 1];
    for (gang, width) in widths.into_iter().enumerate() {
        let cores: Vec<CoreId> = match gang {
            2 => vec![CoreId(2), CoreId(3)],
            4 => vec![CoreId(3)],
            _ => (0..width).map(CoreId).collect(),
        };
        machine.matrix.place_on(GangId(gang as u32), &cores).unwrap();
    }
    assert_eq!(machine.matrix.rotation().slots(), 3);
    machine.announce(0);
    let mut ran = BTreeMap::new();
    machine.run_until(100 * 99_999, |machine, time| {
        for (gang, count) in machine.running() {
            *ran.entry(gang).or_insert(0) += count as u64 * time;
        }
    });
    for (gang, width) in widths.into_iter().enumerate() {
        assert_eq!(ran[&(gang as u32)], u64::from(width) * 100 * 33_333, "gang {gang}");
    }
}

#[test]
fn woken_member_runs_in_current_slot() {
    let mut policy = Core::new(EmptyPlace::RunOthers);
    let mut matrix = Matrix::new(Nanos(100));
    matrix.place(GangId(1), 1).unwrap();
    matrix.place(GangId(2), CORES).unwrap();
    policy.set_column(matrix.column(CoreId(0)).unwrap(), Nanos(0));
    policy.add_member(TaskId(1), GangId(1)).unwrap();
    policy.add_member(TaskId(2), GangId(2)).unwrap();
    policy.block(TaskId(1)).unwrap();
    // The slot's member waits for something, so another one may run in its place.
    assert_eq!(policy.pick_next(Nanos(10)), Some(TaskId(2)));
    assert_eq!(policy.wake_preempts(TaskId(1), Nanos(20)), Ok(true));
    assert_eq!(policy.pick_next(Nanos(20)), Some(TaskId(1)));
    // It cannot give its slot away while it wants it.
    policy.yield_current();
    assert_eq!(policy.pick_next(Nanos(30)), Some(TaskId(1)));
    assert_eq!(policy.next_deadline(Nanos(30)), Some(Nanos(100)));
    assert_eq!(policy.pick_next(Nanos(100)), Some(TaskId(2)));
}

#[test]
fn a_lone_gang_needs_no_timer() {
    let mut machine = Machine::new(100, EmptyPlace::Idle);
    machine.matrix.place(GangId(0), CORES).unwrap();
    machine.announce(0);
    machine.run_until(1, |_, _| ());
    assert!(machine.cores.iter().all(|core| core.next_deadline(Nanos(50)).is_none()));
    assert_eq!(machine.running(), BTreeMap::from([(0, CORES)]));
}

#[test]
fn blocked_outsider_does_not_delay_gang() {
    let mut policy = Core::new(EmptyPlace::ShareWithOutsiders);
    let mut matrix = Matrix::new(Nanos(100));
    matrix.place(GangId(1), 1).unwrap();
    policy.set_column(matrix.column(CoreId(0)).unwrap(), Nanos(0));
    policy.add_member(TaskId(1), GangId(1)).unwrap();
    policy.add(TaskId(2)).unwrap();
    policy.block(TaskId(2)).unwrap();
    assert_eq!(policy.pick_next(Nanos(0)), Some(TaskId(1)));
    assert_eq!(policy.next_deadline(Nanos(0)), None);
    // It has every second turn, as soon as it wants it.
    assert_eq!(policy.wake_preempts(TaskId(2), Nanos(50)), Ok(false));
    assert_eq!(policy.next_deadline(Nanos(50)), Some(Nanos(100)));
    assert_eq!(policy.pick_next(Nanos(100)), Some(TaskId(2)));
    policy.block(TaskId(2)).unwrap();
    assert_eq!(policy.pick_next(Nanos(120)), Some(TaskId(1)));
    assert_eq!(policy.wake_preempts(TaskId(2), Nanos(150)), Ok(true));
    assert_eq!(policy.pick_next(Nanos(150)), Some(TaskId(2)));
    assert_eq!(policy.next_deadline(Nanos(150)), Some(Nanos(200)));
    assert_eq!(policy.pick_next(Nanos(200)), Some(TaskId(1)));
}

#[test]
fn members_on_one_core_have_a_gangs_slots_in_turn() {
    let mut policy = Core::new(EmptyPlace::Idle);
    let mut matrix = Matrix::new(Nanos(100));
    matrix.place(GangId(1), 1).unwrap();
    matrix.place(GangId(2), CORES).unwrap();
    policy.set_column(matrix.column(CoreId(0)).unwrap(), Nanos(0));
    policy.add_member(TaskId(1), GangId(1)).unwrap();
    policy.add_member(TaskId(2), GangId(1)).unwrap();
    let mut picked = Vec::new();
    for turn in 0..6 {
        picked.push(policy.pick_next(Nanos(turn * 100)).map(|task| task.0));
        // Once is enough.
        assert!(!policy.on_tick(Nanos(turn * 100)));
    }
    assert_eq!(picked, [Some(1), None, Some(2), None, Some(1), None]);
}
