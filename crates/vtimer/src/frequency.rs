//! Ticks and nanoseconds.

/// Nanoseconds in a second.
const NS_PER_SECOND: u64 = 1_000_000_000;

/// The frequency of the system counter, never zero.
///
/// All conversions round towards zero and saturate at `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frequency(u64);

impl Frequency {
    /// A frequency in ticks per second: `CNTFRQ_EL0`, which is 32 bits wide. `None` for zero, which unset
    /// firmware leaves there, and for more than a register could hold.
    #[inline]
    pub const fn from_hz(hz: u64) -> Option<Self> {
        if hz == 0 || hz > u32::MAX as u64 { None } else { Some(Self(hz)) }
    }

    /// Ticks per second.
    #[inline]
    pub const fn hz(self) -> u64 {
        self.0
    }

    /// Converts ticks to nanoseconds.
    #[inline]
    pub const fn ticks_to_ns(self, ticks: u64) -> u64 {
        scale(ticks, NS_PER_SECOND, self.0)
    }

    /// Converts nanoseconds to whole ticks.
    #[inline]
    pub const fn ns_to_ticks(self, ns: u64) -> u64 {
        scale(ns, self.0, NS_PER_SECOND)
    }

    /// The fewest ticks that last at least `ns` nanoseconds: what to add to the counter so as not to wake too
    /// early.
    #[inline]
    pub const fn ns_to_ticks_up(self, ns: u64) -> u64 {
        let (whole, rest) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
        match whole.checked_mul(self.0) {
            Some(ticks) => ticks.saturating_add((rest * self.0).div_ceil(NS_PER_SECOND)),
            None => u64::MAX,
        }
    }
}

/// `value * to / from`, exact: whole seconds and the rest are scaled apart. The rest is below `from` and both
/// factors are below 2^32, so its product fits.
#[inline]
const fn scale(value: u64, to: u64, from: u64) -> u64 {
    let (whole, rest) = (value / from, value % from);
    match whole.checked_mul(to) {
        Some(scaled) => scaled.saturating_add(rest * to / from),
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clamp(value: u128) -> u64 {
        u64::try_from(value).unwrap_or(u64::MAX)
    }

    #[test]
    fn frequencies_of_the_boards() {
        // QEMU's `-cpu max`, its other cores, Raspberry Pi 3, Pine A64, Raspberry Pi 4.
        for (hz, ns_of_a_million) in [
            (1_000_000_000, 1_000_000),
            (62_500_000, 16_000_000),
            (19_200_000, 52_083_333),
            (24_000_000, 41_666_666),
            (54_000_000, 18_518_518),
        ] {
            assert_eq!(Frequency::from_hz(hz).unwrap().ticks_to_ns(1_000_000), ns_of_a_million);
        }
    }

    #[test]
    fn rejects_impossible_frequencies() {
        assert_eq!(Frequency::from_hz(0), None);
        assert_eq!(Frequency::from_hz(1 << 32), None);
        assert!(Frequency::from_hz(u64::from(u32::MAX)).is_some());
    }

    proptest! {
        #[test]
        fn conversions_equal_wide_arithmetic(hz in 1..=u64::from(u32::MAX), value: u64) {
            let f = Frequency::from_hz(hz).unwrap();
            let (wide, wide_hz, wide_ns) = (u128::from(value), u128::from(hz), u128::from(NS_PER_SECOND));
            prop_assert_eq!(f.ticks_to_ns(value), clamp(wide * wide_ns / wide_hz));
            prop_assert_eq!(f.ns_to_ticks(value), clamp(wide * wide_hz / wide_ns));
            prop_assert_eq!(f.ns_to_ticks_up(value), clamp((wide * wide_hz).div_ceil(wide_ns)));
        }

        #[test]
        fn wake_up_is_never_early(hz in 1..=u64::from(u32::MAX), ns in 0..u64::MAX / 8) {
            let f = Frequency::from_hz(hz).unwrap();
            prop_assert!(f.ticks_to_ns(f.ns_to_ticks_up(ns)) >= ns);
        }

        /// A deadline converted to nanoseconds and back is not before the original, unless ticks are shorter
        /// than those.
        #[test]
        fn deadlines_in_nanoseconds_are_not_early(hz in 1..=NS_PER_SECOND, ticks in 0..1_u64 << 62) {
            let f = Frequency::from_hz(hz).unwrap();
            let ns = f.ticks_to_ns(ticks);
            let again = f.ns_to_ticks_up(ns);
            prop_assert!(again >= ticks || ns == u64::MAX);
            prop_assert!(again <= ticks);
        }
    }
}
