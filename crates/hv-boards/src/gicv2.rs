//! GICv2: the CPU interface is memory-mapped.

use crate::{InterruptPart, Map, maintenance::Maintenance};
use drivers_gic::{
    EoiMode, GicV2Hyp, InterruptController as _, Intid, Mpidr,
    hyp::{Control, ListRegister},
};
use hv_core::{
    board::{BoardError, HypervisorInterface, SavedInterface, Version, VirtualInterface},
    machine::Machine,
};
use spin::Once;

/// A GICv2, a GIC-400 for instance; if `VIRTUAL`, VMs may have one too.
#[derive(Debug)]
pub struct GicV2<const VIRTUAL: bool = false>;

/// The hypervisor's side of virtual interrupts, once [`GicV2::init`] has found it.
#[derive(Debug)]
struct Interface(Once<GicV2Hyp>);

static INTERFACE: Interface = Interface(Once::new());
static MAINTENANCE: Maintenance = Maintenance::new();

impl Interface {
    #[inline]
    fn with<T: Default>(&self, action: impl FnOnce(&GicV2Hyp) -> T) -> T {
        self.0.get().map_or_else(T::default, action)
    }
}

impl HypervisorInterface for Interface {
    fn count(&self) -> usize {
        self.with(HypervisorInterface::count)
    }
    fn read(&self, n: usize) -> ListRegister {
        self.with(|hyp| hyp.read(n))
    }
    fn write(&self, n: usize, value: ListRegister) {
        self.with(|hyp| hyp.write(n, value));
    }
    fn control(&self, control: Control) {
        self.with(|hyp| hyp.control(control));
    }
    fn end_count(&self) -> u32 {
        self.with(HypervisorInterface::end_count)
    }
}

impl VirtualInterface for Interface {
    fn version(&self) -> Version {
        Version::V2
    }

    fn cpu_interface(&self, machine: &Machine<'_>) -> Option<(u64, u64)> {
        machine.gic_v2()?.gicv.map(|gicv| (gicv.base, gicv.size))
    }

    fn enter(&self, saved: &SavedInterface) {
        self.with(|hyp| hyp.restore(saved));
    }

    fn leave(&self) -> SavedInterface {
        self.with(GicV2Hyp::save)
    }
}

static GIC: Once<drivers_gic::GicV2> = Once::new();

const KICK: Intid = Intid::sgi(0);

// SAFETY: the driver touches the registers of the GIC, as the device tree gives them.
unsafe impl<const VIRTUAL: bool> InterruptPart for GicV2<VIRTUAL> {
    fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
        if VIRTUAL { Some(&INTERFACE) } else { None }
    }

    const KICK: u32 = KICK.raw();

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(gic) = machine.gic_v2() {
            map(gic.gicd.base, gic.gicd.size);
            map(gic.gicc.base, gic.gicc.size);
            if let (true, Some(gich)) = (VIRTUAL, gic.gich) {
                map(gich.base, gich.size);
            }
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
        if VIRTUAL {
            let (Some(gich), Some(_)) = (info.gich, info.gicv) else {
                return Err("the device tree's GICv2 has no virtual CPU interface");
            };
            // SAFETY: as above.
            INTERFACE.0.call_once(|| unsafe { GicV2Hyp::new(gich.base as usize) });
            MAINTENANCE.find(machine);
        }
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
        if VIRTUAL && let Some(maintenance) = MAINTENANCE.intid() {
            core.enable(maintenance).map_err(|_| "the maintenance interrupt cannot be enabled")?;
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

    fn set_active(intid: u32, active: bool, _index: u16, _mpidr: u64) {
        if let Some(gic) = GIC.get().filter(|_| VIRTUAL) {
            // The registers of private interrupts are the calling core's.
            let _ = gic.this_core().set_active(Intid::new(intid), active);
        }
    }

    fn is_asserted(intid: u32) -> bool {
        GIC.get().is_some_and(|gic| gic.this_core().is_pending(Intid::new(intid)).unwrap_or(false))
    }

    fn kick(mpidr: u64) {
        if let Some(gic) = GIC.get() {
            // A core that has not set its interface up has no VM to leave.
            let _ = gic.this_core().send_sgi(Mpidr::new(mpidr), KICK);
        }
    }
}
