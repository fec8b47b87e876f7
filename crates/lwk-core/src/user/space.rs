//! The memory of a process: regions, the tables that make them true, and the physical memory behind them.
//!
//! Memory is there before it is used: a region gets contiguous physical memory when it is made, in the
//! largest pages. Only what asks to be lazy (`MAP_NORESERVE`) gets its memory where it is touched. What
//! nobody may read has none until it is made readable, so that reserved ranges cost nothing.

use super::{
    account::Charge,
    errno::{Errno, Result},
    mapped_files::{FilePart, MappedFiles},
    page_map::{PageMap, Piece, behind},
    user_tables::{tables_by_page, tables_for},
};
use crate::{
    arch,
    memory::{self, Phys},
};
use address_space::{AddressSpace, BLOCK, PAGE, Purpose, Region, SpaceError};
use alloc::vec::Vec;
use core::fmt;
use fallible::TryVec as _;
use linux_program::{Access, UserAddr, UserRange};

pub use super::page_map::range;

/// The lowest address that can be mapped: what lies below is where null pointers point.
pub const LOWEST: UserAddr = UserAddr::new(0x1_0000);
/// Where position-independent programs go.
pub const PROGRAM: UserAddr = UserAddr::new(1 << 32);
/// Where `mmap` looks for places.
const MAPPINGS: UserRange = range(UserAddr::new(1 << 36), UserAddr::new(1 << 46));
/// The end of the first thread's stack.
pub const STACK_TOP: UserAddr = UserAddr::new(0x7fff_0000_0000);
/// Where the kernel's clock and vDSO are.
pub const VDSO: UserAddr = UserAddr::new(0x7fff_4000_0000);
/// One past the last address.
pub const END: UserAddr = UserAddr::new(1 << 47);
/// What nobody may do anything with.
pub const NO_ACCESS: Access = Access { read: false, write: false, execute: false };

/// A process's memory.
pub struct Space {
    pub(super) regions: AddressSpace,
    map: PageMap,
    heap: UserRange,
    /// Bytes of physical memory.
    backed: u64,
    /// Files that regions are private mappings of.
    pub(super) files: MappedFiles,
    charge: Charge,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({} regions, {} bytes)", self.regions.iter().count(), self.backed)
    }
}

impl From<SpaceError> for Errno {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Range => Self::EINVAL,
            SpaceError::Overlap => Self::EEXIST,
            SpaceError::Hole | SpaceError::TooMany | SpaceError::NoMemory => Self::ENOMEM,
            SpaceError::Kernel => Self::EACCES,
        }
    }
}

impl Space {
    /// An empty address space; `EAGAIN` if there are 255 already.
    pub fn new() -> Result<Self> {
        let charge = Charge::to_caller(size_of::<Self>() + PAGE as usize)?;
        let map = PageMap::new()?;
        let regions = AddressSpace::new(range(LOWEST, END), MAPPINGS);
        Ok(Self {
            regions,
            map,
            heap: range(LOWEST, LOWEST),
            backed: 0,
            files: MappedFiles::default(),
            charge,
        })
    }

    /// The value of `TTBR0_EL1`.
    pub fn tables(&self) -> u64 {
        self.map.ttbr0()
    }

    /// Its regions.
    pub const fn regions(&self) -> &AddressSpace {
        &self.regions
    }

    /// Bytes of physical memory that it has.
    pub const fn backed(&self) -> u64 {
        self.backed
    }

    /// Charges what the kernel keeps for this space: before more is added.
    ///
    /// # Errors
    /// `ENOMEM`: its process has had enough.
    fn pay(&mut self) -> Result<()> {
        let lists = self.regions.memory() + self.files.memory();
        self.charge.set(size_of::<Self>() + lists + self.map.tables().memory())
    }

    /// Splits a block that reaches across `at`. A program that gets there meanwhile faults, waits for this,
    /// and tries again.
    ///
    /// # Errors
    /// `ENOMEM`: there is no memory for the tables of the parts.
    fn split_block(&mut self, at: UserAddr) -> Result<()> {
        match self.regions.find(at).map(|region| region.access) {
            Some(access) => self.map.split_block(at, access),
            None => Ok(()),
        }
    }

    /// Gives a range physical memory where it has none, all of it or nothing.
    fn back(&mut self, place: UserRange, access: Access) -> Result<()> {
        self.pay()?;
        let mut taken: Vec<(UserRange, Phys)> = Vec::new();
        if let Err(error) = self.take_memory(place, &mut taken) {
            for (piece, phys) in taken {
                memory::give(phys.0..phys.0 + piece.len());
            }
            return Err(error);
        }
        for (piece, phys) in taken {
            // SAFETY: whole pages, just taken from free memory.
            unsafe { arch::zero_pages(phys.linear(), piece.len() as usize) };
            self.backed += piece.len();
            self.map.map(piece, phys, access);
        }
        self.map.tables().trim();
        arch::table_written();
        Ok(())
    }

    /// Takes memory for the holes of a range, and reserves the tables to map it.
    fn take_memory(&self, place: UserRange, taken: &mut Vec<(UserRange, Phys)>) -> Result<()> {
        let mut at = place.start;
        while at < place.end {
            let pieces = self.map.pieces(range(at, place.end));
            for piece in &pieces {
                take_for(range(at, piece.range.start), taken)?;
                at = piece.range.end;
            }
            if !pieces.is_full() {
                take_for(range(at, place.end), taken)?;
                at = place.end;
            }
        }
        let tables = taken.iter().map(|(piece, phys)| tables_for(*piece, *phys)).sum();
        self.map.tables().reserve(tables_by_page(place).min(tables))
    }

    /// Adds a region, at `wish` or (`fixed`) only there, and gives it memory.
    pub fn map(
        &mut self,
        size: u64,
        wish: Option<UserAddr>,
        fixed: bool,
        access: Access,
        purpose: Purpose,
        lazy: bool,
    ) -> Result<UserRange> {
        if access.write && access.execute {
            return Err(Errno::EACCES);
        }
        let place = match wish.filter(|_| fixed) {
            Some(start) => range(start, start.checked_add(size).ok_or(Errno::EINVAL)?),
            None => self.regions.free_place(size, wish).ok_or(Errno::ENOMEM)?,
        };
        self.pay()?;
        self.regions.prepare_insertion(place)?;
        if access != NO_ACCESS && !lazy {
            self.back(place, access)?;
        }
        self.regions.insert(Region { range: place, access, purpose, lazy })?;
        Ok(place)
    }

    /// Maps pages of the kernel's, for good.
    pub fn map_kernel(&mut self, start: UserAddr, phys: Phys, size: u64, access: Access) -> Result<()> {
        let place = range(start, UserAddr::new(start.get() + size));
        self.map.tables().reserve(tables_for(place, phys))?;
        self.regions.insert(Region { range: place, access, purpose: Purpose::Kernel, lazy: false })?;
        self.map.map(place, phys, access);
        Ok(())
    }

    /// Maps physical memory that somebody else keeps.
    pub fn map_physical(&mut self, phys: Phys, size: u64) -> Result<UserRange> {
        let access = Access { read: true, write: true, execute: false };
        let place = self.regions.free_place(size, None).ok_or(Errno::ENOMEM)?;
        self.map.tables().reserve(tables_for(place, phys))?;
        self.regions.insert(Region { range: place, access, purpose: Purpose::Physical, lazy: false })?;
        self.map.map(place, phys, access);
        self.map.tables().trim();
        arch::table_written();
        Ok(place)
    }

    /// Whether a region maps some of this physical memory.
    pub fn maps_physical(&self, memory: core::ops::Range<u64>) -> bool {
        let maps =
            |piece: &Piece| piece.phys.0 < memory.end && memory.start < piece.phys.0 + piece.range.len();
        self.regions.iter().filter(|region| region.purpose == Purpose::Physical).any(|region| {
            let mut rest = region.range;
            while !rest.is_empty() {
                let pieces = self.map.pieces(rest);
                if pieces.iter().any(maps) {
                    return true;
                }
                rest = behind(&pieces, rest);
            }
            false
        })
    }

    /// Changes an aligned word of the program's at once; returns what it was.
    pub fn change_word(&mut self, at: u64, change: impl Fn(u32) -> u32) -> Result<u32> {
        let address = UserAddr::new(at);
        if !at.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !self.regions.find(address).is_some_and(|region| region.access.write) {
            return Err(Errno::EFAULT);
        }
        if self.linear(address).is_none() {
            self.fault(address, true, false);
        }
        #[expect(
            clippy::cast_ptr_alignment,
            reason = "the address has been checked, and the linear map keeps alignment"
        )]
        let word = self.linear(address).ok_or(Errno::EFAULT)?.cast::<u32>();
        // SAFETY: an aligned word of the space's memory, in the linear map while the space is locked; the
        // program changes it with atomic accesses, if it means well.
        let word = unsafe { core::sync::atomic::AtomicU32::from_ptr(word) };
        let mut old = word.load(core::sync::atomic::Ordering::Acquire);
        loop {
            let order = core::sync::atomic::Ordering::AcqRel;
            let done =
                word.compare_exchange_weak(old, change(old), order, core::sync::atomic::Ordering::Acquire);
            match done {
                Ok(old) => return Ok(old),
                Err(other) => old = other,
            }
        }
    }

    /// Removes what is mapped in a range; its memory is free again.
    pub fn unmap(&mut self, gone: UserRange) -> Result<()> {
        self.regions.prepare_removal(gone)?;
        self.split_block(gone.start)?;
        self.split_block(gone.end)?;
        while let Some(region) = self.regions.take_first(gone) {
            self.release(&region);
            self.release_file(region.purpose);
        }
        self.map.prune(gone);
        // Less than before, or a cut region's more: that is refused next time.
        let _ = self.pay();
        Ok(())
    }

    /// Takes a region out of the tables, and gives its memory back.
    fn release(&mut self, region: &Region) {
        let mut rest = region.range;
        while !rest.is_empty() {
            let pieces = self.map.pieces(rest);
            let behind = behind(&pieces, rest);
            if !pieces.is_empty() {
                self.map.clear(&pieces);
                self.map.invalidate(range(rest.start, behind.start));
            }
            rest = behind;
            if matches!(region.purpose, Purpose::Physical | Purpose::Kernel) {
                continue;
            }
            for piece in pieces {
                self.backed -= piece.range.len();
                memory::give(piece.phys.0..piece.phys.0 + piece.range.len());
            }
        }
    }

    /// Changes what a program may do with a range.
    pub fn protect(&mut self, changed: UserRange, access: Access) -> Result<()> {
        if access.write && access.execute {
            return Err(Errno::EACCES);
        }
        self.pay()?;
        self.regions.prepare_protection(changed)?;
        self.split_block(changed.start)?;
        self.split_block(changed.end)?;
        // What can fail comes first, and the program does not notice it.
        let mut at = changed.start;
        while access != NO_ACCESS
            && let Some(region) = self.regions.first(range(at, changed.end))
        {
            if !region.lazy {
                self.back(region.range, region.access)?;
            }
            at = region.range.end;
        }
        let mut rest = changed;
        while !rest.is_empty() {
            let pieces = self.map.pieces(rest);
            for piece in &pieces {
                if access.execute {
                    arch::synchronise_code(piece.phys.linear(), piece.range.len() as usize);
                }
                self.map.map(piece.range, piece.phys, access);
            }
            rest = behind(&pieces, rest);
        }
        self.regions.protect(changed, access);
        self.map.invalidate(changed);
        Ok(())
    }

    /// Discards the contents of a range: it reads as zero afterwards. Returns the parts of it that are
    /// private mappings of files, whose contents are to be read again.
    pub fn discard(&mut self, range: UserRange) -> Result<Vec<FilePart>> {
        let others = [Purpose::Physical, Purpose::Kernel];
        if self.regions.overlapping(range).any(|region| others.contains(&region.purpose)) {
            return Err(Errno::EINVAL);
        }
        let parts = self.file_parts(range)?;
        let mut rest = range;
        while !rest.is_empty() {
            let pieces = self.map.pieces(rest);
            for piece in &pieces {
                // SAFETY: the memory is this space's; programs see their bytes change, as they asked.
                unsafe { arch::zero_pages(piece.phys.linear(), piece.range.len() as usize) };
            }
            rest = behind(&pieces, rest);
        }
        Ok(parts)
    }

    /// Gives memory to what is lazy in a range.
    pub fn populate(&mut self, within: UserRange) -> Result<()> {
        let mut at = within.start;
        while let Some(region) = self.regions.first(range(at, within.end)) {
            let part = range(at.max(region.range.start), within.end.min(region.range.end));
            if region.lazy && region.access != NO_ACCESS {
                self.back(part, region.access)?;
            }
            at = part.end;
        }
        Ok(())
    }

    /// Whether all of a range is mapped.
    pub fn is_mapped(&self, within: UserRange) -> bool {
        let mut at = within.start;
        for region in self.regions.overlapping(within) {
            if region.range.start > at {
                return false;
            }
            at = region.range.end;
        }
        at >= within.end
    }

    /// Moves a region's memory to another place, without copying: what `mremap` does. The new place is free,
    /// the old one a part of a region.
    pub fn move_memory(&mut self, from: UserRange, to: UserAddr, purpose: Purpose) -> Result<()> {
        let region = *self.regions.find(from.start).ok_or(Errno::EFAULT)?;
        let target = range(to, to.checked_add(from.len()).ok_or(Errno::EINVAL)?);
        if !region.range.covers(from) {
            return Err(Errno::EFAULT);
        }
        self.pay()?;
        self.regions.prepare_removal(from)?;
        self.split_block(from.start)?;
        self.split_block(from.end)?;
        self.map.tables().reserve(tables_by_page(target))?;
        self.regions.prepare_insertion(target)?;
        self.regions.take_first(from);
        self.regions.insert(Region { range: target, purpose, ..region })?;
        let mut rest = from;
        while !rest.is_empty() {
            let pieces = self.map.pieces(rest);
            let behind = behind(&pieces, rest);
            if !pieces.is_empty() {
                self.map.clear(&pieces);
                self.map.invalidate(range(rest.start, behind.start));
            }
            rest = behind;
            for piece in pieces {
                let start = UserAddr::new(to.get() + (piece.range.start.get() - from.start.get()));
                let at = range(start, UserAddr::new(start.get() + piece.range.len()));
                self.map.map(at, piece.phys, region.access);
            }
        }
        self.map.prune(from);
        self.map.tables().trim();
        arch::table_written();
        self.release_file(region.purpose);
        Ok(())
    }

    /// A program touched an address where it could not. Whether it may try again.
    pub fn fault(&mut self, address: UserAddr, write: bool, execute: bool) -> Fault {
        let Some(region) = self.regions.find(address).copied() else { return Fault::NotMapped };
        let access = region.access;
        let allowed = if write {
            access.write
        } else if execute {
            access.execute
        } else {
            access != NO_ACCESS
        };
        if !allowed {
            return Fault::NotAllowed;
        }
        let page = UserAddr::new(address.get() & !(PAGE - 1));
        if !self.map.pieces(range(page, UserAddr::new(page.get() + PAGE))).is_empty() {
            // Somebody else has been here, or its block was being split.
            return Fault::TryAgain;
        }
        let block = address.get() & !(BLOCK - 1);
        let start = UserAddr::new(block).max(region.range.start);
        let end = UserAddr::new(block + BLOCK).min(region.range.end);
        let one = range(page, UserAddr::new(page.get() + PAGE));
        match self.back(range(start, end), access).or_else(|_| self.back(one, access)) {
            Ok(()) => Fault::TryAgain,
            Err(_) => Fault::NoMemory,
        }
    }

    /// The kernel's own address of a byte of the program's, if it is mapped.
    pub fn linear(&self, address: UserAddr) -> Option<*mut u8> {
        let page = UserAddr::new(address.get() & !(PAGE - 1));
        let piece = *self.map.pieces(range(page, page.checked_add(PAGE)?)).first()?;
        Some(piece.phys.linear().wrapping_add((address.get() & (PAGE - 1)) as usize))
    }

    /// Copies to the program's memory, whatever the program itself may do there.
    pub fn write(&mut self, at: UserAddr, bytes: &[u8]) -> Result<()> {
        let end = at.checked_add(bytes.len() as u64).ok_or(Errno::EFAULT)?;
        let mut rest = bytes;
        let first = UserAddr::new(at.get() & !(PAGE - 1));
        let last = UserAddr::new(end.get().next_multiple_of(PAGE));
        let mut address = at;
        let mut within = range(first, last.max(UserAddr::new(first.get() + PAGE)));
        while !within.is_empty() {
            let pieces = self.map.pieces(within);
            for piece in &pieces {
                let offset = address.get().checked_sub(piece.range.start.get()).ok_or(Errno::EFAULT)?;
                let count = rest.len().min((piece.range.len() - offset) as usize);
                let to = piece.phys.linear().wrapping_add(offset as usize);
                // SAFETY: the piece is mapped memory of this space, which the linear map holds, and `count`
                // fits.
                unsafe { arch::copy_to_memory(to, &rest[..count]) };
                rest = &rest[count..];
                address = UserAddr::new(address.get() + count as u64);
            }
            within = behind(&pieces, within);
        }
        if rest.is_empty() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Makes code that was written visible to instruction fetches.
    pub fn synchronise_code(&self, within: UserRange) {
        let mut rest = within;
        while !rest.is_empty() {
            let pieces = self.map.pieces(rest);
            for piece in &pieces {
                arch::synchronise_code(piece.phys.linear(), piece.range.len() as usize);
            }
            rest = behind(&pieces, rest);
        }
    }

    /// Says where the heap begins.
    pub const fn set_heap(&mut self, start: UserAddr) {
        self.heap = range(start, start);
    }

    /// The end of the heap; moved to `end` if that is possible (`brk`).
    pub fn set_break(&mut self, end: UserAddr) -> UserAddr {
        let page_up = |address: UserAddr| UserAddr::new(address.get().next_multiple_of(PAGE));
        if end < self.heap.start || end >= MAPPINGS.start {
            return self.heap.end;
        }
        let (old, new) = (page_up(self.heap.end), page_up(end));
        let data = Access { read: true, write: true, execute: false };
        let done = if new > old {
            self.map(new.get() - old.get(), Some(old), true, data, Purpose::Heap, false).is_ok()
        } else {
            new == old || self.unmap(range(new, old)).is_ok()
        };
        if done {
            self.heap.end = end;
        }
        self.heap.end
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.map.invalidate_all();
        for region in
            self.regions.iter().filter(|r| !matches!(r.purpose, Purpose::Physical | Purpose::Kernel))
        {
            let mut rest = region.range;
            while !rest.is_empty() {
                let pieces = self.map.pieces(rest);
                rest = behind(&pieces, rest);
                for piece in pieces {
                    memory::give(piece.phys.0..piece.phys.0 + piece.range.len());
                }
            }
        }
    }
}

/// What to do about a fault of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is mended.
    TryAgain,
    /// Nothing is there (`SEGV_MAPERR`).
    NotMapped,
    /// The program may not do that there (`SEGV_ACCERR`).
    NotAllowed,
    /// There is no memory left (`SIGBUS`).
    NoMemory,
}

/// Takes physical memory for a range: contiguous if there is such a piece, and so that blocks of the tables
/// fit.
fn take_for(hole: UserRange, taken: &mut Vec<(UserRange, Phys)>) -> Result<()> {
    let mut at = hole.start.get();
    let end = hole.end.get();
    while at < end {
        // Up to where blocks can begin; whole blocks; what is left.
        let to_block = at.next_multiple_of(BLOCK);
        let mut size = if at != to_block && to_block < end {
            to_block - at
        } else if at == to_block && end - at >= BLOCK {
            (end - at) & !(BLOCK - 1)
        } else {
            end - at
        };
        // Room first: what is taken is not lost.
        taken.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let phys = loop {
            match memory::take_for_program(size) {
                Some(phys) => break phys,
                None if size > PAGE => {
                    let unit = if size > BLOCK { BLOCK } else { PAGE };
                    size = (size / 2).next_multiple_of(unit).min(size - unit.min(size - PAGE));
                }
                None => return Err(Errno::ENOMEM),
            }
        };
        taken.try_push((range(UserAddr::new(at), UserAddr::new(at + size)), phys))?;
        at += size;
    }
    Ok(())
}
