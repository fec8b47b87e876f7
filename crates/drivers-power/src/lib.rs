//! Power functions of machines without PSCI.
//!
//! * [`spin_table`]: starting the other cores, as Linux's arm64 boot protocol describes it
//!   (`Documentation/arch/arm64/booting.rst`, "the spin-table enable method").
//! * [`bcm2835`]: stopping and resetting a machine with a BCM2835 or one of its successors (Raspberry Pi).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod bcm2835;
pub mod spin_table;

pub use mmio_block::MmioBlock;
