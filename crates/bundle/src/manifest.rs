//! Manifests, in the device-tree format of Hafnium's hypervisor manifest, with Margay's additions.
//!
//! ```text
//! / {
//!     hypervisor {
//!         compatible = "hafnium,hafnium";
//!         vm1 { debug_name = "sched"; kernel_filename = "sched.img"; };
//!         vm2 { debug_name = "compute"; kernel_filename = "guest.img"; vcpu_count = <2>; mem_size = <0x8000000>;
//!               margay,bootargs = "workload=stream"; };
//!     };
//! };
//! ```
//! vm1 is the primary: it gets all cores and all remaining memory. A VM with `is_ffa_partition` has an FF-A partition
//! manifest (`arm,ffa-manifest-1.x`) in its `fdt_filename`. Numbers have one or two cells. Properties that are neither
//! Hafnium's nor Margay's are ignored, except that an unknown one with the prefix `margay,` is a mistake.

use crate::{
    Archive, Image, KernelFormat, Loading,
    error::{At, BundleError, Problem},
    partition::{self, Partition},
    place::{Cells, Place, Result},
};
use devtree::{Node, Tree};
use hv_abi::{ids::VmId, layout};

/// The name of the manifest's file.
pub const MANIFEST_FILE: &str = "manifest.dtb";
/// Most VMs in a manifest: the primary, 64 secondaries, and one more that owns devices.
pub const MAX_VMS: u16 = 66;
/// Most vCPUs of one VM.
pub const MAX_VCPUS: u32 = 512;
/// Most vCPUs of all secondaries together.
pub const MAX_ALL_VCPUS: u32 = 1024;
/// Longest name of a VM, in bytes.
pub const MAX_NAME: usize = 31;
/// The most memory that a VM can have, in bytes.
pub(crate) const MAX_MEMORY: u64 = 1 << 40;

/// Margay's own properties of a VM node; everything else with its prefix is a mistake.
const OWN_PROPERTIES: [&str; 2] = ["margay,bootargs", "margay,kind"];
const OWN_PREFIX: &str = "margay,";
const VM_PREFIX: &str = "vm";

/// What the machine offers.
#[derive(Clone, Copy, Debug)]
pub struct MachineLimits {
    /// Bytes of memory.
    pub memory: u64,
}

/// What a VM may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// vm1: schedules all others, and owns what is nobody else's.
    Primary,
    /// vm2, if it says so (`margay,kind = "super-secondary"`): has the devices.
    SuperSecondary,
    /// All others.
    Secondary,
}

/// A VM of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct VmSpec<'a> {
    /// Its FF-A id: the number in its node's name.
    pub index: u16,
    /// What it may do.
    pub kind: Kind,
    /// Its name for people.
    pub debug_name: &'a str,
    /// The file with its kernel.
    pub kernel_filename: &'a str,
    /// The file with its ramdisk.
    pub ramdisk_filename: Option<&'a str>,
    /// The file with its device tree, or, for an FF-A partition, its partition manifest.
    pub fdt_filename: Option<&'a str>,
    /// How many vCPUs; 0 for the primary, which has as many as the machine has cores.
    pub vcpu_count: u32,
    /// Bytes of memory; `None` for the primary, which has all that is left.
    pub mem_size: Option<u64>,
    /// The kernel command line, for a device tree that the hypervisor makes.
    pub bootargs: Option<&'a str>,
    /// The SMC function ids that it may use.
    pub smc_whitelist: Cells<'a>,
    /// Whether calls outside of `smc_whitelist` are let through as well.
    pub smc_whitelist_permissive: bool,
    /// Whether it has an FF-A partition manifest.
    pub is_ffa_partition: bool,
    /// Its partition manifest.
    pub partition: Option<Partition<'a>>,
}

impl VmSpec<'_> {
    /// Its UUID, from the partition manifest; all zero if there is none.
    pub fn uuid(&self) -> [u32; 4] {
        self.partition.map_or([0; 4], |partition| partition.uuid())
    }

    fn is_primary(&self) -> bool {
        self.kind == Kind::Primary
    }
}

/// A manifest that fits its archive and its machine.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    archive: Archive<'a>,
    hypervisor: Node<'a>,
    ffa_tee_enabled: bool,
}

impl<'a> Manifest<'a> {
    /// Reads the bundle and checks everything that can be wrong with it on this machine.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`BundleError`].
    pub fn check(bytes: &'a [u8], limits: &MachineLimits) -> Result<'a, Self> {
        let archive = Archive::new(bytes).map_err(BundleError::Archive)?;
        let file = archive.find(MANIFEST_FILE).ok_or(BundleError::NoManifest)?;
        let root = tree(MANIFEST_FILE, file)?.root();
        let node = |node, why| BundleError::Node { file: MANIFEST_FILE, node, why };
        let hypervisor = root.child("hypervisor");
        let hypervisor = hypervisor.ok_or(node("/hypervisor", "missing"))?;
        let place = Place { file: MANIFEST_FILE, at: At::Hypervisor, node: hypervisor };
        if !place.is_compatible("hafnium,hafnium") {
            return Err(node("/hypervisor", "compatible is not \"hafnium,hafnium\""));
        }
        check_own_properties(place, &[])?;
        check_numbering(hypervisor)?;
        let manifest = Self { archive, hypervisor, ffa_tee_enabled: place.flag("ffa_tee_enabled")? };
        manifest.check_vms(*limits)?;
        Ok(manifest)
    }

    /// The VMs, the primary first.
    pub fn vms(&self) -> impl Iterator<Item = VmSpec<'a>> + use<'a> {
        let manifest = *self;
        (1..=MAX_VMS).map_while(move |vm| manifest.read(manifest.place(vm)?, vm).ok())
    }

    /// The file that a VM names, which the check has found.
    pub fn file(&self, name: &str) -> &'a [u8] {
        self.archive.find(name).unwrap_or_default()
    }

    /// The archive that the manifest came in.
    pub fn archive(&self) -> Archive<'a> {
        self.archive
    }

    /// Whether the VMs may share memory with the secure world.
    pub fn ffa_tee_enabled(&self) -> bool {
        self.ffa_tee_enabled
    }

    fn place(&self, vm: u16) -> Option<Place<'a>> {
        let mut nodes = self.hypervisor.children();
        let node = nodes.find(|child| numbered(child.name()) == Some(vm.into()))?;
        Some(Place { file: MANIFEST_FILE, at: At::Vm(vm), node })
    }

    fn check_vms(&self, limits: MachineLimits) -> Result<'a, ()> {
        let (mut memory, mut vcpus) = (0u64, 0u64);
        for vm in 1..=MAX_VMS {
            let Some(place) = self.place(vm) else { break };
            let spec = self.read(place, vm)?;
            self.check_vm(place, &spec)?;
            let needed = self.check_files(place, &spec)?;
            let property = if spec.is_primary() { "kernel_filename" } else { "mem_size" };
            memory = memory.saturating_add(spec.mem_size.unwrap_or(needed));
            if let (Some(bytes), Some(partition)) = (spec.mem_size, &spec.partition) {
                let regions = partition.memory_regions().filter(|region| !region.is_within(bytes));
                memory = regions.fold(memory, |all, region| all.saturating_add(region.bytes));
            }
            if memory > limits.memory {
                let problem = Problem::TooMuch { wanted: memory, available: limits.memory };
                return Err(place.error(property, problem));
            }
            vcpus += u64::from(spec.vcpu_count);
            if vcpus > MAX_ALL_VCPUS.into() {
                let problem = Problem::Range { value: vcpus, min: 1, max: MAX_ALL_VCPUS.into() };
                return Err(place.error("vcpu_count", problem));
            }
        }
        Ok(())
    }

    /// Reads a VM's node, and its partition manifest.
    fn read(&self, place: Place<'a>, vm: u16) -> Result<'a, VmSpec<'a>> {
        let kind = if vm == 1 { Kind::Primary } else { Kind::Secondary };
        let debug_name = place.missing("debug_name", place.text("debug_name")?)?;
        let kernel_filename = place.missing("kernel_filename", place.text("kernel_filename")?)?;
        let mut spec = VmSpec {
            index: vm,
            kind,
            debug_name,
            kernel_filename,
            ramdisk_filename: place.text("ramdisk_filename")?,
            fdt_filename: place.text("fdt_filename")?,
            vcpu_count: 0,
            mem_size: None,
            bootargs: place.text("margay,bootargs")?,
            smc_whitelist: place.cells("smc_whitelist")?,
            smc_whitelist_permissive: place.flag("smc_whitelist_permissive")?,
            is_ffa_partition: place.flag("is_ffa_partition")?,
            partition: None,
        };
        if place.text("margay,kind")? == Some("super-secondary") && !spec.is_primary() {
            if vm != VmId::SUPER_SECONDARY.0 {
                return Err(place.error("margay,kind", Problem::NotAllowed));
            }
            spec.kind = Kind::SuperSecondary;
        }
        if !spec.is_primary() {
            let vcpus = place.missing("vcpu_count", place.ranged("vcpu_count", 1, MAX_VCPUS.into())?)?;
            let bytes = place.missing("mem_size", place.ranged("mem_size", 1, MAX_MEMORY)?)?;
            spec.vcpu_count = vcpus as u32;
            // Hafnium rounds it up, too.
            spec.mem_size = Some(bytes.next_multiple_of(layout::PAGE));
        }
        if spec.is_ffa_partition {
            let name = place.missing("fdt_filename", spec.fdt_filename)?;
            let root = tree(name, self.named(place, "fdt_filename", name)?)?.root();
            // A bad kernel is told of by the check that follows.
            let image = self.archive.find(kernel_filename).and_then(|file| Image::parse(file).ok());
            let kernel = image.map_or(0, |image| Loading::of(&image, 0, None, None).kernel);
            spec.partition = Some(partition::read(name, root, &spec, layout::RAM_BASE + kernel)?);
        }
        Ok(spec)
    }

    /// Checks what a VM's node says, for itself and against the VMs before it.
    fn check_vm(&self, place: Place<'a>, spec: &VmSpec<'a>) -> Result<'a, ()> {
        check_own_properties(place, &OWN_PROPERTIES)?;
        if place.flag("hyp_loaded")? && !spec.is_ffa_partition {
            return Err(place.error("hyp_loaded", Problem::NotAllowed));
        }
        match place.number("exception-level")? {
            None | Some(0) => {}
            Some(level) => return Err(place.error("exception-level", Problem::Unsupported(level))),
        }
        let name = spec.debug_name;
        let printable = |byte: u8| (b' '..=b'~').contains(&byte) && !b"[]".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(printable) {
            return Err(place.error("debug_name", Problem::BadName(name)));
        }
        match place.text("margay,kind")? {
            Some(_) if spec.is_primary() => return Err(place.error("margay,kind", Problem::NotAllowed)),
            None | Some("secondary" | "super-secondary") => {}
            Some(other) => return Err(place.error("margay,kind", Problem::NotAChoice(other))),
        }
        // These have the machine's own tree.
        let tree = (spec.kind != Kind::Secondary && !spec.is_ffa_partition).then_some("fdt_filename");
        if spec.kind == Kind::SuperSecondary && tree.is_some_and(|tree| place.value(tree).is_some()) {
            return Err(place.error("fdt_filename", Problem::NotAllowed));
        }
        if let (Kind::SuperSecondary, Some(partition)) = (spec.kind, &spec.partition)
            && (partition.memory_regions().next().is_some() || partition.device_regions().next().is_some())
        {
            // It has all devices, and sees physical addresses, which nobody knows beforehand.
            return Err(place.error("fdt_filename", Problem::Regions));
        }
        if spec.is_primary() {
            // It has all cores and all remaining memory.
            for property in ["mem_size", "vcpu_count"].into_iter().chain(tree) {
                if place.value(property).is_some() {
                    return Err(place.error(property, Problem::NotAllowed));
                }
            }
        }
        for earlier in self.vms().take_while(|earlier| earlier.index < spec.index) {
            if earlier.debug_name == name {
                return Err(place.error("debug_name", Problem::DuplicateName(name)));
            }
            if let (Some(own), Some(theirs)) = (&spec.partition, &earlier.partition) {
                own.check_devices(theirs)?;
            }
            let order = |spec: &VmSpec<'a>| spec.partition.and_then(|partition| partition.boot_order);
            if let (Some(file), Some(order), Some(taken)) = (spec.fdt_filename, order(spec), order(&earlier))
                && order == taken
            {
                let problem = Problem::DuplicateNumber(order.into());
                return Err(BundleError::Property { file, at: At::Root, property: "boot-order", problem });
            }
        }
        Ok(())
    }

    /// Checks the files that a VM names, and that they fit into its memory; returns the bytes that they need.
    fn check_files(&self, place: Place<'a>, spec: &VmSpec<'a>) -> Result<'a, u64> {
        let kernel = self.named(place, "kernel_filename", spec.kernel_filename)?;
        let image = Image::parse(kernel)
            .map_err(|why| place.error("kernel_filename", Problem::Kernel(spec.kernel_filename, why)))?;
        let length = |property, name: Option<&'a str>| {
            name.map(|name| self.named(place, property, name).map(|file| file.len() as u64)).transpose()
        };
        let ramdisk = length("ramdisk_filename", spec.ramdisk_filename)?;
        let tree = length("fdt_filename", spec.fdt_filename)?;
        if let (Some(name), Some(value), max) = (spec.fdt_filename, tree, layout::DEVICE_TREE_MAX) {
            if value > max {
                return Err(place.error("fdt_filename", Problem::Range { value, min: 1, max }));
            }
            if Tree::new(self.file(name)).is_err() {
                return Err(place.error("fdt_filename", Problem::NotATree(name)));
            }
        }
        let Some(memory) = spec.mem_size else {
            // The primary's places are the plan's: this is about what they take.
            let end = (layout::KERNEL_OFFSET + image.text_offset).saturating_add(image.memory_size);
            return Ok(ramdisk.map_or(end, |bytes| end.next_multiple_of(layout::BLOCK).saturating_add(bytes)));
        };
        if image.format == KernelFormat::Flat && tree.is_none() {
            for (property, given) in
                [("ramdisk_filename", ramdisk.is_some()), ("margay,bootargs", spec.bootargs.is_some())]
            {
                if given {
                    return Err(place.error(property, Problem::NoTree));
                }
            }
        }
        let needed = Loading::of(&image, memory, ramdisk, tree).needed;
        if let (Some(partition), Some(file)) = (&spec.partition, spec.fdt_filename)
            && partition.entrypoint_offset >= image.memory_size
        {
            let (value, max) = (partition.entrypoint_offset, image.memory_size - 1);
            let problem = Problem::Range { value, min: 0, max };
            return Err(BundleError::Property { file, at: At::Root, property: "entrypoint-offset", problem });
        }
        if memory < needed { Err(place.error("mem_size", Problem::TooSmall { needed })) } else { Ok(needed) }
    }

    fn named(&self, place: Place<'a>, property: &'a str, name: &'a str) -> Result<'a, &'a [u8]> {
        self.archive.find(name).ok_or_else(|| place.error(property, Problem::NoFile(name)))
    }
}

fn tree<'a>(file: &'a str, bytes: &'a [u8]) -> Result<'a, Tree<'a>> {
    Tree::new(bytes).map_err(|why| BundleError::NotATree { file, why })
}

/// The number in the name of a VM's node. `vm` and other names that are no number belong to something else.
fn numbered(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(VM_PREFIX)?;
    // Numbers that no u64 holds are out of range like all others.
    let numeric = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    numeric.then(|| digits.parse().unwrap_or(u64::MAX))
}

const MAX_NUMBER: u64 = MAX_VMS as u64;
// The sentence below says so.
const _: () = assert!(MAX_VMS == 66);

/// VM nodes are vm1, vm2 … up to [`MAX_VMS`], in any order, without a gap, each once.
fn check_numbering(hypervisor: Node<'_>) -> Result<'_, ()> {
    let error = |node, why| Err(BundleError::Node { file: MANIFEST_FILE, node, why });
    let mut seen = 0u128;
    for child in hypervisor.children() {
        match numbered(child.name()) {
            None => {}
            Some(number @ 1..=MAX_NUMBER) => {
                let bit = 1u128 << (number - 1);
                if seen & bit != 0 {
                    return error("/hypervisor", "two VMs have the same number");
                }
                seen |= bit;
            }
            Some(_) => return error("/hypervisor", "a VM's number is not from 1 to 66"),
        }
    }
    if seen & 1 == 0 {
        return error("/hypervisor/vm1", "missing: there is no primary VM");
    }
    if seen & seen.wrapping_add(1) != 0 {
        return error("/hypervisor", "the numbers of the VMs have a gap");
    }
    Ok(())
}

fn check_own_properties<'a>(place: Place<'a>, known: &[&str]) -> Result<'a, ()> {
    for property in place.node.properties() {
        let name = property.name();
        if name.starts_with(OWN_PREFIX) && !known.contains(&name) {
            // Property names are ASCII.
            let property = name.chars().take(32).filter(char::is_ascii).collect();
            return Err(BundleError::Unknown { file: place.file, at: place.at, property });
        }
    }
    Ok(())
}
