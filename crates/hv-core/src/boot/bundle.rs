//! The bundle, checked: what the rest of the boot asks of it cannot fail any more.

use super::fail;
use crate::{plan::PrimaryNeeds, report};
use ::bundle::{Image, MachineLimits, Manifest, VmSpec};
use alloc::vec::Vec;

/// A kernel to be loaded.
pub(super) struct Kernel<'a> {
    pub(super) bytes: &'a [u8],
    /// Distance of its first byte from a 2 MiB boundary.
    pub(super) text_offset: u64,
    /// Bytes of memory that it occupies, uninitialised data included.
    pub(super) memory_size: u64,
}

/// Files and manifest that fit each other and the machine.
pub(super) struct Bundle<'a> {
    manifest: Manifest<'a>,
    vms: Vec<VmSpec<'a>>,
}

/// What the primary's own tree may need beyond the machine's.
const TREE_GROWTH: u64 = 64 * 1024;

impl<'a> Bundle<'a> {
    /// Reads and checks the bundle; ends the boot if anything is wrong with it.
    pub(super) fn check(bytes: &'a [u8], memory: u64) -> Self {
        match Manifest::check(bytes, &MachineLimits { memory }) {
            Ok(manifest) => Self { manifest, vms: manifest.vms().collect() },
            Err(why) => fail!("{why}"),
        }
    }

    /// The primary.
    pub(super) fn primary(&self) -> &VmSpec<'a> {
        match self.vms.first() {
            Some(vm) => vm,
            None => fail!("the manifest has no primary VM"),
        }
    }

    /// All others.
    pub(super) fn secondaries(&self) -> &[VmSpec<'a>] {
        self.vms.get(1..).unwrap_or_default()
    }

    pub(super) fn kernel(&self, vm: &VmSpec<'a>) -> Kernel<'a> {
        let bytes = self.manifest.file(vm.kernel_filename);
        match Image::parse(bytes) {
            Ok(image) => Kernel { bytes, text_offset: image.text_offset, memory_size: image.memory_size },
            Err(why) => fail!("{}: {why}", vm.kernel_filename),
        }
    }

    pub(super) fn ramdisk(&self, vm: &VmSpec<'a>) -> Option<&'a [u8]> {
        Some(self.manifest.file(vm.ramdisk_filename?))
    }

    /// The device tree that the bundle brings for a VM. An FF-A partition manifest is not one.
    pub(super) fn tree(&self, vm: &VmSpec<'a>) -> Option<&'a [u8]> {
        let name = vm.fdt_filename.filter(|_| !vm.is_ffa_partition)?;
        Some(self.manifest.file(name))
    }

    /// What has to be placed in the primary's memory, on a machine whose tree has `tree` bytes.
    pub(super) fn primary_needs(&self, tree: usize) -> PrimaryNeeds {
        let vm = self.primary();
        let kernel = self.kernel(vm);
        PrimaryNeeds {
            text_offset: kernel.text_offset,
            image_size: kernel.memory_size,
            ramdisk: self.ramdisk(vm).map_or(0, |bytes| bytes.len() as u64),
            tree: tree as u64 + TREE_GROWTH,
        }
    }
}
