//! GICv2: the CPU interface is memory-mapped.

use crate::{InterruptPart, Map};
use drivers_gic::{EoiMode, InterruptController as _, Intid, Mpidr};
use hv_core::{board::BoardError, machine::Machine};
use spin::Once;

/// A GICv2, a GIC-400 for instance.
#[derive(Debug)]
pub struct GicV2;

static GIC: Once<drivers_gic::GicV2> = Once::new();

const KICK: Intid = Intid::sgi(0);

// SAFETY: the driver touches the registers of the GIC, as the device tree gives them.
unsafe impl InterruptPart for GicV2 {
    const KICK: u32 = KICK.raw();

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(gic) = machine.gic_v2() {
            map(gic.gicd.base, gic.gicd.size);
            map(gic.gicc.base, gic.gicc.size);
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let Some(info) = machine.gic_v2() else {
            return Err("the device tree has no GICv2");
        };
        // SAFETY: the addresses are the device tree's, mapped as devices at their physical addresses.
        let gic = unsafe { drivers_gic::GicV2::new(info.gicd.base as usize, info.gicc.base as usize) };
        gic.init_distributor();
        GIC.call_once(|| gic);
        Ok(())
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        let gic = GIC.get().ok_or("the interrupt controller has not been set up")?;
        let core = gic
            .init_core(Mpidr::new(mpidr), EoiMode::DropAndDeactivate)
            .map_err(|_| "two cores have the same interface of the interrupt controller")?;
        for intid in private.iter().map(|id| Intid::new(*id)).chain([KICK]) {
            core.enable(intid).map_err(|_| "a private interrupt cannot be enabled")?;
        }
        Ok(())
    }

    #[inline]
    fn acknowledge() -> Option<u32> {
        let core = GIC.get()?.this_core();
        let raw = core.acknowledge_raw()?;
        let intid = raw & 0x3ff;
        if intid == KICK.raw() {
            // Only this value says whose it is, and there is nothing to be done before its end.
            core.end_raw(raw);
        }
        Some(intid)
    }

    #[inline]
    fn end(intid: u32) {
        if let Some(gic) = GIC.get().filter(|_| intid != KICK.raw()) {
            gic.this_core().end_raw(intid);
        }
    }

    fn enable(intid: u32, mpidr: u64) {
        if let Some(gic) = GIC.get() {
            // One that the distributor does not have does not come.
            let _ = gic.this_core().route(Intid::new(intid), Mpidr::new(mpidr));
            let _ = gic.this_core().enable(Intid::new(intid));
        }
    }

    fn disable(intid: u32) {
        if let Some(gic) = GIC.get() {
            // An interrupt that cannot be disabled comes again, and is ended again.
            let _ = gic.this_core().disable(Intid::new(intid));
        }
    }

    fn kick(mpidr: u64) {
        if let Some(gic) = GIC.get() {
            // A core that has not set its interface up has no VM to leave.
            let _ = gic.this_core().send_sgi(Mpidr::new(mpidr), KICK);
        }
    }
}
