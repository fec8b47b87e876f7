//! The counter of Allwinner's A64, which glitches: `allwinner,erratum-unknown1` in the binding
//! `timer/arm,arch_timer.yaml`.
//!
//! When a carry goes through its low bits, a read may see some of them from before and some from after, up to
//! 2^11 ticks off, forward or backward. Nobody outside the company knows why, and it is seen only while bits
//! 8 to 0 are all ones or all zeroes; so a value with anything else there is valid.

/// The bits that show whether a value may be a glitch.
const LOW: u64 = 0x1ff;
/// How often to read again: the counter passes the two suspicious values in less than a tenth of a
/// microsecond.
const ATTEMPTS: u32 = 150;

/// Whether every counter read of this crate is worked around: the feature `allwinner`, for images that run on
/// such a machine. It costs three instructions for each read, which others do without.
pub const WORKED_AROUND: bool = cfg!(feature = "allwinner");

/// Returns whether a value that was read cannot be a glitch.
#[inline]
pub const fn is_settled(value: u64) -> bool {
    value.wrapping_add(1) & LOW > 1
}

/// A value of the counter that is no glitch.
///
/// ```
/// let mut reads = [0x1_0000_01ff, 0x1_0000_0000, 0x1_0000_0201].into_iter();
/// assert_eq!(vtimer::settled(|| reads.next().unwrap()), 0x1_0000_0201);
/// ```
pub fn settled(mut read: impl FnMut() -> u64) -> u64 {
    let mut value = read();
    for _ in 0..ATTEMPTS {
        if is_settled(value) {
            break;
        }
        value = read();
    }
    value
}

/// `value`, which has just been read, or what is read instead.
#[inline]
#[cfg_attr(not(any(target_arch = "aarch64", test)), expect(dead_code, reason = "there are no counters here"))]
pub(crate) fn checked(value: u64, read: impl FnMut() -> u64) -> u64 {
    if !WORKED_AROUND || is_settled(value) { value } else { settled(read) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// A counter at `now` that goes on by one for each read, and glitches as the A64's does.
    fn glitching(now: &Cell<u64>, off: u64) -> impl FnMut() -> u64 + '_ {
        move || {
            now.set(now.get() + 1);
            let true_value = now.get();
            // While the carry runs, the low bits are all ones or zeroes in what is seen, whatever is seen
            // above them.
            if is_settled(true_value) { true_value } else { true_value ^ (off & !LOW & 0x7ff) }
        }
    }

    proptest! {
        #[test]
        fn settled_values_are_valid_and_monotonic(start in 0..1_u64 << 40, off: u64) {
            let now = Cell::new(start);
            let mut last = 0;
            for _ in 0..2000 {
                let value = settled(glitching(&now, off));
                prop_assert_eq!(value, now.get());
                prop_assert!(value > last || last == 0);
                last = value;
            }
        }
    }

    #[test]
    fn does_not_wait_for_stopped_counter() {
        assert_eq!(settled(|| 0), 0);
    }

    #[test]
    fn reads_settled_value_once() {
        assert_eq!(checked(0x5a5, || panic!("read again")), 0x5a5);
        let suspicious = checked(0x1ff, || 0x203);
        assert_eq!(suspicious, if WORKED_AROUND { 0x203 } else { 0x1ff });
    }
}
