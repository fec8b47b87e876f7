//! The cores' timers.
use crate::{
    Interrupt, interrupt,
    survey::Survey,
    tree::{self, Tree},
};

/// The generic timer of the cores: the interrupts of its channels, and what is odd about it (bindings,
/// `timer/arm,arch_timer.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimerInfo {
    /// Of the secure EL1 physical timer.
    pub secure_physical: Option<Interrupt>,
    /// Of the non-secure EL1 physical timer (CNTP): a native kernel's.
    pub physical: Option<Interrupt>,
    /// Of the virtual timer (CNTV): a guest's.
    pub virtual_: Option<Interrupt>,
    /// Of the EL2 physical timer (CNTHP): the hypervisor's.
    pub hypervisor: Option<Interrupt>,
    /// Of the EL2 virtual timer (CNTHV), with VHE.
    pub hypervisor_virtual: Option<Interrupt>,
    /// The frequency, where the tree has to correct what firmware left in `CNTFRQ_EL0`.
    pub clock_frequency: Option<u32>,
    /// `allwinner,erratum-unknown1`: reads of the counter can glitch when its low bits roll over.
    pub allwinner_erratum: bool,
    /// `arm,cpu-registers-not-fw-configured`: firmware has not set `CNTVOFF_EL2` and its like.
    pub registers_not_configured: bool,
}

pub(crate) fn find(tree: &Tree<'_>, survey: &Survey<'_>) -> Option<TimerInfo> {
    let place = survey.timer?;
    let node = place.node();
    let named = tree::bytes(&node, "interrupt-names").is_some();
    // The order is fixed, and a timer without the secure one says so by giving names.
    let channel = |position: usize, name: &str| {
        let index =
            if named { tree::strings(&node, "interrupt-names").position(|n| n == name)? } else { position };
        interrupt::of(tree, survey, &place, index)
    };
    let flag = |property| tree::bytes(&node, property).is_some();
    Some(TimerInfo {
        secure_physical: channel(0, "sec-phys"),
        physical: channel(1, "phys"),
        virtual_: channel(2, "virt"),
        hypervisor: channel(3, "hyp-phys"),
        hypervisor_virtual: channel(4, "hyp-virt"),
        clock_frequency: tree::cell(&node, "clock-frequency"),
        allwinner_erratum: flag("allwinner,erratum-unknown1"),
        registers_not_configured: flag("arm,cpu-registers-not-fw-configured"),
    })
}
