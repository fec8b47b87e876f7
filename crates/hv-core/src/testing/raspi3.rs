//! The trees of VMs on a Raspberry Pi 3 that see its interrupt controllers, from the board's own.

use super::boards::board;
use crate::{
    bcm2836::Place,
    vmtree::{self, SecondaryTree},
};
use alloc::{string::String, vec::Vec};
use devtree::{Node, Tree};
use machine::{Line, Machine};

const TREE: &[u8] = include_bytes!("../../../machine/fixtures/bcm2837-rpi-3-b.dtb");
fn ask(place: Place) -> SecondaryTree<'static> {
    SecondaryTree {
        memory_base: 0x1000_0000,
        memory_len: 0x1000_0000,
        vcpus: 4,
        bootargs: "",
        ramdisk: None,
        name: "login",
        gic: None,
        list_registers: false,
        bcm2836: Some(place),
        allwinner: false,
        regions: &[],
    }
}

fn names_of_properties(node: &Node<'_>, names: &mut Vec<String>) {
    names.extend(node.properties().map(|property| property.name().into()));
    node.children().for_each(|child| names_of_properties(&child, names));
}

#[test]
fn the_login_vm_finds_the_controllers_and_what_is_connected_to_them() {
    let machine = Machine::from_dtb(TREE).unwrap();
    let devices = board("raspi3").devices(&machine, false, true, b"");
    let place = Place::real(&machine).unwrap();
    assert_eq!(place, Place { local: 0x4000_0000, legacy: 0x3f00_b200 });
    let tree = vmtree::super_secondary(&machine, &ask(place), &devices.subset).unwrap();
    let login = Machine::from_dtb(&tree).unwrap();
    assert_eq!(Place::real(&login), Some(place));
    let timer = login.timer().unwrap();
    assert_eq!(timer.virtual_.unwrap().line, Line::Bcm2836Local(3));
    assert_eq!((login.enabled_core_count(), login.psci().is_some()), (4, true));

    let uart = devices.uart().unwrap();
    assert_eq!((uart.kind, uart.region.base), (machine::ConsoleKind::Pl011, 0x3f20_1000));

    let has = |at: u64| devices.regions.iter().any(|r| r.base <= at && at < r.end());
    // A UART is its own; the controllers, and what shares their page (the mailbox to the GPU), the pins, the mini UART, and the
    // watchdog are not.
    assert!(has(0x3f20_1000));
    for kept in [0x4000_0000, 0x3f00_b200, 0x3f00_b880, 0x3f20_0000, 0x3f21_5040, 0x3f10_0000] {
        assert!(!has(kept), "{kept:#x}");
    }
    let mut names = Vec::new();
    login.for_each_device(&mut |name, _| names.push(String::from(name)));
    assert!(names.iter().any(|name| name == "serial@7e201000"), "{names:?}");
    for hidden in ["serial@7e215040", "mailbox@7e00b880", "gpio@7e200000", "watchdog@7e100000"] {
        assert!(names.iter().all(|name| name != hidden), "{hidden}");
    }
    // Nothing asks for pins whose controller it does not have, nor for cores as firmware starts them.
    let mut properties = Vec::new();
    names_of_properties(&Tree::new(&tree).unwrap().root(), &mut properties);
    for name in ["pinctrl-names", "pinctrl-0", "cpu-release-addr"] {
        assert!(properties.iter().all(|property| property != name), "{name}");
    }
    assert!(properties.iter().any(|name| name == "interrupt-parent"));
    // The clock that firmware has set, in place of those of a controller that is not the VM's; and no Bluetooth chip on the serial line,
    // whose reset is one of the pins.
    let tree = Tree::new(&tree).unwrap().root();
    let serial = tree.child("soc").unwrap().child("serial@7e201000").unwrap();
    let clock = tree.child("margay-clock").unwrap();
    assert_eq!(serial.value("clocks").unwrap(), clock.value("phandle").unwrap().repeat(2));
    assert_eq!(clock.value("clock-frequency").unwrap(), 48_000_000_u32.to_be_bytes());
    assert_eq!(serial.children().count(), 0);
}

#[test]
fn a_secondary_finds_controllers_beside_its_memory() {
    let tree = vmtree::secondary(&ask(Place::USUAL)).unwrap();
    let machine = Machine::from_dtb(&tree).unwrap();
    assert_eq!(Place::real(&machine), Some(Place::USUAL));
    let timer = machine.timer().unwrap();
    let lines =
        [timer.secure_physical, timer.physical, timer.virtual_, timer.hypervisor].map(|i| i.unwrap().line);
    assert_eq!(lines, [0, 1, 3, 2].map(Line::Bcm2836Local));
}
