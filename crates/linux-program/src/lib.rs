//! What a kernel needs to start an unmodified static AArch64 Linux program, and to talk about it.
//!
//! Programs of C, C++, Fortran or Rust, of any C library, `ET_EXEC` or static PIE, straight from a compiler:
//!
//! ```
//! use linux_program::{Hwcaps, InitialStack, Limits, Program, UserAddr, UserRange, vdso};
//!
//! fn start(file: &[u8], stack: &mut [u8]) -> Result<(UserAddr, UserAddr), String> {
//!     let addresses = UserRange { start: UserAddr::new(0x1_0000), end: UserAddr::new(1 << 47) };
//!     let limits = Limits { addresses, memory: 64 << 20 };
//!     let program = Program::parse(file).map_err(|why| format!("a.out {why}"))?;
//!     let placed = program.place(UserAddr::new(1 << 32), &limits).map_err(|why| format!("a.out {why}"))?;
//!     for segment in placed.segments() {
//!         // Map `segment.pages` with `segment.access`, zero them, copy `segment.contents` to `segment.range.start`.
//!     }
//!     let first = InitialStack {
//!         arguments: [&b"a.out"[..], b"--verbose"].into_iter(),
//!         environment: [&b"OMP_NUM_THREADS=4"[..]].into_iter(),
//!         file_name: b"a.out",
//!         program: &placed,
//!         random: [4; 16],
//!         hwcaps: Hwcaps::default(),
//!         credentials: Default::default(),
//!         vdso: None,
//!         min_signal_stack: linux_program::MIN_SIGNAL_STACK,
//!         restartable: false,
//!     };
//!     let stack_pointer = first.write(UserAddr::new(1 << 46), stack).map_err(|why| why.to_string())?;
//!     Ok((placed.entry(), stack_pointer))
//! }
//! assert_eq!(start(b"#!/bin/sh", &mut [0; 8192]), Err("a.out is not an ELF file".into()));
//! ```
//!
//! * [`Program`], [`Placed`]: ELF files, checked; pages of 4 KiB, never both writable and executable.
//! * [`Symbols`]: the function around an address.
//! * [`InitialStack`]: arguments, environment and auxiliary vector.
//! * [`hwcap`]: what the processor can do, from its identification registers.
//! * [`vdso`]: the shared object with the clock, and the page it reads.
//!
//! No input makes this crate panic, and nothing is allocated: what it returns are views of the file's bytes.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod address;
mod auxv;
pub mod cpuid;
mod error;
pub mod hwcap;
mod program;
mod property;
pub mod rseq;
mod stack;
mod symbols;
pub mod vdso;

pub use address::{PAGE, UserAddr, UserRange};
pub use auxv::AuxType;
pub use error::{ElfError, SegmentProblem};
pub use hwcap::Hwcaps;
pub use program::{
    Access, HEADER_SIZE, Kind, Limits, MAX_HEADERS, Placed, Program, Segment, StackRequest, Tls,
};
pub use stack::{ALIGNMENT, Credentials, InitialStack, MIN_SIGNAL_STACK, StackError};
pub use symbols::{Place, Symbols};
