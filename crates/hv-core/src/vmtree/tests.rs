use super::{parts::*, secondary::ALLWINNER, *};
use crate::{
    devices::{Policy, subset::Subset},
    gic::Place,
};
use ::machine::{Machine, allowed};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use devtree::{Tree, Writer};
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
    let mut fdt = FdtWriter::new_with_mem_reserv(&[vm_fdt::FdtReserveEntry::new(0, 4096).unwrap()]).unwrap();
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
    gic: None,
};

/// The primary's tree, without devices, from a machine's that is sound.
fn primary(machine_dtb: &[u8], tree: &PrimaryTree<'_>) -> Result<Vec<u8>, Error> {
    let machine = Machine::from_dtb(machine_dtb).unwrap();
    super::primary(&machine, tree, &Subset::new(&machine, true, &[], None))
}

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
fn a_primary_with_devices_has_what_it_may_have() {
    let dtb = machine(2, 2, 0);
    let machine = Machine::from_dtb(&dtb).unwrap();
    let tree = |granted| {
        let policy = Policy { allowed: &[], granted, taken: &[], limit: 1 << 40 };
        super::primary(&machine, &PRIMARY, &Subset::new(&machine, true, &[], Some(&policy))).unwrap()
    };
    let kept_back = tree(b"");
    let fdt = Fdt::new(&kept_back).unwrap();
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
    assert_eq!(fdt.find_node("/aliases").unwrap().properties().count(), 0);
    assert_eq!(bytes(fdt, "/psci", "method"), b"hvc\0");
    assert_eq!(bytes(fdt, "/hypervisor", "compatible"), b"margay,hypervisor\0");
    assert_eq!(bytes(fdt, "/chosen", "bootargs"), b"run all\0");
    let granted = tree(b"serial@9000000\0");
    let fdt = Fdt::new(&granted).unwrap();
    assert_eq!(names(&fdt.find_node("/soc").unwrap()), ["serial@9000000"]);
    assert_eq!(bytes(fdt, "/aliases", "serial0"), b"/soc/serial@9000000\0");
}

#[test]
fn a_gic_is_written_in_the_machines_cells() {
    static REGIONS: [RedistributorRegion; 2] =
        [RedistributorRegion::new(0x80a_0000, 0x4_0000), RedistributorRegion::new(0x1000_0000, 0x10_0000)];
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
    let reg = |address_cells, size_cells, region| {
        let bytes = reg([address_cells, size_cells], &[region])?;
        Ok(bytes.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
    };
    let large = Region::new(0x8000_0000, 0x1_0000_1000);
    assert_eq!(reg(2, 2, large), Ok(Vec::from([0, 0x8000_0000, 1, 0x1000])));
    let pieces = [0, 0x8000_0000, 0x8000_0000, 1, 0, 0x8000_0000, 1, 0x8000_0000, 0x1000];
    assert_eq!(reg(2, 1, large), Ok(Vec::from(pieces)));
    assert_eq!(reg(1, 2, large), Err(Error::Beyond(large)));
    let small = Region::new(0x8000_0000, 0x8000_0000);
    assert_eq!(reg(1, 1, small), Ok(Vec::from([0x8000_0000, 0x8000_0000])));
    assert_eq!(reg(3, 1, small), Err(Error::RootCells));
    assert_eq!(reg(2, 0, small), Err(Error::RootCells));
}

#[test]
fn what_is_nested_too_deeply_is_left_out() {
    for nesting in [0, 5, 20] {
        let dtb = primary(&machine(2, 2, nesting), &PRIMARY).unwrap();
        let mut node = Fdt::new(&dtb).unwrap().find_node("/reserved-memory/secmon").unwrap();
        let mut depth = 0;
        while let Some(child) = node.children().next() {
            (node, depth) = (child, depth + 1);
        }
        assert_eq!(depth, nesting.min(9));
    }
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
        let all = Policy { allowed: allowed::QEMU_VIRT, granted: b"soc\0", taken: &[], limit: u64::MAX };
        let machines = Machine::from_dtb(&dtb).map(|machine| {
            super::primary(&machine, &PRIMARY, &Subset::new(&machine, true, &[], Some(&all)))
        });
        for tree in [machines.unwrap_or(Err(Error::Write)), amended(&dtb, &ask)].into_iter().flatten() {
            prop_assert!(Tree::new(&tree).is_ok());
        }
    }
}
