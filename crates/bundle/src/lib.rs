//! Boot bundles of a partition manager, read and checked.
#![no_std]
#![forbid(unsafe_code)]

mod cpio;
mod image;
pub mod manifest;

pub use cpio::{Archive, ArchiveError};
pub use image::{Image, ImageError};
pub use manifest::{BundleError, MachineLimits, Manifest, VmSpec};
