//! What can always be reached.

use crate::{
    state::{State, VCPUS, vm_of},
    world::{Does, World},
};
use stateright::Model;
use std::collections::HashMap;
use vm_lifecycle::{Status, VcpuState::WaitingForResponse};

impl World {
    /// From each state each VM can be brought to the phase *off*, and a requester can be made to go on, by
    /// steps that cores make in any case, by interrupts and by calls of the primary; guests do nothing for
    /// it. Returns a state from which that is not so.
    pub fn stuck(&self) -> Option<String> {
        let (mut numbers, mut states) = (HashMap::new(), Vec::new());
        let mut before: Vec<Vec<u32>> = Vec::new();
        let (mut next, mut actions) = (0, Vec::new());
        for state in self.init_states() {
            numbers.insert(state.clone(), 0);
            states.push(state);
            before.push(vec![]);
        }
        while next < states.len() {
            let state: State = states[next].clone();
            actions.clear();
            self.actions(&state, &mut actions);
            for action in &actions {
                let Some(after) = self.next_state(&state, *action) else { continue };
                let number = *numbers.entry(after.clone()).or_insert_with(|| {
                    states.push(after);
                    before.push(vec![]);
                    states.len() - 1
                });
                let own = match action.does {
                    Does::Step | Does::Kicked | Does::StopVm(_) | Does::Restart(_) | Does::Run(_) => true,
                    // An interrupt of the primary's, such as its tick. A core that runs a stopped VM does not
                    // need one.
                    Does::Yield => state.cores[action.core].loaded.is_some_and(|v| state.is_active(vm_of(v))),
                    _ => false,
                };
                if own {
                    before[number].push(next as u32);
                }
            }
            next += 1;
        }
        let off = |vm: usize| move |s: &State| matches!(s.vms[vm].phase, Status::Off(_));
        let goes_on = |v: usize| move |s: &State| !matches!(s.vcpus[v].state, WaitingForResponse(_));
        println!("progress from {} states", states.len());
        let stuck = |name, goal: &dyn Fn(&State) -> bool| Self::out_of_reach(&states, &before, name, goal);
        let requesters = || (0..VCPUS.len()).find_map(|v| stuck("a requester that goes on", &goes_on(v)));
        stuck("VM 2 off", &off(0)).or_else(|| stuck("VM 3 off", &off(1))).or_else(requesters)
    }

    /// A state from which no state is reached that is a `goal`.
    fn out_of_reach(
        states: &[State],
        before: &[Vec<u32>],
        name: &str,
        goal: &dyn Fn(&State) -> bool,
    ) -> Option<String> {
        let mut reached: Vec<bool> = states.iter().map(goal).collect();
        let mut open: Vec<usize> = (0..states.len()).filter(|n| reached[*n]).collect();
        while let Some(n) = open.pop() {
            for previous in &before[n] {
                if !std::mem::replace(&mut reached[*previous as usize], true) {
                    open.push(*previous as usize);
                }
            }
        }
        let state = reached.iter().position(|reached| !reached)?;
        Some(format!("{name} is out of reach from {:?}", states[state]))
    }
}
