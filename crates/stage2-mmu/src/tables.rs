//! Building, changing and walking the tables.

use crate::{
    ENTRIES, PAGE_SIZE,
    descriptor::{Access, Attributes, Change, Entry, MemoryType, is_table},
};
use hv_abi::ids::{Ipa, Pa};

/// Memory for tables, access to it, and TLB maintenance: what a user of this crate provides.
pub trait TableMemory {
    /// A zeroed, contiguous run of `count` pages, aligned to its size (`count` is a power of two); `None` if
    /// there is no memory left.
    fn allocate(&mut self, count: usize) -> Option<Pa>;
    /// Gives one page back, which no table refers to any more.
    fn free(&mut self, table: Pa);
    /// Entry `index` of the table at `table`.
    fn read(&self, table: Pa, index: usize) -> u64;
    /// Writes entry `index`, so that a table walker on another core sees either the old or the new value.
    fn write(&mut self, table: Pa, index: usize, value: u64);
    /// Makes the effect of earlier writes visible to table walkers, and removes every cached translation of
    /// `len` bytes from `ipa` on all cores; returns when that is complete. Called with `len` zero if entries
    /// have only become valid, when nothing can be cached.
    fn synchronise(&mut self, ipa: Ipa, len: u64);
}

/// Why tables could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An address or a length is not a multiple of the page size, or the length is zero.
    Unaligned,
    /// The range ends beyond the address width.
    OutOfRange,
    /// There is no memory for another table. The part before the failing address has been mapped.
    NoMemory,
    /// `map` met a page that is mapped already.
    AlreadyMapped(Ipa),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unaligned => "it does not consist of whole pages",
            Self::OutOfRange => "it ends beyond the address width",
            Self::NoMemory => "there is no memory for tables",
            Self::AlreadyMapped(_) => "a page is mapped already",
        })
    }
}

/// The width of intermediate physical addresses, in bits: 32 to 43 (the root is at level 1, up to 16 tables).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpaWidth(u8);

impl IpaWidth {
    /// A width of `bits`, if it is one that three levels can translate.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= 32 && bits <= 43 { Some(Self(bits)) } else { None }
    }

    /// Returns the width in bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the address after the highest one.
    pub const fn limit(self) -> u64 {
        1 << self.0
    }

    /// Returns the number of concatenated root tables.
    pub const fn root_tables(self) -> usize {
        if self.0 <= 39 { 1 } else { 1 << (self.0 - 39) }
    }
}

/// Result of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub pa: Pa,
    /// What the VM may do there.
    pub access: Access,
    /// What is behind it.
    pub memory_type: MemoryType,
    /// Bytes of the block or page that maps it: 1 GiB, 2 MiB or 4 KiB.
    pub block: u64,
}

/// The stage-2 tables of one VM. The root is at level 1.
#[derive(Debug)]
pub struct Stage2 {
    root: Pa,
    width: IpaWidth,
}

/// Progress of a search for free addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Search {
    /// Everything from here to `at` is free.
    room: u64,
    at: u64,
}

impl Search {
    /// Returns a search that starts at `ipa`.
    pub const fn from(ipa: Ipa) -> Self {
        Self { room: ipa.0, at: ipa.0 }
    }
}

/// Result of a search for free addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There.
    Found(Ipa),
    /// There is none.
    None,
    /// It is not over.
    More(Search),
}

const ROOT_LEVEL: u8 = 1;

const fn level_shift(level: u8) -> u32 {
    12 + 9 * (3 - level as u32)
}

const fn level_size(level: u8) -> u64 {
    1 << level_shift(level)
}

/// A part of the address space that an operation still has to deal with.
#[derive(Clone, Copy)]
struct Span {
    ipa: u64,
    end: u64,
}

impl Span {
    /// The part of the span that the entry for `ipa` at `level` covers.
    fn in_entry(self, level: u8) -> Self {
        let size = level_size(level);
        let entry_end = (self.ipa & !(size - 1)) + size;
        Self { ipa: self.ipa, end: self.end.min(entry_end) }
    }

    fn is_whole_entry(self, level: u8) -> bool {
        self.end - self.ipa == level_size(level)
    }
}

impl Stage2 {
    /// Empty tables for addresses of `width` bits.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(width: IpaWidth, memory: &mut impl TableMemory) -> Result<Self, Error> {
        let root = memory.allocate(width.root_tables()).ok_or(Error::NoMemory)?;
        Ok(Self { root, width })
    }

    /// The physical address of the root, for `VTTBR_EL2.BADDR`.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// The width of the addresses that these tables translate.
    pub const fn width(&self) -> IpaWidth {
        self.width
    }

    /// Maps `len` bytes from `ipa` to `pa`, in blocks as large as alignment allows.
    ///
    /// # Errors
    /// See [`Error`]. Nothing that was mapped before is changed by a call that fails.
    pub fn map(
        &mut self,
        ipa: Ipa,
        pa: Pa,
        len: u64,
        access: Access,
        kind: MemoryType,
        memory: &mut impl TableMemory,
    ) -> Result<(), Error> {
        if !pa.0.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Unaligned);
        }
        let mut span = self.check(ipa, len)?;
        let attributes = Attributes::new(access, kind);
        let offset = pa.0.wrapping_sub(ipa.0);
        while span.ipa < span.end {
            let (table, level) = self.descend_for_map(span, offset, memory)?;
            // As far as the table reaches, and nothing is mapped.
            let mut index = self.index(span.ipa, level);
            let out = Pa(span.ipa.wrapping_add(offset));
            let mut bits = Entry::Leaf(out, attributes).encode(level);
            loop {
                memory.write(table, index, bits);
                // As in `split_at`.
                bits += level_size(level);
                span.ipa += level_size(level);
                index += 1;
                if index.is_multiple_of(ENTRIES)
                    || span.end - span.ipa < level_size(level)
                    || memory.read(table, index) != 0
                {
                    break;
                }
            }
        }
        memory.synchronise(ipa, 0);
        Ok(())
    }

    /// Removes every mapping of `len` bytes from `ipa`, withheld ones too, splitting blocks that reach
    /// beyond. Pages that are not mapped stay so. When this returns, no core can use the old mappings.
    ///
    /// # Errors
    /// See [`Error`]; a call that fails changes no translation. One for exactly what a call of [`Self::map`]
    /// mapped succeeds.
    pub fn unmap(&mut self, ipa: Ipa, len: u64, memory: &mut impl TableMemory) -> Result<(), Error> {
        self.update(ipa, len, memory, Change::Remove)?;
        memory.synchronise(ipa, len);
        self.tidy(ipa, len, memory);
        Ok(())
    }

    /// Takes `len` bytes from `ipa` away, to be given back by [`Self::restore`]: no core can use them when
    /// this returns, and nothing else can be mapped there. What is not mapped stays so.
    ///
    /// # Errors
    /// See [`Error`]; a call that fails changes no translation.
    pub fn withhold(&mut self, ipa: Ipa, len: u64, memory: &mut impl TableMemory) -> Result<(), Error> {
        self.update(ipa, len, memory, Change::Withhold)?;
        memory.synchronise(ipa, len);
        Ok(())
    }

    /// Gives back what [`Self::withhold`] took, and makes blocks that were split for that whole again.
    ///
    /// # Errors
    /// See [`Error`]; a call that fails changes no translation. One for exactly a range that was withheld
    /// succeeds.
    pub fn restore(&mut self, ipa: Ipa, len: u64, memory: &mut impl TableMemory) -> Result<(), Error> {
        self.update(ipa, len, memory, Change::Restore)?;
        memory.synchronise(ipa, 0);
        self.tidy(ipa, len, memory);
        Ok(())
    }

    /// The lowest address from where `search` has come to, below `limit`, where `len` bytes are neither
    /// mapped nor withheld. If `len` is 2 MiB or more, the address is a multiple of 2 MiB. Looks at no more
    /// than `entries` entries.
    pub fn find_room(
        &self,
        search: Search,
        limit: Ipa,
        len: u64,
        entries: usize,
        memory: &impl TableMemory,
    ) -> Room {
        let align = if len < level_size(2) { PAGE_SIZE } else { level_size(2) };
        let limit = limit.0.min(self.width.limit());
        let Some(mut room) = search.room.checked_next_multiple_of(align) else { return Room::None };
        let mut at = search.at.max(room);
        for _ in 0..entries {
            match room.checked_add(len) {
                Some(end) if end <= limit && at >= end => return Room::Found(Ipa(room)),
                Some(end) if end <= limit => {}
                _ => return Room::None,
            }
            let (entry, level, ..) = self.find_entry(at, memory);
            at = (at & !(level_size(level) - 1)) + level_size(level);
            if entry != Entry::Invalid {
                let Some(next) = at.checked_next_multiple_of(align) else { return Room::None };
                (room, at) = (next, next);
            }
        }
        Room::More(Search { room, at })
    }

    /// Returns whether `len` bytes from `ipa` are whole pages of the address space that are neither mapped
    /// nor withheld.
    pub fn has_room(&self, ipa: Ipa, len: u64, memory: &impl TableMemory) -> bool {
        let Ok(Span { ipa: mut at, end }) = self.check(ipa, len) else { return false };
        while at < end {
            let (entry, level, ..) = self.find_entry(at, memory);
            if entry != Entry::Invalid {
                return false;
            }
            at = (at & !(level_size(level) - 1)) + level_size(level);
        }
        true
    }

    /// Translates `ipa`; `None` if it is not mapped.
    pub fn walk(&self, ipa: Ipa, memory: &impl TableMemory) -> Option<Mapping> {
        self.look_up(ipa, memory)?.0
    }

    /// What `ipa` translates to, and for how many bytes from there on the same entry decides; `None` beyond
    /// the width. Walking on by that number finds every mapping.
    pub fn look_up(&self, ipa: Ipa, memory: &impl TableMemory) -> Option<(Option<Mapping>, u64)> {
        if ipa.0 >= self.width.limit() {
            return None;
        }
        let (entry, level, ..) = self.find_entry(ipa.0, memory);
        let block = level_size(level);
        let offset = ipa.0 & (block - 1);
        let mapping = match entry {
            Entry::Leaf(pa, attributes) => Some(Mapping {
                pa: Pa(pa.0 | offset),
                access: attributes.access(),
                memory_type: attributes.memory_type(),
                block,
            }),
            _ => None,
        };
        Some((mapping, block - offset))
    }

    /// The entry that decides about `ipa`, which is within the width; its level, its table, and the index
    /// there.
    fn find_entry(&self, ipa: u64, memory: &impl TableMemory) -> (Entry, u8, Pa, usize) {
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        loop {
            let index = self.index(ipa, level);
            match Entry::decode(memory.read(table, index), level) {
                Entry::Table(next) if level < 3 => {
                    table = next;
                    level += 1;
                }
                entry => return (entry, level, table, index),
            }
        }
    }

    fn check(&self, ipa: Ipa, len: u64) -> Result<Span, Error> {
        if len == 0 || !(ipa.0 | len).is_multiple_of(PAGE_SIZE) {
            return Err(Error::Unaligned);
        }
        let end = ipa.0.checked_add(len).ok_or(Error::OutOfRange)?;
        if end > self.width.limit() {
            return Err(Error::OutOfRange);
        }
        Ok(Span { ipa: ipa.0, end })
    }

    /// The index of `ipa` in its table at `level`. At the root this goes on into the concatenated tables.
    fn index(&self, ipa: u64, level: u8) -> usize {
        let index = (ipa >> level_shift(level)) as usize;
        if level == ROOT_LEVEL { index % (ENTRIES * self.width.root_tables()) } else { index % ENTRIES }
    }

    /// Finds, making tables on the way, the table and level where the next leaf for `span` belongs.
    fn descend_for_map(
        &self,
        span: Span,
        offset: u64,
        memory: &mut impl TableMemory,
    ) -> Result<(Pa, u8), Error> {
        let mut table = self.root;
        for level in ROOT_LEVEL..=3 {
            let index = self.index(span.ipa, level);
            let entry = Entry::decode(memory.read(table, index), level);
            let aligned = (span.ipa | span.ipa.wrapping_add(offset)).is_multiple_of(level_size(level));
            match entry {
                Entry::Invalid if aligned && span.in_entry(level).is_whole_entry(level) => {
                    return Ok((table, level));
                }
                Entry::Invalid => {
                    let next = memory.allocate(1).ok_or(Error::NoMemory)?;
                    memory.write(table, index, Entry::Table(next).encode(level));
                    table = next;
                }
                Entry::Table(next) => table = next,
                Entry::Leaf(..) | Entry::Withheld(..) => return Err(Error::AlreadyMapped(Ipa(span.ipa))),
            }
        }
        // Level 3 has no tables, and a page-aligned span always fits a page.
        Err(Error::Unaligned)
    }

    /// Changes every entry of the range. The caller sees to the TLBs.
    fn update(
        &mut self,
        ipa: Ipa,
        len: u64,
        memory: &mut impl TableMemory,
        change: Change,
    ) -> Result<(), Error> {
        let Span { ipa: mut at, end } = self.check(ipa, len)?;
        // All that can fail comes first, and is undone if it does.
        if let Err(error) = self.split_at(at, memory).and_then(|()| self.split_at(end, memory)) {
            self.tidy(ipa, len, memory);
            return Err(error);
        }
        while at < end {
            let (_, level, table, mut index) = self.find_entry(at, memory);
            at &= !(level_size(level) - 1);
            // On through the table, up to one of a lower level.
            loop {
                let bits = memory.read(table, index);
                if is_table(bits, level) {
                    break;
                }
                let changed = change.apply(bits, level);
                if changed != bits {
                    memory.write(table, index, changed);
                }
                at += level_size(level);
                index += 1;
                if at >= end || index.is_multiple_of(ENTRIES) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that no block reaches across `ipa`.
    fn split_at(&self, ipa: u64, memory: &mut impl TableMemory) -> Result<(), Error> {
        if ipa >= self.width.limit() {
            return Ok(());
        }
        loop {
            let (entry, level, table, index) = self.find_entry(ipa, memory);
            let (pa, attributes, valid) = match entry {
                Entry::Leaf(pa, attributes) => (pa, attributes, true),
                Entry::Withheld(pa, attributes) => (pa, attributes, false),
                _ => return Ok(()),
            };
            let size = level_size(level);
            if ipa.is_multiple_of(size) {
                return Ok(());
            }
            let part = level_size(level + 1);
            let next = memory.allocate(1).ok_or(Error::NoMemory)?;
            let attributes = attributes.in_part_of(level);
            let entry = if valid { Entry::Leaf(pa, attributes) } else { Entry::Withheld(pa, attributes) };
            // Entries hold addresses as they are: the next one's is greater by its part.
            let mut bits = entry.encode(level + 1);
            for i in 0..ENTRIES {
                memory.write(next, i, bits);
                bits += part;
            }
            // Break before make.
            if valid {
                memory.write(table, index, 0);
                memory.synchronise(Ipa(ipa & !(size - 1)), size);
            }
            memory.write(table, index, Entry::Table(next).encode(level));
        }
    }

    /// Frees tables that hold nothing, and replaces those of a block that was split and is whole again, as
    /// far as they cover a part of the range. What was never one block does not become one, even if it could:
    /// what one call mapped could then not be unmapped without memory for a table, which somebody else's part
    /// of the block would have used up.
    fn tidy(&mut self, ipa: Ipa, len: u64, memory: &mut impl TableMemory) {
        for level in [2, 1] {
            let size = level_size(level);
            let mut at = ipa.0 & !(size - 1);
            while at < ipa.0 + len {
                self.tidy_entry(at, level, memory);
                at += size;
            }
        }
    }

    /// Does so for the table, if there is one, behind the entry for `ipa` at `level`.
    fn tidy_entry(&self, ipa: u64, level: u8, memory: &mut impl TableMemory) {
        let mut table = self.root;
        for above in ROOT_LEVEL..level {
            match Entry::decode(memory.read(table, self.index(ipa, above)), above) {
                Entry::Table(next) => table = next,
                _ => return,
            }
        }
        let index = self.index(ipa, level);
        let Entry::Table(lower) = Entry::decode(memory.read(table, index), level) else { return };
        let first = Entry::decode(memory.read(lower, 0), level + 1);
        let (size, part) = (level_size(level), level_size(level + 1));
        let whole = match first {
            Entry::Invalid => Entry::Invalid,
            Entry::Leaf(pa, attributes) if attributes.is_part_of(level) => {
                Entry::Leaf(pa, attributes.in_whole(level))
            }
            _ => return,
        };
        // As in `split_at`.
        let mut expected = first.encode(level + 1);
        let grows = if first == Entry::Invalid { 0 } else { part };
        for i in 1..ENTRIES {
            expected += grows;
            if memory.read(lower, i) != expected {
                return;
            }
        }
        // Break before make; the table itself may be cached too.
        memory.write(table, index, 0);
        memory.synchronise(Ipa(ipa), size);
        if whole != Entry::Invalid {
            memory.write(table, index, whole.encode(level));
            memory.synchronise(Ipa(ipa), 0);
        }
        memory.free(lower);
    }
}
