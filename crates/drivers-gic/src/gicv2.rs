//! GICv2, physical side: distributor and memory-mapped CPU interface (*Arm Generic Interrupt Controller
//! Architecture Specification, architecture version 2.0*, IHI 0048B, cited as "GICv2 spec").
//!
//! As with [`GicV3`](crate::GicV3), interrupts are used from the non-secure state, or on a controller without
//! two security states, and [`GicV2::init_core`] gives each core its own [`InterruptController`].
use crate::gicv3::registers::gicd::{
    CTLR, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IPRIORITYR, ISACTIVER, ISENABLER, ISPENDR,
};
use crate::{
    EoiMode, GicError, InterruptController, Intid, Mmio, MmioBlock, Mpidr, Trigger,
    gicv3::{DEFAULT_PRIORITY, shared},
};
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the distributor's registers.
pub const DISTRIBUTOR_SIZE: usize = 0x1000;
/// The most cores: one bit each in a target byte (GICv2 spec, 4.3.12).
pub const MAX_CORES: usize = 8;

// Distributor (GICv2 spec, table 4-1).
const TYPER: usize = 0x004;
const ITARGETSR: usize = 0x800;
const SGIR: usize = 0xf00;
// CPU interface (GICv2 spec, table 4-2).
const GICC_CTLR: usize = 0x000;
const GICC_PMR: usize = 0x004;
const GICC_BPR: usize = 0x008;
const GICC_IAR: usize = 0x00c;
const GICC_EOIR: usize = 0x010;
const GICC_DIR: usize = 0x1000;
/// `GICC_CTLR`, non-secure view: group 1 enabled.
const ENABLE_GROUP_1: u32 = 1;
/// `GICC_CTLR`, non-secure view: `EOImodeNS`.
const EOI_MODE: u32 = 1 << 9;
/// Interrupt ids from here on are no interrupts (GICv2 spec, 3.2.5).
const SPURIOUS: u32 = 1020;
/// No core has told yet that it has this interface.
const UNKNOWN: u64 = u64::MAX;

/// A whole GICv2. One `static` serves all cores.
#[derive(Debug)]
pub struct GicV2<M: Mmio = MmioBlock> {
    distributor: M,
    interface: M,
    /// Which core has each CPU interface.
    cores: [AtomicU64; MAX_CORES],
}

/// A GICv2 as one core sees it. Made by [`GicV2::init_core`] on the core itself, and used on that core only.
#[derive(Clone, Copy, Debug)]
pub struct GicV2Core<'a, M: Mmio = MmioBlock>(&'a GicV2<M>);

impl GicV2<MmioBlock> {
    /// The controller whose distributor is at address `gicd`, and whose CPU interface each core sees at
    /// `gicc`.
    ///
    /// # Safety
    /// Both (4 KiB and 8 KiB) are mapped at these addresses as device memory, readable and writable, for as
    /// long as the value or anything made from it is used, and nothing else drives the controller.
    pub const unsafe fn new(gicd: usize, gicc: usize) -> Self {
        // SAFETY: the caller vouches for both.
        unsafe { Self::with_mmio(MmioBlock::new(gicd), MmioBlock::new(gicc)) }
    }
}

impl<M: Mmio> GicV2<M> {
    /// As [`GicV2::new`], for registers reached in another way.
    pub const fn with_mmio(gicd: M, gicc: M) -> Self {
        Self { distributor: gicd, interface: gicc, cores: [const { AtomicU64::new(UNKNOWN) }; MAX_CORES] }
    }

    /// One past the highest SPI that the distributor has (GICv2 spec, `GICD_TYPER.ITLinesNumber`).
    pub fn intid_limit(&self) -> u32 {
        (32 * ((self.distributor.read32(TYPER) & 0x1f) + 1)).min(SPURIOUS)
    }

    /// Sets the distributor up: all SPIs disabled, inactive, not pending, level-triggered, with
    /// [`DEFAULT_PRIORITY`], for the calling core; forwarding on. Once, on one core, before any
    /// [`init_core`](Self::init_core).
    pub fn init_distributor(&self) {
        let block = &self.distributor;
        block.write32(CTLR, 0);
        let own = u32::from_ne_bytes([self.own_mask(); 4]);
        for first in (Intid::SPI_BASE..self.intid_limit()).step_by(32) {
            self.quiet(first);
            let word = first as usize / 32 * 4;
            block.write32(ICFGR + 2 * word, 0);
            block.write32(ICFGR + 2 * word + 4, 0);
            for four in (first..first + 32).step_by(4) {
                block.write32(ITARGETSR + four as usize, own);
            }
        }
        block.write32(CTLR, 1);
    }

    /// Makes 32 interrupts disabled, inactive, not pending, with the default priority.
    fn quiet(&self, first: u32) {
        let word = first as usize / 32 * 4;
        for array in [ICENABLER, ICACTIVER, ICPENDR] {
            self.distributor.write32(array + word, u32::MAX);
        }
        for four in (first..first + 32).step_by(4) {
            self.distributor.write32(IPRIORITYR + four as usize, u32::from_ne_bytes([DEFAULT_PRIORITY; 4]));
        }
    }

    /// The calling core's bit in target bytes: reads of the first eight, which are private, return it (GICv2
    /// spec, 4.3.12). On a controller for one core they return zero.
    fn own_mask(&self) -> u8 {
        let bytes =
            (0..8).map(|word| self.distributor.read32(ITARGETSR + 4 * word)).fold(0, |all, word| all | word);
        match bytes.to_ne_bytes().into_iter().fold(0, |all, byte| all | byte) {
            0 => 1,
            mask => mask,
        }
    }

    /// Sets the calling core up: its SGIs and PPIs disabled, inactive, not pending; its CPU interface on,
    /// with all priorities let through. `mpidr` is the calling core's own. Interrupts are still masked in
    /// PSTATE afterwards.
    ///
    /// # Errors
    /// [`GicError::NoCpuInterface`]: the controller says that another core has this interface already.
    pub fn init_core(&self, mpidr: Mpidr, eoi_mode: EoiMode) -> Result<GicV2Core<'_, M>, GicError> {
        let number = self.own_mask().trailing_zeros() as usize;
        let slot = &self.cores[number];
        let known = slot.compare_exchange(UNKNOWN, mpidr.raw(), Ordering::AcqRel, Ordering::Acquire);
        if known.is_err_and(|other| other != mpidr.raw()) {
            return Err(GicError::NoCpuInterface(mpidr));
        }
        self.quiet(0);
        self.interface.write32(GICC_PMR, 0xff);
        self.interface.write32(GICC_BPR, 0);
        let mode = if eoi_mode == EoiMode::DropOnly { EOI_MODE } else { 0 };
        self.interface.write32(GICC_CTLR, ENABLE_GROUP_1 | mode);
        Ok(GicV2Core(self))
    }

    /// The calling core's part, which [`init_core`](Self::init_core) has set up, without setting it up again.
    #[inline]
    pub const fn this_core(&self) -> GicV2Core<'_, M> {
        GicV2Core(self)
    }

    /// The target bit of a core that has been set up.
    fn mask_of(&self, core: Mpidr) -> Result<u32, GicError> {
        let number = self.cores.iter().position(|known| known.load(Ordering::Acquire) == core.raw());
        number.map(|number| 1 << number).ok_or(GicError::NoCpuInterface(core))
    }

    fn known(&self, intid: Intid) -> Result<u32, GicError> {
        if intid.raw() < self.intid_limit() { Ok(intid.raw()) } else { Err(GicError::NoSuchInterrupt(intid)) }
    }

    fn write_one(&self, array: usize, intid: Intid) -> Result<(), GicError> {
        shared::write_one(&self.distributor, array, self.known(intid)?);
        Ok(())
    }
}

impl<M: Mmio> GicV2Core<'_, M> {
    /// Whether the interrupt is enabled.
    pub fn is_enabled(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.0.distributor, ISENABLER, self.0.known(intid)?))
    }

    /// Makes the interrupt active, or inactive: for a hypervisor that changes what a guest has in hand.
    pub fn set_active(&self, intid: Intid, active: bool) -> Result<(), GicError> {
        self.0.write_one(if active { ISACTIVER } else { ICACTIVER }, intid)
    }

    /// Acknowledges, with the core that sent an SGI: that number goes back with the end (GICv2 spec,
    /// `GICC_IAR.CPUID`).
    pub fn acknowledge_raw(&self) -> Option<u32> {
        let iar = self.0.interface.read32(GICC_IAR);
        (iar & 0x3ff < SPURIOUS).then_some(iar)
    }

    /// Ends what [`acknowledge_raw`](Self::acknowledge_raw) returned.
    pub fn end_raw(&self, iar: u32) {
        self.0.interface.write32(GICC_EOIR, iar);
    }
}

impl<M: Mmio> InterruptController for GicV2Core<'_, M> {
    fn enable(&self, intid: Intid) -> Result<(), GicError> {
        self.0.write_one(ISENABLER, intid)
    }

    fn disable(&self, intid: Intid) -> Result<(), GicError> {
        self.0.write_one(ICENABLER, intid)?;
        // GICv2 has no way to wait; a read of the same device comes after the write has reached it.
        let _ = self.0.distributor.read32(CTLR);
        Ok(())
    }

    fn set_priority(&self, intid: Intid, priority: u8) -> Result<(), GicError> {
        shared::set_priority(&self.0.distributor, self.0.known(intid)?, priority);
        Ok(())
    }

    fn set_trigger(&self, intid: Intid, trigger: Trigger) -> Result<(), GicError> {
        if intid.is_sgi() {
            return Err(GicError::NotApplicable(intid));
        }
        shared::set_trigger(&self.0.distributor, self.0.known(intid)?, trigger);
        Ok(())
    }

    fn route(&self, intid: Intid, target: Mpidr) -> Result<(), GicError> {
        if intid.is_private() {
            return Err(GicError::NotApplicable(intid));
        }
        let mask = self.0.mask_of(target)?;
        self.0.distributor.write8(ITARGETSR + self.0.known(intid)? as usize, mask as u8);
        Ok(())
    }

    fn set_pending(&self, intid: Intid, pending: bool) -> Result<(), GicError> {
        // SGIs are made pending by sending them (GICv2 spec, 4.3.7).
        if intid.is_sgi() {
            return Err(GicError::NotApplicable(intid));
        }
        self.0.write_one(if pending { ISPENDR } else { ICPENDR }, intid)
    }

    fn is_pending(&self, intid: Intid) -> Result<bool, GicError> {
        Ok(shared::read_one(&self.0.distributor, ISPENDR, self.0.known(intid)?))
    }

    fn send_sgi(&self, target: Mpidr, sgi: Intid) -> Result<(), GicError> {
        if !sgi.is_sgi() {
            return Err(GicError::NotApplicable(sgi));
        }
        let mask = self.0.mask_of(target)?;
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a barrier: what was written to memory before is visible to the receiver.
        unsafe {
            core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
        }
        // Non-secure software can send what is in its own group only (GICv2 spec, 4.3.15, NSATT is ignored).
        self.0.distributor.write32(SGIR, mask << 16 | sgi.raw());
        Ok(())
    }

    fn acknowledge(&self) -> Option<Intid> {
        self.acknowledge_raw().map(|iar| Intid::new(iar & 0x3ff))
    }

    /// Of an SGI only if this core sent it, or is interface 0; use [`end_raw`](Self::end_raw) for others'.
    fn end(&self, intid: Intid) {
        self.end_raw(intid.raw());
    }

    fn deactivate(&self, intid: Intid) {
        self.0.interface.write32(GICC_DIR, intid.raw());
    }
}
