//! The state of one vCPU's controller.

use core::sync::atomic::{AtomicU64, Ordering};
use hv_abi::ids::VirtIntId;

/// One vCPU's para-virtual interrupt controller.
///
/// [`pend`](Self::pend) may be called from any core. The other operations belong to the core that runs the vCPU. The
/// orderings are sequentially consistent, so that a hypervisor can pair "make pending, then look whether the vCPU
/// runs" with "publish that the vCPU waits, then look whether something is pending": one of the two sees the other.
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
    enabled: AtomicU64,
    pending: AtomicU64,
}

impl VcpuInterrupts {
    /// Nothing enabled, nothing pending.
    pub const fn new() -> Self {
        Self { enabled: AtomicU64::new(0), pending: AtomicU64::new(0) }
    }

    /// Back to [`new`](Self::new), for a vCPU that is started again.
    pub fn reset(&self) {
        self.enabled.store(0, Ordering::SeqCst);
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

    /// Makes an id pending. Returns whether the virtual IRQ line is now high because of this id.
    #[inline(always)]
    pub fn pend(&self, id: VirtIntId) -> bool {
        self.pending.fetch_or(id.bit(), Ordering::SeqCst);
        self.enabled.load(Ordering::SeqCst) & id.bit() != 0
    }

    /// Whether an id is pending, enabled or not.
    pub fn is_pending(&self, id: VirtIntId) -> bool {
        self.pending.load(Ordering::SeqCst) & id.bit() != 0
    }

    /// Whether the virtual IRQ line is high: an enabled id is pending.
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
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use hv_abi::paravirt;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, thread, vec::Vec};

    #[derive(Clone, Debug)]
    enum Op {
        Enable(u64, bool),
        Pend(u64),
        Take,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u64..63, any::<bool>()).prop_map(|(id, on)| Op::Enable(id, on)),
            (0u64..63).prop_map(Op::Pend),
            Just(Op::Take),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_two_sets(ops in prop::collection::vec(op(), 0..200)) {
            let irqs = VcpuInterrupts::new();
            let (mut enabled, mut pending) = (BTreeSet::new(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Enable(id, on) => {
                        irqs.enable(VirtIntId::new(id).unwrap(), on);
                        if on { enabled.insert(id); } else { enabled.remove(&id); }
                    }
                    Op::Pend(id) => {
                        pending.insert(id);
                        prop_assert_eq!(irqs.pend(VirtIntId::new(id).unwrap()), enabled.contains(&id));
                    }
                    Op::Take => {
                        let next = pending.intersection(&enabled).next().copied();
                        if let Some(id) = next { pending.remove(&id); }
                        prop_assert_eq!(irqs.take().map(|id| u64::from(id.number())), next);
                    }
                }
                prop_assert_eq!(irqs.line(), pending.intersection(&enabled).next().is_some());
            }
        }
    }

    #[test]
    fn no_interrupt_is_lost_between_cores() {
        let irqs = VcpuInterrupts::new();
        let ids: Vec<_> = (16..32).map(|id| VirtIntId::new(id).unwrap()).collect();
        for id in &ids {
            irqs.enable(*id, true);
        }
        thread::scope(|scope| {
            for chunk in ids.chunks(8) {
                let irqs = &irqs;
                scope.spawn(move || chunk.iter().for_each(|id| assert!(irqs.pend(*id))));
            }
            let mut seen = BTreeSet::new();
            while seen.len() < ids.len() {
                if let Some(id) = irqs.take() {
                    assert!(seen.insert(id), "taken twice");
                }
            }
        });
        assert!(!irqs.line());
    }

    #[test]
    fn reset_forgets_everything() {
        let irqs = VcpuInterrupts::new();
        irqs.enable(paravirt::IPI, true);
        irqs.pend(paravirt::IPI);
        irqs.reset();
        irqs.enable(paravirt::IPI, true);
        assert!(!irqs.line());
    }
}
