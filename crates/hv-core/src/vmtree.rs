//! Device trees for VMs.
//!
//! A [`secondary`] gets a tree made from nothing: it sees one block of memory, its vCPUs, and the hypervisor. If the bundle
//! brings a tree for it, that one is [`amended`]: memory is what the VM has; cores that it does not have are left out, and the
//! others have the affinities of its vCPUs; memory regions without an address get one; `/chosen` tells of ramdisk and command
//! line, if the manifest has them. All else stays as it is, except memory reservations, which nobody could have known the
//! addresses for.
//!
//! The [`primary`] gets the machine's tree with everything taken out that is not its own. That is done by naming what
//! stays, because a device that is forgotten in the tree is a driver that faults:
//!
//! * `/cpus` and `/reserved-memory`, whole;
//! * the architected timer and PSCI, the latter by HVC, since the hypervisor answers;
//! * `/chosen`, with the VM's own command line and ramdisk instead of the hypervisor's, without console and seeds.
//!
//! Memory is what the plan says. Nothing refers to an interrupt controller, for the primary has a para-virtual one,
//! which is not in the tree.

use crate::{
    bcm2836,
    gic::{Place, is_possible},
    plan::Region,
};
use alloc::vec::Vec;
use core::fmt;
use devtree::{Node, Tree, Writer};
use drivers_bcm2836::{LocalInterrupt, armctrl, local};
use machine::{BCM2835, BCM2836_LOCAL, GIC_V2, GIC_V3};

/// How deeply nodes of the machine's tree may be nested; real ones need five levels.
const DEPTH_MAX: usize = 16;

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

/// Properties that refer to an interrupt controller, and how the machine's cores are started.
const THE_MACHINES: [&str; 4] =
    ["interrupt-parent", "interrupts-extended", "cpu-release-addr", ENABLE_METHOD];
/// What is left out for a VM that has an interrupt controller of the machine's kind. The pins stay as firmware has set them: who
/// controls them is an interrupt controller, too, and no VM's; a device that refers to what is not there would not work.
const NOT_THE_VMS: [&str; 5] = ["cpu-release-addr", ENABLE_METHOD, "pinctrl-names", "pinctrl-0", "pinctrl-1"];
const ENABLE_METHOD: &str = "enable-method";

/// Why a tree cannot be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The machine's tree is malformed.
    Malformed(devtree::Error),
    /// The machine's tree is nested more deeply than [`DEPTH_MAX`].
    TooDeep,
    /// `#address-cells` or `#size-cells` of the machine's root is neither 1 nor 2.
    RootCells,
    /// The root's `#address-cells` cannot express where this region is.
    Beyond(Region),
    /// A name or a text cannot be in a device tree.
    Write,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::TooDeep => f.write_str("the machine's device tree is too deep"),
            Self::RootCells => f.write_str("#address-cells and #size-cells must be 1 or 2"),
            Self::Beyond(region) => {
                write!(f, "memory at {region} is beyond #address-cells")
            }
            Self::Write => {
                write!(f, "a text with a zero byte cannot be in a device tree")
            }
        }
    }
}

/// The affinity of vCPU `index` of a secondary: Aff0 counts to 15, as the SGIs of a real machine require, then Aff1.
pub(crate) fn vcpu_mpidr(index: u16) -> u64 {
    u64::from(index) & 0xf | u64::from(index) >> 4 << 8
}

/// What a secondary's tree says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecondaryTree<'a> {
    pub(crate) memory_base: u64,
    pub(crate) memory_len: u64,
    pub(crate) vcpus: u16,
    pub(crate) bootargs: &'a str,
    /// First address, and the one after the last.
    pub(crate) ramdisk: Option<(u64, u64)>,
    pub(crate) name: &'a str,
    /// Where its virtual GIC is, if it has one.
    pub(crate) gic: Option<Place>,
    /// Where its controllers of BCM2836 are, likewise.
    pub(crate) bcm2836: Option<bcm2836::Place>,
    /// Its para-virtual interrupts come by list registers.
    pub(crate) list_registers: bool,
    /// The machine's counter has the erratum that is named so.
    pub(crate) allwinner: bool,
    /// Where the memory regions are for which its partition manifest has no address, in the manifest's order.
    pub(crate) regions: &'a [u64],
}

/// The timer's erratum of Allwinner's A64 (binding `timer/arm,arch_timer.yaml`): every VM's counter has it, too.
const ALLWINNER: &str = "allwinner,erratum-unknown1";

/// Makes the tree of a secondary.
pub(crate) fn secondary(tree: &SecondaryTree<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = Writer::new();
    fdt.begin("");
    fdt.cells("#address-cells", &[2]);
    fdt.cells("#size-cells", &[2]);
    fdt.text("compatible", "margay,guest");
    if is_possible()
        && let Some(place) = tree.gic
    {
        gic(&mut fdt, place, tree.vcpus, [2, 2])?;
    }
    let local = tree.bcm2836.filter(|_| bcm2836::is_possible());
    if let Some(place) = local {
        bcm2836(&mut fdt, place);
    }

    fdt.begin("chosen");
    boot_data(&mut fdt, tree.bootargs, tree.ramdisk);
    fdt.end();

    fdt.begin_at("memory", tree.memory_base);
    fdt.text("device_type", "memory");
    fdt.long("reg", &[tree.memory_base, tree.memory_len]);
    fdt.end();

    cpus(&mut fdt, tree.vcpus);
    psci(&mut fdt);

    fdt.begin("timer");
    fdt.text("compatible", "arm,armv8-timer");
    // Secure, physical, virtual, hypervisor: private interrupts, level-sensitive, active high.
    if local.is_some() {
        fdt.cells("interrupts", &[0, 4, 1, 4, 3, 4, 2, 4]);
    } else {
        fdt.cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
    }
    fdt.property("always-on", &[]);
    if tree.allwinner {
        fdt.property(ALLWINNER, &[]);
    }
    fdt.end();

    hypervisor(&mut fdt, Some(tree.name), is_possible() && tree.list_registers, &[]);
    fdt.end();
    fdt.finish().ok_or(Error::Write)
}

/// A GIC that all interrupts in the tree are of (bindings, `interrupt-controller/arm,gic.yaml` and `arm,gic-v3.yaml`); in the open root,
/// which it ends the properties of, and whose addresses and sizes have so many `cells`.
fn gic(fdt: &mut Writer, place: Place, vcpus: u16, cells: [u32; 2]) -> Result<(), Error> {
    // Not one that the machine's tree has already.
    const PHANDLE: u32 = 0x6d61_7267;
    let parts = place.parts(vcpus);
    fdt.cells("interrupt-parent", &[PHANDLE]);
    fdt.begin_at("interrupt-controller", parts.first().map_or(0, |distributor| distributor.base));
    fdt.text("compatible", if matches!(place, Place::V2 { .. }) { "arm,gic-400" } else { "arm,gic-v3" });
    fdt.property("reg", &reg(cells, &parts)?);
    if parts.len() > 2 {
        fdt.cells("#redistributor-regions", &[parts.len() as u32 - 1]);
    }
    fdt.property("interrupt-controller", &[]);
    fdt.cells("#interrupt-cells", &[3]);
    fdt.cells("phandle", &[PHANDLE]);
    fdt.end();
    Ok(())
}

/// Controllers of BCM2836, the local one of which all interrupts in the tree are (bindings, `interrupt-controller/brcm,bcm2836-l1-intc.yaml`
/// and `brcm,bcm2835-armctrl-ic.yaml`); in the open root, as above.
fn bcm2836(fdt: &mut Writer, place: bcm2836::Place) {
    const LOCAL: u32 = 1;
    const LEGACY: u32 = 2;
    fdt.cells("interrupt-parent", &[LOCAL]);
    let mut controller = |base, bytes: usize, compatible, phandle| {
        fdt.begin_at("interrupt-controller", base);
        fdt.text("compatible", compatible);
        fdt.long("reg", &[base, bytes as u64]);
        fdt.property("interrupt-controller", &[]);
        fdt.cells("#interrupt-cells", &[2]);
        fdt.cells("phandle", &[phandle]);
        if phandle == LEGACY {
            // Its line, level-sensitive, active high.
            fdt.cells("interrupts", &[LocalInterrupt::Gpu as u32, 4]);
        }
        fdt.end();
    };
    controller(place.local, local::SIZE, BCM2836_LOCAL[0], LOCAL);
    controller(place.legacy, armctrl::SIZE, BCM2835[0], LEGACY);
}

fn cpus(fdt: &mut Writer, count: u16) {
    fdt.begin("cpus");
    fdt.cells("#address-cells", &[2]);
    fdt.cells("#size-cells", &[0]);
    for mpidr in (0..count).map(vcpu_mpidr) {
        fdt.begin_at("cpu", mpidr);
        fdt.text("device_type", "cpu");
        fdt.text("compatible", "arm,armv8");
        fdt.long("reg", &[mpidr]);
        fdt.text("enable-method", "psci");
        fdt.end();
    }
    fdt.end();
}

fn psci(fdt: &mut Writer) {
    fdt.begin("psci");
    fdt.property("compatible", b"arm,psci-1.0\0arm,psci-0.2\0");
    fdt.text("method", "hvc");
    fdt.end();
}

/// Makes the tree of a secondary from the one that its bundle brings.
pub(crate) fn amended(dtb: &[u8], tree: &SecondaryTree<'_>) -> Result<Vec<u8>, Error> {
    let own = Tree::new(dtb).map_err(Error::Malformed)?.root();
    let mut fdt = Writer::new();
    fdt.begin("");
    properties(&mut fdt, &own, &[]);
    // Hafnium's guests look for this very name.
    fdt.begin("memory");
    memory(&mut fdt, &own, &[Region::new(tree.memory_base, tree.memory_len)])?;
    let chosen = own.child("chosen");
    let bootargs = !tree.bootargs.is_empty();
    if chosen.is_some() || bootargs || tree.ramdisk.is_some() {
        fdt.begin("chosen");
        if let Some(chosen) = &chosen {
            let replaced = ["linux,initrd-start", "linux,initrd-end", "bootargs"];
            let first = if tree.ramdisk.is_some() { 0 } else { 2 };
            properties(&mut fdt, chosen, &replaced[first..if bootargs { 3 } else { 2 }]);
        }
        if bootargs {
            fdt.text("bootargs", tree.bootargs);
        }
        ramdisk(&mut fdt, tree.ramdisk);
        for child in chosen.iter().flat_map(devtree::Node::children) {
            copy(&mut fdt, &child, DEPTH_MAX - 2, None)?;
        }
        fdt.end();
    }
    for node in own.children() {
        match node.name() {
            "chosen" => {}
            "cpus" => amended_cpus(&mut fdt, &node, tree.vcpus)?,
            "memory-regions" => memory_regions(&mut fdt, &node, tree.regions)?,
            _ if node.base_name() == "memory" || node.value("device_type") == Some(b"memory\0") => {}
            _ => copy(&mut fdt, &node, DEPTH_MAX - 1, None)?,
        }
    }
    fdt.end();
    fdt.finish().ok_or(Error::Write)
}

/// Copies the memory regions of a partition manifest, with addresses for those that have none.
fn memory_regions(fdt: &mut Writer, node: &Node<'_>, regions: &[u64]) -> Result<(), Error> {
    let mut addresses = regions.iter();
    fdt.begin(node.name());
    properties(fdt, node, &[]);
    for child in node.children() {
        fdt.begin(child.name());
        properties(fdt, &child, &[]);
        let given = ["base-address", "load-address-relative-offset"];
        if given.iter().all(|name| child.value(name).is_none())
            && let Some(address) = addresses.next()
        {
            fdt.long("base-address", &[*address]);
        }
        for part in child.children() {
            copy(fdt, &part, DEPTH_MAX - 3, None)?;
        }
        fdt.end();
    }
    fdt.end();
    Ok(())
}

/// Copies `/cpus` with at most `vcpus` cores.
fn amended_cpus(fdt: &mut Writer, node: &Node<'_>, vcpus: u16) -> Result<(), Error> {
    let is_core = |node: &Node<'_>| node.base_name() == "cpu";
    let all = node.children().filter(is_core).count() <= usize::from(vcpus);
    let mut left = 0..vcpus;
    fdt.begin(node.name());
    properties(fdt, node, &[]);
    for child in node.children() {
        if is_core(&child) {
            let Some(mpidr) = left.next().map(vcpu_mpidr) else { continue };
            fdt.begin_at("cpu", mpidr);
            properties(fdt, &child, &["reg"]);
            let cells = child.value("reg").map_or(1, |reg| reg.len() / 4).clamp(1, 2);
            fdt.property("reg", &mpidr.to_be_bytes()[8 - 4 * cells..]);
            for part in child.children() {
                copy(fdt, &part, DEPTH_MAX - 3, None)?;
            }
            fdt.end();
        } else if all || child.name() != "cpu-map" {
            // The map refers to all cores.
            copy(fdt, &child, DEPTH_MAX - 2, None)?;
        }
    }
    fdt.end();
    Ok(())
}

/// Makes the tree of the super-secondary from the machine's: with all devices but those whose nodes are `hidden`, with
/// its own memory, cores, command line and ramdisk. If it has a virtual GIC, that is where the machine's is.
pub(crate) fn super_secondary(
    machine_dtb: &[u8],
    tree: &SecondaryTree<'_>,
    hidden: &[&str],
) -> Result<Vec<u8>, Error> {
    let machine = Tree::new(machine_dtb).map_err(Error::Malformed)?.root();
    let mut controllers: &[&[&str]] = &[];
    if is_possible() && tree.gic.is_some() {
        controllers = &[GIC_V3, GIC_V2];
    }
    if bcm2836::is_possible() && tree.bcm2836.is_some() {
        controllers = &[BCM2836_LOCAL, BCM2835];
    }
    let kept = Kept { hidden, controllers };
    let mut fdt = Writer::new();
    fdt.begin("");
    properties(&mut fdt, &machine, kept.left_out());
    fdt.begin_at("memory", tree.memory_base);
    memory(&mut fdt, &machine, &[Region::new(tree.memory_base, tree.memory_len)])?;
    cpus(&mut fdt, tree.vcpus);
    psci(&mut fdt);
    fdt.begin("chosen");
    boot_data(&mut fdt, tree.bootargs, tree.ramdisk);
    fdt.end();
    for node in machine.children() {
        if !OF_PRIMARY.contains(&node.name()) && !is_replaced(&node) {
            copy(&mut fdt, &node, DEPTH_MAX - 1, Some(kept))?;
        }
    }
    hypervisor(&mut fdt, Some(tree.name), is_possible() && tree.list_registers, &[]);
    fdt.end();
    fdt.finish().ok_or(Error::Write)
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
    /// It has the machine's devices, but for these.
    pub(crate) hidden: Option<&'a [&'a str]>,
    /// Where its virtual GIC is, and for how many vCPUs, if it has one.
    pub(crate) gic: Option<(Place, u16)>,
}

/// Makes the tree of the primary from the machine's.
pub(crate) fn primary(machine_dtb: &[u8], tree: &PrimaryTree<'_>) -> Result<Vec<u8>, Error> {
    let machine = Tree::new(machine_dtb).map_err(Error::Malformed)?.root();
    let own_gic = tree.gic.filter(|_| is_possible());
    // The machine's, among its devices, is where the virtual one is.
    let mut kept = Kept { hidden: tree.hidden.unwrap_or_default(), controllers: &[] };
    if own_gic.is_some() && tree.hidden.is_some() {
        kept.controllers = &[GIC_V3, GIC_V2];
    }
    let mut fdt = Writer::new();
    fdt.begin("");
    properties(&mut fdt, &machine, kept.left_out());
    if is_possible()
        && let Some((place, vcpus)) = own_gic.filter(|_| kept.controllers.is_empty())
    {
        gic(&mut fdt, place, vcpus, root_cells(&machine))?;
    }

    let memory_base = tree.regions.first().map_or(0, |region| region.base);
    fdt.begin_at("memory", memory_base);
    memory(&mut fdt, &machine, tree.regions)?;

    fdt.begin("chosen");
    if let Some(chosen) = machine.child("chosen") {
        properties(&mut fdt, &chosen, &HYPERVISOR_CHOSEN);
    }
    boot_data(&mut fdt, tree.bootargs, tree.ramdisk);
    fdt.end();

    for node in machine.children() {
        let own = OF_PRIMARY.contains(&node.name())
            || is_compatible(&node, "arm,armv8-timer")
            || is_compatible(&node, "arm,armv7-timer")
            || tree.hidden.is_some() && !is_replaced(&node);
        if own {
            copy(&mut fdt, &node, DEPTH_MAX - 1, Some(kept))?;
        }
    }
    psci(&mut fdt);
    hypervisor(&mut fdt, None, false, tree.others);
    fdt.end();
    fdt.finish().ok_or(Error::Write)
}

/// Nodes at the top of the machine's tree that are the primary's as they are.
const OF_PRIMARY: [&str; 2] = ["cpus", "reserved-memory"];

/// Whether a node at the top of the machine's tree is made anew for a VM that sees physical addresses.
#[inline(never)]
fn is_replaced(node: &Node<'_>) -> bool {
    ["chosen", "hypervisor", "memory"].contains(&node.base_name()) || is_compatible(node, "arm,psci")
}

/// Whether a `compatible` string of the node begins with `prefix`.
fn is_compatible(node: &Node<'_>, prefix: &str) -> bool {
    let strings = node.value("compatible").unwrap_or_default();
    strings.split(|byte| *byte == 0).any(|string| string.starts_with(prefix.as_bytes()))
}

/// What of the machine's tree is copied.
#[derive(Clone, Copy)]
struct Kept<'a> {
    /// Nodes that are not.
    hidden: &'a [&'a str],
    /// The kinds of interrupt controllers that are, and what refers to them: no others are, nor what is below their nodes.
    controllers: &'a [&'a [&'a str]],
}

impl Kept<'_> {
    fn has_controllers(&self) -> bool {
        (is_possible() || bcm2836::is_possible()) && !self.controllers.is_empty()
    }

    /// The properties that are not.
    fn left_out(&self) -> &'static [&'static str] {
        if self.has_controllers() { &NOT_THE_VMS } else { &THE_MACHINES }
    }
}

/// Copies a node: whole, or of the machine's tree what is `kept`.
fn copy(fdt: &mut Writer, node: &Node<'_>, depth_left: usize, kept: Option<Kept<'_>>) -> Result<(), Error> {
    let controller = node.value("interrupt-controller").is_some();
    let is_left_out = |kept: Kept<'_>| {
        let is_kept = kept.has_controllers()
            && kept.controllers.iter().copied().flatten().any(|known| is_compatible(node, known));
        controller && !is_kept || kept.hidden.contains(&node.name())
    };
    if kept.is_some_and(is_left_out) {
        return Ok(());
    }
    let depth_left = depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
    fdt.begin(node.name());
    properties(fdt, node, kept.map_or(&[], |kept| kept.left_out()));
    if kept.is_some() && node.value(ENABLE_METHOD).is_some() {
        // The hypervisor answers for all cores, however they are started.
        fdt.text(ENABLE_METHOD, "psci");
    }
    for child in node.children().filter(|_| kept.is_none() || !controller) {
        copy(fdt, &child, depth_left, kept)?;
    }
    fdt.end();
    Ok(())
}

/// Copies a node's properties except those named.
fn properties(fdt: &mut Writer, node: &Node<'_>, except: &[&str]) {
    for property in node.properties().filter(|property| !except.contains(&property.name())) {
        fdt.property(property.name(), property.value());
    }
}

/// The command line and the ramdisk, in an open `/chosen`.
fn boot_data(fdt: &mut Writer, bootargs: &str, ramdisk: Option<(u64, u64)>) {
    fdt.text("bootargs", bootargs);
    self::ramdisk(fdt, ramdisk);
}

fn ramdisk(fdt: &mut Writer, ramdisk: Option<(u64, u64)>) {
    if let Some((start, end)) = ramdisk {
        fdt.long("linux,initrd-start", &[start]);
        fdt.long("linux,initrd-end", &[end]);
    }
}

/// The node that says who is below, and to the primary, whom it is to run.
fn hypervisor(fdt: &mut Writer, vm_name: Option<&str>, list_registers: bool, others: &[(u16, &str, &str)]) {
    fdt.begin("hypervisor");
    fdt.text("compatible", "margay,hypervisor");
    if let Some(name) = vm_name {
        fdt.text("margay,vm-name", name);
    }
    if list_registers {
        fdt.property("margay,list-registers", &[]);
    }
    if !others.is_empty() {
        fdt.cells("#address-cells", &[1]);
        fdt.cells("#size-cells", &[0]);
    }
    for (id, name, control) in others {
        fdt.begin_at("vm", u64::from(*id));
        fdt.cells("reg", &[u32::from(*id)]);
        fdt.text("margay,vm-name", name);
        fdt.text("margay,control", control);
        fdt.end();
    }
    fdt.end();
}

/// What is in an open memory node, with `reg` in the root's cells; closes it.
#[inline(never)]
fn memory(fdt: &mut Writer, root: &Node<'_>, regions: &[Region]) -> Result<(), Error> {
    let reg = reg(root_cells(root), regions)?;
    fdt.text("device_type", "memory");
    fdt.property("reg", &reg);
    fdt.end();
    Ok(())
}

/// How many cells addresses have in a root node, and sizes (DT spec, 2.3.5).
fn root_cells(root: &Node<'_>) -> [u32; 2] {
    let cells = |property, default| match root.value(property) {
        None => default,
        Some(value) => value.as_array().map_or(0, |cells| u32::from_be_bytes(*cells)),
    };
    [cells("#address-cells", 2), cells("#size-cells", 1)]
}

/// `reg` of these regions.
fn reg(cells: [u32; 2], regions: &[Region]) -> Result<Vec<u8>, Error> {
    let [address_cells @ 1..=2, size_cells @ 1..=2] = cells else {
        return Err(Error::RootCells);
    };
    let mut reg = Vec::new();
    let mut put = |cells, value: u64| reg.extend_from_slice(&value.to_be_bytes()[8 - 4 * cells as usize..]);
    for &region in regions {
        if address_cells == 1 && region.end() > 1 << 32 {
            return Err(Error::Beyond(region));
        }
        // One cell cannot say 4 GiB: say 2 GiB more often.
        let piece = if size_cells == 1 { 1 << 31 } else { u64::MAX };
        let (mut base, mut left) = (region.base, region.len);
        while left > 0 {
            let len = left.min(piece);
            put(address_cells, base);
            put(size_cells, len);
            base = base.saturating_add(len);
            left -= len;
        }
    }
    Ok(reg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use drivers_gic::RedistributorRegion;
    use dtoolkit::{
        Node as _, Property as _,
        fdt::{Fdt, FdtNode, FdtProperty},
    };
    use proptest::prelude::*;
    use vm_fdt::FdtWriter;

    fn property<'a>(fdt: Fdt<'a>, path: &str, name: &str) -> Option<FdtProperty<'a>> {
        fdt.find_node(path).unwrap_or_else(|| panic!("no {path}")).property(name)
    }

    fn bytes(fdt: Fdt<'_>, path: &str, name: &str) -> Vec<u8> {
        property(fdt, path, name).unwrap_or_else(|| panic!("no {path} {name}")).value().to_vec()
    }

    fn cells(fdt: Fdt<'_>, path: &str, name: &str) -> Vec<u32> {
        bytes(fdt, path, name).as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
    }

    fn names(node: &FdtNode<'_>) -> Vec<alloc::string::String> {
        node.children().map(|child| child.name().to_string()).collect()
    }

    #[test]
    fn affinities_are_distinct_and_small() {
        assert_eq!([0, 1, 15, 16, 17, 255, 256].map(vcpu_mpidr), [0, 1, 15, 0x100, 0x101, 0xf0f, 0x1000]);
        assert!((0..u16::MAX).all(|i| vcpu_mpidr(i) < vcpu_mpidr(i + 1)));
    }

    #[test]
    fn a_secondary() {
        let ask = SecondaryTree {
            memory_base: 0x4000_0000,
            memory_len: 0x1_2345_6000,
            vcpus: 18,
            bootargs: "stream --size 1M",
            ramdisk: Some((0x4820_0000, 0x4820_0123)),
            name: "worker-1",
            allwinner: false,
            gic: None,
            bcm2836: None,
            list_registers: false,
            regions: &[],
        };
        let dtb = secondary(&ask).unwrap();
        let fdt = Fdt::new(&dtb).unwrap();
        assert_eq!(names(&fdt.root()), ["chosen", "memory@40000000", "cpus", "psci", "timer", "hypervisor"]);
        assert_eq!(bytes(fdt, "/", "compatible"), b"margay,guest\0");
        assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"stream --size 1M\0");
        assert_eq!(cells(fdt, "/chosen", "linux,initrd-start"), [0, 0x4820_0000]);
        assert_eq!(cells(fdt, "/chosen", "linux,initrd-end"), [0, 0x4820_0123]);
        assert_eq!(cells(fdt, "/memory@40000000", "reg"), [0, 0x4000_0000, 1, 0x2345_6000]);
        let cpus = fdt.find_node("/cpus").unwrap();
        assert_eq!(cpus.children().count(), 18);
        assert_eq!(cells(fdt, "/cpus/cpu@f", "reg"), [0, 15]);
        assert_eq!(cells(fdt, "/cpus/cpu@101", "reg"), [0, 0x101]);
        assert_eq!(bytes(fdt, "/cpus/cpu@101", "enable-method"), b"psci\0");
        assert_eq!(bytes(fdt, "/psci", "method"), b"hvc\0");
        assert_eq!(cells(fdt, "/timer", "interrupts").len(), 12);
        assert_eq!(bytes(fdt, "/hypervisor", "margay,vm-name"), b"worker-1\0");

        let dtb = secondary(&SecondaryTree { ramdisk: None, ..ask }).unwrap();
        assert!(property(Fdt::new(&dtb).unwrap(), "/chosen", "linux,initrd-start").is_none());
        assert!(property(fdt, "/timer", ALLWINNER).is_none());
        let dtb = secondary(&SecondaryTree { allwinner: true, ..ask }).unwrap();
        assert!(property(Fdt::new(&dtb).unwrap(), "/timer", ALLWINNER).is_some());
        let bad = secondary(&SecondaryTree { bootargs: "a\0b", ..ask });
        assert_eq!(bad, Err(Error::Write));
    }

    type Written = Result<(), vm_fdt::Error>;

    fn node(fdt: &mut FdtWriter, name: &str, inside: impl FnOnce(&mut FdtWriter) -> Written) -> Written {
        let open = fdt.begin_node(name)?;
        inside(fdt)?;
        fdt.end_node(open)
    }

    fn nest(fdt: &mut FdtWriter, levels: usize) -> Written {
        if levels == 0 { Ok(()) } else { node(fdt, "deep", |fdt| nest(fdt, levels - 1)) }
    }

    /// A small machine with one of everything that matters, and `nesting` levels in a node of /reserved-memory.
    fn machine(address_cells: u32, size_cells: u32, nesting: usize) -> Vec<u8> {
        let root = |fdt: &mut FdtWriter| {
            fdt.property_u32("#address-cells", address_cells)?;
            fdt.property_u32("#size-cells", size_cells)?;
            fdt.property_u32("interrupt-parent", 1)?;
            fdt.property_string("model", "a machine")?;
            node(fdt, "memory@40000000", |fdt| {
                fdt.property_string("device_type", "memory")?;
                fdt.property_array_u64("reg", &[0x4000_0000, 0x1_0000_0000])
            })?;
            node(fdt, "memory@200000000", |fdt| fdt.property_string("device_type", "memory"))?;
            node(fdt, "aliases", |fdt| fdt.property_string("serial0", "/soc/serial@9000000"))?;
            node(fdt, "cpus", |fdt| {
                fdt.property_u32("#address-cells", 1)?;
                fdt.property_u32("#size-cells", 0)?;
                node(fdt, "cpu@0", |fdt| {
                    fdt.property_string("device_type", "cpu")?;
                    fdt.property_u32("reg", 0)?;
                    fdt.property_phandle(7)?;
                    fdt.property_string("enable-method", "spin-table")?;
                    fdt.property_u64("cpu-release-addr", 0xd8)?;
                    node(fdt, "controller", |fdt| fdt.property_null("interrupt-controller"))
                })
            })?;
            node(fdt, "reserved-memory", |fdt| {
                fdt.property_null("ranges")?;
                node(fdt, "secmon@40000000", |fdt| {
                    fdt.property_array_u64("reg", &[0x4000_0000, 0x1000])?;
                    nest(fdt, nesting)
                })
            })?;
            node(fdt, "psci", |fdt| {
                fdt.property("compatible", b"vendor,psci\0arm,psci-1.0\0")?;
                fdt.property_string("method", "smc")?;
                fdt.property_u32("cpu_on", 3)
            })?;
            node(fdt, "timer", |fdt| {
                fdt.property("compatible", b"arm,armv8-timer\0arm,armv7-timer\0")?;
                fdt.property_u32("interrupt-parent", 1)?;
                fdt.property_array_u32("interrupts", &[1, 13, 4])
            })?;
            node(fdt, "chosen", |fdt| {
                fdt.property_string("stdout-path", "serial0")?;
                fdt.property_string("bootargs", "for the hypervisor")?;
                fdt.property_u64("kaslr-seed", 1)?;
                fdt.property_u64("rng-seed", 1)?;
                fdt.property_u32("linux,initrd-start", 0x4800_0000)?;
                fdt.property_u32("linux,initrd-end", 0x4900_0000)?;
                fdt.property_u32("vendor,kept", 1)?;
                node(fdt, "framebuffer@1", |fdt| fdt.property_u64("reg", 1))
            })?;
            node(fdt, "intc@8000000", |fdt| {
                fdt.property_null("interrupt-controller")?;
                fdt.property_phandle(1)
            })?;
            node(fdt, "soc", |fdt| {
                fdt.property_null("ranges")?;
                node(fdt, "serial@9000000", |fdt| fdt.property_u64("reg", 0x900_0000))
            })?;
            node(fdt, "hypervisor", |fdt| fdt.property_string("compatible", "xen,xen"))
        };
        let mut fdt =
            FdtWriter::new_with_mem_reserv(&[vm_fdt::FdtReserveEntry::new(0, 4096).unwrap()]).unwrap();
        node(&mut fdt, "", root).unwrap();
        fdt.finish().unwrap()
    }

    #[test]
    fn a_tree_from_the_bundle_is_amended() {
        let ask = SecondaryTree {
            memory_base: 0x4000_0000,
            memory_len: 0x10_0000,
            vcpus: 17,
            bootargs: "",
            ramdisk: None,
            name: "any",
            allwinner: false,
            gic: None,
            bcm2836: None,
            list_registers: false,
            regions: &[],
        };
        let own = |cells: u32, cores: u32| {
            let mut fdt = FdtWriter::new().unwrap();
            node(&mut fdt, "", |fdt| {
                fdt.property_u32("#address-cells", cells)?;
                fdt.property_string("model", "theirs")?;
                node(fdt, "memory@80000000", |fdt| fdt.property_u32("reg", 1))?;
                node(fdt, "ram", |fdt| fdt.property_string("device_type", "memory"))?;
                node(fdt, "cpus", |fdt| {
                    node(fdt, "cpu-map", |fdt| fdt.property_null("x"))?;
                    (0..cores).try_for_each(|core| {
                        node(fdt, &format!("cpu@{core:x}"), |fdt| {
                            fdt.property_u32("reg", core)?;
                            fdt.property_string("device_type", "cpu")
                        })
                    })
                })?;
                node(fdt, "short", |fdt| fdt.property_null("interrupt-controller"))?;
                node(fdt, "chosen", |fdt| {
                    fdt.property_string("bootargs", "theirs")?;
                    fdt.property_u32("linux,initrd-start", 1)?;
                    node(fdt, "kept", |_| Ok(()))
                })
            })
            .unwrap();
            fdt.finish().unwrap()
        };
        let dtb = amended(&own(2, 18), &ask).unwrap();
        let fdt = Fdt::new_unchecked(&dtb);
        assert_eq!(names(&fdt.root()), ["memory", "chosen", "cpus", "short"]);
        assert_eq!(bytes(fdt, "/", "model"), b"theirs\0");
        assert_eq!(cells(fdt, "/memory", "reg"), [0, 0x4000_0000, 0x10_0000]);
        let cpus = names(&fdt.find_node("/cpus").unwrap());
        assert_eq!((cpus.len(), cpus[16].as_str()), (17, "cpu@100"));
        assert_eq!(cells(fdt, "/cpus/cpu@100", "reg"), [0x100]);
        assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"theirs\0");
        assert_eq!(cells(fdt, "/chosen", "linux,initrd-start"), [1]);
        assert!(property(fdt, "/short", "interrupt-controller").is_some());

        let told = SecondaryTree { bootargs: "mine", ramdisk: Some((0x4008_0000, 0x4008_0123)), ..ask };
        let dtb = amended(&own(1, 2), &told).unwrap();
        let fdt = Fdt::new_unchecked(&dtb);
        assert_eq!(cells(fdt, "/memory", "reg"), [0x4000_0000, 0x10_0000]);
        assert_eq!(names(&fdt.find_node("/cpus").unwrap()), ["cpu-map", "cpu@0", "cpu@1"]);
        assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"mine\0");
        assert_eq!(cells(fdt, "/chosen", "linux,initrd-start"), [0, 0x4008_0000]);
        assert_eq!(names(&fdt.find_node("/chosen").unwrap()), ["kept"]);
        // A partition manifest: no cells, no /chosen, no /cpus; and a name longer than the specification has it.
        let long = "a-name-that-is-much-longer-than-31-characters";
        let mut bare = Writer::new();
        for name in ["", long] {
            bare.begin(name);
        }
        bare.property(long, &[1]);
        bare.end();
        bare.begin("memory-regions");
        for (name, property) in
            [("a", "x"), ("b", "base-address"), ("c", "load-address-relative-offset"), ("d", "x")]
        {
            bare.begin(name);
            bare.cells(property, &[5]);
            bare.end();
        }
        (0..2).for_each(|_| bare.end());
        let placed = SecondaryTree { regions: &[6, 7], ..ask };
        let dtb = amended(&bare.finish().unwrap(), &placed).unwrap();
        let fdt = Fdt::new_unchecked(&dtb);
        assert_eq!(names(&fdt.root()), ["memory", long, "memory-regions"]);
        for (path, address) in [("a", &[0, 6][..]), ("b", &[5]), ("d", &[0, 7])] {
            assert_eq!(cells(fdt, &format!("/memory-regions/{path}"), "base-address"), address);
        }
        assert!(property(fdt, "/memory-regions/c", "base-address").is_none());
        assert_eq!(bytes(fdt, &format!("/{long}"), long), [1]);
        assert_eq!(cells(fdt, "/memory", "reg"), [0, 0x4000_0000, 0x10_0000]);
        assert!(matches!(amended(&dtb[1..], &ask), Err(Error::Malformed(_))));
    }

    const PRIMARY: PrimaryTree<'_> = PrimaryTree {
        others: &[(2, "compute1", ""), (3, "compute2", "autostart cores=1")],
        regions: &[Region::new(0x4010_0000, 0x1000_0000), Region::new(0x6000_0000, 0x1_8000_0000)],
        bootargs: "run all",
        ramdisk: Some((0x6000_0000, 0x6000_0100)),
        hidden: None,
        gic: None,
    };

    #[test]
    fn the_primary_keeps_only_what_is_its_own() {
        let dtb = primary(&machine(2, 2, 0), &PRIMARY).unwrap();
        let fdt = Fdt::new(&dtb).unwrap();
        assert_eq!(fdt.memory_reservations().count(), 0);
        assert_eq!(
            names(&fdt.root()),
            ["memory@40100000", "chosen", "cpus", "reserved-memory", "timer", "psci", "hypervisor"]
        );
        let root: Vec<_> = fdt.root().properties().map(|p| p.name().to_string()).collect();
        assert_eq!(root, ["#address-cells", "#size-cells", "model"]);
        let reg = [0, 0x4010_0000, 0, 0x1000_0000, 0, 0x6000_0000, 1, 0x8000_0000];
        assert_eq!(cells(fdt, "/memory", "reg"), reg);
        assert_eq!(bytes(fdt, "/memory", "device_type"), b"memory\0");
        assert_eq!(bytes(fdt, "/cpus/cpu@0", "enable-method"), b"psci\0");
        assert!(property(fdt, "/cpus/cpu@0", "cpu-release-addr").is_none());
        assert_eq!(cells(fdt, "/cpus/cpu@0", "phandle"), [7]);
        assert_eq!(fdt.find_node("/cpus/cpu@0").unwrap().children().count(), 0);
        assert_eq!(cells(fdt, "/reserved-memory/secmon", "reg"), [0, 0x4000_0000, 0, 0x1000]);
        assert_eq!(bytes(fdt, "/psci", "method"), b"hvc\0");
        assert!(property(fdt, "/psci", "cpu_on").is_none(), "function numbers are the standard ones");
        assert_eq!(cells(fdt, "/timer", "interrupts"), [1, 13, 4]);
        assert!(property(fdt, "/timer", "interrupt-parent").is_none());
        assert_eq!(bytes(fdt, "/hypervisor", "compatible"), b"margay,hypervisor\0");
        assert_eq!(bytes(fdt, "/hypervisor/vm@3", "margay,vm-name"), b"compute2\0");
        assert_eq!(bytes(fdt, "/hypervisor/vm@2", "margay,control"), b"\0");
        assert_eq!(bytes(fdt, "/hypervisor/vm@3", "margay,control"), b"autostart cores=1\0");

        let chosen: Vec<_> =
            fdt.find_node("/chosen").unwrap().properties().map(|p| p.name().to_string()).collect();
        assert_eq!(chosen, ["vendor,kept", "bootargs", "linux,initrd-start", "linux,initrd-end"]);
        assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"run all\0");
        assert_eq!(cells(fdt, "/chosen", "linux,initrd-start"), [0, 0x6000_0000]);
    }

    #[test]
    fn a_primary_with_the_devices_has_all_but_those_that_are_hidden() {
        let tree = PrimaryTree { hidden: Some(&["serial@9000000"]), ..PRIMARY };
        let dtb = primary(&machine(2, 2, 0), &tree).unwrap();
        let fdt = Fdt::new(&dtb).unwrap();
        let top = [
            "memory@40100000",
            "chosen",
            "aliases",
            "cpus",
            "reserved-memory",
            "timer",
            "soc",
            "psci",
            "hypervisor",
        ];
        assert_eq!(names(&fdt.root()), top);
        assert_eq!(fdt.find_node("/soc").unwrap().children().count(), 0);
        assert_eq!(bytes(fdt, "/psci", "method"), b"hvc\0");
        assert_eq!(bytes(fdt, "/hypervisor", "compatible"), b"margay,hypervisor\0");
        assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"run all\0");
        let dtb = primary(&machine(2, 2, 0), &PrimaryTree { hidden: Some(&[]), ..PRIMARY }).unwrap();
        assert_eq!(names(&Fdt::new(&dtb).unwrap().find_node("/soc").unwrap()), ["serial@9000000"]);
    }

    #[test]
    fn a_gic_is_written_in_the_machines_cells() {
        static REGIONS: [RedistributorRegion; 2] = [
            RedistributorRegion::new(0x80a_0000, 0x4_0000),
            RedistributorRegion::new(0x1000_0000, 0x10_0000),
        ];
        let v3 = Place::V3 { distributor: 0x800_0000, redistributors: &REGIONS };
        let made = |place, vcpus, cells| {
            let mut fdt = Writer::new();
            fdt.begin("");
            gic(&mut fdt, place, vcpus, cells).unwrap();
            fdt.end();
            fdt.finish().unwrap()
        };
        let path = "/interrupt-controller@8000000";
        let dtb = made(v3, 3, [2, 2]);
        let fdt = Fdt::new_unchecked(&dtb);
        let reg = [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x4_0000, 0, 0x1000_0000, 0, 0x2_0000];
        assert_eq!(cells(fdt, path, "reg"), reg);
        assert_eq!(cells(fdt, path, "#redistributor-regions"), [2]);
        assert_eq!(cells(fdt, path, "phandle"), cells(fdt, "/", "interrupt-parent"));
        // One region is enough for two.
        let dtb = made(v3, 2, [1, 1]);
        let fdt = Fdt::new_unchecked(&dtb);
        assert_eq!(cells(fdt, path, "reg"), [0x800_0000, 0x1_0000, 0x80a_0000, 0x4_0000]);
        assert!(property(fdt, path, "#redistributor-regions").is_none());
        assert_eq!(v3.room(), 10);
        let dtb = made(Place::V2 { distributor: 0x800_0000, cpu_interface: 0x801_0000 }, 2, [2, 1]);
        let fdt = Fdt::new_unchecked(&dtb);
        assert_eq!(bytes(fdt, path, "compatible"), b"arm,gic-400\0");
        assert_eq!(cells(fdt, path, "reg"), [0, 0x800_0000, 0x1000, 0, 0x801_0000, 0x2000]);
    }

    #[test]
    fn memory_is_written_in_the_machines_cells() {
        let reg = |address_cells, size_cells, regions: &[Region]| {
            let dtb = primary(&machine(address_cells, size_cells, 0), &PrimaryTree { regions, ..PRIMARY })?;
            Ok(cells(Fdt::new(&dtb).unwrap(), "/memory", "reg"))
        };
        let large = Region::new(0x8000_0000, 0x1_0000_1000);
        assert_eq!(reg(2, 2, &[large]), Ok(Vec::from([0, 0x8000_0000, 1, 0x1000])));
        let pieces = [0, 0x8000_0000, 0x8000_0000, 1, 0, 0x8000_0000, 1, 0x8000_0000, 0x1000];
        assert_eq!(reg(2, 1, &[large]), Ok(Vec::from(pieces)));
        assert_eq!(reg(1, 2, &[large]), Err(Error::Beyond(large)));
        let small = Region::new(0x8000_0000, 0x8000_0000);
        assert_eq!(reg(1, 1, &[small]), Ok(Vec::from([0x8000_0000, 0x8000_0000])));
        assert_eq!(reg(3, 1, &[small]), Err(Error::RootCells));
        assert_eq!(reg(2, 0, &[small]), Err(Error::RootCells));
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(primary(&machine(2, 2, DEPTH_MAX - 3), &PRIMARY).is_ok());
        assert_eq!(primary(&machine(2, 2, DEPTH_MAX - 2), &PRIMARY), Err(Error::TooDeep));
    }

    #[test]
    fn a_tree_that_is_none_is_refused() {
        let why = primary(b"not a device tree", &PRIMARY).unwrap_err().to_string();
        assert!(why.contains("device tree"), "{why}");
        let good = machine(2, 2, 0);
        assert!(matches!(primary(&good[..good.len() - 1], &PRIMARY), Err(Error::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(damage in proptest::collection::vec((0usize..2000, any::<u8>()), 1..6)) {
            let mut dtb = machine(2, 2, 0);
            for (at, byte) in damage {
                let len = dtb.len();
                dtb[at % len] = byte;
            }
            let ask = SecondaryTree {
                memory_base: 1 << 30,
                memory_len: 1 << 20,
                vcpus: 1,
                bootargs: "x",
                ramdisk: Some((1, 2)),
                name: "",
                allwinner: true,
                gic: None,
                bcm2836: None,
                list_registers: false,
                regions: &[],
            };
            for tree in [primary(&dtb, &PRIMARY), amended(&dtb, &ask)].into_iter().flatten() {
                prop_assert!(Tree::new(&tree).is_ok());
            }
        }
    }
}
