//! Interrupt controllers of BCM2836 and BCM2837 for kernels and hypervisors.
//!
//! These controllers do not acknowledge, have no priorities, and treat every input as a level: what asserts
//! an interrupt is what has to be quieted. A timer is masked in its own control register or moved on, a
//! mailbox is emptied, and a device's interrupt is masked here until its driver has dealt with the device:
//!
//! ```no_run
//! use drivers_bcm2836::{Controller, Core, IPI};
//!
//! // SAFETY: BCM2837's controllers, identity-mapped as device memory.
//! static INTERRUPTS: Controller = unsafe { Controller::new(0x4000_0000, Some(0x3f00_b200)) };
//!
//! fn handle_interrupts(this: Core, mut handle: impl FnMut(u32)) {
//!     while let Some(number) = INTERRUPTS.next(this) {
//!         if number == IPI {
//!             INTERRUPTS.local().take_ipis(this);
//!         } else if number >= 32 {
//!             INTERRUPTS.disable(this, number); // until the device has been dealt with
//!         }
//!         handle(number); // a timer's handler moves the deadline on
//!     }
//! }
//! ```
//!
//! # Numbers
//!
//! 0 to 11 are the inputs of the local controller, by their bits in its source registers
//! ([`LocalInterrupt`]). 32 + 32 × bank + bit is an input of the legacy controller, with bank and bit as in
//! the device tree: bank 0 is the ARM's own, 1 and 2 are the GPU's.
//!
//! # Sharing between cores
//!
//! All changes are single writes, except those of a core's timer and mailbox controls, which only the core
//! itself makes. The legacy controller's interrupts all go to one core ([`Local::route_devices`]).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod armctrl;
mod controller;
pub mod local;
pub mod model;

pub use armctrl::Armctrl;
pub use controller::{Controller, IPI};
pub use local::{Core, Local, LocalInterrupt};
pub use mmio_block::{MmioBlock, Words as Mmio};
