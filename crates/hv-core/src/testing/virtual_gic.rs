//! VMs with a virtual GIC, on a core that has list registers.

use super::*;
use crate::{
    board::{HypervisorInterface, SavedInterface, Version, VirtualInterface},
    gic::{self, Gic, Place, Timers},
};
use drivers_gic::{
    hyp::{Control, ListRegister, ListState},
    vgic::Frame,
};
use vm_lifecycle::StopReason;

/// List registers of this thread's core, if it has any.
struct Lists;

thread_local! {
    static REGISTERS: Cell<Option<[ListRegister; 4]>> = const { Cell::new(None) };
}

pub(crate) fn list_registers() -> Option<&'static dyn VirtualInterface> {
    REGISTERS.get().map(|_| &Lists as _)
}

impl HypervisorInterface for Lists {
    fn count(&self) -> usize {
        4
    }
    fn read(&self, n: usize) -> ListRegister {
        REGISTERS.get().unwrap()[n]
    }
    fn write(&self, n: usize, value: ListRegister) {
        let mut all = REGISTERS.get().unwrap();
        all[n] = value;
        REGISTERS.set(Some(all));
    }
    fn control(&self, _control: Control) {}
    fn end_count(&self) -> u32 {
        0
    }
}

impl VirtualInterface for Lists {
    fn enter(&self, _saved: &SavedInterface) {}
    fn leave(&self) -> SavedInterface {
        SavedInterface::default()
    }
    fn version(&self) -> Version {
        Version::V3
    }
}

/// What the loaded vCPU can acknowledge, lowest first; it acknowledges and ends all of it.
fn take() -> Vec<u32> {
    let mut taken = Vec::new();
    for n in 0..4 {
        let register = Lists.read(n);
        if register.state() == ListState::Pending {
            taken.push(register.intid());
            Lists.write(n, ListRegister::FREE);
        }
    }
    taken.sort_unstable();
    taken
}

/// A system in which the VMs of `with` have a GIC, whose private interrupts they have all enabled.
fn node(with: &[u16]) -> Node {
    REGISTERS.set(Some([ListRegister::FREE; 4]));
    let timers = |vm: &Vm| {
        if vm.is_primary() { Timers { own: 30, second: Some(27), physical: 27 } } else { Timers::USUAL }
    };
    let node = Node::with_vms(|vm| {
        if with.contains(&vm.id.0) {
            let mut affinities = vm.vcpus.iter().map(Vcpu::affinity);
            let gic = Gic::new(vm.id, &mut affinities, &Routes::new(), Place::usual(Version::V3), timers(vm));
            vm.gic = Some(Box::new(gic));
        }
    });
    for vm in &node.system.vms {
        let Some(gic) = &vm.gic else { continue };
        let mut state = gic.state();
        state.write(0, Frame::Distributor, 0, 4, 0b11, &mut Nothing);
        for vcpu in &vm.vcpus {
            gic::enable_sources(vcpu);
            let frame = Frame::Redistributor(vcpu.index().0);
            state.write(0, frame, 0x1_0100, 4, u64::from(u32::MAX), &mut Nothing);
        }
    }
    node
}

struct Nothing;

impl drivers_gic::vgic::Effects for Nothing {
    fn kick(&mut self, _: u16) {}
    fn enable(&mut self, _: u32, _: bool) {}
    fn ended(&mut self, _: u32) {}
}

fn feature(vcpu: &'static Vcpu, feature: u32) -> Option<u64> {
    match Node::call(vcpu, &[ffa::FEATURES.into(), feature.into()]) {
        Outcome::Returned(regs) if regs.0[0] as u32 == ffa::SUCCESS => Some(regs.0[2]),
        _ => None,
    }
}

#[test]
fn features_tell_the_numbers_of_the_callers_controller() {
    for (with, pending, schedule) in [(&[][..], 5, 8), (&[1, 2], 14, 8)] {
        let node = node(with);
        assert_eq!(feature(node.core.primary(), ffa::FEATURE_NOTIFICATION_PENDING), Some(pending));
        assert_eq!(feature(node.core.primary(), ffa::FEATURE_SCHEDULE_RECEIVER), Some(schedule));
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        let guest = node.vcpu(2, 0);
        assert_eq!(feature(guest, ffa::FEATURE_NOTIFICATION_PENDING), Some(pending));
        assert_eq!(feature(guest, ffa::FEATURE_SCHEDULE_RECEIVER), None, "it schedules nobody");
        assert_eq!(feature(guest, ffa::FEATURE_MANAGED_EXIT), None, "there are no managed exits");
    }
}

#[test]
fn a_notification_comes_as_an_interrupt_of_the_gic() {
    let node = node(&[1, 2]);
    let (primary, guest) = (node.core.primary(), node.vcpu(2, 0));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let call = |vcpu, arguments: &[u64]| {
        let outcome = Node::call(vcpu, arguments);
        assert!(returned(ffa::SUCCESS.into())(&outcome), "{outcome:?}");
    };
    call(guest, &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 2, 2]);
    call(guest, &[ffa::NOTIFICATION_BIND.into(), words((1, 2)), 0, 1, 0]);
    assert_eq!(take(), []);
    Node::call(guest, &[ffa::YIELD.into()]);
    call(primary, &[ffa::NOTIFICATION_SET.into(), words((1, 2)), 0, 1, 0]);
    // The primary, too, is told: it is the one that schedules the receiver.
    assert_eq!(take(), [8]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert_eq!(take(), [14]);
}

#[test]
fn the_primary_injects_what_has_a_number() {
    let node = node(&[2]);
    let primary = node.core.primary();
    let inject = |id: u64| {
        let outcome = Node::call(primary, &[paravirt::INTERRUPT_INJECT.into(), 2, 0, id]);
        let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
        regs.0[0]
    };
    for none in [0, 6, 7, 11, 15, 32, 61, 62, 63] {
        assert_eq!(inject(none), u64::MAX, "{none}");
    }
    for (id, intid) in
        [(1, 11), (2, 12), (3, 27), (4, 13), (5, 14), (8, 8), (9, 9), (10, 10), (16, 16), (31, 31)]
    {
        assert_eq!(inject(id), 0);
        assert_eq!(node.run(2, 0), Outcome::Entered(super::id(2, 0)));
        assert_eq!(take(), [intid], "{id}");
        Node::call(node.vcpu(2, 0), &[ffa::YIELD.into()]);
    }
    // A VM without a GIC takes all of them, as ever.
    let outcome = Node::call(primary, &[paravirt::INTERRUPT_INJECT.into(), 3, 0, 62]);
    assert!(returned(0)(&outcome), "{outcome:?}");
}

#[test]
fn an_interrupt_of_the_primary_comes_before_its_vms() {
    let node = node(&[1]);
    let primary = node.core.primary();
    // It has not acknowledged it.
    Node::call(primary, &[paravirt::INTERRUPT_INJECT.into(), 1, 0, 20]);
    let told = Outcome::Exited(id(2, 0), Exit::Interrupt);
    assert_eq!(node.run(2, 0), told);
    assert_eq!(node.run(2, 0), told);
    assert_eq!(take(), [20]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));

    // Its virtual timer fires meanwhile.
    // SAFETY: it is this core's, and not loaded.
    let mut claimed = unsafe { crate::vcpu::Claimed::assume(primary) };
    (claimed.sys().cntv_ctl_el0, claimed.sys().cntv_cval_el0) = (1, 0);
    gic::fire_timer(primary);
    // SAFETY: the vCPU is loaded.
    let next = run::after_interrupt(unsafe { Loaded::assume(node.vcpu(2, 0)) });
    assert_eq!(Node::settle(node.vcpu(2, 0), next, false), told);
    assert_eq!(take(), [27]);
    crate::arch::TIMER.set((0, 0));

    // And the physical one, which goes on by itself.
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    primary.irqs.pend(paravirt::TIMER);
    // SAFETY: as above.
    let next = run::after_interrupt(unsafe { Loaded::assume(node.vcpu(2, 0)) });
    assert_eq!(Node::settle(node.vcpu(2, 0), next, false), told);
    assert_eq!(take(), [30]);
}

#[test]
fn redistributors_are_where_the_regions_are() {
    use drivers_gic::RedistributorRegion;
    static REGIONS: [RedistributorRegion; 2] = [
        RedistributorRegion::new(0x80a_0000, 0x2_0000),
        // As GICv4's, four frames each.
        RedistributorRegion { base: 0x1000_0000, size: 0x8_0000, stride: Some(0x4_0000) },
    ];
    let place = Place::V3 { distributor: 0x800_0000, redistributors: &REGIONS };
    let gic = Gic::new(VmId(1), &mut (0..3), &Routes::new(), place, Timers::USUAL);
    let redistributor = |n, offset| Some((Frame::Redistributor(n), offset));
    assert_eq!(gic.frame(0x800_0004), Some((Frame::Distributor, 4)));
    assert_eq!(gic.frame(0x80b_0100), redistributor(0, 0x1_0100));
    assert_eq!([0x80c_0000, 0x801_0000, 0x1008_0000, 0xfff_ffff, 0].map(|ipa| gic.frame(ipa)), [None; 5]);
    assert_eq!(gic.frame(0x1000_0008), redistributor(1, 8));
    assert_eq!(gic.frame(0x1007_0100), redistributor(2, 0x3_0100));
    // The first one is the last of its region.
    let last = |n| gic.state().read(0, Frame::Redistributor(n), 8, 4) >> 4 & 1 != 0;
    assert_eq!([0, 1, 2].map(last), [true, false, true]);
}

#[test]
fn para_virtual_interrupts_come_by_list_registers() {
    REGISTERS.set(Some([ListRegister::FREE; 4]));
    let node = Node::with_vms(|vm| vm.list_registers = vm.id == VmId(2));
    let (primary, guest) = (node.core.primary(), node.vcpu(2, 0));
    let done = |vcpu, arguments: &[u64]| {
        let outcome = Node::call(vcpu, arguments);
        let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
        regs.0[0]
    };
    let enter = || assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let wait = || Node::call(guest, &[psci::CPU_SUSPEND_64.into(), psci::EXTENDED_POWER_STATE]);
    let waits = Outcome::Exited(id(2, 0), Exit::WaitForInterrupt { timeout_ns: None });
    let inject = |number: u64| done(primary, &[paravirt::INTERRUPT_INJECT.into(), 2, 0, number]);
    let enable = |number: u64, on: u64| done(guest, &[paravirt::INTERRUPT_ENABLE.into(), number, on, 0]);

    enter();
    assert_eq!(enable(20, 1), 0);
    assert_eq!(wait(), waits);
    assert_eq!(inject(21), 0, "nobody wants it");
    assert_eq!(inject(20), 1, "it is to be run");
    assert_eq!(inject(20), 1);
    enter();
    assert_eq!(take(), [20], "once");
    assert_eq!(enable(21, 1), 0);
    assert_eq!(take(), [21], "it was pending");

    // Not taken: it is there when the vCPU comes back, and keeps it from waiting.
    done(guest, &[paravirt::INTERRUPT_SEND_IPI.into(), 0]);
    assert_eq!(take(), [], "it is not enabled");
    assert_eq!(enable(9, 1), 0);
    Node::call(guest, &[ffa::YIELD.into()]);
    assert!(list_registers().is_some_and(|lists| (0..4).all(|n| lists.read(n).state() == ListState::Free)));
    enter();
    assert_eq!(wait(), Outcome::Exited(id(2, 0), Exit::Interrupt), "it has a reason to run");
    enter();
    // Disabled, it is taken away again.
    assert_eq!(enable(9, 0), 0);
    assert_eq!(take(), []);
    assert_eq!(wait(), waits);
    // The other VM's are as they were.
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    done(node.vcpu(3, 0), &[paravirt::INTERRUPT_ENABLE.into(), 20, 1, 0]);
    done(node.vcpu(3, 0), &[paravirt::INTERRUPT_INJECT.into(), 3, 0, 20]);
    assert_eq!(take(), []);
    assert_eq!(done(node.vcpu(3, 0), &[paravirt::INTERRUPT_GET.into()]), 20);
}

/// `ESR_EL2` of `ldr w1, [...]` from where nothing is mapped, at level 3, and where something is that it may not read.
const LOAD: u64 = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 1 << 16 | 0b00_0111;
const DENIED: u64 = LOAD & !0x3f | 0b00_1111;

#[test]
fn only_a_translation_fault_says_where_it_was() {
    let node = node(&[2]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: it is loaded.
    let mut current = unsafe { Loaded::assume(node.vcpu(2, 0)) };
    crate::arch::FAULT.set(0x800_0004);
    assert!(gic::access(&mut current, LOAD));
    assert_eq!(current.regs().x[1] & 0x1f, 31, "GICD_TYPER");
    current.regs().x[1] = 7;
    // What HPFAR_EL2 holds is from an earlier fault.
    assert!(!gic::access(&mut current, DENIED));
    assert_eq!(current.regs().x[1], 7);
}

#[test]
fn the_line_of_a_device_is_pending_while_it_is_disabled() {
    use crate::board::host::Controller;
    let node = node(&[2]);
    node.system.vms[1].gic.as_ref().unwrap().state().assign(40);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: it is loaded.
    let mut current = unsafe { Loaded::assume(node.vcpu(2, 0)) };
    crate::arch::FAULT.set(0x800_0204);
    for asserted in [false, true, false] {
        Controller::change(|controller| controller.asserted = u128::from(asserted) << 40);
        assert!(gic::access(&mut current, LOAD));
        assert_eq!(current.regs().x[1], u64::from(asserted) << 8, "GICD_ISPENDR1");
    }
}

#[test]
fn the_system_registers_cannot_be_switched_off() {
    let node = node(&[2]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: it is loaded.
    let mut current = unsafe { Loaded::assume(node.vcpu(2, 0)) };
    let sre = hv_abi::registers::encoding(3, 0, 12, 12, 5);
    current.regs().x[3] = 0;
    assert!(gic::system_register(&mut current, sre, false, 3));
    assert!(gic::system_register(&mut current, sre, true, 3));
    assert_eq!(current.regs().x[3], 0b111);
}

fn gic_of(node: &Node, vm: u16) -> impl core::ops::DerefMut<Target = drivers_gic::vgic::Vgic<'static>> {
    node.system.vms[usize::from(vm) - 1].gic.as_ref().unwrap().state()
}

/// The physical timer interrupt of this core, 27, is active.
fn holds() -> bool {
    crate::board::host::Controller::now().active >> 27 & 1 != 0
}

fn look(vcpu: &'static Vcpu) {
    vcpu.irqs.pend(gic::LOOK);
    // SAFETY: the vCPU is loaded.
    unsafe { Loaded::assume(vcpu) }.update_line();
}

#[test]
fn the_timers_registers_are_the_guests_and_its_interrupt_is_a_level() {
    use crate::arch::{COUNTER, TIMER};
    let node = node(&[2]);
    let guest = node.vcpu(2, 0);
    COUNTER.set(1000);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    TIMER.set((1, 900));
    look(guest);
    assert_eq!((TIMER.get(), holds()), ((1, 900), true));
    // Switched off before it is taken.
    TIMER.set((0, 900));
    look(guest);
    assert_eq!((take(), holds()), (Vec::new(), false));
    // It expires while the vCPU is elsewhere: the next one does not see it, and its own status is looked at.
    TIMER.set((1, 900));
    look(guest);
    Node::call(guest, &[ffa::YIELD.into()]);
    assert!(!holds());
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    assert!(!holds());
    Node::call(node.vcpu(3, 0), &[ffa::YIELD.into()]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert_eq!((TIMER.get(), holds()), ((1, 900), true));
    assert_eq!(take(), [27]);
}

#[test]
fn a_vcpu_with_a_gic_is_woken_by_its_timer_as_it_set_it() {
    use crate::arch::{COUNTER, TIMER};
    let node = node(&[2]);
    let guest = node.vcpu(2, 0);
    COUNTER.set(1000);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    TIMER.set((1, 3000));
    let wait = || Node::call(guest, &[psci::CPU_SUSPEND_64.into(), psci::EXTENDED_POWER_STATE]);
    let waits = |ns| Outcome::Exited(id(2, 0), Exit::WaitForInterrupt { timeout_ns: Some(ns) });
    assert_eq!(wait(), waits(2000));
    COUNTER.set(2999);
    assert_eq!(node.run(2, 0), waits(1));
    COUNTER.set(3000);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert_eq!((TIMER.get(), take()), ((1, 3000), Vec::from([27])));
}

#[test]
fn an_interrupt_of_a_timer_that_has_been_switched_belongs_to_nobody() {
    use crate::{arch::TIMER, board::host::Controller, interrupt};
    interrupt::TIMERS.set(3, 1);
    for gics in [&[][..], &[2]] {
        let node = node(gics);
        let guest = node.vcpu(2, 0);
        guest.irqs.enable(paravirt::TIMER, true);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        TIMER.set((0, 0));
        Controller::change(|controller| {
            (controller.enabled, controller.asserted, controller.active) = (1 << 3, 1 << 3, 0);
        });
        // SAFETY: the vCPU is loaded.
        let next = interrupt::handle(unsafe { Loaded::assume(guest) });
        assert!(core::ptr::eq(next, guest));
        Controller::change(|controller| controller.asserted = 0);
        assert!(!guest.irqs.line() && take().is_empty(), "its own timer is off");
    }
}

#[test]
fn device_interrupts_go_to_vcpus_that_are_on() {
    let node = node(&[2]);
    let (first, second) = (node.vcpu(2, 0), node.vcpu(2, 1));
    gic_of(&node, 2).only_first_on();
    gic_of(&node, 2).write(0, Frame::Distributor, 0x6000 + 8 * 40, 8, second.affinity(), &mut Nothing);
    assert!(core::ptr::eq(gic::target(second, 40), first), "the second has never been on");
    gic::set_on(second, node.core, true);
    assert!(core::ptr::eq(gic::target(first, 40), second));
    gic::set_on(second, node.core, false);
    assert!(core::ptr::eq(gic::target(second, 40), first));
}

/// What is for a vCPU with a GIC is brought to it through its para-virtual controller, in which all is enabled: also after a restart, whose parts
/// reset one thing after the other.
#[test]
fn a_vm_that_starts_again_has_its_interrupts_as_at_first() {
    let node = node(&[2]);
    super::lifecycle::restartable(&node, &[2]);
    let vcpu = node.vcpu(2, 0);
    assert!(node.vm(2).switch_off(StopReason::Off));
    run::halt(node.vm(2), node.core);
    vcpu.irqs.pend(paravirt::TIMER);
    super::lifecycle::restart(&node, 2).unwrap();
    assert!(vcpu.irqs.is_enabled(paravirt::DEVICE) && vcpu.irqs.is_enabled(paravirt::TIMER));
    assert!(!vcpu.irqs.is_pending(paravirt::TIMER), "of the life before");
}
