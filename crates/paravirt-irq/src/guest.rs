//! The guest's half: a driver over the calls of [`hv_abi::paravirt`].

use hv_abi::{
    guest,
    ids::{VcpuIndex, VirtIntId},
};

/// The para-virtual interrupt controller of the vCPU that this is called on.
///
/// All vCPUs use the same value: the hypervisor knows which one calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controller;

impl Controller {
    /// Enables an interrupt of this vCPU. Returns whether there is such an interrupt.
    pub fn enable(self, id: VirtIntId) -> bool {
        guest::interrupt_enable(id, true)
    }

    /// Disables an interrupt of this vCPU.
    pub fn disable(self, id: VirtIntId) -> bool {
        guest::interrupt_enable(id, false)
    }

    /// Takes the next pending interrupt; call it until it returns `None`. There is no end-of-interrupt.
    #[inline]
    pub fn take(self) -> Option<VirtIntId> {
        guest::interrupt_get()
    }

    /// Interrupts another vCPU of this VM with [`hv_abi::paravirt::IPI`].
    #[inline]
    pub fn send_ipi(self, target: VcpuIndex) -> bool {
        guest::send_ipi(target)
    }
}
