//! A virtual machine with a GIC of its own: interrupts as on a bare machine, console and power by hypercall.

use super::{Platform, PlatformError, Taken, hypercall, native::Interrupts};
use crate::percore::CoreIndex;
use hv_abi::guest;
use machine::{Machine, Mpidr, Region};
use spin::Once;

/// A secondary VM whose manifest node says `margay,gic`.
#[derive(Debug)]
pub struct VmWithGic {
    interrupts: Once<Interrupts>,
}

impl VmWithGic {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self { interrupts: Once::new() }
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
        "secondary VM with a GIC"
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
        let interrupts = Interrupts::find(machine, map)?;
        self.interrupts.call_once(|| interrupts);
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        self.interrupts().init_core(mpidr)
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
        self.interrupts().take()
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

    fn power_off(&self) -> ! {
        hypercall::power_off()
    }
}
