//! Nodes and properties that the trees of several kinds of VMs have.

use super::{Error, vcpu_mpidr};
use crate::{
    bcm2836,
    gic::Place,
    plan::Region,
    stop_notice::{PROPERTY, REASON_LEN},
};
use alloc::vec::Vec;
use devtree::{Node, Writer};
use drivers_bcm2836::{LocalInterrupt, armctrl, local};
use machine::{BCM2835, BCM2836_LOCAL};

/// A GIC that all interrupts in the tree are of (bindings, `interrupt-controller/arm,gic.yaml` and `arm,gic-v3.yaml`); in the open root,
/// which it ends the properties of, and whose addresses and sizes have so many `cells`.
pub(super) fn gic(fdt: &mut Writer, place: Place, vcpus: u16, cells: [u32; 2]) -> Result<(), Error> {
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
pub(super) fn bcm2836(fdt: &mut Writer, place: bcm2836::Place) {
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

pub(super) fn cpus(fdt: &mut Writer, count: u16) {
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

pub(super) fn psci(fdt: &mut Writer) {
    fdt.begin("psci");
    fdt.property("compatible", b"arm,psci-1.0\0arm,psci-0.2\0");
    fdt.text("method", "hvc");
    fdt.end();
}

/// Copies a node's properties except those named.
pub(super) fn properties(fdt: &mut Writer, node: &Node<'_>, except: &[&str]) {
    for property in node.properties().filter(|property| !except.contains(&property.name())) {
        fdt.property(property.name(), property.value());
    }
}

/// The command line and the ramdisk, in an open `/chosen`.
pub(super) fn boot_data(fdt: &mut Writer, bootargs: &str, ramdisk: Option<(u64, u64)>) {
    fdt.text("bootargs", bootargs);
    self::ramdisk(fdt, ramdisk);
}

pub(super) fn ramdisk(fdt: &mut Writer, ramdisk: Option<(u64, u64)>) {
    if let Some((start, end)) = ramdisk {
        fdt.long("linux,initrd-start", &[start]);
        fdt.long("linux,initrd-end", &[end]);
    }
}

/// The node that says who is below; to the primary, whom it is to run; to a VM with a terminal of its own, why it stopped last.
pub(super) fn hypervisor(
    fdt: &mut Writer,
    vm_name: Option<&str>,
    list_registers: bool,
    others: &[(u16, &str, &str)],
    last_stop: bool,
) {
    fdt.begin("hypervisor");
    fdt.text("compatible", "margay,hypervisor");
    if let Some(name) = vm_name {
        fdt.text("margay,vm-name", name);
    }
    if list_registers {
        fdt.property("margay,list-registers", &[]);
    }
    if last_stop {
        // Empty until the VM is started again.
        fdt.property(PROPERTY, &[0; REASON_LEN]);
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
pub(super) fn memory(fdt: &mut Writer, root: &Node<'_>, regions: &[Region]) -> Result<(), Error> {
    let reg = reg(root_cells(root), regions)?;
    fdt.text("device_type", "memory");
    fdt.property("reg", &reg);
    fdt.end();
    Ok(())
}

/// How many cells addresses have in a root node, and sizes (DT spec, 2.3.5).
pub(super) fn root_cells(root: &Node<'_>) -> [u32; 2] {
    let cells = |property, default| match root.value(property) {
        None => default,
        Some(value) => value.as_array().map_or(0, |cells| u32::from_be_bytes(*cells)),
    };
    [cells("#address-cells", 2), cells("#size-cells", 1)]
}

/// `reg` of these regions.
pub(super) fn reg(cells: [u32; 2], regions: &[Region]) -> Result<Vec<u8>, Error> {
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
