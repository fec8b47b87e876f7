//! Offsets and bits of the memory-mapped registers that the driver uses (GIC spec, 12.8 to 12.11).
//!
//! They stand here so that users of this crate need not compile a crate of registers; a test compares them
//! with `arm-gic`'s layout.

/// Offsets in the distributor; those from `IGROUPR` on are the same in a redistributor's `SGI_base` frame.
pub(crate) mod gicd {
    pub const CTLR: usize = 0x0000;
    pub const TYPER: usize = 0x0004;
    pub const IGROUPR: usize = 0x0080;
    pub const ISENABLER: usize = 0x0100;
    pub const ICENABLER: usize = 0x0180;
    pub const ISPENDR: usize = 0x0200;
    pub const ICPENDR: usize = 0x0280;
    pub const ISACTIVER: usize = 0x0300;
    pub const ICACTIVER: usize = 0x0380;
    pub const IPRIORITYR: usize = 0x0400;
    pub const ICFGR: usize = 0x0c00;
}

/// Offsets in a redistributor's `RD_base` frame.
pub(crate) mod gicr {
    pub const IIDR: usize = 0x0004;
    pub const TYPER: usize = 0x0008;
    pub const WAKER: usize = 0x0014;
    /// Arm CoreLink GIC-600 TRM.
    pub const PWRR: usize = 0x0024;
    pub const PIDR2: usize = 0xffe8;
}

/// `GICD_CTLR`.
pub(crate) mod gicd_ctlr {
    pub const RWP: u32 = 1 << 31;
}

/// `GICR_CTLR`.
pub(crate) mod gicr_ctlr {
    pub const RWP: u32 = 1 << 3;
}

/// `GICR_WAKER`.
pub(crate) mod waker {
    pub const PROCESSOR_SLEEP: u32 = 1 << 1;
    pub const CHILDREN_ASLEEP: u32 = 1 << 2;
}

/// `GICR_PWRR` of GIC-600 and GIC-700.
pub(crate) mod pwrr {
    pub const APPLY_GROUP: u32 = 1 << 1;
    pub const GROUP_POWERED_OFF: u32 = 1 << 3;
}

/// Product and implementer in `GICR_IIDR`.
pub(crate) mod iidr {
    pub const GIC_600: u32 = 0x0200_043b;
    pub const GIC_600AE: u32 = 0x0300_043b;
    pub const GIC_700: u32 = 0x0400_043b;
}

#[cfg(test)]
mod tests {
    use super::*;
    use arm_gic::gicv3::registers::{Gicd, GicdCtlr, Gicr, GicrCtlr, GicrIidr, GicrPwrr, Waker};
    use core::mem::offset_of;

    #[test]
    fn offsets_and_bits_are_those_of_arm_gic() {
        assert_eq!(
            [gicd::CTLR, gicd::TYPER, gicd::IGROUPR, gicd::ISENABLER, gicd::ICENABLER, gicd::ISPENDR],
            [
                offset_of!(Gicd, ctlr),
                offset_of!(Gicd, typer),
                offset_of!(Gicd, igroupr),
                offset_of!(Gicd, isenabler),
                offset_of!(Gicd, icenabler),
                offset_of!(Gicd, ispendr)
            ]
        );
        assert_eq!(
            [gicd::ICPENDR, gicd::ISACTIVER, gicd::ICACTIVER, gicd::IPRIORITYR, gicd::ICFGR],
            [
                offset_of!(Gicd, icpendr),
                offset_of!(Gicd, isactiver),
                offset_of!(Gicd, icactiver),
                offset_of!(Gicd, ipriorityr),
                offset_of!(Gicd, icfgr)
            ]
        );
        assert_eq!(
            [gicr::IIDR, gicr::TYPER, gicr::WAKER, gicr::PWRR, gicr::PIDR2],
            [
                offset_of!(Gicr, iidr),
                offset_of!(Gicr, typer),
                offset_of!(Gicr, waker),
                offset_of!(Gicr, pwrr),
                offset_of!(Gicr, pidr2)
            ]
        );
        assert_eq!([gicd_ctlr::RWP, gicr_ctlr::RWP], [GicdCtlr::RWP.bits(), GicrCtlr::RWP.bits()]);
        assert_eq!(
            [waker::PROCESSOR_SLEEP, waker::CHILDREN_ASLEEP],
            [Waker::PROCESSOR_SLEEP.bits(), Waker::CHILDREN_ASLEEP.bits()]
        );
        assert_eq!(
            [pwrr::APPLY_GROUP, pwrr::GROUP_POWERED_OFF],
            [GicrPwrr::RedistributorApplyGroup.bits(), GicrPwrr::RedistributorGroupPoweredOff.bits()]
        );
        assert_eq!(
            [iidr::GIC_600, iidr::GIC_600AE, iidr::GIC_700],
            [
                GicrIidr::MODEL_ID_ARM_GIC_600,
                GicrIidr::MODEL_ID_ARM_GIC_600AE,
                GicrIidr::MODEL_ID_ARM_GIC_700
            ]
        );
    }
}
