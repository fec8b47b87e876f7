//! The clock: ticks of the counter, and what they are in nanoseconds.

use crate::{platform::platform, task};
use spin::Once;
use vtimer::Frequency;

static FREQUENCY: Once<Frequency> = Once::new();

/// Fixes the frequency: the device tree's if it corrects the register.
pub(crate) fn init(corrected: Option<u32>) -> bool {
    let corrected = corrected.and_then(|hz| Frequency::from_hz(u64::from(hz)));
    let Some(frequency) = corrected.or_else(vtimer::frequency) else { return false };
    FREQUENCY.call_once(|| frequency);
    true
}

/// The counter's frequency.
///
/// # Panics
/// Before the kernel has booted.
#[inline]
pub fn frequency() -> Frequency {
    *FREQUENCY.get().expect("the clock's frequency is known")
}

/// The counter now, read in program order.
#[inline]
pub fn ticks() -> u64 {
    platform().counter()
}

/// The virtual counter, read in program order: what applications measure with. It runs as fast as the counter
/// that deadlines are in, and reading it needs neither the platform nor an exit.
#[inline]
pub fn stopwatch() -> u64 {
    vtimer::virtual_counter()
}

/// The deadline that is at least `ns` nanoseconds from now.
pub fn after_ns(ns: u64) -> u64 {
    ticks().saturating_add(frequency().ns_to_ticks_up(ns))
}

/// Sleeps for at least `ms` milliseconds.
pub fn sleep_ms(ms: u64) {
    task::sleep_until(after_ns(ms.saturating_mul(1_000_000)));
}
