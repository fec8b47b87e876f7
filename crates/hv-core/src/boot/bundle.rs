//! The bundle, checked: what the rest of the boot asks of it cannot fail any more.

use super::fail;
use crate::{plan::PrimaryNeeds, report};
use ::bundle::{DeviceRegion, MachineLimits, Manifest, MemoryRegion, VmSpec};
use alloc::vec::Vec;
use hv_abi::ids::VmId;

/// Files and manifest that fit each other and the machine.
pub(super) struct Bundle<'a> {
    manifest: Manifest<'a>,
    regions: Vec<(VmId, MemoryRegion<'a>)>,
    devices: Vec<(VmId, DeviceRegion<'a>)>,
}

/// What the primary's own tree may need beyond the machine's.
const TREE_GROWTH: u64 = 64 * 1024;

impl<'a> Bundle<'a> {
    /// Reads and checks the bundle; ends the boot if anything is wrong with it.
    #[inline(never)]
    pub(super) fn check(bytes: &'a [u8], memory: u64) -> Self {
        let manifest = match Manifest::check(bytes, &MachineLimits { memory }) {
            Ok(manifest) => manifest,
            Err(why) => fail!("{why}"),
        };
        let (mut regions, mut devices) = (Vec::new(), Vec::new());
        for vm in manifest.vms() {
            let (id, Some(partition)) = (VmId(vm.index), &vm.partition) else { continue };
            for region in &partition.memory_regions {
                if vm.mem_size.is_some_and(|own| !region.is_within(own)) {
                    regions.push((id, *region));
                }
            }
            for region in &partition.device_regions {
                devices.push((id, *region));
            }
        }
        Self { manifest, regions, devices }
    }

    /// All VMs, the primary first.
    pub(super) fn vms(&self) -> &[VmSpec<'a>] {
        self.manifest.vms()
    }

    /// Whether interrupts of devices come to the primary first.
    pub(super) fn forwards_interrupts(&self) -> bool {
        self.manifest.forwards_interrupts()
    }

    /// The primary.
    pub(super) fn primary(&self) -> &VmSpec<'a> {
        match self.vms().first() {
            Some(vm) => vm,
            None => fail!("the manifest has no primary VM"),
        }
    }

    /// All others.
    pub(super) fn secondaries(&self) -> &[VmSpec<'a>] {
        self.vms().get(1..).unwrap_or_default()
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
        let vm = self.vms().iter().find(|vm| vm.index == id.0);
        vm.and_then(|vm| vm.fdt_filename).unwrap_or_default()
    }

    /// What has to be placed in the primary's memory, on a machine whose tree has `tree` bytes.
    pub(super) fn primary_needs(&self, tree: usize) -> PrimaryNeeds {
        let vm = self.primary();
        PrimaryNeeds {
            text_offset: vm.image.text_offset,
            image_size: vm.image.memory_size,
            ramdisk: vm.ramdisk.map_or(0, |bytes| bytes.len() as u64),
            tree: tree as u64 + TREE_GROWTH,
        }
    }
}
