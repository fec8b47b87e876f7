//! What `FFA_NOTIFICATION_INFO_GET` returns (DEN0077A, chapter 16): which VMs and vCPUs the scheduler should
//! run, because notifications are pending for them.

use super::{SUCCESS, SUCCESS_64};
use crate::{
    Regs,
    ids::{VcpuIndex, VmId},
};

/// The most vCPUs that one list names.
const MAX_VCPUS: usize = 3;

/// One VM, and those of its vCPUs that have something pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// The VM.
    pub vm: VmId,
    count: usize,
    vcpus: [VcpuIndex; MAX_VCPUS],
}

impl List {
    /// The vCPUs; none if what is pending is for the VM, and any of them will do.
    pub fn vcpus(&self) -> &[VcpuIndex] {
        &self.vcpus[..self.count]
    }
}

/// The lists of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    regs: Regs,
}

impl Pending {
    /// Reads the results of the call, in its 32-bit or its 64-bit form; `None` if it did not succeed.
    pub const fn from_regs(regs: Regs) -> Option<Self> {
        match regs.function() {
            SUCCESS | SUCCESS_64 => Some(Self { regs }),
            _ => None,
        }
    }

    /// Returns whether there is more than these lists: the call should be made again.
    pub const fn more(&self) -> bool {
        self.regs.0[2] & 1 != 0
    }

    /// The lists: how many there are is in bits 11:7 of w2, how many vCPUs each has, in two bits each from
    /// bit 12 on. Their ids, of 16 bits each, follow each other from w3 on.
    pub fn lists(&self) -> impl Iterator<Item = List> + use<> {
        let regs = self.regs;
        let wide = regs.function() == SUCCESS_64;
        let per_register = if wide { 4 } else { 2 };
        let id = move |at: usize| {
            regs.0.get(3 + at / per_register).map(|x| (x >> (16 * (at % per_register))) as u16)
        };
        let (count, mut sizes) = (regs.0[2] >> 7 & 31, regs.0[2] >> 12);
        let mut at = 0;
        (0..count).map_while(move |_| {
            let mut list =
                List { vm: VmId(id(at)?), count: (sizes & 3) as usize, vcpus: [VcpuIndex(0); MAX_VCPUS] };
            for (i, vcpu) in list.vcpus.iter_mut().take(list.count).enumerate() {
                *vcpu = VcpuIndex(id(at + 1 + i)?);
            }
            sizes >>= 2;
            at += 1 + list.count;
            Some(list)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(pending: &Pending) -> impl Iterator<Item = (u16, usize, u16)> {
        pending.lists().map(|list| {
            let last = list.vcpus().last().map_or(0, |vcpu| vcpu.0);
            (list.vm.0, list.vcpus().len(), last)
        })
    }

    #[test]
    fn lists_are_read() {
        // VM 2, vCPUs 1 and 5; VM 3 as a whole; VM 4, vCPU 7; more.
        let w2 = 1 | 3 << 7 | (2 | 1 << 4) << 12;
        let wide = [SUCCESS_64.into(), 0, w2, 0x0003_0005_0001_0002, 0x0007_0004, 0, 0, 0];
        let narrow = [SUCCESS.into(), 0, w2, 0x0001_0002, 0x0003_0005, 0x0007_0004, 0, 0];
        for regs in [wide, narrow] {
            let pending = Pending::from_regs(Regs(regs)).unwrap();
            assert!(pending.more());
            assert!(lists(&pending).eq([(2, 2, 5), (3, 0, 0), (4, 1, 7)]));
        }
        assert_eq!(Pending::from_regs(Regs::func(super::super::ERROR)), None);
    }

    #[test]
    fn ignores_lists_beyond_the_registers() {
        let narrow = [SUCCESS.into(), 0, u64::MAX, 1, 2, 3, 4, 5];
        let pending = Pending::from_regs(Regs(narrow)).unwrap();
        assert!(lists(&pending).eq([(1, 3, 0), (3, 3, 0)]));
    }
}
