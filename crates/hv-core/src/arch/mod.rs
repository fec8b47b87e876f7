//! The door to the processor. Everything that needs a system register or an instruction of its own is behind this
//! module; the rest of the crate is plain Rust and runs in host tests, where `host` stands in for the processor.

#[cfg(target_os = "none")]
mod aarch64;
#[cfg(target_os = "none")]
pub(crate) use aarch64::*;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
pub(crate) use host::*;
