//! GICv3: the physical CPU interface is system registers.

use crate::{InterruptPart, Map, boot_core};
use drivers_gic::{EoiMode, Intid, Mpidr, gicv3::cpu_interface};
use hv_core::{board::BoardError, machine::Machine};
use spin::Once;

/// A GICv3 or GICv4.
#[derive(Debug)]
pub struct GicV3;

static GIC: Once<drivers_gic::GicV3> = Once::new();

const KICK: Intid = Intid::sgi(0);

fn gic() -> Result<&'static drivers_gic::GicV3, BoardError> {
    GIC.get().ok_or("the interrupt controller has not been set up")
}

// SAFETY: the driver touches the registers of the GIC, as the device tree gives them. The GIC's tables in memory (LPIs) are not
// used.
unsafe impl InterruptPart for GicV3 {
    const KICK: u32 = KICK.raw();

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(gic) = machine.gic_v3() {
            map(gic.gicd.base, gic.gicd.size);
            for region in gic.redistributors() {
                map(region.base, region.size);
            }
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let Some(info) = machine.gic_v3() else {
            return Err("the device tree has no GICv3");
        };
        // SAFETY: the addresses are the device tree's, mapped as devices at their physical addresses.
        let gic = unsafe { drivers_gic::GicV3::new(info.gicd.base as usize, info.redistributors()) };
        gic.init_distributor(boot_core(machine)?).map_err(|_| "the GIC's distributor does not answer")?;
        GIC.call_once(|| gic);
        Ok(())
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        let core = gic()?
            .init_core(Mpidr::new(mpidr), EoiMode::DropAndDeactivate)
            .map_err(|_| "this core has no redistributor, or it does not answer")?;
        for intid in private.iter().map(|id| Intid::new(*id)).chain([KICK]) {
            core.enable(intid).map_err(|_| "a private interrupt cannot be enabled")?;
        }
        Ok(())
    }

    #[inline]
    fn acknowledge() -> Option<u32> {
        cpu_interface::acknowledge().map(Intid::raw)
    }

    #[inline]
    fn end(intid: u32) {
        cpu_interface::end(Intid::new(intid));
    }

    fn enable(intid: u32, mpidr: u64) {
        if let Ok(gic) = gic() {
            // One that the distributor does not have does not come.
            let _ = gic.distributor().route(Intid::new(intid), Mpidr::new(mpidr));
            let _ = gic.distributor().enable(Intid::new(intid));
        }
    }

    fn disable(intid: u32) {
        if let Ok(gic) = gic() {
            // An interrupt that cannot be disabled comes again, and is ended again.
            let _ = gic.distributor().disable(Intid::new(intid));
        }
    }

    fn kick(mpidr: u64) {
        cpu_interface::send_sgi(Mpidr::new(mpidr), KICK);
    }
}
