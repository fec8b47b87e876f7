//! The transitions.

use crate::{
    MAX_PAGES, MAX_ZEROED_PAGES,
    state::{PageState, PageTable},
    step::{Step, Wipe},
    transaction::{self, Borrower, Grant, Hold, Offer, Request, Sender, Side, Stage, Transaction},
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
use stage2_mmu::{Access, Room, Search};

/// The stage-2 tables of all VMs, as transitions need them. Ranges are whole pages.
pub trait Tables {
    /// Where the VM's memory at `ipa` is, and how many pages from there on are contiguous; `None` if it is
    /// not mapped for reading and writing.
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)>;
    /// Returns whether the VM sees memory that it receives at its physical address.
    fn is_identity(&self, vm: VmId) -> bool;
    /// An address for `pages` pages of memory that the VM receives; the search goes on from where an earlier
    /// call has come to.
    fn find_room(&self, vm: VmId, from: Option<Search>, pages: u64) -> Room;
    /// Returns whether the VM's address space has pages there that are neither mapped nor withheld.
    fn has_room(&self, vm: VmId, ipa: Ipa, pages: u64) -> bool;
    /// Takes the VM's own memory away until [`Self::restore`] or [`Self::unmap`]. When this returns no core
    /// can use it.
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

/// Tracks the owner and the borrowers of each page, and all open transactions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    pub(crate) pages: PageTable,
    pub(crate) senders: Box<[Sender]>,
    /// How many pages a step maps or unmaps, at most.
    pub(crate) step: u64,
}

pub(crate) const fn access(grant: Grant) -> Access {
    Access { read: true, write: grant.write, execute: grant.execute }
}

impl Ownership {
    /// Bytes of state for each page of memory.
    pub const BYTES_PER_PAGE: usize = size_of::<u32>();
    /// Approximate bytes of state for each VM.
    pub const BYTES_PER_VM: usize = Sender::BYTES;

    /// All pages of `memory` (base and length, bytes in whole pages) are the hypervisor's; `vms` may receive
    /// some.
    pub fn new(memory: impl Iterator<Item = (u64, u64)>, vms: impl Iterator<Item = VmId>) -> Self {
        let (pages, senders) = (PageTable::new(memory), vms.map(Sender::new).collect());
        Self { pages, senders, step: crate::STEP_PAGES }
    }

    /// Changes how many pages a step maps or unmaps, a power of two: fewer, so that tests have more steps.
    pub fn set_step(&mut self, pages: u64) {
        assert!(pages.is_power_of_two(), "pieces end at multiples of it");
        self.step = pages;
    }

    /// The state of the page at `pa`.
    pub fn state(&self, pa: Pa) -> PageState {
        self.pages.get(pa)
    }

    /// Returns whether these pages are all a VM's alone.
    pub fn owns(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Owned(vm), PageState::Owned(vm))
    }

    /// Gives pages of the hypervisor to a VM. `false` if they are not all the hypervisor's; then nothing has
    /// changed.
    pub fn assign(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Hypervisor, PageState::Owned(vm))
    }

    /// Takes pages of a VM, which are its alone, back to the hypervisor. The caller has taken them out of the
    /// VM's tables.
    pub fn seize(&mut self, vm: VmId, pa: Pa, pages: u64) -> bool {
        self.pages.change(pa, pages, PageState::Owned(vm), PageState::Hypervisor)
    }

    /// Moves pages of `from`, which are its alone, to `to`, which sees memory at its physical address. For a
    /// VM `from` that does not run, and whose pages the caller has zeroed.
    ///
    /// # Errors
    /// `DENIED`: they are not all of `from` alone. `NO_MEMORY`: there is none for the tables of `to`. Then
    /// nothing has changed.
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
    /// `INVALID_PARAMETERS`: an address is not that of a page; the VM has no memory there, or not for itself
    /// alone.
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

    /// Makes two pages of a VM, which are its alone, its mailbox. `false` if they are not; then nothing has
    /// changed.
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

    /// Begins a transaction of `sender`; one or more [`Self::start_add`] follow.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: no pages, no receiver, the sender or nobody among the receivers, one twice; more
    /// than one for a donation; zeroing of what is shared. `NO_MEMORY`: more pages, receivers or transactions
    /// than there is room for. `BUSY`: the sender is sending another one.
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
            borrowers.push(Borrower::new(vm, grant)).map_err(|_| Error::NoMemory)?;
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

    /// Adds a fragment to a transaction that is being sent: ranges of the sender's memory (address, pages),
    /// with `last` all that are left. [`Self::step`] until it is done follows. After an error of that the
    /// transaction is gone, and all memory as it was; the sender has lost access if it has lent or donated
    /// all of it.
    ///
    /// Errors of the steps: `INVALID_PARAMETERS`: no pages, an address that is none, more pages than
    /// announced, or fewer. `DENIED`: the memory is not the sender's alone. `NO_MEMORY`: too many pieces, or
    /// no memory for the sender's tables.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: no such transaction is being sent, or a fragment of it is being added.
    /// `NO_MEMORY`: too many ranges.
    pub fn start_add(
        &mut self,
        sender: VmId,
        handle: Handle,
        ranges: impl Iterator<Item = (Ipa, u64)>,
        last: bool,
    ) -> Result<(), Error> {
        let slot = self.unfinished(sender, handle)?;
        let sender = find(&mut self.senders, sender)?;
        let t = sender.get(slot).filter(|t| t.stage == Stage::Sending);
        t.ok_or(Error::InvalidParameters)?;
        if !sender.set_fragment(ranges) {
            return Err(Error::NoMemory);
        }
        if let Some(t) = sender.get_mut(slot) {
            t.stage = Stage::Adding { last };
        }
        Ok(())
    }

    /// Gives up a transaction that is being sent; [`Self::step`] follows, and ends with `error`. `false`: a
    /// core is zeroing its memory.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: `sender` is not sending it.
    pub fn start_undo(&mut self, sender: VmId, handle: Handle, error: Option<Error>) -> Result<bool, Error> {
        let slot = self.unfinished(sender, handle)?;
        let sender = find(&mut self.senders, sender)?;
        let t = sender.get_mut(slot).ok_or(Error::InvalidParameters)?;
        if t.busy {
            return Ok(false);
        }
        let withheld = match t.stage {
            Stage::Withholding | Stage::Undoing(_) => t.at,
            Stage::Zeroing => t.pages,
            _ => 0,
        };
        (t.stage, t.at) = (Stage::Undoing(error), withheld);
        sender.clear_fragment();
        Ok(true)
    }

    /// Begins to give `vm` the memory of a transaction; [`Self::step`] follows, and [`Self::given`] says what
    /// it gets and where. When a donation is done the memory is its receiver's, and the transaction is over.
    /// After an error of a step nothing has changed.
    ///
    /// Errors of the steps: `NO_MEMORY`: none for its tables, or no room for its addresses.
    /// `INVALID_PARAMETERS`: something is at the place that it has named.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction, or its tag or kind is another; a place that cannot
    /// be; zeroing of what is shared, or has several receivers. `DENIED`: `vm` is no receiver, has it
    /// already, or wants more than it was granted. `NO_MEMORY`: too many pages to be zeroed, or a donation in
    /// too many pieces. `BUSY`: `vm` is retrieving something.
    pub fn start_retrieve(
        &mut self,
        vm: VmId,
        handle: Handle,
        request: &Request,
        tables: &impl Tables,
    ) -> Result<(), Error> {
        let (owner, slot) = self.complete(handle)?;
        let sender = find(&mut self.senders, owner)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        let borrower = t.borrowers.iter().position(|borrower| borrower.vm == vm).ok_or(Error::Denied)?;
        let Borrower { grant, hold, .. } = t.borrowers[borrower];
        let wanted = if t.kind == Kind::Donate {
            Grant { write: true, execute: true }
        } else {
            Grant { write: request.write, execute: request.execute }
        };
        if request.tag != t.tag || request.kind.is_some_and(|kind| kind != t.kind) {
            return Err(Error::InvalidParameters);
        }
        let beyond = (wanted.write && !grant.write) || (wanted.execute && !grant.execute);
        if hold != Hold::None || (beyond && t.kind != Kind::Donate) {
            return Err(Error::Denied);
        }
        if request.zero || request.zero_after {
            check_zero(t, wanted)?;
        }
        let (kind, pages, ranges) = (t.kind, t.pages, sender.ranges(slot));
        let identity = tables.is_identity(vm);
        let possible = match request.place {
            Some(at) if identity => ranges.len() == 1 && at.0 == ranges[0].pa.0,
            Some(at) => at.0.is_multiple_of(PAGE) && at.0.checked_add(pages * PAGE).is_some(),
            None => true,
        };
        if !possible {
            return Err(Error::InvalidParameters);
        }
        if kind == Kind::Donate && identity && ranges.len() > request.most_pieces
            || kind == Kind::Donate && request.most_pieces == 0
        {
            return Err(Error::NoMemory);
        }
        if core::mem::replace(&mut self.sender(vm)?.receiving, true) {
            return Err(Error::Busy);
        }
        let t = find(&mut self.senders, owner)?.get_mut(slot).ok_or(Error::InvalidParameters)?;
        let borrower = &mut t.borrowers[borrower];
        let (hold, place) = match request.place {
            _ if identity => (Hold::Mapping, Side::Physical),
            Some(at) => (Hold::Mapping, Side::At(at)),
            None => (Hold::Searching(None), Side::Physical),
        };
        *borrower = Borrower {
            hold,
            place,
            access: wanted,
            named: request.place.is_some() && !identity,
            zero: request.zero,
            zero_after: request.zero_after,
            ..*borrower
        };
        Ok(())
    }

    /// Begins to take back what `vm` has retrieved, at its own request; [`Self::step`] follows, which cannot
    /// fail.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction, or zeroing is not possible. `DENIED`: `vm` does
    /// not have it, or could not write what it wants to be zeroed.
    pub fn start_relinquish(&mut self, vm: VmId, handle: Handle, zero: bool) -> Result<(), Error> {
        let (owner, slot) = self.complete(handle)?;
        let t = find(&mut self.senders, owner)?.get_mut(slot).ok_or(Error::InvalidParameters)?;
        let index = t.borrowers.iter().position(|borrower| borrower.vm == vm).ok_or(Error::Denied)?;
        let Borrower { grant, hold: Hold::Held, .. } = t.borrowers[index] else { return Err(Error::Denied) };
        if zero {
            check_zero(t, grant)?;
        }
        let borrower = &mut t.borrowers[index];
        borrower.zero = zero || borrower.zero_after;
        borrower.enter(Hold::Unmapping);
        Ok(())
    }

    /// Begins to give the memory of a transaction back to its sender, which ends it, or goes on with that;
    /// [`Self::step`] follows, which cannot fail. A transaction that is still being sent is given up.
    /// `false`: not begun, because a core is zeroing its memory.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: `sender` has no such transaction. `DENIED`: a receiver has not relinquished it.
    /// `NO_MEMORY`: there are too many pages to be zeroed.
    pub fn start_reclaim(&mut self, sender: VmId, handle: Handle, zero: bool) -> Result<bool, Error> {
        if self.unfinished(sender, handle).is_ok() {
            return self.start_undo(sender, handle, None);
        }
        let (owner, slot) = self.any(handle)?;
        if owner != sender {
            return Err(Error::InvalidParameters);
        }
        let t = self.sender(owner)?.get_mut(slot).ok_or(Error::InvalidParameters)?;
        if !t.is_open() {
            return Ok(true);
        }
        if t.borrowers.iter().any(|borrower| borrower.hold != Hold::None) {
            return Err(Error::Denied);
        }
        if zero && t.pages > MAX_ZEROED_PAGES {
            return Err(Error::NoMemory);
        }
        t.enter(if zero { Stage::Scrubbing } else { Stage::Restoring });
        Ok(true)
    }

    /// Does a step of ending all retrievals of `vm`, finished or not; no vCPU of `vm` runs.
    pub fn abandon(&mut self, vm: VmId, tables: &mut impl Tables) -> Step {
        for sender in &mut self.senders {
            let owner = sender.vm;
            for slot in 0..crate::MAX_TRANSACTIONS as u16 {
                let Some(t) = sender.get_mut(slot) else { continue };
                let (pages, generation) = (t.pages, t.generation);
                let holding = |borrower: &&mut Borrower| borrower.vm == vm && borrower.hold != Hold::None;
                let Some(borrower) = t.borrowers.iter_mut().find(holding) else { continue };
                if borrower.busy {
                    return Step::Busy;
                }
                match borrower.hold {
                    Hold::Searching(_) => borrower.enter(Hold::Undoing(Error::Aborted)),
                    Hold::Mapping => borrower.hold = Hold::Undoing(Error::Aborted),
                    Hold::Zeroing => (borrower.hold, borrower.at) = (Hold::Undoing(Error::Aborted), pages),
                    Hold::Held => {
                        borrower.zero = borrower.zero_after;
                        borrower.enter(Hold::Unmapping);
                    }
                    _ => {}
                }
                let handle = transaction::handle(owner, slot, generation);
                return more(self.step(vm, handle, tables));
            }
        }
        if let Ok(receiver) = self.sender(vm) {
            receiver.receiving = false;
        }
        Step::Done
    }

    /// Does a step of ending all transactions of `vm`, which does not run.
    ///
    /// # Errors
    /// `DENIED`: another VM has retrieved one of them.
    pub fn withdraw(&mut self, vm: VmId, tables: &mut impl Tables) -> Result<Step, Error> {
        let Some(handle) = self.given_by(vm).next().map(|(handle, _)| handle) else { return Ok(Step::Done) };
        if !self.start_reclaim(vm, handle, false)? {
            return Ok(Step::Busy);
        }
        Ok(more(self.step(vm, handle, tables)))
    }

    /// The memory of [`Step::Zero`] is zero.
    pub fn wiped(&mut self, wipe: &Wipe) {
        let Ok((owner, slot)) = self.any(wipe.handle) else { return };
        let Some(t) = find(&mut self.senders, owner).ok().and_then(|sender| sender.get_mut(slot)) else {
            return;
        };
        let donation = t.kind == Kind::Donate;
        if owner == wipe.vm {
            t.busy = false;
            t.at += wipe.pages;
            if t.at == t.pages {
                t.enter(if t.stage == Stage::Zeroing { Stage::Open } else { Stage::Restoring });
            }
        } else if let Some(borrower) = t.borrowers.iter_mut().find(|borrower| borrower.vm == wipe.vm) {
            borrower.busy = false;
            borrower.at += wipe.pages;
            if borrower.at == t.pages {
                match borrower.hold {
                    Hold::Zeroing => borrower.enter(if donation { Hold::Taking } else { Hold::Held }),
                    _ => borrower.release(),
                }
            }
        }
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn senders_mut(&mut self) -> &mut [Sender] {
        &mut self.senders
    }

    pub(crate) fn sender(&mut self, vm: VmId) -> Result<&mut Sender, Error> {
        find(&mut self.senders, vm)
    }

    /// The slot of a transaction that `sender` is sending.
    pub(crate) fn unfinished(&mut self, sender: VmId, handle: Handle) -> Result<u16, Error> {
        let (owner, slot) = self.any(handle)?;
        let t = self.sender(owner)?.get(slot).filter(|t| owner == sender && t.is_unfinished());
        t.map(|_| slot).ok_or(Error::InvalidParameters)
    }

    /// Sender and slot of a transaction that can be retrieved.
    pub(crate) fn complete(&mut self, handle: Handle) -> Result<(VmId, u16), Error> {
        let (owner, slot) = self.any(handle)?;
        let t = self.sender(owner)?.get(slot).filter(|t| t.is_open());
        t.map(|_| (owner, slot)).ok_or(Error::InvalidParameters)
    }

    /// Sender and slot of a transaction.
    pub(crate) fn any(&mut self, handle: Handle) -> Result<(VmId, u16), Error> {
        let (owner, slot, generation) = transaction::parts(handle);
        let made_here = handle.0 & Handle::HYPERVISOR != 0;
        let t = self.sender(owner)?.get(slot).filter(|t| made_here && t.generation == generation);
        t.map(|_| (owner, slot)).ok_or(Error::InvalidParameters)
    }
}

/// What a step has left to do, where there may be more transactions.
fn more(step: Result<Step, Error>) -> Step {
    match step {
        Ok(Step::Done) | Err(_) => Step::More,
        Ok(step) => step,
    }
}

/// The transactions of `vm`. A free function, so that the pages can be changed meanwhile.
pub(crate) fn find(senders: &mut [Sender], vm: VmId) -> Result<&mut Sender, Error> {
    senders.iter_mut().find(|sender| sender.vm == vm).ok_or(Error::InvalidParameters)
}

/// Returns whether a receiver may have the memory zeroed: it must be able to write it, and nobody else may
/// have it.
fn check_zero(t: &Transaction, grant: Grant) -> Result<(), Error> {
    if t.kind == Kind::Share || t.borrowers.len() != 1 {
        return Err(Error::InvalidParameters);
    }
    if !grant.write {
        return Err(Error::Denied);
    }
    if t.pages > MAX_ZEROED_PAGES { Err(Error::NoMemory) } else { Ok(()) }
}
