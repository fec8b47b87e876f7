//! Stage-2 tables at EL2: memory for them, and the tables of every VM as memory transactions change them.
//!
//! Each VM has a fixed number of pages for tables, which boot gives it. What a VM does to its memory uses its own pages,
//! so no VM can use up what another needs; one that has none left gets `NO_MEMORY`.

use crate::{
    arch,
    el2_map::{Window, physical, virtual_address},
    system::System,
    vm::Vm,
};
use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::{
    ffa,
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use page_ownership::Tables;
use stage2_mmu::{
    Access, Error, IpaWidth, Mapping, MemoryType, PAGE_SIZE, Room, Search, Stage2, TableMemory,
};

/// How many entries a step of a search for free addresses looks at.
const STEP_ENTRIES: usize = 128;

fn entry(table: Pa, index: usize) -> &'static AtomicU64 {
    // SAFETY: `table` is a page that boot took from the heap for tables, which stays mapped; `stage2-mmu` keeps indices
    // within it. Entries are only ever accessed as atomics.
    unsafe { AtomicU64::from_ptr((virtual_address(table) as *mut u64).add(index)) }
}

/// Pages for the tables of one VM that are not in use: a list, linked through their first entries.
#[derive(Debug, Default)]
struct Pool {
    first: Option<Pa>,
    /// VTTBR_EL2, once the VM may run and its translations may be in a TLB.
    vttbr: u64,
    /// Boot: pages come from the heap.
    growing: bool,
}

impl TableMemory for Pool {
    fn allocate(&mut self, count: usize) -> Option<Pa> {
        if self.growing {
            return from_heap(count);
        }
        let page = self.first.filter(|_| count == 1)?;
        let next = entry(page, 0).load(Ordering::Relaxed);
        self.first = (next != 0).then_some(Pa(next));
        (0..stage2_mmu::ENTRIES).for_each(|index| entry(page, index).store(0, Ordering::Relaxed));
        Some(page)
    }

    fn free(&mut self, table: Pa) {
        entry(table, 0).store(self.first.map_or(0, |page| page.0), Ordering::Relaxed);
        self.first = Some(table);
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        entry(table, index).load(Ordering::Relaxed)
    }

    fn write(&mut self, table: Pa, index: usize, value: u64) {
        entry(table, index).store(value, Ordering::Release);
    }

    fn synchronise(&mut self, ipa: Ipa, len: u64) {
        if len == 0 || self.vttbr == 0 {
            arch::publish_tables();
        } else {
            arch::flush_stage2(self.vttbr, ipa, len);
        }
    }
}

/// Zeroed pages, contiguous and aligned to their size.
fn from_heap(count: usize) -> Option<Pa> {
    let bytes = count * PAGE_SIZE as usize;
    let layout = Layout::from_size_align(bytes, bytes).ok()?;
    // SAFETY: the layout is not empty.
    let page = unsafe { alloc_zeroed(layout) };
    #[cfg(any(test, feature = "testing"))]
    crate::testing::taken_for_tables(page, layout);
    (!page.is_null()).then(|| physical(page as u64))
}

/// The stage-2 tables of one VM, with the memory that they are made of.
#[derive(Debug)]
pub(crate) struct VmTables {
    tables: Stage2,
    pool: Pool,
}

impl VmTables {
    /// Empty tables of a VM that does not run yet, made of heap memory.
    pub(crate) fn new(width: IpaWidth) -> Result<Self, Error> {
        let mut pool = Pool { growing: true, ..Pool::default() };
        Ok(Self { tables: Stage2::new(width, &mut pool)?, pool })
    }

    /// Maps memory.
    pub(crate) fn map(
        &mut self,
        ipa: Ipa,
        pa: Pa,
        len: u64,
        access: Access,
        kind: MemoryType,
    ) -> Result<(), Error> {
        self.tables.map(ipa, pa, len, access, kind, &mut self.pool)
    }

    /// Maps memory in place of what is mapped there.
    pub(crate) fn replace(&mut self, ipa: Ipa, pa: Pa, len: u64, access: Access) -> Result<(), Error> {
        self.tables.unmap(ipa, len, &mut self.pool)?;
        self.map(ipa, pa, len, access, MemoryType::Normal)
    }

    /// VTTBR_EL2 for these tables and this VM; from now on `spare` pages are all that they can grow by.
    pub(crate) fn complete(&mut self, vm: VmId, spare: usize) -> u64 {
        for _ in 0..spare {
            if let Some(page) = from_heap(1) {
                self.pool.free(page);
            }
        }
        self.pool.growing = false;
        self.pool.vttbr = self.tables.root().0 | u64::from(vm.0) << 48;
        self.pool.vttbr
    }

    /// Where the normal memory at `ipa` is, if there is some, and the address behind the entry that says so; `None` at the end.
    pub(crate) fn look_up(&self, ipa: Ipa) -> Option<(Option<Pa>, Ipa)> {
        let (mapping, left) = self.tables.look_up(ipa, &self.pool)?;
        let memory = mapping.filter(|mapping| mapping.memory_type == MemoryType::Normal);
        Some((memory.map(|mapping| mapping.pa), Ipa(ipa.0 + left)))
    }

    /// Adds to `blocks` how many entries of 1 GiB, 2 MiB and 4 KiB map memory from `ipa` to `end`, up to the first address that is not
    /// mapped.
    pub(crate) fn count_blocks(&self, ipa: Ipa, end: Ipa, blocks: &mut [u64; 3]) {
        let mut at = ipa.0;
        while at < end.0
            && let Some(mapping) = self.walk(Ipa(at))
        {
            let size = usize::from(mapping.block < 1 << 30) + usize::from(mapping.block < 2 << 20);
            blocks[size] += 1;
            at = (at / mapping.block + 1) * mapping.block;
        }
    }

    /// What an address translates to.
    pub(crate) fn walk(&self, ipa: Ipa) -> Option<Mapping> {
        self.tables.walk(ipa, &self.pool)
    }
}

/// The tables of all VMs, as one core changes them.
pub(crate) struct AllTables<'a> {
    /// Through which it zeroes pages.
    pub(crate) window: &'a Window,
}

impl AllTables<'_> {
    fn with<T>(vm: VmId, work: impl FnOnce(&'static Vm, &mut VmTables) -> T) -> Option<T> {
        let vm = System::get().vm(vm)?;
        Some(work(vm, &mut vm.stage2.lock()))
    }
}

impl Tables for AllTables<'_> {
    fn translate(&self, vm: VmId, ipa: Ipa) -> Option<(Pa, u64)> {
        let mapping = Self::with(vm, |_, tables| tables.walk(ipa))??;
        // Memory regions of partition manifests are not executable as well. Whose it is, the ownership knows.
        let own = mapping.access.read && mapping.access.write && mapping.memory_type == MemoryType::Normal;
        own.then(|| (mapping.pa, (mapping.block - ipa.0 % mapping.block) / PAGE))
    }

    fn is_identity(&self, vm: VmId) -> bool {
        System::get().vm(vm).is_some_and(Vm::receives_at_physical_addresses)
    }

    fn find_room(&self, vm: VmId, from: Option<Search>, pages: u64) -> Room {
        let found = Self::with(vm, |vm, VmTables { tables, pool }| {
            let (from, limit) = (from.unwrap_or(Search::from(vm.window)), Ipa(tables.width().limit()));
            tables.find_room(from, limit, pages * PAGE, STEP_ENTRIES, pool)
        });
        found.unwrap_or(Room::None)
    }

    fn has_room(&self, vm: VmId, ipa: Ipa, pages: u64) -> bool {
        let work = |_, t: &mut VmTables| t.tables.has_room(ipa, pages * PAGE, &t.pool);
        Self::with(vm, work).unwrap_or(false)
    }

    fn withhold(&mut self, vm: VmId, ipa: Ipa, pages: u64) -> Result<(), ffa::Error> {
        let work = |_, t: &mut VmTables| t.tables.withhold(ipa, pages * PAGE, &mut t.pool);
        Self::with(vm, work).unwrap_or(Ok(())).map_err(|_| ffa::Error::NoMemory)
    }

    fn restore(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        // It was withheld as it is given back, so no block must be split, and nothing can fail.
        let _ = Self::with(vm, |_, t| t.tables.restore(ipa, pages * PAGE, &mut t.pool));
    }

    fn map(&mut self, vm: VmId, ipa: Ipa, pa: Pa, pages: u64, access: Access) -> Result<(), ffa::Error> {
        let mapped = Self::with(vm, |_, t| {
            let mapped = t.map(ipa, pa, pages * PAGE, access, MemoryType::Normal);
            if mapped == Err(Error::NoMemory) {
                // The part that was mapped; no block reaches beyond it.
                let _ = t.tables.unmap(ipa, pages * PAGE, &mut t.pool);
            }
            mapped
        });
        mapped.unwrap_or(Err(Error::NoMemory)).map_err(|_| ffa::Error::NoMemory)
    }

    fn unmap(&mut self, vm: VmId, ipa: Ipa, pages: u64) {
        // As for `restore`.
        let _ = Self::with(vm, |_, t| t.tables.unmap(ipa, pages * PAGE, &mut t.pool));
    }

    fn zero(&mut self, pa: Pa, pages: u64) {
        for page in 0..pages {
            self.window.with_page(Pa(pa.0 + page * PAGE), |bytes| {
                arch::zero(bytes);
                // Its next owner may read it with caches off, and must not see what was there before.
                arch::clean_data(bytes.as_ptr() as usize, bytes.len());
            });
        }
    }
}
