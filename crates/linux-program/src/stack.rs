//! The first stack of a process, as System V's ABI and Linux on AArch64 lay it out.
//!
//! From the stack pointer upwards: `argc`, the addresses of the arguments and a null, the addresses of the
//! environment and a null, pairs of the auxiliary vector and its null; then, up to the top, the 16 random
//! bytes, and the strings in the order that Linux has them in, arguments directly before environment: some
//! programs overwrite both as one.

use crate::address::{PAGE, UserAddr};
use crate::auxv::AuxType;
use crate::hwcap::Hwcaps;
use crate::program::{HEADER_SIZE, Placed};
use crate::rseq;
use core::fmt;

/// Alignment of the stack pointer that the ABI requires.
pub const ALIGNMENT: u64 = 16;
/// `AT_PLATFORM`.
const PLATFORM: &[u8] = b"aarch64";
/// `AT_CLKTCK`: Linux's `USER_HZ` on all machines since it exists.
const CLOCK_TICKS: u64 = 100;
/// A signal frame without SVE or SME (`MINSIGSTKSZ` of AArch64's `uapi/asm/auxvec.h` and `signal.h`).
pub const MIN_SIGNAL_STACK: u64 = 5120;
/// Null bytes above all strings, as Linux has them.
const TOP: usize = 8;
const WORD: usize = 8;

/// User and group ids of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user, real and effective.
    pub user: u32,
    /// The group, real and effective.
    pub group: u32,
}

/// All that a program finds on its stack when it starts.
///
/// Arguments and environment are iterators over strings without their NUL, so that a kernel can take them
/// from wherever it has them.
#[derive(Clone, Debug)]
pub struct InitialStack<'a, A, E> {
    /// `argv`. If it is empty, the program gets one empty argument, as Linux does it since 5.18: programs
    /// rely on one.
    pub arguments: A,
    /// `envp`, each `NAME=value`.
    pub environment: E,
    /// The name under which the file was found.
    pub file_name: &'a [u8],
    /// Where the program is.
    pub program: &'a Placed<'a>,
    /// Random bytes: seeds of stack protectors and hash tables. To be new for each process.
    pub random: [u8; 16],
    /// What the processor can do.
    pub hwcaps: Hwcaps,
    /// Who runs it.
    pub credentials: Credentials,
    /// Where the vDSO is, if there is one.
    pub vdso: Option<UserAddr>,
    /// The smallest stack for a signal: [`MIN_SIGNAL_STACK`], or more with SVE.
    pub min_signal_stack: u64,
    /// Whether there are [restartable sequences](crate::rseq).
    pub restartable: bool,
}

/// Why a stack cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackError {
    /// Arguments and environment are too large (`E2BIG`).
    TooLarge {
        /// Bytes that they need.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// A string has a NUL in it.
    Nul,
    /// There is less address space below the top than memory.
    Top(UserAddr),
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { needed, available } => {
                write!(f, "arguments and environment need {needed} bytes of stack: there are {available}")
            }
            Self::Nul => f.write_str("an argument or a variable of the environment has a NUL in it"),
            Self::Top(top) => write!(f, "a stack cannot end at {top}"),
        }
    }
}

impl core::error::Error for StackError {}

/// How much there is of everything.
struct Sizes {
    arguments: usize,
    environment: usize,
    strings: usize,
}

impl<'a, A, E> InitialStack<'a, A, E>
where
    A: Iterator<Item = &'a [u8]> + Clone,
    E: Iterator<Item = &'a [u8]> + Clone,
{
    /// Bytes that it needs at most, whatever the top's alignment.
    ///
    /// # Errors
    /// [`StackError::Nul`].
    pub fn size(&self) -> Result<usize, StackError> {
        Ok(self.size_of(&self.sizes()?))
    }

    /// Writes it into the memory that ends at `top` in the program's address space; returns its stack
    /// pointer.
    ///
    /// All bytes of `memory` from the stack pointer on are written, none below.
    ///
    /// # Errors
    /// See [`StackError`].
    pub fn write(&self, top: UserAddr, memory: &mut [u8]) -> Result<UserAddr, StackError> {
        let sizes = self.sizes()?;
        let available = memory.len() as u64;
        let bottom = top.get().checked_sub(available).ok_or(StackError::Top(top))?;
        let needed = self.size_of(&sizes) as u64;
        // As many bytes below an address, aligned, if they are all in `memory`.
        let room = |below: u64, bytes: usize| {
            let start = below.checked_sub(bytes as u64).map(|start| start & !(ALIGNMENT - 1));
            start.filter(|start| *start >= bottom).ok_or(StackError::TooLarge { needed, available })
        };
        // Strings grow upwards from where they begin; so do the vectors, and all is known before anything is
        // written.
        let strings = top.get().saturating_sub(sizes.strings as u64);
        let random = room(strings, self.random.len())?;
        let stack = room(random, self.vectors(&sizes))?;

        let memory = &mut memory[(stack - bottom) as usize..];
        memory.fill(0);
        let at = |address: u64| (address - stack) as usize;
        memory[at(random)..][..self.random.len()].copy_from_slice(&self.random);
        let (vectors, strings_memory) = memory.split_at_mut(at(strings));
        let mut strings = Strings { memory: strings_memory, address: strings };
        let mut vectors = Vectors { memory: vectors };

        let platform = strings.push(PLATFORM);
        vectors.push(sizes.arguments as u64);
        self.arguments().for_each(|argument| vectors.push(strings.push(argument)));
        vectors.push(0);
        self.environment.clone().for_each(|variable| vectors.push(strings.push(variable)));
        vectors.push(0);
        let file_name = strings.push(self.file_name);
        for (kind, value) in self.auxiliary(platform, random, file_name) {
            vectors.push(kind.0);
            vectors.push(value);
        }
        Ok(UserAddr::new(stack))
    }

    /// Both aligned parts cost up to 15 bytes more.
    fn size_of(&self, sizes: &Sizes) -> usize {
        (self.vectors(sizes) + self.random.len() + 2 * ALIGNMENT as usize).saturating_add(sizes.strings)
    }

    fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        let missing = self.arguments.clone().next().is_none();
        self.arguments.clone().chain(missing.then_some(&b""[..]))
    }

    fn sizes(&self) -> Result<Sizes, StackError> {
        let others = [PLATFORM, self.file_name].into_iter();
        let mut strings = TOP;
        for string in self.arguments().chain(self.environment.clone()).chain(others) {
            if string.contains(&0) {
                return Err(StackError::Nul);
            }
            strings = strings.saturating_add(string.len() + 1);
        }
        Ok(Sizes {
            arguments: self.arguments().count(),
            environment: self.environment.clone().count(),
            strings,
        })
    }

    /// Bytes of the vectors, `argc` included.
    fn vectors(&self, sizes: &Sizes) -> usize {
        let pairs = self.auxiliary(0, 0, 0).count();
        (1 + sizes.arguments + 1 + sizes.environment + 1 + 2 * pairs) * WORD
    }

    fn auxiliary(
        &self,
        platform: u64,
        random: u64,
        name: u64,
    ) -> impl Iterator<Item = (AuxType, u64)> + use<A, E> {
        let Credentials { user, group } = self.credentials;
        let headers = self.program.headers();
        // Without headers in memory, the auxiliary vector says that there are none.
        let header_count = if headers.is_some() { self.program.header_count() } else { 0 };
        let address = |address: Option<UserAddr>| address.unwrap_or_default().get();
        let vdso = self.vdso.map(|vdso| (AuxType::SYSINFO_EHDR, vdso.get()));
        let restartable = |kind| if self.restartable { kind } else { AuxType::IGNORE };
        let others = [
            (AuxType::MINSIGSTKSZ, self.min_signal_stack),
            (AuxType::HWCAP, self.hwcaps.hwcap),
            (AuxType::PAGESZ, PAGE),
            (AuxType::CLKTCK, CLOCK_TICKS),
            (AuxType::PHDR, address(headers)),
            (AuxType::PHENT, u64::from(HEADER_SIZE)),
            (AuxType::PHNUM, header_count),
            (AuxType::BASE, 0),
            (AuxType::FLAGS, 0),
            (AuxType::ENTRY, self.program.entry().get()),
            (AuxType::UID, u64::from(user)),
            (AuxType::EUID, u64::from(user)),
            (AuxType::GID, u64::from(group)),
            (AuxType::EGID, u64::from(group)),
            (AuxType::SECURE, 0),
            (AuxType::RANDOM, random),
            (AuxType::HWCAP2, self.hwcaps.hwcap2),
            (restartable(AuxType::RSEQ_FEATURE_SIZE), u64::from(rseq::FEATURE_SIZE)),
            (restartable(AuxType::RSEQ_ALIGN), rseq::ALIGNMENT),
            (AuxType::EXECFN, name),
            (AuxType::PLATFORM, platform),
            (AuxType::NULL, 0),
        ];
        vdso.into_iter().chain(others)
    }
}

struct Strings<'m> {
    memory: &'m mut [u8],
    address: u64,
}

impl Strings<'_> {
    /// Copies a string, behind the ones before it; returns its address. Its NUL is there already.
    fn push(&mut self, string: &[u8]) -> u64 {
        let (here, rest) = core::mem::take(&mut self.memory).split_at_mut(string.len() + 1);
        here[..string.len()].copy_from_slice(string);
        self.memory = rest;
        let address = self.address;
        self.address += here.len() as u64;
        address
    }
}

struct Vectors<'m> {
    memory: &'m mut [u8],
}

impl Vectors<'_> {
    fn push(&mut self, word: u64) {
        let (here, rest) = core::mem::take(&mut self.memory).split_at_mut(WORD);
        here.copy_from_slice(&word.to_le_bytes());
        self.memory = rest;
    }
}
