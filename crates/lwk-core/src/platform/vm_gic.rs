//! A virtual machine with a GIC of its own: interrupts as on a bare machine, console and power by hypercall.

use super::{
    Interrupt, Platform, PlatformError, Taken,
    native::{Controller, Map},
};
use crate::{arch, percore::CoreIndex};
use hv_abi::{Regs, guest, psci};
use machine::{Machine, Mpidr, Region};
use spin::Once;
use vtimer::{Timer, VirtualTimer};

/// A secondary VM whose manifest node says `margay,gic`.
#[derive(Debug)]
pub struct VmWithGic {
    devices: Once<(Controller, u32)>,
}

impl VmWithGic {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self { devices: Once::new() }
    }

    fn devices(&self) -> &(Controller, u32) {
        self.devices.get().expect("the platform has been initialised")
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

    fn write(&self, text: &[u8]) {
        guest::console_log(text);
    }

    fn init(
        &self,
        machine: &Machine<'_>,
        map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        let controller = Controller::find(machine, map as Map<'_>)?;
        let timer = machine.timer().and_then(|timer| timer.virtual_).map(|interrupt| interrupt.number());
        let timer =
            timer.ok_or(PlatformError("the device tree does not say which interrupt the timer has"))?;
        self.devices.call_once(|| (controller, timer));
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        let (controller, timer) = self.devices();
        VirtualTimer.cancel();
        controller.init_core(mpidr, *timer)
    }

    fn counter(&self) -> u64 {
        VirtualTimer.counter()
    }

    fn set_timer(&self, deadline: Option<u64>) {
        match deadline {
            Some(deadline) => VirtualTimer.set_deadline(deadline),
            None => VirtualTimer.cancel(),
        }
    }

    fn take_interrupt(&self) -> Option<Taken> {
        let (controller, timer) = self.devices();
        let (number, token) = controller.take()?;
        let interrupt = if number == *timer {
            Interrupt::Timer
        } else if number == controller.ipi() {
            Interrupt::Ipi
        } else {
            Interrupt::Unknown(number)
        };
        Some(Taken { interrupt, token })
    }

    fn end_interrupt(&self, taken: Taken) {
        self.devices().0.end(taken.token);
    }

    fn send_ipi(&self, _core: CoreIndex, mpidr: Mpidr) {
        self.devices().0.send_ipi(mpidr);
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        match guest::cpu_on(mpidr.raw(), entry, context) as i32 {
            0 => Ok(()),
            _ => Err(PlatformError("the hypervisor refuses to start the core")),
        }
    }

    fn power_off(&self) -> ! {
        guest::hvc(Regs::func(psci::SYSTEM_OFF));
        arch::halt()
    }
}
