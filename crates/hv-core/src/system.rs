//! The whole system: all VMs and cores, fixed before the first VM runs.

use crate::{percore::Core, vm::Vm};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};
use hv_abi::ids::VmId;
use machine::Conduit;

/// Everything that boot has built.
pub(crate) struct System {
    /// VM n is at n - 1.
    pub(crate) vms: Box<[Vm]>,
    pub(crate) cores: Box<[Core]>,
    pub(crate) clock: Clock,
    pub(crate) vtcr: u64,
    /// How firmware is called.
    pub(crate) conduit: Option<Conduit>,
}

static SYSTEM: AtomicPtr<System> = AtomicPtr::new(core::ptr::null_mut());

impl System {
    /// Makes the system known to all cores. Once, before any VM runs.
    pub(crate) fn publish(system: Box<Self>) -> &'static Self {
        let system: &'static Self = Box::leak(system);
        SYSTEM.store(core::ptr::from_ref(system).cast_mut(), Ordering::Release);
        system
    }

    /// The system. Only reachable from code that a VM's exit leads to, so it has been published.
    #[inline]
    pub(crate) fn get() -> &'static Self {
        // SAFETY: `publish` stored a reference of static lifetime before the first VM was entered, and every caller is
        // on a path from a VM's exit or from a core that was started after that.
        unsafe { &*SYSTEM.load(Ordering::Relaxed) }
    }

    /// The VM `id`, if there is one.
    #[inline]
    pub(crate) fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(usize::from(id.0).wrapping_sub(1))
    }
}

/// Counter ticks to nanoseconds without a division.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Nanoseconds per tick, times 2^32.
    scale: u64,
}

impl Clock {
    /// For a counter of `hz` ticks in a second.
    pub(crate) fn new(hz: u64) -> Self {
        Self { scale: ((1_000_000_000u128 << 32) / u128::from(hz.max(1))) as u64 }
    }

    /// `ticks` in nanoseconds, rounded down, at least 1; saturates after 584 years.
    #[inline]
    pub(crate) fn nanoseconds(self, ticks: u64) -> u64 {
        let ns = (u128::from(ticks) * u128::from(self.scale)) >> 32;
        u64::try_from(ns).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_common_frequencies() {
        assert_eq!(Clock::new(1_000_000_000).nanoseconds(123), 123);
        assert_eq!(Clock::new(62_500_000).nanoseconds(2), 32);
        assert_eq!(Clock::new(24_000_000).nanoseconds(24_000_000), 999_999_999);
        assert_eq!(Clock::new(24_000_000).nanoseconds(0), 1);
        assert_eq!(Clock::new(1).nanoseconds(u64::MAX), u64::MAX);
    }
}
