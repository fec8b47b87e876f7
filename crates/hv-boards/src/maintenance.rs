//! The GIC's maintenance interrupt: something of a VM's virtual interrupts needs the hypervisor.

use core::sync::atomic::{AtomicU32, Ordering};
use drivers_gic::Intid;
use hv_core::machine::Machine;

/// Its number, once it has been found; 0 if there is none.
#[derive(Debug)]
pub(crate) struct Maintenance(AtomicU32);

impl Maintenance {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// What the device tree says.
    pub(crate) fn find(&self, machine: &Machine<'_>) {
        if let Some(interrupt) = machine.gic_maintenance() {
            self.0.store(interrupt.number(), Ordering::Relaxed);
        }
    }

    /// To be enabled on every core.
    pub(crate) fn intid(&self) -> Option<Intid> {
        let number = self.0.load(Ordering::Relaxed);
        (number != 0).then(|| Intid::new(number))
    }
}
