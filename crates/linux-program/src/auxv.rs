//! The auxiliary vector: what a kernel passes to a program's start-up code.
//!
//! Numbers from Linux' `uapi/linux/auxvec.h` and AArch64's `uapi/asm/auxvec.h`.

/// The meaning of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuxType(pub u64);

impl AuxType {
    /// The end of the vector.
    pub const NULL: Self = Self(0);
    /// An entry without a meaning.
    pub const IGNORE: Self = Self(1);
    /// Address of the program headers.
    pub const PHDR: Self = Self(3);
    /// Bytes of a program header.
    pub const PHENT: Self = Self(4);
    /// How many program headers.
    pub const PHNUM: Self = Self(5);
    /// Bytes of a page.
    pub const PAGESZ: Self = Self(6);
    /// Where the interpreter was loaded; 0 without one.
    pub const BASE: Self = Self(7);
    /// Flags; none are defined.
    pub const FLAGS: Self = Self(8);
    /// The first instruction.
    pub const ENTRY: Self = Self(9);
    /// The real user.
    pub const UID: Self = Self(11);
    /// The effective user.
    pub const EUID: Self = Self(12);
    /// The real group.
    pub const GID: Self = Self(13);
    /// The effective group.
    pub const EGID: Self = Self(14);
    /// Address of the platform's name.
    pub const PLATFORM: Self = Self(15);
    /// Capabilities of the processor, [`Hwcaps::hwcap`](crate::hwcap::Hwcaps::hwcap).
    pub const HWCAP: Self = Self(16);
    /// Ticks a second of `times()`.
    pub const CLKTCK: Self = Self(17);
    /// Whether to distrust the environment.
    pub const SECURE: Self = Self(23);
    /// Address of 16 random bytes.
    pub const RANDOM: Self = Self(25);
    /// More capabilities, [`Hwcaps::hwcap2`](crate::hwcap::Hwcaps::hwcap2).
    pub const HWCAP2: Self = Self(26);
    /// Bytes of `struct rseq` that the kernel knows.
    pub const RSEQ_FEATURE_SIZE: Self = Self(27);
    /// What `struct rseq` is aligned to.
    pub const RSEQ_ALIGN: Self = Self(28);
    /// Address of the program's file name.
    pub const EXECFN: Self = Self(31);
    /// Address of the vDSO.
    pub const SYSINFO_EHDR: Self = Self(33);
    /// The smallest stack for a signal.
    pub const MINSIGSTKSZ: Self = Self(51);
}
