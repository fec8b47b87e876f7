//! The transitions.

use crate::{
    MAX_PAGES, MAX_ZEROED_PAGES,
    state::{PageState, PageTable},
    transaction::{self, Borrower, Given, Grant, Offer, Request, Retrieved, Sender, Transaction},
};
use alloc::boxed::Box;
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use stage2_mmu::Access;

/// The stage-2 tables of all VMs, as transitions need them. Ranges are whole pages.
pub trait Tables {
    /// Where the VM's memory at `ipa` is, and how many pages from there on are contiguous; `None` if it is not mapped for
    /// reading and writing.
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)>;
    /// Whether the VM sees memory that it receives at its physical address.
    fn is_identity(&self, vm: VmId) -> bool;
    /// An address for `pages` pages of memory that the VM receives: `at`, or any if that is `None`.
    fn find_room(&self, vm: VmId, at: Option<Ipa>, pages: u64) -> Option<Ipa>;
    /// Takes the VM's own memory away until [`Self::restore`] or [`Self::unmap`]. When this returns no core can use it.
    fn withhold(&mut self, vm: VmId, ipa: Ipa, pages: u64) -> Result<(), Error>;
    /// Gives it back. It cannot fail for what has been withheld.
    fn restore(&mut self, vm: VmId, ipa: Ipa, pages: u64);
    /// Maps memory where nothing is mapped, and nothing withheld. A call that fails leaves nothing mapped.
    fn map(&mut self, vm: VmId, ipa: Ipa, pa: Pa, pages: u64, access: Access) -> Result<(), Error>;
    /// Removes what has been mapped or withheld. When this returns no core can use it.
    fn unmap(&mut self, vm: VmId, ipa: Ipa, pages: u64);
    /// Fills memory, which is in no VM's tables or only in those of the one who asked for it, with zeroes.
    fn zero(&mut self, pa: Pa, pages: u64);
}

/// Who owns each page, and all open transactions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    pages: PageTable,
    senders: Box<[Sender]>,
}

const fn access(grant: Grant) -> Access {
    Access { read: true, write: grant.write, execute: grant.execute }
}

impl Ownership {
    /// What it needs for each page of memory.
    pub const BYTES_PER_PAGE: usize = size_of::<u32>();
    /// What it needs for each VM, roughly.
    pub const BYTES_PER_VM: usize = Sender::BYTES;

    /// All pages of `memory` (base and length, bytes in whole pages) are the hypervisor's; `vms` may receive some.
    pub fn new(memory: impl Iterator<Item = (u64, u64)>, vms: impl Iterator<Item = VmId>) -> Self {
        Self { pages: PageTable::new(memory), senders: vms.map(Sender::new).collect() }
    }

    /// The state of the page at `pa`.
    pub fn state(&self, pa: Pa) -> PageState {
        self.pages.get(pa)
    }

    /// Whether these pages are all a VM's alone.
    pub fn owns(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Owned(vm), PageState::Owned(vm))
    }

    /// Gives pages of the hypervisor to a VM. `false` if they are not all the hypervisor's; then nothing has changed.
    pub fn assign(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Hypervisor, PageState::Owned(vm))
    }

    /// Takes pages of a VM, which are its alone, back to the hypervisor. The caller has taken them out of the VM's tables.
    pub fn seize(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Owned(vm), PageState::Hypervisor)
    }

    /// Moves pages of `from`, which are its alone, to `to`, which sees memory at its physical address. For a VM `from` that does not
    /// run, and whose pages the caller has zeroed.
    ///
    /// # Errors
    /// `DENIED`: they are not all of `from` alone. `NO_MEMORY`: there is none for the tables of `to`. Then nothing has changed.
    pub fn transfer(
        &mut self,
        from: VmId,
        ipa: Ipa,
        pa: Pa,
        pages: u64,
        to: VmId,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        if !tables.is_identity(to) || !self.owns(from, pa, pages) {
            return Err(Error::Denied);
        }
        tables.map(to, Ipa(pa.0), pa, pages, Access::RWX)?;
        tables.unmap(from, ipa, pages);
        self.pages.change(pa, pages, PageState::Owned(from), PageState::Owned(to));
        Ok(())
    }

    /// Makes two pages of a VM its mailbox; returns where they are.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: an address is not that of a page; the VM has no memory there, or not for itself alone.
    pub fn open_mailbox(
        &mut self,
        vm: VmId,
        [one, two]: [Ipa; 2],
        tables: &impl Tables,
    ) -> Result<[Pa; 2], Error> {
        let place = |ipa: Ipa| {
            let there = tables.translate(vm, ipa).filter(|_| ipa.0.is_multiple_of(PAGE));
            there.map(|(pa, _)| pa).ok_or(Error::InvalidParameters)
        };
        let pages = [place(one)?, place(two)?];
        if self.link_mailbox(vm, pages) { Ok(pages) } else { Err(Error::InvalidParameters) }
    }

    /// Makes two pages of a VM, which are its alone, its mailbox. `false` if they are not; then nothing has changed.
    pub fn link_mailbox(&mut self, vm: VmId, [one, two]: [Pa; 2]) -> bool {
        let (owned, mailbox) = (PageState::Owned(vm), PageState::Mailbox(vm));
        if !self.pages.change(one, 1, owned, mailbox) {
            return false;
        }
        let both = self.pages.change(two, 1, owned, mailbox);
        if !both {
            self.pages.change(one, 1, mailbox, owned);
        }
        both
    }

    /// Makes the pages of a mailbox ordinary memory of the VM again.
    pub fn close_mailbox(&mut self, vm: VmId, pages: [Pa; 2]) {
        for pa in pages {
            self.pages.change(pa, 1, PageState::Mailbox(vm), PageState::Owned(vm));
        }
    }

    /// Begins a transaction of `sender`; [`Self::add`] and [`Self::commit`] follow.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: no pages, no receiver, the sender or nobody among the receivers, one twice; more than one
    /// for a donation; zeroing of what is shared. `NO_MEMORY`: more pages, receivers or transactions than there is room for.
    /// `BUSY`: the sender is sending another one.
    pub fn begin(&mut self, sender: VmId, offer: &Offer<'_>) -> Result<Handle, Error> {
        let limit = if offer.zero { MAX_ZEROED_PAGES } else { MAX_PAGES };
        let donation_to_many = offer.kind == Kind::Donate && offer.borrowers.len() != 1;
        let zero_of_shared = offer.kind == Kind::Share && offer.zero;
        if offer.pages == 0 || offer.borrowers.is_empty() || donation_to_many || zero_of_shared {
            return Err(Error::InvalidParameters);
        }
        let mut borrowers: heapless::Vec<Borrower, { crate::MAX_BORROWERS }> = heapless::Vec::new();
        for &(vm, grant) in offer.borrowers {
            let known = self.senders.iter().any(|sender| sender.vm == vm);
            if vm == sender || !known || borrowers.iter().any(|earlier| earlier.vm == vm) {
                return Err(Error::InvalidParameters);
            }
            let borrower = Borrower { vm, grant, holds: None, zero_after: false };
            borrowers.push(borrower).map_err(|_| Error::NoMemory)?;
        }
        if offer.pages > limit {
            return Err(Error::NoMemory);
        }
        let transactions = self.sender(sender)?;
        if transactions.unfinished().is_some() {
            return Err(Error::Busy);
        }
        let slot = transactions.open(offer, borrowers).ok_or(Error::NoMemory)?;
        let generation = transactions.get(slot).map_or(0, |t| t.generation);
        Ok(transaction::handle(sender, slot, generation))
    }

    /// Adds memory to a transaction that is being sent. After an error the transaction is gone, and all memory as it was.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: no such transaction is being sent; no pages, an address that is none, more pages than announced. `DENIED`:
    /// the memory is not the sender's alone. `NO_MEMORY`: too many pieces.
    pub fn add(
        &mut self,
        sender: VmId,
        handle: Handle,
        ipa: Ipa,
        pages: u64,
        tables: &impl Tables,
    ) -> Result<(), Error> {
        let slot = self.unfinished(sender, handle)?;
        let result = self.claim(sender, slot, ipa, pages, tables);
        if result.is_err() {
            self.cancel(sender, slot);
        }
        result
    }

    fn claim(
        &mut self,
        vm: VmId,
        slot: u16,
        ipa: Ipa,
        pages: u64,
        tables: &impl Tables,
    ) -> Result<(), Error> {
        let sender = find(&mut self.senders, vm)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        let fits = pages > 0 && pages <= t.pages - t.added;
        let end = pages.checked_mul(PAGE).and_then(|bytes| ipa.0.checked_add(bytes));
        let (true, Some(end), true) = (fits, end, ipa.0.is_multiple_of(PAGE)) else {
            return Err(Error::InvalidParameters);
        };
        let mut at = ipa.0;
        while at < end {
            let (pa, contiguous) = tables.translate(vm, Ipa(at)).ok_or(Error::Denied)?;
            let pages = contiguous.min((end - at) / PAGE);
            if !self.pages.change(pa, pages, PageState::Owned(vm), PageState::Given(vm, slot)) {
                return Err(Error::Denied);
            }
            if !sender.push(slot, Given { ipa: Ipa(at), pa, pages }) {
                self.pages.change(pa, pages, PageState::Given(vm, slot), PageState::Owned(vm));
                return Err(Error::NoMemory);
            }
            at += pages * PAGE;
        }
        Ok(())
    }

    /// Completes a transaction: receivers may retrieve it. The sender has lost access if it lends or donates. After an error the
    /// transaction is gone, and all memory as it was.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: no such transaction is being sent, or fewer pages were added than announced. `NO_MEMORY`: there
    /// is none for the sender's tables.
    pub fn commit(&mut self, sender: VmId, handle: Handle, tables: &mut impl Tables) -> Result<(), Error> {
        let slot = self.unfinished(sender, handle)?;
        let result = self.take_away(sender, slot, tables);
        if result.is_err() {
            self.cancel(sender, slot);
        }
        result
    }

    fn take_away(&mut self, vm: VmId, slot: u16, tables: &mut impl Tables) -> Result<(), Error> {
        let sender = find(&mut self.senders, vm)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        if t.added != t.pages {
            return Err(Error::InvalidParameters);
        }
        let (kind, zero) = (t.kind, t.zero);
        if kind != Kind::Share {
            let ranges = sender.ranges(slot);
            for (i, range) in ranges.iter().enumerate() {
                if let Err(error) = tables.withhold(vm, range.ipa, range.pages) {
                    ranges[..i].iter().for_each(|range| tables.restore(vm, range.ipa, range.pages));
                    return Err(error);
                }
            }
            if zero {
                for range in ranges {
                    tables.zero(range.pa, range.pages);
                }
            }
        }
        if let Some(t) = sender.get_mut(slot) {
            t.complete = true;
        }
        Ok(())
    }

    /// Gives up a transaction that is being sent.
    fn cancel(&mut self, vm: VmId, slot: u16) {
        if let Ok(sender) = find(&mut self.senders, vm) {
            for range in sender.ranges(slot) {
                let (given, owned) = (PageState::Given(vm, slot), PageState::Owned(vm));
                self.pages.change(range.pa, range.pages, given, owned);
            }
            sender.close(slot);
        }
    }

    /// How many pages of a transaction that is being sent have been added.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn added(&mut self, sender: VmId, handle: Handle) -> Result<u64, Error> {
        let slot = self.unfinished(sender, handle)?;
        Ok(self.sender(sender)?.get(slot).map_or(0, |t| t.added))
    }

    /// Gives `vm` the memory of a transaction, and tells `report` what it got and in which pieces. A donation ends with
    /// this: the memory is its receiver's.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction, or its tag or kind is another; a place that cannot be; zeroing of
    /// what is shared, or has several receivers. `DENIED`: `vm` is no receiver, has it already, or wants more than it was granted.
    /// `NO_MEMORY`: there is none for its tables, no room for its addresses, too many pages to be zeroed, or a donation in
    /// too many pieces.
    pub fn retrieve(
        &mut self,
        vm: VmId,
        handle: Handle,
        request: &Request,
        tables: &mut impl Tables,
        report: &mut dyn FnMut(&Retrieved, &[Given]),
    ) -> Result<(), Error> {
        let (owner, slot) = self.complete(handle)?;
        let sender = find(&mut self.senders, owner)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        let borrower = t.borrowers.iter().position(|borrower| borrower.vm == vm).ok_or(Error::Denied)?;
        let Borrower { grant, holds, .. } = t.borrowers[borrower];
        let wanted = if t.kind == Kind::Donate {
            Grant { write: true, execute: true }
        } else {
            Grant { write: request.write, execute: request.execute }
        };
        if request.tag != t.tag || request.kind.is_some_and(|kind| kind != t.kind) {
            return Err(Error::InvalidParameters);
        }
        let beyond = (wanted.write && !grant.write) || (wanted.execute && !grant.execute);
        if holds.is_some() || (beyond && t.kind != Kind::Donate) {
            return Err(Error::Denied);
        }
        if request.zero || request.zero_after {
            check_zero(t, wanted)?;
        }
        let kind = t.kind;
        let ranges = sender.ranges(slot);
        let pages: u64 = ranges.iter().map(|range| range.pages).sum();
        let ipa = if tables.is_identity(vm) {
            let there = |at: Ipa| ranges.len() == 1 && at.0 == ranges[0].pa.0;
            if request.place.is_some_and(|at| !there(at)) {
                return Err(Error::InvalidParameters);
            }
            None
        } else {
            let none = if request.place.is_some() { Error::InvalidParameters } else { Error::NoMemory };
            Some(tables.find_room(vm, request.place, pages).ok_or(none)?)
        };
        let pieces = if ipa.is_some() { 1 } else { ranges.len() };
        if kind == Kind::Donate && pieces > request.most_pieces {
            return Err(Error::NoMemory);
        }
        map(vm, ipa, ranges, access(wanted), tables)?;
        if request.zero {
            // Only now that nothing can fail: it cannot be undone. In nobody else's tables: not the owner's, because it is lent
            // or donated; not another receiver's, because there is none.
            for range in ranges {
                tables.zero(range.pa, range.pages);
            }
        }
        report(&Retrieved { kind, ipa, pages, pieces, grant: wanted }, ranges);
        if kind == Kind::Donate {
            for range in ranges {
                tables.unmap(owner, range.ipa, range.pages);
                let (given, owned) = (PageState::Given(owner, slot), PageState::Owned(vm));
                self.pages.change(range.pa, range.pages, given, owned);
            }
            sender.close(slot);
        } else if let Some(t) = sender.get_mut(slot) {
            t.borrowers[borrower].holds = Some(ipa);
            t.borrowers[borrower].zero_after = request.zero_after;
        }
        Ok(())
    }

    /// The pieces of a transaction, at their physical addresses, for a receiver that sees them there.
    pub fn pieces(&mut self, handle: Handle) -> &[Given] {
        match self.complete(handle) {
            Ok((owner, slot)) => find(&mut self.senders, owner).map_or(&[], |sender| sender.ranges(slot)),
            Err(_) => &[],
        }
    }

    /// Who made a transaction.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn owner(&mut self, handle: Handle) -> Result<VmId, Error> {
        self.complete(handle).map(|(owner, _)| owner)
    }

    /// Whether the memory of a transaction is not its owner's to use: complete, and lent or donated.
    pub fn is_exclusive(&mut self, handle: Handle) -> bool {
        let Ok((owner, slot)) = self.complete(handle) else { return false };
        let t = find(&mut self.senders, owner).ok().and_then(|sender| sender.get(slot));
        t.is_some_and(|t| t.kind != Kind::Share)
    }

    /// How many pages a transaction has.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn pages_of(&mut self, handle: Handle) -> Result<u64, Error> {
        let (owner, slot) = self.complete(handle)?;
        Ok(find(&mut self.senders, owner)?.get(slot).map_or(0, |t| t.pages))
    }

    /// Who may retrieve a transaction, and what each may do.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn borrowers(&mut self, handle: Handle) -> Result<impl Iterator<Item = (VmId, Grant)>, Error> {
        let (owner, slot) = self.complete(handle)?;
        let t = find(&mut self.senders, owner)?.get(slot).ok_or(Error::InvalidParameters)?;
        Ok(t.borrowers.iter().map(|borrower| (borrower.vm, borrower.grant)))
    }

    /// What `vm` may do with the memory of a transaction; `None` if it is no receiver.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    #[inline(never)]
    pub fn grant(&mut self, handle: Handle, vm: VmId) -> Result<Option<Grant>, Error> {
        Ok(self.borrowers(handle)?.find(|(borrower, _)| *borrower == vm).map(|(_, grant)| grant))
    }

    /// Whether `vm` has retrieved the memory of a transaction, and has it still.
    pub fn holds(&mut self, vm: VmId, handle: Handle) -> bool {
        let Ok((owner, slot)) = self.complete(handle) else { return false };
        let Ok(sender) = find(&mut self.senders, owner) else { return false };
        let Some(transaction) = sender.get(slot) else { return false };
        transaction.borrowers.iter().any(|borrower| borrower.vm == vm && borrower.holds.is_some())
    }

    /// Who has retrieved the memory of a transaction, and has it still.
    pub fn holders(&mut self, handle: Handle) -> impl Iterator<Item = VmId> {
        let (owner, slot) = self.complete(handle).unwrap_or((VmId::HYPERVISOR, 0));
        let t = find(&mut self.senders, owner).ok().and_then(|sender| sender.get(slot));
        let borrowers = t.map_or(&[][..], |t| &t.borrowers);
        borrowers.iter().filter(|borrower| borrower.holds.is_some()).map(|borrower| borrower.vm)
    }

    /// Takes back what `vm` has retrieved, at its own request.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction, or zeroing is not possible. `DENIED`: `vm` does not have it, or could not write
    /// what it wants to be zeroed.
    pub fn relinquish(
        &mut self,
        vm: VmId,
        handle: Handle,
        zero: bool,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        let (owner, slot) = self.complete(handle)?;
        let sender = find(&mut self.senders, owner)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        let index = t.borrowers.iter().position(|borrower| borrower.vm == vm).ok_or(Error::Denied)?;
        let Borrower { grant, holds: Some(_), .. } = t.borrowers[index] else { return Err(Error::Denied) };
        if zero {
            check_zero(t, grant)?;
        }
        take_back(sender, slot, index, zero, tables);
        Ok(())
    }

    /// Takes back everything that `vm` has retrieved: it has stopped for good.
    pub fn forsake(&mut self, vm: VmId, tables: &mut impl Tables) {
        for sender in &mut self.senders {
            for slot in 0..crate::MAX_TRANSACTIONS as u16 {
                let holding = |borrower: &Borrower| borrower.vm == vm && borrower.holds.is_some();
                let index = sender.get(slot).and_then(|t| t.borrowers.iter().position(holding));
                if let Some(index) = index {
                    take_back(sender, slot, index, false, tables);
                }
            }
        }
    }

    /// Gives the memory of a transaction back to its sender, which ends it. A transaction that is still being sent is
    /// given up.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: `sender` has no such transaction. `DENIED`: a receiver has not relinquished it. `NO_MEMORY`: there are too many pages to be zeroed.
    pub fn reclaim(
        &mut self,
        sender: VmId,
        handle: Handle,
        zero: bool,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        if let Ok(slot) = self.unfinished(sender, handle) {
            self.cancel(sender, slot);
            return Ok(());
        }
        let (owner, slot) = self.complete(handle)?;
        if owner != sender {
            return Err(Error::InvalidParameters);
        }
        let transactions = find(&mut self.senders, owner)?;
        let t = transactions.get(slot).ok_or(Error::InvalidParameters)?;
        if t.borrowers.iter().any(|borrower| borrower.holds.is_some()) {
            return Err(Error::Denied);
        }
        if zero && t.pages > MAX_ZEROED_PAGES {
            return Err(Error::NoMemory);
        }
        let shared = t.kind == Kind::Share;
        for range in transactions.ranges(slot) {
            if zero {
                tables.zero(range.pa, range.pages);
            }
            if !shared {
                tables.restore(owner, range.ipa, range.pages);
            }
            let (given, owned) = (PageState::Given(owner, slot), PageState::Owned(owner));
            self.pages.change(range.pa, range.pages, given, owned);
        }
        transactions.close(slot);
        Ok(())
    }

    /// Every piece of memory that is part of a transaction of `vm`.
    pub fn given_by(&mut self, vm: VmId) -> impl Iterator<Item = (Handle, &[Given])> {
        find(&mut self.senders, vm).ok().into_iter().flat_map(|sender| {
            let sender = &*sender;
            (0..crate::MAX_TRANSACTIONS as u16).filter_map(move |slot| {
                let t = sender.get(slot)?;
                Some((transaction::handle(sender.vm, slot, t.generation), sender.ranges(slot)))
            })
        })
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn senders_mut(&mut self) -> &mut [Sender] {
        &mut self.senders
    }

    fn sender(&mut self, vm: VmId) -> Result<&mut Sender, Error> {
        find(&mut self.senders, vm)
    }

    /// The slot of a transaction that `sender` is sending.
    fn unfinished(&mut self, sender: VmId, handle: Handle) -> Result<u16, Error> {
        let (owner, slot, generation) = transaction::parts(handle);
        let made_here = handle.0 & Handle::HYPERVISOR != 0 && owner == sender;
        let t = self.sender(sender)?.get(slot).filter(|t| made_here && !t.complete);
        t.filter(|t| t.generation == generation).map(|_| slot).ok_or(Error::InvalidParameters)
    }

    /// Sender and slot of a transaction that can be retrieved.
    fn complete(&mut self, handle: Handle) -> Result<(VmId, u16), Error> {
        let (owner, slot, generation) = transaction::parts(handle);
        let made_here = handle.0 & Handle::HYPERVISOR != 0;
        let t = self.sender(owner)?.get(slot).filter(|t| made_here && t.complete);
        t.filter(|t| t.generation == generation).map(|_| (owner, slot)).ok_or(Error::InvalidParameters)
    }
}

/// The transactions of `vm`. A free function, so that the pages can be changed meanwhile.
fn find(senders: &mut [Sender], vm: VmId) -> Result<&mut Sender, Error> {
    senders.iter_mut().find(|sender| sender.vm == vm).ok_or(Error::InvalidParameters)
}

/// Whether a receiver may have the memory zeroed: it must be able to write it, and nobody else may have it.
fn check_zero(t: &Transaction, grant: Grant) -> Result<(), Error> {
    if t.kind == Kind::Share || t.borrowers.len() != 1 {
        return Err(Error::InvalidParameters);
    }
    if !grant.write {
        return Err(Error::Denied);
    }
    if t.pages > MAX_ZEROED_PAGES { Err(Error::NoMemory) } else { Ok(()) }
}

/// Where a receiver sees each range.
fn places(ipa: Option<Ipa>, ranges: &[Given]) -> impl Iterator<Item = (Ipa, &Given)> {
    let mut next = ipa;
    ranges.iter().map(move |range| match &mut next {
        None => (Ipa(range.pa.0), range),
        Some(at) => {
            let here = *at;
            at.0 += range.pages * PAGE;
            (here, range)
        }
    })
}

/// Maps the ranges for a receiver: all, or none.
fn map(
    vm: VmId,
    ipa: Option<Ipa>,
    ranges: &[Given],
    access: Access,
    tables: &mut impl Tables,
) -> Result<(), Error> {
    for (i, (at, range)) in places(ipa, ranges).enumerate() {
        if let Err(error) = tables.map(vm, at, range.pa, range.pages, access) {
            places(ipa, ranges).take(i).for_each(|(at, range)| tables.unmap(vm, at, range.pages));
            return Err(error);
        }
    }
    Ok(())
}

/// Takes the memory from the receiver that holds it.
fn take_back(sender: &mut Sender, slot: u16, index: usize, zero: bool, tables: &mut impl Tables) {
    let Some(t) = sender.get_mut(slot) else { return };
    let Some(borrower) = t.borrowers.get_mut(index) else { return };
    let Some(ipa) = borrower.holds.take() else { return };
    let (vm, zero) = (borrower.vm, zero || borrower.zero_after);
    let ranges = sender.ranges(slot);
    places(ipa, ranges).for_each(|(at, range)| tables.unmap(vm, at, range.pages));
    if zero {
        for range in ranges {
            tables.zero(range.pa, range.pages);
        }
    }
}
