//! The devices of the machine that a VM has: the super-secondary, or the primary with `margay,devices`.
//!
//! [`subset`] decides, node by node of the machine's device tree, by the board's list of [`machine::allowed`] devices, by what the
//! manifest grants (`margay,grant-devices`), and by what nodes refer to ([`references`]). Registers, interrupts and tree come from the same decision:
//! what the VM's tree describes is mapped and interrupts it, and nothing else does.

mod references;
pub(crate) mod subset;

use crate::{console::Text, plan::Region, report};
use alloc::vec::Vec;
use core::fmt;
use hv_abi::layout::PAGE;
use machine::{ConsoleInfo, Machine, allowed::Allowed};
use subset::{Kind, Subset};

/// What a VM may have.
#[derive(Clone, Copy)]
pub(crate) struct Policy<'a> {
    /// The kinds that the board's list has.
    pub(crate) allowed: &'a [Allowed],
    /// The names of nodes that the manifest grants, each with a zero byte behind it.
    pub(crate) granted: &'a [u8],
    /// Memory, registers of the hypervisor's own, and registers that partition manifests give to VMs.
    pub(crate) taken: &'a [Region],
    /// The first address that stage 2 cannot map.
    pub(crate) limit: u64,
}

impl<'a> Policy<'a> {
    /// The names that the manifest grants.
    fn grants(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.granted.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }
}

/// Devices, as regions of whole pages.
pub(crate) struct Devices<'a> {
    pub(crate) machine: &'a Machine<'a>,
    /// The registers of those that the VM has, and the windows of buses, disjoint.
    pub(crate) regions: Vec<Region>,
    /// Their nodes.
    pub(crate) subset: Subset<'a>,
    /// Their interrupts, and those of devices on their buses, as the controller numbers them.
    pub(crate) interrupts: Vec<u32>,
}

/// The pages that registers are in.
pub(crate) fn pages(base: u64, len: u64) -> Region {
    let start = base & !(PAGE - 1);
    Region::new(start, base.saturating_add(len).next_multiple_of(PAGE).saturating_sub(start))
}

impl<'a> Devices<'a> {
    /// No VM has any.
    pub(crate) fn none(machine: &'a Machine<'a>) -> Self {
        Self { machine, regions: Vec::new(), subset: Subset::default(), interrupts: Vec::new() }
    }

    /// Those of a VM, whose tree has the cores' nodes and reserved memory if it is the primary, and these kinds of interrupt `controllers`.
    #[inline(never)]
    pub(crate) fn new(
        machine: &'a Machine<'a>,
        primary: bool,
        controllers: &[&[&str]],
        policy: &Policy<'_>,
    ) -> Self {
        let subset = Subset::new(machine, primary, controllers, Some(policy));
        let mut regions: Vec<Region> = Vec::new();
        for mut region in subset.registers() {
            // Those that meet (two devices in one page, or a part of another one's registers) become one.
            while let Some(i) = regions.iter().position(|other| other.intersect(region).is_some()) {
                let other = regions.swap_remove(i);
                let base = other.base.min(region.base);
                region = Region::new(base, other.end().max(region.end()) - base);
            }
            regions.push(region);
        }
        let mut interrupts = Vec::new();
        machine.for_each_interrupt(&mut |node, interrupt| {
            if subset.has(node) {
                interrupts.push(interrupt.number());
            }
        });
        Self { machine, regions, subset, interrupts }
    }

    /// The VM's first UART, in the order of the machine's tree.
    pub(crate) fn uart(&self) -> Option<ConsoleInfo> {
        let mut uart = None;
        self.machine.for_each_node(&mut |place| {
            if uart.is_none() && self.subset.has(&place.node()) {
                uart = place.uart();
            }
        });
        uart
    }

    /// Sees to it that the VM has what the manifest grants, and says what has been kept back from it.
    pub(crate) fn announce(&self, vm: &str, policy: &Policy<'_>) {
        for name in policy.grants() {
            let has = |node: &devtree::Node<'_>| node.name().as_bytes() == name;
            if !self.subset.nodes.iter().any(|entry| entry.is_kept() && has(&entry.node)) {
                report::fatal(format_args!(
                    "margay,grant-devices of {}: {} is not there, disabled, in use, or needs what is kept back",
                    Text(vm),
                    Text(core::str::from_utf8(name).unwrap_or("?"))
                ));
            }
        }
        crate::console::info!(
            "devices kept back from {}:{}; its manifest's margay,grant-devices names those to grant",
            Text(vm),
            KeptBack(&self.subset)
        );
    }
}

/// The names of devices that a VM could have, and has not.
pub(crate) struct KeptBack<'a>(pub(crate) &'a Subset<'a>);

impl fmt::Display for KeptBack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.0.nodes.iter().filter(|entry| entry.kind == Kind::KeptBack) {
            f.write_str(" ")?;
            f.write_str(entry.node.name())?;
        }
        Ok(())
    }
}
