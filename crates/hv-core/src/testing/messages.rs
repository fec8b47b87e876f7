//! Direct messages and notifications.

use super::*;

#[test]
fn the_primary_asks_and_is_answered() {
    let node = Node::new();
    wait_for_message(&node, 2, 0);
    let ask = [ffa::MSG_SEND_DIRECT_REQ.into(), words((1, 2)), 0, 0xdead_0000_0001, 2];
    assert_eq!(Node::call(node.core.primary(), &ask), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    // SAFETY: the vCPU is loaded by this test.
    let got = unsafe { Loaded::assume(vcpu) }.regs().arguments().0;
    // The 32-bit form carries 32 bits.
    assert_eq!(got, [ffa::MSG_SEND_DIRECT_REQ.into(), words((1, 2)), 0, 1, 2, 0, 0, 0]);
    // It owes an answer: to this VM, from its own.
    is_refused(vcpu, &[ffa::MSG_WAIT.into()], ffa::Error::Denied);
    for ids in [(2, 3), (3, 1), (1, 2)] {
        let answer = [ffa::MSG_SEND_DIRECT_RESP_64.into(), words(ids)];
        is_refused(vcpu, &answer, ffa::Error::InvalidParameters);
    }
    let answer = [ffa::MSG_SEND_DIRECT_RESP_64.into(), words((2, 1)), 0, u64::MAX];
    let back = Node::call(vcpu, &answer);
    assert_eq!(back, Outcome::Exited(id(2, 0), Exit::DirectResponse { to: VmId(1) }));
    // SAFETY: the primary is loaded.
    assert_eq!(unsafe { Loaded::assume(node.core.primary()) }.regs().x[3], u64::MAX);
    assert_eq!(vcpu.state(), VcpuState::WaitingForMessage);
    is_refused(
        node.core.primary(),
        &[ffa::MSG_SEND_DIRECT_RESP.into(), words((1, 2))],
        ffa::Error::NotSupported,
    );
}

#[test]
fn direct_requests_are_checked() {
    let node = Node::new();
    let primary = node.core.primary();
    let ask = |ids, flags| [u64::from(ffa::MSG_SEND_DIRECT_REQ_64), words(ids), flags];
    for ids in [(1, 1), (2, 3), (1, 0), (1, 9), (0, 2)] {
        is_refused(primary, &ask(ids, 0), ffa::Error::InvalidParameters);
    }
    is_refused(primary, &ask((1, 2), 1 << 31), ffa::Error::InvalidParameters);
    // Nobody waits there.
    is_refused(primary, &ask((1, 2), 0), ffa::Error::Busy);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    // The primary receives none, and nobody has asked.
    is_refused(node.vcpu(3, 0), &ask((3, 1), 0), ffa::Error::Denied);
    is_refused(node.vcpu(3, 0), &[ffa::MSG_SEND_DIRECT_RESP.into(), words((3, 1))], ffa::Error::Denied);
    Node::call(node.vcpu(3, 0), &[psci::SYSTEM_OFF.into()]);
    is_refused(primary, &ask((1, 3), 0), ffa::Error::Aborted);
    // A service that the receiver is not.
    let named = [ffa::MSG_SEND_DIRECT_REQ2.into(), words((1, 2)), 77, 0];
    is_refused(primary, &named, ffa::Error::InvalidParameters);
}

#[test]
fn secondaries_ask_each_other_and_the_primary_sees_nothing_of_it() {
    let node = Node::new();
    wait_for_message(&node, 3, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let ask = [ffa::MSG_SEND_DIRECT_REQ2.into(), words((2, 3)), 3 << 32 | 3, 3 << 32 | 3, 4, 5, 6, 7];
    let (one, other) = (node.vcpu(2, 0), node.vcpu(3, 0));
    assert_eq!(Node::call(one, &ask), Outcome::Entered(id(3, 0)));
    assert_eq!(one.state(), VcpuState::WaitingForResponse(1));
    // Whoever waits for a response is not run, nor asked; whoever owes one can still be interrupted.
    is_refused(other, &[ffa::MSG_SEND_DIRECT_REQ.into(), words((3, 2))], ffa::Error::Busy);
    let yielded = Exit::Yield { timeout_ns: Some(0x2_0000_0005) };
    assert_eq!(Node::call(other, &[ffa::YIELD.into(), 0, 5, 2]), Outcome::Exited(id(3, 0), yielded));
    let waits = Exit::WaitForInterrupt { timeout_ns: None };
    assert_eq!(node.run(2, 0), Outcome::Exited(id(2, 0), waits));
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    let answer = [ffa::MSG_SEND_DIRECT_RESP2.into(), words((3, 2)), 0, 0, 9];
    // The one who asked goes on, on the core where it was answered.
    assert_eq!(Node::call(other, &answer), Outcome::Entered(id(2, 0)));
    // SAFETY: the vCPU is loaded by this test.
    assert_eq!(unsafe { Loaded::assume(one) }.regs().x[4], 9);
    assert_eq!((one.state(), other.state()), (VcpuState::Running(0), VcpuState::WaitingForMessage));
}

#[test]
fn an_answer_of_one_that_has_more_to_do_goes_through_the_primary() {
    let node = Node::new();
    wait_for_message(&node, 3, 0);
    let (one, other) = (node.vcpu(2, 0), node.vcpu(3, 0));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let ask = [ffa::MSG_SEND_DIRECT_REQ.into(), words((2, 3))];
    assert_eq!(Node::call(one, &ask), Outcome::Entered(id(3, 0)));
    other.irqs.enable(paravirt::IPI, true);
    other.irqs.pend(paravirt::IPI);
    let answer = [ffa::MSG_SEND_DIRECT_RESP.into(), words((3, 2)), 0, 7];
    // The primary has run VM 2, which goes on when it is run again; it is told of VM 3.
    assert_eq!(Node::call(other, &answer), Outcome::Exited(id(3, 0), Exit::Interrupt));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: the vCPU is loaded by this test.
    assert_eq!(unsafe { Loaded::assume(one) }.regs().x[3], 7);
    let none = Exit::Yield { timeout_ns: None };
    assert_eq!(Node::call(one, &[ffa::YIELD.into()]), Outcome::Exited(id(2, 0), none));
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    // SAFETY: as above.
    assert_eq!(unsafe { Loaded::assume(other) }.regs().x[0], ffa::INTERRUPT.into());
}

#[test]
fn whoever_waits_for_a_vm_that_stops_is_told() {
    let node = Node::new();
    wait_for_message(&node, 3, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let ask = [ffa::MSG_SEND_DIRECT_REQ.into(), words((2, 3))];
    assert_eq!(Node::call(node.vcpu(2, 0), &ask), Outcome::Entered(id(3, 0)));
    let off = Exit::Off { reset: false };
    assert_eq!(Node::call(node.vcpu(3, 0), &[psci::SYSTEM_OFF.into()]), Outcome::Exited(id(3, 0), off));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: the vCPU is loaded by this test.
    let regs = unsafe { Loaded::assume(node.vcpu(2, 0)) }.regs().arguments();
    assert_eq!((regs.function(), ffa::Error::from_bits(regs.0[2])), (ffa::ERROR, Some(ffa::Error::Aborted)));
}

#[test]
fn notifications_reach_their_receiver_and_the_scheduler() {
    let node = Node::new();
    let receiver = node.vcpu(3, 0);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    let ok = |regs: &Outcome| matches!(regs, Outcome::Returned(regs) if regs.function() == ffa::SUCCESS);
    let bind = [ffa::NOTIFICATION_BIND.into(), words((2, 3)), 0, 0b1, 0b1];
    is_refused(receiver, &bind, ffa::Error::Denied);
    is_refused(receiver, &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 3, 2], ffa::Error::InvalidParameters);
    is_refused(receiver, &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 2, 1], ffa::Error::InvalidParameters);
    assert!(ok(&Node::call(receiver, &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 3, 1])));
    assert!(ok(&Node::call(receiver, &bind)));
    assert!(ok(&Node::call(receiver, &[ffa::NOTIFICATION_BIND.into(), words((2, 3)), 1, 0b10, 0])));
    is_refused(
        receiver,
        &[ffa::NOTIFICATION_BIND.into(), words((3, 3)), 0, 4, 0],
        ffa::Error::InvalidParameters,
    );
    is_refused(receiver, &[ffa::NOTIFICATION_INFO_GET.into()], ffa::Error::NotSupported);
    let waits = Exit::MessageWait { timeout_ns: None };
    assert_eq!(Node::call(receiver, &[ffa::MSG_WAIT.into()]), Outcome::Exited(id(3, 0), waits));

    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let sender = node.vcpu(2, 0);
    let set = |ids, flags, low, high| [ffa::NOTIFICATION_SET.into(), words(ids), flags, low, high];
    is_refused(sender, &set((3, 2), 0, 1, 0), ffa::Error::InvalidParameters);
    is_refused(sender, &set((2, 3), 0, 4, 0), ffa::Error::Denied);
    is_refused(sender, &set((2, 3), 1, 1, 0), ffa::Error::InvalidParameters);
    is_refused(sender, &set((2, 3), 1 | 5 << 16, 2, 0), ffa::Error::InvalidParameters);
    assert!(ok(&Node::call(sender, &set((2, 3), 0b11, 2, 0))), "delayed: the sender goes on");
    // The primary is told to run the receiver, which has enabled no interrupt but waits for something to read.
    assert_eq!(Node::call(sender, &set((2, 3), 0, 1, 1)), Outcome::Exited(id(3, 0), Exit::Interrupt));
    let primary = node.core.primary();
    let Outcome::Returned(regs) = Node::call(primary, &[ffa::NOTIFICATION_INFO_GET_64.into()]) else {
        panic!()
    };
    // Two lists: the VM, and its vCPU 0.
    assert_eq!(regs.0[..4], [ffa::SUCCESS_64.into(), 0, 2 << 7 | 1 << 14, (3 | 3 << 16)]);
    is_refused(primary, &[ffa::NOTIFICATION_INFO_GET.into()], ffa::Error::NoData);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    // SAFETY: the vCPU is loaded by this test.
    assert_eq!(unsafe { Loaded::assume(receiver) }.regs().x[0], ffa::RUN.into());
    let get = |flags| [ffa::NOTIFICATION_GET.into(), 3, flags];
    is_refused(receiver, &get(0), ffa::Error::InvalidParameters);
    is_refused(receiver, &get(16), ffa::Error::InvalidParameters);
    let Outcome::Returned(regs) = Node::call(receiver, &get(0b1111)) else { panic!() };
    assert_eq!(regs.0, [ffa::SUCCESS.into(), 0, 0, 0, 0b11, 1, 0, 0]);
    assert_eq!(Node::call(receiver, &[ffa::MSG_WAIT.into()]), Outcome::Exited(id(3, 0), waits));
}

#[test]
fn a_version_is_fixed_once_it_has_been_used() {
    let node = Node::new();
    let primary = node.core.primary();
    let version = |bits: u64| {
        let Outcome::Returned(regs) = Node::call(primary, &[ffa::VERSION.into(), bits]) else { panic!() };
        regs.0[0]
    };
    assert_eq!(version(0x1_0000), 0x1_0002);
    assert_eq!(version(0x2_0000), 0x1_0002);
    assert_eq!(version(1 << 31), ffa::Error::NotSupported.bits());
    assert_eq!(version(0x1_0001), 0x1_0002);
    is_refused(primary, &[ffa::PARTITION_INFO_GET.into()], ffa::Error::Busy);
    assert_eq!(version(0x1_0002), ffa::Error::NotSupported.bits());
    assert_eq!(version(0x1_0001), 0x1_0002);
}
