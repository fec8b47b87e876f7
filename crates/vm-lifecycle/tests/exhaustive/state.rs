//! What two cores do, one access at a time.

use Step::*;
use VcpuState::{Off, Parked, Ready, Running, Waiting, WaitingForMessage, WaitingForResponse};
use hv_abi::ids::{VcpuId, VcpuIndex, VmId};
use vm_lifecycle::{Event, LifeCycle, Request, RequestCell, StateCell, Status, StopReason, VcpuState};

/// The vCPUs: two of one VM, one of the other.
pub const VCPUS: [VcpuId; 3] = [vcpu(2, 0), vcpu(2, 1), vcpu(3, 0)];
pub const VMS: [VmId; 2] = [VmId(2), VmId(3)];

pub const fn vcpu(vm: u16, index: u16) -> VcpuId {
    VcpuId { vm: VmId(vm), index: VcpuIndex(index) }
}

/// The place of a vCPU's VM in [`VMS`].
pub fn vm_of(v: usize) -> usize {
    usize::from(VCPUS[v].vm.0 - 2)
}

pub fn vcpus_of(vm: usize) -> impl DoubleEndedIterator<Item = usize> {
    (0..VCPUS.len()).filter(move |v| vm_of(*v) == vm)
}

/// A rule that the hypervisor does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// `run::run` looks at the VM's phase before it claims the vCPU.
    LookThenClaim,
    /// `run::halt` looks at the vCPUs before the phase has changed.
    HaltThenStop,
    /// Cores that run a vCPU of a stopped VM are not sent a kick.
    NoKick,
    /// A vCPU is given up before its registers have been saved.
    PublishThenSave,
    /// A vCPU that a core owns can be parked.
    ParkRunning,
    /// Memory is reclaimed although a vCPU has not been parked.
    ReclaimUnparked,
    /// Several cores tear a VM down at a time.
    NoToken,
    /// A restart publishes the vCPUs before the VM runs.
    PublishThenStart,
    /// A restart publishes the first vCPU before those that it can switch on.
    PublishFirst,
    /// A restart makes request numbers begin again.
    NumbersBeginAgain,
    /// A VM can be torn down, and started again, while `run::halt` still looks at its vCPUs.
    LateHalt,
    /// `run::take_for_run` gives up a vCPU of a stopped VM before it fails who waits for it.
    ReleaseThenFail,
    /// `teardown::quiesce` fails those who wait for a parked vCPU only when all are parked.
    ParkAllThenFail,
    /// A response finds that its receiver's VM has stopped, switches it off, and forgets who waits for that
    /// one.
    ChainForgotten,
}

/// One access of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `run::take_for_run`.
    RunClaim(usize),
    RunCheck(usize, VcpuState),
    /// `LookThenClaim` only.
    RunLook(usize),
    /// The second half of a switch: saves the vCPU and publishes its state.
    Leave(usize, VcpuState),
    Save(usize),
    /// Gives up a vCPU that has not been loaded.
    Release(usize, VcpuState),
    /// `run::after_interrupt`.
    Interrupted(usize),
    /// `Vm::switch_off`: `halt` follows if this stopped the VM.
    Stop(usize),
    /// `run::halt`: for one vCPU; at the end.
    HaltLook(usize),
    Halted(usize),
    /// `service::fail_requester`.
    FailTake(usize),
    FailClaim(Asked),
    FailRelease(usize),
    /// `psci::cpu_on`.
    OnClaim(usize),
    OnCheck(usize),
    /// `psci::cpu_off`.
    OffCount(usize),
    /// `direct::take_receiver`: what is left to try; `direct::send_request`.
    AskClaim(Option<usize>, usize),
    AskCheck(Option<usize>, usize),
    /// `direct::send_response`.
    AnswerTake(usize),
    AnswerClaim(usize, Asked),
    AnswerCheck(usize, usize, bool),
    /// `teardown::restart` (true), `teardown::return_borrowed` (false).
    Token(usize, bool),
    /// `teardown::quiesce`.
    Park(usize),
    Quiesced(usize),
    /// `teardown::restart`, the rest.
    Part(usize),
    Started(usize),
    Publish(usize),
    Unlock(usize),
}

/// A request, and whether its sender has not been restarted since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked(pub Request, pub bool);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VmState {
    pub phase: Status,
    pub token: Option<usize>,
    /// A part of its memory has been scrubbed.
    pub progress: bool,
    /// `Vm::vcpus_on`.
    pub on: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vcpu {
    pub state: VcpuState,
    pub request: Option<Request>,
    pub fresh: bool,
    pub last: u32,
    /// The core whose registers hold its values.
    pub registers: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Core {
    /// The vCPU that it has loaded; `None`: the primary's.
    pub loaded: Option<usize>,
    /// The vCPUs that it owns.
    pub owns: u8,
    pub kicked: bool,
    /// What it does next, last first.
    pub program: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub vms: [VmState; 2],
    pub vcpus: [Vcpu; 3],
    pub cores: [Core; 2],
    pub wrong: Option<&'static str>,
}

impl State {
    pub fn new(ready: &[usize]) -> Self {
        let vm = |vm| {
            let on = 1 + ready.iter().filter(|v| vm_of(**v) == vm).count() as u8;
            VmState { phase: Status::Running, token: None, progress: false, on }
        };
        let vcpu = |v: usize| {
            let state = if VCPUS[v].index.0 == 0 || ready.contains(&v) { Ready } else { Off };
            Vcpu { state, request: None, fresh: false, last: 0, registers: None }
        };
        Self { vms: [vm(0), vm(1)], vcpus: [0, 1, 2].map(vcpu), cores: Default::default(), wrong: None }
    }

    /// Makes a transition of a VM's phase: the real one.
    fn apply(&mut self, vm: usize, event: Event) -> bool {
        let cell = LifeCycle::new(self.vms[vm].phase);
        let done = cell.apply(event);
        self.vms[vm].phase = cell.status();
        done
    }

    /// Whether calls by the VM, or about it, are accepted.
    pub fn is_active(&self, vm: usize) -> bool {
        LifeCycle::new(self.vms[vm].phase).accepts_calls()
    }

    fn with_state<T>(&mut self, v: usize, access: impl FnOnce(&StateCell) -> T) -> T {
        let cell = StateCell::new(self.vcpus[v].state);
        let result = access(&cell);
        self.vcpus[v].state = cell.load();
        result
    }

    fn with_request<T>(&mut self, v: usize, access: impl FnOnce(&RequestCell) -> T) -> T {
        let cell = RequestCell::new(self.vcpus[v].request);
        let result = access(&cell);
        self.vcpus[v].request = cell.get();
        result
    }

    fn claim(&mut self, v: usize, from: VcpuState, core: usize) -> bool {
        let claimed = self.with_state(v, |cell| cell.claim(from, core as u16));
        if claimed {
            self.cores[core].owns |= 1 << v;
        }
        claimed
    }

    fn publish(&mut self, v: usize, state: VcpuState, core: usize) {
        self.with_state(v, |cell| cell.publish(state));
        self.cores[core].owns &= !(1 << v);
    }

    fn take_request(&mut self, v: usize) -> Option<Asked> {
        let fresh = std::mem::take(&mut self.vcpus[v].fresh);
        self.with_request(v, RequestCell::take).map(|request| Asked(request, fresh))
    }

    /// Takes the sender of a request, if it waits for the response (`direct::claim_sender`).
    fn claim_sender(&mut self, request: Request, core: usize) -> Option<usize> {
        let sender = VCPUS.iter().position(|id| *id == request.sender)?;
        self.claim(sender, WaitingForResponse(request.number), core).then_some(sender)
    }

    /// Loads a vCPU that the core owns (`run::load`).
    fn load(&mut self, v: usize, core: usize) {
        if self.vcpus[v].registers.replace(core).is_some() {
            self.wrong = Some("a vCPU is loaded whose registers another core still holds");
        }
        self.cores[core].loaded = Some(v);
    }

    fn save(&mut self, v: usize) {
        self.vcpus[v].registers = None;
    }

    /// The VM begins a new life: nothing that the last one sent is awaited any more.
    fn new_life(&mut self, vm: usize) {
        let gone = |request: Request| VMS[vm] == request.sender.vm;
        for vcpu in &mut self.vcpus {
            vcpu.fresh &= !vcpu.request.is_some_and(gone);
        }
        for step in self.cores.iter_mut().flat_map(|core| &mut core.program) {
            if let FailClaim(asked) | AnswerClaim(_, asked) = step {
                asked.1 &= !gone(asked.0);
            }
            if let AnswerCheck(_, sender, fresh) = step {
                *fresh &= vm_of(*sender) != vm;
            }
        }
    }

    /// Makes the first step of the core's program.
    pub fn step(&mut self, core: usize, otherwise: bool, flaw: Flaw) {
        let Some(step) = self.cores[core].program.pop() else { return };
        macro_rules! then {
            ($($step:expr),*) => { self.cores[core].program.extend([$($step),*].into_iter().rev()) };
        }
        match step {
            RunLook(v) => {
                if self.is_active(vm_of(v)) {
                    then!(RunClaim(v));
                }
            }
            RunClaim(v) => match self.with_state(v, StateCell::load) {
                Running(_) | Off | WaitingForResponse(_) | Parked => {}
                seen => {
                    self.claim(v, seen, core);
                    then!(RunCheck(v, seen));
                }
            },
            RunCheck(v, seen) => {
                if flaw != Flaw::LookThenClaim && !self.is_active(vm_of(v)) {
                    if flaw == Flaw::ReleaseThenFail {
                        then!(Release(v, Off), FailTake(v));
                    } else {
                        then!(FailTake(v), Release(v, Off));
                    }
                } else if otherwise && matches!(seen, Waiting | WaitingForMessage) {
                    then!(Release(v, seen));
                } else {
                    self.load(v, core);
                }
            }
            Leave(v, state) => {
                self.cores[core].loaded = None;
                if flaw == Flaw::PublishThenSave {
                    then!(Save(v));
                } else {
                    self.save(v);
                }
                self.publish(v, state, core);
                // A receiver, or who has got a response, is loaded next.
                let next = (0..VCPUS.len()).find(|v| self.cores[core].owns >> v & 1 != 0);
                if let Some(next) = next {
                    self.load(next, core);
                }
            }
            Save(v) => self.save(v),
            Release(v, state) => self.publish(v, state, core),
            Interrupted(v) => {
                if !self.is_active(vm_of(v)) {
                    then!(FailTake(v), Leave(v, Off));
                }
            }
            Stop(vm) => {
                if self.apply(vm, Event::Stop(StopReason::Off)) && flaw != Flaw::HaltThenStop {
                    self.halt(vm, core);
                }
            }
            HaltLook(v) => match self.with_state(v, StateCell::load) {
                Running(other) if usize::from(other) != core => {
                    self.cores[usize::from(other)].kicked |= flaw != Flaw::NoKick;
                }
                _ => then!(FailTake(v)),
            },
            Halted(vm) => {
                self.apply(vm, Event::Halted);
            }
            FailTake(v) => {
                if let Some(asked) = self.take_request(v) {
                    then!(FailClaim(asked));
                }
            }
            FailClaim(Asked(request, fresh)) => {
                if let Some(sender) = self.claim_sender(request, core) {
                    if !fresh {
                        self.wrong = Some("a requester is failed for a request of its last life");
                    }
                    then!(FailRelease(sender));
                }
            }
            FailRelease(v) => self.publish(v, Ready, core),
            OnClaim(v) => {
                if self.claim(v, Off, core) {
                    then!(OnCheck(v));
                } else if self.vcpus[v].state == Parked && self.is_active(vm_of(v)) {
                    self.wrong = Some("CPU_ON finds a vCPU parked whose VM runs");
                }
            }
            OnCheck(v) => {
                if self.is_active(vm_of(v)) {
                    self.with_request(v, RequestCell::clear);
                    self.vms[vm_of(v)].on += 1;
                    then!(Release(v, Ready));
                    let caller = self.cores[core].loaded.expect("a secondary calls");
                    self.cores[core].program.insert(0, Leave(caller, Ready));
                } else {
                    then!(Release(v, Off));
                }
            }
            OffCount(v) => {
                let vm = vm_of(v);
                match self.vms[vm].on.checked_sub(1) {
                    None => self.wrong = Some("more vCPUs go off than were on"),
                    Some(on) => self.vms[vm].on = on,
                }
                then!(FailTake(v), Leave(v, Off));
                if self.vms[vm].on == 0 {
                    then!(Stop(vm));
                }
            }
            AskClaim(from, to) => {
                let sender = from.map_or(0, |v| VCPUS[v].index.0);
                let preferred = |v: &usize| VCPUS[*v].index.0 != sender;
                let mut receivers: Vec<_> = vcpus_of(to).collect();
                receivers.sort_by_key(preferred);
                // Each claim is an access of its own. One that fails changes nothing, so it is made with the
                // next one that succeeds: a vCPU that was busy when its turn came may be free by now, which
                // is also what a later call would find.
                let claimed = receivers.into_iter().find(|v| self.claim(*v, WaitingForMessage, core));
                if let Some(target) = claimed {
                    then!(AskCheck(from, target));
                }
            }
            AskCheck(from, target) => {
                if !self.is_active(vm_of(target)) {
                    then!(Release(target, Off));
                    return;
                }
                if self.vcpus[target].request.is_some() {
                    self.wrong = Some("a vCPU that owes a response is given another request");
                }
                let Some(v) = from else {
                    let sender = VcpuId { vm: VmId::PRIMARY, index: VcpuIndex(core as u16) };
                    self.with_request(target, |cell| cell.set(Request { sender, number: 0 }));
                    if otherwise {
                        then!(Release(target, Ready));
                    } else {
                        self.load(target, core);
                    }
                    return;
                };
                let number = Request::number_after(self.vcpus[v].last);
                self.vcpus[v].last = number;
                self.vcpus[target].fresh = true;
                self.with_request(target, |cell| cell.set(Request { sender: VCPUS[v], number }));
                then!(Leave(v, WaitingForResponse(number)));
            }
            AnswerTake(v) => {
                let Some(asked) = self.take_request(v) else { return };
                if asked.0.sender.vm == VmId::PRIMARY {
                    then!(Leave(v, WaitingForMessage));
                } else {
                    then!(AnswerClaim(v, asked));
                }
            }
            AnswerClaim(v, Asked(request, fresh)) => {
                if let Some(sender) = self.claim_sender(request, core) {
                    then!(AnswerCheck(v, sender, fresh));
                }
            }
            AnswerCheck(v, sender, fresh) => {
                if self.is_active(vm_of(sender)) {
                    if !fresh {
                        self.wrong = Some("a response of an earlier life answers a newer request");
                    }
                    if otherwise {
                        then!(Release(sender, Ready), Leave(v, Ready));
                    } else {
                        then!(Leave(v, WaitingForMessage));
                    }
                } else if flaw == Flaw::ChainForgotten {
                    then!(Release(sender, Off));
                } else {
                    then!(FailTake(sender), Release(sender, Off));
                }
            }
            Token(vm, restart) => {
                let free = self.vms[vm].token.is_none() || flaw == Flaw::NoToken;
                let halting = matches!(self.vms[vm].phase, Status::Halting(_)) && flaw != Flaw::LateHalt;
                if !free || halting || self.is_active(vm) {
                    return;
                }
                if flaw == Flaw::LateHalt {
                    self.apply(vm, Event::Halted);
                }
                self.vms[vm].token = Some(core);
                let mut all = vec![];
                if matches!(self.vms[vm].phase, Status::Stopping(_)) {
                    if flaw == Flaw::ParkAllThenFail {
                        all.extend(vcpus_of(vm).map(Park).chain(vcpus_of(vm).map(FailTake)));
                    } else {
                        all.extend(vcpus_of(vm).flat_map(|v| [Park(v), FailTake(v)]));
                    }
                    all.push(Quiesced(vm));
                }
                if restart {
                    all.push(Part(vm));
                }
                all.push(Unlock(vm));
                self.cores[core].program.extend(all.into_iter().rev());
            }
            Park(v) => {
                let parked = self.with_state(v, StateCell::park);
                if !parked && flaw == Flaw::ParkRunning {
                    self.vcpus[v].state = Parked;
                } else if !parked && flaw != Flaw::ReclaimUnparked {
                    // `BUSY`: only the token is given back.
                    let unlock = self.cores[core].program.iter().position(|s| matches!(s, Unlock(_)));
                    self.cores[core].program.truncate(unlock.expect("held") + 1);
                }
            }
            Quiesced(vm) => {
                (0..VCPUS.len()).for_each(|v| self.with_request(v, |cell| cell.orphan(VMS[vm])));
                self.apply(vm, Event::Quiesced);
            }
            Part(vm) => {
                if matches!(self.vms[vm].phase, Status::Reclaiming(_)) {
                    if !self.vms[vm].progress {
                        self.vms[vm].progress = true;
                        return;
                    }
                    self.vms[vm].progress = false;
                    self.apply(vm, Event::Reclaimed);
                }
                for v in vcpus_of(vm) {
                    if self.vcpus[v].state != Parked {
                        self.wrong = Some("a restart resets a vCPU that is not parked");
                    }
                    self.with_request(v, RequestCell::clear);
                    if flaw == Flaw::NumbersBeginAgain {
                        self.vcpus[v].last = 0;
                    }
                }
                self.vms[vm].on = 1;
                // The first one last.
                let mut all: Vec<_> = vcpus_of(vm).rev().map(Publish).collect();
                if flaw == Flaw::PublishFirst {
                    all.reverse();
                }
                all.insert(if flaw == Flaw::PublishThenStart { all.len() } else { 0 }, Started(vm));
                self.cores[core].program.extend(all.into_iter().rev());
            }
            Started(vm) => {
                self.new_life(vm);
                self.apply(vm, Event::Start);
            }
            Publish(v) => {
                if self.vcpus[v].state != Parked {
                    self.wrong = Some("a restart publishes a vCPU that is not parked");
                }
                self.publish(v, if VCPUS[v].index.0 == 0 { Ready } else { Off }, core);
            }
            Unlock(vm) => self.vms[vm].token = None,
        }
        if let Some(Unlock(_)) = self.cores[core].program.last() {
            self.step(core, false, flaw);
        }
    }

    /// Numbers the requests of a vCPU from the start again when none of them is known any more, so that there
    /// are finitely many states.
    pub fn renumber(&mut self) {
        for (v, id) in VCPUS.iter().enumerate() {
            let its = |request: Request| request.sender == *id && request.number != 0;
            let asked = |step: &Step| match step {
                FailClaim(asked) | AnswerClaim(_, asked) => its(asked.0),
                Leave(leaving, WaitingForResponse(_)) => *leaving == v,
                _ => false,
            };
            let waits = matches!(self.vcpus[v].state, WaitingForResponse(_));
            let known = self.vcpus.iter().any(|vcpu| vcpu.request.is_some_and(its));
            let noted = self.cores.iter().flat_map(|core| &core.program).any(asked);
            if !waits && !known && !noted {
                self.vcpus[v].last = 0;
            }
        }
    }

    pub fn halt(&mut self, vm: usize, core: usize) {
        self.cores[core].program.push(Halted(vm));
        self.cores[core].program.extend(vcpus_of(vm).rev().map(HaltLook));
    }

    /// Whether no core is in the middle of a call.
    pub fn is_quiet(&self) -> bool {
        self.cores.iter().all(|core| core.program.is_empty())
    }
}
