//! The virtual timer of a vCPU, also while it does not run: the primary learns how long it may wait, and wakes it in time.

use super::*;
use crate::arch::{COUNTER, TIMER};
use vtimer::TimerState;

const ON: u64 = TimerState::ENABLE;
const MASKED: u64 = TimerState::ENABLE | TimerState::IMASK;

/// Lets the loaded vCPU of VM 2 set its timer, and wait for an interrupt or for a message.
fn wait(node: &Node, (ctl, cval): (u64, u64), for_message: bool) -> Outcome {
    TIMER.set((ctl, cval));
    let function = if for_message { ffa::MSG_WAIT.into() } else { psci::CPU_SUSPEND_64.into() };
    Node::call(node.vcpu(2, 0), &[function])
}

fn waits(timeout_ns: Option<u64>, for_message: bool) -> Outcome {
    let exit =
        if for_message { Exit::MessageWait { timeout_ns } } else { Exit::WaitForInterrupt { timeout_ns } };
    Outcome::Exited(id(2, 0), exit)
}

/// Whether the vCPU has been sent its timer's interrupt.
fn has_fired(node: &Node) -> bool {
    node.vcpu(2, 0).irqs.enable(paravirt::TIMER, true);
    node.vcpu(2, 0).irqs.line()
}

#[test]
fn a_vcpu_that_waits_is_woken_when_its_timer_is_due_and_not_before() {
    for (for_message, offset) in [(false, 0), (true, 0), (false, 0x5_0000), (false, 0_u64.wrapping_sub(70))] {
        let node = Node::new();
        node.vm(2).counter_offset.store(offset, core::sync::atomic::Ordering::Relaxed);
        node.vcpu(2, 0).irqs.enable(paravirt::TIMER, true);
        let set = |physical: u64| COUNTER.set(physical);
        set(0x10_0000);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        // The VM's counter, not the machine's: a tick is a nanosecond.
        let deadline = 0x10_0000_u64.wrapping_sub(offset) + 5000;
        assert_eq!(wait(&node, (ON, deadline), for_message), waits(Some(5000), for_message));
        // What another one does with its timer is no matter.
        assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
        TIMER.set((MASKED, 7));
        let yielded = Outcome::Exited(id(3, 0), Exit::Yield { timeout_ns: None });
        assert_eq!(Node::call(node.vcpu(3, 0), &[ffa::YIELD.into()]), yielded);
        for left in [4000, 1] {
            set(0x10_0000 + 5000 - left);
            assert_eq!(node.run(2, 0), waits(Some(left), for_message));
            assert!(!has_fired(&node), "{left}");
        }
        set(0x10_0000 + 5000);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        assert!(has_fired(&node));
        // As if it had fired while the vCPU ran: masked, until the VM arms it again.
        assert_eq!(TIMER.get(), (MASKED, deadline));
    }
}

#[test]
fn a_timer_that_raises_no_interrupt_wakes_nobody() {
    for ctl in [0, MASKED, TimerState::IMASK] {
        let node = Node::new();
        node.vcpu(2, 0).irqs.enable(paravirt::TIMER, true);
        COUNTER.set(1000);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        assert_eq!(wait(&node, (ctl, 2000), false), waits(None, false));
        COUNTER.set(3000);
        assert_eq!(node.run(2, 0), waits(None, false));
        assert!(!has_fired(&node));
    }
}

#[test]
fn a_timer_goes_on_for_a_vcpu_that_was_interrupted() {
    let node = Node::new();
    COUNTER.set(1000);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    TIMER.set((ON, 2000));
    let yielded = Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None });
    assert_eq!(Node::call(node.vcpu(2, 0), &[ffa::YIELD.into()]), yielded);
    TIMER.set((0, 0));
    COUNTER.set(3000);
    // Its registers come back as they were: the hardware raises the interrupt at once.
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert_eq!(TIMER.get(), (ON, 2000));
}

#[test]
fn a_vms_time_begins_when_it_starts_if_its_manifest_says_so() {
    for time_from_start in [false, true] {
        let node = Node::with_vms(|vm| vm.time_from_start = time_from_start);
        COUNTER.set(0x1234_5678_9abc);
        let vm = node.vm(2);
        vm.start_time();
        let offset = vm.counter_offset.load(core::sync::atomic::Ordering::Relaxed);
        // The low bits, by which a counter with an erratum is recognised, are the machine's.
        assert_eq!(offset, if time_from_start { 0x1234_5678_0000 } else { 0 });
        assert_eq!((COUNTER.get() - offset) & 0xffff, 0x9abc);
    }
}
