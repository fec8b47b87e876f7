//! One walk through the tree, to find everything that is identified by its `compatible`.
//!
//! A walk is long, and on the way to a kernel's first useful instruction, so there is one.
use crate::tree::{self, Find as _, Place, Tree};

/// GICv3 and GICv4 (bindings, `interrupt-controller/arm,gic-v3.yaml`).
pub const GIC_V3: &[&str] = &["arm,gic-v3", "arm,gic-v4"];
/// GICv1 and GICv2 (bindings, `interrupt-controller/arm,gic.yaml`).
pub const GIC_V2: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a7-gic",
    "arm,eb11mp-gic",
    "arm,pl390",
    "brcm,brahma-b15-gic",
    "qcom,msm-qgic2",
];
/// The local controller of BCM2836 and BCM2837 (bindings, `interrupt-controller/brcm,bcm2836-l1-intc.yaml`).
pub const BCM2836_LOCAL: &[&str] = &["brcm,bcm2836-l1-intc"];
/// The legacy controller behind it (bindings, `interrupt-controller/brcm,bcm2835-armctrl-ic.yaml`).
pub const BCM2835: &[&str] = &["brcm,bcm2836-armctrl-ic", "brcm,bcm2835-armctrl-ic"];
/// Bindings, `arm/psci.yaml`.
const PSCI: &[&str] = &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];
/// Bindings, `timer/arm,arch_timer.yaml`.
const TIMER: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];

/// The first enabled node of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey<'a> {
    pub(crate) gic_v3: Option<Place<'a>>,
    pub(crate) gic_v2: Option<Place<'a>>,
    pub(crate) bcm2836_local: Option<Place<'a>>,
    pub(crate) bcm2835: Option<Place<'a>>,
    pub(crate) psci: Option<Place<'a>>,
    pub(crate) timer: Option<Place<'a>>,
}

impl<'a> Survey<'a> {
    pub(crate) fn of(tree: &Tree<'a>) -> Self {
        let mut survey = Self::default();
        tree.find(&mut |place| {
            for compatible in tree::strings(&place.node(), "compatible") {
                let kinds = [
                    (GIC_V3, &mut survey.gic_v3),
                    (GIC_V2, &mut survey.gic_v2),
                    (BCM2836_LOCAL, &mut survey.bcm2836_local),
                    (BCM2835, &mut survey.bcm2835),
                    (PSCI, &mut survey.psci),
                    (TIMER, &mut survey.timer),
                ];
                for (names, found) in kinds {
                    if found.is_none() && names.contains(&compatible) && place.is_enabled() {
                        *found = Some(*place);
                    }
                }
            }
            false
        });
        survey
    }
}
