//! The distributor: shared peripheral interrupts.
use super::{
    DEFAULT_PRIORITY,
    registers::{
        gicd::{
            CTLR, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, ISACTIVER, ISENABLER, ISPENDR,
            TYPER,
        },
        gicd_ctlr,
    },
    shared,
};
use crate::{GicError, Intid, Mmio, Mpidr, Trigger};

/// `GICD_PIDR2`: the architecture revision is in bits 7:4 (GIC spec, 12.9.21).
const PIDR2: usize = 0xffe8;
/// `GICD_IROUTER<n>`, n from 32, eight bytes each (GIC spec, 12.9.22).
const IROUTER: usize = 0x6000;

// The non-secure view of `GICD_CTLR` with two security states, and the only view with one, have these bits in
// the same places (GIC spec, 12.9.4). `arm-gic` names them after the secure view.
const CTLR_RWP: u32 = gicd_ctlr::RWP;
/// Non-secure view: `ARE_NS`. Single security state: `ARE`.
const CTLR_ARE: u32 = 1 << 4;
/// Non-secure view: `EnableGrp1A`. Single security state: `EnableGrp1`.
const CTLR_GROUP1: u32 = 1 << 1;

/// The distributor of a GICv3.
#[derive(Clone, Copy, Debug)]
pub struct Distributor<M: Mmio> {
    block: M,
}

impl<M: Mmio> Distributor<M> {
    pub(super) const fn new(block: M) -> Self {
        Self { block }
    }

    /// One past the highest SPI that the distributor has (GIC spec, `GICD_TYPER.ITLinesNumber`).
    pub fn intid_limit(&self) -> u32 {
        let lines = self.block.read32(TYPER) & 0x1f;
        (32 * (lines + 1)).min(Intid::SPECIAL_BASE)
    }

    pub(super) fn init(&self, boot_core: Mpidr) -> Result<(), GicError> {
        let revision = (self.block.read32(PIDR2) >> 4) as u8 & 0xf;
        if !matches!(revision, 3 | 4) {
            return Err(GicError::NotGicV3(revision));
        }
        // ARE may only change while all groups are disabled (GIC spec, 12.9.4 `GICD_CTLR`).
        let are = self.block.read32(CTLR) & CTLR_ARE;
        self.block.write32(CTLR, are);
        self.wait_for_writes()?;
        self.block.write32(CTLR, CTLR_ARE);
        self.wait_for_writes()?;
        let limit = self.intid_limit();
        for first in (Intid::SPI_BASE..limit).step_by(32) {
            let word = first as usize / 32 * 4;
            self.block.write32(ICENABLER + word, u32::MAX);
            self.block.write32(ICACTIVER + word, u32::MAX);
            self.block.write32(ICPENDR + word, u32::MAX);
            self.block.write32(IGROUPR + word, u32::MAX);
            self.block.write32(ICFGR + 2 * word, 0);
            self.block.write32(ICFGR + 2 * word + 4, 0);
        }
        self.wait_for_writes()?;
        for first in (Intid::SPI_BASE..limit).step_by(4) {
            self.block.write32(IPRIORITYR + first as usize, u32::from_ne_bytes([DEFAULT_PRIORITY; 4]));
        }
        for n in Intid::SPI_BASE..limit {
            self.block.write64(IROUTER + n as usize * 8, boot_core.raw());
        }
        self.block.write32(CTLR, CTLR_ARE | CTLR_GROUP1);
        self.wait_for_writes()
    }

    /// Waits until writes that disable an interrupt or a group have taken effect everywhere
    /// (`GICD_CTLR.RWP`).
    pub fn wait_for_writes(&self) -> Result<(), GicError> {
        shared::wait_clear(&self.block, CTLR, CTLR_RWP, "GICD_CTLR.RWP")
    }

    #[inline]
    fn spi(&self, intid: Intid) -> Result<u32, GicError> {
        if intid.is_spi() && intid.raw() < self.intid_limit() {
            Ok(intid.raw())
        } else {
            Err(GicError::NoSuchInterrupt(intid))
        }
    }

    /// Lets an SPI be forwarded.
    pub fn enable(&self, intid: Intid) -> Result<(), GicError> {
        shared::write_one(&self.block, ISENABLER, self.spi(intid)?);
        Ok(())
    }

    /// Stops an SPI from being forwarded, and waits until that has taken effect.
    pub fn disable(&self, intid: Intid) -> Result<(), GicError> {
        shared::write_one(&self.block, ICENABLER, self.spi(intid)?);
        self.wait_for_writes()
    }

    /// Whether an SPI is enabled.
    pub fn is_enabled(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.block, ISENABLER, self.spi(intid)?))
    }

    /// Sets the priority of an SPI.
    pub fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError> {
        shared::set_priority(&self.block, self.spi(intid)?, priority);
        Ok(())
    }

    /// Sets the trigger of a disabled SPI. Not at the same time on two cores.
    pub fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError> {
        shared::set_trigger(&self.block, self.spi(intid)?, trigger);
        Ok(())
    }

    /// Sends an SPI to one core from now on (GIC spec, `GICD_IROUTER<n>` with `Interrupt_Routing_Mode` 0).
    pub fn route(&self, intid: Intid, target: Mpidr) -> Result<(), GicError> {
        let n = self.spi(intid)?;
        self.block.write64(IROUTER + n as usize * 8, target.raw());
        Ok(())
    }

    /// The core an SPI goes to.
    pub fn route_of(&self, intid: Intid) -> Result<Mpidr, GicError> {
        let n = self.spi(intid)?;
        Ok(Mpidr::new(self.block.read64(IROUTER + n as usize * 8)))
    }

    /// Makes an SPI pending, or takes that back.
    pub fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError> {
        let array = if pending { ISPENDR } else { ICPENDR };
        shared::write_one(&self.block, array, self.spi(intid)?);
        Ok(())
    }

    /// Whether an SPI is pending.
    pub fn is_pending(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.block, ISPENDR, self.spi(intid)?))
    }

    /// Makes an SPI active, or inactive, whatever a core has acknowledged.
    pub fn set_active(&self, intid: Intid, active: bool) -> Result<(), GicError> {
        let array = if active { ISACTIVER } else { ICACTIVER };
        shared::write_one(&self.block, array, self.spi(intid)?);
        Ok(())
    }

    /// Whether an SPI is active.
    pub fn is_active(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.block, ISACTIVER, self.spi(intid)?))
    }
}
