//! A memory transaction: what its sender offers, and what its receivers have made of it.

use crate::{MAX_BORROWERS, MAX_FRAGMENT, MAX_RANGES, MAX_TRANSACTIONS, state::MAX_SLOTS};
use alloc::{boxed::Box, vec::Vec};
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use stage2_mmu::Search;

const _: () = assert!(MAX_TRANSACTIONS <= MAX_SLOTS);

/// Access rights of a receiver, besides reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Writing.
    pub write: bool,
    /// Executing.
    pub execute: bool,
}

/// Memory and rights that a sender offers in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Donate, lend or share.
    pub kind: Kind,
    /// The sender's name for it, which receivers must know.
    pub tag: u64,
    /// Zero the memory when the sender has lost it.
    pub zero: bool,
    /// How many pages will be added.
    pub pages: u64,
    /// To whom, and what they may do. Donations have one receiver.
    pub borrowers: &'a [(VmId, Grant)],
}

/// Retrieve request of a receiver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// The sender's name for the transaction.
    pub tag: u64,
    /// The kind that the receiver believes it is, if it says so.
    pub kind: Option<Kind>,
    /// It wants to write.
    pub write: bool,
    /// It wants to execute.
    pub execute: bool,
    /// Zero the memory first.
    pub zero: bool,
    /// Zero the memory when it is relinquished.
    pub zero_after: bool,
    /// Where it wants the memory; otherwise the hypervisor finds a place.
    pub place: Option<Ipa>,
    /// In how many pieces it can take a donation, if it sees memory at its physical address: there is no
    /// later time to ask for more of them.
    pub most_pieces: usize,
}

/// Result of a retrieve: the memory that is mapped for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieved {
    /// The kind of transaction.
    pub kind: Kind,
    /// Where the memory is, in one piece; `None`: each piece at its physical address.
    pub ipa: Option<Ipa>,
    /// How many pages in all.
    pub pages: u64,
    /// In how many pieces the receiver sees them.
    pub pieces: usize,
    /// What it may do.
    pub grant: Grant,
}

/// A piece of contiguous memory of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Given {
    /// Where its owner sees it.
    pub ipa: Ipa,
    /// Where it is.
    pub pa: Pa,
    /// How long it is.
    pub pages: u64,
}

/// What a receiver does with a transaction, and how far it is. Where pages are counted, that is
/// [`Borrower::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// It has not retrieved it, or relinquished it.
    None,
    /// Looking for addresses.
    Searching(Option<Search>),
    /// Mapping pages for it.
    Mapping,
    /// Zeroing pages, which it has, because it asked for that.
    Zeroing,
    /// Giving it pages for good, which it has: a donation. Nothing can stop this any more.
    Taking,
    /// It has the memory.
    Held,
    /// Unmapping the pages that were mapped for it, from the last one on: it cannot have the others, or does
    /// not run any more.
    Undoing(Error),
    /// Unmapping pages.
    Unmapping,
    /// Zeroing pages, which nobody has.
    Scrubbing,
}

impl Hold {
    /// Returns whether addresses of the receiver may be free that are to be used.
    pub(crate) const fn is_new(self) -> bool {
        matches!(self, Self::Searching(_) | Self::Mapping | Self::Undoing(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Borrower {
    pub(crate) vm: VmId,
    pub(crate) grant: Grant,
    pub(crate) hold: Hold,
    /// How many pages the present stage has dealt with.
    pub(crate) at: u64,
    /// Where the receiver sees the memory.
    pub(crate) place: Side,
    /// What it may do with it.
    pub(crate) access: Grant,
    /// The place is one that the receiver has named, where there may be something already.
    pub(crate) named: bool,
    pub(crate) zero: bool,
    pub(crate) zero_after: bool,
    /// A core zeroes pages, without holding the lock.
    pub(crate) busy: bool,
}

impl Borrower {
    pub(crate) const fn new(vm: VmId, grant: Grant) -> Self {
        Self {
            vm,
            grant,
            hold: Hold::None,
            at: 0,
            place: Side::Physical,
            access: Grant { write: false, execute: false },
            named: false,
            zero: false,
            zero_after: false,
            busy: false,
        }
    }

    /// As it was before the receiver asked for anything.
    pub(crate) const fn release(&mut self) {
        *self = Self::new(self.vm, self.grant);
    }

    /// Goes on to another stage, from the first page on.
    pub(crate) const fn enter(&mut self, hold: Hold) {
        (self.hold, self.at) = (hold, 0);
    }
}

/// What the sender does with a transaction, and how far it is. Where pages are counted, that is
/// [`Transaction::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// The sender has more to send.
    Sending,
    /// Adding the memory that a fragment names; after the last fragment the transaction is complete.
    Adding { last: bool },
    /// Taking it away from the sender.
    Withholding,
    /// Zeroing it, as the sender asked for.
    Zeroing,
    /// Giving it back, from the last page on: it is not what it should be, the sender has changed its mind,
    /// or does not run any more.
    Undoing(Option<Error>),
    /// Receivers may retrieve it.
    Open,
    /// Zeroing it for the sender, which has asked for that, and for the memory.
    Scrubbing,
    /// Giving it back to the sender for good.
    Restoring,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
    pub(crate) tag: u64,
    pub(crate) zero: bool,
    pub(crate) stage: Stage,
    /// How many pages the present stage has dealt with.
    pub(crate) at: u64,
    /// A core zeroes pages, without holding the lock.
    pub(crate) busy: bool,
    pub(crate) pages: u64,
    pub(crate) added: u64,
    pub(crate) borrowers: heapless::Vec<Borrower, MAX_BORROWERS>,
    /// Its part of the sender's ranges.
    start: usize,
    count: usize,
}

impl Transaction {
    /// Returns whether receivers may retrieve it.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Returns whether it is being sent, or given up again.
    pub(crate) const fn is_unfinished(&self) -> bool {
        !matches!(self.stage, Stage::Open | Stage::Scrubbing | Stage::Restoring)
    }

    /// Goes on to another stage, from the first page on.
    pub(crate) const fn enter(&mut self, stage: Stage) {
        (self.stage, self.at) = (stage, 0);
    }
}

/// Through whose eyes a piece of memory is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// Its owner's.
    Owner,
    /// A receiver's that has it in one piece, from there on.
    At(Ipa),
    /// A receiver's that sees physical addresses.
    Physical,
}

impl Side {
    /// The address of the transaction's page `page`, which is page `offset` of `range`.
    const fn address(self, range: &Given, offset: u64, page: u64) -> Ipa {
        Ipa(match self {
            Self::Owner => range.ipa.0 + offset * PAGE,
            Self::At(ipa) => ipa.0 + page * PAGE,
            Self::Physical => range.pa.0 + offset * PAGE,
        })
    }
}

/// The contiguous piece of memory that begins with page `page` of a transaction, or with `backwards` ends
/// with it, as `side` sees it. Pieces end where the address is a multiple of `step` pages: forwards and
/// backwards they are the same.
pub(crate) fn piece(ranges: &[Given], side: Side, page: u64, step: u64, backwards: bool) -> Option<Given> {
    let mut start = 0;
    for range in ranges {
        let offset = page.wrapping_sub(start);
        if offset < range.pages {
            let before = side.address(range, offset, page).0 / PAGE % step;
            let (offset, page, pages) = if backwards {
                let back = before.min(offset);
                (offset - back, page - back, back + 1)
            } else {
                (offset, page, (step - before).min(range.pages - offset))
            };
            return Some(Given {
                ipa: side.address(range, offset, page),
                pa: Pa(range.pa.0 + offset * PAGE),
                pages,
            });
        }
        start += range.pages;
    }
    None
}

/// The transactions of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    pub(crate) vm: VmId,
    slots: Box<[Option<Transaction>]>,
    /// Never grows beyond what was allocated at the start.
    ranges: Vec<Given>,
    generation: u32,
    /// The last fragment of the transaction that the VM is sending, as the VM sees the memory, and how much
    /// of that has been added. Never grows beyond what was allocated at the start.
    fragment: Vec<(Ipa, u64)>,
    pub(crate) next: usize,
    /// The VM is retrieving something. One at a time, so that no two get the same addresses.
    pub(crate) receiving: bool,
}

impl Sender {
    /// Bytes of memory that one takes.
    pub(crate) const BYTES: usize = size_of::<Self>()
        + MAX_TRANSACTIONS * size_of::<Option<Transaction>>()
        + MAX_RANGES * size_of::<Given>()
        + MAX_FRAGMENT * size_of::<(Ipa, u64)>();

    pub(crate) fn new(vm: VmId) -> Self {
        let slots = (0..MAX_TRANSACTIONS).map(|_| None).collect();
        Self {
            vm,
            slots,
            ranges: Vec::with_capacity(MAX_RANGES),
            generation: 0,
            fragment: Vec::with_capacity(MAX_FRAGMENT),
            next: 0,
            receiving: false,
        }
    }

    /// Takes a fragment; `false` if it is too long.
    pub(crate) fn set_fragment(&mut self, ranges: impl Iterator<Item = (Ipa, u64)>) -> bool {
        self.fragment.clear();
        self.next = 0;
        for range in ranges {
            if self.fragment.len() == MAX_FRAGMENT {
                return false;
            }
            self.fragment.push(range);
        }
        true
    }

    /// What of the fragment has not been added yet: its first range, from there on.
    pub(crate) fn fragment(&mut self) -> Option<&mut (Ipa, u64)> {
        self.fragment.get_mut(self.next)
    }

    /// Forgets the fragment.
    pub(crate) fn clear_fragment(&mut self) {
        self.fragment.clear();
        self.next = 0;
    }

    /// Opens a transaction; `None` if there is no slot.
    pub(crate) fn open(
        &mut self,
        offer: &crate::Offer<'_>,
        borrowers: heapless::Vec<Borrower, MAX_BORROWERS>,
    ) -> Option<u16> {
        let slot = self.slots.iter().position(Option::is_none)?;
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        self.slots[slot] = Some(Transaction {
            generation: self.generation,
            kind: offer.kind,
            tag: offer.tag,
            zero: offer.zero,
            stage: Stage::Sending,
            at: 0,
            busy: false,
            pages: offer.pages,
            added: 0,
            borrowers,
            start: self.ranges.len(),
            count: 0,
        });
        Some(slot as u16)
    }

    #[inline(never)]
    pub(crate) fn get(&self, slot: u16) -> Option<&Transaction> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    #[inline(never)]
    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Transaction> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// The transaction that the sender is still sending, if there is one. There is at most one, and its
    /// ranges are last.
    pub(crate) fn unfinished(&self) -> Option<u16> {
        let unfinished = |t: &Option<Transaction>| t.as_ref().is_some_and(Transaction::is_unfinished);
        self.slots.iter().position(unfinished).map(|slot| slot as u16)
    }

    pub(crate) fn ranges(&self, slot: u16) -> &[Given] {
        self.get(slot).map_or(&[], |t| &self.ranges[t.start..t.start + t.count])
    }

    /// Adds a range to the unfinished transaction; joins it to the last one if it continues that. `false` if
    /// there is no room.
    pub(crate) fn push(&mut self, slot: u16, range: Given) -> bool {
        let bytes = |pages: u64| pages * PAGE;
        let Some(t) = self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut) else { return false };
        if t.count > 0
            && let Some(last) = self.ranges.last_mut()
            && last.ipa.0 + bytes(last.pages) == range.ipa.0
            && last.pa.0 + bytes(last.pages) == range.pa.0
        {
            last.pages += range.pages;
        } else if self.ranges.len() < MAX_RANGES {
            self.ranges.push(range);
            t.count += 1;
        } else {
            return false;
        }
        t.added += range.pages;
        true
    }

    /// Gives the open transactions the lowest generations there are.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn renumber(&mut self) {
        self.generation = 0;
        for t in self.slots.iter_mut().flatten() {
            self.generation += 1;
            t.generation = self.generation;
        }
    }

    /// Closes a transaction.
    pub(crate) fn close(&mut self, slot: u16) {
        let Some(t) = self.slots.get_mut(usize::from(slot)).and_then(Option::take) else { return };
        // As `drain` does it, but that brings a memmove, which nothing else in a hypervisor may need.
        let end = self.ranges.len();
        for from in t.start + t.count..end {
            self.ranges.swap(from - t.count, from);
        }
        self.ranges.truncate(end - t.count);
        for other in self.slots.iter_mut().flatten() {
            if other.start > t.start {
                other.start -= t.count;
            }
        }
    }
}

/// A handle's parts: bit 63 says that the hypervisor made it, then generation, sender and slot.
pub(crate) fn handle(vm: VmId, slot: u16, generation: u32) -> Handle {
    Handle(Handle::HYPERVISOR | u64::from(generation) << 32 | u64::from(vm.0) << 16 | u64::from(slot))
}

/// Takes a handle apart.
pub(crate) fn parts(handle: Handle) -> (VmId, u16, u32) {
    (VmId((handle.0 >> 16) as u16), handle.0 as u16, (handle.0 >> 32) as u32 & 0x7fff_ffff)
}
