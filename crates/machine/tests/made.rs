//! Trees made for one purpose each: what the boards' trees do not show.
use machine::{
    ConsoleKind, EnableMethod, InterruptControllerInfo, Intid, Machine, MachineError, Region, Trigger,
};
use vm_fdt::{FdtReserveEntry, FdtWriter};

type Body = fn(&mut FdtWriter) -> Result<(), vm_fdt::Error>;

/// A tree whose root has two address cells and two size cells, a GIC at phandle 1, and what `body` adds.
fn tree(body: Body) -> Vec<u8> {
    tree_with(&[], body)
}

fn tree_with(reservations: &[FdtReserveEntry], body: Body) -> Vec<u8> {
    let write = || {
        let mut fdt = FdtWriter::new_with_mem_reserv(reservations)?;
        let root = fdt.begin_node("")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_u32("interrupt-parent", 1)?;
        body(&mut fdt)?;
        fdt.end_node(root)?;
        fdt.finish()
    };
    write().unwrap()
}

/// Writes a node.
fn node(fdt: &mut FdtWriter, name: &str, body: Body) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(name)?;
    body(fdt)?;
    fdt.end_node(node)
}

fn region(base: u64, size: u64) -> Region {
    Region::new(base, size).unwrap()
}

fn memory_node(fdt: &mut FdtWriter, name: &str, reg: &[u64]) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(name)?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", reg)?;
    fdt.end_node(node)
}

#[test]
fn numa_nodes_are_one_run_of_ram() {
    let dtb = tree(|fdt| {
        memory_node(fdt, "memory@60000000", &[0x6000_0000, 0x2000_0000])?;
        memory_node(fdt, "memory@40000000", &[0x4000_0000, 0x2000_0000])
    });
    let mut runs = [Region::default(); 2];
    assert_eq!(
        Machine::from_dtb(&dtb).unwrap().ram(&mut runs),
        Ok([region(0x4000_0000, 0x4000_0000)].as_slice())
    );
}

#[test]
fn rejects_ram_that_is_described_twice() {
    let dtb = tree(|fdt| {
        memory_node(fdt, "memory@40000000", &[0x4000_0000, 0x4000_0000])?;
        memory_node(fdt, "memory", &[0x4000_0000, 0x4000_0000])
    });
    let mut runs = [Region::default(); 2];
    let why = Machine::from_dtb(&dtb).unwrap().ram(&mut runs).unwrap_err();
    let range = "0x40000000..0x80000000";
    assert_eq!(why.to_string(), format!("the device tree describes RAM twice: {range} and {range} overlap"));
}

#[test]
fn memory_in_several_nodes_and_ranges() {
    let dtb = tree(|fdt| {
        node(fdt, "memory@80000000", |fdt| {
            fdt.property_string("device_type", "memory")?;
            fdt.property_array_u64("reg", &[0x8000_0000, 0x1000_0000, 0x1_0000_0000, 0x8000_0000])
        })?;
        node(fdt, "memory@0", |fdt| {
            fdt.property_string("device_type", "memory")?;
            fdt.property_array_u64("reg", &[0, 0, 0x4000_0000, 0x1000])
        })?;
        node(fdt, "memory@f0000000", |fdt| {
            fdt.property_string("device_type", "memory")?;
            fdt.property_string("status", "disabled")?;
            fdt.property_array_u64("reg", &[0xf000_0000, 0x1000])
        })
    });
    let machine = Machine::from_dtb(&dtb).unwrap();
    let expected =
        [region(0x8000_0000, 0x1000_0000), region(0x1_0000_0000, 0x8000_0000), region(0x4000_0000, 0x1000)];
    assert_eq!(machine.memory().collect::<Vec<_>>(), expected);
}

#[test]
fn rejects_invalid_memory() {
    let odd = tree(|fdt| node(fdt, "memory", |fdt| fdt.property_array_u32("reg", &[0, 0x8000_0000, 1])));
    let wraps = tree(|fdt| node(fdt, "memory", |fdt| fdt.property_array_u64("reg", &[u64::MAX - 1, 4096])));
    for dtb in [odd, wraps] {
        let error = Machine::from_dtb(&dtb).unwrap_err();
        assert_eq!(error, MachineError::BadProperty { node: "a memory node", property: "reg" });
    }
}

#[test]
fn reservations_from_both_places() {
    let block = [FdtReserveEntry::new(0x4000_0000, 0x2000).unwrap()];
    let dtb = tree_with(&block, |fdt| {
        node(fdt, "reserved-memory", |fdt| {
            fdt.property_u32("#address-cells", 2)?;
            fdt.property_u32("#size-cells", 2)?;
            fdt.property_null("ranges")?;
            node(fdt, "firmware@50000000", |fdt| {
                fdt.property_array_u64("reg", &[0x5000_0000, 0x10_0000, 0x6000_0000, 0x1000])?;
                fdt.property_null("no-map")
            })?;
            node(fdt, "pool", |fdt| fdt.property_u64("size", 0x1000))
        })
    });
    let machine = Machine::from_dtb(&dtb).unwrap();
    let reserved: Vec<_> = machine.reserved().map(|r| (r.region, r.name, r.no_map)).collect();
    let name = Some("firmware@50000000");
    assert_eq!(
        reserved,
        [
            (region(0x4000_0000, 0x2000), None, false),
            (region(0x5000_0000, 0x10_0000), name, true),
            (region(0x6000_0000, 0x1000), name, true),
        ]
    );
}

#[test]
fn cores_with_two_cells_and_one_disabled() {
    let dtb = tree(|fdt| {
        node(fdt, "cpus", |fdt| {
            fdt.property_u32("#address-cells", 2)?;
            fdt.property_u32("#size-cells", 0)?;
            node(fdt, "cpu@100000203", |fdt| {
                fdt.property_u64("reg", 0x1_0000_0203)?;
                fdt.property_string("enable-method", "psci")
            })?;
            node(fdt, "cpu@1", |fdt| {
                fdt.property_u64("reg", 1)?;
                fdt.property_string("status", "disabled")
            })?;
            node(fdt, "cpu-map", |_| Ok(()))
        })
    });
    let machine = Machine::from_dtb(&dtb).unwrap();
    let cores: Vec<_> = machine.cores().collect();
    assert_eq!(cores.len(), 2);
    assert_eq!(cores[0].mpidr.raw(), 0x1_0000_0203);
    assert_eq!((cores[0].mpidr.aff3(), cores[0].mpidr.aff1(), cores[0].mpidr.aff0()), (1, 2, 3));
    assert_eq!((cores[0].enabled, cores[0].enable_method), (true, EnableMethod::Psci));
    assert_eq!((cores[1].enabled, cores[1].enable_method), (false, EnableMethod::Unknown));
    assert_eq!(machine.enabled_core_count(), 1);
}

/// Two buses, one in the other, each moving addresses, with different numbers of cells.
fn nested_buses(fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
    node(fdt, "chosen", |fdt| {
        fdt.property_string("stdout-path", "serial3:57600e7")?;
        fdt.property_string("bootargs", "quiet isolcpus=1")?;
        fdt.property_u32("linux,initrd-start", 0x4800_0000)?;
        fdt.property_u64("linux,initrd-end", 0x4810_0000)
    })?;
    node(fdt, "aliases", |fdt| fdt.property_string("serial3", "/soc/bus@8000/serial@20"))?;
    node(fdt, "soc", |fdt| {
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 1)?;
        fdt.property_array_u32("ranges", &[0, 0, 0x1000, 0x1000, 0x7e00_0000, 1, 0xfe00_0000, 0x10_0000])?;
        node(fdt, "interrupt-controller@7e010000", |fdt| {
            fdt.property_string("compatible", "arm,gic-v3")?;
            fdt.property_u32("phandle", 1)?;
            fdt.property_u32("#interrupt-cells", 3)?;
            fdt.property_u32("#redistributor-regions", 2)?;
            fdt.property_u32("redistributor-stride", 0x4_0000)?;
            #[rustfmt::skip]
            let reg = [
                0x7e01_0000, 0x1_0000, 0x7e02_0000, 0x2_0000, 0x7e04_0000, 0x2_0000,
                0x7e06_0000, 0x2000, 0x7e07_0000, 0x2000, 0x7e08_0000, 0x2000,
            ];
            fdt.property_array_u32("reg", &reg)?;
            fdt.property_array_u32("interrupts", &[1, 9, 0xf04])
        })?;
        node(fdt, "bus@8000", |fdt| {
            fdt.property_u32("#address-cells", 2)?;
            fdt.property_u32("#size-cells", 1)?;
            fdt.property_array_u32("ranges", &[0, 0, 0x7e00_8000, 0x100])?;
            node(fdt, "serial@20", |fdt| {
                fdt.property_string("compatible", "ns16550a")?;
                fdt.property_array_u32("reg", &[0, 0x20, 0x20])?;
                fdt.property_u32("reg-offset", 4)?;
                fdt.property_u32("clock-frequency", 1_843_200)?;
                fdt.property_array_u32("interrupts-extended", &[1, 1, 3, 8, 1, 0, 7, 1])
            })
        })
    })
}

#[test]
fn addresses_go_through_nested_buses() {
    let dtb = tree(nested_buses);
    let machine = Machine::from_dtb(&dtb).unwrap();
    let console = machine.console().unwrap();
    assert_eq!(console.kind, ConsoleKind::Uart16550 { reg_shift: 0, io_width: 1 });
    assert_eq!(console.region, region(0x1_fe00_8024, 0x1c));
    assert_eq!(
        (machine.console_settings().unwrap().baud, machine.console_settings().unwrap().clock_hz),
        (Some(57_600), Some(1_843_200))
    );
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().intid(), Some(Intid::ppi(3)));
    assert_eq!(machine.bootargs(), Some("quiet isolcpus=1"));
    assert_eq!(machine.initrd(), Some(region(0x4800_0000, 0x10_0000)));
    let Some(InterruptControllerInfo::GicV3(gic)) = machine.interrupt_controller() else { panic!("a GICv3") };
    assert_eq!(gic.gicd, region(0x1_fe01_0000, 0x1_0000));
    let bases: Vec<_> = gic.redistributors().iter().map(|region| (region.base, region.stride)).collect();
    assert_eq!(bases, [(0x1_fe02_0000, Some(0x4_0000)), (0x1_fe04_0000, Some(0x4_0000))]);
    assert_eq!(gic.gicc, Some(region(0x1_fe06_0000, 0x2000)));
    assert_eq!(gic.gicv, Some(region(0x1_fe08_0000, 0x2000)));
    let maintenance = machine.gic_maintenance().unwrap();
    assert_eq!((maintenance.intid(), maintenance.trigger), (Some(Intid::ppi(9)), Trigger::Level));
}

#[test]
fn timers_by_name() {
    let dtb = tree(|fdt| {
        nested_buses(fdt)?;
        node(fdt, "timer", |fdt| {
            fdt.property_string("compatible", "arm,armv8-timer")?;
            fdt.property_string_list("interrupt-names", vec!["phys".into(), "virt".into()])?;
            fdt.property_u32("clock-frequency", 24_000_000)?;
            fdt.property_array_u32("interrupts", &[1, 14, 8, 1, 11, 1])
        })
    });
    let machine = Machine::from_dtb(&dtb).unwrap();
    let timer = machine.timer().unwrap();
    assert_eq!((timer.secure_physical, timer.hypervisor), (None, None));
    assert_eq!(timer.physical.unwrap().intid(), Some(Intid::ppi(14)));
    assert_eq!(timer.virtual_.unwrap().intid(), Some(Intid::ppi(11)));
    assert_eq!(timer.virtual_.unwrap().trigger, Trigger::Edge);
    assert_eq!(timer.clock_frequency, Some(24_000_000));
}

#[test]
fn a_bus_without_ranges_hides_its_devices() {
    let dtb = tree(|fdt| {
        node(fdt, "chosen", |fdt| fdt.property_string("stdout-path", "/i2c/serial"))?;
        node(fdt, "i2c", |fdt| {
            fdt.property_u32("#address-cells", 1)?;
            fdt.property_u32("#size-cells", 0)?;
            node(fdt, "serial@20", |fdt| {
                fdt.property_string("compatible", "arm,pl011")?;
                fdt.property_u32("reg", 0x20)
            })
        })
    });
    assert_eq!(Machine::from_dtb(&dtb).unwrap().console(), None);
}

#[test]
fn too_many_redistributor_regions() {
    let dtb = tree(|fdt| {
        node(fdt, "gic", |fdt| {
            fdt.property_string("compatible", "arm,gic-v3")?;
            fdt.property_u32("#redistributor-regions", 17)
        })
    });
    assert_eq!(Machine::from_dtb(&dtb).unwrap().interrupt_controller(), None);
}

#[test]
fn deep_trees_cost_nothing() {
    let mut fdt = FdtWriter::new().unwrap();
    let nodes: Vec<_> =
        (0..60).map(|depth| fdt.begin_node(if depth == 0 { "" } else { "n" }).unwrap()).collect();
    for node in nodes.into_iter().rev() {
        fdt.end_node(node).unwrap();
    }
    let dtb = fdt.finish().unwrap();
    let machine = Machine::from_dtb(&dtb).unwrap();
    assert_eq!((machine.memory().count(), machine.cores().count()), (0, 0));
    assert!(machine.interrupt_controller().is_none() && machine.console().is_none());
}

#[test]
fn devices_exclude_memory_cores_and_interrupt_controllers() {
    fn with_reg(fdt: &mut FdtWriter, base: u64) -> Result<(), vm_fdt::Error> {
        fdt.property_array_u64("reg", &[base, 0x1000])
    }
    let dtb = tree(|fdt| {
        node(fdt, "memory@0", |fdt| {
            fdt.property_string("device_type", "memory")?;
            with_reg(fdt, 0)
        })?;
        node(fdt, "reserved-memory", |fdt| {
            fdt.property_u32("#address-cells", 2)?;
            fdt.property_u32("#size-cells", 2)?;
            fdt.property_null("ranges")?;
            node(fdt, "firmware@10000", |fdt| with_reg(fdt, 0x1_0000))
        })?;
        node(fdt, "intc@20000", |fdt| {
            fdt.property_null("interrupt-controller")?;
            fdt.property_u32("#address-cells", 2)?;
            fdt.property_u32("#size-cells", 2)?;
            fdt.property_null("ranges")?;
            with_reg(fdt, 0x2_0000)?;
            node(fdt, "its@30000", |fdt| with_reg(fdt, 0x3_0000))
        })?;
        node(fdt, "off@40000", |fdt| {
            fdt.property_string("status", "disabled")?;
            with_reg(fdt, 0x4_0000)
        })?;
        node(fdt, "rtc@50000", |fdt| fdt.property_array_u64("reg", &[0x5_0000, 0x1000, 0x6_0000, 0x10]))
    });
    let mut found = Vec::new();
    Machine::from_dtb(&dtb)
        .unwrap()
        .for_each_device(&mut |name, region| found.push((name.to_owned(), region)));
    let expected = [region(0x5_0000, 0x1000), region(0x6_0000, 0x10)];
    assert_eq!(found, expected.map(|region| ("rtc@50000".to_owned(), region)));
}
