//! What the RX page is used for, when several vCPUs of a VM use it.

use super::*;

/// Puts vCPU 1 of VM 2 on core 1, in place of VM 3's.
fn second(node: &Node, three: &'static Vcpu) -> &'static Vcpu {
    let none = Exit::Yield { timeout_ns: None };
    assert_eq!(Node::call(three, &[ffa::YIELD.into()]), Outcome::Exited(id(3, 0), none));
    let second = node.vcpu(2, 1);
    second.claim(VcpuState::Off, node.core).unwrap().release(VcpuState::Ready);
    let run = Node::call(node.system.cores[1].primary(), &[ffa::RUN.into(), id(2, 1).pack()]);
    assert_eq!(run, Outcome::Entered(id(2, 1)));
    second
}

/// VM 3 shares two pages with VM 2, whose retrieve request is in its TX page; returns how long that is.
fn shared(node: &Node, three: &'static Vcpu) -> u64 {
    let receivers = [receiver(2, RW)];
    let offer = Offer {
        function: ffa::MEM_SHARE,
        version: ffa::VERSION_1_2,
        header: header(3, Attributes::NORMAL_WB_INNER),
        receivers: &receivers,
        ranges: &[(Node::page(3, 3), 2)],
    };
    let asks = Header { handle: offer.handle(node, three), ..header(3, Attributes::NOT_SPECIFIED) };
    let mut bytes = [0; 4096];
    let written = m::write(&mut bytes, ffa::VERSION_1_2, &asks, &receivers, None, [].into_iter()).unwrap();
    node.write(2, Node::page(2, TX), &bytes[..written.fragment]);
    written.total as u64
}

/// The primary sends VM 2 a message.
fn send(node: &Node, one: &'static Vcpu) -> Result<(u64, u64), Error> {
    let message = Message { sender: VmId(1), receiver: VmId(2), offset: 40, size: 4, uuid: [0; 4] };
    let mut bytes = [0x5a; 4096];
    message.write(&mut bytes[..64], ffa::VERSION_1_2);
    node.write(1, Node::page(1, TX), &bytes);
    result(&call(one, &[ffa::MSG_SEND2.into()]))
}

#[test]
fn msg_wait_does_not_free_another_vcpus_response() {
    let (node, [one, two, three]) = started();
    let length = shared(&node, three);
    let second = second(&node, three);
    assert_eq!(call(two, &[ffa::MEM_RETRIEVE_REQ.into(), length, length]).function(), ffa::MEM_RETRIEVE_RESP);
    let before = node.read(2, Node::page(2, RX), 64);
    let waits = Exit::MessageWait { timeout_ns: None };
    assert_eq!(Node::call(second, &[ffa::MSG_WAIT.into()]), Outcome::Exited(id(2, 1), waits));
    assert_eq!(send(&node, one), Err(Error::Busy));
    assert_eq!(node.read(2, Node::page(2, RX), 64), before);
    // The vCPU that has had it frees it.
    assert_eq!(Node::call(two, &[ffa::MSG_WAIT.into()]), Outcome::Exited(id(2, 0), waits));
    assert_eq!(send(&node, one), Ok((0, 0)));
}

#[test]
fn partition_information_is_freed_by_who_has_asked_for_it() {
    let (node, [one, two, three]) = started();
    let second = second(&node, three);
    assert_eq!(call(two, &[ffa::PARTITION_INFO_GET.into()]).function(), ffa::SUCCESS);
    Node::call(second, &[ffa::MSG_WAIT.into()]);
    assert_eq!(send(&node, one), Err(Error::Busy));
    assert_eq!(result(&call(two, &[ffa::RX_RELEASE.into()])), Ok((0, 0)));
    assert_eq!(send(&node, one), Ok((0, 0)));
}

#[test]
fn a_response_that_is_to_be_written_keeps_its_place() {
    let (node, [_, two, three]) = started();
    let length = shared(&node, three);
    let second = second(&node, three);
    let seen = std::rc::Rc::new(Cell::new(0));
    let released = seen.clone();
    BETWEEN.set(Some(Box::new(move || {
        let denied = result(&call(second, &[ffa::RX_RELEASE.into()])) == Err(Error::Denied);
        released.set(released.get() + if denied { 1 } else { 100 });
    })));
    let answer = call(two, &[ffa::MEM_RETRIEVE_REQ.into(), length, length]);
    BETWEEN.set(None);
    assert_eq!(answer.function(), ffa::MEM_RETRIEVE_RESP);
    assert!((1..100).contains(&seen.get()), "{}", seen.get());
    assert_eq!(result(&call(two, &[ffa::RX_RELEASE.into()])), Ok((0, 0)));
}
