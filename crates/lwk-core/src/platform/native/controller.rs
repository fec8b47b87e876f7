//! The machine's interrupt controller: whichever of the known ones the device tree names.

use super::Map;
use crate::{arch, platform::PlatformError};
use drivers_gic::{
    EoiMode, GicV2, GicV3, InterruptController, Intid, Mpidr, RedistributorRegion, gicv3::cpu_interface,
};
use machine::{GicV2Info, GicV3Info, InterruptControllerInfo, Machine, Region};

/// The controller. What is private to a core, is the calling core's.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per machine")]
pub(super) enum Controller {
    V3(GicV3),
    V2(GicV2),
}

/// The software-generated interrupt that cores send each other.
pub(super) const IPI: Intid = Intid::sgi(0);

const NOT_ENABLED: PlatformError = PlatformError("a private interrupt cannot be enabled");

impl Controller {
    /// Finds it and sets up what the cores share.
    pub(super) fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Self, PlatformError> {
        match machine.interrupt_controller() {
            Some(InterruptControllerInfo::GicV3(info)) => v3(info, map).map(Self::V3),
            Some(InterruptControllerInfo::GicV2(info)) => v2(info, map).map(Self::V2),
            _ => Err(PlatformError(
                "the device tree has no interrupt controller that this kernel has a driver for",
            )),
        }
    }

    /// Sets up what is the calling core's, with the IPI and the interrupt `timer` on.
    pub(super) fn init_core(&self, mpidr: Mpidr, timer: u32) -> Result<(), PlatformError> {
        match self {
            Self::V3(gic) => {
                let core = gic
                    .init_core(mpidr, EoiMode::DropAndDeactivate)
                    .map_err(|_| PlatformError("a core has no redistributor, or it does not answer"))?;
                enable(&core, timer)
            }
            Self::V2(gic) => {
                let core = gic.init_core(mpidr, EoiMode::DropAndDeactivate).map_err(|_| {
                    PlatformError("two cores have the same interface of the interrupt controller")
                })?;
                enable(&core, timer)
            }
        }
    }

    /// Takes the next pending interrupt: its number, and what [`end`](Self::end) wants of it.
    #[inline]
    pub(super) fn take(&self) -> Option<(u32, u32)> {
        match self {
            Self::V3(_) => cpu_interface::acknowledge().map(|intid| (intid.raw(), intid.raw())),
            Self::V2(gic) => gic.this_core().acknowledge_raw().map(|raw| (raw & 0x3ff, raw)),
        }
    }

    /// Ends the handling of an interrupt.
    #[inline]
    pub(super) fn end(&self, token: u32) {
        match self {
            Self::V3(_) => cpu_interface::end(Intid::new(token)),
            Self::V2(gic) => gic.this_core().end_raw(token),
        }
    }

    /// Sends the IPI.
    pub(super) fn send_ipi(&self, mpidr: Mpidr) {
        match self {
            Self::V3(_) => cpu_interface::send_sgi(mpidr, IPI),
            // A core that has not been set up yet looks at its queue when it has been.
            Self::V2(gic) => drop(gic.this_core().send_sgi(mpidr, IPI)),
        }
    }
}

fn enable(core: &impl InterruptController, timer: u32) -> Result<(), PlatformError> {
    [IPI, Intid::new(timer)].into_iter().try_for_each(|intid| core.enable(intid)).map_err(|_| NOT_ENABLED)
}

fn v3(info: &GicV3Info, map: Map<'_>) -> Result<GicV3, PlatformError> {
    let mut regions = heapless::Vec::<RedistributorRegion, { drivers_gic::gicv3::MAX_REGIONS }>::new();
    for region in info.redistributors() {
        let physical = Region::new(region.base, region.size).ok_or(PlatformError("a redistributor wraps"))?;
        let moved = RedistributorRegion { base: map(physical)? as u64, ..*region };
        regions.push(moved).map_err(|_| PlatformError("the GIC has too many redistributor regions"))?;
    }
    let gicd = map(info.gicd)?;
    // SAFETY: the distributor and the redistributors are where the device tree says, mapped as devices just now, and this is
    // the only driver.
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
