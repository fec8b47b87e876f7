//! Memory for the translation tables of address spaces.
//!
//! A walk that writes entries cannot be given up half way, so the tables that it may need are
//! [reserved](UserTables::reserve) before. Tables that wait, to be used or to be given back, are lists in
//! their own memory: the link is an aligned kernel address, which a table walk takes for an invalid
//! descriptor.

use super::errno::{Errno, Result};
use crate::memory::Phys;
use aarch64_paging::{
    descriptor::{El1Attributes as Attributes, PhysicalAddress},
    paging::{PageTable, Translation},
};
use address_space::{BLOCK, PAGE};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::{cell::Cell, ptr::NonNull};
use linux_program::UserRange;

const TABLE: Layout = match Layout::from_size_align(PAGE as usize, PAGE as usize) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a layout"),
};
/// What an entry of the second and of the first table maps.
const GIB: u64 = 1 << 30;
const TOP: u64 = 512 << 30;

type Table = NonNull<PageTable<Attributes>>;
type Link = Option<Table>;

/// Tables that nothing refers to.
#[derive(Debug, Default)]
struct List {
    first: Cell<Link>,
    count: Cell<usize>,
}

impl List {
    fn push(&self, table: Table) {
        // SAFETY: a table is a page, aligned, and nobody else's.
        unsafe { table.cast::<Link>().write(self.first.replace(Some(table))) };
        self.count.set(self.count.get() + 1);
    }

    fn pop(&self) -> Option<Table> {
        let table = self.first.get()?;
        // SAFETY: `push` has put the link there, in place of a zero.
        self.first.set(unsafe { table.cast::<Link>().replace(None) });
        self.count.set(self.count.get() - 1);
        Some(table)
    }

    /// Gives memory back until so many are left; returns how many have gone.
    fn free_all_but(&self, left: usize) -> usize {
        let before = self.count.get();
        while self.count.get() > left
            && let Some(table) = self.pop()
        {
            // SAFETY: it came from `alloc_zeroed` with this layout, and nothing refers to it.
            unsafe { dealloc(table.as_ptr().cast(), TABLE) };
        }
        before - self.count.get()
    }
}

/// The tables of a space that are not in use.
#[derive(Debug, Default)]
pub(super) struct UserTables {
    /// All of them, those in use too.
    count: Cell<usize>,
    /// Zero but for the link.
    spare: List,
    /// Taken out of the tables, but a TLB may know them still.
    unused: List,
}

// SAFETY: the tables are the space's alone.
unsafe impl Send for UserTables {}

impl Translation<Attributes> for UserTables {
    fn allocate_table(&mut self) -> (Table, PhysicalAddress) {
        let table = self.spare.pop().expect("tables are reserved before entries are written");
        let phys = Phys::of_linear(table.as_ptr().cast()).expect("the heap is in the linear map");
        (table, PhysicalAddress(phys.0 as usize))
    }

    unsafe fn deallocate_table(&mut self, table: Table) {
        self.unused.push(table);
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> Table {
        NonNull::new(Phys(pa.0 as u64).linear()).expect("no table is at address 0").cast()
    }
}

impl UserTables {
    /// Makes room: so many tables can be allocated.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&self, count: usize) -> Result<()> {
        while self.spare.count.get() < count {
            // SAFETY: the layout is not empty.
            let table = NonNull::new(unsafe { alloc_zeroed(TABLE) }).ok_or(Errno::ENOMEM)?;
            self.spare.push(table.cast());
            self.count.set(self.count.get() + 1);
        }
        Ok(())
    }

    /// Gives back what was reserved and not used, but for a few.
    pub fn trim(&self) {
        let gone = self.spare.free_all_but(2);
        self.count.set(self.count.get() - gone);
    }

    /// Bytes of all tables.
    pub fn memory(&self) -> usize {
        self.count.get() * PAGE as usize
    }

    /// Returns whether there are tables for [`clean`](Self::clean).
    pub fn has_unused(&self) -> bool {
        self.unused.count.get() > 0
    }

    /// Gives back what was taken out of the tables. The TLBs know nothing of it by now.
    pub fn clean(&self) {
        let gone = self.unused.free_all_but(0);
        self.count.set(self.count.get() - gone);
    }
}

impl Drop for UserTables {
    fn drop(&mut self) {
        self.clean();
        self.spare.free_all_but(0);
    }
}

fn touched(range: UserRange, entry: u64) -> u64 {
    (range.end.get() - 1) / entry - range.start.get() / entry + 1
}

/// The most tables that it takes to map a range, whatever physical memory is behind it.
pub(super) fn tables_by_page(range: UserRange) -> usize {
    (touched(range, BLOCK) + touched(range, GIB) + touched(range, TOP)) as usize
}

/// The most tables that it takes to map a range to contiguous memory: where both are aligned the same, blocks
/// need none.
pub(super) fn tables_for(range: UserRange, phys: Phys) -> usize {
    let same = (range.start.get() ^ phys.0).is_multiple_of(BLOCK);
    if same { (2 + touched(range, GIB) + touched(range, TOP)) as usize } else { tables_by_page(range) }
}
