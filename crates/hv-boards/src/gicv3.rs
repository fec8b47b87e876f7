//! GICv3: the physical CPU interface is system registers.

use crate::{InterruptPart, Map, boot_core, maintenance::Maintenance};
use drivers_gic::{
    EoiMode, Intid, MmioBlock, Mpidr,
    gicv3::{Redistributor, cpu_interface, hyp},
    hyp::{Control, ListRegister},
};
use hv_core::{
    board::{BoardError, HypervisorInterface, SavedInterface, Version, VirtualCpu, VirtualInterface},
    machine::{GicV3Info, Machine},
};
use spin::Once;

/// A GICv3 or GICv4; if `VIRTUAL`, VMs may have one too.
#[derive(Debug)]
pub struct GicV3<const VIRTUAL: bool = false>;

static MAINTENANCE: Maintenance = Maintenance::new();

/// The virtual interface of the calling core.
struct Interface;

/// `ICC_SRE_EL2.Enable`: EL1 may use `ICC_SRE_EL1`. It may not: one core's register is all VMs'.
const ENABLE_LOWER: u64 = 1 << 3;
/// `ICC_SRE_EL1`: SRE, DFB, DIB.
const SYSTEM_REGISTERS_ONLY: u64 = 0b111;
/// `ICH_HCR_EL2`: the virtual interface is off, and every access of EL1 to it traps (TC, TALL0, TALL1).
const TRAP_ALL: u64 = 0b111 << 10;

/// Makes the system registers the only interface of EL1, for good: an access of EL1 to `ICC_SRE_EL1` traps
/// from here on.
fn fix_system_registers() {
    // SAFETY: ICC_SRE_EL1 and ICC_SRE_EL2 decide what EL1 may use; EL2's own use of the physical interface
    // does not depend on these bits.
    unsafe {
        let value: u64;
        core::arch::asm!("mrs {}, s3_4_c12_c9_5", out(reg) value, options(nostack, preserves_flags));
        core::arch::asm!(
            "msr s3_0_c12_c12_5, {}", "msr s3_4_c12_c9_5, {}", "isb",
            in(reg) SYSTEM_REGISTERS_ONLY, in(reg) value & !ENABLE_LOWER, options(nostack, preserves_flags)
        );
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
    fn control(&self, control: Control) {
        hyp::Interface::find().control(control);
    }
    fn end_count(&self) -> u32 {
        hyp::Interface::find().end_count()
    }
}

impl VirtualCpu for Interface {
    fn settings(&self) -> u64 {
        hyp::Interface::find().settings()
    }
    fn set_settings(&self, value: u64) {
        hyp::Interface::find().set_settings(value);
    }
    fn active(&self, group: u8, n: usize) -> u32 {
        VirtualCpu::active(&hyp::Interface::find(), group, n)
    }
    fn set_active(&self, group: u8, n: usize, value: u32) {
        VirtualCpu::set_active(&hyp::Interface::find(), group, n, value);
    }
    fn preemption_bits(&self) -> u32 {
        hyp::Interface::find().preemption_bits()
    }
    fn count_end(&self) {
        hyp::Interface::find().count_end();
    }
}

impl VirtualInterface for Interface {
    fn enter(&self, saved: &SavedInterface) {
        hyp::Interface::find().restore(saved);
    }

    fn version(&self) -> Version {
        Version::V3
    }

    fn virtual_cpu(&self) -> Option<&dyn VirtualCpu> {
        Some(self)
    }

    fn leave(&self) -> SavedInterface {
        let saved = hyp::Interface::find().save();
        // SAFETY: what EL1 may use of the virtual interface does not concern EL2.
        unsafe {
            core::arch::asm!("msr s3_4_c12_c11_0, {}", in(reg) TRAP_ALL, options(nostack, preserves_flags));
        };
        saved
    }
}

static GIC: Once<drivers_gic::GicV3> = Once::new();
/// The redistributors of the first cores, found once: a search reads a register of each.
static REDISTRIBUTORS: [Once<Redistributor<MmioBlock>>; 512] = [const { Once::new() }; 512];

fn redistributor(index: u16, mpidr: u64) -> Option<Redistributor<MmioBlock>> {
    let find = || gic().ok()?.redistributor(Mpidr::new(mpidr)).ok();
    match REDISTRIBUTORS.get(usize::from(index)) {
        Some(known) => match known.get() {
            Some(found) => Some(*found),
            None => find().map(|found| *known.call_once(|| found)),
        },
        None => find(),
    }
}
/// What the device tree says, found once: trees are long.
static INFO: Once<Option<GicV3Info>> = Once::new();

fn info(machine: &Machine<'_>) -> Option<&'static GicV3Info> {
    INFO.call_once(|| machine.gic_v3()).as_ref()
}

const KICK: Intid = Intid::sgi(0);

fn gic() -> Result<&'static drivers_gic::GicV3, BoardError> {
    GIC.get().ok_or("the interrupt controller has not been set up")
}

// SAFETY: the driver touches the registers of the GIC, as the device tree gives them. The GIC's tables in
// memory (LPIs) are not used.
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
        if VIRTUAL {
            fix_system_registers();
        }
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

    fn set_active(intid: u32, active: bool, index: u16, mpidr: u64) {
        if VIRTUAL && let Some(redistributor) = redistributor(index, mpidr) {
            let _ = redistributor.set_active(Intid::new(intid), active);
        }
    }

    fn is_asserted(intid: u32) -> bool {
        gic().is_ok_and(|gic| gic.distributor().is_pending(Intid::new(intid)).unwrap_or(false))
    }

    fn kick(mpidr: u64) {
        cpu_interface::send_sgi(Mpidr::new(mpidr), KICK);
    }
}
