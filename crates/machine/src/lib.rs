//! What a device tree says of a machine, for a kernel or hypervisor that is about to start on it: memory,
//! cores, how to start them, interrupt controller, timers, console, boot arguments.
//!
//! ```
//! use machine::{InterruptControllerInfo, Machine};
//!
//! let dtb = include_bytes!("../fixtures/virt-gicv3.dtb");
//! let machine = Machine::from_dtb(dtb).unwrap();
//!
//! assert_eq!(machine.cores().count(), 4);
//! assert_eq!(machine.memory().next().unwrap().base, 0x4000_0000);
//! assert!(matches!(machine.interrupt_controller(), Some(InterruptControllerInfo::GicV3(_))));
//! ```
//!
//! # Trust
//!
//! The whole blob is checked once, in [`Machine::from_dtb`]; after that no accessor fails or panics, whatever
//! is in it. Invalid data (a memory node whose `reg` does not divide into entries) is an error there; what is
//! merely absent or unknown (no console, an interrupt controller nobody has heard of, memory that a boot
//! loader has yet to fill in) is `None`, or an iterator with nothing in it.
//!
//! # The tree reader
//!
//! `devtree`, Margay's own. The better-known `fdt` 0.1.5 does not fit: it gives up, or panics, at an
//! `FDT_NOP` between two nodes, and that is exactly what QEMU and boot loaders leave behind when they take a
//! node out of a tree (QEMU does so to the memory nodes of every tree given with `-dtb`). `dtoolkit`, which
//! tests compare with, does not fit either: its check refuses names of more than 31 characters, as half of
//! the trees that come with Linux have, and it is several times as large.
//!
//! # Addresses
//!
//! All addresses are CPU physical addresses: `reg` properties are translated through the `ranges` of every
//! bus above, with one or two cells per address and size. A device behind a bus that cannot be translated
//! (three cells, or no `ranges`) counts as absent.
//!
//! Sources: *Devicetree Specification* v0.4 ("DT spec"), and for bindings the files of the Linux kernel's
//! `Documentation/devicetree/bindings` ("bindings").
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod allowed;
mod chosen;
mod console;
mod controller;
mod cores;
mod cpu_map;
mod error;
mod interrupt;
mod memory;
mod psci;
mod ram;
mod region;
mod survey;
mod timer;
mod tree;

pub use chosen::Chosen;
pub use console::{ConsoleInfo, ConsoleKind, ConsoleSettings};
pub use controller::{Bcm2836Info, GicV2Info, GicV3Info, InterruptControllerInfo};
pub use cores::{Core, EnableMethod};
pub use cpu_map::{CorePlace, CpuMapError};
pub use drivers_gic::{Intid, Mpidr, RedistributorRegion, Trigger};
pub use error::MachineError;
pub use interrupt::{Interrupt, Line};
pub use memory::Reserved;
pub use psci::{Conduit, Psci, PsciVersion};
pub use ram::RamError;
pub use region::Region;
pub use timer::TimerInfo;

use survey::Survey;
pub use survey::{BCM2835, BCM2836_LOCAL, GIC_V2, GIC_V3};
use tree::Find;
pub use tree::Place;
use tree::Tree;

/// A machine, described by a device tree that has been checked.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    tree: Tree<'a>,
    psci: Option<Psci>,
    timer: Option<TimerInfo>,
    chosen: Chosen<'a>,
}

impl<'a> Machine<'a> {
    /// Checks a flattened device tree and finds its way through it. `dtb` may be longer than the tree.
    pub fn from_dtb(dtb: &'a [u8]) -> Result<Self, MachineError> {
        let tree = Tree::new(dtb)?;
        memory::check(&tree)?;
        cores::check(&tree)?;
        let survey = Survey::of(&tree);
        Ok(Self {
            psci: psci::find(&survey),
            timer: timer::find(&tree, &survey),
            chosen: chosen::read(&tree),
            tree,
        })
    }

    /// The size in bytes of the tree at the start of `dtb`, from its header: for a caller that has only the
    /// address of the tree and at least the 40 bytes of the header mapped (DT spec, 5.2). `None` if this is
    /// not a device tree.
    pub fn dtb_size(dtb: &[u8]) -> Option<usize> {
        Tree::size(dtb)
    }

    /// The device tree itself, trimmed to its size.
    pub fn dtb(&self) -> &'a [u8] {
        self.tree.bytes()
    }

    /// The root's `model`: a name for people.
    pub fn model(&self) -> Option<&'a str> {
        tree::string(&self.tree.root(), "model")
    }

    /// The root's `compatible` strings, the most specific first: the board.
    pub fn compatible(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        tree::strings(&self.tree.root(), "compatible")
    }

    /// The memory: every range of every memory node that is not disabled, in the tree's order, empty ones
    /// left out (DT spec, 3.4).
    pub fn memory(&self) -> impl Iterator<Item = Region> + use<'a> {
        memory::regions(&self.tree)
    }

    /// All RAM, as few runs as there are: [`Self::memory`] in order, with ranges that touch merged. Refused
    /// if two ranges overlap, if there are none, or if `runs` is too short.
    pub fn ram<'r>(&self, runs: &'r mut [Region]) -> Result<&'r [Region], RamError> {
        ram::merge(&mut self.memory(), runs)
    }

    /// Memory that must not be used freely: the memory reservation block, and the children of
    /// `/reserved-memory` that have an address (DT spec, 5.3 and 3.5).
    pub fn reserved(&self) -> impl Iterator<Item = Reserved<'a>> + use<'a> {
        memory::reserved(&self.tree)
    }

    /// Returns the registers of the first enabled device with this `compatible` string.
    pub fn device(&self, compatible: &str) -> Option<Region> {
        let matches = |node: &devtree::Node<'_>| tree::is_compatible(node, &[compatible]);
        self.tree.find(&mut |place| matches(&place.node()) && place.is_enabled())?.region(0)
    }

    /// Gives `visit` the name and each register range of every enabled node that has some and is neither
    /// memory, a core, nor an interrupt controller or part of one: the devices, as CPU physical addresses.
    pub fn for_each_device(&self, visit: &mut dyn FnMut(&'a str, Region)) {
        self.tree.find(&mut |place| {
            let node = place.node();
            let device = place.is_enabled()
                && !matches!(node.value("device_type"), Some(b"memory\0" | b"cpu\0"))
                && !place.upwards().any(|above| {
                    above.name() == "reserved-memory" || above.value("interrupt-controller").is_some()
                });
            if device {
                place.for_each_region(&mut |region| {
                    if let Some(region) = region.filter(|region| region.size > 0) {
                        visit(node.name(), region);
                    }
                });
            }
            false
        });
    }

    /// Gives `visit` each node, parents before children.
    pub fn for_each_node(&self, visit: &mut dyn FnMut(&Place<'a>)) {
        self.tree.find(&mut |place| {
            visit(place);
            false
        });
    }

    /// Gives `visit` each interrupt that a node, or a device on the bus that it is, raises at one of the
    /// machine's controllers, with the node.
    pub fn for_each_interrupt(&self, visit: &mut dyn FnMut(&devtree::Node<'a>, Interrupt)) {
        let survey = Survey::of(&self.tree);
        self.for_each_node(&mut |place| {
            interrupt::of_node(&self.tree, &survey, place, &mut |interrupt| visit(&place.node(), interrupt));
        });
    }

    /// Returns the root of the device tree.
    pub fn root(&self) -> devtree::Node<'a> {
        self.tree.root()
    }

    /// The node at a path (DT spec, 2.2.3).
    pub fn node_at(&self, path: &str) -> Option<devtree::Node<'a>> {
        self.tree.find_path(path).map(|place| place.node())
    }

    /// The cores, in the tree's order, disabled ones too.
    pub fn cores(&self) -> impl Iterator<Item = Core> + use<'a> {
        cores::cores(&self.tree)
    }

    /// Returns the number of cores that are not disabled.
    pub fn enabled_core_count(&self) -> usize {
        self.cores().filter(|core| core.enabled).count()
    }

    /// Gives `visit` the affinity and the place of each core that `/cpus/cpu-map` names, disabled ones too:
    /// none without such a node.
    ///
    /// # Errors
    /// The map breaks its binding. What has been visited is worth nothing then.
    pub fn for_each_core_place(&self, visit: &mut dyn FnMut(Mpidr, CorePlace)) -> Result<(), CpuMapError> {
        cpu_map::for_each(&self.tree, visit)
    }

    /// Returns the conduit and version of PSCI, if firmware offers it.
    pub fn psci(&self) -> Option<Psci> {
        self.psci
    }

    /// The interrupt controller, if it is a known one and makes sense.
    pub fn interrupt_controller(&self) -> Option<InterruptControllerInfo> {
        controller::find(&self.tree)
    }

    /// The GICv3 or GICv4: for whoever can drive nothing else.
    pub fn gic_v3(&self) -> Option<GicV3Info> {
        controller::gicv3(&self.tree)
    }

    /// Returns the register regions of the GICv2, if the machine has one.
    pub fn gic_v2(&self) -> Option<GicV2Info> {
        controller::gicv2(&self.tree)
    }

    /// The maintenance interrupt of the GIC, if it has one: virtual interrupts need attention.
    pub fn gic_maintenance(&self) -> Option<Interrupt> {
        controller::maintenance(&self.tree)
    }

    /// The local controllers of BCM2836 and BCM2837, likewise.
    pub fn bcm2836(&self) -> Option<Bcm2836Info> {
        controller::bcm2836(&self.tree)
    }

    /// Returns the interrupts of the cores' timers.
    pub fn timer(&self) -> Option<&TimerInfo> {
        self.timer.as_ref()
    }

    /// The console that `/chosen/stdout-path` names, or failing that the alias `serial0`.
    pub fn console(&self) -> Option<ConsoleInfo> {
        console::find(&self.tree)
    }

    /// The registers of the console, if it is a PL011: for whoever can drive nothing else.
    pub fn pl011_console(&self) -> Option<Region> {
        console::pl011(&self.tree)
    }

    /// Interrupt, clock and speed of the console.
    pub fn console_settings(&self) -> Option<ConsoleSettings> {
        console::settings(&self.tree)
    }

    /// The boot arguments, if there are any.
    pub fn bootargs(&self) -> Option<&'a str> {
        self.chosen.bootargs
    }

    /// Returns the region of the initrd, if there is one.
    pub fn initrd(&self) -> Option<Region> {
        self.chosen.initrd
    }
}
