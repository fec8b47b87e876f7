//! The machine's interrupt controller: whichever of the known ones the device tree names.

use super::Map;
use crate::{arch, platform::PlatformError};
use drivers_bcm2836::{Controller as Bcm2836, Core, LocalInterrupt};
use drivers_gic::{
    EoiMode, GicV2, GicV3, InterruptController, Intid, Mpidr, RedistributorRegion, gicv3::cpu_interface,
};
use machine::{Bcm2836Info, GicV2Info, GicV3Info, InterruptControllerInfo, Machine, Region};

/// The controller. What is private to a core, is the calling core's.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per machine")]
pub(in crate::platform) enum Controller {
    V3(GicV3),
    V2(GicV2),
    Bcm2836(Bcm2836),
}

/// The software-generated interrupt that cores send each other.
const SGI: Intid = Intid::sgi(0);

const NOT_ENABLED: PlatformError = PlatformError("a private interrupt cannot be enabled");

impl Controller {
    /// Finds it and sets up what the cores share.
    pub(in crate::platform) fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Self, PlatformError> {
        match machine.interrupt_controller() {
            Some(InterruptControllerInfo::GicV3(info)) => v3(&info, map).map(Self::V3),
            Some(InterruptControllerInfo::GicV2(info)) => v2(&info, map).map(Self::V2),
            Some(InterruptControllerInfo::Bcm2836(info)) => bcm2836(&info, map).map(Self::Bcm2836),
            None => Err(PlatformError(
                "the device tree has no interrupt controller that this kernel has a driver for",
            )),
        }
    }

    /// Sets up what is the calling core's, with the IPI and the `private` interrupts on.
    pub(in crate::platform) fn init_core(
        &self,
        mpidr: Mpidr,
        private: &mut dyn Iterator<Item = u32>,
    ) -> Result<(), PlatformError> {
        match self {
            Self::V3(gic) => {
                let core = gic
                    .init_core(mpidr, EoiMode::DropAndDeactivate)
                    .map_err(|_| PlatformError("a core has no redistributor, or it does not answer"))?;
                enable(&core, private)
            }
            Self::V2(gic) => {
                let core = gic.init_core(mpidr, EoiMode::DropAndDeactivate).map_err(|_| {
                    PlatformError("two cores have the same interface of the interrupt controller")
                })?;
                enable(&core, private)
            }
            Self::Bcm2836(controller) => {
                let this = core_of(mpidr).ok_or(PlatformError("a core has no interrupt controller"))?;
                controller.init_core(this);
                private.for_each(|number| controller.enable(this, number));
                Ok(())
            }
        }
    }

    /// The number of the interrupt that cores send each other.
    #[inline]
    pub(in crate::platform) fn ipi(&self) -> u32 {
        match self {
            Self::V3(_) | Self::V2(_) => SGI.raw(),
            Self::Bcm2836(_) => drivers_bcm2836::IPI,
        }
    }

    /// Takes the next pending interrupt: its number, and what [`end`](Self::end) wants of it.
    #[inline]
    pub(in crate::platform) fn take(&self) -> Option<(u32, u32)> {
        match self {
            Self::V3(_) => cpu_interface::acknowledge().map(|intid| (intid.raw(), intid.raw())),
            Self::V2(gic) => gic.this_core().acknowledge_raw().map(|raw| (raw & 0x3ff, raw)),
            Self::Bcm2836(controller) => {
                let this = core_of(arch::mpidr())?;
                let number = controller.next(this)?;
                if number == drivers_bcm2836::IPI {
                    controller.local().take_ipis(this);
                } else if number != LocalInterrupt::VirtualTimer as u32 {
                    // Nobody here knows it, and nothing else quiets it.
                    controller.disable(this, number);
                }
                Some((number, number))
            }
        }
    }

    /// Ends the handling of an interrupt.
    #[inline]
    pub(in crate::platform) fn end(&self, token: u32) {
        match self {
            Self::V3(_) => cpu_interface::end(Intid::new(token)),
            Self::V2(gic) => gic.this_core().end_raw(token),
            // What asserts it has to be quieted, and has been: the timer by its handler.
            Self::Bcm2836(_) => {}
        }
    }

    /// Sends the IPI.
    pub(in crate::platform) fn send_ipi(&self, mpidr: Mpidr) {
        match self {
            Self::V3(_) => cpu_interface::send_sgi(mpidr, SGI),
            // A core that has not been set up yet looks at its queue when it has been.
            Self::V2(gic) => drop(gic.this_core().send_sgi(mpidr, SGI)),
            Self::Bcm2836(controller) => {
                if let Some(core) = core_of(mpidr) {
                    controller.send_ipi(core);
                }
            }
        }
    }
}

fn enable(
    core: &impl InterruptController,
    private: &mut dyn Iterator<Item = u32>,
) -> Result<(), PlatformError> {
    let mut all = private.map(Intid::new).chain([SGI]);
    all.try_for_each(|intid| core.enable(intid)).map_err(|_| NOT_ENABLED)
}

fn v3(info: &GicV3Info, map: Map<'_>) -> Result<GicV3, PlatformError> {
    let mut regions = heapless::Vec::<RedistributorRegion, { drivers_gic::gicv3::MAX_REGIONS }>::new();
    for region in info.redistributors() {
        let physical = Region::new(region.base, region.size).ok_or(PlatformError("a redistributor wraps"))?;
        let moved = RedistributorRegion { base: map(physical)? as u64, ..*region };
        regions.push(moved).map_err(|_| PlatformError("the GIC has too many redistributor regions"))?;
    }
    let gicd = map(info.gicd)?;
    // SAFETY: the distributor and the redistributors are where the device tree says, mapped as devices just
    // now, and this is the only driver.
    let gic = unsafe { GicV3::new(gicd, &regions) };
    gic.init_distributor(arch::mpidr())
        .map_err(|_| PlatformError("the GIC's distributor does not answer"))?;
    Ok(gic)
}

fn v2(info: &GicV2Info, map: Map<'_>) -> Result<GicV2, PlatformError> {
    let (gicd, gicc) = (map(info.gicd)?, map(info.gicc)?);
    // SAFETY: as above.
    let gic = unsafe { GicV2::new(gicd, gicc) };
    gic.init_distributor();
    Ok(gic)
}

/// The core that has this affinity, Aff0.
fn core_of(mpidr: Mpidr) -> Option<Core> {
    Core::new(mpidr.raw() & 0xff)
}

fn bcm2836(info: &Bcm2836Info, map: Map<'_>) -> Result<Bcm2836, PlatformError> {
    let local = map(info.local)?;
    let legacy = info.legacy.map(&mut *map).transpose()?;
    // SAFETY: as above.
    let controller = unsafe { Bcm2836::new(local, legacy) };
    controller.init(core_of(arch::mpidr()).ok_or(PlatformError("this core has no interrupt controller"))?);
    Ok(controller)
}
