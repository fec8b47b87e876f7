//! GICv3: the physical CPU interface is system registers.

use crate::{InterruptPart, Map, boot_core, maintenance::Maintenance};
use drivers_gic::{
    EoiMode, Intid, Mpidr,
    gicv3::{cpu_interface, hyp},
    hyp::ListRegister,
};
use hv_core::{
    board::{BoardError, HypervisorInterface, SavedInterface, Version, VirtualInterface},
    machine::{GicV3Info, Machine},
};
use spin::Once;

/// A GICv3 or GICv4; if `VIRTUAL`, VMs may have one too.
#[derive(Debug)]
pub struct GicV3<const VIRTUAL: bool = false>;

static MAINTENANCE: Maintenance = Maintenance::new();

/// The virtual interface of the calling core.
struct Interface;

/// `ICC_SRE_EL2.Enable`: EL1 may use `ICC_SRE_EL1`.
const ENABLE_LOWER: u64 = 1 << 3;
/// `ICH_HCR_EL2`: the virtual interface is off, and every access of EL1 to it traps (TC, TALL0, TALL1).
const TRAP_ALL: u64 = 0b111 << 10;

fn set_enable_lower(enable: bool) {
    // SAFETY: ICC_SRE_EL2 decides what EL1 may use; EL2's own use of the physical interface does not depend on this bit.
    unsafe {
        let value: u64;
        core::arch::asm!("mrs {}, s3_4_c12_c9_5", out(reg) value, options(nostack, preserves_flags));
        let value = if enable { value | ENABLE_LOWER } else { value & !ENABLE_LOWER };
        core::arch::asm!("msr s3_4_c12_c9_5, {}", "isb", in(reg) value, options(nostack, preserves_flags));
    }
}

impl HypervisorInterface for Interface {
    fn count(&self) -> usize {
        hyp::Interface::find().count()
    }
    fn read(&self, n: usize) -> ListRegister {
        hyp::Interface::find().read(n)
    }
    fn write(&self, n: usize, value: ListRegister) {
        hyp::Interface::find().write(n, value);
    }
    fn control(&self, on: bool, underflow: bool) {
        hyp::Interface::find().control(on, underflow);
    }
}

impl VirtualInterface for Interface {
    fn enter(&self, saved: &SavedInterface) {
        set_enable_lower(true);
        hyp::Interface::find().restore(saved);
    }

    fn version(&self) -> Version {
        Version::V3
    }

    fn leave(&self) -> SavedInterface {
        let saved = hyp::Interface::find().save();
        set_enable_lower(false);
        // SAFETY: as in `set_enable_lower`.
        unsafe {
            core::arch::asm!("msr s3_4_c12_c11_0, {}", in(reg) TRAP_ALL, options(nostack, preserves_flags));
        };
        saved
    }
}

static GIC: Once<drivers_gic::GicV3> = Once::new();
/// What the device tree says, found once: trees are long.
static INFO: Once<Option<GicV3Info>> = Once::new();

fn info(machine: &Machine<'_>) -> Option<&'static GicV3Info> {
    INFO.call_once(|| machine.gic_v3()).as_ref()
}

const KICK: Intid = Intid::sgi(0);

fn gic() -> Result<&'static drivers_gic::GicV3, BoardError> {
    GIC.get().ok_or("the interrupt controller has not been set up")
}

// SAFETY: the driver touches the registers of the GIC, as the device tree gives them. The GIC's tables in memory (LPIs) are not
// used.
unsafe impl<const VIRTUAL: bool> InterruptPart for GicV3<VIRTUAL> {
    fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
        if VIRTUAL { Some(&Interface) } else { None }
    }

    const KICK: u32 = KICK.raw();

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(gic) = info(machine) {
            map(gic.gicd.base, gic.gicd.size);
            for region in gic.redistributors() {
                map(region.base, region.size);
            }
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let Some(info) = info(machine) else {
            return Err("the device tree has no GICv3");
        };
        // SAFETY: the addresses are the device tree's, mapped as devices at their physical addresses.
        let gic = unsafe { drivers_gic::GicV3::new(info.gicd.base as usize, info.redistributors()) };
        gic.init_distributor(boot_core(machine)?).map_err(|_| "the GIC's distributor does not answer")?;
        GIC.call_once(|| gic);
        if VIRTUAL {
            MAINTENANCE.find(machine);
        }
        Ok(())
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        let core = gic()?
            .init_core(Mpidr::new(mpidr), EoiMode::DropAndDeactivate)
            .map_err(|_| "this core has no redistributor, or it does not answer")?;
        for intid in private.iter().map(|id| Intid::new(*id)).chain([KICK]) {
            core.enable(intid).map_err(|_| "a private interrupt cannot be enabled")?;
        }
        if VIRTUAL && let Some(maintenance) = MAINTENANCE.intid() {
            core.enable(maintenance).map_err(|_| "the maintenance interrupt cannot be enabled")?;
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
