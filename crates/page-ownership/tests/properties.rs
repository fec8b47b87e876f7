//! Long sequences of transitions, with arguments that nobody should use too, on real stage-2 tables made of
//! blocks, against the specification in `common`.

mod common;

use common::{ALL, Home, PAGE, Reasons, Spec};
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
};
use page_ownership::{
    Grant, MAX_PAGES, Offer, Ownership, Request,
    sim::{SimTables, WINDOW},
};
use proptest::{prelude::*, strategy::ValueTree};
use stage2_mmu::Access;
use std::collections::{BTreeMap, BTreeSet};

const VMS: [VmId; 3] = [VmId(1), VmId(2), VmId(3)];
const MIB2: u64 = 512;
const GIB: u64 = 512 * MIB2;
/// Where memory begins, and what of it nobody has.
const BASE: u64 = GIB;
const SPARE: u64 = 8;
/// VM 1 sees its 1 GiB at its place; VM 2 has 64 MiB that are as aligned there as here, VM 3 some that are
/// not, in two parts.
const HOMES: [Home; 4] = [
    Home { vm: VMS[0], ipa: GIB, pfn: GIB, pages: GIB },
    Home { vm: VMS[1], ipa: GIB, pfn: 2 * GIB, pages: 32 * MIB2 },
    Home { vm: VMS[2], ipa: GIB, pfn: 2 * GIB + 32 * MIB2, pages: MIB2 },
    Home { vm: VMS[2], ipa: 2 * GIB + 1, pfn: 2 * GIB + 33 * MIB2, pages: 2 * MIB2 },
];
const LIMIT: u64 = 1 << 38;

/// A number that says where, relative to something that is known only when the operation is made.
type Choice = usize;

#[derive(Clone, Debug)]
struct Sending {
    sender: usize,
    kind: Kind,
    zero: bool,
    ranges: Vec<(u64, u64)>,
    to: Vec<(u16, Grant)>,
    /// What is announced, if not the sum.
    announced: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    /// Begin, add, commit; as many steps of it.
    Send(Sending, usize),
    Add {
        vm: usize,
        handle: Choice,
        at: u64,
        skew: u64,
        pages: u64,
    },
    Commit {
        vm: usize,
        handle: Choice,
    },
    Retrieve {
        vm: usize,
        handle: Choice,
        request: Asked,
    },
    Relinquish {
        vm: usize,
        handle: Choice,
        zero: bool,
    },
    Reclaim {
        vm: usize,
        handle: Choice,
        zero: bool,
    },
    Abandon(usize),
    Mailbox {
        vm: usize,
        at: [u64; 2],
        skew: u64,
    },
    Unmailbox(usize),
    Seize {
        vm: usize,
        at: u64,
        pages: u64,
    },
    Budget {
        vm: usize,
        pages: Option<usize>,
    },
}

#[derive(Clone, Debug)]
struct Asked {
    tag: u64,
    kind: Option<Kind>,
    access: Grant,
    zero: bool,
    zero_after: bool,
    place: Option<u64>,
    pieces: usize,
}

/// Pages of a VM's own memory, counted from its first; near the borders of blocks.
fn place() -> impl Strategy<Value = u64> {
    let near = (0u64..6, 0u64..9).prop_map(|(block, page)| (block * MIB2 + page).saturating_sub(2));
    prop_oneof![40 => near, 2 => 0..GIB + 10, 1 => any::<u64>().prop_map(|far| far / PAGE)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![16 => 1u64..4, 2 => Just(MIB2), 1 => 500u64..1030]
}

fn wild_count() -> impl Strategy<Value = u64> {
    let wild = prop_oneof![Just(0), Just(MAX_PAGES), Just(MAX_PAGES + 1), Just(20_000), any::<u64>()];
    prop_oneof![10 => count(), 1 => wild]
}

fn grant() -> impl Strategy<Value = Grant> {
    prop_oneof![
        Just(Grant { write: true, execute: false }),
        Just(Grant { write: true, execute: true }),
        any::<(bool, bool)>().prop_map(|(write, execute)| Grant { write, execute })
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![2 => Just(Kind::Lend), 2 => Just(Kind::Share), 1 => Just(Kind::Donate)]
}

fn sending() -> impl Strategy<Value = Sending> {
    let receiver = || prop_oneof![60 => 1u16..4, 1 => Just(0), 1 => Just(9)];
    let to = prop_oneof![
        8 => (receiver(), grant()).prop_map(|one| vec![one]),
        4 => prop::collection::vec((receiver(), grant()), 2),
        1 => prop::collection::vec((receiver(), grant()), 0..10),
    ];
    let ranges = prop::collection::vec((place(), count()), 1..4);
    let announced = prop_oneof![12 => Just(None), 1 => wild_count().prop_map(Some)];
    (0usize..3, kind(), prop::bool::weighted(0.2), ranges, to, announced).prop_map(
        |(sender, kind, zero, ranges, to, announced)| Sending { sender, kind, zero, ranges, to, announced },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let tag = prop_oneof![15 => Just(7u64), 1 => Just(8)];
    let kind = prop_oneof![4 => Just(None), 1 => kind().prop_map(Some)];
    let there = prop_oneof![
        (0u64..2000).prop_map(|page| WINDOW.0 + page * PAGE),
        (0u64..4).prop_map(|skew| WINDOW.0 + skew),
        place().prop_map(|page| page.wrapping_mul(PAGE)),
        place().prop_map(|page| (page + GIB).wrapping_mul(PAGE)),
        any::<u64>(),
    ];
    let place = prop_oneof![5 => Just(None), 1 => there.prop_map(Some)];
    let seldom = || prop::bool::weighted(0.15);
    (tag, kind, grant(), seldom(), seldom(), place, 0usize..4).prop_map(
        |(tag, kind, access, zero, zero_after, place, pieces)| Asked {
            tag,
            kind,
            access,
            zero,
            zero_after,
            place,
            pieces,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let vm = || 0usize..3;
    let handle = any::<Choice>;
    let zero = || prop::bool::weighted(0.2);
    let skew = || prop_oneof![12 => Just(0u64), 1 => 1..PAGE];
    let budget = prop_oneof![Just(None), (0usize..4).prop_map(Some)];
    prop_oneof![
        8 => (sending(), prop_oneof![6 => Just(usize::MAX), 1 => 0usize..4]).prop_map(|(s, n)| Op::Send(s, n)),
        2 => (vm(), handle(), place(), skew(), wild_count())
            .prop_map(|(vm, handle, at, skew, pages)| Op::Add { vm, handle, at, skew, pages }),
        1 => (vm(), handle()).prop_map(|(vm, handle)| Op::Commit { vm, handle }),
        12 => (vm(), handle(), asked()).prop_map(|(vm, handle, request)| Op::Retrieve { vm, handle, request }),
        6 => (vm(), handle(), zero()).prop_map(|(vm, handle, zero)| Op::Relinquish { vm, handle, zero }),
        6 => (vm(), handle(), zero()).prop_map(|(vm, handle, zero)| Op::Reclaim { vm, handle, zero }),
        1 => vm().prop_map(Op::Abandon),
        2 => (vm(), [place(), place()], skew()).prop_map(|(vm, at, skew)| Op::Mailbox { vm, at, skew }),
        1 => vm().prop_map(Op::Unmailbox),
        1 => (vm(), place(), wild_count()).prop_map(|(vm, at, pages)| Op::Seize { vm, at, pages }),
        3 => (vm(), budget).prop_map(|(vm, pages)| Op::Budget { vm, pages }),
    ]
}

struct Machine {
    pages: Ownership,
    tables: SimTables,
    spec: Spec,
    /// Every handle that there has been, and whose.
    handles: Vec<(Handle, usize)>,
    mailboxes: BTreeMap<VmId, [u64; 2]>,
    limited: [bool; 3],
    /// Addresses that something has happened around.
    watched: BTreeSet<u64>,
    donated: bool,
    /// How often each operation has succeeded.
    done: BTreeMap<&'static str, usize>,
}

/// What VMs see at the addresses that are watched, in blocks of which size, and how many pages their tables
/// take.
type Snapshot = (Vec<Option<stage2_mmu::Mapping>>, Vec<usize>);

impl Machine {
    fn new() -> Self {
        Self::with_step(page_ownership::STEP_PAGES)
    }

    /// With steps of so many pages.
    fn with_step(step: u64) -> Self {
        let memory = 33 * MIB2 + 2 * MIB2 + SPARE + GIB;
        let mut pages = Ownership::new([(BASE * PAGE, memory * PAGE)].into_iter(), VMS.into_iter());
        pages.set_step(step);
        let mut tables = SimTables::new(&VMS);
        tables.identity.insert(VMS[0]);
        let mut watched: BTreeSet<u64> = (0..4).map(|page| WINDOW.0 / PAGE + page).collect();
        for Home { vm, ipa, pfn, pages: count } in HOMES {
            tables.give(&mut pages, vm, Ipa(ipa * PAGE), Pa(pfn * PAGE), count);
            watched.extend([ipa - 1, ipa, ipa + 1, ipa + MIB2 - 1, ipa + MIB2, ipa + count - 1, ipa + count]);
        }
        Self {
            pages,
            tables,
            spec: Spec::new(&VMS, &VMS[..1], &HOMES),
            handles: vec![],
            mailboxes: BTreeMap::new(),
            limited: [false; 3],
            watched,
            donated: false,
            done: BTreeMap::new(),
        }
    }

    fn handle(&self, choice: Choice) -> Handle {
        let Some((handle, _)) = self.handles.get(choice / 16 % self.handles.len().max(1)) else {
            return Handle(choice as u64);
        };
        match choice % 16 {
            0 => Handle(handle.0 ^ 1 << 32),
            1 => Handle(handle.0 ^ 1),
            2 => Handle(handle.0 & !Handle::HYPERVISOR),
            3 => Handle(handle.0 ^ 3 << 16),
            _ => {
                // One that is open, more often than not.
                let open: Vec<u64> = self.spec.txs.values().map(|tx| tx.handle).collect();
                open.get(choice / 16 % (open.len() + 1)).map_or(*handle, |open| Handle(*open))
            }
        }
    }

    /// The address of a page that is counted from the VM's first.
    fn address(&self, vm: VmId, page: u64) -> u64 {
        let home = self.spec.homes.iter().find(|home| home.vm == vm).expect("it has some");
        (home.ipa.wrapping_add(page)).wrapping_mul(PAGE)
    }

    fn watch(&mut self, first: u64, pages: u64) {
        let last = first.saturating_add(pages);
        let all = [first.saturating_sub(1), first, first + 1, last.saturating_sub(1), last];
        self.watched.extend(all.into_iter().filter(|page| *page < 1 << 40));
    }

    fn snapshot(&self) -> Snapshot {
        let places = VMS.iter().flat_map(|vm| self.watched.iter().map(move |ipa| (*vm, *ipa)));
        let walks = places.map(|(vm, ipa)| self.tables.walk(vm, Ipa(ipa * PAGE))).collect();
        (walks, VMS.iter().map(|vm| self.tables.table_pages(*vm)).collect())
    }

    /// Holds the answer to a request against the reasons to refuse it, and the tables against the
    /// specification.
    fn check(&mut self, what: &'static str, vm: VmId, result: Result<(), Error>, reasons: &Reasons) {
        let limited = VMS.iter().position(|id| *id == vm).is_some_and(|i| self.limited[i]);
        match result {
            Ok(()) => {
                assert!(reasons.is_empty(), "{what} should give one of {reasons:?}");
                *self.done.entry(what).or_default() += 1;
            }
            Err(Error::NoMemory) if limited => {}
            Err(error) => assert!(reasons.contains(&error), "{what} gave {error:?}, not one of {reasons:?}"),
        }
        for &ipa in &self.watched {
            let pfn = ipa;
            assert_eq!(self.pages.state(Pa(pfn * PAGE)), self.spec.state(pfn), "{what}: page {pfn:#x}");
            for vm in VMS {
                let seen = self.tables.walk(vm, Ipa(ipa * PAGE));
                let seen = seen.map(|m| (m.pa.0 / PAGE, m.access));
                let expected = self.spec.view(vm, ipa);
                let access = |grant: Grant| Access { read: true, write: grant.write, execute: grant.execute };
                let expected = expected.map(|(pfn, grant)| (pfn, access(grant)));
                assert_eq!(seen, expected, "{what}: {vm} at page {ipa:#x}");
            }
        }
        for home in HOMES {
            for pfn in [home.pfn, home.pfn + 1, home.pfn + MIB2 - 1, home.pfn + home.pages - 1] {
                assert_eq!(self.pages.state(Pa(pfn * PAGE)), self.spec.state(pfn), "{what}: page {pfn:#x}");
            }
        }
    }

    /// After an error nothing has changed.
    fn unchanged(&self, before: &(Ownership, Snapshot, usize)) {
        assert!(self.pages == before.0, "an error changed states");
        self.same_tables(before);
    }

    fn same_tables(&self, (_, tables, zeroed): &(Ownership, Snapshot, usize)) {
        assert!(self.snapshot() == *tables, "an error changed tables");
        assert_eq!(self.tables.zeroed.len(), *zeroed, "an error zeroed memory");
    }

    fn before(&self) -> (Ownership, Snapshot, usize) {
        (self.pages.clone(), self.snapshot(), self.tables.zeroed.len())
    }

    fn zeroed_since(&self, before: usize) -> u64 {
        self.tables.zeroed[before..].iter().map(|(_, pages)| pages).sum()
    }

    fn add(&mut self, vm: VmId, handle: Handle, ipa: u64, pages: u64) -> Result<(), Error> {
        self.watch(ipa / PAGE, pages);
        if let Some((pfn, _)) = self.spec.view(vm, ipa / PAGE) {
            self.watch(pfn, pages);
        }
        let before = self.before();
        let reasons = self.spec.add(vm, handle, ipa, pages);
        let result = self.pages.add(vm, handle, Ipa(ipa), pages, &mut self.tables);
        self.same_tables(&before);
        self.check("add", vm, result, &reasons);
        result
    }

    fn commit(&mut self, vm: VmId, handle: Handle) {
        let before = self.before();
        let reasons = self.spec.clone().commit(vm, handle);
        let result = self.pages.commit(vm, handle, &mut self.tables);
        let key = self.spec.unfinished(vm, handle);
        if result == Err(Error::NoMemory) && reasons.is_empty() {
            self.spec.close(key.expect("there is one"));
        } else {
            let _ = self.spec.commit(vm, handle);
        }
        if result.is_err() {
            self.same_tables(&before);
        } else {
            let tx = &self.spec.txs[&key.expect("there is one")];
            assert_eq!(self.zeroed_since(before.2), if tx.zero { tx.announced } else { 0 });
        }
        self.check("commit", vm, result, &reasons);
    }

    fn send(&mut self, sending: &Sending, steps: usize) {
        let vm = VMS[sending.sender];
        // It mostly does not send to itself, and mostly gives up what it has not finished.
        let other = |id: u16| if id == vm.0 && sending.to.len() < 3 { id % 3 + 1 } else { id };
        let to: Vec<(VmId, Grant)> =
            sending.to.iter().map(|(vm, grant)| (VmId(other(*vm)), *grant)).collect();
        let unfinished = self.spec.txs.iter().find(|((owner, _), tx)| *owner == vm && !tx.complete);
        if let Some((_, tx)) = unfinished
            && !sending.zero
        {
            self.reclaim(vm, Handle(tx.handle), false);
        }
        let sum = sending.ranges.iter().map(|(_, pages)| pages).sum();
        let (kind, zero, announced) = (sending.kind, sending.zero, sending.announced.unwrap_or(sum));
        let offer = Offer { kind, tag: 7, zero, pages: announced, borrowers: &to };
        let before = self.before();
        let reasons = self.spec.can_begin(vm, &offer);
        let result = self.pages.begin(vm, &offer);
        if let Ok(handle) = result {
            assert!(self.handles.iter().all(|(old, _)| *old != handle), "a handle was used before");
            self.handles.push((handle, sending.sender));
            if reasons.is_empty() {
                self.spec.begin(vm, &offer, handle);
            }
        } else {
            self.unchanged(&before);
        }
        self.check("begin", vm, result.map(|_| ()), &reasons);
        let Ok(handle) = result else { return };
        for (at, pages) in sending.ranges.iter().take(steps) {
            if self.add(vm, handle, self.address(vm, *at), *pages).is_err() {
                return;
            }
        }
        if steps > sending.ranges.len() {
            self.commit(vm, handle);
        }
    }

    fn retrieve(&mut self, vm: VmId, handle: Handle, asked: &Asked) {
        let request = Request {
            tag: asked.tag,
            kind: asked.kind,
            write: asked.access.write,
            execute: asked.access.execute,
            zero: asked.zero,
            zero_after: asked.zero_after,
            place: asked.place.map(Ipa),
            most_pieces: asked.pieces,
        };
        if let Some(key) = self.spec.complete(handle) {
            let tx = self.spec.txs[&key].clone();
            self.watch(tx.pages[0].1, tx.announced);
            self.watch(asked.place.unwrap_or(0) / PAGE, tx.announced);
        }
        let before = self.before();
        let reasons = self.spec.can_retrieve(vm, handle, &request, LIMIT * 2);
        let mut got = None;
        let mut report = |what: &page_ownership::Retrieved, ranges: &[page_ownership::Given]| {
            got = Some((*what, ranges.iter().map(|range| range.pages).sum::<u64>()));
        };
        let result = self.pages.retrieve(vm, handle, &request, &mut self.tables, &mut report);
        if result.is_err() {
            self.unchanged(&before);
        } else if reasons.is_empty() {
            let (what, pages) = got.expect("a report");
            let key = self.spec.complete(handle).expect("complete");
            let tx = &self.spec.txs[&key];
            let at = what.ipa.map(|ipa| ipa.0 / PAGE);
            assert_eq!((what.kind, what.pages, pages), (tx.kind, tx.announced, tx.announced));
            assert_eq!(what.grant, Spec::wanted(tx, &request));
            assert_eq!(at.is_none(), self.spec.identity.contains(&vm));
            assert_eq!(self.zeroed_since(before.2), if asked.zero { pages } else { 0 });
            if let Some(at) = at {
                assert!((at..at + pages).all(|ipa| !self.spec.occupied(vm, ipa)));
                assert!(asked.place.is_none_or(|place| place == at * PAGE));
            }
            self.donated |= tx.kind == Kind::Donate;
            self.spec.retrieve(vm, handle, &request, at);
            self.watch(at.unwrap_or(0), pages);
        }
        self.check("retrieve", vm, result, &reasons);
    }

    fn relinquish(&mut self, vm: VmId, handle: Handle, zero: bool) {
        let before = self.before();
        let reasons = self.spec.can_relinquish(vm, handle, zero);
        let result = self.pages.relinquish(vm, handle, zero, &mut self.tables);
        if result.is_err() {
            self.unchanged(&before);
        } else if let Some(key) = self.spec.complete(handle) {
            let tx = &self.spec.txs[&key];
            let after = tx.loans.iter().any(|loan| loan.vm == vm && loan.zero_after);
            assert_eq!(self.zeroed_since(before.2), if zero || after { tx.announced } else { 0 });
            self.spec.take_back(vm, key);
        }
        // Giving back never lacks memory.
        assert!(result != Err(Error::NoMemory) || reasons.contains(&Error::NoMemory));
        self.check("relinquish", vm, result, &reasons);
    }

    fn reclaim(&mut self, vm: VmId, handle: Handle, zero: bool) {
        let before = self.before();
        let reasons = self.spec.can_reclaim(vm, handle, zero);
        let result = self.pages.reclaim(vm, handle, zero, &mut self.tables);
        if result.is_err() {
            self.unchanged(&before);
        } else if reasons.is_empty() {
            let key = self.spec.unfinished(vm, handle).or(self.spec.complete(handle)).expect("open");
            let tx = &self.spec.txs[&key];
            assert_eq!(self.zeroed_since(before.2), if zero && tx.complete { tx.announced } else { 0 });
            self.spec.close(key);
        }
        assert!(result != Err(Error::NoMemory) || reasons.contains(&Error::NoMemory));
        self.check("reclaim", vm, result, &reasons);
    }

    fn abandon(&mut self, vm: VmId) {
        self.pages.abandon_all(vm, &mut self.tables);
        for key in self.spec.held_by(vm) {
            self.spec.take_back(vm, key);
        }
        self.check("abandon", vm, Ok(()), &vec![]);
    }

    fn mailbox(&mut self, vm: VmId, at: [u64; 2], skew: u64) {
        if self.mailboxes.contains_key(&vm) {
            return;
        }
        let before = self.before();
        let at = at.map(|page| self.address(vm, page).wrapping_add(skew));
        let expected = self.spec.mailbox(vm, at);
        let result = self.pages.open_mailbox(vm, at.map(Ipa), &self.tables);
        assert_eq!(result.ok(), expected.map(|pages| pages.map(|pfn| Pa(pfn * PAGE))));
        if let Some(pages) = expected {
            self.mailboxes.insert(vm, pages);
            for pfn in pages {
                self.watch(pfn, 1);
                self.spec.set_state(pfn, page_ownership::PageState::Mailbox(vm));
            }
            self.check("mailbox", vm, Ok(()), &vec![]);
        } else {
            self.unchanged(&before);
        }
    }

    /// Closes its mailbox, if it has one.
    fn unmailbox(&mut self, vm: VmId) {
        let Some(pages) = self.mailboxes.remove(&vm) else { return };
        self.pages.close_mailbox(vm, pages.map(|pfn| Pa(pfn * PAGE)));
        for pfn in &pages {
            self.spec.set_state(*pfn, page_ownership::PageState::Owned(vm));
        }
        self.check("unmailbox", vm, Ok(()), &vec![]);
    }

    /// Takes pages back to the hypervisor, and gives them again: the tables are the caller's, so they stay.
    fn seize(&mut self, vm: VmId, at: u64, pages: u64) {
        let before = self.before();
        let pa = self.address(vm, at);
        let owned = page_ownership::PageState::Owned(vm);
        let in_memory = pages < 2 * GIB && (BASE..BASE + 2 * GIB).contains(&(pa / PAGE));
        let possible = in_memory && (pa / PAGE..pa / PAGE + pages).all(|pfn| self.spec.state(pfn) == owned);
        if pages == 0 {
            return;
        }
        assert_eq!(self.pages.seize(vm, Pa(pa), pages), possible);
        if possible {
            assert!(!self.pages.seize(vm, Pa(pa), pages));
            assert!(self.pages.assign(vm, Pa(pa), pages));
            *self.done.entry("seize").or_default() += 1;
        }
        self.unchanged(&before);
    }

    /// Turns a request to retrieve into one that may succeed, mostly.
    fn sensible(&self, vm: usize, choice: Choice, request: &Asked) -> (VmId, Handle, Asked) {
        let (vm, handle, mut request) = (VMS[vm], self.handle(choice), request.clone());
        let complete: Vec<_> = self.spec.txs.values().filter(|tx| tx.complete).collect();
        if choice.is_multiple_of(5) || complete.is_empty() {
            return (vm, handle, request);
        }
        let tx = complete[choice / 5 % complete.len()];
        let loan = &tx.loans[choice / 7 % tx.loans.len()];
        request.access.write &= loan.grant.write;
        request.access.execute &= loan.grant.execute;
        request.kind = request.kind.map(|_| tx.kind);
        (loan.vm, Handle(tx.handle), request)
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Send(sending, steps) => self.send(sending, *steps),
            Op::Add { vm, handle, at, skew, pages } => {
                let (vm, handle) = (VMS[*vm], self.handle(*handle));
                let _ = self.add(vm, handle, self.address(vm, *at).wrapping_add(*skew), *pages);
            }
            Op::Commit { vm, handle } => self.commit(VMS[*vm], self.handle(*handle)),
            Op::Retrieve { vm, handle, request } => {
                let (vm, handle, request) = self.sensible(*vm, *handle, request);
                self.retrieve(vm, handle, &request);
            }
            Op::Relinquish { vm, handle, zero } => {
                let held: Vec<_> = VMS
                    .iter()
                    .flat_map(|vm| self.spec.held_by(*vm).into_iter().map(move |key| (*vm, key)))
                    .collect();
                match held.get(handle % (held.len() + 1)) {
                    Some((vm, key)) => self.relinquish(*vm, Handle(self.spec.txs[key].handle), *zero),
                    None => self.relinquish(VMS[*vm], self.handle(*handle), *zero),
                }
            }
            Op::Reclaim { vm, handle, zero } => {
                let handle = self.handle(*handle);
                // The sender itself, mostly.
                let sender =
                    self.handles.iter().find(|(old, _)| *old == handle).map_or(*vm, |(_, sender)| *sender);
                self.reclaim(VMS[if *vm == 0 { *vm } else { sender }], handle, *zero);
            }
            Op::Abandon(vm) => self.abandon(VMS[*vm]),
            Op::Mailbox { vm, at, skew } => self.mailbox(VMS[*vm], *at, *skew),
            Op::Unmailbox(vm) => self.unmailbox(VMS[*vm]),
            Op::Seize { vm, at, pages } => self.seize(VMS[*vm], *at, *pages),
            Op::Budget { vm, pages } => {
                self.limited[*vm] = pages.is_some();
                self.tables.set_budget(VMS[*vm], *pages);
            }
        }
        self.disjoint();
    }

    /// The pages of all transactions are given, and each is in one.
    fn disjoint(&mut self) {
        let mut all: Vec<(u64, u64)> = vec![];
        for vm in VMS {
            for (handle, ranges) in self.pages.given_by(vm) {
                assert!(self.spec.txs.iter().any(|((owner, _), tx)| *owner == vm && tx.handle == handle.0));
                all.extend(ranges.iter().map(|range| (range.pa.0, range.pages * PAGE)));
            }
        }
        all.sort_unstable();
        assert!(
            all.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0),
            "a page is in two transactions"
        );
        for (first, bytes) in all {
            for pa in [first, first + bytes - PAGE] {
                assert!(matches!(self.pages.state(Pa(pa)), page_ownership::PageState::Given(..)));
            }
        }
    }

    /// Everything that is lent goes back to its owner.
    fn settle(&mut self) {
        for vm in VMS {
            self.abandon(vm);
        }
        for ((vm, _), tx) in self.spec.txs.clone() {
            self.reclaim(vm, Handle(tx.handle), false);
        }
        for vm in VMS {
            self.unmailbox(vm);
        }
        assert!(self.spec.txs.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 1500 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn implementation_matches_specification(
        ops in prop::collection::vec(op(), 1..60),
        step in prop_oneof![Just(8u64), Just(256), Just(512)],
    ) {
        let mut machine = Machine::with_step(step);
        for op in &ops {
            machine.run(op);
        }
        machine.settle();
        if !machine.donated {
            let mut new = Machine::with_step(step);
            new.watched = machine.watched.clone();
            prop_assert_eq!(machine.snapshot(), new.snapshot(), "tables are not as they were");
        }
    }
}

/// Random operations do come to something.
#[test]
fn most_generated_operations_succeed() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut done = BTreeMap::<&str, usize>::new();
    for _ in 0..24 {
        let ops = prop::collection::vec(op(), 60).new_tree(&mut runner).expect("operations").current();
        let mut machine = Machine::new();
        for op in &ops {
            machine.run(op);
        }
        machine.done.iter().for_each(|(what, times)| *done.entry(what).or_default() += times);
    }
    println!("{done:?}");
    for what in [
        "begin",
        "add",
        "commit",
        "retrieve",
        "relinquish",
        "reclaim",
        "abandon",
        "mailbox",
        "unmailbox",
        "seize",
    ] {
        assert!(done.get(what).is_some_and(|times| *times > 4), "{what}: {done:?}");
    }
}

/// A VM's own part of a block and one that it has been lent must not become one block: there might be no
/// memory to split that when the loan ends.
#[test]
fn relinquish_needs_no_memory_for_tables() {
    let mut machine = Machine::new();
    let half = MIB2 / 2;
    let all = |vm: usize| vec![(vm as u16 + 1, ALL)];
    // VM 2 donates one half of a block to VM 3, and lends the other half.
    for (kind, at) in [(Kind::Donate, 0), (Kind::Lend, half)] {
        let ranges = vec![(at, half)];
        machine
            .send(&Sending { sender: 1, kind, zero: false, ranges, to: all(2), announced: None }, usize::MAX);
        let (handle, _) = *machine.handles.last().expect("a handle");
        let asked = Asked {
            tag: 7,
            kind: None,
            access: ALL,
            zero: false,
            zero_after: false,
            place: Some(WINDOW.0 + at * PAGE),
            pieces: 1,
        };
        machine.retrieve(VMS[2], handle, &asked);
        assert_eq!(
            machine.tables.walk(VMS[2], Ipa(WINDOW.0 + at * PAGE)).map(|m| m.access),
            Some(Access::RWX)
        );
    }
    let (loan, _) = machine.handles[1];
    // VM 3 lends a page of what is its own now, and takes it back: the tables are tidied.
    let page = WINDOW.0 / PAGE - HOMES[2].ipa;
    machine.send(
        &Sending {
            sender: 2,
            kind: Kind::Lend,
            zero: false,
            ranges: vec![(page, 1)],
            to: all(0),
            announced: None,
        },
        usize::MAX,
    );
    let (handle, _) = *machine.handles.last().expect("a handle");
    machine.reclaim(VMS[2], handle, false);
    machine.tables.set_budget(VMS[2], Some(0));
    machine.relinquish(VMS[2], loan, false);
    assert_eq!(machine.tables.walk(VMS[2], Ipa(WINDOW.0 + half * PAGE)), None);
}
