//! What is known about transactions.

use crate::{
    ownership::{Ownership, find},
    transaction::{self, Given, Grant, Hold, Retrieved, Side},
};
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::VmId,
};

impl Ownership {
    /// Returns what a retrieve of `vm` maps, with its ranges; `None` until its IPA has been chosen.
    pub fn given(&mut self, vm: VmId, handle: Handle) -> Option<(Retrieved, &[Given])> {
        let (owner, slot) = self.complete(handle).ok()?;
        let sender = find(&mut self.senders, owner).ok()?;
        let t = sender.get(slot)?;
        let borrower = t.borrowers.iter().find(|borrower| borrower.vm == vm)?;
        if !matches!(borrower.hold, Hold::Mapping | Hold::Zeroing | Hold::Taking | Hold::Held) {
            return None;
        }
        let ranges = sender.ranges(slot);
        let (ipa, pieces) = match borrower.place {
            Side::At(ipa) => (Some(ipa), 1),
            _ => (None, ranges.len()),
        };
        let got = Retrieved { kind: t.kind, ipa, pages: t.pages, pieces, grant: borrower.access };
        Some((got, ranges))
    }

    /// Returns whether all of a transaction has been sent, and can be retrieved.
    pub fn is_complete(&mut self, handle: Handle) -> bool {
        self.complete(handle).is_ok()
    }

    /// Returns whether nothing of a transaction is half done.
    pub fn is_settled(&mut self, handle: Handle) -> bool {
        let Ok((owner, slot)) = self.complete(handle) else { return false };
        let t = find(&mut self.senders, owner).ok().and_then(|sender| sender.get(slot));
        t.is_some_and(|t| t.borrowers.iter().all(|b| matches!(b.hold, Hold::None | Hold::Held)))
    }

    /// The pieces of a transaction, at their physical addresses, for a receiver that sees them there.
    pub fn pieces(&mut self, handle: Handle) -> &[Given] {
        match self.complete(handle) {
            Ok((owner, slot)) => find(&mut self.senders, owner).map_or(&[], |sender| sender.ranges(slot)),
            Err(_) => &[],
        }
    }

    /// Returns the sender of a transaction.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn owner(&mut self, handle: Handle) -> Result<VmId, Error> {
        self.complete(handle).map(|(owner, _)| owner)
    }

    /// Returns whether the memory of a transaction is not its owner's to use: complete, and lent or donated.
    pub fn is_exclusive(&mut self, handle: Handle) -> bool {
        let Ok((owner, slot)) = self.complete(handle) else { return false };
        let t = find(&mut self.senders, owner).ok().and_then(|sender| sender.get(slot));
        t.is_some_and(|t| t.kind != Kind::Share)
    }

    /// Returns the number of pages of a transaction.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn pages_of(&mut self, handle: Handle) -> Result<u64, Error> {
        let (owner, slot) = self.complete(handle)?;
        Ok(find(&mut self.senders, owner)?.get(slot).map_or(0, |t| t.pages))
    }

    /// Returns the receivers of a transaction with their access rights.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    pub fn borrowers(&mut self, handle: Handle) -> Result<impl Iterator<Item = (VmId, Grant)>, Error> {
        let (owner, slot) = self.complete(handle)?;
        let t = find(&mut self.senders, owner)?.get(slot).ok_or(Error::InvalidParameters)?;
        Ok(t.borrowers.iter().map(|borrower| (borrower.vm, borrower.grant)))
    }

    /// Returns the access rights of `vm` to the memory of a transaction; `None` if it is no receiver.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: there is no such transaction.
    #[inline(never)]
    pub fn grant(&mut self, handle: Handle, vm: VmId) -> Result<Option<Grant>, Error> {
        Ok(self.borrowers(handle)?.find(|(borrower, _)| *borrower == vm).map(|(_, grant)| grant))
    }

    /// Returns whether `vm` has retrieved the memory of a transaction, and has it still.
    pub fn holds(&mut self, vm: VmId, handle: Handle) -> bool {
        let Ok((owner, slot)) = self.complete(handle) else { return false };
        let Ok(sender) = find(&mut self.senders, owner) else { return false };
        let Some(transaction) = sender.get(slot) else { return false };
        transaction.borrowers.iter().any(|borrower| borrower.vm == vm && borrower.hold == Hold::Held)
    }

    /// Returns the VMs that hold the memory of a transaction, or a part of it.
    pub fn holders(&mut self, handle: Handle) -> impl Iterator<Item = VmId> {
        let (owner, slot) = self.complete(handle).unwrap_or((VmId::HYPERVISOR, 0));
        let t = find(&mut self.senders, owner).ok().and_then(|sender| sender.get(slot));
        let borrowers = t.map_or(&[][..], |t| &t.borrowers);
        borrowers.iter().filter(|borrower| borrower.hold != Hold::None).map(|borrower| borrower.vm)
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
}
