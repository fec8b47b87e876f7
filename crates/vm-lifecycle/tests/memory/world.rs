//! The model: what cores do, one step at a time, and what must hold.

use Step::*;
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
};
use page_ownership::{Grant, Offer, Ownership, PageState, Request, Tables};
use stage2_mmu::{Access, Room, Search};
use stateright::{Model, Property};
use std::collections::BTreeMap;
use vm_lifecycle::{Event, LifeCycle, StateCell, Status, StopReason, VcpuState};

const PAGE: u64 = 4096;
/// The number of the first page; page n belongs to VM n + 1 at boot.
const BASE: u64 = 0x40000;
/// Where secondaries receive memory.
const WINDOW: u64 = 0x1000;
const VMS: [VmId; 3] = [VmId(1), VmId(2), VmId(3)];
const WHOLE: Grant = Grant { write: true, execute: true };

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// A call looks at its VM's phase before it takes the lock.
    LookThenLock,
    /// Teardown does not give back what the VM has borrowed.
    KeepsBorrowed,
    /// Teardown does not end the VM's own transactions.
    KeepsLent,
    /// Memory that was donated to the VM becomes the primary's as it is.
    DonatedUnscrubbed,
    /// The VM's own memory is scrubbed although its vCPU has not left.
    ScrubsFirst,
}

/// One step of a core. VMs are named by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    RunCheck(u16),
    /// Calls under the ownership lock, of a VM.
    DoOffer(u16, u16, u8),
    DoRetrieve(u16, u16),
    DoRelinquish(u16, u16),
    DoReclaim(u16),
    /// `teardown::return_borrowed`, for the call of a lender.
    Return(u16, u16),
    Abandon(u16),
    /// `teardown::restart`, by its parts.
    Part(u16),
    Withdraw(u16),
    ZeroReceived(u16),
    Transfer(u16),
    Owns(u16),
    Scrub(u16),
    Start(u16),
    Publish(u16),
    Unlock(u16),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Secondary {
    phase: Status,
    vcpu: VcpuState,
    token: bool,
    /// Parts of *reclaiming* that are done.
    part: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Core {
    loaded: Option<u16>,
    kicked: bool,
    program: Vec<Step>,
}

/// Tables of one page an entry: VM and page to page, and whether it is withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slots(BTreeMap<(u16, u64), (u64, bool)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pages: Ownership,
    slots: Slots,
    secondaries: [Secondary; 2],
    cores: [Core; 2],
    /// Which secondaries' data is in each page.
    data: [u8; 3],
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub core: usize,
    pub does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Step,
    Kicked,
    Interrupt,
    Run(u16),
    Stop(u16),
    Restart(u16),
    /// By the VM that the core has loaded.
    Offer(u16, u8),
    Retrieve(u16),
    Relinquish(u16),
    Reclaim(u16),
}

pub struct World {
    pub flaw: Flaw,
    /// Who sends memory to whom: the primary to VM 2 in every way, or else the secondaries lend to each
    /// other.
    pub primary_sends: bool,
}

const KINDS: [Kind; 3] = [Kind::Share, Kind::Lend, Kind::Donate];

impl Tables for Slots {
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)> {
        let (pfn, withheld) = *self.0.get(&(vm.0, ipa.0 / PAGE))?;
        (!withheld).then_some((Pa(pfn * PAGE), 1))
    }

    fn is_identity(&self, vm: VmId) -> bool {
        vm == VMS[0]
    }

    fn find_room(&self, vm: VmId, _: Option<Search>, _: u64) -> Room {
        let free = (WINDOW..WINDOW + 3).find(|ipa| !self.0.contains_key(&(vm.0, *ipa)));
        free.map_or(Room::None, |ipa| Room::Found(Ipa(ipa * PAGE)))
    }

    fn has_room(&self, vm: VmId, ipa: Ipa, _: u64) -> bool {
        !self.0.contains_key(&(vm.0, ipa.0 / PAGE))
    }

    fn withhold(&mut self, vm: VmId, ipa: Ipa, _: u64) -> Result<(), Error> {
        self.0.get_mut(&(vm.0, ipa.0 / PAGE)).expect("its own").1 = true;
        Ok(())
    }

    fn restore(&mut self, vm: VmId, ipa: Ipa, _: u64) {
        self.0.get_mut(&(vm.0, ipa.0 / PAGE)).expect("its own").1 = false;
    }

    fn map(&mut self, vm: VmId, ipa: Ipa, pa: Pa, _: u64, _: Access) -> Result<(), Error> {
        assert!(self.0.insert((vm.0, ipa.0 / PAGE), (pa.0 / PAGE, false)).is_none());
        Ok(())
    }

    fn unmap(&mut self, vm: VmId, ipa: Ipa, _: u64) {
        self.0.remove(&(vm.0, ipa.0 / PAGE));
    }

    fn zero(&mut self, _: Pa, _: u64) {}
}

/// Where a VM has the page that it owns at boot.
fn home(vm: u16) -> u64 {
    if vm == 1 { BASE } else { 0x100 }
}

const fn bit(vm: u16) -> u8 {
    1 << vm
}

impl State {
    fn new() -> Self {
        let mut pages = Ownership::new([(BASE * PAGE, 3 * PAGE)].into_iter(), VMS.into_iter());
        let mut slots = Slots::default();
        for vm in 1..=3 {
            let pfn = BASE + u64::from(vm) - 1;
            assert!(pages.assign(VmId(vm), Pa(pfn * PAGE), 1));
            slots.0.insert((vm, home(vm)), (pfn, false));
        }
        let secondary = Secondary { phase: Status::Running, vcpu: VcpuState::Ready, token: false, part: 0 };
        Self {
            pages,
            slots,
            secondaries: [secondary.clone(), secondary],
            cores: Default::default(),
            data: [0; 3],
            wrong: None,
        }
    }

    fn of(&mut self, vm: u16) -> &mut Secondary {
        &mut self.secondaries[usize::from(vm) - 2]
    }

    pub fn is_active(&self, vm: u16) -> bool {
        vm == 1 || LifeCycle::new(self.secondaries[usize::from(vm) - 2].phase).accepts_calls()
    }

    fn handle_of(&mut self, vm: u16) -> Option<Handle> {
        self.pages.given_by(VmId(vm)).next().map(|(handle, _)| handle)
    }

    /// Whether the VM has an open transaction.
    pub fn lends(&self, vm: u16) -> bool {
        self.pages.clone().given_by(VmId(vm)).next().is_some()
    }

    fn apply(&mut self, vm: u16, event: Event) -> bool {
        let cell = LifeCycle::new(self.of(vm).phase);
        let done = cell.apply(event);
        self.of(vm).phase = cell.status();
        done
    }

    fn with_vcpu<T>(&mut self, vm: u16, access: impl FnOnce(&StateCell) -> T) -> T {
        let cell = StateCell::new(self.of(vm).vcpu);
        let result = access(&cell);
        self.of(vm).vcpu = cell.load();
        result
    }

    /// Ends *stopping*, if the vCPU has left (`teardown::quiesce`).
    fn quiesce(&mut self, vm: u16, flaw: Flaw) -> bool {
        match self.of(vm).phase {
            Status::Running | Status::Halting(_) => false,
            Status::Stopping(_) => {
                let parked = self.with_vcpu(vm, StateCell::park) || flaw == Flaw::ScrubsFirst;
                if parked {
                    self.apply(vm, Event::Quiesced);
                }
                parked
            }
            _ => true,
        }
    }

    /// A page beyond the VM's own that it owns.
    fn received(&mut self, vm: u16) -> Option<(u64, u64)> {
        let own = (home(vm), BASE + u64::from(vm) - 1);
        let entries = self.slots.0.iter().filter(|((it, ipa), (pfn, _))| *it == vm && (*ipa, *pfn) != own);
        let entry = entries.map(|((_, ipa), (pfn, _))| (*ipa, *pfn)).next()?;
        (self.pages.state(Pa(entry.1 * PAGE)) == PageState::Owned(VmId(vm))).then_some(entry)
    }

    fn step(&mut self, core: usize, flaw: Flaw) {
        let Some(step) = self.cores[core].program.pop() else { return };
        macro_rules! then {
            ($($step:expr),*) => { self.cores[core].program.extend([$($step),*].into_iter().rev()) };
        }
        let late = flaw == Flaw::LookThenLock;
        let before = self.pages.clone();
        match step {
            RunCheck(vm) => {
                if self.is_active(vm) {
                    self.cores[core].loaded = Some(vm);
                } else {
                    self.with_vcpu(vm, |cell| cell.publish(VcpuState::Off));
                }
            }
            DoOffer(vm, to, kind) if late || self.is_active(vm) => {
                self.offer(vm, to, KINDS[usize::from(kind)]);
            }
            DoRetrieve(vm, from) if late || self.is_active(vm) => {
                let Some(handle) = self.handle_of(from) else { return };
                let kind = KINDS.into_iter();
                let exclusive = self.pages.is_exclusive(handle);
                for kind in kind.filter(|kind| (*kind != Kind::Share) == exclusive) {
                    let request = Request {
                        tag: 7,
                        kind: Some(kind),
                        write: true,
                        execute: false,
                        zero: false,
                        zero_after: false,
                        place: None,
                        most_pieces: 8,
                    };
                    let got =
                        self.pages.retrieve(VmId(vm), handle, &request, &mut self.slots, &mut |_, _| {});
                    if got.is_ok() {
                        break;
                    }
                }
            }
            DoRelinquish(vm, from) if late || self.is_active(vm) => {
                if let Some(handle) = self.handle_of(from) {
                    let _ = self.pages.relinquish(VmId(vm), handle, false, &mut self.slots);
                }
            }
            DoReclaim(vm) if late || self.is_active(vm) => {
                let Some(handle) = self.handle_of(vm) else { return };
                let holder = self.pages.holders(handle).next();
                let stopped = |holder: &VmId| holder.0 != 1 && !self.is_active(holder.0);
                match holder.filter(stopped) {
                    Some(holder) => then!(Return(vm, holder.0)),
                    None => {
                        let _ = self.pages.reclaim(VmId(vm), handle, false, &mut self.slots);
                    }
                }
            }
            DoOffer(..) | DoRetrieve(..) | DoRelinquish(..) | DoReclaim(_) => {}
            Return(lender, vm) => {
                if vm == 1 || std::mem::replace(&mut self.of(vm).token, true) {
                    return;
                }
                if self.quiesce(vm, flaw) {
                    then!(Abandon(vm), Unlock(vm), DoReclaim(lender));
                } else {
                    self.of(vm).token = false;
                }
            }
            Abandon(vm) => self.pages.abandon_all(VmId(vm), &mut self.slots),
            Part(vm) => self.part(core, vm, flaw),
            Withdraw(vm) => {
                while let Some(handle) = self.handle_of(vm) {
                    if self.pages.reclaim(VmId(vm), handle, false, &mut self.slots).is_err() {
                        return;
                    }
                }
                self.of(vm).part = 1;
            }
            ZeroReceived(vm) => {
                if let Some((_, pfn)) = self.received(vm) {
                    self.data[(pfn - BASE) as usize] = 0;
                }
            }
            Transfer(vm) => match self.received(vm) {
                Some((ipa, pfn)) => {
                    let (ipa, pa) = (Ipa(ipa * PAGE), Pa(pfn * PAGE));
                    if self.pages.transfer(VmId(vm), ipa, pa, 1, VMS[0], &mut self.slots).is_ok()
                        && self.data[(pfn - BASE) as usize] != 0
                    {
                        self.wrong = Some("the primary gets donated memory with data of a VM");
                    }
                }
                None => self.of(vm).part = 2,
            },
            Owns(vm) => {
                let pa = Pa((BASE + u64::from(vm) - 1) * PAGE);
                if self.pages.owns(VmId(vm), pa, 1) {
                    then!(Scrub(vm), Start(vm));
                }
            }
            Scrub(vm) => self.data[usize::from(vm) - 1] = 0,
            Start(vm) => {
                self.of(vm).part = 0;
                self.apply(vm, Event::Reclaimed);
                self.is_new(vm);
                self.apply(vm, Event::Start);
                then!(Publish(vm));
            }
            Publish(vm) => self.with_vcpu(vm, |cell| cell.publish(VcpuState::Ready)),
            Unlock(vm) => self.of(vm).token = false,
        }
        if let DoOffer(vm, ..) | DoRetrieve(vm, _) | DoRelinquish(vm, _) | DoReclaim(vm) = step
            && self.pages != before
            && !self.is_active(vm)
        {
            self.wrong = Some("a call of a VM that has stopped changes something");
        }
        if let Some(Unlock(_)) = self.cores[core].program.last() {
            self.step(core, flaw);
        }
    }

    fn part(&mut self, core: usize, vm: u16, flaw: Flaw) {
        let steps: &[Step] = match self.of(vm).part {
            0 if flaw == Flaw::KeepsBorrowed => &[Withdraw(vm)],
            0 if flaw == Flaw::KeepsLent => {
                self.of(vm).part = 1;
                &[Abandon(vm)]
            }
            0 => &[Withdraw(vm), Abandon(vm)],
            1 if flaw == Flaw::DonatedUnscrubbed => &[Transfer(vm)],
            1 => &[Transfer(vm), ZeroReceived(vm)],
            _ => &[Owns(vm)],
        };
        self.cores[core].program.extend(steps);
    }

    fn offer(&mut self, vm: u16, to: u16, kind: Kind) {
        if self.lends(vm) {
            return;
        }
        let grant = Grant { execute: kind != Kind::Share, ..WHOLE };
        let borrowers = [(VmId(to), grant)];
        let offer = Offer { kind, tag: 7, zero: false, pages: 1, borrowers: &borrowers };
        // The page that it owns first: donated memory can be given again.
        let owns = |pages: &Ownership, pfn: u64| pages.state(Pa(pfn * PAGE)) == PageState::Owned(VmId(vm));
        let entries = self.slots.0.iter().filter(|((it, _), (_, withheld))| *it == vm && !withheld);
        let own = entries.map(|((_, ipa), (pfn, _))| (*ipa, *pfn)).find(|(_, pfn)| owns(&self.pages, *pfn));
        let Some((ipa, _)) = own else { return };
        let Ok(handle) = self.pages.begin(VmId(vm), &offer) else { return };
        let slots = &mut self.slots;
        let sent = self.pages.add(VmId(vm), handle, Ipa(ipa * PAGE), 1, slots);
        let _ = sent.and_then(|()| self.pages.commit(VmId(vm), handle, slots));
    }

    /// The VM is off: it must be as at boot.
    fn is_new(&mut self, vm: u16) {
        let own = BASE + u64::from(vm) - 1;
        let mapped: Vec<_> = self.slots.0.iter().filter(|((it, _), _)| *it == vm).collect();
        if mapped != [(&(vm, home(vm)), &(own, false))] {
            self.wrong = Some("a VM starts with other memory than its own");
        }
        if self.data[usize::from(vm) - 1] != 0 {
            self.wrong = Some("a VM starts with memory that is not scrubbed");
        }
        if self.lends(vm) {
            self.wrong = Some("a VM starts with a transaction of its last life");
        }
    }

    /// Secondaries that run write all that they have.
    fn write(&mut self) {
        for vm in self.cores.iter().filter_map(|core| core.loaded) {
            for ((it, _), (pfn, withheld)) in &self.slots.0 {
                if *it == vm && !withheld {
                    self.data[(pfn - BASE) as usize] |= bit(vm);
                }
            }
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (core, it) in state.cores.iter().enumerate() {
            let mut add = |does| actions.push(Action { core, does });
            if !it.program.is_empty() {
                add(Does::Step);
                continue;
            }
            if it.kicked {
                add(Does::Kicked);
            }
            let vm = it.loaded.unwrap_or(1);
            if vm == 1 {
                let others: &[u16] = if self.primary_sends { &[2] } else { &[2, 3] };
                for other in others.iter().copied() {
                    add(if state.is_active(other) { Does::Stop(other) } else { Does::Restart(other) });
                    add(Does::Run(other));
                }
                (0..3).filter(|_| self.primary_sends).for_each(|kind| add(Does::Offer(2, kind)));
            } else {
                add(Does::Interrupt);
                let from = if self.primary_sends { 1 } else { 5 - vm };
                if !self.primary_sends {
                    add(Does::Offer(from, 1));
                }
                add(Does::Retrieve(from));
                add(Does::Relinquish(from));
            }
            if state.lends(vm) {
                add(Does::Reclaim(vm));
            }
        }
    }

    fn next_state(&self, last: &State, Action { core, does }: Action) -> Option<State> {
        let mut state = last.clone();
        let vm = state.cores[core].loaded.unwrap_or(1);
        let look = self.flaw != Flaw::LookThenLock || state.is_active(vm);
        let mut then = |steps: &[Step]| {
            if look {
                state.cores[core].program.extend(steps);
            }
        };
        match does {
            Does::Step => state.step(core, self.flaw),
            Does::Kicked | Does::Interrupt => {
                state.cores[core].kicked = false;
                let stays = does == Does::Kicked && state.is_active(vm);
                if !stays {
                    let next = if state.is_active(vm) { VcpuState::Ready } else { VcpuState::Off };
                    state.cores[core].loaded = None;
                    state.with_vcpu(vm, |cell| cell.publish(next));
                }
            }
            Does::Run(vm) => {
                if !state.with_vcpu(vm, |cell| cell.claim(VcpuState::Ready, core as u16)) {
                    return None;
                }
                state.cores[core].program.push(RunCheck(vm));
            }
            Does::Stop(vm) => {
                // The other model is about what happens between these.
                if state.apply(vm, Event::Stop(StopReason::Off)) {
                    if let VcpuState::Running(other) = state.of(vm).vcpu {
                        state.cores[usize::from(other)].kicked = true;
                    }
                    state.apply(vm, Event::Halted);
                }
            }
            Does::Restart(vm) => {
                if state.is_active(vm) || std::mem::replace(&mut state.of(vm).token, true) {
                    return None;
                }
                if !state.quiesce(vm, self.flaw) {
                    return None;
                }
                state.cores[core].program.extend([Unlock(vm), Part(vm)]);
                state.step(core, self.flaw);
            }
            Does::Offer(to, kind) => then(&[DoOffer(vm, to, kind)]),
            Does::Retrieve(from) => then(&[DoRetrieve(vm, from)]),
            Does::Relinquish(from) => then(&[DoRelinquish(vm, from)]),
            Does::Reclaim(_) => then(&[DoReclaim(vm)]),
        }
        state.write();
        state.pages.renumber();
        for core in &mut state.cores {
            core.kicked &= core.loaded.is_some() || !core.program.is_empty();
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing goes wrong in a step", |_, s: &State| s.wrong.is_none()),
            Property::always("a VM whose transactions are ended has and lends nothing", |_, s: &State| {
                [2, 3].into_iter().all(|vm| {
                    let it = &s.secondaries[usize::from(vm) - 2];
                    let ended = matches!(it.phase, Status::Reclaiming(_)) && it.part > 0;
                    let mut pages = s.pages.clone();
                    let mut holds = |from: VmId| {
                        let handles: Vec<_> = pages.given_by(from).map(|(handle, _)| handle).collect();
                        handles.into_iter().any(|handle| pages.holds(VmId(vm), handle))
                    };
                    !ended || !s.lends(vm) && !VMS.into_iter().any(&mut holds)
                })
            }),
            Property::always("a VM is torn down only when its vCPU has left", |_, s: &State| {
                s.cores.iter().all(|core| {
                    core.loaded.is_none_or(|vm| {
                        let torn = matches!(
                            s.secondaries[usize::from(vm) - 2].phase,
                            Status::Reclaiming(_) | Status::Off(_)
                        );
                        !torn
                    })
                })
            }),
            Property::sometimes("it happens: a stopped VM holds memory", |_, s: &State| {
                s.slots.0.keys().any(|(vm, ipa)| *vm == 2 && *ipa >= WINDOW) && !s.is_active(2)
            }),
        ]
    }
}
