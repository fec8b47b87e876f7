//! One step of a transition: what is done with the lock held in one go.

use crate::{
    STEP_TRANSLATIONS, STEP_ZEROED_PAGES,
    ownership::{Ownership, Tables, access, find},
    state::PageState,
    transaction::{Given, Hold, Sender, Side, Stage, piece},
};
use hv_abi::{
    ffa::{
        Error,
        memory::{Handle, Kind},
    },
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use stage2_mmu::Room;

/// Remaining work of a transition after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Done,
    /// More steps.
    More,
    /// The caller zeroes that, without holding the lock, and then calls [`Ownership::wiped`]. Until then
    /// nobody else goes on.
    Zero(Wipe),
    /// Another core is zeroing memory; more steps follow when it has.
    Busy,
}

/// Memory to be zeroed: in no VM's tables, or only in those of the one who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wipe {
    /// Where it is.
    pub pa: Pa,
    /// How long it is.
    pub pages: u64,
    pub(crate) vm: VmId,
    pub(crate) handle: Handle,
}

impl Ownership {
    /// Does a step of what `vm`, as sender or receiver, has begun with a transaction.
    ///
    /// # Errors
    /// Those of what was begun, when all has been undone. `INVALID_PARAMETERS`: there is no such transaction,
    /// or nothing has been begun.
    pub fn step(&mut self, vm: VmId, handle: Handle, tables: &mut impl Tables) -> Result<Step, Error> {
        let (owner, slot) = self.any(handle)?;
        if owner == vm {
            self.step_of_sender(vm, slot, handle, tables)
        } else {
            self.step_of_receiver(owner, slot, vm, handle, tables)
        }
    }

    fn step_of_sender(
        &mut self,
        vm: VmId,
        slot: u16,
        handle: Handle,
        tables: &mut impl Tables,
    ) -> Result<Step, Error> {
        let step = self.step;
        let sender = find(&mut self.senders, vm)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        if t.busy {
            return Ok(Step::Busy);
        }
        let (at, added, shared, owned) = (t.at, t.added, t.kind == Kind::Share, PageState::Owned(vm));
        let next = |sender: &Sender, at, backwards| {
            piece(sender.ranges(slot), Side::Owner, at, step, backwards).ok_or(Error::InvalidParameters)
        };
        match t.stage {
            Stage::Sending | Stage::Open => return Ok(Step::Done),
            Stage::Adding { last } => {
                let result = self.add_some(vm, slot, tables);
                let sender = find(&mut self.senders, vm)?;
                let all = sender.fragment().is_none();
                if all || result.is_err() {
                    sender.clear_fragment();
                }
                let t = sender.get_mut(slot).ok_or(Error::InvalidParameters)?;
                match result {
                    Err(error) => t.enter(Stage::Undoing(Some(error))),
                    Ok(()) if !all => {}
                    Ok(()) if !last => t.enter(Stage::Sending),
                    Ok(()) if t.added != t.pages => t.enter(Stage::Undoing(Some(Error::InvalidParameters))),
                    Ok(()) => t.enter(if shared { Stage::Open } else { Stage::Withholding }),
                }
                let idle = matches!(t.stage, Stage::Sending | Stage::Open);
                return Ok(if idle { Step::Done } else { Step::More });
            }
            Stage::Withholding => {
                let piece = next(sender, at, false)?;
                let result = tables.withhold(vm, piece.ipa, piece.pages);
                let t = sender.get_mut(slot).ok_or(Error::InvalidParameters)?;
                if let Err(error) = result {
                    t.stage = Stage::Undoing(Some(error));
                    return Ok(Step::More);
                }
                t.at += piece.pages;
                if t.at == t.pages {
                    t.enter(if t.zero { Stage::Zeroing } else { Stage::Open });
                }
                return Ok(if t.is_open() { Step::Done } else { Step::More });
            }
            Stage::Undoing(error) => {
                if at > 0 {
                    let piece = next(sender, at - 1, true)?;
                    tables.restore(vm, piece.ipa, piece.pages);
                    sender.get_mut(slot).ok_or(Error::InvalidParameters)?.at -= piece.pages;
                } else if added > 0 {
                    let piece = next(sender, added - 1, true)?;
                    self.pages.change(piece.pa, piece.pages, PageState::Given(vm, slot), owned);
                    sender.get_mut(slot).ok_or(Error::InvalidParameters)?.added -= piece.pages;
                } else {
                    sender.close(slot);
                    return error.map_or(Ok(Step::Done), Err);
                }
            }
            Stage::Zeroing | Stage::Scrubbing => {
                let wipe = wipe(sender.ranges(slot), at, step, vm, handle)?;
                sender.get_mut(slot).ok_or(Error::InvalidParameters)?.busy = true;
                return Ok(Step::Zero(wipe));
            }
            Stage::Restoring => {
                let piece = next(sender, at, false)?;
                if !shared {
                    tables.restore(vm, piece.ipa, piece.pages);
                }
                self.pages.change(piece.pa, piece.pages, PageState::Given(vm, slot), owned);
                let t = sender.get_mut(slot).ok_or(Error::InvalidParameters)?;
                t.at += piece.pages;
                if t.at == t.pages {
                    sender.close(slot);
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::More)
    }

    /// Makes some of the memory that the sender's fragment names part of the transaction.
    fn add_some(&mut self, vm: VmId, slot: u16, tables: &impl Tables) -> Result<(), Error> {
        let (given, owned) = (PageState::Given(vm, slot), PageState::Owned(vm));
        let sender = find(&mut self.senders, vm)?;
        let mut most = self.step;
        for _ in 0..STEP_TRANSLATIONS {
            let left = sender.get(slot).map_or(0, |t| t.pages - t.added);
            let Some(&mut (ipa, pages)) = sender.fragment() else { break };
            let end = pages.checked_mul(PAGE).and_then(|bytes| ipa.0.checked_add(bytes));
            if pages == 0 || pages > left || end.is_none() || !ipa.0.is_multiple_of(PAGE) {
                return Err(Error::InvalidParameters);
            }
            let (pa, contiguous) = tables.translate(vm, ipa).ok_or(Error::Denied)?;
            let part = contiguous.min(pages).min(most);
            if !self.pages.change(pa, part, owned, given) {
                return Err(Error::Denied);
            }
            if !sender.push(slot, Given { ipa, pa, pages: part }) {
                self.pages.change(pa, part, given, owned);
                return Err(Error::NoMemory);
            }
            if part == pages {
                sender.next += 1;
            } else if let Some(rest) = sender.fragment() {
                *rest = (Ipa(ipa.0 + part * PAGE), pages - part);
            }
            most -= part;
            if most == 0 {
                break;
            }
        }
        Ok(())
    }

    fn step_of_receiver(
        &mut self,
        owner: VmId,
        slot: u16,
        vm: VmId,
        handle: Handle,
        tables: &mut impl Tables,
    ) -> Result<Step, Error> {
        let step = self.step;
        let sender = find(&mut self.senders, owner)?;
        let t = sender.get(slot).ok_or(Error::InvalidParameters)?;
        let (pages, donation) = (t.pages, t.kind == Kind::Donate);
        let index = t.borrowers.iter().position(|borrower| borrower.vm == vm);
        let index = index.ok_or(Error::InvalidParameters)?;
        let mut borrower = t.borrowers[index];
        if borrower.busy {
            return Ok(Step::Busy);
        }
        let ranges = sender.ranges(slot);
        let (at, place) = (borrower.at, borrower.place);
        let next =
            |side, at, backwards| piece(ranges, side, at, step, backwards).ok_or(Error::InvalidParameters);
        let is_new = borrower.hold.is_new();
        let mut result = Ok(Step::More);
        match borrower.hold {
            Hold::None | Hold::Held => return Ok(Step::Done),
            Hold::Searching(from) => match tables.find_room(vm, from, pages) {
                Room::Found(ipa) => {
                    borrower.place = Side::At(ipa);
                    borrower.enter(Hold::Mapping);
                }
                Room::More(further) => borrower.hold = Hold::Searching(Some(further)),
                Room::None => {
                    borrower.release();
                    result = Err(Error::NoMemory);
                }
            },
            Hold::Mapping => {
                let Given { ipa, pa, pages: part } = next(place, at, false)?;
                let mapped = if borrower.named && !tables.has_room(vm, ipa, part) {
                    Err(Error::InvalidParameters)
                } else {
                    tables.map(vm, ipa, pa, part, access(borrower.access))
                };
                match mapped {
                    Err(error) if at == 0 => {
                        borrower.release();
                        result = Err(error);
                    }
                    Err(error) => borrower.hold = Hold::Undoing(error),
                    Ok(()) => borrower.at += part,
                }
                if borrower.at == pages {
                    borrower.enter(match donation {
                        _ if borrower.zero => Hold::Zeroing,
                        true => Hold::Taking,
                        false => Hold::Held,
                    });
                }
            }
            Hold::Undoing(error) => {
                if at > 0 {
                    let piece = next(place, at - 1, true)?;
                    tables.unmap(vm, piece.ipa, piece.pages);
                    borrower.at -= piece.pages;
                }
                if borrower.at == 0 {
                    borrower.release();
                    result = Err(error);
                }
            }
            Hold::Taking => {
                let piece = next(Side::Owner, at, false)?;
                tables.unmap(owner, piece.ipa, piece.pages);
                let (given, owned) = (PageState::Given(owner, slot), PageState::Owned(vm));
                self.pages.change(piece.pa, piece.pages, given, owned);
                borrower.at += piece.pages;
                if borrower.at == pages {
                    sender.close(slot);
                    return Ok(Step::Done);
                }
            }
            Hold::Unmapping => {
                let piece = next(place, at, false)?;
                tables.unmap(vm, piece.ipa, piece.pages);
                borrower.at += piece.pages;
                match borrower.at == pages {
                    true if borrower.zero => borrower.enter(Hold::Scrubbing),
                    true => borrower.release(),
                    false => {}
                }
            }
            Hold::Zeroing | Hold::Scrubbing => {
                result = Ok(Step::Zero(wipe(ranges, at, step, vm, handle)?));
                borrower.busy = true;
            }
        }
        if let Some(t) = sender.get_mut(slot) {
            t.borrowers[index] = borrower;
        }
        if is_new && !borrower.hold.is_new() {
            self.sender(vm)?.receiving = false;
        }
        let idle = matches!(borrower.hold, Hold::None | Hold::Held);
        if idle && result.is_ok() { Ok(Step::Done) } else { result }
    }
}

/// The next memory to be zeroed.
fn wipe(ranges: &[Given], at: u64, step: u64, vm: VmId, handle: Handle) -> Result<Wipe, Error> {
    let piece = piece(ranges, Side::Physical, at, step.min(STEP_ZEROED_PAGES), false);
    let Given { pa, pages, .. } = piece.ok_or(Error::InvalidParameters)?;
    Ok(Wipe { pa, pages, vm, handle })
}
