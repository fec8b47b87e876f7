//! What is read from the trees of real machines, against what their manuals say.
use machine::{
    Conduit, ConsoleKind, EnableMethod, InterruptControllerInfo, Intid, Line, Machine, PsciVersion, Region,
    Trigger,
};

const VIRT_GICV2: &[u8] = include_bytes!("../fixtures/virt-gicv2.dtb");
const VIRT_GICV3: &[u8] = include_bytes!("../fixtures/virt-gicv3.dtb");
const RASPBERRY_PI_3: &[u8] = include_bytes!("../fixtures/bcm2837-rpi-3-b.dtb");
const RASPBERRY_PI_4: &[u8] = include_bytes!("../fixtures/bcm2711-rpi-4-b.dtb");
const PINE_A64_LTS: &[u8] = include_bytes!("../fixtures/sun50i-a64-pine64-lts.dtb");

fn region(base: u64, size: u64) -> Region {
    Region::new(base, size).unwrap()
}

/// The interrupts of the timer as GIC numbers: secure, physical, virtual, hypervisor.
fn timer_intids(machine: &Machine) -> [Option<Intid>; 4] {
    let timer = machine.timer().unwrap();
    [timer.secure_physical, timer.physical, timer.virtual_, timer.hypervisor]
        .map(|interrupt| interrupt.and_then(|interrupt| interrupt.intid()))
}

const STANDARD_TIMER: [Option<Intid>; 4] =
    [Some(Intid::ppi(13)), Some(Intid::ppi(14)), Some(Intid::ppi(11)), Some(Intid::ppi(10))];

#[test]
fn virt_with_gicv3() {
    let machine = Machine::from_dtb(VIRT_GICV3).unwrap();
    assert_eq!(machine.model(), Some("linux,dummy-virt"));
    assert_eq!(machine.memory().collect::<Vec<_>>(), [region(0x4000_0000, 0x4000_0000)]);
    assert_eq!(machine.reserved().count(), 0);
    let cores: Vec<_> = machine.cores().collect();
    assert_eq!(cores.iter().map(|core| core.mpidr.raw()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(cores.iter().all(|core| core.enabled && core.enable_method == EnableMethod::Psci));
    let psci = machine.psci().unwrap();
    assert_eq!((psci.conduit, psci.version), (Conduit::Smc, PsciVersion::V1_0));
    let Some(InterruptControllerInfo::GicV3(gic)) = machine.interrupt_controller() else { panic!("a GICv3") };
    assert_eq!(gic.gicd, region(0x0800_0000, 0x1_0000));
    assert_eq!(gic.redistributors().len(), 1);
    assert_eq!((gic.redistributors()[0].base, gic.redistributors()[0].size), (0x080a_0000, 0xf6_0000));
    assert_eq!(gic.redistributors()[0].stride, None);
    assert_eq!((gic.gicc, gic.gich, gic.gicv), (None, None, None));
    assert_eq!(machine.gic_maintenance().unwrap().intid(), Some(Intid::ppi(9)));
    assert_eq!(timer_intids(&machine), STANDARD_TIMER);
    assert!(!machine.timer().unwrap().allwinner_erratum);
    let console = machine.console().unwrap();
    assert_eq!(console.kind, ConsoleKind::Pl011);
    assert_eq!(console.region, region(0x0900_0000, 0x1000));
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().intid(), Some(Intid::spi(1)));
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().trigger, Trigger::Level);
    assert_eq!(
        (machine.console_settings().unwrap().clock_hz, machine.console_settings().unwrap().baud),
        (Some(24_000_000), None)
    );
    assert_eq!((machine.bootargs(), machine.initrd()), (None, None));
}

#[test]
fn virt_with_gicv2_and_eight_cores() {
    let machine = Machine::from_dtb(VIRT_GICV2).unwrap();
    assert_eq!(machine.enabled_core_count(), 8);
    let Some(InterruptControllerInfo::GicV2(gic)) = machine.interrupt_controller() else { panic!("a GICv2") };
    assert_eq!(gic.gicd, region(0x0800_0000, 0x1_0000));
    assert_eq!(gic.gicc, region(0x0801_0000, 0x1_0000));
    assert_eq!(gic.gich, Some(region(0x0803_0000, 0x1_0000)));
    assert_eq!(gic.gicv, Some(region(0x0804_0000, 0x1_0000)));
    assert_eq!(machine.gic_maintenance().unwrap().intid(), Some(Intid::ppi(9)));
    assert_eq!(timer_intids(&machine), STANDARD_TIMER);
}

#[test]
fn raspberry_pi_3() {
    let machine = Machine::from_dtb(RASPBERRY_PI_3).unwrap();
    assert!(machine.compatible().any(|name| name == "brcm,bcm2837"));
    assert_eq!(machine.memory().collect::<Vec<_>>(), [region(0, 0x4000_0000)]);
    // The spin table's page.
    assert_eq!(machine.reserved().map(|reserved| reserved.region).collect::<Vec<_>>(), [region(0, 0x1000)]);
    let release: Vec<_> = machine.cores().map(|core| core.enable_method).collect();
    assert_eq!(
        release,
        [0xd8, 0xe0, 0xe8, 0xf0].map(|release_addr| EnableMethod::SpinTable { release_addr })
    );
    assert_eq!(machine.psci(), None);
    let Some(InterruptControllerInfo::Bcm2836(controller)) = machine.interrupt_controller() else {
        panic!("the local controller")
    };
    assert_eq!(controller.local, region(0x4000_0000, 0x100));
    // At 0x7e00_b200 on the peripheral bus.
    assert_eq!(controller.legacy, Some(region(0x3f00_b200, 0x200)));
    // ARM local peripherals (QA7), 4.10: CNTPS, CNTPNS, CNTHP, CNTV are bits 0 to 3 of a core's interrupt
    // source.
    let timer = machine.timer().unwrap();
    assert_eq!(
        [timer.secure_physical, timer.physical, timer.hypervisor, timer.virtual_].map(|i| i.unwrap().line),
        [0, 1, 2, 3].map(Line::Bcm2836Local)
    );
    let console = machine.console().unwrap();
    assert_eq!(console.kind, ConsoleKind::BcmMiniUart);
    assert_eq!(console.region, region(0x3f21_5040, 0x40));
    assert_eq!(
        machine.console_settings().unwrap().interrupt.unwrap().line,
        Line::Bcm2835 { bank: 1, bit: 29 }
    );
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().number(), 32 + 32 + 29);
    assert_eq!(timer.virtual_.unwrap().number(), 3);
    assert_eq!(machine.device("brcm,bcm2835-pm-wdt"), Some(region(0x3f10_0000, 0x114)));
    assert_eq!(machine.device("brcm,no-such"), None);
    assert_eq!(machine.console_settings().unwrap().baud, Some(115_200));
}

#[test]
fn raspberry_pi_4() {
    let machine = Machine::from_dtb(RASPBERRY_PI_4).unwrap();
    assert_eq!(machine.memory().count(), 0, "firmware fills it in");
    assert_eq!(machine.enabled_core_count(), 4);
    // It has BCM2836's local controller too, but the cores listen to the GIC-400.
    let Some(InterruptControllerInfo::GicV2(gic)) = machine.interrupt_controller() else { panic!("a GICv2") };
    assert_eq!(gic.gicd, region(0xff84_1000, 0x1000));
    assert_eq!(gic.gicc, region(0xff84_2000, 0x2000));
    assert_eq!(timer_intids(&machine), STANDARD_TIMER);
    let console = machine.console().unwrap();
    assert_eq!((console.kind, console.region), (ConsoleKind::BcmMiniUart, region(0xfe21_5040, 0x40)));
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().intid(), Some(Intid::spi(93)));
}

#[test]
fn pine_a64_lts() {
    let machine = Machine::from_dtb(PINE_A64_LTS).unwrap();
    assert_eq!(machine.compatible().next(), Some("pine64,pine64-lts"));
    assert_eq!(machine.enabled_core_count(), 4);
    let psci = machine.psci().unwrap();
    assert_eq!((psci.conduit, psci.version), (Conduit::Smc, PsciVersion::V0_2));
    let Some(InterruptControllerInfo::GicV2(gic)) = machine.interrupt_controller() else { panic!("a GICv2") };
    assert_eq!(gic.gicd, region(0x01c8_1000, 0x1000));
    assert_eq!(gic.gich, Some(region(0x01c8_4000, 0x2000)));
    assert_eq!(timer_intids(&machine), STANDARD_TIMER);
    assert!(machine.timer().unwrap().allwinner_erratum);
    let console = machine.console().unwrap();
    assert_eq!(console.kind, ConsoleKind::Uart16550 { reg_shift: 2, io_width: 4 });
    assert_eq!(console.region, region(0x01c2_8000, 0x400));
    assert_eq!(machine.console_settings().unwrap().interrupt.unwrap().intid(), Some(Intid::spi(0)));
}
