//! The life cycle of VMs: stop, reclaim, scrub, restart, while other cores go on.

use super::*;
use crate::reload::{Progress, Reload};
use ffa::memory::{self as m, Attributes, Composite, DataAccess, Handle, Header, InstructionAccess};
use hv_abi::vendor;
use vm_lifecycle::{Status, StopReason};

/// What VM `n`, which holds nothing at boot, is made of.
pub(super) fn image(n: u16) -> Reload {
    Reload {
        ipa: Ipa(Node::page(n, 0)),
        pa: pa_of(n),
        bytes: MEMORY,
        regions: Box::new([]),
        mailbox: None,
        segments: Box::new([]),
        last_stop: None,
        entry: 0x4020_0000,
        argument: 0x4000_0000,
        register: 0,
        progress: Progress::Transactions,
    }
}

/// Restarts a VM, all steps of it.
pub(super) fn restart(node: &Node, vm: u16) -> Result<u64, ffa::Error> {
    let mut steps = 0;
    loop {
        let Outcome::Returned(regs) =
            Node::call(node.core.primary(), &[vendor::VM_RESTART.into(), vm.into()])
        else {
            panic!("a restart runs nothing")
        };
        steps += 1;
        match regs.function() {
            ffa::SUCCESS if regs.0[2] == 0 => return Ok(steps),
            ffa::SUCCESS => {}
            _ => return Err(ffa::Error::from_bits(regs.0[2]).unwrap()),
        }
    }
}

#[test]
fn a_stopped_vm_starts_again_as_new() {
    static KERNEL: [u8; 5000] = [7; 5000];
    let node = Node::new();
    *node.vm(2).reload.lock() = Some(crate::reload::Reload {
        bytes: MEMORY - 2 * PAGE,
        regions: Box::new([
            (Ipa(Node::page(2, 511)), Pa(pa_of(2).0 + MEMORY - PAGE), PAGE),
            (Ipa(Node::page(2, 510)), Pa(pa_of(2).0 + MEMORY - 2 * PAGE), PAGE),
        ]),
        register: 2,
        segments: Box::new([(PAGE - 8, &KERNEL)]),
        ..image(2)
    });
    assert_eq!(restart(&node, 2), Err(ffa::Error::Denied), "it runs");
    assert_eq!(restart(&node, 1), Err(ffa::Error::InvalidParameters));
    node.write(2, Node::page(2, 100), b"secret");
    node.write(2, Node::page(2, MEMORY / PAGE - 1), b"too");
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    let map = [ffa::RXTX_MAP_64.into(), Node::page(2, 5), Node::page(2, 6), 1];
    assert!(matches!(Node::call(vcpu, &map), Outcome::Returned(_)));
    vcpu.irqs.enable(paravirt::IPI, true);
    let fault = Fault { syndrome: 1, address: 2, ipa: 3, pc: 4 };
    let first = vcpu.vm().abort(VcpuIndex(0), fault);
    // SAFETY: the vCPU is loaded by this test.
    let next = run::stop(&unsafe { Loaded::assume(vcpu) }, first);
    assert_eq!(Node::settle(vcpu, next, false), Outcome::Exited(id(2, 0), Exit::Aborted(fault)));
    // 64 pages in a step, and a few steps to look for transactions and for what it might have received.
    assert!(restart(&node, 2).is_ok_and(|steps| (9..40).contains(&steps)));
    assert_eq!(node.read(2, Node::page(2, 100), 6), [0; 6]);
    assert_eq!(node.read(2, Node::page(2, 0) + PAGE - 9, 9), [0, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(node.read(2, Node::page(2, 1) + 4991, 2), [7, 0]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // SAFETY: as above.
    let mut loaded = unsafe { Loaded::assume(vcpu) };
    assert_eq!((loaded.regs().pc, loaded.regs().x[0]), (0x4020_0000, 0x4000_0000));
    assert_eq!((loaded.regs().x[1], loaded.regs().x[2]), (0, 0x4000_0000));
    assert_eq!(node.read(2, Node::page(2, MEMORY / PAGE - 1), 3), [0; 3]);
    assert!(!vcpu.irqs.pend(paravirt::IPI), "interrupts are disabled again");
    assert!(matches!(Node::call(vcpu, &map), Outcome::Returned(regs) if regs.function() == ffa::SUCCESS));
    // Stopped by the primary, in its absence.
    let other = &node.system.cores[1];
    let stop = |vm: u64| Node::call(other.primary(), &[vendor::VM_STOP.into(), vm]);
    assert!(matches!(stop(2), Outcome::Returned(regs) if regs.function() == ffa::SUCCESS));
    assert_eq!(restart(&node, 3), Err(ffa::Error::Denied));
    assert!(matches!(stop(1), Outcome::Returned(regs) if regs.function() == ffa::ERROR));
    let busy = Node::call(other.primary(), &[vendor::VM_RESTART.into(), 2]);
    assert!(
        matches!(busy, Outcome::Returned(regs) if ffa::Error::from_bits(regs.0[2]) == Some(ffa::Error::Busy))
    );
    // SAFETY: as above; the kick has arrived.
    let next = run::after_interrupt(unsafe { Loaded::assume(vcpu) });
    assert_eq!(Node::settle(vcpu, next, false), Outcome::Exited(id(2, 0), Exit::Off { reset: false }));
}

pub(super) fn restartable(node: &Node, vms: &[u16]) {
    for vm in vms {
        *node.vm(*vm).reload.lock() = Some(image(*vm));
    }
}

/// A call by which the primary, on `core`, manages a VM.
fn manage(core: &Core, call: u32, vm: u16) -> Result<u64, ffa::Error> {
    let Outcome::Returned(regs) = Node::call(core.primary(), &[call.into(), vm.into()]) else { panic!() };
    if regs.function() == ffa::SUCCESS {
        Ok(regs.0[2])
    } else {
        Err(ffa::Error::from_bits(regs.0[2]).unwrap())
    }
}

fn map_mailbox(vcpu: &'static Vcpu) {
    let vm = vcpu.vm().id.0;
    let map = [ffa::RXTX_MAP_64.into(), Node::page(vm, 509), Node::page(vm, 511), 1];
    assert!(returned(ffa::SUCCESS.into())(&Node::call(vcpu, &map)));
}

/// Writes the descriptor of a transaction of the primary's page 7 with VM 2 into the caller's TX page; returns its size.
fn describe(node: &Node, caller: u16, kind: u32, handle: Handle, send: bool) -> u64 {
    let data = if kind == ffa::MEM_DONATE { DataAccess::NotSpecified } else { DataAccess::ReadWrite };
    let permissions = m::Permissions { data, instruction: InstructionAccess::NotSpecified };
    let open = kind == ffa::MEM_DONATE && send;
    let attributes = if open { Attributes::NOT_SPECIFIED } else { Attributes::NORMAL_WB_INNER };
    let header = Header { sender: VmId(1), attributes, flags: 0, handle, tag: 1 };
    let to = [m::Receiver { vm: VmId(2), permissions, flags: 0 }];
    let composite = send.then_some(Composite { pages: 1, ranges: 1 });
    let range = send.then_some(m::Range { address: Node::page(1, 7), pages: 1 });
    let mut bytes = [0; 4096];
    let written = m::write(&mut bytes, ffa::VERSION_1_2, &header, &to, composite, range.into_iter()).unwrap();
    node.write(caller, Node::page(caller, 509), &bytes[..written.fragment]);
    written.total as u64
}

/// The primary gives its page 7 to VM 2.
fn offer(node: &Node, kind: u32) -> Result<Handle, ffa::Error> {
    let size = describe(node, 1, kind, Handle(0), true);
    let Outcome::Returned(regs) = Node::call(node.core.primary(), &[kind.into(), size, size]) else {
        panic!()
    };
    match regs.function() {
        ffa::SUCCESS => Ok(Handle::from_words(regs.0[2], regs.0[3])),
        _ => Err(ffa::Error::from_bits(regs.0[2]).unwrap()),
    }
}

fn retrieve(node: &Node, vcpu: &'static Vcpu, kind: u32, handle: Handle) -> u32 {
    let size = describe(node, 2, kind, handle, false);
    let Outcome::Returned(regs) = Node::call(vcpu, &[ffa::MEM_RETRIEVE_REQ.into(), size, size]) else {
        panic!()
    };
    regs.function()
}

fn reclaim(node: &Node, handle: Handle) -> Result<(), ffa::Error> {
    let (low, high) = handle.words();
    let call = [ffa::MEM_RECLAIM.into(), low, high, 0];
    let Outcome::Returned(regs) = Node::call(node.core.primary(), &call) else { panic!() };
    if regs.function() == ffa::SUCCESS { Ok(()) } else { Err(ffa::Error::from_bits(regs.0[2]).unwrap()) }
}

/// Lets a vCPU of a stopped VM take the kick that makes it leave its core.
fn leave(vcpu: &'static Vcpu) {
    // SAFETY: the test has loaded it.
    let next = run::after_interrupt(unsafe { Loaded::assume(vcpu) });
    Node::settle(vcpu, next, false);
}

/// Puts vCPU 1 of VM 2 on core 1.
fn run_elsewhere(node: &Node) -> &'static Vcpu {
    let vcpu = node.vcpu(2, 1);
    vcpu.claim(VcpuState::Off, node.core).unwrap().release(VcpuState::Ready);
    let primary = node.system.cores[1].primary();
    assert_eq!(Node::call(primary, &[ffa::RUN.into(), id(2, 1).pack()]), Outcome::Entered(id(2, 1)));
    vcpu
}

#[test]
fn a_late_response_does_not_answer_a_later_request() {
    let vms = [
        vm(1, VmKind::Primary, 2),
        vm(2, VmKind::Secondary, 2),
        vm(3, VmKind::Secondary, 1),
        vm(4, VmKind::Secondary, 1),
    ];
    let node = Node::of(vms.into(), Routes::new());
    restartable(&node, &[3]);
    wait_for_message(&node, 2, 0);
    wait_for_message(&node, 4, 0);
    let (a, b, c) = (node.vcpu(3, 0), node.vcpu(2, 0), node.vcpu(4, 0));
    assert_eq!(node.run(3, 0), Outcome::Entered(a.id()));
    assert_eq!(Node::call(a, &[ffa::MSG_SEND_DIRECT_REQ.into(), words((3, 2))]), Outcome::Entered(b.id()));
    Node::call(b, &[ffa::YIELD.into()]);
    assert_eq!(manage(node.core, vendor::VM_STOP, 3), Ok(0));
    restart(&node, 3).unwrap();
    assert_eq!(node.run(3, 0), Outcome::Entered(a.id()));
    assert_eq!(Node::call(a, &[ffa::MSG_SEND_DIRECT_REQ.into(), words((3, 4))]), Outcome::Entered(c.id()));
    Node::call(c, &[ffa::YIELD.into()]);
    assert_eq!(node.run(2, 0), Outcome::Entered(b.id()));
    is_refused(b, &[ffa::MSG_SEND_DIRECT_RESP.into(), words((2, 3)), 0, 0xbad], ffa::Error::Aborted);
    // The response of the VM that was asked still comes.
    Node::call(b, &[ffa::MSG_WAIT.into()]);
    assert_eq!(node.run(4, 0), Outcome::Entered(c.id()));
    let answer = [ffa::MSG_SEND_DIRECT_RESP.into(), words((4, 3)), 0, 7];
    assert_eq!(Node::call(c, &answer), Outcome::Entered(a.id()));
    // SAFETY: it is loaded.
    assert_eq!(unsafe { Loaded::assume(a) }.regs().x[3], 7);
}

#[test]
fn a_stopped_vm_retrieves_nothing_and_keeps_nothing() {
    for stopped_first in [true, false] {
        let node = Node::new();
        let (one, two) = (node.core.primary(), run_elsewhere(&node));
        map_mailbox(one);
        map_mailbox(two);
        let handle = offer(&node, ffa::MEM_SHARE).unwrap();
        if stopped_first {
            manage(node.core, vendor::VM_STOP, 2).unwrap();
            assert_eq!(retrieve(&node, two, ffa::MEM_SHARE, handle), ffa::ERROR);
        } else {
            assert_eq!(retrieve(&node, two, ffa::MEM_SHARE, handle), ffa::MEM_RETRIEVE_RESP);
            manage(node.core, vendor::VM_STOP, 2).unwrap();
            // Its vCPU can still use the memory until it has left.
            assert_eq!(reclaim(&node, handle), Err(ffa::Error::Denied));
        }
        assert_eq!(node.vm(2).status(), Status::Stopping(StopReason::Stopped));
        leave(two);
        assert_eq!(reclaim(&node, handle), Ok(()));
        assert!(node.translate(2, WINDOW).is_none());
        // An offer to a stopped VM can be made and reclaimed; the VM does not retrieve it.
        let handle = offer(&node, ffa::MEM_SHARE).unwrap();
        assert_eq!(reclaim(&node, handle), Ok(()));
    }
}

#[test]
fn donated_memory_is_scrubbed_and_goes_to_the_primary() {
    let node = Node::new();
    restartable(&node, &[2]);
    let (one, two) = (node.core.primary(), node.vcpu(2, 0));
    map_mailbox(one);
    let handle = offer(&node, ffa::MEM_DONATE).unwrap();
    assert_eq!(node.run(2, 0), Outcome::Entered(two.id()));
    map_mailbox(two);
    assert_eq!(retrieve(&node, two, ffa::MEM_DONATE, handle), ffa::MEM_RETRIEVE_RESP);
    node.write(2, WINDOW, b"secret");
    assert!(node.translate(1, Node::page(1, 7)).is_none());
    Node::call(two, &[ffa::YIELD.into()]);
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    restart(&node, 2).unwrap();
    assert!(node.translate(2, WINDOW).is_none());
    assert_eq!(node.read(1, Node::page(1, 7), 6), [0; 6]);
    // It is the primary's to give again.
    assert!(offer(&node, ffa::MEM_DONATE).is_ok());
}

#[test]
fn memory_given_away_for_good_is_missing_at_a_restart() {
    let node = Node::new();
    restartable(&node, &[2]);
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    let tables = &mut crate::tables::AllTables { window: &node.core.window };
    node.system
        .ownership
        .lock()
        .transfer(VmId(2), Ipa(Node::page(2, 9)), Pa(pa_of(2).0 + 9 * PAGE), 1, VmId(1), tables)
        .unwrap();
    assert_eq!(restart(&node, 2), Err(ffa::Error::Denied));
    assert_eq!(node.run(2, 0), Outcome::Exited(id(2, 0), Exit::Off { reset: false }));
}

#[test]
fn a_restart_waits_for_a_vcpu_that_another_core_owns() {
    let node = Node::new();
    restartable(&node, &[2]);
    let (vcpu, other) = (node.vcpu(2, 0), &node.system.cores[1]);
    // Core 1 has claimed it, and not yet looked whether the VM runs.
    let claimed = vcpu.claim(VcpuState::Ready, other).unwrap();
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    assert_eq!(manage(node.core, vendor::VM_RESTART, 2), Err(ffa::Error::Busy));
    claimed.release(VcpuState::Off);
    // From the first step on nobody can claim it any more, whatever state it was in.
    assert!(manage(node.core, vendor::VM_RESTART, 2).unwrap() > 0);
    let busy = std::rc::Rc::new(Cell::new(None));
    let seen = busy.clone();
    MEANWHILE.set(Some(Box::new(move || {
        let states = [VcpuState::Off, VcpuState::Ready, VcpuState::Waiting, VcpuState::WaitingForMessage];
        assert!(states.into_iter().all(|state| vcpu.claim(state, other).is_none()));
        seen.set(Some(manage(other, vendor::VM_RESTART, 2)));
    })));
    restart(&node, 2).unwrap();
    assert_eq!(busy.take(), Some(Err(ffa::Error::Busy)), "one core at a time tears down");
    assert_eq!(vcpu.state(), VcpuState::Ready);
    assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
    // SAFETY: it is loaded.
    assert_eq!(unsafe { Loaded::assume(vcpu) }.regs().pc, 0x4020_0000);
}

#[test]
fn a_stopping_vm_changes_nothing_and_nobody_changes_it() {
    let node = Node::new();
    restartable(&node, &[2]);
    let (primary, vcpu) = (node.core.primary(), run_elsewhere(&node));
    map_mailbox(primary);
    let aborted = ffa::Error::Aborted;
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    let n = Node::page;
    let own: [&[u64]; 9] = [
        &[ffa::RXTX_MAP_64.into(), n(2, 509), n(2, 511), 1],
        &[ffa::RXTX_UNMAP.into()],
        &[ffa::RX_RELEASE.into()],
        &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 2, 2],
        &[ffa::NOTIFICATION_BITMAP_DESTROY.into(), 2],
        &[ffa::NOTIFICATION_BIND.into(), words((3, 2)), 0, 1],
        &[ffa::NOTIFICATION_UNBIND.into(), words((3, 2)), 0, 1],
        &[ffa::NOTIFICATION_GET.into(), 2, 2],
        &[ffa::MEM_RECLAIM.into(), 1, 1 << 31],
    ];
    for call in own {
        is_refused(vcpu, call, aborted);
    }
    let on = [psci::CPU_ON_64.into(), vmtree::vcpu_mpidr(1), n(2, 0)];
    let denied = Node::call(vcpu, &on);
    assert!(!returned(psci::Status::Success.bits())(&denied), "{denied:?}");
    is_refused(primary, &[ffa::NOTIFICATION_SET.into(), words((1, 2)), 0, 1], aborted);
    is_refused(primary, &[ffa::MSG_SEND_DIRECT_REQ.into(), words((1, 2))], aborted);
    let inject = [paravirt::INTERRUPT_INJECT.into(), 2, 0, paravirt::IPI.number().into()];
    assert!(returned(u64::MAX)(&Node::call(primary, &inject)));
    leave(vcpu);
    restart(&node, 2).unwrap();
}

#[test]
fn a_message_that_has_just_come_is_not_released_unread() {
    let node = Node::new();
    let vcpu = node.vcpu(2, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
    map_mailbox(vcpu);
    {
        // Another core fills the RX page: under the lock, as the sender does.
        let mut mailbox = node.vm(2).mailbox.lock();
        mailbox.rx = crate::vm::Rx::Message;
        node.vm(2).attention.store(true, core::sync::atomic::Ordering::SeqCst);
    }
    let read = Node::call(vcpu, &[ffa::MSG_WAIT.into()]);
    assert!(returned(ffa::RUN.into())(&read), "{read:?}");
    assert_eq!(node.vm(2).mailbox.lock().rx, crate::vm::Rx::Message, "the next sender would overwrite it");
}

/// VM 3's vCPU waits for a response of VM 2's vCPU 0, which was interrupted.
fn ask(node: &Node) -> (&'static Vcpu, &'static Vcpu) {
    wait_for_message(node, 2, 0);
    let (asks, asked) = (node.vcpu(3, 0), node.vcpu(2, 0));
    assert_eq!(node.run(3, 0), Outcome::Entered(asks.id()));
    let request = [ffa::MSG_SEND_DIRECT_REQ.into(), words((3, 2))];
    assert_eq!(Node::call(asks, &request), Outcome::Entered(asked.id()));
    (asks, asked)
}

#[test]
fn a_vm_is_not_torn_down_while_the_core_that_stopped_it_looks_at_its_vcpus() {
    let node = Node::new();
    restartable(&node, &[2]);
    // Core 1 has stopped the VM, and not yet looked at its vCPUs.
    assert!(node.vm(2).switch_off(StopReason::Off));
    assert_eq!(manage(node.core, vendor::VM_RESTART, 2), Err(ffa::Error::Busy));
    run::halt(node.vm(2), &node.system.cores[1]);
    restart(&node, 2).unwrap();
}

#[test]
fn a_teardown_that_is_given_up_lets_nobody_wait() {
    let vms = [vm(1, VmKind::Primary, 2), vm(2, VmKind::Secondary, 2), vm(3, VmKind::Secondary, 1)];
    let node = Node::of(vms.into(), Routes::new());
    restartable(&node, &[2]);
    let (asks, asked) = ask(&node);
    // Both vCPUs run, the first one leaves for another reason than the stop, the other one does not yet.
    let other = node.vcpu(2, 1).claim(VcpuState::Off, &node.system.cores[1]).unwrap();
    assert_eq!(manage(&node.system.cores[1], vendor::VM_STOP, 2), Ok(0));
    Node::call(asked, &[ffa::YIELD.into()]);
    assert_eq!(asks.state(), VcpuState::WaitingForResponse(1));
    assert_eq!(manage(node.core, vendor::VM_RESTART, 2), Err(ffa::Error::Busy));
    assert_eq!(asks.state(), VcpuState::Ready, "who waits for a parked vCPU waits for ever");
    other.release(VcpuState::Off);
}

#[test]
fn a_response_to_a_stopped_vm_fails_who_waits_for_that_vm() {
    let vms = [
        vm(1, VmKind::Primary, 2),
        vm(2, VmKind::Secondary, 2),
        vm(3, VmKind::Secondary, 1),
        vm(4, VmKind::Secondary, 1),
    ];
    let node = Node::of(vms.into(), Routes::new());
    wait_for_message(&node, 4, 0);
    let (asks, asked) = ask(&node);
    let last = node.vcpu(4, 0);
    let request = [ffa::MSG_SEND_DIRECT_REQ.into(), words((2, 4))];
    assert_eq!(Node::call(asked, &request), Outcome::Entered(last.id()));
    // Core 1 stops VM 2 while the last one responds to it, and finds its vCPU running.
    assert!(node.vm(2).switch_off(StopReason::Off));
    is_refused(last, &[ffa::MSG_SEND_DIRECT_RESP.into(), words((4, 2))], ffa::Error::Aborted);
    assert_eq!((asked.state(), asks.state()), (VcpuState::Off, VcpuState::Ready));
}

#[test]
fn a_stopped_vm_sets_no_notifications() {
    let node = Node::new();
    restartable(&node, &[2]);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    let three = node.vcpu(3, 0);
    Node::call(three, &[ffa::NOTIFICATION_BITMAP_CREATE.into(), 3, 1]);
    Node::call(three, &[ffa::NOTIFICATION_BIND.into(), words((2, 3)), 0, 0b1, 0]);
    Node::call(three, &[ffa::YIELD.into()]);
    let vcpu = run_elsewhere(&node);
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    is_refused(vcpu, &[ffa::NOTIFICATION_SET.into(), words((2, 3)), 0b10, 1, 0], ffa::Error::Aborted);
}

#[test]
fn a_stopped_vm_sends_no_request() {
    let node = Node::new();
    restartable(&node, &[2]);
    wait_for_message(&node, 3, 0);
    let vcpu = run_elsewhere(&node);
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    is_refused(vcpu, &[ffa::MSG_SEND_DIRECT_REQ.into(), words((2, 3))], ffa::Error::Aborted);
}

#[test]
fn a_partial_line_does_not_outlive_a_restart() {
    let node = Node::new();
    restartable(&node, &[2]);
    let vcpu = node.vcpu(2, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
    Node::call(vcpu, &[ffa::CONSOLE_LOG_64.into(), 3, 0x636261]);
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    leave(vcpu);
    restart(&node, 2).unwrap();
    // SAFETY: nobody runs it.
    assert!(unsafe { Loaded::assume(vcpu) }.line().is_empty());
}

#[test]
fn a_stopped_vm_sends_no_ipi_and_enables_no_device() {
    let node = Node::new();
    restartable(&node, &[2]);
    let vcpu = run_elsewhere(&node);
    let ipi = [paravirt::INTERRUPT_SEND_IPI.into(), 0];
    assert!(returned(0)(&Node::call(vcpu, &ipi)));
    manage(node.core, vendor::VM_STOP, 2).unwrap();
    assert!(returned(u64::MAX)(&Node::call(vcpu, &ipi)));
    let enable = [paravirt::INTERRUPT_ENABLE.into(), paravirt::IPI.number().into(), 1, 0];
    assert!(returned(u64::MAX)(&Node::call(vcpu, &enable)));
}
