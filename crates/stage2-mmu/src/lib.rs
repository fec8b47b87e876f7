//! Stage-2 translation tables for AArch64, 4 KiB granule.
//!
//! A hypervisor gives each VM a [`Stage2`]: the tables that turn the VM's intermediate physical addresses
//! into physical ones. This crate builds and changes them, and does nothing else: memory for tables, access
//! to it and TLB maintenance come from the caller through [`TableMemory`], so that the very same code runs at
//! EL2, under a property test, and in a simulator.
//!
//! * Mappings use the largest blocks that alignment allows (1 GiB, 2 MiB, 4 KiB), to keep the walks that both
//!   stages multiply short.
//! * A block is split when a part of it changes, by break-before-make (Arm ARM, D8.16.1): the old entry is
//!   made invalid and its TLB entries are invalidated before the new one is written.
//! * A part of a VM's memory can be *withheld*: it is invalid for the VM, and what it was is kept in the
//!   entry itself, where the processor ignores it. Tables of blocks that were split and are whole again, and
//!   empty ones, are given back.
//! * What one call mapped can be unmapped without memory for tables: blocks never join what two calls mapped.
//! * The root may be several concatenated tables (Arm ARM, D8.2.2), so that 40-bit addresses need only three
//!   levels.
//!
//! With tables in host memory, which the feature `sim` provides (`stage2-mmu = { …, features = ["sim"] }`):
//!
//! ```
//! use stage2_mmu::{Access, Ipa, IpaWidth, MemoryType, Pa, Stage2, sim::SimTables};
//!
//! let mut memory = SimTables::new();
//! let mut tables = Stage2::new(IpaWidth::new(40).unwrap(), &mut memory).unwrap();
//! tables.map(Ipa(0x4000_0000), Pa(0x8000_0000), 0x20_0000, Access::RWX, MemoryType::Normal, &mut memory).unwrap();
//! assert_eq!(tables.walk(Ipa(0x4000_1234), &memory).map(|m| m.pa), Some(Pa(0x8000_1234)));
//! assert_eq!(tables.walk(Ipa(0x4020_0000), &memory), None);
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "sim"))]
extern crate std;

mod descriptor;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod tables;

pub use descriptor::{Access, MemoryType};
/// The addresses of this crate's interface.
pub use hv_abi::ids::{Ipa, Pa};
pub use tables::{Error, IpaWidth, Mapping, Room, Search, Stage2, TableMemory};

/// Bytes in a page: the smallest mapping.
pub const PAGE_SIZE: u64 = 4096;
/// Entries in a table.
pub const ENTRIES: usize = 512;
