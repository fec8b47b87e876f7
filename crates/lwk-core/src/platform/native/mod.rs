//! The bare machine: interrupt controller, virtual timer (without offset), console and power, all from the
//! device tree.

mod console;
mod controller;
mod interrupts;
mod power;
mod psci;

use super::{Platform, PlatformError, Taken};
use crate::{arch, percore::CoreIndex};
use controller::Controller;
use drivers_uart::{Console, Uart};
pub(super) use interrupts::Interrupts;
use machine::{Machine, Mpidr, Region};
use power::Power;
use spin::Once;

/// Gives the address of a device's registers.
type Map<'a> = &'a mut dyn FnMut(Region) -> Result<usize, PlatformError>;

/// A machine of its own.
#[derive(Debug)]
pub struct Native {
    interrupts: Once<Interrupts>,
    /// The console is found first, so that what is wrong with the rest can be said, and then the way to
    /// switch off.
    console: Once<Uart>,
    power: Once<Power>,
}

impl Native {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self { interrupts: Once::new(), console: Once::new(), power: Once::new() }
    }

    #[inline(always)]
    fn interrupts(&self) -> &Interrupts {
        self.interrupts.get().expect("the platform has been initialised")
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

    fn write(&self, text: &[u8]) -> bool {
        let Some(console) = self.console.get() else { return false };
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            match line.split_last() {
                Some((b'\n', rest)) => {
                    console.write(rest);
                    console.write(b"\r\n");
                }
                _ => console.write(line),
            }
        }
        true
    }

    fn init(
        &self,
        machine: &Machine<'_>,
        map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        let console = console::find(machine, map).map(|console| {
            console.switch_on();
            self.console.call_once(|| console);
        });
        let power = Power::find(machine, map)?;
        self.power.call_once(|| power);
        // Without a console the machine can at least be switched off.
        console?;
        let interrupts = Interrupts::find(machine, map)?;
        self.interrupts.call_once(|| interrupts);
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        self.interrupts().init_core(mpidr, &[])
    }

    #[inline]
    fn counter(&self) -> u64 {
        Interrupts::counter()
    }

    #[inline]
    fn set_timer(&self, deadline: Option<u64>) {
        Interrupts::set_timer(deadline);
    }

    #[unsafe(link_section = ".text.hot")]
    fn take_interrupt(&self) -> Option<Taken> {
        self.interrupts().take()
    }

    #[unsafe(link_section = ".text.hot")]
    fn end_interrupt(&self, taken: Taken) {
        self.interrupts().end(taken);
    }

    fn send_ipi(&self, _core: CoreIndex, mpidr: Mpidr) {
        self.interrupts().send_ipi(mpidr);
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        let power = self.power.get().ok_or(PlatformError("the machine's power functions are not known"))?;
        power.start_core(mpidr, entry, context)
    }

    fn stop_core(&self) -> PlatformError {
        match self.power.get() {
            Some(power) => power.stop_core(),
            None => PlatformError("the machine's power functions are not known"),
        }
    }

    fn can_stop_cores(&self) -> bool {
        self.power.get().is_some_and(Power::can_stop_cores)
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
