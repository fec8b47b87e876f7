//! The bundle, checked: what the rest of the boot asks of it cannot fail any more.

use super::fail;
use crate::{plan::PrimaryNeeds, report};
use ::bundle::{DeviceRegion, Image, KernelFormat, Loading, MachineLimits, Manifest, MemoryRegion, VmSpec};
use alloc::vec::Vec;
use hv_abi::ids::VmId;

/// Files and manifest that fit each other and the machine.
pub(super) struct Bundle<'a> {
    manifest: Manifest<'a>,
    vms: Vec<VmSpec<'a>>,
    regions: Vec<(VmId, MemoryRegion<'a>)>,
    devices: Vec<(VmId, DeviceRegion<'a>)>,
}

/// What the primary's own tree may need beyond the machine's.
const TREE_GROWTH: u64 = 64 * 1024;

impl<'a> Bundle<'a> {
    /// Reads and checks the bundle; ends the boot if anything is wrong with it.
    pub(super) fn check(bytes: &'a [u8], memory: u64) -> Self {
        match Manifest::check(bytes, &MachineLimits { memory }) {
            Ok(manifest) => {
                let (regions, devices) = (Vec::new(), Vec::new());
                let mut this = Self { manifest, vms: manifest.vms().collect(), regions, devices };
                this.read_regions();
                this
            }
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

    /// The memory regions of the secondaries' partition manifests that `mem_size` does not cover.
    pub(super) fn regions(&self) -> &[(VmId, MemoryRegion<'a>)] {
        &self.regions
    }

    /// The registers that partition manifests ask for.
    pub(super) fn devices(&self) -> &[(VmId, DeviceRegion<'a>)] {
        &self.devices
    }

    /// The file with a VM's partition manifest.
    pub(super) fn file_of(&self, id: VmId) -> &'a str {
        let vm = self.vms.iter().find(|vm| vm.index == id.0);
        vm.and_then(|vm| vm.fdt_filename).unwrap_or_default()
    }

    #[inline(never)]
    fn read_regions(&mut self) {
        for vm in &self.vms {
            let (id, Some(partition)) = (VmId(vm.index), vm.partition) else { continue };
            for region in partition.memory_regions() {
                if vm.mem_size.is_some_and(|own| !region.is_within(own)) {
                    self.regions.push((id, region));
                }
            }
            self.devices.extend(partition.device_regions().map(|region| (id, region)));
        }
    }

    /// A VM's kernel, and what its header says.
    pub(super) fn kernel(&self, vm: &VmSpec<'a>) -> (&'a [u8], Image) {
        let bytes = self.manifest.file(vm.kernel_filename);
        match Image::parse(bytes) {
            Ok(image) => (bytes, image),
            Err(why) => fail!("{}: {why}", vm.kernel_filename),
        }
    }

    /// A secondary's kernel, and where it and all else goes in its memory.
    pub(super) fn loading(&self, vm: &VmSpec<'a>, memory: u64) -> (&'a [u8], Loading) {
        let (bytes, image) = self.kernel(vm);
        let length = |file: Option<&[u8]>| file.map(|file| file.len() as u64);
        (bytes, Loading::of(&image, memory, length(self.ramdisk(vm)), length(self.tree(vm))))
    }

    pub(super) fn ramdisk(&self, vm: &VmSpec<'a>) -> Option<&'a [u8]> {
        Some(self.manifest.file(vm.ramdisk_filename?))
    }

    /// The device tree that the bundle brings for a VM. An FF-A partition manifest is one only for a flat kernel.
    pub(super) fn tree(&self, vm: &VmSpec<'a>) -> Option<&'a [u8]> {
        let flat = || self.kernel(vm).1.format == KernelFormat::Flat;
        let name = vm.fdt_filename.filter(|_| !vm.is_ffa_partition || flat())?;
        Some(self.manifest.file(name))
    }

    /// What has to be placed in the primary's memory, on a machine whose tree has `tree` bytes.
    pub(super) fn primary_needs(&self, tree: usize) -> PrimaryNeeds {
        let vm = self.primary();
        let (_, image) = self.kernel(vm);
        PrimaryNeeds {
            text_offset: image.text_offset,
            image_size: image.memory_size,
            ramdisk: self.ramdisk(vm).map_or(0, |bytes| bytes.len() as u64),
            tree: tree as u64 + TREE_GROWTH,
        }
    }
}
