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
//! vm1 is the primary: it gets all cores and all remaining memory. A VM with `is_ffa_partition` has an FF-A
//! partition manifest (`arm,ffa-manifest-1.x`) in its `fdt_filename`. Numbers have one or two cells.
//! Properties that are neither Hafnium's nor Margay's are ignored, except that an unknown one with the prefix
//! `margay,` is a mistake.

use crate::limits::MAX_MEMORY;
pub use crate::limits::{MANIFEST_FILE, MAX_ALL_VCPUS, MAX_NAME, MAX_REGIONS, MAX_VCPUS, MAX_VMS};
use crate::{
    Archive, Image, KernelFormat, Loading,
    error::{At, BundleError, Cause, Problem},
    partition::{self, Partition},
    place::{Cells, Place, Result},
};
use alloc::vec::Vec;
use devtree::{Node, Tree};
use hv_abi::{ids::VmId, layout};

/// Margay's own properties of a VM node; everything else with its prefix is a mistake. All but the first four
/// are flags.
const OWN_PROPERTIES: [&str; 8] = [
    GRANT,
    "margay,bootargs",
    "margay,control",
    "margay,kind",
    "margay,gic",
    "margay,time-from-start",
    "margay,devices",
    "margay,list-registers",
];
/// The flags, as bits in their order; which of them are for the primary, and which for others.
const GIC: u8 = 1 << 0;
const TIME: u8 = 1 << 1;
const DEVICES: u8 = 1 << 2;
const LISTS: u8 = 1 << 3;
const FOR_PRIMARY: u8 = GIC | DEVICES;
const FOR_OTHERS: u8 = GIC | TIME | LISTS;
const GRANT: &str = "margay,grant-devices";
/// Margay's own property of the hypervisor's node.
const FORWARD: &str = "margay,forward-interrupts";
const OWN_PREFIX: &str = "margay,";
const VM_PREFIX: &str = "vm";

/// Resources of the machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineLimits {
    /// Bytes of memory.
    pub memory: u64,
}

/// Role of a VM.
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
#[derive(Clone, Debug)]
pub struct VmSpec<'a> {
    /// Its FF-A id: the number in its node's name.
    pub index: u16,
    /// What it may do.
    pub kind: Kind,
    /// It has the machine's devices: the super-secondary, or the primary if there is none (`margay,devices`).
    pub devices: bool,
    /// Nodes of the machine's tree that it has besides what the board lets it have (`margay,grant-devices`):
    /// names, each with a zero byte behind it. Empty without [`devices`](Self::devices).
    pub granted_devices: &'a [u8],
    /// It has a virtual interrupt controller of the machine's kind (`margay,gic`) in place of the
    /// para-virtual one.
    pub gic: bool,
    /// It takes its para-virtual interrupts from list registers (`margay,list-registers`).
    pub list_registers: bool,
    /// Its virtual counter is 0 when it starts (`margay,time-from-start`), and otherwise is the machine's.
    pub time_from_start: bool,
    /// Its name for people.
    pub debug_name: &'a str,
    /// The name of the file with its kernel.
    pub kernel_filename: &'a str,
    /// Its kernel.
    pub kernel: &'a [u8],
    /// What the kernel's header says.
    pub image: Image,
    /// Its ramdisk.
    pub ramdisk: Option<&'a [u8]>,
    /// The name of the file with its device tree, or, for an FF-A partition, its partition manifest.
    pub fdt_filename: Option<&'a str>,
    /// What is in that file.
    fdt: Option<&'a [u8]>,
    /// How many vCPUs; 0 for the primary, which has as many as the machine has cores.
    pub vcpu_count: u32,
    /// Bytes of memory; `None` for the primary, which has all that is left.
    pub mem_size: Option<u64>,
    /// The kernel command line, for a device tree that the hypervisor makes.
    pub bootargs: Option<&'a str>,
    /// How it is to be run, in words for the primary (`margay,control`).
    pub control: Option<&'a str>,
    /// The SMC function ids that it may use.
    pub smc_whitelist: Cells<'a>,
    /// Whether calls outside of `smc_whitelist` are let through as well.
    pub smc_whitelist_permissive: bool,
    /// Its partition manifest, if it is an FF-A partition that has one.
    pub partition: Option<Partition<'a>>,
}

impl<'a> VmSpec<'a> {
    /// Returns the UUID of the partition manifest; all zero without one.
    pub fn uuid(&self) -> [u32; 4] {
        self.partition.as_ref().map_or([0; 4], Partition::uuid)
    }

    /// The device tree that the bundle brings for it. An FF-A partition manifest is one only for a flat
    /// kernel.
    pub fn tree(&self) -> Option<&'a [u8]> {
        self.fdt.filter(|_| self.partition.is_none() || self.image.format == KernelFormat::Flat)
    }

    /// Returns the layout of the VM's memory; of no meaning for the primary.
    pub fn loading(&self) -> Loading {
        let length = |file: Option<&[u8]>| file.map(|file| file.len() as u64);
        Loading::of(&self.image, self.mem_size.unwrap_or(0), length(self.ramdisk), length(self.tree()))
    }

    fn is_primary(&self) -> bool {
        self.kind == Kind::Primary
    }
}

/// A manifest that fits its archive and its machine.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    archive: Archive<'a>,
    ffa_tee_enabled: bool,
    forwards_interrupts: bool,
    vms: Vec<VmSpec<'a>>,
}

impl<'a> Manifest<'a> {
    /// Reads the bundle and checks everything that can be wrong with it on this machine.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`BundleError`].
    pub fn check(bytes: &'a [u8], limits: &MachineLimits) -> Result<'a, Self> {
        let archive =
            Archive::new(bytes).map_err(|why| BundleError::of_file("bundle", Cause::Archive(why)))?;
        let Some(file) = archive.find(MANIFEST_FILE) else {
            let mut error = BundleError::of_file("bundle", Cause::Tree(devtree::Error::NotADeviceTree));
            (error.problem, error.text) = (Problem::NoManifest, MANIFEST_FILE);
            return Err(error);
        };
        let node = tree(MANIFEST_FILE, file)?.root();
        let root = Place { file: MANIFEST_FILE, at: At::Hypervisor, node };
        let Some(node) = node.child("hypervisor") else { return Err(root.node_error(Problem::Missing, "")) };
        let place = Place { node, ..root };
        place.check_compatible("hafnium,hafnium")?;
        check_own_properties(&place, &[FORWARD])?;
        check_numbering(&place)?;
        let ffa_tee_enabled = place.flag("ffa_tee_enabled")?;
        let forwards_interrupts = place.flag(FORWARD)?;
        let mut manifest = Self { archive, ffa_tee_enabled, forwards_interrupts, vms: Vec::new() };
        let (mut memory, mut vcpus, mut regions) = (0u64, 0, 0);
        for vm in 1..=MAX_VMS {
            let Some(node) = numbered(node, vm) else { break };
            let place = Place { at: At::Vm(vm), node, ..place };
            let spec = manifest.read(&place, vm)?;
            let property = if spec.is_primary() { "kernel_filename" } else { "mem_size" };
            memory = memory.saturating_add(check_loading(&place, &spec)?);
            if let Some(partition) = &spec.partition {
                for region in &partition.memory_regions {
                    if spec.mem_size.is_some_and(|own| !region.is_within(own)) {
                        memory = memory.saturating_add(region.bytes);
                    }
                }
                regions += partition.memory_regions.len() + partition.device_regions.len();
            }
            if memory > limits.memory {
                return Err(place.refuse(property, Problem::TooMuch, memory, limits.memory, 0));
            }
            vcpus += spec.vcpu_count;
            if vcpus > MAX_ALL_VCPUS {
                let (value, max) = (vcpus.into(), MAX_ALL_VCPUS.into());
                return Err(place.refuse("vcpu_count", Problem::Range, value, 1, max));
            }
            if regions > MAX_REGIONS {
                return Err(place.error("fdt_filename", Problem::TooManyRegions));
            }
            manifest.vms.push(spec);
        }
        Ok(manifest)
    }

    /// The VMs, the primary first, and in the order of their numbers.
    pub fn vms(&self) -> &[VmSpec<'a>] {
        &self.vms
    }

    /// The archive that the manifest came in.
    pub fn archive(&self) -> Archive<'a> {
        self.archive
    }

    /// Returns whether the VMs may share memory with the secure world.
    pub fn ffa_tee_enabled(&self) -> bool {
        self.ffa_tee_enabled
    }

    /// Returns whether an interrupt of a device comes to the primary first, which runs its owner, and not to
    /// the owner at once.
    pub fn forwards_interrupts(&self) -> bool {
        self.forwards_interrupts
    }

    /// The file that a property names: its name, and what is in it.
    #[inline(never)]
    fn file(&self, place: &Place<'a>, property: &'a str) -> Result<'a, Option<(&'a str, &'a [u8])>> {
        let Some(name) = place.text(property)? else { return Ok(None) };
        match self.archive.find(name) {
            None => Err(place.error(property, Problem::NoFile)),
            Some(bytes) => Ok(Some((name, bytes))),
        }
    }

    /// Reads a VM's node and its files, and compares them with those of the VMs before it.
    #[inline(never)]
    fn read(&self, place: &Place<'a>, vm: u16) -> Result<'a, VmSpec<'a>> {
        let debug_name = place.required_text("debug_name")?;
        place.required_text("kernel_filename")?;
        let primary = vm == VmId::PRIMARY.0;
        let kind = match place.text("margay,kind")? {
            Some(_) if primary => return Err(place.error("margay,kind", Problem::NotAllowed)),
            None if primary => Kind::Primary,
            None | Some("secondary") => Kind::Secondary,
            Some("super-secondary")
                if vm == VmId::SUPER_SECONDARY.0 && !self.vms.iter().any(|primary| primary.devices) =>
            {
                Kind::SuperSecondary
            }
            Some("super-secondary") => return Err(place.error("margay,kind", Problem::NotAllowed)),
            Some(_) => return Err(place.error("margay,kind", Problem::NotAChoice)),
        };
        let mut flags = 0u8;
        // One controller excludes the other.
        let mut allowed = if primary { FOR_PRIMARY } else { FOR_OTHERS };
        for (n, property) in OWN_PROPERTIES[4..].iter().enumerate() {
            let flag = u8::from(place.flag(property)?) << n;
            if flag & !allowed != 0 {
                return Err(place.error(property, Problem::NotAllowed));
            }
            flags |= flag;
            allowed &= !(flag << 3);
        }
        let devices = flags & DEVICES != 0 || kind == Kind::SuperSecondary;
        let granted_devices = place.value(GRANT).unwrap_or_default();
        if !granted_devices.is_empty() && !devices {
            return Err(place.error(GRANT, Problem::NotAllowed));
        }
        if granted_devices.last().is_some_and(|last| *last != 0) {
            return Err(place.error(GRANT, Problem::NotText));
        }
        let is_partition = place.flag("is_ffa_partition")?;
        // The primary has all cores and all remaining memory; it and the super-secondary have the machine's
        // own tree.
        let denied = ["fdt_filename", "mem_size", "vcpu_count", "margay,control"];
        let denied = match kind {
            Kind::Primary if is_partition => &denied[1..],
            Kind::Primary => &denied,
            Kind::SuperSecondary if !is_partition => &denied[..1],
            _ => &[],
        };
        for property in denied {
            if place.value(property).is_some() {
                return Err(place.error(property, Problem::NotAllowed));
            }
        }
        let (mut vcpu_count, mut mem_size) = (0, None);
        if !primary {
            vcpu_count = place.required("vcpu_count", 1, MAX_VCPUS.into())? as u32;
            // Hafnium rounds it up, too.
            mem_size = Some(place.required("mem_size", 1, MAX_MEMORY)?.next_multiple_of(layout::PAGE));
        }
        let (kernel_filename, kernel) = self.file(place, "kernel_filename")?.unwrap_or_default();
        let image = Image::parse(kernel).map_err(|why| {
            let mut error = place.error("kernel_filename", Problem::Kernel);
            error.cause = Some(Cause::Kernel(why));
            error
        })?;
        let fdt = self.file(place, "fdt_filename")?;
        let mut spec = VmSpec {
            index: vm,
            kind,
            devices,
            granted_devices,
            gic: flags & GIC != 0,
            list_registers: flags & LISTS != 0,
            time_from_start: flags & TIME != 0,
            debug_name,
            kernel_filename,
            kernel,
            image,
            ramdisk: self.file(place, "ramdisk_filename")?.map(|(_, bytes)| bytes),
            fdt_filename: fdt.map(|(name, _)| name),
            fdt: fdt.map(|(_, bytes)| bytes),
            vcpu_count,
            mem_size,
            bootargs: place.text("margay,bootargs")?,
            control: place.text("margay,control")?,
            smc_whitelist: place.cells("smc_whitelist", 1)?,
            smc_whitelist_permissive: place.flag("smc_whitelist_permissive")?,
            partition: None,
        };
        check_own_properties(place, &OWN_PROPERTIES)?;
        if place.flag("hyp_loaded")? && !is_partition {
            return Err(place.error("hyp_loaded", Problem::NotAllowed));
        }
        if let Some(level @ 1..) = place.number("exception-level")? {
            return Err(place.error_of("exception-level", Problem::Unsupported, level));
        }
        let printable = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'[' | b']');
        if !(1..=MAX_NAME).contains(&debug_name.len()) || !debug_name.bytes().all(printable) {
            return Err(place.error("debug_name", Problem::BadName));
        }
        if self.vms.iter().any(|earlier| earlier.debug_name == debug_name) {
            return Err(place.error("debug_name", Problem::DuplicateName));
        }
        if let Some((_, bytes)) = fdt {
            let (value, max) = (bytes.len() as u64, layout::DEVICE_TREE_MAX);
            if value > max {
                return Err(place.refuse("fdt_filename", Problem::Range, value, 1, max));
            }
            if !is_partition && Tree::new(bytes).is_err() {
                return Err(place.error("fdt_filename", Problem::NotATree));
            }
        }
        if is_partition {
            let Some((name, bytes)) = fdt else {
                return Err(place.error("fdt_filename", Problem::Missing));
            };
            let root = Place { file: name, at: At::Root, node: tree(name, bytes)?.root() };
            let partition = partition::read(&root, &spec)?;
            for earlier in self.vms.iter().filter_map(|vm| vm.partition.as_ref()) {
                partition.check_against(&root, earlier)?;
            }
            if kind == Kind::SuperSecondary && partition.has_regions() {
                // It has all devices, and sees physical addresses, which nobody knows beforehand.
                return Err(place.error("fdt_filename", Problem::Regions));
            }
            spec.partition = Some(partition);
        }
        Ok(spec)
    }
}

/// Checks that what is loaded fits into a VM's memory; returns the bytes of memory that the VM takes.
fn check_loading<'a>(place: &Place<'a>, spec: &VmSpec<'a>) -> Result<'a, u64> {
    let Some(memory) = spec.mem_size else {
        // The primary's places are the plan's: this is about what they take.
        let end = (layout::KERNEL_OFFSET + spec.image.text_offset).saturating_add(spec.image.memory_size);
        let with = |file: &[u8]| end.next_multiple_of(layout::BLOCK).saturating_add(file.len() as u64);
        return Ok(spec.ramdisk.map_or(end, with));
    };
    if spec.image.format == KernelFormat::Flat && spec.fdt.is_none() {
        for property in ["ramdisk_filename", "margay,bootargs"] {
            if place.value(property).is_some() {
                return Err(place.error(property, Problem::NoTree));
            }
        }
    }
    let needed = spec.loading().needed;
    if memory < needed { Err(place.error_of("mem_size", Problem::TooSmall, needed)) } else { Ok(memory) }
}

fn tree<'a>(file: &'a str, bytes: &'a [u8]) -> Result<'a, Tree<'a>> {
    Tree::new(bytes).map_err(|why| BundleError::of_file(file, Cause::Tree(why)))
}

/// The number in the name of a VM's node. `vm` and other names that are no number belong to something else.
#[inline(never)]
fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(VM_PREFIX).filter(|digits| !digits.is_empty())?;
    // Numbers that are too large are out of range like all others.
    digits.bytes().try_fold(0u32, |number, digit| {
        let digit = char::from(digit).to_digit(10)?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// The node of a VM.
#[inline(never)]
fn numbered(hypervisor: Node<'_>, vm: u16) -> Option<Node<'_>> {
    hypervisor.children().find(|child| number(child.name()) == Some(vm.into()))
}

const MAX_NUMBER: u32 = MAX_VMS as u32;

/// VM nodes are vm1, vm2 … up to [`MAX_VMS`], in any order, without a gap, each once.
fn check_numbering<'a>(hypervisor: &Place<'a>) -> Result<'a, ()> {
    let mut seen = 0u128;
    for child in hypervisor.node.children() {
        match number(child.name()) {
            None => {}
            Some(number @ 1..=MAX_NUMBER) => {
                let bit = 1u128 << (number - 1);
                if seen & bit != 0 {
                    return Err(hypervisor.node_error(Problem::NumberTwice, ""));
                }
                seen |= bit;
            }
            Some(_) => return Err(hypervisor.node_error(Problem::NumberRange, "")),
        }
    }
    if seen & 1 == 0 {
        return Err(hypervisor.node_error(Problem::NoPrimary, ""));
    }
    if seen & (seen + 1) != 0 {
        return Err(hypervisor.node_error(Problem::NumberGap, ""));
    }
    Ok(())
}

#[inline(never)]
fn check_own_properties<'a>(place: &Place<'a>, known: &[&str]) -> Result<'a, ()> {
    for property in place.node.properties() {
        let property = property.name();
        if property.starts_with(OWN_PREFIX) && !known.contains(&property) {
            return Err(place.error(property, Problem::Unknown));
        }
    }
    Ok(())
}
