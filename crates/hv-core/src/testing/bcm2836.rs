//! VMs with controllers of BCM2836, on a machine that has some: traps, physical interrupts and switches together.

use super::*;
use crate::{
    arch,
    bcm2836::{Bcm2836, Place},
    board::host::Controller,
    interrupt, trap,
};
use drivers_bcm2836::model::{Block, Model};
use hv_abi::paravirt;
use proptest::prelude::*;

const PLACE: Place = Place { local: 0x0800_0000, legacy: 0x0801_0200 };
/// Interrupts of the machine: the timers, and a device of bank 2, bit 25.
const VIRTUAL_TIMER: u32 = 3;
const PHYSICAL_TIMER: u32 = 1;
const SERIAL: u32 = 32 + 64 + 25;
/// Registers.
const SOURCE: u64 = PLACE.local + 0x60;
const TIMER_CONTROL: u64 = PLACE.local + 0x40;
const MAILBOX_CONTROL: u64 = PLACE.local + 0x50;
const MAILBOX_SET: u64 = PLACE.local + 0x80;
const MAILBOX_CLEAR: u64 = PLACE.local + 0xc0;
const BASIC: u64 = PLACE.legacy;
const PENDING: [u64; 2] = [PLACE.legacy + 4, PLACE.legacy + 8];
const ENABLE: [u64; 2] = [PLACE.legacy + 0x10, PLACE.legacy + 0x14];
const DISABLE: [u64; 2] = [PLACE.legacy + 0x1c, PLACE.legacy + 0x20];
/// The timer has fired; it has been rearmed.
const FIRED: (u64, u64) = (0b101, 0);
const ARMED: (u64, u64) = (0b001, u64::MAX);

/// VM 2 has the controllers and all devices, and its first vCPU runs.
fn node() -> Node {
    interrupt::TIMERS.set(VIRTUAL_TIMER, PHYSICAL_TIMER);
    Controller::change(|controller| {
        *controller =
            Controller { enabled: 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER, ..Controller::default() };
    });
    arch::TIMER.set((0, 0));
    let with = |vm: &mut Vm| {
        if vm.id == VmId(2) {
            vm.bcm2836 = Some(Box::new(Bcm2836::new(PLACE)));
        }
    };
    let routes = Routes::new();
    (32..1020).for_each(|intid| routes.fix(intid, VmId(2)));
    let node = Node::with(with, routes);
    for vcpu in &node.vm(2).vcpus {
        node.start(vcpu);
    }
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    node
}

impl Node {
    /// As `CPU_ON` does.
    fn start(&self, vcpu: &'static Vcpu) {
        let from = vcpu.state();
        let mut claimed = vcpu.claim(from, self.core).unwrap();
        claimed.reset(0x4000_0000, 0);
        claimed.release(VcpuState::Ready);
    }

    /// An access of the loaded vCPU. Returns what is read, or an exit to the primary.
    fn access(vcpu: &'static Vcpu, address: u64, bytes: u32, write: Option<u64>) -> Result<u64, Outcome> {
        arch::FAULT.set(address);
        let size = u64::from(bytes.trailing_zeros());
        // A data abort by a load or store of x2: a translation fault at level 3.
        let esr = 0x24 << 26 | 1 << 25 | 1 << 24 | size << 22 | 2 << 16 | 0b00_0111;
        // SAFETY: the test loads one vCPU at a time on its one core.
        let mut loaded = unsafe { Loaded::assume(vcpu) };
        loaded.regs().x[2] = write.unwrap_or(0xdead);
        let next = trap::handle(loaded, esr | u64::from(write.is_some()) << 6);
        match Self::settle(vcpu, next, false) {
            Outcome::Returned(regs) => Ok(regs.0[2]),
            other => Err(other),
        }
    }

    /// Takes the physical interrupts that come to the core, until none does. Returns how many there were.
    fn interrupts(vcpu: &'static Vcpu) -> usize {
        for taken in 0..200 {
            let now = Controller::now();
            if now.enabled & now.asserted == 0 {
                return taken;
            }
            // SAFETY: as above.
            let next = interrupt::handle(unsafe { Loaded::assume(vcpu) });
            assert!(core::ptr::eq(next, vcpu), "the primary has nothing to do with it");
        }
        panic!("a storm");
    }
}

fn read(vcpu: &'static Vcpu, address: u64) -> u64 {
    Node::access(vcpu, address, 4, None).unwrap()
}

fn write(vcpu: &'static Vcpu, address: u64, value: u32) {
    Node::access(vcpu, address, 4, Some(value.into())).unwrap();
}

/// Sets the virtual timer's registers, and with them its interrupt.
fn timer(state: (u64, u64)) {
    arch::TIMER.set(state);
    let asserts = state.0 & 0b111 == 0b101;
    assert_line(VIRTUAL_TIMER, asserts);
}

fn assert_line(intid: u32, level: bool) {
    Controller::change(|controller| {
        controller.asserted &= !(1 << intid);
        controller.asserted |= u128::from(level) << intid;
    });
}

fn is_unmasked(intid: u32) -> bool {
    Controller::now().enabled >> intid & 1 != 0
}

#[test]
fn a_timer_is_a_level_that_falls_when_the_vm_rearms_it() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    write(vcpu, TIMER_CONTROL, 1 << 3);
    for _ in 0..3 {
        timer(FIRED);
        assert_eq!(Node::interrupts(vcpu), 1, "masked while it is asserted");
        assert!(arch::LINE.get());
        assert_eq!(arch::TIMER.get(), FIRED, "the VM's registers are its own");
        assert_eq!(read(vcpu, SOURCE), 1 << 3);
        assert!(arch::LINE.get());
        timer(ARMED);
        assert!(!is_unmasked(VIRTUAL_TIMER), "nobody has seen that yet");
        assert_eq!(read(vcpu, SOURCE), 0);
        assert!(!arch::LINE.get() && is_unmasked(VIRTUAL_TIMER));
    }
}

#[test]
fn a_timer_that_is_switched_off_in_the_controllers_does_not_interrupt() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    timer(FIRED);
    assert_eq!(Node::interrupts(vcpu), 1);
    assert!(!arch::LINE.get());
    assert_eq!(read(vcpu, SOURCE), 0);
    write(vcpu, TIMER_CONTROL, 1 << 3);
    assert!(arch::LINE.get());
}

#[test]
fn another_vm_has_the_timer_of_its_core_as_it_was() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    write(vcpu, TIMER_CONTROL, 1 << 3);
    timer(FIRED);
    Node::interrupts(vcpu);
    assert!(!is_unmasked(VIRTUAL_TIMER));
    let yielded = Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None });
    assert_eq!(Node::call(vcpu, &[ffa::YIELD.into()]), yielded);
    assert!(is_unmasked(VIRTUAL_TIMER));
    timer((0, 0));
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    assert!(!arch::LINE.get());
    assert_eq!(
        Node::call(node.vcpu(3, 0), &[ffa::YIELD.into()]),
        Outcome::Exited(id(3, 0), Exit::Yield { timeout_ns: None })
    );
    // When the first is back, so is its timer.
    timer(FIRED);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert!(arch::LINE.get() && !is_unmasked(VIRTUAL_TIMER));
}

#[test]
fn a_device_is_masked_until_it_is_seen_to_be_quiet() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    write(vcpu, ENABLE[1], 1 << 25);
    assert!(is_unmasked(SERIAL));
    assert_line(SERIAL, true);
    assert_eq!(Node::interrupts(vcpu), 1, "no storm, whatever the VM does not do");
    assert!(arch::LINE.get());
    // The shortcut of bank 2, bit 25, is bit 19 of the basic register.
    let seen = |vcpu| [SOURCE, BASIC, PENDING[0], PENDING[1]].map(|register| read(vcpu, register));
    for _ in 0..2 {
        assert_eq!(seen(vcpu), [1 << 8, 1 << 19, 0, 1 << 25]);
        assert!(!is_unmasked(SERIAL));
    }
    // As a handler does: mask it, quiet the device, unmask it, look for more.
    write(vcpu, DISABLE[1], 1 << 25);
    assert_eq!((arch::LINE.get(), seen(vcpu)), (false, [0; 4]));
    assert_line(SERIAL, false);
    write(vcpu, ENABLE[1], 1 << 25);
    assert_eq!((seen(vcpu), arch::LINE.get()), ([0; 4], false));
    assert!(is_unmasked(SERIAL), "it can come again");
    assert_line(SERIAL, true);
    assert_eq!(Node::interrupts(vcpu), 1);
    assert_eq!(seen(vcpu), [1 << 8, 1 << 19, 0, 1 << 25]);
    // Or: quiet the device, and look for more.
    assert_line(SERIAL, false);
    assert_eq!((seen(vcpu), arch::LINE.get()), ([0; 4], false));
    assert!(is_unmasked(SERIAL));
}

#[test]
fn a_device_that_the_vm_does_not_have_stays_masked() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    node.system.routes.fix(SERIAL, VmId(3));
    write(vcpu, ENABLE[1], u32::MAX);
    assert!(!is_unmasked(SERIAL));
    assert_line(SERIAL, true);
    assert_eq!(Node::interrupts(vcpu), 0);
    assert_eq!(read(vcpu, PENDING[1]), 0);
}

#[test]
fn devices_interrupt_the_vcpu_that_they_are_sent_to() {
    let node = node();
    let (first, second) = (node.vcpu(2, 0), node.vcpu(2, 1));
    write(first, PLACE.local + 0xc, 1);
    write(first, ENABLE[1], 1 << 25);
    let yielded =
        |outcome, index| assert_eq!(outcome, Outcome::Exited(id(2, index), Exit::Yield { timeout_ns: None }));
    yielded(Node::call(first, &[ffa::YIELD.into()]), 0);
    assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
    assert_line(SERIAL, true);
    assert_eq!(Node::interrupts(second), 1);
    assert!(arch::LINE.get());
    yielded(Node::call(second, &[ffa::YIELD.into()]), 1);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert!(!arch::LINE.get());
    assert_eq!(read(first, SOURCE), 0);
}

#[test]
fn a_mailbox_wakes_the_vcpu_that_it_is_of() {
    let node = node();
    let (first, second) = (node.vcpu(2, 0), node.vcpu(2, 1));
    write(first, MAILBOX_CONTROL + 4, 1);
    // It waits.
    let yielded = Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None });
    assert_eq!(Node::call(first, &[ffa::YIELD.into()]), yielded);
    assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
    let waits = Outcome::Exited(id(2, 1), Exit::WaitForInterrupt { timeout_ns: None });
    assert_eq!(Node::call(second, &[psci::CPU_SUSPEND_64.into()]), waits);
    assert_eq!(node.run(2, 1), waits, "nothing has come");
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    node.core.primary().irqs.enable(paravirt::DEVICE_WAITS, true);
    let told = Node::access(first, MAILBOX_SET + 0x10, 4, Some(1 << 5));
    assert_eq!(told, Err(Outcome::Exited(id(2, 0), Exit::Interrupt)), "the primary is to run it");
    assert!(node.core.primary().irqs.is_pending(paravirt::DEVICE_WAITS));
    assert!(second.irqs.is_pending(paravirt::DEVICE), "and is told whom");
    node.core.primary().irqs.take();
    assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
    assert!(arch::LINE.get());
    assert_eq!((read(second, SOURCE + 4), read(second, MAILBOX_CLEAR + 0x10)), (1 << 4, 1 << 5));
    write(second, MAILBOX_CLEAR + 0x10, 1 << 5);
    assert!(!arch::LINE.get());
    // It runs, on another core.
    assert_eq!(
        Node::call(second, &[ffa::YIELD.into()]),
        Outcome::Exited(id(2, 1), Exit::Yield { timeout_ns: None })
    );
    let claimed = second.claim(VcpuState::Ready, &node.system.cores[1]).unwrap();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    Controller::change(|controller| controller.kicked = 0);
    write(first, MAILBOX_SET + 0x10, 1);
    assert_eq!(Controller::now().kicked, 1 << 1);
    assert!(second.irqs.is_pending(crate::gic::LOOK), "it may be going to sleep at this moment");
    claimed.release(VcpuState::Ready);
}

#[test]
fn a_vm_that_starts_again_has_controllers_as_new() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    write(vcpu, TIMER_CONTROL, 1 << 3);
    write(vcpu, ENABLE[1], 1 << 25);
    assert_line(SERIAL, true);
    Node::interrupts(vcpu);
    node.system.routes.forget(vcpu.vm());
    vcpu.vm().renew();
    timer(FIRED);
    Node::interrupts(vcpu);
    assert_eq!((read(vcpu, TIMER_CONTROL), read(vcpu, SOURCE), read(vcpu, ENABLE[1])), (0, 0, 0));
}

#[test]
fn what_is_not_there_is_not_emulated() {
    let node = node();
    let vcpu = node.vcpu(2, 0);
    // Behind either block.
    for address in [PLACE.local + 0x100, PLACE.legacy + 0x200, PLACE.local - 4] {
        // As from a bus on which nobody answers: the register is not written.
        let aborts = vcpu.statistics.external_aborts();
        assert_eq!(Node::access(vcpu, address, 4, None), Ok(0xdead), "{address:#x}");
        assert_eq!(vcpu.statistics.external_aborts(), aborts + 1);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Read { legacy: bool, offset: u64, bytes: u32 },
    Write { legacy: bool, offset: u64, bytes: u32, value: u32 },
    Enable { bank: usize, bits: u32, enable: bool },
    Device { number: u32, level: bool },
    Timer(bool),
    Switch,
}

fn action() -> impl Strategy<Value = Action> {
    let place = || (any::<bool>(), 0..0x110_u64, 0..4_u32);
    prop_oneof![
        1 => place().prop_map(|(legacy, offset, size)| Action::Read { legacy, offset, bytes: 1 << size }),
        1 => (place(), any::<u32>()).prop_map(|((legacy, offset, size), value)| {
            // The route stays, so that it is known who is interrupted.
            let offset = if offset & 0xfc == 0xc { 0x10 } else { offset };
            Action::Write { legacy, offset, bytes: 1 << size, value }
        }),
        3 => (0..2_usize, any::<u32>(), any::<bool>())
            .prop_map(|(bank, bits, enable)| Action::Enable { bank, bits, enable }),
        5 => (64..128_u32, any::<bool>()).prop_map(|(number, level)| Action::Device { number, level }),
        2 => any::<bool>().prop_map(Action::Timer),
        1 => Just(Action::Switch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the VM and its devices do: its line is high when something is asserted that it has enabled, and what it reads is just
    /// that; and each look of the VM costs at most one interrupt of each device.
    #[test]
    fn a_vm_sees_what_is_asserted(actions in prop::collection::vec(action(), 1..60)) {
        let node = node();
        let vcpu = node.vcpu(2, 0);
        for action in actions {
            match action {
                Action::Read { legacy, offset, bytes } => {
                    let base = if legacy { PLACE.legacy } else { PLACE.local };
                    let offset = if legacy { offset } else { offset % 0x100 };
                    prop_assert!(Node::access(vcpu, base + offset, bytes, None).is_ok());
                }
                Action::Write { legacy, offset, bytes, value } => {
                    let base = if legacy { PLACE.legacy } else { PLACE.local };
                    let offset = if legacy { offset } else { offset % 0x100 };
                    prop_assert!(Node::access(vcpu, base + offset, bytes, Some(value.into())).is_ok());
                }
                Action::Enable { bank, bits, enable } => {
                    write(vcpu, if enable { ENABLE } else { DISABLE }[bank], bits);
                }
                Action::Device { number, level } => assert_line(number, level),
                Action::Timer(fired) => timer(if fired { FIRED } else { ARMED }),
                Action::Switch => {
                    let yielded = Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None });
                    prop_assert_eq!(Node::call(vcpu, &[ffa::YIELD.into()]), yielded);
                    prop_assert!(is_unmasked(VIRTUAL_TIMER));
                    prop_assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
                }
            }
            Node::interrupts(vcpu);
            let asserted = Controller::now().asserted;
            let [enabled1, enabled2] = ENABLE.map(|register| read(vcpu, register));
            let timers = asserted >> VIRTUAL_TIMER & 1 != 0 && read(vcpu, TIMER_CONTROL) & 1 << 3 != 0;
            let pending = [(asserted >> 64) as u64 & enabled1, (asserted >> 96) as u64 & enabled2];
            let mailboxes = (0..4).any(|n| {
                read(vcpu, MAILBOX_CONTROL) >> n & 1 != 0 && read(vcpu, MAILBOX_CLEAR + 4 * n) != 0
            });
            let any = pending != [0; 2] || timers || mailboxes;
            prop_assert!(arch::LINE.get() || !any, "lost");
            prop_assert_eq!(PENDING.map(|register| read(vcpu, register)), pending);
            prop_assert_eq!(read(vcpu, SOURCE) >> 3 & 1 != 0, timers);
            prop_assert_eq!(read(vcpu, SOURCE) >> 8 & 1 != 0, pending != [0; 2]);
            prop_assert_eq!(arch::LINE.get(), any, "after a look the line is as on the machine");
            // What is quiet and enabled can come; what is not enabled cannot.
            let can_come = Controller::now().enabled >> 64;
            let expected = u128::from(enabled1 | enabled2 << 32) & !(asserted >> 64);
            prop_assert_eq!(can_come & !(asserted >> 64), expected);
        }
    }
}

#[test]
fn live_registers_are_those_that_tell_what_is_asserted() {
    let live = |block| (0..0x200).step_by(4).filter(move |offset| Model::is_live(block, *offset));
    assert!(live(Block::Local).eq([0x60, 0x64, 0x68, 0x6c]));
    assert!(live(Block::Legacy).eq([0, 4, 8]));
}
