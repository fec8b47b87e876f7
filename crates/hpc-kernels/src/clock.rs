//! Time.

/// Nanoseconds in a second.
const NANOSECONDS: u128 = 1_000_000_000;

/// A counter that all cores share, such as the generic timer's CNTVCT_EL0.
pub trait Clock {
    /// The counter, in ticks. Reads are in program order: on Arm with an ISB before the read.
    fn now(&self) -> u64;

    /// Ticks in a second.
    fn frequency_hz(&self) -> u64;

    /// A length of time in nanoseconds.
    fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * NANOSECONDS / u128::from(self.frequency_hz().max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// A length of time in seconds.
    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.frequency_hz() as f64
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> u64 {
        (**self).now()
    }

    fn frequency_hz(&self) -> u64 {
        (**self).frequency_hz()
    }
}
