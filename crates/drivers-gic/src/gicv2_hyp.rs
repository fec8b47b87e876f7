//! GICv2's hypervisor interface: `GICH_*`, in memory (GICv2 spec, 5.3). The guest's side of it, `GICV_*`, is
//! mapped into the guest where that expects its CPU interface.
use crate::{
    Mmio, MmioBlock,
    hyp::{Control, HypervisorInterface, ListRegister, SavedInterface, end_count, list_registers},
};

const HCR: usize = 0x000;
const VTR: usize = 0x004;
const VMCR: usize = 0x008;
const MISR: usize = 0x010;
const EISR: usize = 0x020;
const ELRSR: usize = 0x030;
const APR: usize = 0x0f0;
const LR: usize = 0x100;

/// The interface of the calling core: one value serves all, since the registers are banked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicV2Hyp<M: Mmio = MmioBlock>(M);

impl GicV2Hyp {
    /// The interface at address `gich`.
    ///
    /// # Safety
    /// As for [`MmioBlock::new`].
    pub const unsafe fn new(gich: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { MmioBlock::new(gich) })
    }
}

impl<M: Mmio> GicV2Hyp<M> {
    /// As [`GicV2Hyp::new`], for registers reached in another way.
    pub const fn with_mmio(mmio: M) -> Self {
        Self(mmio)
    }

    /// Saves what a guest has set up and what is active, and leaves nothing of it behind. List registers are
    /// apart.
    pub fn save(&self) -> SavedInterface {
        let mut saved = SavedInterface { control: self.0.read32(VMCR).into(), ..SavedInterface::default() };
        saved.active_1[0] = self.0.read32(APR);
        self.0.write32(HCR, 0);
        self.0.write32(VMCR, 0);
        self.0.write32(APR, 0);
        saved
    }

    /// Loads it.
    pub fn restore(&self, saved: &SavedInterface) {
        self.0.write32(VMCR, saved.control as u32);
        self.0.write32(APR, saved.active_1[0]);
    }

    /// Whether there is something that a maintenance interrupt tells (`GICH_MISR`).
    pub fn has_maintenance(&self) -> bool {
        self.0.read32(MISR) != 0
    }

    /// Those list registers, a bit each, that have been ended, are to tell so, and have not been written
    /// since (`GICH_EISR0`).
    pub fn ended(&self) -> u16 {
        self.0.read32(EISR) as u16
    }

    /// Those list registers, a bit each, that are free to be used (`GICH_ELRSR0`): no interrupt is in them,
    /// and no end is to be told.
    pub fn free(&self) -> u16 {
        self.0.read32(ELRSR) as u16
    }
}

impl<M: Mmio> HypervisorInterface for GicV2Hyp<M> {
    fn count(&self) -> usize {
        list_registers(self.0.read32(VTR).into())
    }

    fn read(&self, n: usize) -> ListRegister {
        ListRegister::from_v2(self.0.read32(LR + 4 * n))
    }

    fn write(&self, n: usize, value: ListRegister) {
        self.0.write32(LR + 4 * n, value.to_v2());
    }

    fn control(&self, control: Control) {
        self.0.write32(HCR, control.bits());
    }

    fn end_count(&self) -> u32 {
        end_count(self.0.read32(HCR).into())
    }
}
