//! The clock that programs and the kernel share: counter ticks to nanoseconds.

use crate::address::PAGE;

/// Data of the vDSO's clock: the page before the vDSO, readable by the program, writable by the kernel.
///
/// Monotonic time is `(CNTVCT_EL0 - counter_base) * multiplier >> shift`, with a product of 128 bits; real
/// time is `realtime_offset` more. [`Clock::encode`] writes it; all but `realtime_offset` stays as it is
/// while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The counter when monotonic time was 0: usually at boot.
    pub counter_base: u64,
    /// Nanoseconds a tick, times 2^`shift`.
    pub multiplier: u64,
    /// 1 to 63.
    pub shift: u64,
    /// Nanoseconds from the beginning of 1970 to the monotonic clock's 0.
    pub realtime_offset: u64,
    /// 1 if programs can read the counter themselves, 0 if they are to ask the kernel.
    pub readable: u64,
}

const NANOSECONDS: u128 = 1_000_000_000;

impl Clock {
    /// Bytes of it at the beginning of its page.
    pub const SIZE: usize = 40;
    /// Offset of `realtime_offset` in its page: one aligned word, so that the kernel can set the time with
    /// one store.
    pub const REALTIME_OFFSET_AT: usize = 24;

    /// The clock of a counter with this many ticks a second (`CNTFRQ_EL0`), 1 to 2^32 Hz, since
    /// `counter_base`.
    ///
    /// The multiplier has 60 bits or more, so that after a century the clock differs by less than 3 ns from
    /// the exact quotient; and a quotient that is a whole number comes out exactly.
    ///
    /// # Panics
    /// If the frequency is 0, or above 2^32 Hz.
    pub const fn new(counter_base: u64, frequency: u64, realtime_offset: u64) -> Self {
        assert!(frequency >= 1 && frequency <= 1 << 32, "a counter has between 1 and 2^32 ticks a second");
        let mut shift = 63;
        // Rounded up: rounded down, each second would begin a nanosecond late.
        while ((NANOSECONDS << shift).div_ceil(frequency as u128)) >> 64 != 0 {
            shift -= 1;
        }
        let multiplier = (NANOSECONDS << shift).div_ceil(frequency as u128) as u64;
        Self { counter_base, multiplier, shift, realtime_offset, readable: 1 }
    }

    /// Monotonic time when the counter is at `counter`, in nanoseconds: the same that a program computes.
    pub const fn nanoseconds(&self, counter: u64) -> u64 {
        let ticks = counter.wrapping_sub(self.counter_base) as u128;
        ((ticks * self.multiplier as u128) >> self.shift) as u64
    }

    /// Returns the bytes of the page.
    pub const fn encode(&self) -> [u8; Self::SIZE] {
        let words = [self.counter_base, self.multiplier, self.shift, self.realtime_offset, self.readable];
        let mut bytes = [0; Self::SIZE];
        let mut at = 0;
        while at < Self::SIZE {
            bytes[at] = words[at / 8].to_le_bytes()[at % 8];
            at += 1;
        }
        bytes
    }
}

const _: () = assert!(Clock::SIZE <= PAGE as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR: u128 = 31_557_600;

    #[test]
    fn common_counters_are_exact() {
        for frequency in [1_000_000_000_u64, 62_500_000, 100_000_000, 25_000_000, 50_000_000] {
            let clock = Clock::new(0, frequency, 0);
            let tick = 1_000_000_000 / frequency;
            for ticks in [0, 1, 7, frequency - 1, frequency, frequency * 86_400, u64::MAX / tick / 4] {
                assert_eq!(clock.nanoseconds(ticks), ticks * tick, "{frequency} Hz, {ticks} ticks");
            }
        }
    }

    #[test]
    fn seconds_begin_on_time() {
        for frequency in [19_200_000, 24_000_000, 54_000_000, 31_250_000, 38_400_000] {
            let clock = Clock::new(0, frequency, 0);
            for seconds in [1, 60, 86_400, YEAR as u64] {
                assert_eq!(clock.nanoseconds(frequency * seconds), seconds * 1_000_000_000, "{frequency} Hz");
            }
        }
    }

    #[test]
    fn counts_from_its_base() {
        let clock = Clock::new(1000, 62_500_000, 5);
        assert_eq!(clock.nanoseconds(1000), 0);
        assert_eq!(clock.nanoseconds(1002), 32);
    }

    proptest! {
        #[test]
        fn within_three_nanoseconds_for_a_century(frequency in 1..=1_u64 << 32, part in 0.0..=1.0_f64) {
            let clock = Clock::new(0, frequency, 0);
            prop_assert!((1..=63).contains(&clock.shift));
            let ticks = ((u128::from(frequency) * 100 * YEAR) as f64 * part) as u64;
            let exact = u128::from(ticks) * NANOSECONDS / u128::from(frequency);
            let error = u128::from(clock.nanoseconds(ticks)).checked_sub(exact);
            prop_assert!(error.is_some_and(|error| error < 3), "{error:?}");
        }
    }
}
