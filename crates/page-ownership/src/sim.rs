//! Tables of VMs in host memory, for tests and examples: real stage-2 tables, and a memory whose pages are
//! numbers.

use crate::{Given, Ownership, Request, Retrieved, Step, Tables};
use hv_abi::{
    ffa::{Error, memory::Handle},
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use stage2_mmu::{Access, IpaWidth, Mapping, MemoryType, Room, Search, Stage2, sim};
use std::{collections::BTreeMap, collections::BTreeSet, vec::Vec};

/// The address from which a VM that does not see physical addresses receives memory.
pub const WINDOW: Ipa = Ipa(1 << 36);
const LIMIT: Ipa = Ipa(1 << 38);

/// The tables of some VMs.
pub struct SimTables {
    vms: BTreeMap<VmId, (Stage2, sim::SimTables)>,
    /// VMs that see physical addresses.
    pub identity: BTreeSet<VmId>,
    /// Everything that was zeroed: address and pages.
    pub zeroed: Vec<(Pa, u64)>,
}

impl SimTables {
    /// Empty tables for each of `vms`.
    pub fn new(vms: &[VmId]) -> Self {
        let tables = |vm: &VmId| {
            let mut memory = sim::SimTables::new();
            // A width of 39 bits always exists, and the simulator has memory.
            let tables = Stage2::new(IpaWidth::new(39).expect("a width"), &mut memory).expect("memory");
            (*vm, (tables, memory))
        };
        Self { vms: vms.iter().map(tables).collect(), identity: BTreeSet::new(), zeroed: Vec::new() }
    }

    /// Makes memory of the hypervisor a VM's own.
    pub fn give(&mut self, pages: &mut Ownership, vm: VmId, ipa: Ipa, pa: Pa, count: u64) {
        assert!(pages.assign(vm, pa, count), "not the hypervisor's");
        self.map(vm, ipa, pa, count, Access::RWX).expect("room");
    }

    /// Translates an IPA of a VM.
    pub fn walk(&self, vm: VmId, ipa: Ipa) -> Option<Mapping> {
        let (tables, memory) = &self.vms[&vm];
        tables.walk(ipa, memory)
    }

    /// Returns the number of pages of a VM's tables.
    pub fn table_pages(&self, vm: VmId) -> usize {
        self.vms[&vm].1.pages_in_use()
    }

    /// Sets the number of pages that a VM's tables may still grow by.
    pub fn set_budget(&mut self, vm: VmId, pages: Option<usize>) {
        self.vms.get_mut(&vm).expect("a VM").1.budget = pages;
    }

    fn tables(&mut self, vm: VmId) -> &mut (Stage2, sim::SimTables) {
        self.vms.get_mut(&vm).expect("a VM")
    }
}

impl Tables for SimTables {
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)> {
        let mapping = self.walk(vm, ipa).filter(|mapping| mapping.access == Access::RWX)?;
        Some((mapping.pa, (mapping.block - ipa.0 % mapping.block) / PAGE))
    }

    fn is_identity(&self, vm: VmId) -> bool {
        self.identity.contains(&vm)
    }

    fn find_room(&self, vm: VmId, from: Option<Search>, pages: u64) -> Room {
        let (tables, memory) = &self.vms[&vm];
        // Two entries at a time, so that searches have several steps.
        tables.find_room(from.unwrap_or(Search::from(WINDOW)), LIMIT, pages * PAGE, 2, memory)
    }

    fn has_room(&self, vm: VmId, ipa: Ipa, pages: u64) -> bool {
        let (tables, memory) = &self.vms[&vm];
        tables.has_room(ipa, pages * PAGE, memory)
    }

    fn withhold(&mut self, vm: VmId, ipa: Ipa, pages: u64) -> Result<(), Error> {
        let (tables, memory) = self.tables(vm);
        tables.withhold(ipa, pages * PAGE, memory).map_err(|_| Error::NoMemory)
    }

    fn restore(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        let (tables, memory) = self.tables(vm);
        tables.restore(ipa, pages * PAGE, memory).expect("it was withheld");
    }

    fn map(&mut self, vm: VmId, ipa: Ipa, pa: Pa, pages: u64, access: Access) -> Result<(), Error> {
        let (tables, memory) = self.tables(vm);
        let mapped = tables.map(ipa, pa, pages * PAGE, access, MemoryType::Normal, memory);
        mapped.map_err(|error| {
            assert_eq!(error, stage2_mmu::Error::NoMemory, "something is there");
            tables.unmap(ipa, pages * PAGE, memory).expect("nothing reaches beyond");
            Error::NoMemory
        })
    }

    fn unmap(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        let (tables, memory) = self.tables(vm);
        tables.unmap(ipa, pages * PAGE, memory).expect("nothing reaches beyond");
    }

    fn zero(&mut self, pa: Pa, pages: u64) {
        self.zeroed.push((pa, pages));
    }
}

/// Transitions with all of their steps, as if nobody else came in between.
impl Ownership {
    /// Numbers the open transactions of each VM from the start again, so that a model checker sees finitely
    /// many states. Their handles change with that.
    pub fn renumber(&mut self) {
        self.senders_mut().iter_mut().for_each(crate::transaction::Sender::renumber);
    }

    /// Steps until what `vm` has begun with a transaction is done.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn finish(&mut self, vm: VmId, handle: Handle, tables: &mut impl Tables) -> Result<(), Error> {
        loop {
            let step = self.step(vm, handle, tables)?;
            if self.done(step, tables) {
                return Ok(());
            }
        }
    }

    fn done(&mut self, step: Step, tables: &mut impl Tables) -> bool {
        match step {
            Step::Done => return true,
            Step::More => {}
            Step::Busy => panic!("nobody is zeroing anything"),
            Step::Zero(wipe) => {
                tables.zero(wipe.pa, wipe.pages);
                self.wiped(&wipe);
            }
        }
        false
    }

    /// A fragment that is not the last one, with one range.
    ///
    /// # Errors
    /// As [`Self::start_add`].
    pub fn add(
        &mut self,
        sender: VmId,
        handle: Handle,
        ipa: Ipa,
        pages: u64,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        self.start_add(sender, handle, std::iter::once((ipa, pages)), false)?;
        self.finish(sender, handle, tables)
    }

    /// A last fragment without ranges.
    ///
    /// # Errors
    /// As [`Self::start_add`].
    pub fn commit(&mut self, sender: VmId, handle: Handle, tables: &mut impl Tables) -> Result<(), Error> {
        self.start_add(sender, handle, std::iter::empty(), true)?;
        self.finish(sender, handle, tables)
    }

    /// Retrieves, and passes what was retrieved and its ranges to `report`.
    ///
    /// # Errors
    /// As [`Self::start_retrieve`].
    pub fn retrieve(
        &mut self,
        vm: VmId,
        handle: Handle,
        request: &Request,
        tables: &mut impl Tables,
        report: &mut dyn FnMut(&Retrieved, &[Given]),
    ) -> Result<(), Error> {
        self.start_retrieve(vm, handle, request, tables)?;
        loop {
            let got = self.given(vm, handle).map(|(got, ranges)| (got, ranges.to_vec()));
            let step = self.step(vm, handle, tables)?;
            if self.done(step, tables) {
                let (got, ranges) = got.expect("its place is known before it is mapped");
                report(&got, &ranges);
                return Ok(());
            }
        }
    }

    /// Relinquishes memory of a transaction, all steps at once.
    ///
    /// # Errors
    /// As [`Self::start_relinquish`].
    pub fn relinquish(
        &mut self,
        vm: VmId,
        handle: Handle,
        zero: bool,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        self.start_relinquish(vm, handle, zero)?;
        self.finish(vm, handle, tables)
    }

    /// Ends all retrievals of a VM that does not run.
    pub fn abandon_all(&mut self, vm: VmId, tables: &mut impl Tables) {
        loop {
            let step = self.abandon(vm, tables);
            if self.done(step, tables) {
                return;
            }
        }
    }

    /// Reclaims memory of a transaction, all steps at once.
    ///
    /// # Errors
    /// As [`Self::start_reclaim`].
    pub fn reclaim(
        &mut self,
        sender: VmId,
        handle: Handle,
        zero: bool,
        tables: &mut impl Tables,
    ) -> Result<(), Error> {
        assert!(self.start_reclaim(sender, handle, zero)?, "nobody is zeroing anything");
        self.finish(sender, handle, tables)
    }
}
