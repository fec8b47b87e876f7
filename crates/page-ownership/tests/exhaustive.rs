//! Every state that three VMs can put a few pages into, and every order in which cores see the way there.
//!
//! The transitions are the real ones. Each runs, as under its lock, against tables that write down what they
//! do in steps as the hardware sees them: an entry becomes invalid or valid, one core's TLB has lost a
//! translation, memory has been zeroed. The model then makes the steps one at a time. Between any two of them
//! VMs run on all cores: they fill the TLBs from what the entries say at that moment, and use everything that
//! is in the entries or in a TLB.
//!
//! What VMs do between steps need not be chosen, only what they can do matters, and the more is cached the
//! more that is: so each step is followed by every fill and every store that is possible (`lazy` worlds
//! choose the fills, to show that this finds the same). Which transition a second core has in mind while it
//! waits for the lock is not part of the state: in every state all transitions with all arguments come next,
//! so also those that were thought of earlier.
//!
//! Some worlds have a flaw in their tables. There the checker must find what is wrong.
// Miri would take hours for all these states.
#![cfg(not(miri))]

mod common;

use common::{ALL, Reasons, Spec};
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
};
use page_ownership::{Grant, Offer, Ownership, PageState, Request, Step, Tables};
use stage2_mmu::{Access, Room, Search};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::Hash,
    sync::Arc,
};

const PAGE: u64 = 4096;
/// Number of the first page of memory.
const BASE: u64 = 0x40000;
/// Where VMs that do not see physical addresses have their own memory, and where they receive some.
const OWN: u64 = 0x100;
const WINDOW: u64 = 0x1000;
const ROOM: u64 = 8;
const VMS: [VmId; 3] = [VmId(1), VmId(2), VmId(3)];
const TAG: u64 = 7;
const LIMIT: u64 = 1 << 39;
/// No world has more.
const MOST_PAGES: usize = 3;

/// A mistake in the code below the transitions, or in how they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// TLBs are never invalidated.
    NoFlush,
    /// Only the core that makes the transition forgets translations.
    OneCore,
    /// The transition does not wait for the other cores.
    FlushLater,
    /// Memory is zeroed before access to it is taken away.
    ZeroFirst,
    /// Lent memory stays in its owner's tables.
    NoWithhold,
    /// The lock is released before the tables have been changed.
    NoLock,
    /// The hypervisor takes memory away, and forgets the VM's tables.
    SeizedInPlace,
}

/// What the tables say about one page of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    pfn: u64,
    access: Grant,
    withheld: bool,
}

/// One thing that the hardware sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Micro {
    Invalid(VmId, u64),
    Valid(VmId, u64, u64, bool),
    /// The TLB of a core has lost the translation of a page.
    Flush(usize, VmId, u64),
    Zero(u64),
}

/// Tables of one page an entry, which write down what happens to them.
#[derive(Clone)]
struct Recorder {
    slots: BTreeMap<(VmId, u64), Slot>,
    identity: bool,
    flaw: Flaw,
    log: Vec<Micro>,
    /// After how many calls that can fail one does, for want of memory.
    fail: Option<u8>,
    failed: bool,
}

impl Recorder {
    fn fails(&mut self) -> bool {
        let now = self.fail == Some(0);
        self.fail = self.fail.and_then(|left| left.checked_sub(1));
        self.failed |= now;
        now
    }

    fn take(&mut self, vm: VmId, range: std::ops::Range<u64>) {
        range.clone().for_each(|ipa| self.log.push(Micro::Invalid(vm, ipa)));
        for core in 0..2 {
            range.clone().for_each(|ipa| self.log.push(Micro::Flush(core, vm, ipa)));
        }
    }
}

impl Tables for Recorder {
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)> {
        let slot = self.slots.get(&(vm, ipa.0 / PAGE))?;
        (!slot.withheld && slot.access == ALL).then_some((Pa(slot.pfn * PAGE), 1))
    }

    fn is_identity(&self, vm: VmId) -> bool {
        self.identity && vm == VMS[0]
    }

    fn find_room(&self, vm: VmId, from: Option<Search>, pages: u64) -> Room {
        let free = |first: &u64| self.has_room(vm, Ipa(*first * PAGE), pages);
        match (from, (WINDOW..=WINDOW + ROOM - pages).find(free)) {
            // Each search has two steps.
            (None, _) => Room::More(Search::from(Ipa(WINDOW * PAGE))),
            (_, Some(ipa)) => Room::Found(Ipa(ipa * PAGE)),
            (_, None) => Room::None,
        }
    }

    fn has_room(&self, vm: VmId, ipa: Ipa, pages: u64) -> bool {
        let first = ipa.0 / PAGE;
        (first..first + pages).all(|ipa| !self.slots.contains_key(&(vm, ipa)))
    }

    fn withhold(&mut self, vm: VmId, ipa: Ipa, pages: u64) -> Result<(), Error> {
        if self.fails() {
            return Err(Error::NoMemory);
        }
        let range = ipa.0 / PAGE..ipa.0 / PAGE + pages;
        for ipa in range.clone() {
            let slot = self.slots.get_mut(&(vm, ipa)).expect("its own memory");
            assert!(!slot.withheld && slot.access == ALL, "withheld twice, or not its own");
            slot.withheld = true;
        }
        if self.flaw != Flaw::NoWithhold {
            self.take(vm, range);
        }
        Ok(())
    }

    fn restore(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        for ipa in ipa.0 / PAGE..ipa.0 / PAGE + pages {
            let slot = self.slots.get_mut(&(vm, ipa)).expect("its own memory");
            assert!(slot.withheld, "restored, but not withheld");
            slot.withheld = false;
            self.log.push(Micro::Valid(vm, ipa, slot.pfn, true));
        }
    }

    fn map(&mut self, vm: VmId, ipa: Ipa, pa: Pa, pages: u64, access: Access) -> Result<(), Error> {
        let (ipa, pfn) = (ipa.0 / PAGE, pa.0 / PAGE);
        if self.fails() {
            // It may have begun.
            if pages > 1 {
                self.log.push(Micro::Valid(vm, ipa, pfn, access.write));
                self.take(vm, ipa..ipa + pages);
            }
            return Err(Error::NoMemory);
        }
        for i in 0..pages {
            let access = Grant { write: access.write, execute: access.execute };
            let slot = Slot { pfn: pfn + i, access, withheld: false };
            assert!(self.slots.insert((vm, ipa + i), slot).is_none(), "something is mapped there");
            self.log.push(Micro::Valid(vm, ipa + i, pfn + i, access.write));
        }
        Ok(())
    }

    fn unmap(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        let range = ipa.0 / PAGE..ipa.0 / PAGE + pages;
        for ipa in range.clone() {
            assert!(self.slots.remove(&(vm, ipa)).is_some(), "nothing is mapped there");
        }
        self.take(vm, range);
    }

    fn zero(&mut self, pa: Pa, pages: u64) {
        (0..pages).for_each(|i| self.log.push(Micro::Zero(pa.0 / PAGE + i)));
    }
}

/// A call of a transition. Transactions are named by sender and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Assign(VmId, u64),
    Seize(VmId, u64),
    OpenMailbox(VmId, u64, u64),
    CloseMailbox(VmId),
    Begin {
        sender: VmId,
        kind: Kind,
        zero: bool,
        pages: u64,
        to: &'static [(VmId, Grant)],
    },
    Add(VmId, (VmId, u16), u64),
    Commit {
        sender: VmId,
        tx: (VmId, u16),
        fail: Option<u8>,
    },
    Retrieve {
        vm: VmId,
        tx: (VmId, u16),
        write: bool,
        zero: bool,
        after: bool,
        fail: Option<u8>,
    },
    Relinquish {
        vm: VmId,
        tx: (VmId, u16),
        zero: bool,
    },
    Abandon(VmId),
    Reclaim {
        sender: VmId,
        tx: (VmId, u16),
        zero: bool,
    },
    /// The sender is stopped after so many steps of completing its transaction, which are then undone.
    CutCommit {
        sender: VmId,
        tx: (VmId, u16),
        steps: u8,
    },
    /// A receiver is stopped after so many steps of a retrieval, and everything is taken from it.
    CutRetrieve {
        vm: VmId,
        tx: (VmId, u16),
        zero: bool,
        steps: u8,
    },
    /// Everything that one can try with a handle of a transaction that is over.
    Stale(VmId, (VmId, u16)),
}

/// For each page, one bit for each VM.
type Masks = [u8; MOST_PAGES];

/// A transition whose steps are being made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    steps: VecDeque<Micro>,
    /// Who could use and write each page before, and who was to be able to write it.
    before: [Masks; 3],
    after: [Masks; 3],
    /// Pages that are to be zeroed, and for whom it is no harm to use them meanwhile.
    wipes: [Option<u8>; MOST_PAGES],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    pages: Arc<Ownership>,
    spec: Arc<Spec>,
    slots: Arc<BTreeMap<(VmId, u64), Slot>>,
    /// The entries that are valid.
    entries: BTreeSet<(VmId, u64, u64, bool)>,
    tlbs: [BTreeSet<(VmId, u64, u64, bool)>; 2],
    /// Whose data is in each page, and whose of that should be gone by the end of a transition.
    data: Masks,
    doomed: Masks,
    runs: Vec<Run>,
    /// What a transition did that it should not.
    wrong: Option<String>,
    zeroed_in_use: bool,
}

fn bit(vm: VmId) -> u8 {
    1 << (vm.0 - 1)
}

impl State {
    /// Who can use and who can write a page.
    fn reach(&self) -> [Masks; 2] {
        let mut reach = [Masks::default(); 2];
        for &(vm, _, pfn, write) in self.entries.iter().chain(self.tlbs.iter().flatten()) {
            let page = (pfn - BASE) as usize;
            reach[0][page] |= bit(vm);
            reach[1][page] |= if write { bit(vm) } else { 0 };
        }
        reach
    }

    /// Who may use, who may write, and who the owner wants to be able to write each page.
    fn permitted(spec: &Spec) -> [Masks; 3] {
        let mut may = [Masks::default(); 3];
        for (page, pfn) in (0..MOST_PAGES).zip(BASE..) {
            let state = spec.state(pfn);
            for (vm, write) in spec.users(pfn) {
                may[0][page] |= bit(vm);
                may[1][page] |= if write { bit(vm) } else { 0 };
            }
            let writers = |vms: &mut dyn Iterator<Item = VmId>| vms.map(bit).fold(0, |all, one| all | one);
            may[2][page] = match state {
                PageState::Given(owner, slot) => {
                    let tx = &spec.txs[&(owner, slot)];
                    let granted = tx.loans.iter().filter(|loan| loan.grant.write).map(|loan| loan.vm);
                    match (tx.complete, tx.kind) {
                        (false, _) => bit(owner),
                        (true, Kind::Donate) => 0,
                        (true, Kind::Lend) => writers(&mut granted.into_iter()),
                        (true, Kind::Share) => bit(owner) | writers(&mut granted.into_iter()),
                    }
                }
                other => other.owner().map_or(0, bit),
            };
        }
        may
    }

    /// Everything that all VMs can do now, they do.
    fn settle(&mut self, world: &World) {
        if !world.lazy {
            self.tlbs.iter_mut().for_each(|tlb| tlb.extend(self.entries.iter().copied()));
        }
        // Where nothing is ever zeroed, whose data is where says nothing.
        let [_, writers] = self.reach();
        for (page, &writers) in writers.iter().enumerate().filter(|_| world.zero || world.hypervisor) {
            // What the wrong ones write while a page is being zeroed must be gone with the rest.
            let exempt = self.runs.iter().filter_map(|run| run.wipes[page]).fold(7, |all, one| all & one);
            self.data[page] |= writers;
            self.doomed[page] |= writers & !exempt;
        }
    }

    fn step(&mut self, run: usize) {
        let Some(step) = self.runs[run].steps.pop_front() else { return };
        match step {
            Micro::Invalid(vm, ipa) => self.entries.retain(|entry| (entry.0, entry.1) != (vm, ipa)),
            Micro::Valid(vm, ipa, pfn, write) => {
                self.entries.insert((vm, ipa, pfn, write));
            }
            Micro::Flush(core, vm, ipa) => self.tlbs[core].retain(|entry| (entry.0, entry.1) != (vm, ipa)),
            Micro::Zero(pfn) => {
                let page = (pfn - BASE) as usize;
                let exempt = self.runs[run].wipes[page].unwrap_or(0);
                if self.reach()[0][page] & !exempt != 0 {
                    self.zeroed_in_use = true;
                }
                (self.data[page], self.doomed[page]) = (0, 0);
            }
        }
        if self.runs[run].steps.is_empty() {
            self.runs.remove(run);
        }
    }
}

/// What there is in a model, and what can be done.
#[derive(Clone, Debug)]
struct World {
    pages: u64,
    /// Who has each page at first; fewer: the rest is the hypervisor's.
    owners: &'static [VmId],
    /// VM 1 sees physical addresses.
    identity: bool,
    /// TLBs are filled when the model chooses.
    lazy: bool,
    flaw: Flaw,
    /// How many transactions can be open, in all and for one sender.
    open: [usize; 2],
    senders: &'static [VmId],
    kinds: &'static [Kind],
    /// The most pages of a transaction.
    most: u64,
    hypervisor: bool,
    mailboxes: bool,
    zero: bool,
    failures: bool,
    /// VMs are stopped while transitions of theirs are half done.
    cuts: bool,
}

const KINDS: &[Kind] = &[Kind::Donate, Kind::Lend, Kind::Share];
const WORLD: World = World {
    pages: 2,
    owners: &[VMS[0], VMS[1]],
    identity: true,
    lazy: false,
    flaw: Flaw::None,
    open: [2, 1],
    senders: &VMS,
    kinds: KINDS,
    most: 1,
    hypervisor: false,
    mailboxes: false,
    zero: false,
    failures: false,
    cuts: false,
};

const RO: Grant = Grant { write: false, execute: false };
const RW: Grant = Grant { write: true, execute: false };
/// The receivers that a sender names.
const RECEIVERS: [&[&[(VmId, Grant)]]; 3] = [
    &[&[(VMS[1], RW)], &[(VMS[2], RO)], &[(VMS[1], RW), (VMS[2], RW)]],
    &[&[(VMS[0], RO)], &[(VMS[2], RW)], &[(VMS[0], RW), (VMS[2], RO)]],
    &[&[(VMS[0], RW)], &[(VMS[1], RW)], &[(VMS[0], RW), (VMS[1], RW)]],
];

impl World {
    fn home(&self, vm: VmId, pfn: u64) -> u64 {
        if self.identity && vm == VMS[0] { pfn } else { OWN + (pfn - BASE) }
    }

    fn recorder(&self, state: &State) -> Recorder {
        let (identity, flaw) = (self.identity, self.flaw);
        let slots = (*state.slots).clone();
        Recorder { slots, identity, flaw, log: vec![], fail: None, failed: false }
    }

    fn ops(&self, state: &State) -> Vec<Op> {
        let spec = &state.spec;
        let all_pages = || BASE..BASE + self.pages;
        let flags: &[bool] = if self.zero { &[false, true] } else { &[false] };
        let mut ops = vec![];
        for vm in VMS {
            if self.hypervisor {
                ops.extend(all_pages().map(|pfn| Op::Assign(vm, pfn)));
                ops.extend(all_pages().map(|pfn| Op::Seize(vm, pfn)));
            }
            if self.mailboxes {
                let pairs = all_pages().flat_map(|one| (BASE..=one).map(move |two| (one, two)));
                ops.extend(pairs.map(|(one, two)| Op::OpenMailbox(vm, one, two)));
                ops.push(Op::CloseMailbox(vm));
            }
            ops.push(Op::Abandon(vm));
        }
        for &sender in self.senders {
            let own = spec.txs.keys().filter(|key| key.0 == sender).count();
            let unfinished = spec.txs.iter().any(|(key, tx)| key.0 == sender && !tx.complete);
            if !unfinished && (spec.txs.len() >= self.open[0] || own >= self.open[1]) {
                continue;
            }
            for &kind in self.kinds {
                for &zero in flags {
                    for pages in 1..=self.most {
                        for to in RECEIVERS[usize::from(sender.0 - 1)] {
                            ops.push(Op::Begin { sender, kind, zero, pages, to });
                        }
                    }
                }
            }
        }
        let cuts = || (1..=6).filter(|_| self.cuts);
        let fails = |most: u8| (0..most).map(Some).filter(|_| self.failures);
        for (&key, tx) in &spec.txs {
            for vm in VMS {
                ops.push(Op::Stale(vm, key));
                if vm == key.0 && !tx.complete {
                    ops.extend(cuts().map(|steps| Op::CutCommit { sender: vm, tx: key, steps }));
                } else if tx.complete {
                    for &zero in flags {
                        ops.extend(cuts().map(|steps| Op::CutRetrieve { vm, tx: key, zero, steps }));
                    }
                }
                for &zero in flags {
                    ops.push(Op::Reclaim { sender: vm, tx: key, zero });
                }
                if !tx.complete {
                    ops.extend(all_pages().map(|pfn| Op::Add(vm, key, pfn)));
                    let fails = std::iter::once(None).chain(fails(self.most as u8));
                    ops.extend(fails.map(|fail| Op::Commit { sender: vm, tx: key, fail }));
                }
                for &zero in flags {
                    ops.push(Op::Relinquish { vm, tx: key, zero });
                }
                for (&zero, &after) in flags.iter().flat_map(|z| flags.iter().map(move |a| (z, a))) {
                    for write in [false, true] {
                        let fails = std::iter::once(None).chain(fails(self.most as u8));
                        ops.extend(fails.map(|fail| Op::Retrieve { vm, tx: key, write, zero, after, fail }));
                    }
                }
            }
        }
        ops
    }

    /// Calls the real transition, and the specification, and compares. Says which pages were to be zeroed,
    /// and who might use them meanwhile; and what is right for a moment, if it failed.
    fn execute(
        &self,
        op: Op,
        pages: &mut Ownership,
        tables: &mut Recorder,
        spec: &mut Spec,
        attempted: &mut Option<[Masks; 3]>,
    ) -> ([Option<u8>; MOST_PAGES], Result<(), String>) {
        let mut wipes = [None; MOST_PAGES];
        let mut wipe = |spec: &Spec, key: (VmId, u16), exempt: u8| {
            spec.txs[&key].pages.iter().for_each(|(_, pfn)| wipes[(pfn - BASE) as usize] = Some(exempt));
        };
        let handle = |spec: &Spec, key: (VmId, u16)| Handle(spec.txs[&key].handle);
        // The reasons to refuse a request, the answer to it, and what it makes of the specification
        // otherwise.
        let (reasons, result): (Reasons, Result<(), Error>) = match op {
            Op::Assign(vm, pfn) => {
                let free = spec.state(pfn) == PageState::Hypervisor;
                if free {
                    // The caller's part.
                    tables.zero(Pa(pfn * PAGE), 1);
                    tables
                        .map(vm, Ipa(self.home(vm, pfn) * PAGE), Pa(pfn * PAGE), 1, Access::RWX)
                        .expect("room");
                    wipes[(pfn - BASE) as usize] = Some(bit(vm));
                    spec.assign(vm, self.home(vm, pfn), pfn);
                }
                let done = pages.assign(vm, Pa(pfn * PAGE), 1);
                (vec![], if done == free { Ok(()) } else { Err(Error::Denied) })
            }
            Op::Seize(vm, pfn) => {
                let own = spec.state(pfn) == PageState::Owned(vm);
                if own {
                    let ipa = spec.place_of(vm, pfn).expect("its own");
                    if self.flaw == Flaw::SeizedInPlace {
                        tables.slots.remove(&(vm, ipa));
                    } else {
                        tables.unmap(vm, Ipa(ipa * PAGE), 1);
                    }
                    spec.seize(vm, pfn);
                }
                let done = pages.seize(vm, Pa(pfn * PAGE), 1);
                (vec![], if done == own { Ok(()) } else { Err(Error::Denied) })
            }
            Op::OpenMailbox(vm, one, two) => {
                let place = |pfn| spec.place_of(vm, pfn).unwrap_or(self.home(vm, pfn));
                let at = [place(one), place(two)];
                let expected = spec.mailbox(vm, at.map(|ipa| ipa * PAGE));
                let result = pages.open_mailbox(vm, at.map(|ipa| Ipa(ipa * PAGE)), tables);
                let same = result.ok() == expected.map(|pages| pages.map(|pfn| Pa(pfn * PAGE)));
                for pfn in expected.into_iter().flatten() {
                    spec.set_state(pfn, PageState::Mailbox(vm));
                }
                (vec![], if same { Ok(()) } else { Err(Error::Denied) })
            }
            Op::CloseMailbox(vm) => {
                let own: Vec<u64> = (BASE..BASE + self.pages)
                    .filter(|pfn| spec.state(*pfn) == PageState::Mailbox(vm))
                    .collect();
                if let [one, two] = own[..] {
                    pages.close_mailbox(vm, [one, two].map(|pfn| Pa(pfn * PAGE)));
                    for pfn in &own {
                        spec.set_state(*pfn, PageState::Owned(vm));
                    }
                }
                (vec![], Ok(()))
            }
            Op::Begin { sender, kind, zero, pages: count, to } => {
                let offer = Offer { kind, tag: TAG, zero, pages: count, borrowers: to };
                let reasons = spec.can_begin(sender, &offer);
                let result = pages.begin(sender, &offer);
                if let (Ok(handle), true) = (result, reasons.is_empty()) {
                    spec.begin(sender, &offer, handle);
                }
                (reasons, result.map(|_| ()))
            }
            Op::Add(sender, key, pfn) => {
                let handle = handle(spec, key);
                let ipa = spec.place_of(sender, pfn).unwrap_or(self.home(sender, pfn)) * PAGE;
                let result = pages.add(sender, handle, Ipa(ipa), 1, tables);
                (spec.add(sender, handle, ipa, 1), result)
            }
            Op::Commit { sender, tx, fail } => {
                let (handle, zero) = (handle(spec, tx), spec.txs[&tx].zero);
                tables.fail = fail;
                let result = pages.commit(sender, handle, tables);
                let mut reasons = vec![];
                if tables.failed {
                    spec.close(tx);
                    reasons.push(Error::NoMemory);
                } else {
                    reasons = spec.commit(sender, handle);
                    if zero && reasons.is_empty() {
                        wipe(spec, tx, 0);
                    }
                }
                (reasons, result)
            }
            Op::Retrieve { vm, tx, write, zero, after, fail } => {
                let handle = handle(spec, tx);
                let request = Request {
                    tag: TAG,
                    write,
                    zero,
                    zero_after: after,
                    most_pieces: 8,
                    ..Request::default()
                };
                let mut reasons = spec.can_retrieve(vm, handle, &request, LIMIT);
                let mut got = None;
                tables.fail = fail;
                let result = pages.retrieve(vm, handle, &request, tables, &mut |what, ranges| {
                    got = Some((*what, ranges.iter().map(|range| range.pages).sum::<u64>()));
                });
                if tables.failed {
                    reasons.push(Error::NoMemory);
                }
                if reasons == [Error::NoMemory] {
                    // A receiver that the tables have no room for may have seen what it was to get for a
                    // moment.
                    let mut there = spec.clone();
                    there.retrieve(vm, handle, &request, Some(WINDOW));
                    *attempted = Some(State::permitted(&there));
                }
                let mut as_reported = true;
                if reasons.is_empty() && result.is_ok() {
                    if zero {
                        wipe(spec, tx, bit(vm));
                    }
                    let t = &spec.txs[&tx];
                    as_reported = got.is_some_and(|(what, pages)| {
                        let at = what.ipa.map(|ipa| ipa.0 / PAGE);
                        let free = at.is_none_or(|at| (at..at + pages).all(|ipa| !spec.occupied(vm, ipa)));
                        let granted = what.grant == Spec::wanted(t, &request);
                        free && granted && what.kind == t.kind && pages == t.announced && pages == what.pages
                    });
                    let at = got.and_then(|(what, _)| what.ipa).map(|ipa| ipa.0 / PAGE);
                    spec.retrieve(vm, handle, &request, at);
                }
                (reasons, if as_reported { result } else { Err(Error::Aborted) })
            }
            Op::Relinquish { vm, tx, zero } => {
                let handle = handle(spec, tx);
                let reasons = spec.can_relinquish(vm, handle, zero);
                if reasons.is_empty() {
                    if zero || spec.txs[&tx].loans.iter().any(|loan| loan.vm == vm && loan.zero_after) {
                        wipe(spec, tx, 0);
                    }
                    spec.take_back(vm, tx);
                }
                (reasons, pages.relinquish(vm, handle, zero, tables))
            }
            Op::Abandon(vm) => {
                for key in spec.held_by(vm) {
                    if spec.txs[&key].loans.iter().any(|loan| loan.vm == vm && loan.zero_after) {
                        wipe(spec, key, 0);
                    }
                    spec.take_back(vm, key);
                }
                pages.abandon_all(vm, tables);
                (vec![], Ok(()))
            }
            Op::Reclaim { sender, tx, zero } => {
                let handle = handle(spec, tx);
                let reasons = spec.can_reclaim(sender, handle, zero);
                if reasons.is_empty() {
                    if zero && spec.txs[&tx].complete {
                        wipe(spec, tx, bit(sender));
                    }
                    spec.close(tx);
                }
                (reasons, pages.reclaim(sender, handle, zero, tables))
            }
            Op::CutCommit { sender, tx, steps } => {
                let handle = handle(spec, tx);
                pages.start_add(sender, handle, std::iter::empty(), true).expect("it is being sent");
                let finished = (0..steps).any(|_| match pages.step(sender, handle, tables) {
                    Ok(Step::Zero(wipe)) => {
                        tables.zero(wipe.pa, wipe.pages);
                        pages.wiped(&wipe);
                        false
                    }
                    other => other == Ok(Step::Done) || other.is_err(),
                });
                let mut there = spec.clone();
                if there.commit(sender, handle).is_empty() {
                    *attempted = Some(State::permitted(&there));
                }
                for step in &tables.log {
                    if let Micro::Zero(pfn) = step {
                        // It gets the page back, and may write it again.
                        wipes[(pfn - BASE) as usize] = Some(bit(sender));
                    }
                }
                // Teardown gives up all that the VM has sent; what another one holds stays.
                while pages.withdraw(sender, tables).is_ok_and(|step| step != Step::Done) {}
                if !finished || spec.complete(handle).is_none() {
                    let held = |tx: &common::Tx| tx.loans.iter().any(|loan| loan.held.is_some());
                    let own = |key: &&(VmId, u16)| key.0 == sender;
                    let keys: Vec<_> = spec.txs.keys().filter(own).copied().collect();
                    for key in keys {
                        if held(&spec.txs[&key]) {
                            break;
                        }
                        spec.close(key);
                    }
                }
                (vec![], Ok(()))
            }
            Op::CutRetrieve { vm, tx, zero, steps } => {
                let handle = handle(spec, tx);
                let request = Request { tag: TAG, zero, most_pieces: 8, ..Request::default() };
                let reasons = spec.can_retrieve(vm, handle, &request, LIMIT);
                let result = pages.start_retrieve(vm, handle, &request, tables);
                if result.is_ok() && reasons.is_empty() {
                    let mut place = None;
                    let one = |pages: &mut Ownership, tables: &mut Recorder, step| match step {
                        Step::Zero(wipe) => {
                            tables.zero(wipe.pa, wipe.pages);
                            pages.wiped(&wipe);
                            true
                        }
                        other => other != Step::Done,
                    };
                    for _ in 0..steps {
                        place = pages.given(vm, handle).map(|(got, _)| got.ipa).or(place);
                        let step = pages.step(vm, handle, tables).expect("nothing fails here");
                        if !one(pages, tables, step) {
                            break;
                        }
                    }
                    let at = place.flatten().map(|ipa| ipa.0 / PAGE);
                    let mut there = spec.clone();
                    there.retrieve(vm, handle, &request, at.or(Some(WINDOW)));
                    *attempted = Some(State::permitted(&there));
                    loop {
                        let step = pages.abandon(vm, tables);
                        if !one(pages, tables, step) {
                            break;
                        }
                    }
                    for step in &tables.log {
                        if let Micro::Zero(pfn) = step {
                            wipes[(pfn - BASE) as usize] = Some(bit(vm));
                        }
                    }
                    // A donation of which the receiver owned a part is completed.
                    if pages.owner(handle).is_err() {
                        spec.retrieve(vm, handle, &request, at);
                    }
                    for key in spec.held_by(vm) {
                        spec.take_back(vm, key);
                    }
                }
                (reasons, result)
            }
            Op::Stale(vm, key) => {
                // Another generation, another slot, and one that the hypervisor did not make.
                let handle = handle(spec, key).0;
                let request = Request { tag: TAG, most_pieces: 8, ..Request::default() };
                let refused = [handle ^ 1 << 32, handle ^ 4, handle & !Handle::HYPERVISOR]
                    .map(Handle)
                    .iter()
                    .all(|&h| {
                        pages.add(vm, h, Ipa(self.home(vm, BASE) * PAGE), 1, tables).is_err()
                            && pages.commit(vm, h, tables).is_err()
                            && pages.retrieve(vm, h, &request, tables, &mut |_, _| ()).is_err()
                            && pages.relinquish(vm, h, false, tables).is_err()
                            && pages.reclaim(vm, h, false, tables).is_err()
                            && !pages.holds(vm, h)
                            && pages.pieces(h).is_empty()
                    });
                (vec![], if refused { Ok(()) } else { Err(Error::Denied) })
            }
        };
        let expected = match result {
            Ok(()) => reasons.is_empty(),
            Err(error) => reasons.contains(&error),
        };
        let zeroed = tables.log.iter().any(|step| matches!(step, Micro::Zero(_)));
        let verdict = match result {
            _ if !expected => Err(format!("{op:?} gave {result:?}, not one of {reasons:?}")),
            Err(_) if zeroed => Err(format!("{op:?} failed, and has zeroed memory")),
            _ => Ok(()),
        };
        (wipes, verdict)
    }

    /// Whether the states of pages, and the tables, are what the specification says.
    fn compare(
        op: Op,
        pages: &mut Ownership,
        tables: &Recorder,
        spec: &Spec,
        count: u64,
    ) -> Result<(), String> {
        for pfn in BASE..BASE + count {
            if pages.state(Pa(pfn * PAGE)) != spec.state(pfn) {
                return Err(format!(
                    "{op:?} left {:?}, not {:?}",
                    pages.state(Pa(pfn * PAGE)),
                    spec.state(pfn)
                ));
            }
        }
        for vm in VMS {
            let ipas = (BASE..BASE + count).chain(OWN..OWN + count).chain(WINDOW..WINDOW + ROOM);
            for ipa in ipas {
                let slot = tables.slots.get(&(vm, ipa));
                let seen = slot.filter(|slot| !slot.withheld).map(|slot| (slot.pfn, slot.access));
                if seen != spec.view(vm, ipa) || slot.is_some() != spec.occupied(vm, ipa) {
                    return Err(format!("{op:?} left {slot:?} in the tables of {vm} at {ipa:#x}"));
                }
            }
            // The handles, and whose pages they are about.
            let mut all = BTreeSet::new();
            for (handle, ranges) in pages.given_by(vm) {
                let known = spec.txs.iter().any(|(key, tx)| key.0 == vm && tx.handle == handle.0);
                let own = ranges.iter().flat_map(|range| range.pa.0 / PAGE..range.pa.0 / PAGE + range.pages);
                let given = |pfn| matches!(spec.state(pfn), PageState::Given(owner, _) if owner == vm);
                if !known || !own.clone().all(|pfn| given(pfn) && all.insert(pfn)) {
                    return Err(format!("{op:?} left a transaction of {vm} with {ranges:?}"));
                }
            }
            for ((owner, _), tx) in &spec.txs {
                let handle = Handle(tx.handle);
                let holds = tx.loans.iter().any(|loan| loan.vm == vm && loan.held.is_some());
                if pages.holds(vm, handle) != holds {
                    return Err(format!("{op:?}: {vm} holds what {owner} gave, or not"));
                }
                if tx.complete
                    && (pages.owner(handle) != Ok(*owner) || pages.is_exclusive(handle) != tx.exclusive())
                {
                    return Err(format!("{op:?}: a transaction of {owner} is another"));
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Start(Op),
    /// The next step of a transition that is being made.
    Step(usize),
    /// A core's TLB caches what an entry says.
    Fill(usize, (VmId, u64, u64, bool)),
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut pages = Ownership::new([(BASE * PAGE, self.pages * PAGE)].into_iter(), VMS.into_iter());
        // Each page is a step.
        pages.set_step(1);
        let mut spec = Spec::new(&VMS, if self.identity { &VMS[..1] } else { &[] }, &[]);
        let mut state = State {
            pages: Arc::new(Ownership::new(std::iter::empty(), std::iter::empty())),
            spec: Arc::default(),
            slots: Arc::default(),
            entries: BTreeSet::new(),
            tlbs: Default::default(),
            data: Masks::default(),
            doomed: Masks::default(),
            runs: vec![],
            wrong: None,
            zeroed_in_use: false,
        };
        let mut tables = self.recorder(&state);
        for (&vm, pfn) in self.owners.iter().zip(BASE..) {
            self.execute(Op::Assign(vm, pfn), &mut pages, &mut tables, &mut spec, &mut None).1.expect("free");
            state.entries.insert((vm, self.home(vm, pfn), pfn, true));
        }
        (state.pages, state.spec, state.slots) = (Arc::new(pages), Arc::new(spec), Arc::new(tables.slots));
        state.settle(self);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let most = if self.flaw == Flaw::NoLock { 2 } else { 1 };
        if state.runs.len() < most {
            actions.extend(self.ops(state).into_iter().map(Action::Start));
        }
        actions.extend((0..state.runs.len()).map(Action::Step));
        if self.lazy {
            for core in 0..2 {
                let new = state.entries.difference(&state.tlbs[core]);
                actions.extend(new.map(|entry| Action::Fill(core, *entry)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Fill(core, entry) => {
                state.tlbs[core].insert(entry);
            }
            Action::Step(run) => state.step(run),
            Action::Start(op) => {
                let (mut pages, mut tables) = ((*state.pages).clone(), self.recorder(&state));
                let mut spec = (*state.spec).clone();
                let before = State::permitted(&spec);
                let mut attempted = None;
                let (wipes, verdict) = self.execute(op, &mut pages, &mut tables, &mut spec, &mut attempted);
                if verdict.is_ok() && tables.log.is_empty() && pages == *state.pages && spec == *state.spec {
                    return None;
                }
                let verdict =
                    verdict.and_then(|()| Self::compare(op, &mut pages, &tables, &spec, self.pages));
                pages.renumber();
                for vm in VMS {
                    let mut own = spec.txs.iter_mut().filter(|(key, _)| key.0 == vm);
                    for (handle, _) in pages.given_by(vm) {
                        own.next().expect("as many").1.handle = handle.0;
                    }
                }
                state.wrong = verdict.err();
                let mut steps = tables.log;
                match self.flaw {
                    Flaw::NoFlush => steps.retain(|step| !matches!(step, Micro::Flush(..))),
                    Flaw::OneCore => steps.retain(|step| !matches!(step, Micro::Flush(1, ..))),
                    Flaw::ZeroFirst => steps.sort_by_key(|step| !matches!(step, Micro::Zero(_))),
                    Flaw::FlushLater => steps.sort_by_key(|step| matches!(step, Micro::Flush(..))),
                    _ => {}
                }
                // What is to be gone is what is there now; with it goes what the wrong ones write from now
                // on.
                for (page, _) in wipes.iter().enumerate().filter(|(_, wipe)| wipe.is_some()) {
                    state.doomed[page] = state.data[page];
                }
                if !steps.is_empty() {
                    let after = attempted.unwrap_or_else(|| State::permitted(&spec));
                    state.runs.push(Run { steps: steps.into(), before, after, wipes });
                }
                (state.pages, state.spec, state.slots) =
                    (Arc::new(pages), Arc::new(spec), Arc::new(tables.slots));
            }
        }
        state.settle(self);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// Whether what VMs can do to a page is within what they may: all of it before the transition, or all
        /// of it after.
        fn within(state: &State, page: usize, reach: u8, what: usize) -> bool {
            let now = [State::permitted(&state.spec)];
            let transitions = state.runs.iter().flat_map(|run| [&run.before, &run.after]);
            transitions.chain(&now).any(|may| reach & !may[what][page] == 0)
        }
        let mut all = vec![
            Property::always("transitions do what the specification says", |_, s: &State| s.wrong.is_none()),
            Property::always("the hypervisor's pages are nobody's", |world: &World, s: &State| {
                let [users, _] = s.reach();
                (0..world.pages as usize).all(|page| {
                    let changing = s.runs.iter().any(|run| run.before[0][page] | run.after[0][page] != 0);
                    changing || s.spec.state(BASE + page as u64) != PageState::Hypervisor || users[page] == 0
                })
            }),
            Property::always("pages are used by owners and receivers only", |world: &World, s: &State| {
                let reach = s.reach();
                (0..world.pages as usize)
                    .all(|p| within(s, p, reach[0][p], 0) && within(s, p, reach[1][p], 1))
            }),
            Property::always("two write a page only if its owner wants that", |world: &World, s: &State| {
                let [_, writers] = s.reach();
                let fine = |p: usize| writers[p].count_ones() < 2 || within(s, p, writers[p], 2);
                (0..world.pages as usize).all(fine)
            }),
            Property::always("an owner cannot use what it has lent or donated", |_, s: &State| {
                let [users, _] = s.reach();
                let fine = |(key, tx): (&(VmId, u16), &common::Tx)| {
                    let clear = |(_, pfn): &(u64, u64)| users[(pfn - BASE) as usize] & bit(key.0) == 0;
                    !tx.exclusive() || tx.pages.iter().all(clear)
                };
                !s.runs.is_empty() || s.spec.txs.iter().all(fine)
            }),
            Property::always("memory is zeroed while only the one who asked can use it", |_, s: &State| {
                !s.zeroed_in_use
            }),
            Property::always("nothing is left of what was to be zeroed", |_, s: &State| {
                !s.runs.is_empty() || s.doomed == Masks::default()
            }),
            Property::sometimes("a TLB knows more than the tables", |_, s: &State| {
                s.tlbs.iter().flatten().any(|entry| !s.entries.contains(entry))
            }),
        ];
        if self.kinds != [Kind::Donate] {
            all.push(Property::sometimes("two receivers have a page", |_, s: &State| {
                s.spec.txs.values().any(|tx| tx.loans.iter().filter(|loan| loan.held.is_some()).count() == 2)
            }));
        }
        if self.kinds.contains(&Kind::Donate) {
            all.push(Property::sometimes("a page is donated", |world: &World, s: &State| {
                let owner = |page: usize| s.spec.state(BASE + page as u64).owner();
                s.runs.is_empty()
                    && (0..world.owners.len()).any(|p| owner(p).is_some_and(|vm| vm != world.owners[p]))
            }));
        }
        if self.zero {
            all.push(Property::sometimes("a page is zero", |_, s: &State| s.data.contains(&0)));
        }
        all
    }
}

/// All states of a world are fine. Prints how many there are.
fn check(name: &str, world: World) {
    assert!(world.pages as usize <= MOST_PAGES);
    let start = std::time::Instant::now();
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// Something is wrong with a world, and the checker finds it.
fn check_flawed(world: World) {
    let flaw = world.flaw;
    let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let sometimes = [
        "a TLB knows more than the tables",
        "two receivers have a page",
        "a page is donated",
        "a page is zero",
    ];
    let found = checker.discoveries().into_iter().filter(|(name, _)| !sometimes.contains(name));
    let found: Vec<_> = found.map(|(name, path)| (name, path.into_actions())).collect();
    println!("{flaw:?}, after {} states: {found:?}", checker.unique_state_count());
    assert!(!found.is_empty(), "{flaw:?} went unnoticed");
}

#[test]
fn all_senders_and_receivers() {
    check("transactions", WORLD);
}

#[test]
fn pages_of_the_hypervisor_and_mailboxes() {
    let world = World { owners: &VMS[..1], hypervisor: true, mailboxes: true, open: [1, 1], ..WORLD };
    check("hypervisor and mailboxes", world);
}

#[test]
fn fragments_of_two_transactions() {
    let (owners, senders) = (&[VMS[1], VMS[1], VMS[0]], &VMS[1..2]);
    let world = World { pages: 3, owners, senders, most: 2, open: [2, 2], failures: true, ..WORLD };
    check("fragments", world);
}

#[test]
fn donations_in_pieces() {
    let (owners, kinds) = (&[VMS[1], VMS[0], VMS[1]], &[Kind::Donate]);
    let world = World { pages: 3, owners, kinds, most: 2, open: [1, 1], failures: true, ..WORLD };
    check("pieces", world);
}

#[test]
fn zeroing() {
    let world = World { pages: 1, owners: &VMS[1..2], zero: true, failures: true, open: [1, 1], ..WORLD };
    check("zeroing, one page", world.clone());
    let owners = &[VMS[1], VMS[1]];
    let world = World { pages: 2, owners, most: 2, senders: &VMS[1..2], identity: false, ..world };
    check("zeroing, two pages", world);
}

#[test]
fn stopped_vms_with_unfinished_transactions() {
    let (owners, senders) = (&[VMS[1], VMS[1]], &VMS[1..2]);
    let world = World { pages: 2, owners, senders, most: 2, open: [1, 1], cuts: true, ..WORLD };
    check("stopped half-way", world.clone());
    check("stopped half-way, zeroing", World { zero: true, kinds: &[Kind::Lend], ..world });
}

#[test]
fn zeroing_between_two_senders() {
    let kinds = &[Kind::Lend];
    check("zeroing, two senders", World { kinds, senders: &VMS[..2], zero: true, ..WORLD });
}

#[test]
fn speculative_tlb_fills() {
    let kinds = &[Kind::Lend, Kind::Donate];
    check("lazy", World { owners: &VMS[1..], lazy: true, open: [1, 1], kinds, ..WORLD });
}

#[test]
fn flaws_are_found() {
    let world = World { zero: true, kinds: &[Kind::Lend], senders: &VMS[..2], ..WORLD };
    for flaw in
        [Flaw::NoFlush, Flaw::OneCore, Flaw::FlushLater, Flaw::ZeroFirst, Flaw::NoWithhold, Flaw::NoLock]
    {
        for lazy in [false, true] {
            check_flawed(World { lazy, flaw, ..world.clone() });
        }
    }
    check_flawed(World { flaw: Flaw::SeizedInPlace, hypervisor: true, ..world });
}

/// Takes many minutes, and memory: `cargo test -p page-ownership --test exhaustive -- --ignored`.
#[test]
#[ignore = "takes many minutes"]
fn two_senders_with_everything() {
    check("everything", World { senders: &VMS[..2], zero: true, failures: true, ..WORLD });
}
