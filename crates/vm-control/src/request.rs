//! Requests: `ioctl` numbers, and the structures that go with them.
//!
//! Numbers are made as on Linux (`uapi/asm-generic/ioctl.h`): direction, size, the letter `M`, and a number.
//! What a request returns is written into the same structure.
//!
//! | error | why |
//! |---|---|
//! | `ENXIO` | there is no such VM, vCPU or core |
//! | `EBUSY` | the VM, or its core, is not in a state for that |
//! | `EINVAL` | a number means nothing, or the parameters of a policy do not fit it |
//! | `ENOSPC` | the core takes no more vCPUs, or has not so much time left |
//! | `EIO` | the hypervisor refused |
//! | `ENOTTY` | there is no such request |

use crate::{Policy, Scheduling};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const LETTER: u32 = b'M' as u32;

const fn number(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | LETTER << 8 | number
}

/// `_IOW`: the structure goes in.
const fn write<T>(nr: u32) -> u32 {
    number(1, nr, size_of::<T>())
}

/// `_IOWR`: in and out.
const fn both<T>(nr: u32) -> u32 {
    number(3, nr, size_of::<T>())
}

/// `_IOR`, of a `u32`: the version of this contract, [`VERSION_NOW`].
pub const VERSION: u32 = number(2, 0, 4);
/// Of a [`VmInfo`], whose `index` says which: 0 and up, until `ENXIO`.
pub const VM_INFO: u32 = both::<VmInfo>(1);
/// Of a [`VcpuInfo`], whose `vm` and `vcpu` say which.
pub const VCPU_INFO: u32 = both::<VcpuInfo>(2);
/// Of a [`CoreInfo`], whose `core` says which.
pub const CORE_INFO: u32 = both::<CoreInfo>(3);
/// Of a [`CrashInfo`], whose `vm` says which; `EBUSY` if it was not stopped for a fault.
pub const CRASH_INFO: u32 = both::<CrashInfo>(4);
/// Of a [`Target`]: runs a VM that does not run, as it was at boot.
pub const VM_START: u32 = write::<Target>(16);
/// Of a [`Target`]: stops it; returns when nothing of it runs any more.
pub const VM_STOP: u32 = write::<Target>(17);
/// Of a [`Target`]: returns when none of its vCPUs is run any more. What others ask it by direct messages it
/// still does.
pub const VM_PAUSE: u32 = write::<Target>(18);
/// Of a [`Target`]: runs them again.
pub const VM_RESUME: u32 = write::<Target>(19);
/// Of a [`Target`]: has a vCPU run on another core from now on.
pub const VCPU_ASSIGN: u32 = write::<Target>(20);
/// Of a [`SetScheduling`]: for all vCPUs of a VM, and the cores that they are on.
pub const VM_SCHEDULING: u32 = write::<SetScheduling>(21);

/// Version of the interface, which [`VERSION`] returns.
pub const VERSION_NOW: u32 = 1;

/// Room for a VM's name, its NUL included.
pub const NAME: usize = 32;
/// Room for [`settings`](crate::settings), a NUL included.
pub const SETTINGS: usize = 224;

/// A VM, a vCPU, a core: what a request is about. What it does not need is not looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Target {
    /// The VM's number.
    pub vm: u16,
    /// The vCPU's.
    pub vcpu: u16,
    /// The core's.
    pub core: u32,
}

/// Information about a VM.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VmInfo {
    /// Which one, in order of their numbers; in.
    pub index: u32,
    /// Its number.
    pub vm: u16,
    /// How many vCPUs it has.
    pub vcpus: u16,
    /// A number of [`VmState`](crate::VmState).
    pub state: u8,
    /// A number of [`Policy`], if it has been given one; 255: that of its cores.
    pub policy: u8,
    /// Zero.
    pub reserved: u16,
    /// How often it has been started.
    pub starts: u32,
    /// As in [`Scheduling`].
    pub parameter: u32,
    /// Zero.
    pub reserved_too: u32,
    /// Its name, and NULs.
    pub name: [u8; NAME],
    /// What its manifest says of how it is to be run, and NULs.
    pub settings: [u8; SETTINGS],
}

/// Information about a vCPU. Counts are the hypervisor's, since boot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuInfo {
    /// Its VM's number; in.
    pub vm: u16,
    /// Its own; in.
    pub vcpu: u16,
    /// The core that it is assigned to.
    pub core: u32,
    /// Nanoseconds that it has run.
    pub ran_ns: u64,
    /// How often it was entered, and left for: a yield, a wait for an interrupt, one for a message, an
    /// interrupt of somebody else's, another reason.
    pub entries: u64,
    /// See there.
    pub yields: u64,
    /// See there.
    pub waits: u64,
    /// See there.
    pub messages: u64,
    /// See there.
    pub interrupts: u64,
    /// See there.
    pub others: u64,
    /// External aborts that it got, for accesses to addresses where its VM has nothing.
    pub external_aborts: u64,
}

/// Information about a core.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CoreInfo {
    /// Its number; in.
    pub core: u32,
    /// Whether it takes vCPUs.
    pub online: u32,
    /// Tasks that are ready or run.
    pub load: u32,
    /// vCPUs that are assigned to it.
    pub vcpus: u32,
    /// Interrupts that the kernel has taken there.
    pub interrupts: u64,
}

/// Why a VM was stopped (Arm ARM, `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CrashInfo {
    /// Its number; in.
    pub vm: u16,
    /// The vCPU whose fault it was.
    pub vcpu: u16,
    /// Zero.
    pub reserved: u32,
    /// The syndrome.
    pub syndrome: u64,
    /// The virtual address.
    pub address: u64,
    /// The intermediate physical address.
    pub ipa: u64,
    /// The program counter.
    pub pc: u64,
}

/// [`Scheduling`] of a VM.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetScheduling {
    /// The VM's number.
    pub vm: u16,
    /// A number of [`Policy`].
    pub policy: u8,
    /// Zero.
    pub reserved: u8,
    /// As in [`Scheduling`].
    pub parameter: u32,
    /// As in [`Scheduling`].
    pub quantum_ns: u64,
    /// As in [`Scheduling`].
    pub reserved_ns: u64,
    /// As in [`Scheduling`].
    pub period_ns: u64,
}

impl SetScheduling {
    /// Returns a request that sets the scheduling of a VM.
    pub const fn new(vm: u16, scheduling: Scheduling) -> Self {
        let Scheduling { policy, quantum_ns, parameter, reserved_ns, period_ns } = scheduling;
        Self { vm, policy: policy as u8, reserved: 0, parameter, quantum_ns, reserved_ns, period_ns }
    }

    /// Returns the scheduling of the request; `None` if the policy is unknown.
    pub fn scheduling(&self) -> Option<Scheduling> {
        let policy = Policy::from_number(self.policy)?;
        let Self { parameter, quantum_ns, reserved_ns, period_ns, .. } = *self;
        Some(Scheduling { policy, quantum_ns, parameter, reserved_ns, period_ns })
    }
}

impl VmInfo {
    /// A question for the VM with this index.
    pub fn ask(index: u32) -> Self {
        let mut info = Self::new_zeroed();
        info.index = index;
        info
    }

    /// Returns the VM's name.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// Returns the VM's settings.
    pub fn settings(&self) -> &str {
        text(&self.settings)
    }

    /// Puts a text into a field of this structure: as much of it as fits before a NUL.
    pub fn put(field: &mut [u8], text: &str) {
        field.fill(0);
        let mut room = field.len().saturating_sub(1).min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        field[..room].copy_from_slice(&text.as_bytes()[..room]);
    }
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    core::str::from_utf8(&field[..end]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_match_documentation() {
        let all = [
            (VERSION, 0x8004_4d00),
            (VM_INFO, 0xc118_4d01),
            (VCPU_INFO, 0xc048_4d02),
            (CORE_INFO, 0xc018_4d03),
            (CRASH_INFO, 0xc028_4d04),
            (VM_START, 0x4008_4d10),
            (VM_STOP, 0x4008_4d11),
            (VM_PAUSE, 0x4008_4d12),
            (VM_RESUME, 0x4008_4d13),
            (VCPU_ASSIGN, 0x4008_4d14),
            (VM_SCHEDULING, 0x4020_4d15),
        ];
        for (is, says) in all {
            assert_eq!(is, says, "{is:#x}");
        }
    }

    #[test]
    fn scheduling_goes_through() {
        let edf = Scheduling { reserved_ns: 3, period_ns: 10, ..Scheduling::of(Policy::Edf) };
        assert_eq!(SetScheduling::new(2, edf).scheduling(), Some(edf));
        assert_eq!(SetScheduling { policy: 6, ..SetScheduling::default() }.scheduling(), None);
    }

    proptest! {
        #[test]
        fn texts_are_cut_between_characters(text in ".*") {
            let mut info = VmInfo::ask(0);
            VmInfo::put(&mut info.name, &text);
            prop_assert!(text.split('\0').next().unwrap().starts_with(info.name()));
            prop_assert!(text.contains('\0') || text.len() >= NAME || info.name() == text);
            prop_assert_eq!(info.name[NAME - 1], 0);
        }
    }
}
