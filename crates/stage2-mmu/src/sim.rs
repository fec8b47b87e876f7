//! Table memory for tests and simulators: plain host memory, with a record of TLB maintenance.

use crate::{ENTRIES, PAGE_SIZE, TableMemory};
use hv_abi::ids::{Ipa, Pa};
use std::{boxed::Box, collections::BTreeMap, vec::Vec};

/// Tables in host memory.
#[derive(Default)]
pub struct SimTables {
    pages: BTreeMap<u64, Box<[u64; ENTRIES]>>,
    next: u64,
    /// How many more pages may be allocated; `None`: no limit.
    pub budget: Option<usize>,
    /// Every range whose translations were invalidated.
    pub invalidated: Vec<(Ipa, u64)>,
}

impl SimTables {
    /// No tables yet, no limit.
    pub fn new() -> Self {
        Self { next: 0x10_0000, ..Self::default() }
    }

    /// Returns the number of pages in use.
    pub fn pages_in_use(&self) -> usize {
        self.pages.len()
    }
}

impl TableMemory for SimTables {
    fn allocate(&mut self, count: usize) -> Option<Pa> {
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(count)?;
        }
        let bytes = count as u64 * PAGE_SIZE;
        let base = self.next.next_multiple_of(bytes);
        self.next = base + bytes;
        for page in 0..count as u64 {
            self.pages.insert(base + page * PAGE_SIZE, Box::new([0; ENTRIES]));
        }
        Some(Pa(base))
    }

    fn free(&mut self, table: Pa) {
        self.pages.remove(&table.0);
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        let page = table.0 + (index / ENTRIES) as u64 * PAGE_SIZE;
        self.pages[&page][index % ENTRIES]
    }

    fn write(&mut self, table: Pa, index: usize, value: u64) {
        let page = table.0 + (index / ENTRIES) as u64 * PAGE_SIZE;
        self.pages.get_mut(&page).expect("write outside a table")[index % ENTRIES] = value;
    }

    fn synchronise(&mut self, ipa: Ipa, len: u64) {
        if len != 0 {
            self.invalidated.push((ipa, len));
        }
    }
}
