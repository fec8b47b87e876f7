//! Tables of VMs in host memory, for tests and examples: real stage-2 tables, and a memory whose pages are numbers.

use crate::{Ownership, Tables};
use hv_abi::{
    ffa::Error,
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use stage2_mmu::{Access, IpaWidth, Mapping, MemoryType, Stage2, sim};
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

    /// What an address of a VM translates to.
    pub fn walk(&self, vm: VmId, ipa: Ipa) -> Option<Mapping> {
        let (tables, memory) = &self.vms[&vm];
        tables.walk(ipa, memory)
    }

    /// How many pages the tables of a VM take.
    pub fn table_pages(&self, vm: VmId) -> usize {
        self.vms[&vm].1.pages_in_use()
    }

    /// How many pages may still be used for the tables of a VM.
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

    fn find_room(&self, vm: VmId, at: Option<Ipa>, pages: u64) -> Option<Ipa> {
        let (tables, memory) = &self.vms[&vm];
        let len = pages.checked_mul(PAGE)?;
        match at {
            None => tables.find_room(WINDOW, LIMIT, len, memory),
            Some(at) => tables.has_room(at, len, memory).then_some(at),
        }
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
            tables.unmap(ipa, pages * PAGE, memory).expect("nothing reaches beyond");
            assert_eq!(error, stage2_mmu::Error::NoMemory);
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

impl Ownership {
    /// Numbers the open transactions of each VM from the start again, so that a model checker sees finitely many states.
    /// Their handles change with that.
    pub fn renumber(&mut self) {
        self.senders_mut().iter_mut().for_each(crate::transaction::Sender::renumber);
    }
}
