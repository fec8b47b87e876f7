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
//! manifest (`arm,ffa-manifest-1.x`) in its `fdt_filename`.

use crate::{Archive, ArchiveError, Image, ImageError};
use core::fmt;
use dtoolkit::{
    Node, Property,
    fdt::{Fdt, FdtNode},
};
use hv_abi::layout;

/// The name of the manifest's file.
pub const MANIFEST_FILE: &str = "manifest.dtb";
/// Most VMs in a manifest.
pub const MAX_VMS: u16 = 64;
/// Most vCPUs of one VM, and of all secondaries together.
pub const MAX_VCPUS: u32 = 512;
/// Longest name of a VM.
pub const MAX_NAME: usize = 31;
const MAX_MEMORY: u64 = 1 << 40;

/// What the machine offers.
#[derive(Clone, Copy, Debug)]
pub struct MachineLimits {
    /// Bytes of memory.
    pub memory: u64,
}

/// A VM of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct VmSpec<'a> {
    /// Its FF-A id: the number in its node's name.
    pub index: u16,
    /// Its name for people.
    pub debug_name: &'a str,
    /// The file with its kernel.
    pub kernel_filename: &'a str,
    /// The file with its ramdisk.
    pub ramdisk_filename: Option<&'a str>,
    /// The file with its device tree, or, for an FF-A partition, its partition manifest.
    pub fdt_filename: Option<&'a str>,
    /// How many vCPUs; the primary has as many as the machine has cores.
    pub vcpu_count: u32,
    /// Bytes of memory; `None` for the primary, which has all that is left.
    pub mem_size: Option<u64>,
    /// The kernel command line, for a device tree that the hypervisor makes.
    pub bootargs: Option<&'a str>,
    /// Whether it has an FF-A partition manifest.
    pub is_ffa_partition: bool,
    /// Its UUID, from the partition manifest.
    pub uuid: [u32; 4],
}

/// What is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Problem<'a> {
    /// The property must be there.
    Missing,
    /// The property must not be there.
    NotAllowed,
    /// It is not a string.
    NotText,
    /// It is not a number of one or two cells.
    NotNumber,
    /// The bundle has no such file.
    NoFile(&'a str),
    /// The name is empty or longer than it may be.
    BadName(&'a str),
    /// Another VM has this name.
    DuplicateName(&'a str),
    /// The number is out of range.
    Range {
        /// What it is.
        value: u64,
        /// The smallest that may be.
        min: u64,
        /// The largest that may be.
        max: u64,
    },
    /// The number is not a multiple of the page size.
    Unaligned(u64),
    /// The kernel image is bad.
    Kernel(&'a str, ImageError),
    /// Memory is too small for what is loaded into it.
    TooSmall {
        /// Bytes that it would take.
        needed: u64,
    },
    /// All VMs together want more than there is.
    TooMuch {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes that the machine has.
        available: u64,
    },
    /// It contradicts `vcpu_count`.
    Contradiction(u64),
}

/// Why a bundle cannot be booted: file, node, property, and what is wrong.
#[derive(Clone, Debug)]
pub enum BundleError<'a> {
    /// The archive.
    Archive(ArchiveError<'a>),
    /// There is no manifest.
    NoManifest,
    /// A file is not a device tree.
    NotATree {
        /// The file.
        file: &'a str,
        /// In the parser's words.
        why: dtoolkit::error::FdtParseError,
    },
    /// A node is missing, or has no place.
    Node {
        /// The file.
        file: &'a str,
        /// The node.
        node: &'a str,
        /// What about it.
        why: &'static str,
    },
    /// A property with Margay's prefix that Margay does not have.
    Unknown {
        /// The file.
        file: &'a str,
        /// The VM's number.
        vm: u16,
        /// The property.
        property: heapless::String<64>,
    },
    /// A property.
    Property {
        /// The file.
        file: &'a str,
        /// The VM's number; `None`: the file's root node.
        vm: Option<u16>,
        /// The property.
        property: &'a str,
        /// What is wrong with it.
        problem: Problem<'a>,
    },
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(why) => why.fmt(f),
            Self::NoManifest => write!(f, "the bundle holds no {MANIFEST_FILE}"),
            Self::NotATree { file, why } => write!(f, "{file}: not a device tree: {why}"),
            Self::Node { file, node, why } => write!(f, "{file}: {node}: {why}"),
            Self::Unknown { file, vm, property } => {
                write!(f, "{file}: /hypervisor/vm{vm}: {property}: Margay has no such property")
            }
            Self::Property { file, vm, property, problem } => {
                match vm {
                    Some(vm) => write!(f, "{file}: /hypervisor/vm{vm}: {property}: ")?,
                    None => write!(f, "{file}: /: {property}: ")?,
                }
                problem.fmt(f)
            }
        }
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::NotAllowed => f.write_str("not allowed for this VM"),
            Self::NotText => f.write_str("not a string"),
            Self::NotNumber => f.write_str("not a number of the right size"),
            Self::NoFile(name) => write!(f, "the bundle holds no file {name}"),
            Self::BadName(name) => {
                write!(f, "\"{name}\" is not a name of 1 to {MAX_NAME} printable characters")
            }
            Self::DuplicateName(name) => write!(f, "another VM is also named {name}"),
            Self::Range { value, min, max } => write!(f, "{value:#x} is not between {min:#x} and {max:#x}"),
            Self::Unaligned(value) => write!(f, "{value:#x} is not a multiple of 4096"),
            Self::Kernel(file, why) => write!(f, "{file}: {why}"),
            Self::TooSmall { needed } => {
                write!(f, "too small: kernel, ramdisk and device tree need {needed:#x}")
            }
            Self::TooMuch { wanted, available } => {
                write!(f, "with this VM, {wanted:#x} bytes are wanted, but the machine has {available:#x}")
            }
            Self::Contradiction(value) => write!(f, "{value} contradicts vcpu_count of the manifest"),
        }
    }
}

/// A manifest that fits its archive and its machine.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    archive: Archive<'a>,
    hypervisor: FdtNode<'a>,
}

type Result<'a, T> = core::result::Result<T, BundleError<'a>>;

/// Where a property is being read, for errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a str,
    vm: Option<u16>,
    node: FdtNode<'a>,
}

impl<'a> Place<'a> {
    fn error(&self, property: &'a str, problem: Problem<'a>) -> BundleError<'a> {
        BundleError::Property { file: self.file, vm: self.vm, property, problem }
    }

    fn value(&self, property: &str) -> Option<&'a [u8]> {
        self.node.property(property)?.value_as::<&'a [u8]>().ok()
    }

    fn text(&self, property: &'a str) -> Result<'a, Option<&'a str>> {
        let Some(value) = self.value(property) else { return Ok(None) };
        let text = value
            .strip_suffix(b"\0")
            .and_then(|v| core::str::from_utf8(v).ok())
            .filter(|t| !t.contains('\0'));
        text.map(Some).ok_or(self.error(property, Problem::NotText))
    }

    fn number(&self, property: &'a str) -> Result<'a, Option<u64>> {
        let Some(value) = self.value(property) else { return Ok(None) };
        let number = match *value {
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(self.error(property, Problem::NotNumber)),
        };
        Ok(Some(number))
    }

    fn ranged(&self, property: &'a str, min: u64, max: u64) -> Result<'a, Option<u64>> {
        let number = self.number(property)?;
        match number {
            Some(value) if value < min || value > max => {
                Err(self.error(property, Problem::Range { value, min, max }))
            }
            _ => Ok(number),
        }
    }
}

/// Margay's own properties of a VM node; everything else with its prefix is a mistake.
const OWN_PROPERTIES: [&str; 1] = ["margay,bootargs"];
const OWN_PREFIX: &str = "margay,";
const VM_NAMES: &str = "vm";

impl<'a> Manifest<'a> {
    /// Reads the bundle and checks everything that can be wrong with it on this machine.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn check(bytes: &'a [u8], limits: &MachineLimits) -> Result<'a, Self> {
        let archive = Archive::new(bytes).map_err(BundleError::Archive)?;
        let file = archive.find(MANIFEST_FILE).ok_or(BundleError::NoManifest)?;
        let tree = tree(MANIFEST_FILE, file)?;
        let node = |node, why| BundleError::Node { file: MANIFEST_FILE, node, why };
        let hypervisor = tree
            .root()
            .children()
            .find(|c| c.name() == "hypervisor")
            .ok_or(node("/hypervisor", "missing"))?;
        let place = Place { file: MANIFEST_FILE, vm: None, node: hypervisor };
        if !is_compatible(place.value("compatible"), "hafnium,hafnium") {
            return Err(node("/hypervisor", "compatible is not \"hafnium,hafnium\""));
        }
        let manifest = Self { archive, hypervisor };
        if manifest.node(1).is_none() {
            return Err(node("/hypervisor/vm1", "missing: there is no primary VM"));
        }
        for child in hypervisor.children() {
            if manifest.misplaced(child.name()) {
                return Err(node(child.name(), "VMs are numbered vm1, vm2 … without a gap, up to vm64"));
            }
        }
        manifest.check_vms(limits)?;
        Ok(manifest)
    }

    fn misplaced(&self, name: &str) -> bool {
        let Some(number) = name.strip_prefix(VM_NAMES) else { return false };
        let Ok(number) = number.parse::<u16>() else {
            return number.starts_with(|c: char| c.is_ascii_digit());
        };
        number == 0 || number > MAX_VMS || (1..number).any(|n| self.node(n).is_none())
    }

    fn node(&self, vm: u16) -> Option<FdtNode<'a>> {
        self.hypervisor
            .children()
            .find(|c| c.name().strip_prefix(VM_NAMES).and_then(|n| n.parse::<u16>().ok()) == Some(vm))
    }

    fn check_vms(&self, limits: &MachineLimits) -> Result<'a, ()> {
        let (mut memory, mut vcpus) = (0u64, 0u64);
        let mut vm = 1;
        while let Some(node) = self.node(vm) {
            let place = Place { file: MANIFEST_FILE, vm: Some(vm), node };
            let spec = self.read(place, vm)?;
            self.check_vm(place, &spec)?;
            if let Some(bytes) = spec.mem_size {
                memory = memory.saturating_add(bytes);
                if memory > limits.memory {
                    let problem = Problem::TooMuch { wanted: memory, available: limits.memory };
                    return Err(place.error("mem_size", problem));
                }
                vcpus += u64::from(spec.vcpu_count);
                if vcpus > u64::from(MAX_VCPUS) {
                    let problem = Problem::Range { value: vcpus, min: 1, max: MAX_VCPUS.into() };
                    return Err(place.error("vcpu_count", problem));
                }
            }
            vm += 1;
        }
        Ok(())
    }

    /// The VMs, the primary first.
    pub fn vms(&self) -> impl Iterator<Item = VmSpec<'a>> + use<'a> {
        let manifest = *self;
        (1..=MAX_VMS).map_while(move |vm| {
            let node = manifest.node(vm)?;
            manifest.read(Place { file: MANIFEST_FILE, vm: Some(vm), node }, vm).ok()
        })
    }

    /// The file that a VM names, which the check has found.
    pub fn file(&self, name: &str) -> &'a [u8] {
        self.archive.find(name).unwrap_or_default()
    }

    fn read(&self, place: Place<'a>, vm: u16) -> Result<'a, VmSpec<'a>> {
        let primary = vm == 1;
        let name = place.text("debug_name")?.ok_or(place.error("debug_name", Problem::Missing))?;
        let printable =
            name.bytes().all(|b| (0x21..0x7f).contains(&b) || b == b' ') && !name.contains([']', '[']);
        if name.is_empty() || name.len() > MAX_NAME || !printable {
            return Err(place.error("debug_name", Problem::BadName(name)));
        }
        let kernel = place.text("kernel_filename")?;
        let kernel_filename = kernel.ok_or(place.error("kernel_filename", Problem::Missing))?;
        let is_ffa_partition = place.value("is_ffa_partition").is_some();
        let fdt_filename = place.text("fdt_filename")?;
        let mut spec = VmSpec {
            index: vm,
            debug_name: name,
            kernel_filename,
            ramdisk_filename: place.text("ramdisk_filename")?,
            fdt_filename,
            vcpu_count: 0,
            mem_size: None,
            bootargs: place.text("margay,bootargs")?,
            is_ffa_partition,
            uuid: [0; 4],
        };
        if !primary {
            let vcpus = place.ranged("vcpu_count", 1, MAX_VCPUS.into())?;
            spec.vcpu_count = vcpus.ok_or(place.error("vcpu_count", Problem::Missing))? as u32;
            let bytes = place.ranged("mem_size", layout::PAGE, MAX_MEMORY)?;
            spec.mem_size = Some(bytes.ok_or(place.error("mem_size", Problem::Missing))?);
        }
        if is_ffa_partition {
            self.read_partition(place, &mut spec)?;
        }
        Ok(spec)
    }

    /// Reads an FF-A partition manifest (TF-A documentation, "FF-A manifest binding to device tree").
    fn read_partition(&self, place: Place<'a>, spec: &mut VmSpec<'a>) -> Result<'a, ()> {
        let name = spec.fdt_filename.ok_or(place.error("fdt_filename", Problem::Missing))?;
        let bytes = self.archive.find(name).ok_or(place.error("fdt_filename", Problem::NoFile(name)))?;
        let root = tree(name, bytes)?.root();
        let place = Place { file: name, vm: None, node: root };
        let known = ["arm,ffa-manifest-1.0", "arm,ffa-manifest-1.1", "arm,ffa-manifest-1.2"];
        if !known.iter().any(|k| is_compatible(place.value("compatible"), k)) {
            let why = "compatible is not \"arm,ffa-manifest-1.0\", \"-1.1\" or \"-1.2\"";
            return Err(BundleError::Node { file: name, node: "/", why });
        }
        place
            .ranged("ffa-version", 0x1_0000, 0x1_0002)?
            .ok_or(place.error("ffa-version", Problem::Missing))?;
        place.ranged("exception-level", 0, 8)?;
        place.ranged("execution-state", 0, 0)?;
        place.ranged("xlat-granule", 0, 2)?;
        place.ranged("messaging-method", 0, 0xfff)?;
        let uuid = place.value("uuid").ok_or(place.error("uuid", Problem::Missing))?;
        if uuid.len() < 16 || uuid.len() % 16 != 0 {
            return Err(place.error("uuid", Problem::NotNumber));
        }
        for (word, cell) in spec.uuid.iter_mut().zip(uuid.chunks_exact(4)) {
            *word = u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]);
        }
        let contexts = place.ranged("execution-ctx-count", 1, MAX_VCPUS.into())?;
        if let Some(contexts) = contexts
            && spec.mem_size.is_some()
            && contexts != u64::from(spec.vcpu_count)
        {
            return Err(place.error("execution-ctx-count", Problem::Contradiction(contexts)));
        }
        Ok(())
    }

    fn check_vm(&self, place: Place<'a>, spec: &VmSpec<'a>) -> Result<'a, ()> {
        let primary = spec.index == 1;
        for property in place.node.properties() {
            let name = property.name();
            if name.starts_with(OWN_PREFIX) && !OWN_PROPERTIES.contains(&name) {
                let property = name.chars().take(32).collect();
                return Err(BundleError::Unknown { file: place.file, vm: spec.index, property });
            }
        }
        for name in ["mem_size", "vcpu_count"] {
            if primary && place.value(name).is_some() {
                return Err(place.error(name, Problem::NotAllowed));
            }
        }
        if (1..spec.index).any(|vm| self.name_of(vm) == Some(spec.debug_name)) {
            return Err(place.error("debug_name", Problem::DuplicateName(spec.debug_name)));
        }
        let kernel = self.checked_file(place, "kernel_filename", spec.kernel_filename)?;
        let image = Image::parse(kernel)
            .map_err(|why| place.error("kernel_filename", Problem::Kernel(spec.kernel_filename, why)))?;
        let ramdisk = match spec.ramdisk_filename {
            Some(name) => self.checked_file(place, "ramdisk_filename", name)?.len() as u64,
            None => 0,
        };
        if let Some(name) = spec.fdt_filename {
            let bytes = self.checked_file(place, "fdt_filename", name)?;
            tree(name, bytes)?;
            let (value, max) = (bytes.len() as u64, layout::DEVICE_TREE_MAX);
            if value > max {
                return Err(place.error("fdt_filename", Problem::Range { value, min: 1, max }));
            }
        }
        let Some(bytes) = spec.mem_size else { return Ok(()) };
        if !bytes.is_multiple_of(layout::PAGE) {
            return Err(place.error("mem_size", Problem::Unaligned(bytes)));
        }
        let kernel_end = (layout::KERNEL_OFFSET + image.text_offset).saturating_add(image.memory_size);
        let needed = match ramdisk {
            0 => kernel_end,
            _ => {
                kernel_end.checked_next_multiple_of(layout::BLOCK).unwrap_or(u64::MAX).saturating_add(ramdisk)
            }
        };
        if needed > bytes {
            return Err(place.error("mem_size", Problem::TooSmall { needed }));
        }
        Ok(())
    }

    fn name_of(&self, vm: u16) -> Option<&'a str> {
        let place = Place { file: MANIFEST_FILE, vm: Some(vm), node: self.node(vm)? };
        place.text("debug_name").ok()?
    }

    fn checked_file(&self, place: Place<'a>, property: &'a str, name: &'a str) -> Result<'a, &'a [u8]> {
        self.archive.find(name).ok_or(place.error(property, Problem::NoFile(name)))
    }
}

fn tree<'a>(file: &'a str, bytes: &'a [u8]) -> Result<'a, Fdt<'a>> {
    Fdt::new(bytes).map_err(|why| BundleError::NotATree { file, why })
}

fn is_compatible(value: Option<&[u8]>, wanted: &str) -> bool {
    value.is_some_and(|v| v.split(|b| *b == 0).any(|s| s == wanted.as_bytes()))
}
