//! The contract between the Margay hypervisor and its VMs.
//!
//! Everything that crosses the boundary is defined here and nowhere else: identifiers, call numbers, error
//! codes, exit reasons, the fixed memory layout of secondary VMs, and the layout of shared pages. The
//! hypervisor (`hv-core`) and every guest (`lwk-core`, test guests, other kernels) depend on this crate; it
//! holds no state and no code that touches the machine, except the guest-side wrappers in `guest`, which
//! execute `HVC`.
//!
//! | module | what | defined by |
//! |---|---|---|
//! | [`ids`] | VM and vCPU ids, addresses | FF-A, Margay |
//! | [`ffa`] | FF-A functions, error codes, descriptors | Arm DEN0077A |
//! | [`paravirt`] | para-virtual interrupt calls and interrupt ids | Hafnium's scheduling-VM interface |
//! | [`psci`] | power functions and return codes | Arm DEN0022 |
//! | [`vendor`] | what FF-A has no word for | Margay, in SMCCC's vendor-specific hypervisor range |
//! | [`layout`] | where a secondary VM finds its memory and boot data | Margay |
//! | [`exit`] | why `FFA_RUN` came back | FF-A, Hafnium |
//! | [`registers`], [`features`] | what a VM sees of the processor's registers, and in those that identify it | Margay |
//!
//! ```
//! use hv_abi::{exit::Exit, ffa, ids::{VcpuId, VcpuIndex, VmId}, Regs};
//!
//! // What the scheduler VM reads from its registers when a vCPU of VM 2 yields:
//! let vcpu = VcpuId { vm: VmId(2), index: VcpuIndex(0) };
//! let exit = Exit::Yield { timeout_ns: None };
//! let regs = exit.to_regs(vcpu);
//! assert_eq!(regs.0[0], u64::from(ffa::YIELD));
//! assert_eq!(Exit::from_regs(&regs), Ok((vcpu, exit)));
//! ```
#![no_std]
#![cfg_attr(not(target_os = "none"), forbid(unsafe_code))]

pub mod exit;
pub mod features;
pub mod ffa;
#[cfg(target_arch = "aarch64")]
pub mod guest;
pub mod ids;
pub mod layout;
pub mod paravirt;
pub mod psci;
pub mod registers;
pub mod vendor;

/// The eight argument and result registers x0 to x7 of a call (SMCCC 1.2, section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Regs(pub [u64; 8]);

impl Regs {
    /// Registers with `func` in w0 and nothing else.
    pub const fn func(func: u32) -> Self {
        Self([func as u64, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The function identifier: w0.
    pub const fn function(&self) -> u32 {
        self.0[0] as u32
    }
}

/// Result of an unknown function (SMCCC 1.2, section 5.2): -1 in x0.
pub const SMCCC_NOT_SUPPORTED: u64 = u64::MAX;

/// SMCCC function identifiers that every VM may ask (SMCCC 1.2, section 7).
pub mod smccc {
    /// `SMCCC_VERSION`.
    pub const VERSION: u32 = 0x8000_0000;
    /// `SMCCC_ARCH_FEATURES`.
    pub const ARCH_FEATURES: u32 = 0x8000_0001;
    /// `SMCCC_ARCH_WORKAROUND_1`: against speculation that another context has trained (CVE-2017-5715).
    pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
    /// `SMCCC_ARCH_WORKAROUND_2`: against speculation past stores (CVE-2018-3639).
    pub const ARCH_WORKAROUND_2: u32 = 0x8000_7FFF;
    /// `SMCCC_ARCH_WORKAROUND_3`: against speculation by branch history (CVE-2022-23960).
    pub const ARCH_WORKAROUND_3: u32 = 0x8000_3FFF;
    /// `SMCCC_ARCH_FEATURES` of a workaround that no core needs.
    pub const NOT_REQUIRED: i32 = -2;
    /// The first version with `SMCCC_ARCH_FEATURES`: 1.1.
    pub const VERSION_1_1: i32 = 0x1_0001;
    /// The version that Margay speaks: 1.2.
    pub const VERSION_1_2: u64 = 0x1_0002;
    /// Bit 30 of a function identifier: arguments and results are 64 bits wide.
    pub const CONVENTION_64: u32 = 1 << 30;
}
