//! What VMs of every board have of its devices, from the boards' own device trees.

use crate::{
    devices::{Devices, KeptBack, Policy, pages, subset::Subset},
    gic,
    plan::Region,
    vmtree::{self, PrimaryTree, SecondaryTree},
};
use alloc::{string::String, vec::Vec};
use devtree::Node;
use machine::{
    BCM2835, BCM2836_LOCAL, GIC_V2, GIC_V3, Machine, Place,
    allowed::{self, Allowed},
};
use std::{collections::BTreeSet, format, println, string::ToString as _};

/// A board, as its image puts it together (`images/`).
pub(super) struct Board {
    pub(super) name: &'static str,
    pub(super) tree: &'static [u8],
    allowed: &'static [Allowed],
}

macro_rules! board {
    ($name:literal, $tree:literal, $allowed:ident) => {
        Board {
            name: $name,
            tree: include_bytes!(concat!("../../../machine/fixtures/", $tree)),
            allowed: allowed::$allowed,
        }
    };
}

pub(super) const BOARDS: [Board; 6] = [
    board!("qemu-virt", "virt-gicv3.dtb", QEMU_VIRT),
    board!("qemu-virt-gicv2", "virt-gicv2.dtb", QEMU_VIRT),
    board!("raspi3", "bcm2837-rpi-3-b.dtb", RASPI3),
    board!("raspi4", "bcm2711-rpi-4-b.dtb", RASPI4),
    board!("zcu102", "zynqmp-zcu102-rev1.0.dtb", ZCU102),
    board!("pine64", "sun50i-a64-pine64-lts.dtb", PINE64),
];

pub(super) fn board(name: &str) -> &'static Board {
    BOARDS.iter().find(|board| board.name == name).unwrap()
}

/// The interrupt controllers that a VM can have.
const CONTROLLERS: &[&[&str]] = &[GIC_V3, GIC_V2, BCM2836_LOCAL, BCM2835];

impl Board {
    pub(super) fn machine(&self) -> Machine<'static> {
        Machine::from_dtb(self.tree).unwrap()
    }

    /// The controllers of a VM with `margay,gic`.
    fn controllers(&self) -> &'static [&'static [&'static str]] {
        if self.name == "raspi3" { &CONTROLLERS[2..] } else { &CONTROLLERS[..2] }
    }

    /// Memory, and what the board's parts drive: controllers, console, watchdog.
    fn taken(machine: &Machine<'_>) -> Vec<Region> {
        let mut own: Vec<machine::Region> = machine.memory().collect();
        if machine.bcm2836().is_some() {
            // Linux's tree has 1 GiB, with the registers at its end in it; firmware says how much it really is.
            own = [machine::Region { base: 0, size: 0x3c00_0000 }].into();
        }
        if let Some(gic) = machine.gic_v3() {
            own.push(gic.gicd);
            own.extend(gic.redistributors().iter().filter_map(|r| machine::Region::new(r.base, r.size)));
        } else if let Some(gic) = machine.gic_v2() {
            own.extend([Some(gic.gicd), Some(gic.gicc), gic.gich].into_iter().flatten());
        } else if let Some(local) = machine.bcm2836() {
            own.extend([Some(local.local), local.legacy].into_iter().flatten());
        }
        own.extend(machine.console().map(|console| console.region));
        own.extend(machine.device("brcm,bcm2835-pm-wdt"));
        own.iter().map(|region| pages(region.base, region.size)).collect()
    }

    /// The devices of a VM that is granted some.
    pub(super) fn devices<'a>(
        &self,
        machine: &'a Machine<'a>,
        primary: bool,
        has_controllers: bool,
        granted: &[u8],
    ) -> Devices<'a> {
        let taken = Self::taken(machine);
        let policy = Policy { allowed: self.allowed, granted, taken: &taken, limit: 1 << 40 };
        let controllers = if has_controllers { self.controllers() } else { &[] };
        Devices::new(machine, primary, controllers, &policy)
    }
}

pub(super) fn ask() -> SecondaryTree<'static> {
    SecondaryTree {
        memory_base: 0x1000_0000,
        memory_len: 0x1000_0000,
        vcpus: 2,
        bootargs: "",
        ramdisk: None,
        name: "login",
        gic: None,
        list_registers: false,
        bcm2836: None,
        allwinner: false,
        regions: &[],
    }
}

const MEMORY: [Region; 1] = [Region { base: 0x4000_0000, len: 0x1000_0000 }];
const PRIMARY: PrimaryTree<'static> =
    PrimaryTree { others: &[(2, "two", "")], regions: &MEMORY, bootargs: "", ramdisk: None, gic: None };

/// Looks at a board's tree of a kind, and at the registers of the VM that has it.
type Check<'a> = dyn FnMut(&Board, &str, &[u8], &[Region]) + 'a;

/// Every tree of a board's that is made of the machine's, with the devices that go with it.
fn for_each_tree(check: &mut Check<'_>) {
    for board in &BOARDS {
        let machine = board.machine();
        for controllers in [true, false] {
            let devices = board.devices(&machine, false, controllers, b"");
            let tree = vmtree::super_secondary(&machine, &ask(), &devices.subset).unwrap();
            check(board, &format!("super-secondary, controllers {controllers}"), &tree, &devices.regions);
        }
        let devices = board.devices(&machine, true, true, b"");
        let tree = vmtree::primary(&machine, &PRIMARY, &devices.subset).unwrap();
        check(board, "primary with devices", &tree, &devices.regions);
        let tree = vmtree::primary(&machine, &PRIMARY, &Subset::new(&machine, true, &[], None)).unwrap();
        check(board, "primary", &tree, &[]);
    }
}

/// Properties that hold no reference.
const PLAIN: &str = "\
#address-cells #size-cells #interrupt-cells #clock-cells #redistributor-regions #cooling-cells \
address-align alloc-ranges always-on arm,primecell-periphid arm,no-tick-in-suspend uart-has-rtscts calibration allwinner,erratum-unknown1 arm,cpu-registers-not-fw-configured \
bootargs brcm,bcm2711-genet-v5 bus-range cache-level cache-line-size cache-sets cache-size capacity-dmips-mhz clock-accuracy \
clock-frequency clock-names clock-output-names compatible d-cache-line-size d-cache-sets d-cache-size device_type dma-coherent dma-ranges \
enable-method entry-method arm,psci-suspend-param entry-latency-us exit-latency-us min-residency-us local-timer-stop \
i-cache-line-size i-cache-sets i-cache-size interrupt-controller interrupt-map-mask interrupt-names interrupts \
linux,cma-default linux,pci-domain local-mac-address margay,control margay,last-stop margay,vm-name method model no-map phandle phy-mode \
ranges reg reg-io-width reg-names reusable rs485-rts-delay size skip-init status tx-fifo-depth rx-fifo-depth u-boot,dm-pre-reloc \
cache-unified clock-latency numa-node-id serial-number";

/// Properties that refer to other nodes, and what each reference's arguments are counted by.
const REFERENCES: [(&str, &str); 10] = [
    ("interrupt-parent", ""),
    ("clocks", "#clock-cells"),
    ("phy-handle", ""),
    ("next-level-cache", ""),
    ("cpu-idle-states", ""),
    ("cpu", ""),
    ("memory-region", ""),
    ("operating-points-v2", ""),
    ("interrupts-extended", "#interrupt-cells"),
    ("cpu-supply", ""),
];

fn cell(node: &Node<'_>, name: &str) -> Option<u32> {
    node.value(name)?.first_chunk().map(|cell| u32::from_be_bytes(*cell))
}

/// The phandles in a property's value, of a checked tree.
fn references(machine: &Machine<'_>, node: &Node<'_>, name: &str, value: &[u8]) -> Vec<u32> {
    let cells: Vec<u32> = value.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect();
    let count = |phandle: u32, name: &str| {
        let mut found = None;
        machine.for_each_node(&mut |place| {
            if cell(&place.node(), "phandle") == Some(phandle) {
                found = Some(cell(&place.node(), name).unwrap_or(0) as usize);
            }
        });
        found
    };
    let mut all = Vec::new();
    let mut at = 0;
    if name == "interrupt-map" {
        let child =
            (cell(node, "#address-cells").unwrap() + cell(node, "#interrupt-cells").unwrap()) as usize;
        while at < cells.len() {
            let parent = cells[at + child];
            all.push(parent);
            let Some(address) = count(parent, "#address-cells") else { return all };
            at += child + 1 + address + count(parent, "#interrupt-cells").unwrap();
        }
        return all;
    }
    let Some((_, of)) = REFERENCES.iter().find(|(known, _)| *known == name) else { return all };
    while at < cells.len() {
        all.push(cells[at]);
        let Some(arguments) = count(cells[at], of) else { return all };
        at += 1 + arguments;
    }
    all
}

#[test]
fn the_tree_of_a_vm_with_devices_has_room_for_why_it_stopped() {
    for_each_tree(&mut |board, what, dtb, _| {
        let at = crate::stop_notice::property(dtb).map(|at| &dtb[at as usize..][..128]);
        let expected = what.starts_with("super-secondary").then_some(&[0; 128][..]);
        assert_eq!(at, expected, "{}, {what}", board.name);
    });
}

#[test]
fn no_reference_of_any_tree_dangles() {
    let mut unknown = BTreeSet::new();
    for_each_tree(&mut |board, what, dtb, _| {
        let machine = Machine::from_dtb(dtb).unwrap();
        let mut phandles = BTreeSet::new();
        machine.for_each_node(&mut |place| phandles.extend(cell(&place.node(), "phandle")));
        machine.for_each_node(&mut |place| {
            let node = place.node();
            if node.name() == "aliases" {
                return;
            }
            for property in node.properties() {
                let (name, value) = (property.name(), property.value());
                let references = references(&machine, &node, name, value);
                // Whatever is not known to be plain must be known to refer.
                let plain = PLAIN.split(' ').any(|plain| plain == name);
                if !plain && references.is_empty() {
                    unknown.insert(format!("{}, {what}: {}: {name}", board.name, node.name()));
                }
                for phandle in references {
                    assert!(phandles.contains(&phandle), "{}, {what}: {}: {name}", board.name, node.name());
                }
            }
        });
        for alias in machine.root().child("aliases").iter().flat_map(Node::properties) {
            let path = core::str::from_utf8(alias.value()).unwrap().trim_end_matches('\0');
            assert!(machine.node_at(path).is_some(), "{}, {what}: alias {path}", board.name);
        }
    });
    assert!(unknown.is_empty(), "neither plain nor references: {unknown:#?}");
}

#[test]
fn what_a_tree_describes_is_the_vms_and_nothing_else_is() {
    for_each_tree(&mut |board, what, dtb, regions| {
        let machine = Machine::from_dtb(dtb).unwrap();
        let mut described = Vec::new();
        machine.for_each_node(&mut |place| {
            let node = place.node();
            let above = place.depth() > 0 && node.value("interrupt-controller").is_some();
            let memory = node.value("device_type") == Some(b"memory\0");
            // Controllers are emulated, and reserved memory is the plan's affair.
            if above || memory || is_reserved(&machine, &node) {
                return;
            }
            let mut region = |region: Option<machine::Region>| {
                if let Some(region) = region.filter(|region| region.size > 0) {
                    described.push((String::from(node.name()), pages(region.base, region.size)));
                }
            };
            place.for_each_region(&mut region);
            if node.value("compatible") != Some(b"simple-bus\0") {
                place.for_each_window(&mut region);
            }
        });
        for (name, region) in &described {
            let mapped = regions.iter().any(|mapped| mapped.intersect(*region) == Some(*region));
            assert!(mapped, "{}, {what}: {name} at {region} is not mapped", board.name);
        }
        for mapped in regions {
            let mut at = mapped.base;
            while let Some((_, region)) = described.iter().find(|(_, region)| region.contains(at)) {
                at = region.end();
            }
            assert!(
                at >= mapped.end(),
                "{}, {what}: {mapped} is mapped, and no node's from {at:#x}",
                board.name
            );
        }
    });
}

fn is_reserved(machine: &Machine<'_>, node: &Node<'_>) -> bool {
    let reserved = machine.root().child("reserved-memory");
    reserved.is_some_and(|reserved| {
        reserved.children().any(|child| child.offset() == node.offset()) || reserved.offset() == node.offset()
    })
}

/// Parts of `compatible` strings of what no VM has, enabled or not.
const DANGEROUS: [&str; 21] = [
    "wdt",
    "watchdog",
    "-pm",
    "power",
    "reset",
    "ccu",
    "cprman",
    "ddrc",
    "mbus",
    "mbox",
    "msgbox",
    "ipi-mailbox",
    "vchiq",
    "intc",
    "gic",
    "cci-",
    "mmu-",
    "firmware",
    "fw-cfg",
    "cfi-flash",
    "system-timer",
];

#[test]
fn no_page_of_a_dangerous_device_is_a_vms() {
    for board in &BOARDS {
        let machine = board.machine();
        let mut found = 0;
        for granted in [&b""[..], b"watchdog@1c20ca0\0pinctrl@1c20800\0timer@1c20c00\0"] {
            let devices = board.devices(&machine, false, true, granted);
            machine.for_each_node(&mut |place: &Place<'_>| {
                let node = place.node();
                let compatible =
                    String::from_utf8_lossy(node.value("compatible").unwrap_or_default()).into_owned();
                if !DANGEROUS.iter().any(|part| compatible.contains(part)) {
                    return;
                }
                place.for_each_region(&mut |region| {
                    let Some(region) = region else { return };
                    let region = pages(region.base, region.size);
                    found += 1;
                    let given = devices.regions.iter().find(|given| given.intersect(region).is_some());
                    assert_eq!(given, None, "{}: {} at {region}", board.name, node.name());
                });
            });
            for taken in Board::taken(&machine) {
                assert!(
                    devices.regions.iter().all(|given| given.intersect(taken).is_none()),
                    "{}",
                    board.name
                );
            }
        }
        assert!(found > 2, "{}", board.name);
    }
}

#[test]
fn controllers_in_trees_are_those_that_are_emulated() {
    for board in &BOARDS {
        let machine = board.machine();
        let devices = board.devices(&machine, false, true, b"");
        let tree = vmtree::super_secondary(&machine, &ask(), &devices.subset).unwrap();
        let vm = Machine::from_dtb(&tree).unwrap();
        match (vm.gic_v2(), vm.gic_v3()) {
            (Some(gic), None) => {
                assert_eq!((gic.gich, gic.gicv), (None, None), "{}", board.name);
                assert_eq!(gic.gicc, machine.gic_v2().unwrap().gicc);
            }
            (None, Some(gic)) => {
                assert_eq!((gic.gicc, gic.gich, gic.gicv), (None, None, None), "{}", board.name);
                assert_eq!(gic.redistributors(), machine.gic_v3().unwrap().redistributors());
            }
            _ => assert_eq!(vm.bcm2836(), machine.bcm2836(), "{}", board.name),
        }
        // The maintenance interrupt is a hypervisor's.
        assert_eq!(vm.gic_maintenance(), None, "{}", board.name);
        assert!(vm.timer().unwrap().virtual_.is_some(), "{}", board.name);
    }
}

/// What `docs/boards.md` says of a board.
fn described(board: &Board) -> String {
    let machine = board.machine();
    let devices = board.devices(&machine, false, true, b"");
    let mut has = Vec::new();
    for entry in &devices.subset.nodes {
        let addressed = devices.subset.registers_of(entry).next().is_some();
        if entry.is_kept() && addressed {
            has.push(entry.node.name());
        }
    }
    let list = |names: &[&str]| {
        if names.is_empty() {
            return "nothing".to_string();
        }
        // Those that are many of one sort stand once.
        let sort = |name: &str| String::from(name.split('@').next().unwrap());
        let count = |name: &str| names.iter().filter(|other| sort(other) == sort(name)).count();
        let mut words: Vec<String> = names
            .iter()
            .map(|name| match count(name) {
                many @ 5.. => format!("{many} × `{}`", sort(name)),
                _ => format!("`{name}`"),
            })
            .collect();
        let mut seen = BTreeSet::new();
        words.retain(|word| seen.insert(word.clone()));
        words.join(", ")
    };
    let kept_back = KeptBack(&devices.subset).to_string();
    let kept_back: Vec<&str> = kept_back.split_whitespace().collect();
    format!("* **`{}`** has {}. Kept back: {}.", board.name, list(&has), list(&kept_back))
}

/// `docs/boards.md` lists who gets which device. `UPDATE_DOCS=1` in the environment writes the list.
#[test]
fn the_list_of_devices_in_the_docs_is_true() {
    const BEGIN: &str = "<!-- devices, made by `cargo test -p hv-core boards` -->\n";
    const END: &str = "<!-- end of devices -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/boards.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (list, after) = rest.split_once(END).unwrap();
    let true_list: String = BOARDS.iter().map(|board| described(board) + "\n").collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{true_list}{END}{after}")).unwrap();
        println!("docs/boards.md is up to date");
        return;
    }
    assert_eq!(list, true_list, "UPDATE_DOCS=1 cargo test -p hv-core boards");
}

#[test]
fn what_the_manifest_grants_comes_with_all_that_shares_its_pages() {
    let board = board("pine64");
    let machine = board.machine();
    let clocks = 0x01c2_0000;
    let has = |granted: &[u8]| {
        let devices = board.devices(&machine, false, true, granted);
        devices.regions.iter().any(|region| region.contains(clocks))
    };
    assert!(!has(b""));
    // Pins, a timer, and the watchdog are in the same page.
    assert!(!has(b"clock@1c20000\0"));
    assert!(!has(b"clock@1c20000\0pinctrl@1c20800\0timer@1c20c00\0"));
    assert!(!gic::is_possible());
}

/// The numbers of a node's interrupts.
fn interrupts_of(machine: &Machine<'_>, name: &str) -> Vec<u32> {
    let mut found = Vec::new();
    machine.for_each_interrupt(&mut |node, interrupt| {
        if node.name() == name {
            found.push(interrupt.number());
        }
    });
    assert!(!found.is_empty(), "{name}");
    found
}

#[test]
fn interrupts_of_devices_that_are_kept_back_are_nobodys() {
    // What the VM has, and what is kept back from it and shares no interrupt with that.
    for (name, kept, kept_back) in [
        (
            "qemu-virt",
            &["pl031@9010000", "virtio_mmio@a000000", "pcie@10000000"][..],
            &["pl011@9000000", "pl061@9030000"][..],
        ),
        ("qemu-virt-gicv2", &["pl031@9010000", "virtio_mmio@a000000"], &["pl011@9000000", "pl061@9030000"]),
        (
            "raspi3",
            &["serial@7e201000"],
            &["gpio@7e200000", "mailbox@7e00b880", "dma@7e007000", "usb@7e980000"],
        ),
        (
            "raspi4",
            &["serial@7e201000", "ethernet@7d580000"],
            &["gpio@7e200000", "mailbox@7e00b880", "dma@7e007000"],
        ),
        ("zcu102", &[], &["serial@ff000000", "watchdog@fd4d0000", "dma-controller@fd500000"]),
        ("pine64", &[], &["serial@1c28000", "watchdog@1c20ca0", "mmc@1c0f000"]),
    ] {
        let board = board(name);
        let machine = board.machine();
        for has_controllers in [true, false] {
            let devices = board.devices(&machine, false, has_controllers, b"");
            // PCI has its interrupts from a map, whose controller the VM must have.
            for node in kept.iter().filter(|node| has_controllers || !node.starts_with("pcie")) {
                for id in interrupts_of(&machine, node) {
                    assert!(devices.interrupts.contains(&id), "{name}: {node} {id}");
                }
            }
            for node in kept_back {
                for id in interrupts_of(&machine, node) {
                    assert!(!devices.interrupts.contains(&id), "{name}: {node} {id}");
                }
            }
        }
    }
    // A grant brings the interrupt with it.
    let board = board("qemu-virt");
    let machine = board.machine();
    let devices = board.devices(&machine, false, true, b"pl061@9030000\0");
    assert!(interrupts_of(&machine, "pl061@9030000").iter().all(|id| devices.interrupts.contains(id)));
    // The four lines of PCI, at the end of an interrupt map with addresses.
    let mut lines = interrupts_of(&machine, "pcie@10000000");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, [35, 36, 37, 38]);
}
