//! A memory transaction: what its sender offers, and what its receivers have made of it.

use crate::{MAX_BORROWERS, MAX_RANGES, MAX_TRANSACTIONS, state::MAX_SLOTS};
use alloc::{boxed::Box, vec::Vec};
use hv_abi::{
    ffa::memory::{Handle, Kind},
    ids::{Ipa, Pa, VmId},
};

const _: () = assert!(MAX_TRANSACTIONS <= MAX_SLOTS);

/// What a receiver may do with the memory, besides reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Writing.
    pub write: bool,
    /// Executing.
    pub execute: bool,
}

/// What a sender offers.
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

/// What a receiver wants.
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
    /// In how many pieces it can take a donation, if it sees memory at its physical address: there is no later time to ask
    /// for more of them.
    pub most_pieces: usize,
}

/// What a receiver has got.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Borrower {
    pub(crate) vm: VmId,
    pub(crate) grant: Grant,
    /// Where it has the memory, if it has retrieved it: inner `None` for physical addresses.
    #[expect(clippy::option_option, reason = "whether, and then where: two questions")]
    pub(crate) holds: Option<Option<Ipa>>,
    pub(crate) zero_after: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
    pub(crate) tag: u64,
    pub(crate) zero: bool,
    /// The sender has sent all of it.
    pub(crate) complete: bool,
    pub(crate) pages: u64,
    pub(crate) added: u64,
    pub(crate) borrowers: heapless::Vec<Borrower, MAX_BORROWERS>,
    /// Its part of the sender's ranges.
    start: usize,
    count: usize,
}

/// The transactions of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    pub(crate) vm: VmId,
    slots: Box<[Option<Transaction>]>,
    /// Never grows beyond what was allocated at the start.
    ranges: Vec<Given>,
    generation: u32,
}

impl Sender {
    /// Bytes of memory that one takes.
    pub(crate) const BYTES: usize = size_of::<Self>()
        + MAX_TRANSACTIONS * size_of::<Option<Transaction>>()
        + MAX_RANGES * size_of::<Given>();

    pub(crate) fn new(vm: VmId) -> Self {
        let slots = (0..MAX_TRANSACTIONS).map(|_| None).collect();
        Self { vm, slots, ranges: Vec::with_capacity(MAX_RANGES), generation: 0 }
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
            complete: false,
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

    /// The transaction that the sender is still sending, if there is one. There is at most one, and its ranges are last.
    pub(crate) fn unfinished(&self) -> Option<u16> {
        self.slots.iter().position(|t| t.as_ref().is_some_and(|t| !t.complete)).map(|slot| slot as u16)
    }

    pub(crate) fn ranges(&self, slot: u16) -> &[Given] {
        self.get(slot).map_or(&[], |t| &self.ranges[t.start..t.start + t.count])
    }

    /// Adds a range to the unfinished transaction; joins it to the last one if it continues that. `false` if there is no
    /// room.
    pub(crate) fn push(&mut self, slot: u16, range: Given) -> bool {
        let bytes = |pages: u64| pages * hv_abi::layout::PAGE;
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
