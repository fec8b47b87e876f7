//! Trees of secondaries: made from nothing, or amended.
//!
//! In a tree that the bundle brings, memory is what the VM has; cores that it does not have are left out, and the others have the
//! affinities of its vCPUs; memory regions without an address get one; `/chosen` has the ramdisk and the command line, if the manifest has
//! them. All else stays as it is, except memory reservations, which nobody could have known the addresses for.

use super::{
    DEPTH_MAX, Error,
    parts::{bcm2836, boot_data, cpus, gic, hypervisor, memory, properties, psci, ramdisk},
    vcpu_mpidr,
};
use crate::{
    bcm2836,
    gic::{Place, is_possible},
    plan::Region,
};
use alloc::vec::Vec;
use devtree::{Node, Tree, Writer};

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
pub(super) const ALLWINNER: &str = "allwinner,erratum-unknown1";

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

    hypervisor(&mut fdt, Some(tree.name), is_possible() && tree.list_registers, &[], false);
    fdt.end();
    fdt.finish().ok_or(Error::Write)
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
            copy(&mut fdt, &child, DEPTH_MAX - 2)?;
        }
        fdt.end();
    }
    for node in own.children() {
        match node.name() {
            "chosen" => {}
            "cpus" => amended_cpus(&mut fdt, &node, tree.vcpus)?,
            "memory-regions" => memory_regions(&mut fdt, &node, tree.regions)?,
            _ if node.base_name() == "memory" || node.value("device_type") == Some(b"memory\0") => {}
            _ => copy(&mut fdt, &node, DEPTH_MAX - 1)?,
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
            copy(fdt, &part, DEPTH_MAX - 3)?;
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
                copy(fdt, &part, DEPTH_MAX - 3)?;
            }
            fdt.end();
        } else if all || child.name() != "cpu-map" {
            // The map refers to all cores.
            copy(fdt, &child, DEPTH_MAX - 2)?;
        }
    }
    fdt.end();
    Ok(())
}

/// Copies a node, whole.
fn copy(fdt: &mut Writer, node: &Node<'_>, depth_left: usize) -> Result<(), Error> {
    let depth_left = depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
    fdt.begin(node.name());
    properties(fdt, node, &[]);
    for child in node.children() {
        copy(fdt, &child, depth_left)?;
    }
    fdt.end();
    Ok(())
}
