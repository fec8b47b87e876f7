//! The only door to the processor.

mod aarch64;

pub use aarch64::*;
