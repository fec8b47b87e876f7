//! A virtual machine with a GIC of its own: interrupts as on a bare machine, console and power by hypercall.

use super::{Interrupt, Platform, PlatformError, Taken, hypercall, native::Interrupts};
use crate::percore::CoreIndex;
use core::sync::atomic::{AtomicBool, Ordering};
use hv_abi::{guest, ids::VmId, paravirt};
use machine::{Machine, Mpidr, Region};
use spin::Once;

/// A VM whose manifest node says `margay,gic`: one that is scheduled, or the one that schedules. Its timer is
/// the virtual one in either.
#[derive(Debug)]
pub struct VmWithGic {
    interrupts: Once<Interrupts>,
    primary: AtomicBool,
    /// Further private interrupts that are enabled, and logged when they arrive.
    others: &'static [u32],
}

/// INTID by which the primary learns that a blocked vCPU has work.
const SCHEDULE: u32 = match paravirt::gic_intid(paravirt::DEVICE_WAITS) {
    Some(intid) => intid,
    None => panic!("it has a number"),
};

impl VmWithGic {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self::with(&[])
    }

    /// As [`new`](Self::new), with further private interrupts enabled that have no handler: the kernel logs
    /// them.
    pub const fn with(others: &'static [u32]) -> Self {
        Self { interrupts: Once::new(), primary: AtomicBool::new(false), others }
    }

    fn interrupts(&self) -> &Interrupts {
        self.interrupts.get().expect("the platform has been initialised")
    }
}

impl Default for VmWithGic {
    fn default() -> Self {
        Self::new()
    }
}

impl Platform for VmWithGic {
    fn name(&self) -> &'static str {
        if self.primary.load(Ordering::Relaxed) { "primary VM with a GIC" } else { "secondary VM with a GIC" }
    }

    fn write(&self, text: &[u8]) -> bool {
        guest::console_log(text);
        true
    }

    fn init(
        &self,
        machine: &Machine<'_>,
        map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        let id =
            guest::id_get().map_err(|_| PlatformError("the hypervisor does not say which VM this is"))?;
        self.primary.store(id == VmId::PRIMARY, Ordering::Relaxed);
        let interrupts = Interrupts::find(machine, map)?;
        self.interrupts.call_once(|| interrupts);
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        let own = if self.primary.load(Ordering::Relaxed) { &[SCHEDULE] } else { self.others };
        self.interrupts().init_core(mpidr, own)
    }

    #[inline]
    fn counter(&self) -> u64 {
        Interrupts::counter()
    }

    #[inline]
    fn set_timer(&self, deadline: Option<u64>) {
        Interrupts::set_timer(deadline);
    }

    #[inline]
    fn take_interrupt(&self) -> Option<Taken> {
        let taken = self.interrupts().take()?;
        Some(match taken.interrupt {
            Interrupt::Unknown(SCHEDULE) => Taken { interrupt: Interrupt::Schedule, ..taken },
            _ => taken,
        })
    }

    #[inline]
    fn end_interrupt(&self, taken: Taken) {
        self.interrupts().end(taken);
    }

    fn send_ipi(&self, _core: CoreIndex, mpidr: Mpidr) {
        self.interrupts().send_ipi(mpidr);
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        hypercall::start_core(mpidr, entry, context)
    }

    fn stop_core(&self) -> PlatformError {
        hypercall::stop_core()
    }

    fn can_stop_cores(&self) -> bool {
        true
    }

    fn power_off(&self) -> ! {
        hypercall::power_off()
    }
}
