//! What it takes to make a VM as it was at boot.
//!
//! The bundle stays in memory for this, where no VM reaches it. [`crate::teardown`] goes over the VM's memory a part at a time.

use crate::{arch, stop_notice::Reason, vcpu::Claimed};
use alloc::boxed::Box;
use hv_abi::{
    ids::{Ipa, Pa},
    layout::PAGE,
};

/// Memory of a VM: where the VM sees it, where it is, and bytes.
pub(crate) type Mapped = (Ipa, Pa, u64);

/// How far *reclaiming* has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be memory transactions.
    Transactions,
    /// There may be memory that others have donated, from this address on.
    Received(Ipa),
    /// So many bytes of its own memory are as at boot.
    Memory(u64),
    /// All of it is, and so many vCPUs.
    Vcpus(usize),
}

/// What a VM's memory held at boot, and where it started.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) ipa: Ipa,
    pub(crate) pa: Pa,
    pub(crate) bytes: u64,
    /// More memory of the VM: where the VM sees it, where it is, and bytes. It held nothing.
    pub(crate) regions: Box<[Mapped]>,
    /// The (TX, RX) pages that it has from the start.
    pub(crate) mailbox: Option<(Pa, Pa)>,
    /// Offsets in the VM's memory, and what is there.
    pub(crate) segments: Box<[(u64, &'static [u8])]>,
    /// Where in the VM's memory its tree has [`crate::stop_notice::PROPERTY`], and the value for the next start; within a segment.
    pub(crate) last_stop: Option<(u64, Reason)>,
    pub(crate) entry: u64,
    pub(crate) argument: u64,
    /// The register besides x0 that holds it.
    pub(crate) register: u8,
    pub(crate) progress: Progress,
}

impl Reload {
    /// All memory of the VM, from the first byte on.
    fn memory(&self) -> impl Iterator<Item = Mapped> {
        core::iter::once((self.ipa, self.pa, self.bytes)).chain(self.regions.iter().copied())
    }

    /// How much memory it has.
    pub(crate) fn bytes_in_all(&self) -> u64 {
        self.memory().map(|(.., bytes)| bytes).sum()
    }

    /// Whether it had the memory at `pa` from boot on, at `ipa`.
    pub(crate) fn has(&self, ipa: Ipa, pa: Pa) -> bool {
        self.memory().any(|(base, there, bytes)| {
            ipa.0.checked_sub(base.0).is_some_and(|offset| offset < bytes && there.0 + offset == pa.0)
        })
    }

    /// The page at `offset`, and how many bytes are contiguous from there on.
    pub(crate) fn find(&self, offset: u64) -> Option<(Pa, u64)> {
        let mut start = 0;
        for (_, pa, bytes) in self.memory() {
            if offset < start + bytes {
                return Some((Pa(pa.0 + offset - start), start + bytes - offset));
            }
            start += bytes;
        }
        None
    }

    /// Puts a vCPU, which the caller owns, where it was at boot.
    pub(crate) fn start(&self, claimed: &mut Claimed) {
        claimed.reset(self.entry, self.argument);
        claimed.regs().x[usize::from(self.register & 3)] = self.argument;
    }

    /// Makes the page at `offset` what it was; returns whether it held something.
    pub(crate) fn page(&self, offset: u64, page: &mut [u8]) -> bool {
        let mut held = false;
        arch::zero(page);
        // Over the tree, which is a segment.
        let last_stop = self.last_stop.iter().map(|(start, reason)| (*start, &reason[..]));
        for (start, bytes) in self.segments.iter().copied().chain(last_stop) {
            let end = start + bytes.len() as u64;
            let (from, to) = (start.max(offset), end.min(offset + PAGE));
            if from < to {
                let source = &bytes[(from - start) as usize..(to - start) as usize];
                held = true;
                arch::copy_bytes(&mut page[(from - offset) as usize..], source);
            }
        }
        arch::clean_data(page.as_ptr() as usize, page.len());
        held
    }
}
