//! The notifications of a VM (DEN0077A, chapter 10): which senders it has bound to which bits, and what is pending.

use hv_abi::{ffa::Error, ids::VmId};

/// Framework notification of the hypervisor: the RX buffer is full. Hypervisor bits are the upper half.
pub(crate) const RX_BUFFER_FULL: u64 = 1 << 32;

/// Bits that are pending for one vCPU, outside of [`Notifications`] because there is one for each.
pub(crate) trait PerVcpu {
    /// Adds bits; they have not been reported to the scheduler.
    fn pend(&self, bits: u64);
    /// Takes all bits.
    fn take(&self) -> u64;
    /// The bits.
    fn pending(&self) -> u64;
}

/// A VM's notifications.
#[derive(Debug)]
pub(crate) struct Notifications {
    /// The VM receives notifications.
    enabled: bool,
    /// Who may set each bit; `HYPERVISOR` for nobody.
    senders: [VmId; 64],
    /// Bits that are pending for a vCPU each, rather than for the VM.
    per_vcpu: u64,
    /// Pending for the VM.
    pending: u64,
    /// Pending, from the hypervisor itself.
    framework: u64,
    /// The scheduler has been told of what is pending for the VM.
    pub(crate) reported: bool,
}

/// The numbers of the bits that are set.
fn bits(bitmap: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| bitmap >> bit & 1 != 0)
}

impl Notifications {
    /// None bound, none pending.
    pub(crate) fn new(enabled: bool) -> Self {
        let senders = [VmId::HYPERVISOR; 64];
        Self { enabled, senders, per_vcpu: 0, pending: 0, framework: 0, reported: false }
    }

    /// Makes the VM a receiver. `DENIED` if it is one.
    pub(crate) fn create(&mut self) -> Result<(), Error> {
        if self.enabled {
            return Err(Error::Denied);
        }
        *self = Self::new(true);
        Ok(())
    }

    /// Ends that. `DENIED` if the VM is no receiver, or something is pending.
    pub(crate) fn destroy(&mut self, pending_for_vcpus: u64) -> Result<(), Error> {
        if !self.enabled || self.pending | self.framework | pending_for_vcpus != 0 {
            return Err(Error::Denied);
        }
        *self = Self::new(false);
        Ok(())
    }

    /// Lets `sender` set the bits of `bitmap`: for the VM, or for one vCPU at a time. `DENIED` if the VM is no receiver or a bit is bound already.
    pub(crate) fn bind(&mut self, sender: VmId, per_vcpu: bool, bitmap: u64) -> Result<(), Error> {
        if bitmap == 0 {
            return Err(Error::InvalidParameters);
        }
        if !self.enabled || bits(bitmap).any(|bit| self.senders[bit] != VmId::HYPERVISOR) {
            return Err(Error::Denied);
        }
        bits(bitmap).for_each(|bit| self.senders[bit] = sender);
        self.per_vcpu = if per_vcpu { self.per_vcpu | bitmap } else { self.per_vcpu & !bitmap };
        Ok(())
    }

    /// Ends that. `DENIED` if a bit is not bound to `sender`, or is pending.
    pub(crate) fn unbind(&mut self, sender: VmId, bitmap: u64, pending_for_vcpus: u64) -> Result<(), Error> {
        if bitmap == 0 {
            return Err(Error::InvalidParameters);
        }
        let pending = self.pending | pending_for_vcpus;
        if !self.is_bound(sender, bitmap) || bitmap & pending != 0 {
            return Err(Error::Denied);
        }
        bits(bitmap).for_each(|bit| self.senders[bit] = VmId::HYPERVISOR);
        Ok(())
    }

    fn is_bound(&self, sender: VmId, bitmap: u64) -> bool {
        self.enabled && bits(bitmap).all(|bit| self.senders[bit] == sender)
    }

    /// Makes bits pending: for `vcpu`, or for the VM. `DENIED` if one is not bound to `sender`, `INVALID_PARAMETERS` if one is
    /// bound the other way.
    pub(crate) fn set(
        &mut self,
        sender: VmId,
        vcpu: Option<&impl PerVcpu>,
        bitmap: u64,
    ) -> Result<(), Error> {
        if bitmap == 0 {
            return Err(Error::InvalidParameters);
        }
        if !self.is_bound(sender, bitmap) {
            return Err(Error::Denied);
        }
        let of_this_kind = if vcpu.is_some() { self.per_vcpu } else { !self.per_vcpu };
        if bitmap & !of_this_kind != 0 {
            return Err(Error::InvalidParameters);
        }
        if let Some(vcpu) = vcpu {
            vcpu.pend(bitmap);
        } else {
            self.pending |= bitmap;
            self.reported = false;
        }
        Ok(())
    }

    /// The hypervisor itself has something to tell the VM, if that is a receiver. Returns whether it is.
    pub(crate) fn set_framework(&mut self, bits: u64) -> bool {
        if self.enabled {
            self.framework |= bits;
            self.reported = false;
        }
        self.enabled
    }

    /// Takes what is pending for the VM from other VMs.
    pub(crate) fn take(&mut self) -> u64 {
        core::mem::take(&mut self.pending)
    }

    /// Takes what is pending from the hypervisor.
    pub(crate) fn take_framework(&mut self) -> u64 {
        core::mem::take(&mut self.framework)
    }

    /// Whether anything is pending for the VM as a whole.
    pub(crate) fn any(&self) -> bool {
        self.pending | self.framework != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    impl PerVcpu for Cell<u64> {
        fn pend(&self, bits: u64) {
            self.set(self.get() | bits);
        }
        fn take(&self) -> u64 {
            self.replace(0)
        }
        fn pending(&self) -> u64 {
            self.get()
        }
    }

    const NOBODY: Option<&Cell<u64>> = None;
    const A: VmId = VmId(2);
    const B: VmId = VmId(3);

    #[test]
    fn only_the_bound_sender_sets_a_bit() {
        let mut n = Notifications::new(false);
        assert_eq!(n.bind(A, false, 1), Err(Error::Denied));
        n.create().unwrap();
        assert_eq!(n.create(), Err(Error::Denied));
        n.bind(A, false, 0b11).unwrap();
        assert_eq!(n.bind(B, false, 0b10), Err(Error::Denied));
        assert_eq!(n.set(B, NOBODY, 1), Err(Error::Denied));
        assert_eq!(n.set(A, NOBODY, 0b101), Err(Error::Denied));
        assert_eq!(n.set(A, NOBODY, 0), Err(Error::InvalidParameters));
        assert_eq!(n.set(A, NOBODY, 0b01), Ok(()));
        assert_eq!(n.unbind(A, 0b01, 0), Err(Error::Denied));
        assert_eq!(n.unbind(B, 0b10, 0), Err(Error::Denied));
        assert_eq!(n.unbind(A, 0b10, 0), Ok(()));
        assert_eq!(n.take(), 0b001);
        assert_eq!(n.take(), 0);
        assert_eq!(n.unbind(A, 0b01, 0), Ok(()));
    }

    #[test]
    fn bits_of_a_vcpu_and_of_the_vm_do_not_mix() {
        let mut n = Notifications::new(true);
        let vcpu = Cell::new(0);
        n.bind(A, true, 1).unwrap();
        n.bind(A, false, 2).unwrap();
        assert_eq!(n.set(A, NOBODY, 1), Err(Error::InvalidParameters));
        assert_eq!(n.set(A, Some(&vcpu), 2), Err(Error::InvalidParameters));
        assert_eq!(n.set(A, Some(&vcpu), 1), Ok(()));
        assert_eq!(vcpu.pending(), 1);
        assert_eq!(n.unbind(A, 1, vcpu.pending()), Err(Error::Denied));
        assert_eq!(n.destroy(vcpu.pending()), Err(Error::Denied));
        assert_eq!((vcpu.take(), n.take()), (1, 0));
        assert_eq!(n.destroy(0), Ok(()));
        assert!(!n.set_framework(RX_BUFFER_FULL));
    }
}
