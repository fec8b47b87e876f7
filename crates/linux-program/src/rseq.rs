//! Restartable sequences (Linux' `uapi/linux/rseq.h`): what a thread registers, and its critical sections.
//!
//! A thread names a few instructions that end with one store, the commit. If something else has its core
//! before that, or a handler runs, it goes on at another place, and begins again.

/// Bytes of `struct rseq` when it was new: what C libraries register that ask no further.
pub const ORIGINAL_SIZE: u32 = 32;
/// `AT_RSEQ_FEATURE_SIZE`: up to the end of `mm_cid`.
pub const FEATURE_SIZE: u32 = 28;
/// `AT_RSEQ_ALIGN`.
pub const ALIGNMENT: u64 = 32;
/// `cpu_id` of a thread that is not registered any more.
pub const UNINITIALIZED: u32 = u32::MAX;
/// Offset of `rseq_cs`.
pub const SECTION_AT: u64 = 8;
/// Offset of `flags`, `node_id` and `mm_cid`.
pub const FLAGS_AT: u64 = 16;

/// Returns whether an area can be registered.
pub const fn is_area(address: u64, length: u32) -> bool {
    length >= ORIGINAL_SIZE && address.is_multiple_of(ALIGNMENT)
}

/// `struct rseq_cs`: a critical section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriticalSection {
    /// The first instruction.
    pub start: u64,
    /// Bytes from there up to the end of the one that commits.
    pub length: u64,
    /// Where to go on if it does not get there; the signature is in front of it.
    pub abort: u64,
    /// Flags; none are supported any more.
    pub flags: u32,
}

impl CriticalSection {
    /// Parses a critical section from memory; `None` if it is invalid or goes beyond `limit`.
    pub fn new([head, start, length, abort]: [u64; 4], limit: u64) -> Option<Self> {
        let (version, flags) = (head as u32, (head >> 32) as u32);
        let end = start.checked_add(length)?;
        let section = Self { start, length, abort, flags };
        // Whoever aborts must have left it.
        let sane = version == 0 && start < limit && end < limit && abort < limit && !section.contains(abort);
        sane.then_some(section)
    }

    /// Returns whether a program counter is in it.
    pub const fn contains(&self, pc: u64) -> bool {
        pc.wrapping_sub(self.start) < self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 48;

    #[test]
    fn an_area_is_aligned_and_large_enough() {
        assert!(is_area(64, 32) && is_area(32, 33) && is_area(0x1000, 4096));
        assert!(!is_area(16, 32) && !is_area(32, 28) && !is_area(32, 0) && !is_area(48, 64));
    }

    #[test]
    fn section_ends_after_commit() {
        let section = CriticalSection::new([0, 0x1000, 16, 0x2000], LIMIT).unwrap();
        assert!(section.contains(0x1000) && section.contains(0x100c));
        assert!(!section.contains(0x1010) && !section.contains(0xffc) && !section.contains(0x2000));
        assert_eq!(CriticalSection::new([7 << 32, 0x1000, 16, 0x2000], LIMIT).unwrap().flags, 7);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |words| CriticalSection::new(words, LIMIT).is_none();
        assert!(refused([1, 0x1000, 16, 0x2000]), "another version");
        assert!(refused([0, 0x1000, u64::MAX, 0x2000]), "an end before the start");
        assert!(refused([0, LIMIT, 16, 0x2000]) && refused([0, LIMIT - 8, 8, 0x2000]));
        assert!(refused([0, 0x1000, 16, LIMIT]) && refused([0, 0x1000, LIMIT, 0x2000]));
        assert!(refused([0, 0x1000, 16, 0x1000]) && refused([0, 0x1000, 16, 0x100c]));
        assert!(!refused([0, 0x1000, 16, 0x1010]) && !refused([0, 0x1000, 0, 0x1000]));
    }
}
