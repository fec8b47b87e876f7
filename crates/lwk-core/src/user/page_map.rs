//! The translation tables of a process, and what the TLBs keep of them: which physical memory is mapped
//! where.

use super::{
    errno::{Errno, Result},
    user_tables::UserTables,
};
use crate::{arch, memory::Phys, sync::IrqMutex};
use aarch64_paging::{
    descriptor::{El1Attributes as Attributes, PhysicalAddress},
    paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange},
};
use address_space::{BLOCK, PAGE};
use linux_program::{Access, UserAddr, UserRange};

/// How many pages are invalidated one by one.
const FEW: u64 = 16;
/// What a table of the third level maps, and an entry of the second.
const GIB: u64 = 1 << 30;

const USER: Attributes = Attributes::ATTRIBUTE_INDEX_0
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::ACCESSED)
    .union(Attributes::NON_GLOBAL)
    .union(Attributes::PXN)
    .union(Attributes::VALID);

/// From `start` up to `end`.
pub const fn range(start: UserAddr, end: UserAddr) -> UserRange {
    UserRange { start, end }
}

fn attributes(access: Access) -> Attributes {
    let mut attributes = USER;
    if access.read || access.write || access.execute {
        // AArch64 has nothing that can be written and not read.
        attributes |= Attributes::USER;
    }
    if !access.write {
        attributes |= Attributes::READ_ONLY;
    }
    if !access.execute {
        attributes |= Attributes::UXN;
    }
    attributes
}

/// Which address space numbers are in use. 0 is nobody's.
static NUMBERS: IrqMutex<[u64; 4]> = IrqMutex::new([1, 0, 0, 0]);

/// The number that distinguishes the TLB entries of an address space from others (ASID).
#[derive(Debug)]
struct Number(u16);

impl Number {
    fn new() -> Option<Self> {
        let mut numbers = NUMBERS.lock();
        let word = numbers.iter().position(|word| *word != u64::MAX)?;
        let bit = numbers[word].trailing_ones();
        numbers[word] |= 1 << bit;
        Some(Self(word as u16 * 64 + bit as u16))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        arch::invalidate_space(self.0);
        NUMBERS.lock()[usize::from(self.0) / 64] &= !(1 << (self.0 % 64));
    }
}

/// A mapped piece: where, its memory, and the size of the first entry that maps it.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub range: UserRange,
    pub phys: Phys,
    entry: u64,
}

/// The first pieces of a range; whoever wants all asks again from the last one's end on.
pub type Pieces = heapless::Vec<Piece, 16>;

/// What is left of a range behind these pieces. Nothing, if there are none.
pub fn behind(pieces: &Pieces, range: UserRange) -> UserRange {
    UserRange { start: pieces.last().map_or(range.end, |piece| piece.range.end), ..range }
}

/// The translation tables of a process.
pub struct PageMap {
    tables: RootTable<El1And0, UserTables>,
    /// Given back after the tables are gone.
    number: Number,
}

impl PageMap {
    /// Tables that map nothing; `EAGAIN` if 255 processes have some already.
    pub fn new() -> Result<Self> {
        let number = Number::new().ok_or(Errno::EAGAIN)?;
        let tables = UserTables::default();
        tables.reserve(1)?;
        Ok(Self { tables: RootTable::with_va_range(tables, 0, El1And0, VaRange::Lower), number })
    }

    /// The value of `TTBR0_EL1`.
    pub fn ttbr0(&self) -> u64 {
        arch::user_tables(Phys(self.tables.to_physical().0 as u64), self.number.0)
    }

    /// The pages that the tables are made of.
    pub fn tables(&self) -> &UserTables {
        self.tables.translation()
    }

    /// Invalidates all that TLBs keep of this process.
    pub fn invalidate_all(&self) {
        arch::invalidate_space(self.number.0);
    }

    /// Invalidates what TLBs keep of a range.
    pub fn invalidate(&self, changed: UserRange) {
        let tables = self.tables.translation();
        if changed.len() / PAGE <= FEW && !tables.has_unused() {
            arch::invalidate_pages(self.number.0, changed.start.get(), changed.len() / PAGE);
        } else {
            arch::invalidate_space(self.number.0);
            tables.clean();
        }
    }

    /// The first pieces that are mapped in a range, ascending; entries that cross its ends are cut.
    pub fn pieces(&self, within: UserRange) -> Pieces {
        let mut pieces = Pieces::new();
        let region = MemoryRegion::new(within.start.get() as usize, within.end.get() as usize);
        let _ = self.tables.walk_range(&region, &mut |at, descriptor, level| {
            if descriptor.is_valid() && !(level < 3 && descriptor.is_table_or_page()) {
                let entry = PAGE << (9 * (3 - level));
                let start = at.start().0 as u64;
                let phys = Phys(descriptor.output_address().0 as u64 + (start & (entry - 1)));
                let (start, end) = (UserAddr::new(start), UserAddr::new(at.end().0 as u64));
                match pieces.last_mut() {
                    Some(last) if last.range.end == start && last.phys.0 + last.range.len() == phys.0 => {
                        last.range.end = end;
                    }
                    // Enough: the walk ends.
                    _ => pieces.push(Piece { range: range(start, end), phys, entry }).map_err(drop)?,
                }
            }
            Ok(())
        });
        pieces
    }

    /// Maps physical memory, for which tables are [reserved](UserTables::reserve) or there already.
    pub fn map(&mut self, at: UserRange, phys: Phys, access: Access) {
        self.write_entries(at, phys, attributes(access));
    }

    /// Writes entries, for which tables are [reserved](UserTables::reserve) or there already.
    fn write_entries(&mut self, at: UserRange, phys: Phys, attributes: Attributes) {
        let region = MemoryRegion::new(at.start.get() as usize, at.end.get() as usize);
        self.tables
            .map_range(&region, PhysicalAddress(phys.0 as usize), attributes, Constraints::NO_CONTIGUOUS_HINT)
            .expect("regions are in the lower half");
    }

    /// Takes pieces out of the tables; the caller invalidates.
    pub fn clear(&mut self, pieces: &Pieces) {
        for piece in pieces {
            self.write_entries(piece.range, Phys(0), Attributes::empty());
        }
    }

    /// Takes tables away whose whole range is inside of a range in which nothing is mapped any more.
    pub fn prune(&mut self, within: UserRange) {
        let mut at = within.start.get();
        let end = within.end.get();
        while at < end {
            let region = MemoryRegion::new(at as usize, end as usize);
            let mut empty = None;
            let _ = self.tables.walk_range(&region, &mut |here, _, level| {
                let start = here.start().0 as u64;
                // The largest table of which this is the first entry that is inside.
                let unit = [GIB, BLOCK].into_iter().zip([2, 3]).find(|&(unit, least)| {
                    let first = start & !(unit - 1);
                    level >= least && first >= at && first + unit <= end
                });
                match unit {
                    Some((unit, _)) => {
                        empty = Some((start & !(unit - 1), unit));
                        Err(())
                    }
                    None => Ok(()),
                }
            });
            let Some((first, unit)) = empty else { break };
            self.write_entries(
                range(UserAddr::new(first), UserAddr::new(first + unit)),
                Phys(0),
                Attributes::empty(),
            );
            at = first + unit;
        }
        if self.tables.translation().has_unused() {
            self.invalidate(within);
        }
    }

    /// Splits a block that reaches across `at`: what is in it is taken out of the tables, and put back in two
    /// parts (Arm ARM, D8.16.1, break-before-make). A program that gets there meanwhile faults, waits for
    /// this, and tries again.
    ///
    /// # Errors
    /// `ENOMEM`: there is no memory for the tables of the parts.
    pub fn split_block(&mut self, at: UserAddr, access: Access) -> Result<()> {
        let page = range(at, UserAddr::new(at.get() + PAGE));
        let Some(piece) = self.pieces(page).first().copied().filter(|piece| piece.entry > PAGE) else {
            return Ok(());
        };
        let start = at.get() & !(piece.entry - 1);
        if start == at.get() {
            return Ok(());
        }
        // One for each level below the block's.
        self.tables.translation().reserve(2)?;
        let whole = range(UserAddr::new(start), UserAddr::new(start + piece.entry));
        let phys = Phys(piece.phys.0 - (at.get() - start));
        self.write_entries(whole, Phys(0), Attributes::empty());
        arch::invalidate_space(self.number.0);
        let second = Phys(phys.0 + (at.get() - start));
        self.write_entries(range(whole.start, at), phys, attributes(access));
        self.write_entries(range(at, whole.end), second, attributes(access));
        Ok(())
    }
}
