//! The nodes of the machine's device tree that a VM's tree has.
//!
//! Every node is one of these:
//!
//! * *structure*: the root, a `simple-bus` without registers, a node that describes no device. Each child is decided for itself;
//! * a *device*: of a kind that the board's list allows, or granted by name, not disabled, and with no page of registers in which
//!   anything else is that the VM may not have. A child without registers of its own is a part of it;
//! * an interrupt *controller* of the kind that the VM has a virtual one of. It has no children;
//! * for a primary, `/cpus` and `/reserved-memory`, whole;
//! * not the VM's. No page of its registers is, whatever else is there, unless its kind is allowed.
//!
//! A node that refers to one that is not the VM's is not the VM's either, until nothing changes any more.

use super::{
    Policy, pages,
    references::{dangles, is_optional},
};
use crate::plan::Region;
use alloc::vec::Vec;
use devtree::{Node, Property};
use machine::{Machine, Place, allowed};

/// What a node is for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not the VM's, as what it is below or because it is made anew.
    Absent,
    /// A device that is kept back.
    KeptBack,
    Structure,
    /// Or a part of one.
    Device,
    Controller,
    /// Of the cores, or reserved memory.
    Whole,
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) depth: usize,
    pub(crate) kind: Kind,
    /// Index of the node above.
    parent: usize,
    phandle: u32,
    /// The frequency of its clocks, if their controller is not the VM's.
    clock_hz: u32,
}

impl Entry<'_> {
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.kind, Kind::Absent | Kind::KeptBack)
    }
}

/// A property of a node in the VM's tree.
pub(crate) enum Kept {
    AsItIs,
    /// It refers to what is not the VM's.
    Dropped,
    /// `clocks` of a device whose clocks firmware has set to this frequency.
    FixedClock(u32),
}

/// All nodes of the machine's tree, parents before children.
#[derive(Debug, Default)]
pub(crate) struct Subset<'a> {
    pub(crate) nodes: Vec<Entry<'a>>,
    /// Registers of devices, and windows of buses: whose they are, and their pages.
    registers: Vec<(usize, Region)>,
    has_controllers: bool,
}

/// The first string of `compatible`.
#[inline(never)]
fn kind_of<'a>(node: &Node<'a>) -> Option<&'a [u8]> {
    node.value("compatible").and_then(|strings| strings.split(|byte| *byte == 0).next())
}

/// Whether a string of `compatible` is one of these.
#[inline(never)]
fn is_compatible(node: &Node<'_>, kinds: &[&[&str]]) -> bool {
    let strings = node.value("compatible").unwrap_or_default();
    for kind in kinds.iter().copied().flatten() {
        if strings.split(|byte| *byte == 0).any(|string| string == kind.as_bytes()) {
            return true;
        }
    }
    false
}

#[inline(never)]
fn phandle(node: &Node<'_>) -> u32 {
    let value = node.value("phandle").or_else(|| node.value("linux,phandle"));
    value.and_then(|value| value.first_chunk()).map_or(0, |cell| u32::from_be_bytes(*cell))
}

impl<'a> Subset<'a> {
    /// What a VM has: a `primary`, whose tree has the machine's cores, or not; with these kinds of interrupt `controllers`; without a
    /// policy, no devices but timers.
    #[inline(never)]
    pub(crate) fn new(
        machine: &Machine<'a>,
        primary: bool,
        controllers: &[&[&str]],
        policy: Option<&Policy<'_>>,
    ) -> Self {
        let mut this = Self { has_controllers: !controllers.is_empty(), ..Self::default() };
        let mut taken = Vec::from(policy.map_or(&[][..], |policy| policy.taken));
        // The last node at each depth.
        let mut last = Vec::new();
        machine.for_each_node(&mut |place| {
            let index = this.nodes.len();
            last.truncate(place.depth());
            let parent = last.last().copied().unwrap_or(0);
            last.push(index);
            this.add(place, parent, primary, controllers, policy, &mut taken);
        });
        let limit = policy.map_or(0, |policy| policy.limit);
        for &(index, region) in &this.registers {
            let other = |other: &Region| other.intersect(region).is_some();
            if region.wraps() || region.end() > limit || taken.iter().any(other) {
                this.nodes[index].kind = Kind::KeptBack;
            }
        }
        while this.settle() {}
        this
    }

    /// Decides about a node for itself, and collects registers: of devices, and in `taken` of all kinds that the VM may not have.
    fn add(
        &mut self,
        place: &Place<'a>,
        parent: usize,
        primary: bool,
        controllers: &[&[&str]],
        policy: Option<&Policy<'_>>,
        taken: &mut Vec<Region>,
    ) {
        let (node, depth) = (place.node(), place.depth());
        let above = self.nodes.get(parent).map_or(Kind::Structure, |entry| entry.kind);
        let compatible = kind_of(&node);
        let with_devices = policy.map(|policy| policy.allowed.iter().chain([&allowed::FIXED_CLOCK]));
        let mut all = with_devices.into_iter().flatten().chain(allowed::TIMERS);
        let allowed = all.find(|kind| Some(kind.compatible.as_bytes()) == compatible);
        let granted = policy.is_some_and(|policy| policy.grants().any(|name| name == node.name().as_bytes()));
        let may = allowed.is_some() || granted;

        let (mut registers, mut whole) = (Vec::new(), true);
        let mut collect = |region: Option<machine::Region>| match region {
            Some(region) if region.size > 0 => registers.push(pages(region.base, region.size)),
            Some(_) => {}
            None => whole = false,
        };
        place.for_each_region(&mut collect);
        let has_registers = node.value("reg").is_some();
        if may {
            place.for_each_window(&mut collect);
        } else if !is_replaced(&node) {
            taken.extend_from_slice(&registers);
        }
        // A number that is an address on no bus of the processor's: a part of a device, or on a bus that the device above is.
        let is_addressed = !registers.is_empty();
        let is_core = ["cpus", "reserved-memory"].contains(&node.name());
        let is_controller = node.value("interrupt-controller").is_some();
        let disabled = || node.value("status").is_some_and(|status| status != b"okay\0" && status != b"ok\0");
        let kind = match above {
            Kind::Absent | Kind::KeptBack | Kind::Controller => Kind::Absent,
            Kind::Whole => {
                if is_controller {
                    Kind::Absent
                } else {
                    Kind::Whole
                }
            }
            _ if depth == 0 => Kind::Structure,
            _ if depth == 1 && is_core => {
                if primary {
                    Kind::Whole
                } else {
                    Kind::Absent
                }
            }
            _ if depth == 1 && is_replaced(&node) => Kind::Absent,
            _ if depth == 1 && node.name().starts_with("__") => Kind::Absent,
            _ if disabled() => Kind::Absent,
            _ if is_controller && is_compatible(&node, controllers) => Kind::Controller,
            Kind::Device if !is_addressed && !is_controller => Kind::Device,
            _ if may && (whole || !is_addressed) => Kind::Device,
            _ if is_controller => Kind::KeptBack,
            _ if !has_registers
                && compatible.is_none_or(|kind| kind == b"simple-bus")
                && policy.is_some() =>
            {
                Kind::Structure
            }
            _ => Kind::KeptBack,
        };
        if kind == Kind::Device {
            let index = self.nodes.len();
            self.registers.extend(registers.into_iter().map(|region| (index, region)));
        }
        let clock_hz = allowed.map_or(0, |kind| kind.clock_hz);
        self.nodes.push(Entry { node, depth, kind, parent, phandle: phandle(&node), clock_hz });
    }

    /// Takes away what is below, or refers to, what is not the VM's. Returns whether there was any.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.nodes.len() {
            let entry = self.nodes[index];
            let kind = if !entry.is_kept() {
                continue;
            } else if !self.nodes[entry.parent].is_kept() {
                Kind::Absent
            } else if self.is_complete(&entry) {
                continue;
            } else if kind_of(&entry.node).is_some() {
                Kind::KeptBack
            } else {
                Kind::Absent
            };
            self.nodes[index].kind = kind;
            changed = true;
        }
        changed
    }

    /// Whether the VM has all that a node needs.
    fn is_complete(&self, entry: &Entry<'a>) -> bool {
        if entry.depth == 0 || entry.kind == Kind::Whole {
            return true;
        }
        entry.node.properties().all(|property| {
            let name = property.name();
            !self.dangles(entry, name, property.value())
                || is_optional(name)
                || !self.has_controllers && ["interrupt-parent", "interrupts-extended"].contains(&name)
                || name == "clocks" && entry.clock_hz > 0
        })
    }

    /// Whether a property refers to what the VM has not.
    fn dangles(&self, entry: &Entry<'a>, name: &str, value: &[u8]) -> bool {
        dangles(&entry.node, name, value, &|phandle| {
            self.nodes
                .iter()
                .find(|entry| entry.phandle == phandle && entry.is_kept())
                .map(|entry| entry.node)
        })
    }

    /// What becomes of a property of a node that the VM has.
    pub(crate) fn property(&self, entry: &Entry<'a>, property: &Property<'a>) -> Kept {
        // Names go with what they are the names of.
        let name = match property.name() {
            "pinctrl-names" => "pinctrl-0",
            "dma-names" => "dmas",
            name => name,
        };
        let value = if name == property.name() { Some(property.value()) } else { entry.node.value(name) };
        match entry.clock_hz {
            _ if !self.dangles(entry, name, value.unwrap_or_default()) => Kept::AsItIs,
            hz @ 1.. if name == "clocks" => Kept::FixedClock(hz),
            _ => Kept::Dropped,
        }
    }

    /// The pages of the registers of the VM's devices, and of the windows of its buses.
    pub(crate) fn registers(&self) -> impl Iterator<Item = Region> + '_ {
        self.registers.iter().filter(|(index, _)| self.nodes[*index].is_kept()).map(|(_, region)| *region)
    }

    /// Those of one node.
    #[cfg(test)]
    pub(crate) fn registers_of(&self, entry: &Entry<'_>) -> impl Iterator<Item = Region> + '_ {
        let at = entry.node.offset();
        self.registers
            .iter()
            .filter(move |(index, _)| self.nodes[*index].node.offset() == at)
            .map(|(_, region)| *region)
    }

    /// The node above.
    pub(crate) fn parent(&self, entry: &Entry<'a>) -> Node<'a> {
        self.nodes[entry.parent].node
    }

    /// Whether the VM has a node.
    pub(crate) fn has(&self, node: &Node<'_>) -> bool {
        self.nodes.iter().any(|entry| entry.node.offset() == node.offset() && entry.is_kept())
    }
}

/// Whether a node at the top of the machine's tree is made anew for a VM that sees physical addresses.
#[inline(never)]
fn is_replaced(node: &Node<'_>) -> bool {
    ["chosen", "hypervisor", "memory"].contains(&node.base_name())
        || node.value("device_type") == Some(b"memory\0")
        || node.value("compatible").is_some_and(|strings| {
            strings.split(|byte| *byte == 0).any(|string| string.starts_with(b"arm,psci"))
        })
}
