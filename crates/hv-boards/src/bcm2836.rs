//! The controllers of BCM2836 and BCM2837: no acknowledge, no end, no priorities; what is asserted comes
//! until it is quieted.

use crate::{InterruptPart, Map, boot_core};
use core::arch::asm;
use drivers_bcm2836::{Controller, Core, IPI};
use hv_core::{board::BoardError, machine::Machine};
use spin::Once;

/// The local controllers, and the legacy one behind them; if `EMULATED`, VMs may have emulated ones.
#[derive(Debug)]
pub struct Bcm2836<const EMULATED: bool = false>;

static CONTROLLER: Once<Controller> = Once::new();

/// The core that has this affinity, Aff0.
fn core_of(mpidr: u64) -> Option<Core> {
    Core::new(mpidr & 0xff)
}

/// The calling core.
fn this() -> Option<Core> {
    let mpidr: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags)) };
    core_of(mpidr)
}

fn each(action: impl FnOnce(&Controller, Core)) {
    if let (Some(controller), Some(this)) = (CONTROLLER.get(), this()) {
        action(controller, this);
    }
}

// SAFETY: the driver touches the registers of the controllers, as the device tree gives them.
unsafe impl<const EMULATED: bool> InterruptPart for Bcm2836<EMULATED> {
    const EMULATED: bool = EMULATED;

    fn is_asserted(intid: u32) -> bool {
        CONTROLLER.get().is_some_and(|controller| controller.is_device_pending(intid))
    }

    const KICK: u32 = IPI;

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(info) = machine.bcm2836() {
            map(info.local.base, info.local.size);
            if let Some(legacy) = info.legacy {
                map(legacy.base, legacy.size);
            }
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let Some(info) = machine.bcm2836() else {
            return Err("the device tree has no BCM2836 interrupt controller");
        };
        let legacy = info.legacy.map(|region| region.base as usize);
        // SAFETY: the addresses are the device tree's, mapped as devices at their physical addresses.
        let controller = unsafe { Controller::new(info.local.base as usize, legacy) };
        controller.init(core_of(boot_core(machine)?.raw()).ok_or("there is no such core")?);
        CONTROLLER.call_once(|| controller);
        Ok(())
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        let controller = CONTROLLER.get().ok_or("the interrupt controller has not been set up")?;
        let this = core_of(mpidr).ok_or("this core has no interrupt controller")?;
        controller.init_core(this);
        for number in private {
            controller.enable(this, *number);
        }
        Ok(())
    }

    #[inline]
    fn acknowledge() -> Option<u32> {
        let (controller, this) = (CONTROLLER.get()?, this()?);
        let number = controller.next(this)?;
        if number == IPI {
            controller.local().take_ipis(this);
        }
        Some(number)
    }

    /// A timer has been masked in its own control register, and a device here.
    #[inline]
    fn end(_: u32) {}

    /// All devices' interrupts go to one core, whichever asks.
    fn enable(intid: u32, _: u64) {
        each(|controller, this| controller.enable(this, intid));
    }

    fn disable(intid: u32) {
        each(|controller, this| controller.disable(this, intid));
    }

    fn kick(mpidr: u64) {
        if let (Some(controller), Some(core)) = (CONTROLLER.get(), core_of(mpidr)) {
            controller.send_ipi(core);
        }
    }
}
