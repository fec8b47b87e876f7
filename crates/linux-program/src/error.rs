//! Why a file is not a program that can be started, in words that follow its name:
//! `a.out: is dynamically linked`.

use crate::address::{UserAddr, UserRange};
use core::fmt;
use elf::abi;

/// Why a program is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not begin as an ELF file does.
    NotElf,
    /// The file ends before its headers do.
    Truncated {
        /// Bytes that there should be at least.
        needed: u64,
        /// Bytes that there are.
        length: u64,
    },
    /// 32-bit.
    Class,
    /// Big-endian.
    Endianness,
    /// A version of ELF that is not 1.
    Version,
    /// For another processor: `e_machine`.
    Machine(u16),
    /// Not a program: `e_type`.
    Type(u16),
    /// It has an interpreter, or needs libraries.
    DynamicallyLinked,
    /// `e_phentsize` is not 56, or there are more than [`MAX_HEADERS`](crate::MAX_HEADERS) program headers:
    /// both.
    Headers {
        /// Bytes of one header.
        size: u16,
        /// How many.
        count: u16,
    },
    /// Nothing of it would be in memory.
    NoSegments,
    /// Something is wrong with a segment.
    Segment {
        /// The number of its program header.
        index: u16,
        /// What is wrong.
        problem: SegmentProblem,
    },
    /// The entry point is not an instruction of a segment with code.
    Entry(UserAddr),
    /// It does not fit into the addresses that programs may have.
    Outside {
        /// Where it would be.
        program: UserRange,
        /// Where it may be.
        allowed: UserRange,
    },
    /// It needs more memory than it may have.
    Memory {
        /// Bytes of all its pages.
        needed: u64,
        /// Bytes that it may have.
        allowed: u64,
    },
}

/// Problem in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentProblem {
    /// Its bytes are not all in the file.
    OutsideFile,
    /// More bytes in the file than in memory.
    Sizes,
    /// It ends beyond all addresses.
    Overflow,
    /// `p_align` is not a power of two.
    Alignment,
    /// `p_vaddr` and `p_offset` are at different places of a page.
    Congruence,
    /// It has a page of the segment before it, or comes before that.
    Overlap,
    /// It is writable and executable.
    WritableCode,
    /// The image of thread-local variables is not in the program's memory.
    Tls,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => f.write_str("is not an ELF file"),
            Self::Truncated { needed, length } => {
                write!(f, "is cut short: its headers end at byte {needed:#x}, the file at {length:#x}")
            }
            Self::Class => f.write_str("is a 32-bit program: compile it for 64-bit AArch64"),
            Self::Endianness => f.write_str("is a big-endian program: compile it for little-endian AArch64"),
            Self::Version => f.write_str("has a version of ELF that is not 1"),
            Self::Machine(machine) => match machine_name(machine) {
                Some(name) => write!(f, "is for {name}: compile it for AArch64"),
                None => write!(f, "is for processor {machine} of ELF's list: compile it for AArch64"),
            },
            Self::Type(abi::ET_REL) => f.write_str("is an object file: link it with -static"),
            Self::Type(abi::ET_CORE) => f.write_str("is a core dump, not a program"),
            Self::Type(other) => write!(f, "is not a program: its ELF type is {other:#x}"),
            Self::DynamicallyLinked => f.write_str("is dynamically linked: link it with -static"),
            Self::Headers { size, count } => {
                write!(
                    f,
                    "has {count} program headers of {size} bytes: there can be {} of 56",
                    crate::MAX_HEADERS
                )
            }
            Self::NoSegments => f.write_str("has no segments to load"),
            Self::Segment { index, problem } => write!(f, "has a bad program header {index}: {problem}"),
            Self::Entry(entry) => write!(f, "has its entry point at {entry}, which is not in its code"),
            Self::Outside { program, allowed } => write!(
                f,
                "does not fit: it would be at {} to {}, programs can be at {} to {}",
                program.start, program.end, allowed.start, allowed.end
            ),
            Self::Memory { needed, allowed } => {
                write!(f, "needs {} KiB of memory: {} KiB are left", needed >> 10, allowed >> 10)
            }
        }
    }
}

impl fmt::Display for SegmentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutsideFile => "its bytes are not all in the file",
            Self::Sizes => "it has more bytes in the file than in memory",
            Self::Overflow => "it ends beyond the last address",
            Self::Alignment => "its alignment is not a power of two",
            Self::Congruence => "its address and its place in the file differ within a page",
            Self::Overlap => "it shares a page with a segment before it, or is not in ascending order",
            Self::WritableCode => "it is writable and executable",
            Self::Tls => "the image of thread-local variables is not in memory",
        })
    }
}

impl core::error::Error for ElfError {}

/// The machines that people really try.
fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        abi::EM_386 => "x86 (32-bit)",
        abi::EM_X86_64 => "x86-64",
        abi::EM_ARM => "32-bit Arm",
        abi::EM_PPC64 => "POWER",
        abi::EM_RISCV => "RISC-V",
        abi::EM_S390 => "s390",
        _ => return None,
    })
}
