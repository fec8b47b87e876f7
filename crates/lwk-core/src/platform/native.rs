//! The bare machine: GICv3, virtual timer (without offset), PL011, PSCI, all from the device tree.

use super::{Interrupt, Platform, PlatformError, Taken, psci::Psci};
use crate::{arch, percore::CoreIndex};
use drivers_gic::{EoiMode, GicV3, Intid, gicv3::cpu_interface};
use drivers_uart::{Console, Pl011};
use machine::{ConsoleKind, InterruptControllerInfo, Machine, Mpidr, RedistributorRegion, Region};
use spin::Once;
use vtimer::{Timer, VirtualTimer};

/// A machine of its own.
#[derive(Debug)]
pub struct Native {
    devices: Once<Devices>,
    /// The console is found first, so that what is wrong with the rest can be said, and then the way to switch off.
    console: Once<Pl011>,
    psci: Once<Psci>,
}

#[derive(Debug)]
struct Devices {
    gic: GicV3,
    timer: Intid,
}

/// The software-generated interrupt that cores send each other.
const IPI: Intid = Intid::sgi(0);

impl Native {
    /// A machine whose devices are not known yet.
    pub const fn new() -> Self {
        Self { devices: Once::new(), console: Once::new(), psci: Once::new() }
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
        let console = machine.console().ok_or(PlatformError("the device tree names no console"))?;
        if console.kind != ConsoleKind::Pl011 {
            return Err(PlatformError("the console is a UART that this kernel has no driver for"));
        }
        let base = map(console.region)?;
        // SAFETY: the device tree says that a PL011 is there; it has just been mapped as a device, for this driver.
        self.console.call_once(|| unsafe { Pl011::new(base) });
        let psci = machine.psci().ok_or(PlatformError("the device tree has no PSCI"))?;
        self.psci.call_once(|| Psci { conduit: psci.conduit, version: psci.version });

        let Some(InterruptControllerInfo::GicV3(info)) = machine.interrupt_controller() else {
            return Err(PlatformError("the device tree has no GICv3"));
        };
        let mut regions = heapless::Vec::<RedistributorRegion, { drivers_gic::gicv3::MAX_REGIONS }>::new();
        for region in info.redistributors() {
            let physical =
                Region::new(region.base, region.size).ok_or(PlatformError("a redistributor wraps"))?;
            let moved = RedistributorRegion { base: map(physical)? as u64, ..*region };
            regions.push(moved).map_err(|_| PlatformError("the GIC has too many redistributor regions"))?;
        }
        let gicd = map(info.gicd)?;
        // SAFETY: the distributor and the redistributors are where the device tree says, mapped as devices just now,
        // and this is the only driver.
        let gic = unsafe { GicV3::new(gicd, &regions) };
        gic.init_distributor(arch::mpidr())
            .map_err(|_| PlatformError("the GIC's distributor does not answer"))?;

        let timer = machine.timer().and_then(|timer| timer.virtual_).and_then(|interrupt| interrupt.intid());
        let timer =
            timer.ok_or(PlatformError("the device tree does not say which interrupt the timer has"))?;
        self.devices.call_once(|| Devices { gic, timer });
        Ok(())
    }

    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError> {
        let devices = self.devices();
        VirtualTimer.cancel();
        let core = devices
            .gic
            .init_core(mpidr, EoiMode::DropAndDeactivate)
            .map_err(|_| PlatformError("a core has no redistributor, or it does not answer"))?;
        for intid in [IPI, devices.timer] {
            core.enable(intid).map_err(|_| PlatformError("a private interrupt cannot be enabled"))?;
        }
        Ok(())
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
        let intid = cpu_interface::acknowledge()?;
        let interrupt = if intid == self.devices().timer {
            Interrupt::Timer
        } else if intid == IPI {
            Interrupt::Ipi
        } else {
            Interrupt::Unknown(intid.raw())
        };
        Some(Taken { interrupt, token: intid.raw() })
    }

    #[inline]
    fn end_interrupt(&self, taken: Taken) {
        cpu_interface::end(Intid::new(taken.token));
    }

    fn send_ipi(&self, _core: CoreIndex, mpidr: Mpidr) {
        cpu_interface::send_sgi(mpidr, IPI);
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        let psci = self.psci.get().ok_or(PlatformError("there is no PSCI"))?;
        psci.cpu_on(mpidr, entry, context)
    }

    fn power_off(&self) -> ! {
        if let Some(console) = self.console.get() {
            console.flush();
        }
        match self.psci.get() {
            Some(psci) => psci.system_off(),
            None => arch::halt(),
        }
    }
}
