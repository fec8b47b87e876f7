//! An interrupt controller and the virtual timer behind it: the core's own interrupts, named.

use super::{Controller, Map};
use crate::platform::{Interrupt, PlatformError, Taken};
use machine::{Machine, Mpidr};
use vtimer::{Timer, VirtualTimer};

/// A controller, and the number that the timer's interrupt has there.
#[derive(Debug)]
pub(in crate::platform) struct Interrupts {
    controller: Controller,
    timer: u32,
}

impl Interrupts {
    /// Finds the interrupt controller in the device tree.
    pub fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Self, PlatformError> {
        let controller = Controller::find(machine, map)?;
        let timer = machine.timer().and_then(|timer| timer.virtual_).map(|interrupt| interrupt.number());
        let timer =
            timer.ok_or(PlatformError("the device tree does not say which interrupt the timer has"))?;
        Ok(Self { controller, timer })
    }

    /// Sets up what is the calling core's, with the private interrupts `others` on that the platform knows.
    pub fn init_core(&self, mpidr: Mpidr, others: &[u32]) -> Result<(), PlatformError> {
        VirtualTimer.cancel();
        self.controller.init_core(mpidr, &mut others.iter().copied().chain([self.timer]))
    }

    #[inline]
    pub fn counter() -> u64 {
        VirtualTimer.counter()
    }

    #[inline]
    pub fn set_timer(deadline: Option<u64>) {
        match deadline {
            Some(deadline) => VirtualTimer.set_deadline(deadline),
            None => VirtualTimer.cancel(),
        }
    }

    #[inline]
    pub fn take(&self) -> Option<Taken> {
        let (number, token) = self.controller.take()?;
        let interrupt = if number == self.timer {
            Interrupt::Timer
        } else if number == self.controller.ipi() {
            Interrupt::Ipi
        } else {
            Interrupt::Unknown(number)
        };
        Some(Taken { interrupt, token })
    }

    #[inline]
    pub fn end(&self, taken: Taken) {
        self.controller.end(taken.token);
    }

    pub fn send_ipi(&self, mpidr: Mpidr) {
        self.controller.send_ipi(mpidr);
    }
}
