//! The whole system: all VMs and cores, fixed before the first VM runs.

use crate::{console, firmware::Workarounds, percore::Core, routing::Routes, vm::Vm};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};
use hv_abi::ids::VmId;
use machine::Conduit;
use page_ownership::Ownership;
use vtimer::Frequency;

/// Everything that boot has built.
pub(crate) struct System {
    /// VM n is at n - 1.
    pub(crate) vms: Box<[Vm]>,
    pub(crate) cores: Box<[Core]>,
    /// The counter's frequency.
    pub(crate) frequency: Frequency,
    pub(crate) vtcr: u64,
    /// Whose each page is. Taken after a mailbox, before a VM's tables.
    pub(crate) ownership: crate::lock::Lock<Ownership>,
    /// How firmware is called.
    pub(crate) conduit: Option<Conduit>,
    /// Whose the devices' interrupts are.
    pub(crate) routes: Routes,
    /// What firmware does for the cores.
    pub(crate) workarounds: Workarounds,
}

static SYSTEM: AtomicPtr<System> = AtomicPtr::new(core::ptr::null_mut());

impl System {
    /// Makes the system known to all cores. Once, before any VM runs.
    pub(crate) fn publish(system: Box<Self>) -> &'static Self {
        let system: &'static Self = Box::leak(system);
        console::start(system.vms.len());
        SYSTEM.store(core::ptr::from_ref(system).cast_mut(), Ordering::Release);
        system
    }

    /// The system. Only reachable from code that a VM's exit leads to, so it has been published.
    #[cfg(not(any(test, feature = "testing")))]
    #[inline]
    pub(crate) fn get() -> &'static Self {
        // SAFETY: `publish` stored a reference of static lifetime before the first VM was entered, and every caller is
        // on a path from a VM's exit or from a core that was started after that.
        unsafe { &*SYSTEM.load(Ordering::Relaxed) }
    }

    /// In tests, each thread has a system of its own.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn get() -> &'static Self {
        crate::testing::system()
    }

    /// The VM `id`, if there is one.
    #[inline]
    pub(crate) fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(usize::from(id.0).wrapping_sub(1))
    }
}
