//! Every state that the primary and two secondaries can put three pages into, which two cores share, lend,
//! donate, retrieve, relinquish and reclaim, while the secondaries are stopped, torn down and started again.
//!
//! Phases, claims and page ownership are the real code; a call that takes the ownership lock is one step
//! (`page-ownership` has a model of what happens within). Between two steps each secondary that a core runs
//! writes all memory that it has.
//!
//! What must hold: a VM starts with its own memory and no other, scrubbed; memory that was donated to it
//! comes to the primary scrubbed; what is being reclaimed holds nothing any more and lends nothing. From
//! every state a lender gets its memory back, and each VM is started again, without a secondary's help.

mod world;

use stateright::{Checker, HasDiscoveries, Model};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};
use world::{Action, Does, Flaw, State, World};

fn check(primary_sends: bool) {
    let start = Instant::now();
    let world = || World { flaw: Flaw::None, primary_sends };
    let checker = world().checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    checker.assert_properties();
    assert_eq!(stuck(&world()), None);
}

#[test]
fn memory_of_the_primary_comes_back_from_a_vm_that_stops() {
    check(true);
}

#[test]
fn memory_comes_back_from_secondaries_that_stop() {
    check(false);
}

#[test]
fn flaws_are_found() {
    for (flaw, primary_sends) in [
        (Flaw::LookThenLock, true),
        (Flaw::KeepsBorrowed, true),
        (Flaw::DonatedUnscrubbed, true),
        (Flaw::ScrubsFirst, true),
        (Flaw::KeepsLent, false),
    ] {
        let world = World { flaw, primary_sends };
        let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let always = checker.discoveries().into_iter().filter(|(name, _)| !name.starts_with("it happens"));
        let found: Vec<_> = always.map(|(name, path)| (name, path.into_actions())).collect();
        println!("{flaw:?}, after {} states: {found:?}", checker.unique_state_count());
        assert!(!found.is_empty(), "{flaw:?} went unnoticed");
    }
}

/// A state from which something cannot be reached that must be, if there is one.
fn stuck(world: &World) -> Option<String> {
    let mut numbers = HashMap::new();
    let mut states: Vec<State> = world.init_states();
    numbers.insert(states[0].clone(), 0usize);
    let mut edges: Vec<(usize, usize, Action)> = vec![];
    let (mut next, mut actions) = (0, vec![]);
    while next < states.len() {
        let state = states[next].clone();
        actions.clear();
        world.actions(&state, &mut actions);
        for action in &actions {
            let Some(after) = world.next_state(&state, *action) else { continue };
            let number = *numbers.entry(after.clone()).or_insert_with(|| {
                states.push(after);
                states.len() - 1
            });
            edges.push((next, number, *action));
        }
        next += 1;
    }
    println!("progress from {} states", states.len());
    // Each VM runs again.
    let system = |action: &Action| {
        matches!(action.does, Does::Step | Does::Kicked | Does::Interrupt | Does::Stop(_) | Does::Restart(_))
    };
    let secondaries: &[u16] = if world.primary_sends { &[2] } else { &[2, 3] };
    for vm in secondaries.iter().copied() {
        let goal = |s: &State| s.is_active(vm);
        if let Some(state) = out_of_reach(&states, &edges, system, goal) {
            return Some(format!("VM {vm} is not started again from {state:?}"));
        }
    }
    // A lender that asks gets its memory back; it is not stopped for that.
    let lenders: &[u16] = if world.primary_sends { &[1] } else { &[2, 3] };
    for lender in lenders.iter().copied() {
        let goal = |s: &State| !s.is_active(lender) || !s.lends(lender);
        let helps = |action: &Action| match action.does {
            Does::Stop(vm) | Does::Restart(vm) => vm != lender,
            Does::Reclaim(vm) | Does::Run(vm) => vm == lender,
            _ => system(action),
        };
        // Whatever is stopped already: the primary need not do more for it.
        if let Some(state) = out_of_reach(&states, &edges, helps, goal) {
            return Some(format!("VM {lender} does not get its memory back from {state:?}"));
        }
    }
    None
}

fn out_of_reach<'a>(
    states: &'a [State],
    edges: &[(usize, usize, Action)],
    helps: impl Fn(&Action) -> bool,
    goal: impl Fn(&State) -> bool,
) -> Option<&'a State> {
    let mut before: HashMap<usize, Vec<usize>> = HashMap::new();
    for (from, to, _) in edges.iter().filter(|(.., action)| helps(action)) {
        before.entry(*to).or_default().push(*from);
    }
    let mut open: Vec<usize> = (0..states.len()).filter(|n| goal(&states[*n])).collect();
    let mut reached: HashSet<usize> = open.iter().copied().collect();
    while let Some(n) = open.pop() {
        for previous in before.get(&n).into_iter().flatten() {
            if reached.insert(*previous) {
                open.push(*previous);
            }
        }
    }
    (0..states.len()).find(|n| !reached.contains(n)).map(|n| &states[n])
}
