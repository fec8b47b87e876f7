//! RAM as runs: in order, merged where ranges touch, refused where they overlap.
use crate::Region;
use core::fmt;

/// Why the ranges of the memory nodes cannot be used as RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamError {
    /// No memory node describes any RAM.
    None,
    /// Two descriptions share bytes: it cannot be known which of them is wrong.
    Overlap(Region, Region),
    /// There are more runs than the caller has room for, which is this many.
    TooMany(usize),
}

impl fmt::Display for RamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("the device tree describes no RAM"),
            Self::Overlap(a, b) => write!(f, "the device tree describes RAM twice: {a:?} and {b:?} overlap"),
            Self::TooMany(room) => {
                write!(
                    f,
                    "the device tree has more than {} ranges of memory",
                    plain_numbers::Dec(room as u64)
                )
            }
        }
    }
}

impl core::error::Error for RamError {}

/// Sorts and merges `ranges` into `runs`: afterwards no two runs touch. Ranges must not be empty.
#[inline(never)]
pub(crate) fn merge<'r>(
    ranges: &mut dyn Iterator<Item = Region>,
    runs: &'r mut [Region],
) -> Result<&'r [Region], RamError> {
    let mut len = 0;
    for range in ranges {
        let mut new = range;
        let mut at = 0;
        while let Some(&run) = runs[..len].get(at) {
            if run.overlaps(&range) {
                return Err(RamError::Overlap(run, range));
            }
            if run.end() == new.base || new.end() == run.base {
                // The larger run is put into its place below; it may touch the next one, too.
                new = Region { base: run.base.min(new.base), size: run.size + new.size };
                runs.copy_within(at + 1..len, at);
                len -= 1;
            } else if run.base < new.base {
                at += 1;
            } else {
                break;
            }
        }
        if len == runs.len() {
            return Err(RamError::TooMany(len));
        }
        runs.copy_within(at..len, at + 1);
        runs[at] = new;
        len += 1;
    }
    if len == 0 { Err(RamError::None) } else { Ok(&runs[..len]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{string::ToString, vec::Vec};

    fn region(base: u64, end: u64) -> Region {
        Region::new(base, end - base).unwrap()
    }

    fn merged(ranges: &[Region]) -> Result<Vec<Region>, RamError> {
        let mut runs = [Region::default(); 8];
        merge(&mut ranges.iter().copied(), &mut runs).map(<[Region]>::to_vec)
    }

    #[test]
    fn merges_touching_ranges_in_any_order() {
        let (a, b, c, d) = (region(0, 4), region(4, 8), region(8, 9), region(16, 20));
        for order in [[a, b, c, d], [d, c, b, a], [a, c, b, d], [c, d, a, b], [b, d, a, c]] {
            assert_eq!(merged(&order), Ok([region(0, 9), d].to_vec()));
        }
    }

    #[test]
    fn refuses_overlapping_missing_and_too_many_ranges() {
        let twice = merged(&[region(0, 2 << 20), region(1 << 20, 3 << 20)]).unwrap_err().to_string();
        assert_eq!(
            twice,
            "the device tree describes RAM twice: 0x0..0x200000 and 0x100000..0x300000 overlap"
        );
        assert!(matches!(merged(&[region(5, 9), region(5, 9)]), Err(RamError::Overlap(..))));
        assert!(matches!(merged(&[region(0, 2), region(4, 6), region(5, 9)]), Err(RamError::Overlap(..))));
        assert_eq!(merged(&[]).unwrap_err().to_string(), "the device tree describes no RAM");
        let many: Vec<_> = (0..9).map(|n| region(n * 2, n * 2 + 1)).collect();
        assert_eq!(
            merged(&many).unwrap_err().to_string(),
            "the device tree has more than 8 ranges of memory"
        );
    }

    proptest! {
        #[test]
        fn runs_hold_each_described_byte_once(
            ranges in prop::collection::vec((0..60u64, 1..12u64), 0..7)
        ) {
            let ranges: Vec<_> = ranges.iter().map(|&(base, size)| Region { base, size }).collect();
            let times = |byte| ranges.iter().filter(|range| range.contains(byte)).count();
            let twice = (0..80).any(|byte| times(byte) > 1);
            match merged(&ranges) {
                Ok(runs) => {
                    prop_assert!(!twice);
                    prop_assert!(runs.is_sorted_by(|a, b| a.end() < b.base));
                    for byte in 0..80 {
                        prop_assert_eq!(runs.iter().filter(|run| run.contains(byte)).count(), times(byte));
                    }
                }
                Err(RamError::Overlap(..)) => prop_assert!(twice),
                Err(RamError::None) => prop_assert!(ranges.is_empty()),
                Err(why) => prop_assert!(false, "{}", why),
            }
        }
    }
}
