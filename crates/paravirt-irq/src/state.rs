//! The state of one vCPU's controller.

// `tests/loom.rs` has other atomics here, which try every order of things.
use crate::sync::{AtomicU64, Ordering};
use hv_abi::ids::VirtIntId;

/// Para-virtual interrupt controller of one vCPU.
///
/// [`pend`](Self::pend) and [`set_pending`](Self::set_pending) may be called from any core. The other
/// operations belong to the core that runs the vCPU. The orderings are sequentially consistent, so that a
/// hypervisor can pair "make pending, then look whether the vCPU runs" with "publish that the vCPU waits,
/// then look whether something is pending": one of the two sees the other.
///
/// ```
/// use hv_abi::paravirt;
/// use paravirt_irq::VcpuInterrupts;
///
/// let irqs = VcpuInterrupts::new();
/// irqs.pend(paravirt::TIMER);
/// assert!(!irqs.line()); // not enabled yet
/// irqs.enable(paravirt::TIMER, true);
/// assert!(irqs.line());
/// assert_eq!(irqs.take(), Some(paravirt::TIMER));
/// assert_eq!(irqs.take(), None);
/// ```
#[derive(Debug, Default)]
pub struct VcpuInterrupts {
    pub(crate) enabled: AtomicU64,
    pub(crate) pending: AtomicU64,
}

impl VcpuInterrupts {
    /// Back to [`new`](Self::new), for a vCPU that is started again.
    pub fn reset(&self) {
        self.enabled.store(0, Ordering::SeqCst);
        self.pending.store(0, Ordering::SeqCst);
    }

    /// Clears all pending interrupts; enabled ones stay enabled.
    pub fn forget(&self) {
        self.pending.store(0, Ordering::SeqCst);
    }

    /// Enables or disables an id. An id that is pending stays so while it is disabled.
    #[inline]
    pub fn enable(&self, id: VirtIntId, enable: bool) {
        // Only the running core writes `enabled`: no read-modify-write is needed.
        let enabled = self.enabled.load(Ordering::Relaxed);
        let enabled = if enable { enabled | id.bit() } else { enabled & !id.bit() };
        self.enabled.store(enabled, Ordering::SeqCst);
    }

    /// Makes an id pending.
    #[inline(always)]
    pub fn set_pending(&self, id: VirtIntId) {
        self.pending.fetch_or(id.bit(), Ordering::SeqCst);
    }

    /// Makes an id pending. Returns whether the virtual IRQ line is now high because of this id.
    #[inline(always)]
    pub fn pend(&self, id: VirtIntId) -> bool {
        self.set_pending(id);
        self.enabled.load(Ordering::SeqCst) & id.bit() != 0
    }

    /// Returns whether an id is enabled. Only the core that runs the vCPU knows.
    #[inline(always)]
    pub fn is_enabled(&self, id: VirtIntId) -> bool {
        self.enabled.load(Ordering::Relaxed) & id.bit() != 0
    }

    /// Returns whether an id is pending, enabled or not.
    pub fn is_pending(&self, id: VirtIntId) -> bool {
        self.pending.load(Ordering::SeqCst) & id.bit() != 0
    }

    /// Returns whether the virtual IRQ line is high: an enabled id is pending.
    #[inline(always)]
    pub fn line(&self) -> bool {
        self.pending.load(Ordering::SeqCst) & self.enabled.load(Ordering::Relaxed) != 0
    }

    /// Takes the lowest id that is pending and enabled: it is no longer pending.
    #[inline(always)]
    pub fn take(&self) -> Option<VirtIntId> {
        let ready = self.pending.load(Ordering::SeqCst) & self.enabled.load(Ordering::Relaxed);
        let id = VirtIntId::lowest(ready)?;
        self.pending.fetch_and(!id.bit(), Ordering::SeqCst);
        Some(id)
    }

    /// Takes those of `ids` that are pending and enabled: bits, as [`VirtIntId::bit`] has them.
    #[inline(always)]
    pub fn take_of(&self, ids: u64) -> u64 {
        let ready = self.pending.load(Ordering::SeqCst) & self.enabled.load(Ordering::Relaxed) & ids;
        if ready != 0 {
            self.pending.fetch_and(!ready, Ordering::SeqCst);
        }
        ready
    }
}
