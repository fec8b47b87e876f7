//! The interrupt controller.
use crate::{
    Interrupt, RedistributorRegion, Region, interrupt,
    survey::{self, Survey},
    tree::{self, Find as _, Place, Tree},
};
use core::fmt;

/// The most redistributor regions a description holds.
const MAX_REGIONS: usize = drivers_gic::gicv3::MAX_REGIONS;

/// The interrupt controller that the cores' own interrupts go to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one per machine, and nothing allocates here")]
pub enum InterruptControllerInfo {
    /// A GICv2.
    GicV2(GicV2Info),
    /// A GICv3 or GICv4.
    GicV3(GicV3Info),
    /// The per-core local controller of BCM2836 and BCM2837.
    Bcm2836(Bcm2836Info),
}

/// Register regions of a GICv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicV2Info {
    /// The distributor.
    pub gicd: Region,
    /// The CPU interface.
    pub gicc: Region,
    /// The hypervisor's control of the virtual interface, if there is one.
    pub gich: Option<Region>,
    /// The virtual CPU interface, to be mapped into guests, if there is one.
    pub gicv: Option<Region>,
}

/// Register regions of a GICv3.
#[derive(Clone, PartialEq, Eq)]
pub struct GicV3Info {
    /// The distributor.
    pub gicd: Region,
    redistributors: [RedistributorRegion; MAX_REGIONS],
    redistributor_count: usize,
    /// The memory-mapped CPU interface for GICv2 guests, if there is one.
    pub gicc: Option<Region>,
    /// The memory-mapped hypervisor control, if there is one.
    pub gich: Option<Region>,
    /// The memory-mapped virtual CPU interface, if there is one.
    pub gicv: Option<Region>,
}

impl GicV3Info {
    /// The runs of redistributors, ready for [`drivers_gic::GicV3::new`] where physical addresses are mapped
    /// one to one.
    pub fn redistributors(&self) -> &[RedistributorRegion] {
        &self.redistributors[..self.redistributor_count]
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "`redistributors()` is both of the two")]
impl fmt::Debug for GicV3Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GicV3Info")
            .field("gicd", &self.gicd)
            .field("redistributors", &self.redistributors())
            .field("gicc", &self.gicc)
            .field("gich", &self.gich)
            .field("gicv", &self.gicv)
            .finish()
    }
}

/// Register regions of the controllers of BCM2836 and BCM2837.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bcm2836Info {
    /// The per-core local controller, with mailboxes and timer routing.
    pub local: Region,
    /// The legacy controller of the peripherals behind it, if the tree has it.
    pub legacy: Option<Region>,
}

/// A GIC comes first: BCM2711 has one, and the local controller as well.
pub(crate) fn find(tree: &Tree<'_>) -> Option<InterruptControllerInfo> {
    None.or_else(|| gicv3(tree).map(InterruptControllerInfo::GicV3))
        .or_else(|| gicv2(tree).map(InterruptControllerInfo::GicV2))
        .or_else(|| bcm2836(tree).map(InterruptControllerInfo::Bcm2836))
}

/// The first enabled node of a kind.
fn place<'a>(tree: &Tree<'a>, compatibles: &[&str]) -> Option<Place<'a>> {
    tree.find(&mut |place| tree::is_compatible(&place.node(), compatibles) && place.is_enabled())
}

pub(crate) fn gicv2(tree: &Tree<'_>) -> Option<GicV2Info> {
    let place = place(tree, survey::GIC_V2)?;
    Some(GicV2Info {
        gicd: place.region(0)?,
        gicc: place.region(1)?,
        gich: place.region(2),
        gicv: place.region(3),
    })
}

pub(crate) fn gicv3(tree: &Tree<'_>) -> Option<GicV3Info> {
    let place = place(tree, survey::GIC_V3)?;
    let node = place.node();
    let count = tree::cell(&node, "#redistributor-regions").unwrap_or(1) as usize;
    let stride = tree::number(&node, "redistributor-stride").filter(|&stride| stride != 0);
    let mut redistributors = [RedistributorRegion::new(0, 0); MAX_REGIONS];
    for (index, slot) in redistributors.get_mut(..count)?.iter_mut().enumerate() {
        let region = place.region(1 + index)?;
        *slot = RedistributorRegion { base: region.base, size: region.size, stride };
    }
    Some(GicV3Info {
        gicd: place.region(0)?,
        redistributors,
        redistributor_count: count,
        gicc: place.region(1 + count),
        gich: place.region(2 + count),
        gicv: place.region(3 + count),
    })
}

/// The maintenance interrupt of a GIC.
pub(crate) fn maintenance(tree: &Tree<'_>) -> Option<Interrupt> {
    let survey = Survey::of(tree);
    interrupt::of(tree, &survey, survey.gic_v3.as_ref().or(survey.gic_v2.as_ref())?, 0)
}

pub(crate) fn bcm2836(tree: &Tree<'_>) -> Option<Bcm2836Info> {
    Some(Bcm2836Info {
        local: place(tree, survey::BCM2836_LOCAL)?.region(0)?,
        legacy: place(tree, survey::BCM2835).and_then(|place| place.region(0)),
    })
}
