//! The boot of the Pine A64-LTS, which QEMU does not have, as far as it does not touch the machine: from the board's own device tree, as
//! U-Boot hands it over, to the plan of its memory and the trees of its VMs.

use super::boards::board;
use crate::{
    devices::{Devices, subset::Subset},
    gic::Place,
    plan::{Memory, PrimaryNeeds, Region, Request},
    vmtree::{self, PrimaryTree, SecondaryTree},
};
use alloc::vec::Vec;
use hv_abi::{
    ids::{Pa, VmId},
    layout,
};
use machine::{Conduit, ConsoleKind, Machine};

const TREE: &[u8] = include_bytes!("../../../machine/fixtures/sun50i-a64-pine64-lts.dtb");
const MIB: u64 = 1 << 20;
/// 2 GiB, of which firmware's secure part lies elsewhere (A64 user manual, 3.1). U-Boot puts this into `/memory`.
const RAM: Region = Region { base: 0x4000_0000, len: 2048 * MIB };
/// Where U-Boot loads the image, the bundle and the tree (`kernel_addr_r`, `ramdisk_addr_r`, `fdt_addr_r`).
const IMAGE: Region = Region { base: 0x4008_0000, len: MIB };
const BUNDLE: Region = Region { base: 0x4fe0_0000, len: MIB };
const LOADED_TREE: u64 = 0x4fa0_0000;
const NEEDS: PrimaryNeeds = PrimaryNeeds { text_offset: 0, image_size: MIB, ramdisk: 0, tree: 64 * 1024 };

fn machine() -> Machine<'static> {
    Machine::from_dtb(TREE).unwrap()
}

/// What the first SPI needs: the unit of clocks and resets, what that has its clocks from, and what shares their pages.
const GRANTED: &[u8] = b"clock@1c20000\0pinctrl@1c20800\0timer@1c20c00\0watchdog@1c20ca0\0\
    rtc@1f00000\0interrupt-controller@1f00c00\0spi@1c68000\0";

fn devices<'a>(machine: &'a Machine<'a>, granted: &[u8]) -> Devices<'a> {
    board("pine64").devices(machine, false, true, granted)
}

#[test]
fn what_the_hypervisor_drives() {
    let machine = machine();
    assert_eq!(machine.model(), Some("Pine64 LTS"));
    let cores: Vec<_> = machine.cores().filter(|core| core.enabled).map(|core| core.mpidr.raw()).collect();
    assert_eq!(cores, [0, 1, 2, 3]);
    assert_eq!(machine.psci().unwrap().conduit, Conduit::Smc);
    let gic = machine.gic_v2().unwrap();
    assert_eq!((gic.gicd.base, gic.gicc.base), (0x01c8_1000, 0x01c8_2000));
    assert_eq!((gic.gich.unwrap().base, gic.gicv.unwrap().base), (0x01c8_4000, 0x01c8_6000));
    assert_eq!(machine.gic_maintenance().unwrap().number(), 25);
    let timer = machine.timer().unwrap();
    assert_eq!((timer.virtual_.unwrap().number(), timer.physical.unwrap().number()), (27, 30));
    assert!(timer.allwinner_erratum);
    let console = machine.console().unwrap();
    assert_eq!(console.kind, ConsoleKind::Uart16550 { reg_shift: 2, io_width: 4 });
    assert_eq!(console.region.base, 0x01c2_8000);
}

#[test]
fn what_the_login_vm_gets() {
    let machine = machine();
    // Nothing that has no clock, unless the manifest grants it.
    assert_eq!(devices(&machine, b"").regions, []);
    let devices = devices(&machine, GRANTED);
    let has = |at: u64| devices.regions.iter().any(|r| r.base <= at && at < r.end());
    for device in [0x01c2_0000, 0x01c6_8000, 0x01f0_0000] {
        assert!(has(device), "{device:#x}");
    }
    // The interrupt controller with its virtual side, the console, what shares its page (UARTs 1 to 3), the memory's controller, memory.
    for kept in
        [0x01c8_1000, 0x01c8_2000, 0x01c8_4000, 0x01c8_6000, 0x01c2_8000, 0x01c2_8400, 0x01c6_2000, RAM.base]
    {
        assert!(!has(kept), "{kept:#x}");
    }
    for (index, one) in devices.regions.iter().enumerate() {
        assert_eq!((one.base % layout::PAGE, one.len % layout::PAGE), (0, 0));
        assert!(devices.regions[..index].iter().all(|other| other.intersect(*one).is_none()));
    }
}

#[test]
fn memory_is_planned() {
    let machine = machine();
    let loaded = [Region::new(LOADED_TREE, TREE.len() as u64)];
    let reserved: Vec<_> = machine.reserved().map(|r| Region::new(r.region.base, r.region.size)).collect();
    let memory = Memory { ram: &[RAM], hypervisor: &[IMAGE, BUNDLE], reserved: &reserved, loaded: &loaded };
    let pool = memory.carve(16 * MIB, layout::BLOCK).unwrap();
    let hypervisor = [IMAGE, BUNDLE, pool];
    let memory = Memory { hypervisor: &hypervisor, ..memory };
    let requests = [(2, 512 * MIB), (3, 512 * MIB)].map(|(vm, bytes)| Request { vm: VmId(vm), bytes });
    let plan = memory.plan(&requests, &NEEDS).unwrap();
    let mut used: Vec<_> = hypervisor.to_vec();
    used.extend(plan.secondaries.iter().map(|p| Region::new(p.pa.0, p.bytes)));
    used.extend(&plan.primary.regions);
    for (index, one) in used.iter().enumerate() {
        assert_eq!(RAM.intersect(*one), Some(*one));
        assert!(used[..index].iter().all(|other| other.intersect(*one).is_none()), "{one} is given twice");
    }
    assert_eq!(plan.of(VmId(2)).unwrap().bytes, 512 * MIB);
    assert_ne!(plan.primary.kernel_pa, Pa(0));
}

#[test]
fn the_vms_trees_are_machines() {
    let machine = machine();
    let devices = devices(&machine, GRANTED);
    let primary = PrimaryTree {
        others: &[(2, "login", "autostart")],
        regions: &[RAM],
        bootargs: "",
        ramdisk: None,
        gic: None,
    };
    let primary = vmtree::primary(&machine, &primary, &Subset::new(&machine, true, &[], None)).unwrap();
    let primary = Machine::from_dtb(&primary).unwrap();
    assert_eq!(primary.enabled_core_count(), 4);
    assert_eq!(primary.psci().unwrap().conduit, Conduit::Hvc);
    assert!(primary.timer().unwrap().allwinner_erratum);
    assert!(primary.gic_v2().is_none() && primary.console().is_none());

    let login = SecondaryTree {
        list_registers: false,
        memory_base: 0x6000_0000,
        memory_len: 512 * MIB,
        vcpus: 2,
        bootargs: "console=ttyS1",
        ramdisk: None,
        name: "login",
        gic: Some(Place::V2 { distributor: 0x01c8_1000, cpu_interface: 0x01c8_2000 }),
        bcm2836: None,
        allwinner: true,
        regions: &[],
    };
    let tree = vmtree::super_secondary(&machine, &login, &devices.subset).unwrap();
    let login = Machine::from_dtb(&tree).unwrap();
    assert_eq!(login.enabled_core_count(), 2);
    assert_eq!(login.memory().map(|r| (r.base, r.size)).collect::<Vec<_>>(), [(0x6000_0000, 512 * MIB)]);
    assert_eq!(login.psci().unwrap().conduit, Conduit::Hvc);
    assert!(login.timer().unwrap().allwinner_erratum);
    assert!(login.console().is_none(), "the console is the hypervisor's");
    let mut names = Vec::new();
    login.for_each_device(&mut |name, _| names.push(alloc::string::String::from(name)));
    assert!(names.iter().any(|name| name == "spi@1c68000"), "{names:?}");
    assert!(names.iter().all(|name| name != "serial@1c28000"));
}
