//! A redistributor: the private interrupts of one core.
use super::{
    DEFAULT_PRIORITY,
    registers::{
        gicd::{
            CTLR, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, ISACTIVER, ISENABLER, ISPENDR,
        },
        gicr::{IIDR, PIDR2, PWRR, TYPER, WAKER},
        gicr_ctlr, iidr, pwrr, waker,
    },
    shared,
};
use crate::{GicError, Intid, Mmio, Mpidr, Trigger};
/// Both frames, `RD_base` and `SGI_base`, are 64 KiB (GIC spec, 12.10).
const FRAME: usize = 0x1_0000;
/// `GICR_TYPER.Last`: the last redistributor of a region.
const TYPER_LAST: u64 = 1 << 4;
/// `GICR_TYPER.VLPIS`: two more frames follow, `VLPI_base` and a reserved one (GICv4).
const TYPER_VLPIS: u64 = 1 << 1;

/// A contiguous run of redistributors, as a device tree's `reg` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedistributorRegion {
    /// Address of the first redistributor: physical in a device tree, as mapped for
    /// [`GicV3::new`](super::GicV3::new).
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
    /// Distance between two redistributors, if it is not the architectural one (`redistributor-stride`).
    pub stride: Option<u64>,
}

impl RedistributorRegion {
    /// A region with the architectural distance between redistributors: 128 KiB, or 256 KiB for GICv4.
    pub const fn new(base: u64, size: u64) -> Self {
        Self { base, size, stride: None }
    }
}

/// Looks for the redistributor of a core in one region.
pub(super) fn find<M: Mmio>(
    block: M,
    region: &RedistributorRegion,
    mpidr: Mpidr,
) -> Option<Redistributor<M>> {
    let mut offset = 0;
    while offset + 2 * FRAME as u64 <= region.size {
        let frames = block.at(offset as usize);
        if !matches!(frames.read32(PIDR2) >> 4 & 0xf, 3 | 4) {
            return None;
        }
        let typer = frames.read64(TYPER);
        if (typer >> 32) as u32 == mpidr.packed() {
            return Some(Redistributor { control: frames, sgi: frames.at(FRAME) });
        }
        if typer & TYPER_LAST != 0 {
            return None;
        }
        let architectural = if typer & TYPER_VLPIS != 0 { 4 } else { 2 } * FRAME as u64;
        // A stride of zero in a device tree means the architectural one.
        offset += region.stride.filter(|&s| s >= 2 * FRAME as u64).unwrap_or(architectural);
    }
    None
}

/// The redistributor of one core.
#[derive(Clone, Copy, Debug)]
pub struct Redistributor<M: Mmio> {
    control: M,
    sgi: M,
}

impl<M: Mmio> Redistributor<M> {
    pub(super) fn init(&self) -> Result<(), GicError> {
        self.power_on()?;
        self.wake()?;
        self.sgi.write32(ICENABLER, u32::MAX);
        self.sgi.write32(ICACTIVER, u32::MAX);
        self.sgi.write32(ICPENDR, u32::MAX);
        self.sgi.write32(IGROUPR, u32::MAX);
        for n in (0..Intid::SPI_BASE as usize).step_by(4) {
            self.sgi.write32(IPRIORITYR + n, u32::from_ne_bytes([DEFAULT_PRIORITY; 4]));
        }
        // PPIs are level-triggered unless someone knows better; SGIs are always edge-triggered.
        self.sgi.write32(ICFGR + 4, 0);
        self.wait_for_writes()
    }

    /// GIC-600 and GIC-700 redistributors may be powered down (Arm CoreLink GIC-600 TRM, `GICR_PWRR`).
    fn power_on(&self) -> Result<(), GicError> {
        const PRODUCT_AND_IMPLEMENTER: u32 = 0xff00_0fff;
        if !matches!(
            self.control.read32(IIDR) & PRODUCT_AND_IMPLEMENTER,
            iidr::GIC_600 | iidr::GIC_600AE | iidr::GIC_700
        ) {
            return Ok(());
        }
        self.control.write32(PWRR, pwrr::APPLY_GROUP);
        shared::wait_clear(&self.control, PWRR, pwrr::GROUP_POWERED_OFF, "GICR_PWRR.RDGPO")
    }

    /// Tells the redistributor that its core is awake (GIC spec, 11.1 and `GICR_WAKER`).
    fn wake(&self) -> Result<(), GicError> {
        let waker = self.control.read32(WAKER);
        self.control.write32(WAKER, waker & !waker::PROCESSOR_SLEEP);
        shared::wait_clear(&self.control, WAKER, waker::CHILDREN_ASLEEP, "GICR_WAKER.ChildrenAsleep")
    }

    /// Tells the redistributor that its core is about to be switched off. Group 1 of the core's CPU interface
    /// must be disabled.
    pub fn sleep(&self) -> Result<(), GicError> {
        let waker = self.control.read32(WAKER);
        self.control.write32(WAKER, waker | waker::PROCESSOR_SLEEP);
        for _ in 0..1_000_000 {
            if self.control.read32(WAKER) & waker::CHILDREN_ASLEEP != 0 {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(GicError::Timeout("GICR_WAKER.ChildrenAsleep"))
    }

    /// Waits until writes that disable an interrupt have taken effect (`GICR_CTLR.RWP`).
    pub fn wait_for_writes(&self) -> Result<(), GicError> {
        shared::wait_clear(&self.control, CTLR, gicr_ctlr::RWP, "GICR_CTLR.RWP")
    }

    #[inline]
    fn private(intid: Intid) -> Result<u32, GicError> {
        if intid.is_private() { Ok(intid.raw()) } else { Err(GicError::NoSuchInterrupt(intid)) }
    }

    /// Lets a private interrupt be forwarded.
    pub fn enable(&self, intid: Intid) -> Result<(), GicError> {
        shared::write_one(&self.sgi, ISENABLER, Self::private(intid)?);
        Ok(())
    }

    /// Stops a private interrupt from being forwarded, and waits until that has taken effect.
    pub fn disable(&self, intid: Intid) -> Result<(), GicError> {
        shared::write_one(&self.sgi, ICENABLER, Self::private(intid)?);
        self.wait_for_writes()
    }

    /// Whether a private interrupt is enabled.
    pub fn is_enabled(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.sgi, ISENABLER, Self::private(intid)?))
    }

    /// Sets the priority of a private interrupt.
    pub fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError> {
        shared::set_priority(&self.sgi, Self::private(intid)?, priority);
        Ok(())
    }

    /// Sets the trigger of a disabled PPI. Some implementations fix it, and then this does nothing.
    pub fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError> {
        if !intid.is_ppi() {
            return Err(GicError::NotApplicable(intid));
        }
        shared::set_trigger(&self.sgi, intid.raw(), trigger);
        Ok(())
    }

    /// Makes a private interrupt pending, or takes that back.
    pub fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError> {
        let array = if pending { ISPENDR } else { ICPENDR };
        shared::write_one(&self.sgi, array, Self::private(intid)?);
        Ok(())
    }

    /// Whether a private interrupt is pending.
    pub fn is_pending(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.sgi, ISPENDR, Self::private(intid)?))
    }

    /// Makes a private interrupt active, or inactive, whatever the core has acknowledged.
    pub fn set_active(&self, intid: Intid, active: bool) -> Result<(), GicError> {
        let array = if active { ISACTIVER } else { ICACTIVER };
        shared::write_one(&self.sgi, array, Self::private(intid)?);
        Ok(())
    }

    /// Whether a private interrupt is active.
    pub fn is_active(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.sgi, ISACTIVER, Self::private(intid)?))
    }
}
