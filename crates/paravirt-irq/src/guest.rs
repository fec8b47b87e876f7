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

/// The para-virtual interrupt controller of a VM that has list registers, on GICv3: interrupts are enabled
/// and sent by call, and taken and ended at the processor's CPU interface, where the hypervisor has put them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListController;

/// `ICC_IAR1_EL1`: ids from here on are none (GIC spec, 2.2).
const NO_INTERRUPT: u64 = 1020;

impl ListController {
    /// Opens the calling vCPU's interface: all priorities, group 1. Interrupts are masked. Returns whether
    /// there is one.
    pub fn init(self) -> bool {
        let enabled: u64;
        // SAFETY: these registers decide which interrupts come, and touch no memory: ICC_SRE_EL1,
        // ICC_PMR_EL1, ICC_BPR1_EL1, and ICC_IGRPEN1_EL1 (GIC spec, 12.2). The caller's VM has them if its
        // device tree says so.
        unsafe {
            core::arch::asm!(
                "mrs {sre}, s3_0_c12_c12_5",
                "msr s3_0_c4_c6_0, {mask}",
                "msr s3_0_c12_c12_3, xzr",
                "msr s3_0_c12_c12_7, {one}",
                "isb",
                sre = out(reg) enabled, mask = in(reg) 0xff_u64, one = in(reg) 1_u64,
                options(nostack, preserves_flags)
            );
        }
        enabled & 1 != 0
    }

    /// Takes the next interrupt; [`end`](Self::end) it before the next one can be taken. Device interrupts
    /// all come as [`hv_abi::paravirt::DEVICE`], after which [`Controller::take`] or
    /// `guest::any_interrupt_get` says which.
    #[inline]
    pub fn take(self) -> Option<u32> {
        let id: u64;
        // SAFETY: taking an interrupt touches no memory.
        unsafe {
            core::arch::asm!("mrs {}, s3_0_c12_c12_0", "dsb sy", out(reg) id, options(nostack, preserves_flags));
        }
        (id & 0xff_ffff < NO_INTERRUPT).then_some(id as u32)
    }

    /// Ends one that has been taken.
    #[inline]
    pub fn end(self, id: u32) {
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("msr s3_0_c12_c12_1, {}", in(reg) u64::from(id), options(nostack, preserves_flags));
        }
    }
}
