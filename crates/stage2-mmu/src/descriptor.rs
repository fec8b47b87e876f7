//! Stage-2 descriptors (Arm ARM, D8.3, "VMSAv8-64 translation table format descriptors").

use hv_abi::ids::Pa;

/// Access rights of a VM to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Loads, and translation table walks.
    pub read: bool,
    /// Stores.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

impl Access {
    /// Everything: a VM's own memory.
    pub const RWX: Self = Self { read: true, write: true, execute: true };
    /// Data only.
    pub const RW: Self = Self { read: true, write: true, execute: false };
    /// Read-only data.
    pub const R: Self = Self { read: true, write: false, execute: false };
}

/// What kind of memory is behind a page. The stage-1 attribute that a VM chooses is combined with it, and the
/// more restrictive one wins (Arm ARM, D8.6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// RAM: Normal, write-back cacheable, inner shareable.
    Normal,
    /// Device registers: Device-nGnRE.
    Device,
}

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ACCESS_FLAG: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const EXECUTE_NEVER: u64 = 0b10 << 53;
/// One of the bits that the processor leaves to software: the entry is a part of a block of 2 MiB that was
/// split. The bit above it: of 1 GiB.
const PART_OF_2_MIB: u64 = 1 << 55;
const MEMATTR_NORMAL_WB: u64 = 0b1111 << 2;
const MEMATTR_DEVICE_NGNRE: u64 = 0b0001 << 2;
const MEMATTR_MASK: u64 = 0b1111 << 2;

/// What an entry of a table at a given level says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Invalid,
    /// A leaf that has been taken away for a time. The processor sees an invalid entry and ignores the rest
    /// of it (Arm ARM, D8.3.1); what it was is kept there.
    Withheld(Pa, Attributes),
    Table(Pa),
    /// A block (levels 1 and 2) or page (level 3): its output address and attribute bits.
    Leaf(Pa, Attributes),
}

/// The attribute bits of a leaf, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes(u64);

impl Attributes {
    pub(crate) fn new(access: Access, kind: MemoryType) -> Self {
        let mut bits = ACCESS_FLAG | INNER_SHAREABLE;
        bits |= match kind {
            MemoryType::Normal => MEMATTR_NORMAL_WB,
            MemoryType::Device => MEMATTR_DEVICE_NGNRE,
        };
        if access.read {
            bits |= S2AP_READ;
        }
        if access.write {
            bits |= S2AP_WRITE;
        }
        if !access.execute {
            bits |= EXECUTE_NEVER;
        }
        Self(bits)
    }

    const fn part_bit(level: u8) -> u64 {
        if level == 1 { PART_OF_2_MIB << 1 } else { PART_OF_2_MIB }
    }

    /// For the parts of a block at `level` that has these.
    pub(crate) const fn in_part_of(self, level: u8) -> Self {
        Self(self.0 | Self::part_bit(level))
    }

    /// Returns whether they are those of a part of a block at `level`.
    pub(crate) const fn is_part_of(self, level: u8) -> bool {
        self.0 & Self::part_bit(level) != 0
    }

    /// For the block at `level` whose parts have these.
    pub(crate) const fn in_whole(self, level: u8) -> Self {
        Self(self.0 & !Self::part_bit(level))
    }

    pub(crate) fn access(self) -> Access {
        Access {
            read: self.0 & S2AP_READ != 0,
            write: self.0 & S2AP_WRITE != 0,
            execute: self.0 & EXECUTE_NEVER == 0,
        }
    }

    pub(crate) fn memory_type(self) -> MemoryType {
        if self.0 & MEMATTR_MASK == MEMATTR_NORMAL_WB { MemoryType::Normal } else { MemoryType::Device }
    }
}

/// What happens to the entries of a range, as they stand in memory: there are many, so they are not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Leaves, and what is withheld, become invalid.
    Remove,
    /// Leaves are withheld.
    Withhold,
    /// What is withheld becomes leaves again.
    Restore,
}

impl Change {
    /// What becomes of an entry at `level` that refers to no table.
    pub(crate) const fn apply(self, bits: u64, level: u8) -> u64 {
        match self {
            Self::Remove => 0,
            Self::Withhold => bits & !(VALID | TABLE_OR_PAGE),
            Self::Restore if bits & VALID == 0 && bits != 0 => {
                bits | VALID | if level == 3 { TABLE_OR_PAGE } else { 0 }
            }
            Self::Restore => bits,
        }
    }
}

/// Returns whether an entry at `level` refers to a table.
pub(crate) const fn is_table(bits: u64, level: u8) -> bool {
    level < 3 && bits & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE
}

impl Entry {
    pub(crate) fn decode(bits: u64, level: u8) -> Self {
        let address = Pa(bits & ADDRESS);
        let attributes = Attributes(bits & !ADDRESS & !(VALID | TABLE_OR_PAGE));
        if bits & VALID == 0 {
            return if bits == 0 { Self::Invalid } else { Self::Withheld(address, attributes) };
        }
        match (level, bits & TABLE_OR_PAGE != 0) {
            (3, true) | (1 | 2, false) => Self::Leaf(address, attributes),
            (0..=2, true) => Self::Table(address),
            _ => Self::Invalid,
        }
    }

    pub(crate) fn encode(self, level: u8) -> u64 {
        match self {
            Self::Invalid => 0,
            // Never zero: every leaf has the access flag.
            Self::Withheld(pa, Attributes(bits)) => pa.0 | bits,
            Self::Table(pa) => pa.0 | TABLE_OR_PAGE | VALID,
            Self::Leaf(pa, Attributes(bits)) => {
                pa.0 | bits | VALID | if level == 3 { TABLE_OR_PAGE } else { 0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_changes_of_entries() {
        let attributes = Attributes::new(Access::RWX, MemoryType::Normal);
        for (level, size) in [(1, 1 << 30), (2, 2 << 20), (3, 4096)] {
            let (leaf, withheld) = (Entry::Leaf(Pa(size), attributes), Entry::Withheld(Pa(size), attributes));
            let apply =
                |change: Change, entry: Entry| Entry::decode(change.apply(entry.encode(level), level), level);
            for entry in [leaf, withheld, Entry::Invalid] {
                assert_eq!(apply(Change::Remove, entry), Entry::Invalid);
                assert!(!is_table(entry.encode(level), level));
            }
            assert_eq!(
                [leaf, withheld, Entry::Invalid].map(|e| apply(Change::Withhold, e)),
                [withheld, withheld, Entry::Invalid]
            );
            assert_eq!(
                [leaf, withheld, Entry::Invalid].map(|e| apply(Change::Restore, e)),
                [leaf, leaf, Entry::Invalid]
            );
        }
        assert!(
            is_table(Entry::Table(Pa(4096)).encode(1), 1) && is_table(Entry::Table(Pa(4096)).encode(2), 2)
        );
    }
}
