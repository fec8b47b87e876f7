//! Boot bundles of a partition manager, read and checked.
//!
//! A bundle is a cpio archive with a manifest and the files that the manifest names. [`Manifest::check`]
//! reads all of it and compares everything with everything else, so that after it nothing about the bundle
//! can fail any more:
//!
//! ```
//! use bundle::{MachineLimits, Manifest};
//!
//! fn boot(initrd: &[u8]) {
//!     match Manifest::check(initrd, &MachineLimits { memory: 1 << 30 }) {
//!         Ok(manifest) => {
//!             for vm in manifest.vms() {
//!                 println!("{}: {} bytes of kernel", vm.debug_name, vm.kernel.len());
//!             }
//!         }
//!         // One sentence: file, node, property, and what is wrong with it.
//!         Err(why) => println!("{why}"),
//!     }
//! }
//! # boot(b"no bundle at all");
//! ```
//!
//! * [`Archive`]: cpio archives, `newc` (with or without checksums) and the old binary form.
//! * [`Image`]: arm64 `Image` headers; kernels without one are flat binaries.
//! * [`Loading`]: where a secondary's kernel, ramdisk and device tree go, and what it finds in x0.
//! * [`Manifest`]: Hafnium's hypervisor manifest and FF-A partition manifests, with Margay's additions.
//!
//! Everything is input from outside: no input makes this crate panic, or allocate more than a few hundred
//! KiB. A checked manifest is small; names and files are views of the bundle's bytes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cpio;
mod error;
mod image;
mod limits;
mod loading;
pub mod manifest;
mod partition;
mod place;
mod printable;

pub use cpio::{Archive, ArchiveError, ArchiveProblem, Entry};
pub use error::{At, BundleError, Problem};
pub use image::{Image, ImageError, KernelFormat};
pub use loading::Loading;
pub use manifest::{Kind, MachineLimits, Manifest, VmSpec};
pub use partition::{DeviceRegion, MemoryRegion, Partition, Service};
pub use place::Cells;
