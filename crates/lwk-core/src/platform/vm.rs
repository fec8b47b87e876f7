//! A virtual machine of Margay's hypervisor: console, interrupts and power by hypercall; the timer is the
//! processor's.

use super::{Interrupt, Platform, PlatformError, Taken, hypercall};
use crate::percore::CoreIndex;
use core::sync::atomic::{AtomicBool, Ordering};
use hv_abi::{
    ffa, guest,
    ids::{VcpuIndex, VmId},
    paravirt,
};
use machine::{Machine, Mpidr, Region};
use paravirt_irq::guest::Controller;
use vtimer::{PhysicalTimer, Timer, VirtualTimer};

/// Which VM this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmRole {
    /// The one that schedules. Its timer is the EL1 physical timer.
    Primary,
    /// One that is scheduled. Its timer is the virtual timer.
    Secondary,
}

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    primary: AtomicBool,
}

impl Vm {
    /// A VM that does not know its role yet.
    pub const fn new() -> Self {
        Self { primary: AtomicBool::new(false) }
    }

    /// Returns the role of the VM.
    #[inline]
    pub fn role(&self) -> VmRole {
        if self.primary.load(Ordering::Relaxed) { VmRole::Primary } else { VmRole::Secondary }
    }
}

impl Default for Vm {
    fn default() -> Self {
        Self::new()
    }
}

impl Platform for Vm {
    fn name(&self) -> &'static str {
        match self.role() {
            VmRole::Primary => "primary VM",
            VmRole::Secondary => "secondary VM",
        }
    }

    fn write(&self, text: &[u8]) -> bool {
        guest::console_log(text);
        true
    }

    fn init(
        &self,
        _machine: &Machine<'_>,
        _map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        let version = guest::version(ffa::VERSION_1_2);
        if version.is_none_or(|version| version.major != ffa::VERSION_1_2.major) {
            return Err(PlatformError("the hypervisor speaks no FF-A 1.x"));
        }
        let id =
            guest::id_get().map_err(|_| PlatformError("the hypervisor does not say which VM this is"))?;
        self.primary.store(id == VmId::PRIMARY, Ordering::Relaxed);
        Ok(())
    }

    fn init_core(&self, _mpidr: Mpidr) -> Result<(), PlatformError> {
        self.set_timer(None);
        let ids = [paravirt::TIMER, paravirt::IPI, paravirt::DEVICE_WAITS];
        let own = if self.role() == VmRole::Primary { &ids[..] } else { &ids[..2] };
        for &id in own {
            if !Controller.enable(id) {
                return Err(PlatformError("the hypervisor refuses to enable an interrupt"));
            }
        }
        Ok(())
    }

    #[inline]
    fn counter(&self) -> u64 {
        match self.role() {
            VmRole::Primary => PhysicalTimer.counter(),
            VmRole::Secondary => VirtualTimer.counter(),
        }
    }

    #[inline]
    fn set_timer(&self, deadline: Option<u64>) {
        match (self.role(), deadline) {
            (VmRole::Primary, Some(deadline)) => PhysicalTimer.set_deadline(deadline),
            (VmRole::Primary, None) => PhysicalTimer.cancel(),
            (VmRole::Secondary, Some(deadline)) => VirtualTimer.set_deadline(deadline),
            (VmRole::Secondary, None) => VirtualTimer.cancel(),
        }
    }

    #[inline]
    fn take_interrupt(&self) -> Option<Taken> {
        let id = Controller.take()?;
        let interrupt = match id {
            paravirt::TIMER => Interrupt::Timer,
            paravirt::IPI => Interrupt::Ipi,
            paravirt::DEVICE_WAITS => Interrupt::Schedule,
            other => Interrupt::Unknown(other.number()),
        };
        Some(Taken { interrupt, token: id.number() })
    }

    #[inline]
    fn end_interrupt(&self, _taken: Taken) {}

    fn send_ipi(&self, core: CoreIndex, _mpidr: Mpidr) {
        Controller.send_ipi(VcpuIndex(core.0));
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
