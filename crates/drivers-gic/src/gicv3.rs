//! GICv3 and GICv4, physical side.
mod core_handle;
pub mod cpu_interface;
mod distributor;
pub mod hyp;
mod redistributor;
pub(crate) mod registers;
mod sgi;
pub(crate) mod shared;

pub use core_handle::GicV3Core;
pub use distributor::Distributor;
pub use redistributor::{Redistributor, RedistributorRegion};
pub use sgi::sgi_register;

use crate::{GicError, Mmio, MmioBlock, Mpidr};

/// Priority that every interrupt has after initialisation: the middle of what non-secure software can set.
pub const DEFAULT_PRIORITY: u8 = 0xa0;

/// The most redistributor regions a [`GicV3`] holds.
pub const MAX_REGIONS: usize = 16;

/// What [`end`](crate::InterruptController::end) does (GIC spec, `ICC_CTLR_EL1.EOImode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EoiMode {
    /// Priority drop and deactivation: what a kernel wants.
    DropAndDeactivate,
    /// Priority drop only. The interrupt stays active until it is deactivated by
    /// [`deactivate`](crate::InterruptController::deactivate), or by a guest through a list register: what a
    /// hypervisor wants.
    DropOnly,
}

/// A whole GICv3: the distributor and where the redistributors are.
///
/// Holds addresses and no state, so one `static` serves all cores.
#[derive(Clone, Copy, Debug)]
pub struct GicV3<M: Mmio = MmioBlock> {
    distributor: Distributor<M>,
    regions: [Option<(M, RedistributorRegion)>; MAX_REGIONS],
}

impl GicV3<MmioBlock> {
    /// The controller whose distributor is at address `gicd` and whose redistributors are in `regions`.
    ///
    /// # Panics
    /// If there are more than [`MAX_REGIONS`] regions.
    ///
    /// # Safety
    /// The distributor (64 KiB) and all of the regions are mapped at these addresses as device memory,
    /// readable and writable, for as long as the value or anything made from it is used, and nothing else
    /// drives the controller.
    pub const unsafe fn new(gicd: usize, regions: &[RedistributorRegion]) -> Self {
        assert!(regions.len() <= MAX_REGIONS, "too many redistributor regions");
        let mut blocks = [None; MAX_REGIONS];
        let mut i = 0;
        while i < regions.len() {
            // SAFETY: the caller vouches for the regions.
            blocks[i] = Some((unsafe { MmioBlock::new(regions[i].base as usize) }, regions[i]));
            i += 1;
        }
        // SAFETY: the caller vouches for the distributor.
        Self { distributor: Distributor::new(unsafe { MmioBlock::new(gicd) }), regions: blocks }
    }
}

impl<M: Mmio> GicV3<M> {
    /// As [`GicV3::new`], for registers reached in another way.
    ///
    /// # Panics
    /// If there are more than [`MAX_REGIONS`] regions.
    pub fn with_mmio(gicd: M, regions: &[(M, RedistributorRegion)]) -> Self {
        let mut blocks = [None; MAX_REGIONS];
        for (block, region) in blocks.iter_mut().zip(regions) {
            *block = Some(*region);
        }
        assert!(regions.len() <= MAX_REGIONS, "too many redistributor regions");
        Self { distributor: Distributor::new(gicd), regions: blocks }
    }

    /// The distributor.
    #[inline]
    pub fn distributor(&self) -> &Distributor<M> {
        &self.distributor
    }

    /// Sets the distributor up: all SPIs disabled, inactive, not pending, level-triggered, in non-secure
    /// group 1 with [`DEFAULT_PRIORITY`], routed to `boot_core`; affinity routing and group 1 on. Once, on
    /// one core, before any [`init_core`](Self::init_core).
    pub fn init_distributor(&self, boot_core: Mpidr) -> Result<(), GicError> {
        self.distributor.init(boot_core)
    }

    /// Finds the redistributor of a core by its affinity (GIC spec, `GICR_TYPER`).
    pub fn redistributor(&self, mpidr: Mpidr) -> Result<Redistributor<M>, GicError> {
        self.regions
            .iter()
            .flatten()
            .find_map(|(block, region)| redistributor::find(*block, region, mpidr))
            .ok_or(GicError::NoRedistributor(mpidr))
    }

    /// Sets the calling core up, without its CPU interface: its redistributor is woken, its SGIs and PPIs are
    /// disabled, inactive, not pending, in non-secure group 1 with [`DEFAULT_PRIORITY`].
    pub fn init_redistributor(&self, mpidr: Mpidr) -> Result<GicV3Core<M>, GicError> {
        let redistributor = self.redistributor(mpidr)?;
        redistributor.init()?;
        Ok(GicV3Core::new(self.distributor, redistributor))
    }

    /// Sets the calling core up: its redistributor as [`init_redistributor`](Self::init_redistributor), its
    /// CPU interface as [`cpu_interface::init`]. `mpidr` is the calling core's own.
    ///
    /// Works at EL1 and at EL2, and finds out by itself where it is. Interrupts are still masked in PSTATE
    /// afterwards.
    #[cfg(any(target_arch = "aarch64", doc))]
    pub fn init_core(&self, mpidr: Mpidr, eoi_mode: EoiMode) -> Result<GicV3Core<M>, GicError> {
        let core = self.init_redistributor(mpidr)?;
        cpu_interface::init(eoi_mode)?;
        Ok(core)
    }
}
