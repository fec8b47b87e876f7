//! What can be wrong with a bundle, in one sentence.

use crate::{ArchiveError, ImageError, manifest};
use core::fmt;

/// Why a bundle cannot be booted: file, node, property, and what is wrong.
///
/// [`Display`](fmt::Display) makes one sentence of it, such as
/// `manifest.dtb: /hypervisor/vm2: vcpu_count: 0x0 is not between 0x1 and 0x200`.
#[derive(Clone, Debug)]
pub enum BundleError<'a> {
    /// The archive itself.
    Archive(ArchiveError<'a>),
    /// There is no manifest.
    NoManifest,
    /// A file is not a device tree.
    NotATree {
        /// The file.
        file: &'a str,
        /// In the parser's words.
        why: devtree::Error,
    },
    /// A node is missing, or has no place.
    Node {
        /// The file.
        file: &'a str,
        /// The node.
        at: At<'a>,
        /// What about it.
        why: &'static str,
    },
    /// A property with Margay's prefix that Margay does not have.
    Unknown {
        /// The file.
        file: &'a str,
        /// The node.
        at: At<'a>,
        /// The property's name.
        property: &'a str,
    },
    /// A property.
    Property {
        /// The file.
        file: &'a str,
        /// The node.
        at: At<'a>,
        /// The property.
        property: &'a str,
        /// What is wrong with it.
        problem: Problem<'a>,
    },
}

/// A node of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// The root of an FF-A partition manifest.
    Root,
    /// `/hypervisor`.
    Hypervisor,
    /// `/hypervisor/vmN`, by its number.
    Vm(u16),
    /// In an FF-A partition manifest, a child of the root, and a child of that, or "".
    Child(&'static str, &'a str),
}

/// What is wrong with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// It must be there.
    Missing,
    /// It must not be there.
    NotAllowed,
    /// It is not one string.
    NotText,
    /// It is not a number of one or two cells.
    NotNumber,
    /// It is not a list of whole cells.
    NotCells,
    /// It is there to be present or absent, but has a value.
    NotEmpty,
    /// Margay has no such choice.
    NotAChoice(&'a str),
    /// The number is possible in the format, but not in Margay.
    Unsupported(u64),
    /// The bundle has no such file.
    NoFile(&'a str),
    /// The file is not a device tree.
    NotATree(&'a str),
    /// The name is empty, longer than [`manifest::MAX_NAME`], or not printable.
    BadName(&'a str),
    /// Another VM has this name.
    DuplicateName(&'a str),
    /// Another VM, or another part of this one, has this number.
    DuplicateNumber(u64),
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
    /// Part of what the address is for is something else of the same VM.
    Overlap(u64),
    /// Part of what the address is for is another VM's.
    Taken(u64),
    /// All partition manifests together ask for more regions than [`manifest::MAX_REGIONS`].
    TooManyRegions,
    /// The partition manifest asks for regions, which this kind of VM cannot have.
    Regions,
    /// Another property says the same.
    Twice(&'static str),
    /// It is not a UUID.
    NotAUuid(&'a str),
    /// No memory region has this phandle.
    NoRegion(u64),
    /// The region has more than one page.
    NotAPage,
    /// The kernel image is bad.
    Kernel(&'a str, ImageError),
    /// Nothing could tell the VM of it: a flat kernel has a device tree only if the bundle brings one.
    NoTree,
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
    /// It contradicts what the VM's node says.
    Contradiction {
        /// What it is.
        value: u64,
        /// What it would have to be.
        expected: u64,
    },
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(why) => why.fmt(f),
            Self::NoManifest => write!(f, "bundle: there is no {}", manifest::MANIFEST_FILE),
            Self::NotATree { file, why } => write!(f, "{file}: {why}"),
            Self::Node { file, at, why } => write!(f, "{file}: {at}: {why}"),
            Self::Unknown { file, at, property } => {
                write!(f, "{file}: {at}: {property:.32}: Margay has no such property")
            }
            Self::Property { file, at, property, problem } => {
                write!(f, "{file}: {at}: {property}: {problem}")
            }
        }
    }
}

impl core::error::Error for BundleError<'_> {}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("/"),
            Self::Hypervisor => f.write_str("/hypervisor"),
            Self::Vm(number) => write!(f, "/hypervisor/vm{}", u64::from(*number)),
            Self::Child(node, "") => write!(f, "/{node}"),
            Self::Child(node, child) => write!(f, "/{node}/{child}"),
        }
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::NotAllowed => f.write_str("not allowed for this VM"),
            Self::NotText => f.write_str("not a string"),
            Self::NotNumber => f.write_str("not a number of one or two cells"),
            Self::NotCells => f.write_str("not a list of whole cells of the right length"),
            Self::NotEmpty => f.write_str("has a value, but can only be present or absent"),
            Self::NotAChoice(choice) => write!(f, "there is no choice \"{choice}\""),
            Self::Unsupported(value) => write!(f, "{value:#x} is not supported"),
            Self::NoFile(name) => write!(f, "the bundle holds no file {name}"),
            Self::NotATree(name) => write!(f, "{name} is not a device tree"),
            Self::BadName(name) => {
                write!(f, "\"{name}\" is not a name of 1 to {} printable characters", manifest::MAX_NAME)
            }
            Self::DuplicateName(name) => write!(f, "another VM is also named {name}"),
            Self::DuplicateNumber(number) => write!(f, "{number:#x} is there already"),
            Self::Range { value, min, max } => write!(f, "{value:#x} is not between {min:#x} and {max:#x}"),
            Self::Unaligned(value) => write!(f, "{value:#x} is not a multiple of 4096"),
            Self::Overlap(address) => {
                write!(f, "what is at {address:#x} overlaps with other memory or registers of this VM")
            }
            Self::Taken(address) => write!(f, "what is at {address:#x} is also another VM's"),
            Self::Regions => f.write_str("the super-secondary has all devices already, and no regions"),
            Self::TooManyRegions => {
                write!(f, "more than {} regions, with those of the VMs before", manifest::MAX_REGIONS)
            }
            Self::Twice(other) => write!(f, "{other} says it already"),
            Self::NotAUuid(text) => write!(f, "\"{text}\" is not a UUID"),
            Self::NoRegion(phandle) => write!(f, "no memory region has the phandle {phandle:#x}"),
            Self::NotAPage => f.write_str("the memory region has more than one page"),
            Self::Kernel(file, why) => write!(f, "{file}: {why}"),
            Self::NoTree => f.write_str("a flat kernel needs an fdt_filename to be told of it"),
            Self::TooSmall { needed } => {
                write!(f, "too small: kernel, ramdisk and device tree need {needed:#x}")
            }
            Self::TooMuch { wanted, available } => {
                write!(f, "with this VM, {wanted:#x} bytes are wanted, but the machine has {available:#x}")
            }
            Self::Contradiction { value, expected } => {
                write!(f, "{value:#x} contradicts the manifest, which makes it {expected:#x}")
            }
        }
    }
}
