//! HPC and noise benchmarks without an operating system.
//!
//! * [`selfish`]: selfish-detour, how often and for how long something else than the loop had the core;
//! * [`stream`]: STREAM 5.10, memory bandwidth;
//! * [`random_access`]: HPCC RandomAccess, scattered updates of memory.
//!
//! They follow the rules of the originals, written anew, and verify their own results. Memory comes from the
//! caller, as slices; time comes from a [`Clock`], workers from a [`Team`]. So the same code runs on a
//! lightweight kernel, in a VM and on a host:
//!
//! ```
//! use hpc_kernels::{Clock, Serial, stream};
//! use std::time::Instant;
//!
//! struct Host(Instant);
//! impl Clock for Host {
//!     fn now(&self) -> u64 {
//!         self.0.elapsed().as_nanos() as u64
//!     }
//!     fn frequency_hz(&self) -> u64 {
//!         1_000_000_000
//!     }
//! }
//!
//! let mut memory = vec![0.0; 3 * 100_000];
//! let arrays = stream::split(&mut memory);
//! let report = stream::run(&Host(Instant::now()), &Serial, arrays, stream::NTIMES)?;
//! assert!(report.verified);
//! println!("{report}");
//! # Ok::<(), stream::StreamError>(())
//! ```
//!
//! Times are in ticks of the clock unless a name says otherwise.
#![no_std]
#![forbid(unsafe_code)]

mod clock;
pub mod random_access;
pub mod selfish;
pub mod stream;
mod team;

pub use clock::Clock;
pub use team::{MAX_WORKERS, Serial, Team, share};
