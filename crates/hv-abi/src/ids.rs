//! Identifiers and addresses.

use core::fmt;
use plain_numbers::{Dec, Hex};

/// FF-A partition id of a VM (DEN0077A, section 2.8). 0 is the hypervisor, 1 the primary VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub u16);

impl VmId {
    /// The hypervisor itself.
    pub const HYPERVISOR: Self = Self(0);
    /// The primary VM: the one that schedules.
    pub const PRIMARY: Self = Self(1);
    /// The super-secondary VM, if there is one: it has the devices.
    pub const SUPER_SECONDARY: Self = Self(2);
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm{}", Dec(self.0.into()))
    }
}

/// Index of a vCPU within its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuIndex(pub u16);

/// A vCPU of a VM, as `FFA_RUN` and its exits name it: VM id in bits 31:16, vCPU index in bits 15:0 of w1
/// (DEN0077A, `FFA_RUN`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// The VM.
    pub vm: VmId,
    /// The vCPU within it.
    pub index: VcpuIndex,
}

impl VcpuId {
    /// Packs the id as w1 of `FFA_RUN`.
    pub const fn pack(self) -> u64 {
        ((self.vm.0 as u64) << 16) | self.index.0 as u64
    }

    /// Unpacks w1 of `FFA_RUN`.
    pub const fn unpack(w1: u64) -> Self {
        Self { vm: VmId((w1 >> 16) as u16), index: VcpuIndex(w1 as u16) }
    }
}

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.vm, Dec(self.index.0.into()))
    }
}

/// An intermediate physical address: what a VM believes to be physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipa(pub u64);

/// A physical address of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pa(pub u64);

impl fmt::Display for Ipa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.0).fmt(f)
    }
}

impl fmt::Display for Pa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.0).fmt(f)
    }
}

/// A para-virtual interrupt id, 0 to 62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtIntId(u8);

impl VirtIntId {
    /// How many ids there are: one bit each in a 64-bit word, the last of which stands for devices.
    pub const COUNT: u32 = 63;
    /// What [`crate::paravirt::DEVICE`] is.
    pub(crate) const DEVICE: Self = Self(63);

    /// The id `id`, if it is one.
    pub const fn new(id: u64) -> Option<Self> {
        if id < Self::COUNT as u64 { Some(Self(id as u8)) } else { None }
    }

    /// For constants: the id `id`, which must be below [`Self::COUNT`].
    pub(crate) const fn constant(id: u8) -> Self {
        assert!((id as u32) < Self::COUNT);
        Self(id)
    }

    /// The lowest of those whose bits are set in `ids`.
    #[inline(always)]
    pub const fn lowest(ids: u64) -> Option<Self> {
        if ids == 0 { None } else { Some(Self(ids.trailing_zeros() as u8)) }
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The bit of this id in a word of ids.
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpu_ids_pack_as_ffa_run_wants_them() {
        let id = VcpuId { vm: VmId(0x8001), index: VcpuIndex(3) };
        assert_eq!(id.pack(), 0x8001_0003);
        assert_eq!(VcpuId::unpack(0xffff_ffff_8001_0003), id);
    }

    #[test]
    fn interrupt_ids_end_at_63() {
        assert_eq!(VirtIntId::new(62).map(VirtIntId::bit), Some(1 << 62));
        assert_eq!(VirtIntId::new(63), None);
        assert_eq!(VirtIntId::lowest(0), None);
        assert_eq!(VirtIntId::lowest(u64::MAX << 63), Some(VirtIntId::DEVICE));
        assert_eq!(VirtIntId::lowest(0b1100).map(VirtIntId::number), Some(2));
        assert_eq!(VirtIntId::new(u64::MAX), None);
    }
}
