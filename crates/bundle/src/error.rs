//! What can be wrong with a bundle, in one sentence.

use crate::{
    cpio::ArchiveError,
    image::ImageError,
    limits::{MAX_NAME, MAX_REGIONS, MAX_VMS},
    printable::write_printable,
};
use alloc::boxed::Box;
use core::fmt::{self, Write};
use plain_numbers::{Dec, Hex};

/// Why a bundle cannot be booted: file, node, property, and what is wrong.
///
/// [`Display`](fmt::Display) makes one sentence of it, such as
/// `manifest.dtb: /hypervisor/vm2: vcpu_count: 0x0 is not between 0x1 and 0x200`.
#[derive(Clone, Debug)]
pub struct BundleError<'a> {
    /// The file.
    pub file: &'a str,
    /// The node.
    pub at: Option<At<'a>>,
    /// The property, or "".
    pub property: &'a str,
    /// What is wrong.
    pub problem: Problem,
    /// What the sentence quotes: the property's value, if it is text, or another text.
    pub(crate) text: &'a str,
    /// Numbers in the sentence.
    pub(crate) numbers: [u64; 3],
    /// What somebody else found wrong.
    pub(crate) cause: Option<Cause<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause<'a> {
    Archive(ArchiveError<'a>),
    Tree(devtree::Error),
    Kernel(ImageError),
}

/// A node of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// The root of a manifest.
    Root,
    /// `/hypervisor`.
    Hypervisor,
    /// `/hypervisor/vmN`, by its number.
    Vm(u16),
    /// In an FF-A partition manifest, a child of the root, and a child of that, or "".
    Child(&'static str, &'a str),
}

/// Problem in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// What the archive's, the tree's or the kernel's reader says.
    Cause,
    /// There is no manifest.
    NoManifest,
    /// It must be there.
    Missing,
    /// It must not be there.
    NotAllowed,
    /// A property with Margay's prefix that Margay does not have.
    Unknown,
    /// The node's `compatible` is another.
    NotCompatible,
    /// Two VMs have one number.
    NumberTwice,
    /// The number of a VM is out of range.
    NumberRange,
    /// The numbers of the VMs have a gap.
    NumberGap,
    /// There is no vm1.
    NoPrimary,
    /// A list has nothing in it.
    Empty,
    /// A list has too much in it.
    TooMany,
    /// There are more services than a partition can have.
    TooManyServices,
    /// All partition manifests together ask for more regions than [`MAX_REGIONS`].
    TooManyRegions,
    /// It is not one string.
    NotText,
    /// It is not a number of one or two cells.
    NotNumber,
    /// It is not a list of whole cells.
    NotCells,
    /// It is there to be present or absent, but has a value.
    NotEmpty,
    /// Margay has no such choice.
    NotAChoice,
    /// The number is possible in the format, but not in Margay.
    Unsupported,
    /// The bundle has no such file.
    NoFile,
    /// The file is not a device tree.
    NotATree,
    /// The name is empty, longer than [`MAX_NAME`], or not printable.
    BadName,
    /// Another VM has this name.
    DuplicateName,
    /// Another VM, or another part of this one, has this number.
    DuplicateNumber,
    /// The number is out of range.
    Range,
    /// The number is not a multiple of the page size.
    Unaligned,
    /// Part of what the address is for is something else of the same VM.
    Overlap,
    /// Part of what the address is for is another VM's.
    Taken,
    /// The partition manifest asks for regions, which this kind of VM cannot have.
    Regions,
    /// `base-address` says the same.
    Twice,
    /// It is not a UUID.
    NotAUuid,
    /// No memory region has this phandle.
    NoRegion,
    /// The region has more than one page.
    NotAPage,
    /// The kernel image is bad.
    Kernel,
    /// The VM could not find it: a flat kernel has a device tree only if the bundle has one.
    NoTree,
    /// Memory is too small for what is loaded into it.
    TooSmall,
    /// All VMs together want more than there is.
    TooMuch,
    /// It contradicts what the VM's node says.
    Contradiction,
}

// Sentences below say so.
const _: () = assert!(MAX_VMS == 66 && MAX_NAME == 31 && MAX_REGIONS == 512);

impl Problem {
    /// The sentence: `$` stands for the text that it quotes, `#` for the next number, `^` for the cause.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Cause => "^",
            Self::NoManifest => "there is no $",
            Self::Missing => "missing",
            Self::NotAllowed => "not allowed for this VM",
            Self::Unknown => "unknown property",
            Self::NotCompatible => "compatible is not \"$\"",
            Self::NumberTwice => "two VMs have the same number",
            Self::NumberRange => "a VM's number is not from 1 to 66",
            Self::NumberGap => "the numbers of the VMs have a gap",
            Self::NoPrimary => "vm1, the primary VM, is missing",
            Self::Empty => "empty",
            Self::TooMany => "more than 32",
            Self::TooManyServices => "more than four services",
            Self::TooManyRegions => "more than 512 regions, with those of the VMs before",
            Self::NotText => "not a string",
            Self::NotNumber => "not a number of one or two cells",
            Self::NotCells => "not a list of whole cells of the right length",
            Self::NotEmpty => "has a value, but can only be present or absent",
            Self::NotAChoice => "unknown value \"$\"",
            Self::Unsupported => "# is not supported",
            Self::NoFile => "file $ is not in the bundle",
            Self::NotATree => "$ is not a device tree",
            Self::BadName => "\"$\" is not a name of 1 to 31 printable characters",
            Self::DuplicateName => "another VM is also named $",
            Self::DuplicateNumber => "# is used twice",
            Self::Range => "# is not between # and #",
            Self::Unaligned => "# is not a multiple of 4096",
            Self::Overlap => "the region at # overlaps other memory or registers of this VM",
            Self::Taken => "the region at # belongs to another VM",
            Self::Regions => "the super-secondary has all devices already, and no regions",
            Self::Twice => "redundant with base-address",
            Self::NotAUuid => "\"$\" is not a UUID",
            Self::NoRegion => "no memory region has the phandle #",
            Self::NotAPage => "the memory region has more than one page",
            Self::Kernel => "$: ^",
            Self::NoTree => "a flat kernel needs a device tree that describes it: set fdt_filename",
            Self::TooSmall => "too small: kernel, ramdisk and device tree need #",
            Self::TooMuch => "with this VM, # bytes are wanted, but the machine has #",
            Self::Contradiction => "# contradicts the manifest, which makes it #",
        }
    }
}

impl<'a> BundleError<'a> {
    /// About a file as a whole.
    #[cold]
    #[inline(never)]
    pub(crate) fn of_file(file: &'a str, cause: Cause<'a>) -> Box<Self> {
        Box::new(Self {
            file,
            at: None,
            property: "",
            problem: Problem::Cause,
            text: "",
            numbers: [0; 3],
            cause: Some(cause),
        })
    }
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_printable(f, self.file)?;
        f.write_str(": ")?;
        if let Some(at) = self.at {
            at.fmt(f)?;
            f.write_str(": ")?;
        }
        if !self.property.is_empty() {
            write_printable(f, self.property)?;
            f.write_str(": ")?;
        }
        let mut numbers = self.numbers.iter();
        for byte in self.problem.sentence().bytes() {
            match (byte, &self.cause) {
                (b'$', _) => write_printable(f, self.text)?,
                (b'#', _) => Hex(*numbers.next().unwrap_or(&0)).fmt(f)?,
                (b'^', Some(Cause::Archive(why))) => why.fmt(f)?,
                (b'^', Some(Cause::Tree(why))) => why.fmt(f)?,
                (b'^', Some(Cause::Kernel(why))) => why.fmt(f)?,
                _ => f.write_char(byte.into())?,
            }
        }
        Ok(())
    }
}

impl core::error::Error for BundleError<'_> {}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("/"),
            Self::Hypervisor => f.write_str("/hypervisor"),
            Self::Vm(number) => write!(f, "/hypervisor/vm{}", Dec((*number).into())),
            Self::Child(node, child) => {
                f.write_str("/")?;
                f.write_str(node)?;
                f.write_str(if child.is_empty() { "" } else { "/" })?;
                write_printable(f, child)
            }
        }
    }
}
