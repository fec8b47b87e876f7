//! What each core can do next, and what must hold.

use crate::state::{Core, Flaw, State, Step, Step::*, VCPUS, Vcpu, vcpus_of, vm_of};
use VcpuState::{Off, Parked, Ready, Running, Waiting, WaitingForMessage, WaitingForResponse};
use stateright::{Model, Property};
use vm_lifecycle::{Request, Status, VcpuState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub core: usize,
    pub does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// The next step of what it is doing.
    Step,
    /// The same, where `run::wake` or `run::has_reason_to_run` may say yes or no.
    Otherwise,
    /// The kick arrives.
    Kicked,
    /// The primary's calls.
    Run(usize),
    StopVm(usize),
    Restart(usize),
    /// A direct request, to a VM, by the loaded vCPU or by the primary.
    Request(usize),
    /// A lender takes memory back from a VM.
    ReclaimFrom(usize),
    /// What the loaded vCPU does.
    Yield,
    Wait,
    WaitForMessage,
    Respond,
    CpuOn(usize),
    CpuOff,
    SystemOff,
}

pub struct World {
    pub flaw: Flaw,
    /// How many requests of a vCPU may be known at a time.
    pub requests: u32,
    /// The primary sends some too.
    pub primary_asks: bool,
    /// vCPUs switch each other and themselves on and off, and wait for interrupts.
    pub power: bool,
    /// Lenders take memory back from stopped VMs.
    pub lenders: bool,
    /// vCPUs that are ready from the start, besides the first ones.
    pub ready: &'static [usize],
}

pub const SOMETIMES: [&str; 3] = [
    "a VM stops while both cores run its vCPUs",
    "a response is on its way to a VM that has stopped",
    "requests form a chain",
];

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.ready)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (core, it) in state.cores.iter().enumerate() {
            let mut add = |does| actions.push(Action { core, does });
            if let Some(next) = it.program.last() {
                add(Does::Step);
                let either = match next {
                    RunCheck(_, seen) => *seen != Ready,
                    AnswerCheck(..) | AskCheck(None, _) => true,
                    _ => false,
                };
                if either {
                    add(Does::Otherwise);
                }
                continue;
            }
            if it.kicked {
                add(Does::Kicked);
            }
            let stopped = (0..2).filter(|vm| !state.is_active(*vm));
            let Some(v) = it.loaded else {
                (0..VCPUS.len()).for_each(|v| add(Does::Run(v)));
                (0..2).for_each(|vm| {
                    add(if state.is_active(vm) { Does::StopVm(vm) } else { Does::Restart(vm) });
                });
                (0..2).filter(|_| self.primary_asks).for_each(|vm| add(Does::Request(vm)));
                stopped.filter(|_| self.lenders).for_each(|vm| add(Does::ReclaimFrom(vm)));
                continue;
            };
            let vm = vm_of(v);
            add(Does::Yield);
            if self.power {
                [Does::Wait, Does::CpuOff, Does::SystemOff].into_iter().for_each(&mut add);
                vcpus_of(vm).filter(|other| *other != v).for_each(|other| add(Does::CpuOn(other)));
            }
            if self.requests > 0 {
                add(if state.vcpus[v].request.is_some() { Does::Respond } else { Does::WaitForMessage });
                if state.vcpus[v].last < self.requests {
                    add(Does::Request(1 - vm));
                }
            }
            if self.lenders {
                stopped.filter(|other| *other != vm).for_each(|vm| add(Does::ReclaimFrom(vm)));
            }
        }
    }

    fn next_state(&self, last: &State, Action { core, does }: Action) -> Option<State> {
        let mut state = last.clone();
        let loaded = state.cores[core].loaded;
        let current = || loaded.expect("a secondary is loaded");
        let program: &[Step] = match does {
            Does::Step | Does::Otherwise => {
                state.step(core, does == Does::Otherwise, self.flaw);
                &[]
            }
            Does::Kicked => {
                state.cores[core].kicked = false;
                &[Interrupted(current())]
            }
            Does::Run(v) if self.flaw == Flaw::LookThenClaim => &[RunLook(v)],
            Does::Run(v) => &[RunClaim(v)],
            Does::StopVm(vm) => {
                if self.flaw == Flaw::HaltThenStop {
                    state.cores[core].program.push(Stop(vm));
                    state.halt(vm, core);
                    &[]
                } else {
                    &[Stop(vm)]
                }
            }
            Does::Restart(vm) => &[Token(vm, true)],
            Does::ReclaimFrom(vm) => &[Token(vm, false)],
            Does::Request(vm) => &[AskClaim(loaded, vm)],
            Does::Yield => &[Leave(current(), Ready)],
            Does::Wait => &[Leave(current(), Waiting)],
            Does::WaitForMessage => &[Leave(current(), WaitingForMessage)],
            Does::Respond => &[AnswerTake(current())],
            Does::CpuOn(v) => &[OnClaim(v)],
            Does::CpuOff => {
                let v = current();
                &[OffCount(v), FailTake(v)]
            }
            Does::SystemOff => {
                let v = current();
                &[Leave(v, Off), FailTake(v), Stop(vm_of(v))]
            }
        };
        state.cores[core].program.extend(program);
        for vm in 0..2 {
            let phase = last.vms[vm].phase;
            let inert = matches!(phase, Status::Reclaiming(_) | Status::Off(_));
            let changed = vcpus_of(vm).any(|v| last.vcpus[v] != state.vcpus[v]);
            if inert && changed && last.vms[vm].token != Some(core) {
                state.wrong = Some("a core without the token changes a vCPU of a VM that is being torn down");
            }
        }
        state.renumber();
        // An interrupt that the primary takes has no consequences here.
        for core in &mut state.cores {
            core.kicked &= core.loaded.is_some() || !core.program.is_empty();
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing goes wrong in a step", |_, s: &State| s.wrong.is_none()),
            Property::always("a vCPU is owned by one core, and runs on no other", |_, s: &State| {
                let owner = |v: usize| {
                    let owners: Vec<_> = (0..2).filter(|c| s.cores[*c].owns >> v & 1 != 0).collect();
                    match owners[..] {
                        [] => !matches!(s.vcpus[v].state, Running(_)),
                        [core] => s.vcpus[v].state == Running(core as u16),
                        _ => false,
                    }
                };
                let loaded = |c: &Core| c.loaded.is_none_or(|v| c.owns >> v & 1 != 0);
                (0..VCPUS.len()).all(owner) && s.cores.iter().all(loaded)
            }),
            Property::always("no core owns a vCPU of a VM that is being torn down", |_, s: &State| {
                let torn = |v: usize| {
                    !matches!(
                        s.vms[vm_of(v)].phase,
                        Status::Running | Status::Halting(_) | Status::Stopping(_)
                    )
                };
                (0..VCPUS.len()).all(|v| !torn(v) || !matches!(s.vcpus[v].state, Running(_)))
            }),
            Property::always("a core that runs a vCPU of a stopped VM is sent a kick", |_, s: &State| {
                (0..2).all(|c| {
                    let core = &s.cores[c];
                    let Some(v) = core.loaded.filter(|_| core.program.is_empty()) else { return true };
                    let coming = |step: &Step| *step == HaltLook(v);
                    s.is_active(vm_of(v)) || core.kicked || s.cores[1 - c].program.iter().any(coming)
                })
            }),
            Property::always("as many vCPUs are on as are counted", |_, s: &State| {
                let on = |vm| vcpus_of(vm).filter(|v| s.vcpus[*v].state != Off).count();
                !s.is_quiet() || (0..2).all(|vm| !s.is_active(vm) || on(vm) == usize::from(s.vms[vm].on))
            }),
            Property::always("somebody owes a response, and can be made to fail", |_, s: &State| {
                let waits_for = |v: usize| match s.vcpus[v].state {
                    WaitingForResponse(number) if s.is_active(vm_of(v)) => Some(number),
                    _ => None,
                };
                let owes = |v: usize, number| {
                    let request = Some(Request { sender: VCPUS[v], number });
                    s.vcpus.iter().any(|vcpu| vcpu.request == request && !matches!(vcpu.state, Off | Parked))
                };
                !s.is_quiet() || (0..VCPUS.len()).all(|v| waits_for(v).is_none_or(|number| owes(v, number)))
            }),
            Property::sometimes("a VM stops while both cores run its vCPUs", |_, s: &State| {
                !s.is_active(0) && s.cores.iter().all(|core| core.loaded.is_some_and(|v| vm_of(v) == 0))
            }),
            Property::sometimes("a response is on its way to a VM that has stopped", |_, s: &State| {
                let late = |step: &Step| matches!(step, AnswerClaim(_, asked) if !asked.1);
                s.cores.iter().flat_map(|core| &core.program).any(late)
            }),
            Property::sometimes("requests form a chain", |_, s: &State| {
                let waits = |vcpu: &&Vcpu| matches!(vcpu.state, WaitingForResponse(_));
                s.vcpus.iter().filter(waits).count() == 2
            }),
        ]
    }
}
