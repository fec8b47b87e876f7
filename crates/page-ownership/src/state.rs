//! The state of a page, and the table of all pages.

use alloc::{boxed::Box, vec};
use hv_abi::{
    ids::{Pa, VmId},
    layout::PAGE,
};

/// Ownership state of a page. There is exactly one for each page of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// The hypervisor's, or nobody's: in no VM's tables.
    Hypervisor,
    /// A VM's alone.
    Owned(VmId),
    /// A VM's alone, and the hypervisor reads or writes it on the VM's behalf: it cannot be given to others.
    Mailbox(VmId),
    /// A VM's, and part of its memory transaction in that slot: whoever has retrieved that may use the page.
    Given(VmId, u16),
}

const KIND: u32 = 28;
const SLOT: u32 = 16;
/// Slots are numbers below this.
pub(crate) const MAX_SLOTS: usize = 1 << (KIND - SLOT);

impl PageState {
    /// The VM that owns the page.
    pub const fn owner(self) -> Option<VmId> {
        match self {
            Self::Hypervisor => None,
            Self::Owned(vm) | Self::Mailbox(vm) | Self::Given(vm, _) => Some(vm),
        }
    }

    pub(crate) const fn encode(self) -> u32 {
        match self {
            Self::Hypervisor => 0,
            Self::Owned(vm) => 1 << KIND | vm.0 as u32,
            Self::Mailbox(vm) => 2 << KIND | vm.0 as u32,
            Self::Given(vm, slot) => 3 << KIND | (slot as u32) << SLOT | vm.0 as u32,
        }
    }

    pub(crate) const fn decode(bits: u32) -> Self {
        let vm = VmId(bits as u16);
        match bits >> KIND {
            1 => Self::Owned(vm),
            2 => Self::Mailbox(vm),
            3 => Self::Given(vm, (bits >> SLOT) as u16 & (MAX_SLOTS - 1) as u16),
            _ => Self::Hypervisor,
        }
    }
}

/// A contiguous piece of memory, with the state of each of its pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Piece {
    base: u64,
    states: Box<[u32]>,
}

/// The state of every page of memory: four bytes each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PageTable {
    pieces: Box<[Piece]>,
}

impl PageTable {
    /// All pages of `memory` (base and length in bytes, in whole pages), the hypervisor's.
    pub(crate) fn new(memory: impl Iterator<Item = (u64, u64)>) -> Self {
        let piece = |(base, bytes): (u64, u64)| Piece {
            base,
            states: vec![PageState::Hypervisor.encode(); (bytes / PAGE) as usize].into_boxed_slice(),
        };
        Self { pieces: memory.map(piece).collect() }
    }

    /// The states of `pages` pages from `pa`; `None` if they are not all in one piece of memory.
    pub(crate) fn states(&mut self, pa: Pa, pages: u64) -> Option<&mut [u32]> {
        self.pieces.iter_mut().find_map(|piece| {
            let first = usize::try_from(pa.0.checked_sub(piece.base)? / PAGE).ok()?;
            piece.states.get_mut(first..first.checked_add(usize::try_from(pages).ok()?)?)
        })
    }

    /// The state of the page at `pa`; what is no memory is the hypervisor's.
    pub(crate) fn get(&self, pa: Pa) -> PageState {
        let find = |piece: &Piece| {
            let index = usize::try_from(pa.0.checked_sub(piece.base)? / PAGE).ok()?;
            piece.states.get(index).copied()
        };
        PageState::decode(self.pieces.iter().find_map(find).unwrap_or(PageState::Hypervisor.encode()))
    }

    /// Moves `pages` pages from `pa` from state `from` to state `to`: all of them, or none and `false`.
    pub(crate) fn change(&mut self, pa: Pa, pages: u64, from: PageState, to: PageState) -> bool {
        let Some(states) = self.states(pa, pages) else { return false };
        let (from, to) = (from.encode(), to.encode());
        // Many at a time: this goes over all memory at boot.
        let (chunks, rest) = states.as_chunks::<16>();
        let differs = |part: &[u32]| part.iter().fold(0, |bits, state| bits | (state ^ from)) != 0;
        if chunks.iter().any(|chunk| differs(chunk)) || differs(rest) {
            return false;
        }
        states.fill(to);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_encoding() {
        for state in [
            PageState::Hypervisor,
            PageState::Owned(VmId(1)),
            PageState::Mailbox(VmId(u16::MAX)),
            PageState::Given(VmId(7), 0xfff),
        ] {
            assert_eq!(PageState::decode(state.encode()), state);
        }
    }

    #[test]
    fn transitions_are_atomic_over_all_pages() {
        let (one, two) = (PageState::Owned(VmId(1)), PageState::Owned(VmId(2)));
        let mut table = PageTable::new([(0x4000, 0x4000), (0x10000, 0x2000)].into_iter());
        assert!(table.change(Pa(0x4000), 4, PageState::Hypervisor, one));
        assert!(table.change(Pa(0x5000), 1, one, two));
        assert!(!table.change(Pa(0x4000), 2, one, two));
        assert_eq!(table.get(Pa(0x4000)), one);
        assert!(!table.change(Pa(0x7000), 2, one, two));
        assert!(!table.change(Pa(0x3000), 1, PageState::Hypervisor, one));
        assert!(!table.change(Pa(0x10000), u64::MAX, PageState::Hypervisor, one));
        assert_eq!(table.get(Pa(0x5fff)), two);
        assert_eq!(table.get(Pa(0xf000)), PageState::Hypervisor);
    }
}
