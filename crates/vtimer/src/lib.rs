//! The ARM generic timer: its channels behind one trait, exact conversion between ticks and nanoseconds, and
//! the virtual timer of a vCPU that is not running.
//!
//! * [`Timer`] is one channel of the calling core: [`PhysicalTimer`] (CNTP), [`VirtualTimer`] (CNTV) or
//!   [`HypervisorTimer`] (CNTHP, EL2 only). These exist on AArch64; a host test implements the trait itself.
//! * [`Frequency`] converts ticks to nanoseconds and back without 128-bit arithmetic and without overflow.
//! * [`settled`] reads a counter that glitches (Allwinner A64), and with the feature `allwinner` all readers
//!   here do so ([`WORKED_AROUND`]).
//! * [`TimerState`] is the saved state of a timer, and computes when it will fire.
//!
//! ```
//! use vtimer::{Frequency, Remaining, TimerState};
//!
//! let frequency = Frequency::from_hz(62_500_000).unwrap();
//! assert_eq!(frequency.ticks_to_ns(625), 10_000);
//!
//! // A vCPU whose virtual counter is 1000 ticks behind the physical one waits for its tick 5000.
//! let saved = TimerState { ctl: TimerState::ENABLE, cval: 5_000 };
//! assert_eq!(saved.remaining(4_000, 1_000), Remaining::Ticks(2_000));
//! assert_eq!(saved.remaining(6_000, 1_000), Remaining::Expired);
//! ```
//!
//! Source throughout: *Arm Architecture Reference Manual for A-profile* (DDI 0487), chapter D12 "The Generic
//! Timer in AArch64 state", cited as "Arm ARM".
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(any(target_arch = "aarch64", doc))]
mod channels;
mod erratum;
mod frequency;
mod state;

#[cfg(any(target_arch = "aarch64", doc))]
pub use channels::{
    HypervisorTimer, PhysicalTimer, VirtualTimer, frequency, physical_counter, virtual_counter,
};
pub use erratum::{WORKED_AROUND, is_settled, settled};
pub use frequency::Frequency;
pub use state::{Remaining, TimerState};

/// One timer channel of the calling core: a counter that all cores agree on, and a comparator that raises an
/// interrupt.
///
/// The interrupt is a level: it stays asserted until the deadline is moved or cancelled.
pub trait Timer {
    /// The counter, read no earlier than the instructions before (an `isb` keeps the read in its place: Arm
    /// ARM, D12.2 "The physical counter" and "The virtual counter").
    fn counter(&self) -> u64;

    /// Ticks of the counter in a second.
    fn frequency_hz(&self) -> u64;

    /// Raises the interrupt when the counter reaches `deadline`, or at once if it already has.
    fn set_deadline(&self, deadline: u64);

    /// Raises no interrupt any more.
    fn cancel(&self);

    /// Returns whether the deadline has been reached and not been cancelled.
    fn is_pending(&self) -> bool;
}
