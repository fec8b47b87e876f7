//! The registers of the virtual distributor and redistributors, one by one: what they read after a reset,
//! which bits are read and written, and in which sizes (GICv2: IHI 0048, chapter 4; GICv3: IHI 0069, chapter
//! 12).
use drivers_gic::vgic::{Cpu, Effects, Frame, Irq, Version, Vgic};

struct Nothing;

impl Effects for Nothing {
    fn kick(&mut self, _: u16) {}
    fn enable(&mut self, _: u32, _: bool) {}
    fn ended(&mut self, _: u32) {}
}

const SHARED: usize = 64;

fn with<T>(version: Version, cpus: u64, test: impl FnOnce(&mut Vgic<'_>) -> T) -> T {
    let mut shared = [Irq::RESET; SHARED];
    let mut cpus: Vec<Cpu> = (0..cpus).map(Cpu::new).collect();
    test(&mut Vgic::new(version, &mut shared, &mut cpus))
}

/// A register: its name, offset, size in bytes of the smallest access, value after a reset, and bits that
/// keep what is written. Those that are written to set or to clear something are tested by that.
type Register = (&'static str, u64, u8, u64, u64);

const V2: &[Register] = &[
    ("GICD_CTLR", 0x000, 4, 0, 0b11),
    // Three words of interrupts, and three vCPUs.
    ("GICD_TYPER", 0x004, 4, 2 | 2 << 5, 0),
    ("GICD_IIDR", 0x008, 4, 0x43b, 0),
    ("GICD_IGROUPR0", 0x080, 4, 0, 0),
    ("GICD_IGROUPR2", 0x088, 4, 0, 0),
    ("GICD_IPRIORITYR0", 0x400, 1, 0, 0xf8),
    ("GICD_IPRIORITYR23", 0x45f, 1, 0, 0xf8),
    ("beyond IPRIORITYR23", 0x460, 1, 0, 0),
    ("GICD_ITARGETSR0", 0x800, 1, 0b001, 0),
    ("GICD_ITARGETSR8", 0x820, 1, 0b001, 0b111),
    ("GICD_ITARGETSR23", 0x85f, 1, 0b001, 0b111),
    ("beyond ITARGETSR23", 0x860, 1, 0, 0),
    ("GICD_ICFGR0", 0xc00, 4, 0xaaaa_aaaa, 0),
    ("GICD_ICFGR1", 0xc04, 4, 0, 0xaaaa_aaaa),
    ("GICD_ICFGR5", 0xc14, 4, 0, 0xaaaa_aaaa),
    ("beyond ICFGR5", 0xc18, 4, 0, 0),
    ("GICD_NSACR", 0xe00, 4, 0, 0),
    ("GICD_SGIR", 0xf00, 4, 0, 0),
    ("GICD_PIDR2", 0xfe8, 4, 0x2b, 0),
    ("reserved", 0x00c, 4, 0, 0),
];

const V3: &[Register] = &[
    ("GICD_CTLR", 0x000, 4, 0x50, 0b11),
    ("GICD_TYPER", 0x004, 4, 2 | 9 << 19, 0),
    ("GICD_IIDR", 0x008, 4, 0x43b, 0),
    ("GICD_TYPER2", 0x00c, 4, 0, 0),
    ("GICD_STATUSR", 0x010, 4, 0, 0),
    ("GICD_SETSPI_NSR", 0x040, 4, 0, 0),
    ("GICD_IGROUPR0", 0x080, 4, 0, 0),
    ("GICD_IGROUPR1", 0x084, 4, 0xffff_ffff, 0),
    ("GICD_ISENABLER0", 0x100, 4, 0, 0),
    ("GICD_IPRIORITYR0", 0x400, 1, 0, 0),
    ("GICD_IPRIORITYR8", 0x420, 1, 0, 0xf8),
    ("GICD_IPRIORITYR23", 0x45f, 1, 0, 0xf8),
    ("beyond IPRIORITYR23", 0x460, 1, 0, 0),
    ("GICD_ITARGETSR8", 0x820, 4, 0, 0),
    ("GICD_ICFGR0", 0xc00, 4, 0, 0),
    ("GICD_ICFGR2", 0xc08, 4, 0, 0xaaaa_aaaa),
    ("beyond ICFGR5", 0xc18, 4, 0, 0),
    ("GICD_IGRPMODR1", 0xd04, 4, 0, 0),
    ("GICD_SGIR", 0xf00, 4, 0, 0),
    ("before GICD_IROUTER32", 0x60f8, 4, 0, 0),
    ("GICD_IROUTER32, low", 0x6100, 4, 0, 0x80ff_ffff),
    // There is no Aff3: GICD_TYPER.A3V is 0.
    ("GICD_IROUTER32, high", 0x6104, 4, 0, 0),
    ("GICD_IROUTER95", 0x62f8, 8, 0, 0x80ff_ffff),
    ("beyond GICD_IROUTER95", 0x6300, 8, 0, 0),
    ("GICD_PIDR2", 0xffe8, 4, 0x3b, 0),
];

const REDISTRIBUTOR: &[Register] = &[
    ("GICR_CTLR", 0x000, 4, 0, 0),
    ("GICR_IIDR", 0x004, 4, 0x43b, 0),
    ("GICR_TYPER", 0x008, 8, 0, 0),
    ("GICR_STATUSR", 0x010, 4, 0, 0),
    ("GICR_PROPBASER", 0x070, 4, 0, 0),
    ("GICR_PIDR2", 0xffe8, 4, 0x3b, 0),
    ("GICR_IGROUPR0", 0x1_0080, 4, 0xffff_ffff, 0),
    ("beyond GICR_IGROUPR0", 0x1_0084, 4, 0, 0),
    ("GICR_IPRIORITYR0", 0x1_0400, 1, 0, 0xf8),
    ("GICR_IPRIORITYR7", 0x1_041f, 1, 0, 0xf8),
    ("beyond GICR_IPRIORITYR7", 0x1_0420, 1, 0, 0),
    ("GICR_ICFGR0", 0x1_0c00, 4, 0xaaaa_aaaa, 0),
    ("GICR_ICFGR1", 0x1_0c04, 4, 0, 0xaaaa_aaaa),
    ("GICR_IGRPMODR0", 0x1_0d00, 4, 0, 0),
];

fn bits(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

#[test]
fn every_register_has_its_reset_value_and_keeps_its_bits() {
    for (version, frame, table) in [
        (Version::V2, Frame::Distributor, V2),
        (Version::V3, Frame::Distributor, V3),
        (Version::V3, Frame::Redistributor(0), REDISTRIBUTOR),
    ] {
        for &(name, offset, size, reset, kept) in table {
            for pattern in [u64::MAX, 0, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
                with(version, 3, |vgic| {
                    assert_eq!(vgic.read(0, frame, offset, size), reset, "{name} after a reset");
                    vgic.write(0, frame, offset, size, pattern & bits(size), &mut Nothing);
                    let expected = reset & !kept | pattern & kept;
                    assert_eq!(vgic.read(0, frame, offset, size), expected, "{name} after {pattern:#x}");
                    vgic.reset();
                    assert_eq!(vgic.read(0, frame, offset, size), reset, "{name} after another reset");
                });
            }
        }
    }
}

/// Pairs of arrays of a bit each: one to set, one to clear. The bits that can be set of the first word, which
/// is about SGIs and PPIs, and of others.
const PAIRS: &[(&str, u64, u64, u64, u64)] = &[
    ("enable", 0x100, 0x180, 0xffff_ffff, 0xffff_ffff),
    // Of GICv2's SGIs only senders make one pending.
    ("pending", 0x200, 0x280, 0xffff_0000, 0xffff_ffff),
    ("active", 0x300, 0x380, 0xffff_ffff, 0xffff_ffff),
];

#[test]
fn what_is_set_in_one_register_is_cleared_in_another() {
    for version in [Version::V2, Version::V3] {
        for &(name, set, clear, first, others) in PAIRS {
            with(version, 2, |vgic| {
                for word in 0..4 {
                    let (frame, base) = match version {
                        Version::V3 if word == 0 => (Frame::Redistributor(1), 0x1_0000),
                        _ => (Frame::Distributor, 4 * word),
                    };
                    let there = match word {
                        0 if version == Version::V2 => first,
                        0..3 => others,
                        _ => 0,
                    };
                    let both =
                        |vgic: &mut Vgic<'_>| [set, clear].map(|array| vgic.read(1, frame, base + array, 4));
                    vgic.write(1, frame, base + set, 4, 0xffff_ffff, &mut Nothing);
                    assert_eq!(both(vgic), [there; 2], "{name}, word {word}");
                    vgic.write(1, frame, base + set, 4, 0, &mut Nothing);
                    vgic.write(1, frame, base + clear, 4, 0x8001_8001, &mut Nothing);
                    assert_eq!(both(vgic), [there & !0x8001_8001; 2], "{name}, word {word}");
                }
            });
        }
    }
}

#[test]
fn registers_have_the_sizes_of_the_documents() {
    // An offset, and whether it has accesses of 1, 2 and 8 bytes.
    let v2 = [
        (0x000, [false, false, false]),
        (0x004, [false, false, false]),
        (0x400, [true, false, false]),
        (0x820, [true, false, false]),
        (0xc00, [false, false, false]),
        (0xf20, [true, false, false]),
    ];
    let v3 = [
        (0x000, [false, false, false]),
        (0x420, [true, false, false]),
        (0x084, [false, false, false]),
        (0x6100, [false, false, true]),
    ];
    for (version, table) in [(Version::V2, &v2[..]), (Version::V3, &v3[..])] {
        for &(offset, sizes) in table {
            for (size, there) in [1, 2, 8].into_iter().zip(sizes) {
                with(version, 3, |vgic| {
                    let word = offset & !3;
                    // SGI 3 has a sender, vCPU 1.
                    for base in [word, word + 4] {
                        vgic.write(0, Frame::Distributor, base, 4, 0x0202_0202, &mut Nothing);
                    }
                    let whole = vgic.read(0, Frame::Distributor, word, 4);
                    let read = vgic.read(0, Frame::Distributor, offset, size);
                    let expected = if there { whole & bits(size) } else { 0 };
                    assert_eq!(read & bits(size.min(4)), expected, "{offset:#x}, {size} bytes, read");
                    vgic.write(0, Frame::Distributor, offset, size, 0x14, &mut Nothing);
                    let now = vgic.read(0, Frame::Distributor, word, 4);
                    assert!(there || now == whole, "{offset:#x}, {size} bytes, written: {now:#x}");
                    assert!(!there || now != whole, "{offset:#x}, {size} bytes, written");
                });
            }
        }
    }
}

#[test]
fn a_gicv2_for_one_cpu_has_no_targets() {
    with(Version::V2, 1, |vgic| {
        assert_eq!(vgic.read(0, Frame::Distributor, 0x004, 4), 2, "one CPU");
        for word in [0x800, 0x820, 0x85c] {
            assert_eq!(vgic.read(0, Frame::Distributor, word, 4), 0);
            // As Linux does: what it has read it writes back.
            vgic.write(0, Frame::Distributor, word, 4, 0, &mut Nothing);
            assert_eq!(vgic.read(0, Frame::Distributor, word, 4), 0);
            vgic.write(0, Frame::Distributor, word, 4, 0xffff_ffff, &mut Nothing);
            assert_eq!(vgic.read(0, Frame::Distributor, word, 4), 0);
        }
        assert_eq!(vgic.target(32), Some(0), "each interrupt is for that one");
        vgic.write(0, Frame::Distributor, 0, 4, 1, &mut Nothing);
        vgic.write(0, Frame::Distributor, 0x104, 4, 1, &mut Nothing);
        vgic.pulse(0, 32, &mut Nothing);
        assert!(vgic.has_ready(0));
    });
}

#[test]
fn a_gicv2_tells_each_cpu_its_own_number() {
    with(Version::V2, 8, |vgic| {
        for cpu in 0..8 {
            let own = u64::from(u32::from_ne_bytes([1 << cpu; 4]));
            assert_eq!(vgic.read(cpu, Frame::Distributor, 0x800, 4), own);
            assert_eq!(vgic.read(cpu, Frame::Distributor, 0x81c, 4), own);
        }
    });
}

#[test]
fn targets_and_routes_read_as_they_were_written() {
    with(Version::V2, 3, |vgic| {
        vgic.write(0, Frame::Distributor, 0x820, 4, 0xff00_0605, &mut Nothing);
        assert_eq!(vgic.read(0, Frame::Distributor, 0x820, 4), 0x0700_0605);
        // The first of those that are named; nobody.
        let targets = [32, 33, 34, 35].map(|intid| vgic.target(intid));
        assert_eq!(targets, [Some(0), Some(1), None, Some(0)]);
    });
    with(Version::V3, 3, |vgic| {
        let router = 0x6000 + 8 * 40;
        // Nobody has it; any; vCPU 2.
        for (route, target) in [(0x12_3456, None), (1 << 31, Some(0)), (2, Some(2))] {
            vgic.write(0, Frame::Distributor, router, 8, route, &mut Nothing);
            assert_eq!((vgic.read(0, Frame::Distributor, router, 8), vgic.target(40)), (route, target));
        }
        assert_eq!(vgic.read(0, Frame::Distributor, 4, 4) >> 25 & 1, 0, "No1N: one of N is there");
    });
}

#[test]
fn a_fourth_affinity_field_is_routed_by_if_there_is_one() {
    let mut shared = [Irq::RESET; SHARED];
    let mut cpus = [Cpu::new(0), Cpu::new(0x1_0000_0102)];
    let mut vgic = Vgic::new(Version::V3, &mut shared, &mut cpus);
    assert_eq!(vgic.read(0, Frame::Distributor, 4, 4) >> 24 & 1, 1, "A3V");
    vgic.write(0, Frame::Distributor, 0x6100, 4, 0x102, &mut Nothing);
    assert_eq!(vgic.target(32), None);
    vgic.write(0, Frame::Distributor, 0x6104, 4, 1, &mut Nothing);
    assert_eq!(vgic.target(32), Some(1));
    assert_eq!(vgic.read(0, Frame::Distributor, 0x6100, 8), 0x1_0000_0102);
}

#[test]
fn all_lines_of_the_largest_distributor_are_there() {
    let mut shared = [Irq::RESET; 988];
    let mut cpus = [Cpu::new(0), Cpu::new(1)];
    for version in [Version::V2, Version::V3] {
        let mut vgic = Vgic::new(version, &mut shared, &mut cpus);
        // 1020 interrupts: the last word has 28 of them.
        assert_eq!(vgic.read(0, Frame::Distributor, 4, 4) & 0x1f, 31);
        vgic.write(0, Frame::Distributor, 0x17c, 4, 0xffff_ffff, &mut Nothing);
        assert_eq!(vgic.read(0, Frame::Distributor, 0x17c, 4), 0x0fff_ffff);
    }
}

#[test]
fn the_line_of_a_device_is_shown_while_it_is_disabled() {
    with(Version::V3, 1, |vgic| {
        vgic.assign(40);
        vgic.assign(70);
        assert_eq!(vgic.quiet_devices(Frame::Distributor, 0x204), (32, 1 << 8));
        assert_eq!(vgic.quiet_devices(Frame::Distributor, 0x288), (64, 1 << 6));
        for (frame, offset) in [
            (Frame::Distributor, 0x200),
            (Frame::Distributor, 0x104),
            (Frame::Distributor, 0x304),
            (Frame::Redistributor(0), 0x1_0204),
        ] {
            assert_eq!(vgic.quiet_devices(frame, offset).1, 0);
        }
        vgic.set_level(0, 40, true, &mut Nothing);
        assert_eq!(vgic.quiet_devices(Frame::Distributor, 0x204).1, 0, "it has arrived");
        assert_eq!(vgic.read(0, Frame::Distributor, 0x204, 4), 1 << 8);
    });
}

#[test]
fn shared_interrupts_of_a_vcpu_that_is_off_go_to_another() {
    for version in [Version::V2, Version::V3] {
        with(version, 3, |vgic| {
            let route = |vgic: &mut Vgic<'_>, cpu: u64| match version {
                Version::V2 => vgic.write(0, Frame::Distributor, 0x828, 1, 1 << cpu, &mut Nothing),
                Version::V3 => vgic.write(0, Frame::Distributor, 0x6140, 8, cpu, &mut Nothing),
            };
            route(vgic, 1);
            assert_eq!(vgic.target(40), Some(1));
            vgic.set_on(1, false, &mut Nothing);
            assert_eq!(vgic.target(40), Some(0));
            vgic.set_on(0, false, &mut Nothing);
            assert_eq!(vgic.target(40), Some(2));
            vgic.set_on(1, true, &mut Nothing);
            assert_eq!(vgic.target(40), Some(1), "its route says so still");
            route(vgic, 0);
            assert_eq!(vgic.target(40), Some(1), "0 is off");
            vgic.reset();
            assert_eq!(vgic.target(40), Some(0));
        });
    }
}
