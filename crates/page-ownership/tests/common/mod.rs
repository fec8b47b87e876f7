//! What the transitions should do, said again in the simplest way there is: a map of pages, a list of
//! transactions, no tables. Both tests hold the real code against it.
#![allow(dead_code, reason = "each test uses its part")]

use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::VmId,
};
use page_ownership::{
    Grant, MAX_BORROWERS, MAX_PAGES, MAX_RANGES, MAX_TRANSACTIONS, MAX_ZEROED_PAGES, Offer, PageState,
    Request,
};
use std::collections::BTreeMap;

pub const PAGE: u64 = 4096;
/// A VM's own memory, and donations.
pub const ALL: Grant = Grant { write: true, execute: true };

/// What a receiver has retrieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The number of the first page, as the receiver counts; `None`: physical addresses.
    pub at: Option<u64>,
    pub access: Grant,
}

/// One receiver of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loan {
    pub vm: VmId,
    pub grant: Grant,
    pub held: Option<Held>,
    pub zero_after: bool,
}

/// A transaction. Its pages are pairs: number as the sender counts, physical number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tx {
    pub handle: u64,
    pub kind: Kind,
    pub tag: u64,
    pub zero: bool,
    pub complete: bool,
    pub announced: u64,
    pub pages: Vec<(u64, u64)>,
    pub loans: Vec<Loan>,
}

impl Tx {
    /// Whether its sender cannot use the memory.
    pub fn exclusive(&self) -> bool {
        self.complete && self.kind != Kind::Share
    }

    /// In how many contiguous pieces the memory is.
    pub fn runs(&self) -> usize {
        let broken = |pair: &[(u64, u64)]| pair[0].0 + 1 != pair[1].0 || pair[0].1 + 1 != pair[1].1;
        usize::from(!self.pages.is_empty()) + self.pages.windows(2).filter(|pair| broken(pair)).count()
    }
}

/// Memory that a VM has from the start: page numbers as the VM counts, physical ones, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    pub vm: VmId,
    pub ipa: u64,
    pub pfn: u64,
    pub pages: u64,
}

/// Everything that the transitions are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Spec {
    pub vms: Vec<VmId>,
    /// VMs that see memory at its physical address.
    pub identity: Vec<VmId>,
    pub homes: Vec<Home>,
    /// States that differ from what `homes` say.
    states: BTreeMap<u64, PageState>,
    /// Where VMs see their own memory, as far as `homes` say something else.
    moved: BTreeMap<(VmId, u64), Option<u64>>,
    pub txs: BTreeMap<(VmId, u16), Tx>,
}

/// Why a request must be refused. It must be if there is any reason, with the code of one of them.
pub type Reasons = Vec<Error>;

fn reason(reasons: &mut Reasons, wrong: bool, error: Error) {
    if wrong {
        reasons.push(error);
    }
}

impl Spec {
    pub fn new(vms: &[VmId], identity: &[VmId], homes: &[Home]) -> Self {
        let (vms, identity, homes) = (vms.to_vec(), identity.to_vec(), homes.to_vec());
        Self { vms, identity, homes, ..Self::default() }
    }

    pub fn state(&self, pfn: u64) -> PageState {
        let home = |home: &&Home| (home.pfn..home.pfn + home.pages).contains(&pfn);
        let first = || self.homes.iter().find(home).map_or(PageState::Hypervisor, |h| PageState::Owned(h.vm));
        self.states.get(&pfn).copied().unwrap_or_else(first)
    }

    pub fn set_state(&mut self, pfn: u64, state: PageState) {
        self.states.insert(pfn, state);
    }

    /// The physical page that the VM sees as its own at `ipa`, whether or not it has given it away for now.
    pub fn home(&self, vm: VmId, ipa: u64) -> Option<u64> {
        if let Some(moved) = self.moved.get(&(vm, ipa)) {
            return *moved;
        }
        let home = self.homes.iter().find(|h| h.vm == vm && (h.ipa..h.ipa + h.pages).contains(&ipa))?;
        Some(home.pfn + (ipa - home.ipa))
    }

    pub fn set_home(&mut self, vm: VmId, ipa: u64, pfn: Option<u64>) {
        // What is not needed is not kept, so that states that are alike are equal.
        let home = self.homes.iter().any(|h| h.vm == vm && (h.ipa..h.ipa + h.pages).contains(&ipa));
        if pfn.is_none() && !home {
            self.moved.remove(&(vm, ipa));
        } else {
            self.moved.insert((vm, ipa), pfn);
        }
    }

    /// Where the VM sees a page of its own.
    pub fn place_of(&self, vm: VmId, pfn: u64) -> Option<u64> {
        let moved = self.moved.iter().find(|((who, _), to)| *who == vm && **to == Some(pfn));
        moved.map(|((_, ipa), _)| *ipa).or_else(|| {
            let home = self.homes.iter().find(|h| h.vm == vm && (h.pfn..h.pfn + h.pages).contains(&pfn))?;
            let ipa = home.ipa + (pfn - home.pfn);
            (self.home(vm, ipa) == Some(pfn)).then_some(ipa)
        })
    }

    /// What the VM sees at `ipa`: which page, and what it may do besides reading.
    pub fn view(&self, vm: VmId, ipa: u64) -> Option<(u64, Grant)> {
        if let Some(pfn) = self.home(vm, ipa) {
            let withheld = match self.state(pfn) {
                PageState::Given(owner, slot) => self.txs[&(owner, slot)].exclusive(),
                _ => false,
            };
            return (!withheld).then_some((pfn, ALL));
        }
        self.txs.values().find_map(|tx| {
            let held = tx.loans.iter().find(|loan| loan.vm == vm)?.held?;
            let page = match held.at {
                Some(at) => tx.pages.get(usize::try_from(ipa.checked_sub(at)?).ok()?)?.1,
                None => tx.pages.iter().find(|(_, pfn)| *pfn == ipa)?.1,
            };
            Some((page, held.access))
        })
    }

    /// Whether something is mapped at `ipa`, or withheld.
    pub fn occupied(&self, vm: VmId, ipa: u64) -> bool {
        self.home(vm, ipa).is_some() || self.view(vm, ipa).is_some()
    }

    /// Who can use a page, and whether it can write it.
    pub fn users(&self, pfn: u64) -> Vec<(VmId, bool)> {
        match self.state(pfn) {
            PageState::Hypervisor => vec![],
            PageState::Owned(vm) | PageState::Mailbox(vm) => vec![(vm, true)],
            PageState::Given(owner, slot) => {
                let tx = &self.txs[&(owner, slot)];
                let held = tx.loans.iter().filter_map(|l| l.held.map(|held| (l.vm, held.access.write)));
                held.chain((!tx.exclusive()).then_some((owner, true))).collect()
            }
        }
    }

    fn key(&self, handle: Handle) -> Option<(VmId, u16)> {
        self.txs.iter().find(|(_, tx)| tx.handle == handle.0).map(|(key, _)| *key)
    }

    pub fn complete(&self, handle: Handle) -> Option<(VmId, u16)> {
        self.key(handle).filter(|key| self.txs[key].complete)
    }

    pub fn unfinished(&self, sender: VmId, handle: Handle) -> Option<(VmId, u16)> {
        self.key(handle).filter(|key| key.0 == sender && !self.txs[key].complete)
    }

    /// Ends a transaction; its memory is its owner's alone again.
    pub fn close(&mut self, key: (VmId, u16)) {
        let tx = self.txs.remove(&key).expect("a transaction");
        tx.pages.iter().for_each(|(_, pfn)| self.set_state(*pfn, PageState::Owned(key.0)));
    }

    pub fn assign(&mut self, vm: VmId, ipa: u64, pfn: u64) {
        self.set_state(pfn, PageState::Owned(vm));
        self.set_home(vm, ipa, Some(pfn));
    }

    pub fn seize(&mut self, vm: VmId, pfn: u64) {
        let ipa = self.place_of(vm, pfn).expect("its own");
        self.set_state(pfn, PageState::Hypervisor);
        self.set_home(vm, ipa, None);
    }

    /// The pages that `vm` may make its mailbox.
    pub fn mailbox(&self, vm: VmId, at: [u64; 2]) -> Option<[u64; 2]> {
        let own = |ipa: u64| {
            let (pfn, _) = self.view(vm, ipa / PAGE).filter(|_| ipa.is_multiple_of(PAGE))?;
            (self.state(pfn) == PageState::Owned(vm)).then_some(pfn)
        };
        let pages = [own(at[0])?, own(at[1])?];
        (pages[0] != pages[1]).then_some(pages)
    }

    pub fn can_begin(&self, sender: VmId, offer: &Offer<'_>) -> Reasons {
        let mut reasons = vec![];
        let mut wrong = |wrong, error| reason(&mut reasons, wrong, error);
        let own = || self.txs.iter().filter(|((vm, _), _)| *vm == sender);
        let names: Vec<VmId> = offer.borrowers.iter().map(|(vm, _)| *vm).collect();
        wrong(!self.vms.contains(&sender), Error::InvalidParameters);
        wrong(offer.pages == 0 || names.is_empty(), Error::InvalidParameters);
        wrong(offer.kind == Kind::Donate && names.len() != 1, Error::InvalidParameters);
        wrong(offer.kind == Kind::Share && offer.zero, Error::InvalidParameters);
        wrong(names.iter().any(|vm| *vm == sender || !self.vms.contains(vm)), Error::InvalidParameters);
        let twice = names.iter().enumerate().any(|(i, vm)| names[..i].contains(vm));
        wrong(twice, Error::InvalidParameters);
        wrong(offer.pages > if offer.zero { MAX_ZEROED_PAGES } else { MAX_PAGES }, Error::NoMemory);
        wrong(names.len() > MAX_BORROWERS || own().count() == MAX_TRANSACTIONS, Error::NoMemory);
        wrong(own().any(|(_, tx)| !tx.complete), Error::Busy);
        reasons
    }

    pub fn begin(&mut self, sender: VmId, offer: &Offer<'_>, handle: Handle) {
        let loan =
            |(vm, grant): &(VmId, Grant)| Loan { vm: *vm, grant: *grant, held: None, zero_after: false };
        let tx = Tx {
            handle: handle.0,
            kind: offer.kind,
            tag: offer.tag,
            zero: offer.zero,
            complete: false,
            announced: offer.pages,
            pages: vec![],
            loans: offer.borrowers.iter().map(loan).collect(),
        };
        let slot = (0..u16::MAX).find(|slot| !self.txs.contains_key(&(sender, *slot))).expect("a slot");
        assert!(!self.txs.values().any(|tx| tx.handle == handle.0), "a handle names one transaction");
        self.txs.insert((sender, slot), tx);
    }

    /// Adds memory; if that is not possible the transaction ends. `ipa` is in bytes.
    pub fn add(&mut self, sender: VmId, handle: Handle, ipa: u64, pages: u64) -> Reasons {
        let Some(key) = self.unfinished(sender, handle) else { return vec![Error::InvalidParameters] };
        let reasons = self.try_add(key, ipa, pages);
        if !reasons.is_empty() {
            self.close(key);
        }
        reasons
    }

    fn try_add(&mut self, key: (VmId, u16), ipa: u64, pages: u64) -> Reasons {
        let (sender, slot) = key;
        let left = self.txs[&key].announced - self.txs[&key].pages.len() as u64;
        let end = pages.checked_mul(PAGE).and_then(|bytes| ipa.checked_add(bytes));
        if pages == 0 || pages > left || !ipa.is_multiple_of(PAGE) || end.is_none() {
            return vec![Error::InvalidParameters];
        }
        let mut reasons = vec![];
        for at in ipa / PAGE..ipa / PAGE + pages {
            match self.view(sender, at) {
                Some((pfn, ALL)) if self.state(pfn) == PageState::Owned(sender) => {
                    self.set_state(pfn, PageState::Given(sender, slot));
                    self.txs.get_mut(&key).expect("open").pages.push((at, pfn));
                }
                _ => {
                    reasons.push(Error::Denied);
                    break;
                }
            }
        }
        let pieces: usize =
            self.txs.iter().filter(|((vm, _), _)| *vm == sender).map(|(_, tx)| tx.runs()).sum();
        reason(&mut reasons, pieces > MAX_RANGES, Error::NoMemory);
        reasons
    }

    /// Completes a transaction; if that is not possible it ends.
    pub fn commit(&mut self, sender: VmId, handle: Handle) -> Reasons {
        let Some(key) = self.unfinished(sender, handle) else { return vec![Error::InvalidParameters] };
        let tx = self.txs.get_mut(&key).expect("open");
        if tx.pages.len() as u64 != tx.announced {
            self.close(key);
            return vec![Error::InvalidParameters];
        }
        tx.complete = true;
        vec![]
    }

    fn zeroing(tx: &Tx, grant: Grant, reasons: &mut Reasons) {
        reason(reasons, tx.kind == Kind::Share || tx.loans.len() != 1, Error::InvalidParameters);
        reason(reasons, !grant.write, Error::Denied);
        reason(reasons, tx.announced > MAX_ZEROED_PAGES, Error::NoMemory);
    }

    /// What a receiver who asks for that gets.
    pub fn wanted(tx: &Tx, request: &Request) -> Grant {
        if tx.kind == Kind::Donate { ALL } else { Grant { write: request.write, execute: request.execute } }
    }

    /// Whether there is room in the window is for the caller to say; whether a given place is free, is said
    /// here.
    pub fn can_retrieve(&self, vm: VmId, handle: Handle, request: &Request, limit: u64) -> Reasons {
        let Some(key) = self.complete(handle) else { return vec![Error::InvalidParameters] };
        let tx = &self.txs[&key];
        let Some(loan) = tx.loans.iter().find(|loan| loan.vm == vm) else { return vec![Error::Denied] };
        let mut reasons = vec![];
        let wanted = Self::wanted(tx, request);
        let other_kind = request.kind.is_some_and(|kind| kind != tx.kind);
        reason(&mut reasons, request.tag != tx.tag || other_kind, Error::InvalidParameters);
        let beyond = (wanted.write && !loan.grant.write) || (wanted.execute && !loan.grant.execute);
        let refused = loan.held.is_some() || (beyond && tx.kind != Kind::Donate);
        reason(&mut reasons, refused, Error::Denied);
        if request.zero || request.zero_after {
            Self::zeroing(tx, wanted, &mut reasons);
        }
        let identity = self.identity.contains(&vm);
        if let Some(at) = request.place {
            let first = tx.pages[0].1 * PAGE;
            let pages = tx.pages.len() as u64;
            let in_range =
                at.0.is_multiple_of(PAGE) && at.0.checked_add(pages * PAGE).is_some_and(|e| e <= limit);
            let possible = if identity {
                tx.runs() == 1 && at.0 == first
            } else {
                in_range && !(at.0 / PAGE..at.0 / PAGE + pages).any(|ipa| self.occupied(vm, ipa))
            };
            reason(&mut reasons, !possible, Error::InvalidParameters);
        }
        let pieces = if identity { tx.runs() } else { 1 };
        let too_many = tx.kind == Kind::Donate && pieces > request.most_pieces;
        reason(&mut reasons, too_many, Error::NoMemory);
        reasons
    }

    /// The receiver gets the memory at page `at`, or at physical addresses.
    pub fn retrieve(&mut self, vm: VmId, handle: Handle, request: &Request, at: Option<u64>) {
        let key = self.complete(handle).expect("complete");
        let tx = self.txs.get_mut(&key).expect("open");
        let access = Self::wanted(tx, request);
        if tx.kind == Kind::Donate {
            let pages = std::mem::take(&mut tx.pages);
            for (i, (ipa, pfn)) in pages.into_iter().enumerate() {
                self.set_home(key.0, ipa, None);
                self.set_home(vm, at.map_or(pfn, |at| at + i as u64), Some(pfn));
                self.set_state(pfn, PageState::Owned(vm));
            }
            self.txs.remove(&key);
        } else {
            let loan = tx.loans.iter_mut().find(|loan| loan.vm == vm).expect("a receiver");
            loan.held = Some(Held { at, access });
            loan.zero_after = request.zero_after;
        }
    }

    pub fn can_relinquish(&self, vm: VmId, handle: Handle, zero: bool) -> Reasons {
        let Some(key) = self.complete(handle) else { return vec![Error::InvalidParameters] };
        let tx = &self.txs[&key];
        let holding = tx.loans.iter().find(|loan| loan.vm == vm && loan.held.is_some());
        let Some(loan) = holding else { return vec![Error::Denied] };
        let mut reasons = vec![];
        if zero {
            Self::zeroing(tx, loan.grant, &mut reasons);
        }
        reasons
    }

    /// Takes memory back from its receiver.
    pub fn take_back(&mut self, vm: VmId, key: (VmId, u16)) {
        let tx = self.txs.get_mut(&key).expect("open");
        tx.loans.iter_mut().filter(|loan| loan.vm == vm).for_each(|loan| loan.held = None);
    }

    /// The transactions of which a VM holds memory.
    pub fn held_by(&self, vm: VmId) -> Vec<(VmId, u16)> {
        let holds = |tx: &Tx| tx.loans.iter().any(|loan| loan.vm == vm && loan.held.is_some());
        self.txs.iter().filter(|(_, tx)| holds(tx)).map(|(key, _)| *key).collect()
    }

    pub fn can_reclaim(&self, sender: VmId, handle: Handle, zero: bool) -> Reasons {
        if self.unfinished(sender, handle).is_some() {
            return vec![];
        }
        let Some(key) = self.complete(handle).filter(|key| key.0 == sender) else {
            return vec![Error::InvalidParameters];
        };
        let tx = &self.txs[&key];
        let mut reasons = vec![];
        reason(&mut reasons, tx.loans.iter().any(|loan| loan.held.is_some()), Error::Denied);
        reason(&mut reasons, zero && tx.announced > MAX_ZEROED_PAGES, Error::NoMemory);
        reasons
    }
}
