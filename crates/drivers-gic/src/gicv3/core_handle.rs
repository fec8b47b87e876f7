//! The controller, seen from one core.
use super::{Distributor, Redistributor};
use crate::{GicError, Intid, Mmio, MmioBlock, Trigger};
#[cfg(any(target_arch = "aarch64", doc))]
use crate::{InterruptController, Mpidr, gicv3::cpu_interface};

/// A GICv3 as one core sees it: its own redistributor, the shared distributor, its CPU interface.
///
/// Made by [`GicV3::init_core`](super::GicV3::init_core) on the core itself, and used on that core only.
#[derive(Clone, Copy, Debug)]
pub struct GicV3Core<M: Mmio = MmioBlock> {
    distributor: Distributor<M>,
    redistributor: Redistributor<M>,
}

/// Sends a call to the part of the controller that has the interrupt.
macro_rules! dispatch {
    ($self:ident, $method:ident($intid:ident $(, $argument:expr)*)) => {
        if $intid.is_private() {
            $self.redistributor.$method($intid $(, $argument)*)
        } else {
            $self.distributor.$method($intid $(, $argument)*)
        }
    };
}

impl<M: Mmio> GicV3Core<M> {
    pub(super) const fn new(distributor: Distributor<M>, redistributor: Redistributor<M>) -> Self {
        Self { distributor, redistributor }
    }

    /// The distributor.
    #[inline]
    pub const fn distributor(&self) -> &Distributor<M> {
        &self.distributor
    }

    /// This core's redistributor.
    #[inline]
    pub const fn redistributor(&self) -> &Redistributor<M> {
        &self.redistributor
    }

    /// Whether the interrupt is enabled.
    pub fn is_enabled(&self, intid: Intid) -> Result<bool, GicError> {
        dispatch!(self, is_enabled(intid))
    }

    /// Makes the interrupt active, or inactive: for a hypervisor that changes what a guest has in hand.
    pub fn set_active(&self, intid: Intid, active: bool) -> Result<(), GicError> {
        dispatch!(self, set_active(intid, active))
    }

    /// Whether the interrupt is active.
    pub fn is_active(&self, intid: Intid) -> Result<bool, GicError> {
        dispatch!(self, is_active(intid))
    }

    /// As [`InterruptController::enable`](crate::InterruptController::enable).
    pub fn enable(&self, intid: Intid) -> Result<(), GicError> {
        dispatch!(self, enable(intid))
    }

    /// As [`InterruptController::disable`](crate::InterruptController::disable).
    pub fn disable(&self, intid: Intid) -> Result<(), GicError> {
        dispatch!(self, disable(intid))
    }

    /// As [`InterruptController::set_priority`](crate::InterruptController::set_priority).
    pub fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError> {
        dispatch!(self, set_priority(intid, priority))
    }

    /// As [`InterruptController::set_trigger`](crate::InterruptController::set_trigger).
    pub fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError> {
        dispatch!(self, set_trigger(intid, trigger))
    }

    /// As [`InterruptController::set_pending`](crate::InterruptController::set_pending).
    pub fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError> {
        dispatch!(self, set_pending(intid, pending))
    }

    /// As [`InterruptController::is_pending`](crate::InterruptController::is_pending).
    pub fn is_pending(&self, intid: Intid) -> Result<bool, GicError> {
        dispatch!(self, is_pending(intid))
    }
}

#[cfg(any(target_arch = "aarch64", doc))]
impl<M: Mmio> InterruptController for GicV3Core<M> {
    fn enable(&self, intid: Intid) -> Result<(), GicError> {
        self.enable(intid)
    }

    fn disable(&self, intid: Intid) -> Result<(), GicError> {
        self.disable(intid)
    }

    fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError> {
        self.set_priority(intid, priority)
    }

    fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError> {
        self.set_trigger(intid, trigger)
    }

    fn route(&self, intid: Intid, target: Mpidr) -> Result<(), GicError> {
        if intid.is_private() {
            return Err(GicError::NotApplicable(intid));
        }
        self.distributor.route(intid, target)
    }

    fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError> {
        self.set_pending(intid, pending)
    }

    fn is_pending(&self, intid: Intid) -> Result<bool, GicError> {
        self.is_pending(intid)
    }

    #[inline]
    fn send_sgi(&self, target: Mpidr, sgi: Intid) -> Result<(), GicError> {
        if !sgi.is_sgi() {
            return Err(GicError::NotApplicable(sgi));
        }
        cpu_interface::send_sgi(target, sgi);
        Ok(())
    }

    #[inline]
    fn acknowledge(&self) -> Option<Intid> {
        cpu_interface::acknowledge()
    }

    #[inline]
    fn end(&self, intid: Intid) {
        cpu_interface::end(intid);
    }

    #[inline]
    fn deactivate(&self, intid: Intid) {
        cpu_interface::deactivate(intid);
    }
}
