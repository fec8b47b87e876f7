//! The bare machine: interrupt controller, virtual timer (without offset), console and power, all from the device tree.

mod console;
mod controller;
mod power;
mod psci;

use super::{Interrupt, Platform, PlatformError, Taken};
use crate::{arch, percore::CoreIndex};
pub(super) use controller::Controller;
use drivers_uart::{Console, Uart};
use machine::{Machine, Mpidr, Region};
use power::Power;
use spin::Once;
use vtimer::{Timer, VirtualTimer};

/// Gives the address of a device's registers.
pub(super) type Map<'a> = &'a mut dyn FnMut(Region) -> Result<usize, PlatformError>;

/// A machine of its own.
#[derive(Debug)]
pub struct Native {
    devices: Once<Devices>,
    /// The console is found first, so that what is wrong with the rest can be said, and then the way to switch off.
    console: Once<Uart>,
    power: Once<Power>,
}

#[derive(Debug)]
struct Devices {
    controller: Controller,
    timer: u32,
}

impl Native {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self { devices: Once::new(), console: Once::new(), power: Once::new() }
    }

    fn devices(&self) -> &Devices {
        self.devices.get().expect("the platform has been initialised")
    }
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}

impl Platform for Native {
    fn name(&self) -> &'static str {
        "bare machine"
    }

    fn write(&self, text: &[u8]) {
        let Some(console) = self.console.get() else { return };
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            match line.split_last() {
                Some((b'\n', rest)) => {
                    console.write(rest);
                    console.write(b"\r\n");
                }
                _ => console.write(line),
            }
        }
    }

    fn init(
        &self,
        machine: &Machine<'_>,
        map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        let console = console::find(machine, map)?;
        console.switch_on();
        self.console.call_once(|| console);
        let power = Power::find(machine, map)?;
        self.power.call_once(|| power);
        let controller = Controller::find(machine, map)?;
        let timer = machine.timer().and_then(|timer| timer.virtual_).map(|interrupt| interrupt.number());
        let timer =
            timer.ok_or(PlatformError("the device tree does not say which interrupt the timer has"))?;
        self.devices.call_once(|| Devices { controller, timer });
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        let devices = self.devices();
        VirtualTimer.cancel();
        devices.controller.init_core(mpidr, devices.timer)
    }

    #[inline]
    fn counter(&self) -> u64 {
        VirtualTimer.counter()
    }

    #[inline]
    fn set_timer(&self, deadline: Option<u64>) {
        match deadline {
            Some(deadline) => VirtualTimer.set_deadline(deadline),
            None => VirtualTimer.cancel(),
        }
    }

    #[inline]
    fn take_interrupt(&self) -> Option<Taken> {
        let devices = self.devices();
        let (number, token) = devices.controller.take()?;
        let interrupt = if number == devices.timer {
            Interrupt::Timer
        } else if number == devices.controller.ipi() {
            Interrupt::Ipi
        } else {
            Interrupt::Unknown(number)
        };
        Some(Taken { interrupt, token })
    }

    #[inline]
    fn end_interrupt(&self, taken: Taken) {
        self.devices().controller.end(taken.token);
    }

    fn send_ipi(&self, _core: CoreIndex, mpidr: Mpidr) {
        self.devices().controller.send_ipi(mpidr);
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        let power = self.power.get().ok_or(PlatformError("the machine's power functions are not known"))?;
        power.start_core(mpidr, entry, context)
    }

    fn power_off(&self) -> ! {
        if let Some(console) = self.console.get() {
            console.flush();
        }
        match self.power.get() {
            Some(power) => power.off(),
            None => arch::halt(),
        }
    }
}
