//! Trees of VMs that see physical addresses: the machine's tree, with the nodes that are the VM's.
//!
//! Memory is what the plan says. PSCI is by HVC, since the hypervisor answers, however the machine's cores are started. `/chosen` has the VM's
//! own command line and ramdisk instead of the hypervisor's, without console and seeds. Without a virtual interrupt controller of the
//! machine's kind nothing refers to one.

use super::{
    ENABLE_METHOD, Error, SecondaryTree,
    parts::{boot_data, cpus, gic, hypervisor, memory, properties, psci, root_cells},
};
use crate::{
    devices::subset::{Entry, Kept, Kind, Subset},
    gic::{Place, is_possible},
    plan::Region,
};
use alloc::vec::Vec;
use devtree::{Property, Writer};
use machine::Machine;

/// Properties of the machine's `/chosen` that are about the hypervisor's own start.
const HYPERVISOR_CHOSEN: [&str; 9] = [
    "bootargs",
    "kaslr-seed",
    "linux,initrd-end",
    "linux,initrd-start",
    "linux,stdout-path",
    "linux,usable-memory-range",
    "rng-seed",
    "stdin-path",
    "stdout-path",
];

/// Makes the tree of the super-secondary: with `nodes` of the machine's, its own memory, cores, command line and ramdisk.
pub(crate) fn super_secondary(
    machine: &Machine<'_>,
    tree: &SecondaryTree<'_>,
    nodes: &Subset<'_>,
) -> Result<Vec<u8>, Error> {
    let mut tree_of = TreeOf { machine, nodes, fdt: Writer::new(), clock_hz: 0 };
    let root = tree_of.root();
    let fdt = &mut tree_of.fdt;
    fdt.begin_at("memory", tree.memory_base);
    memory(fdt, &root, &[Region::new(tree.memory_base, tree.memory_len)])?;
    cpus(fdt, tree.vcpus);
    psci(fdt);
    fdt.begin("chosen");
    boot_data(fdt, tree.bootargs, tree.ramdisk);
    fdt.end();
    tree_of.all();
    hypervisor(&mut tree_of.fdt, Some(tree.name), is_possible() && tree.list_registers, &[], true);
    tree_of.finish()
}

/// What is the primary's own in its tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrimaryTree<'a> {
    /// The other VMs: id and name, for people.
    pub(crate) others: &'a [(u16, &'a str, &'a str)],
    pub(crate) regions: &'a [Region],
    pub(crate) bootargs: &'a str,
    /// First address, and the one after the last.
    pub(crate) ramdisk: Option<(u64, u64)>,
    /// Where its virtual GIC is, and for how many vCPUs, if it has one and not the machine's devices, among which it would be.
    pub(crate) gic: Option<(Place, u16)>,
}

/// Makes the tree of the primary, with `nodes` of the machine's.
pub(crate) fn primary(
    machine: &Machine<'_>,
    tree: &PrimaryTree<'_>,
    nodes: &Subset<'_>,
) -> Result<Vec<u8>, Error> {
    let mut tree_of = TreeOf { machine, nodes, fdt: Writer::new(), clock_hz: 0 };
    let root = tree_of.root();
    let fdt = &mut tree_of.fdt;
    if is_possible()
        && let Some((place, vcpus)) = tree.gic
    {
        gic(fdt, place, vcpus, root_cells(&root))?;
    }

    let memory_base = tree.regions.first().map_or(0, |region| region.base);
    fdt.begin_at("memory", memory_base);
    memory(fdt, &root, tree.regions)?;

    fdt.begin("chosen");
    if let Some(chosen) = root.child("chosen") {
        properties(fdt, &chosen, &HYPERVISOR_CHOSEN);
    }
    boot_data(fdt, tree.bootargs, tree.ramdisk);
    fdt.end();

    tree_of.all();
    psci(&mut tree_of.fdt);
    hypervisor(&mut tree_of.fdt, None, false, tree.others, false);
    tree_of.finish()
}

/// Whether a node is a GIC's: the controllers of BCM2836 have two cells.
fn is_gic(entry: &Entry<'_>) -> bool {
    let cells = entry.node.value("#interrupt-cells").and_then(<[u8]>::last);
    entry.kind == Kind::Controller && cells > Some(&2)
}

/// A tree that is being made.
struct TreeOf<'a> {
    machine: &'a Machine<'a>,
    nodes: &'a Subset<'a>,
    fdt: Writer,
    /// The frequency of the clock that stands for those of kept-back controllers; 0 if no device needs it.
    clock_hz: u32,
}

/// Not one that the machine's tree has already.
const CLOCK: u32 = 0x6d61_7268;

impl<'a> TreeOf<'a> {
    /// Opens the root.
    fn root(&mut self) -> devtree::Node<'a> {
        self.fdt.begin("");
        match self.nodes.nodes.first() {
            Some(root) => {
                self.properties(root);
                root.node
            }
            None => self.machine.root(),
        }
    }

    /// Writes all nodes below the root.
    fn all(&mut self) {
        let mut open = 0;
        for entry in self.nodes.nodes.iter().skip(1).filter(|entry| entry.is_kept()) {
            while open >= entry.depth {
                self.fdt.end();
                open -= 1;
            }
            self.fdt.begin(entry.node.name());
            open += 1;
            if entry.depth == 1 && entry.node.name() == "aliases" {
                self.aliases(entry);
            } else {
                self.properties(entry);
            }
        }
        while open > 0 {
            self.fdt.end();
            open -= 1;
        }
        if self.clock_hz > 0 {
            self.fdt.begin("margay-clock");
            self.fdt.text("compatible", "fixed-clock");
            self.fdt.cells("#clock-cells", &[0]);
            self.fdt.cells("clock-frequency", &[self.clock_hz]);
            self.fdt.cells("phandle", &[CLOCK]);
            self.fdt.end();
        }
    }

    /// Writes the properties that the VM's tree has.
    fn properties(&mut self, entry: &Entry<'a>) {
        for property in entry.node.properties() {
            match (property.name(), self.nodes.property(entry, &property)) {
                (ENABLE_METHOD, _) => self.fdt.text(ENABLE_METHOD, "psci"),
                ("cpu-release-addr", _) | (_, Kept::Dropped) => {}
                ("reg", _) if is_gic(entry) => {
                    self.fdt.property("reg", self.gic_registers(entry, &property));
                }
                // The maintenance interrupt, which is for hypervisors.
                ("interrupts", _) if is_gic(entry) => {}
                (name, Kept::FixedClock(hz)) => {
                    self.clock_hz = hz;
                    let names = entry.node.value("clock-names").unwrap_or(&[0]);
                    let clocks: Vec<u8> =
                        names.split(|byte| *byte == 0).skip(1).flat_map(|_| CLOCK.to_be_bytes()).collect();
                    self.fdt.property(name, &clocks);
                }
                (name, Kept::AsItIs) => self.fdt.property(name, property.value()),
            }
        }
    }

    /// What of a GIC's `reg` the VM has: the distributor, and the CPU interface or the redistributors.
    fn gic_registers(&self, entry: &Entry<'a>, reg: &Property<'a>) -> &'a [u8] {
        let all = reg.value();
        let [address, size] = root_cells(&self.nodes.parent(entry));
        let regions = entry.node.value("#redistributor-regions").and_then(|value| value.first_chunk());
        let count = 1 + regions.map_or(1, |cell| u32::from_be_bytes(*cell));
        let bytes = u64::from(count) * 4 * (u64::from(address) + u64::from(size));
        all.get(..bytes as usize).unwrap_or(all)
    }

    /// Writes the aliases of nodes that the VM has.
    fn aliases(&mut self, entry: &Entry<'a>) {
        for property in entry.node.properties() {
            let path = core::str::from_utf8(property.value()).unwrap_or_default().trim_end_matches('\0');
            if self.machine.node_at(path).is_some_and(|node| self.nodes.has(&node)) {
                self.fdt.property(property.name(), property.value());
            }
        }
    }

    /// Closes the root.
    fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.fdt.end();
        self.fdt.finish().ok_or(Error::Write)
    }
}
