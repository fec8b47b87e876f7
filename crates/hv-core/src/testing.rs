//! A system in host memory: a primary on two cores, VM 2 with two vCPUs, VM 3 with one. The processor is
//! `arch::host`, so what is tested is every decision, and no instruction.

use crate::{
    el2_map::Window,
    percore::Core,
    run::{self, Next},
    service,
    system::System,
    tables::VmTables,
    vcpu::{Loaded, Vcpu, VcpuState},
    vm::{Messaging, Vm, VmKind},
    vmtree,
};
use core::cell::Cell;
use hv_abi::{
    Regs,
    exit::{AbortCause, Exit, Fault},
    ffa,
    ids::{Ipa, Pa, VcpuId, VcpuIndex, VmId},
    layout::PAGE,
    paravirt, psci, vendor,
};
use machine::Conduit;
use page_ownership::Ownership;
use spin::mutex::SpinMutex;
use stage2_mmu::{Access, IpaWidth, MemoryType};
use std::{boxed::Box, thread_local, vec::Vec};
use vtimer::Frequency;

thread_local! {
    static SYSTEM: Cell<Option<&'static System>> = const { Cell::new(None) };
}

/// This thread's system.
pub(crate) fn system() -> &'static System {
    SYSTEM.get().expect("the test has not built a system")
}

/// How much memory each VM has, and from where it receives more.
const MEMORY: u64 = 0x20_0000;
const WINDOW: u64 = 0x8000_0000;

fn pa_of(id: u16) -> Pa {
    Pa(u64::from(id) << 32)
}

fn memory_of(kind: VmKind, id: u16) -> Ipa {
    if kind == VmKind::Secondary { Ipa(0x4000_0000) } else { Ipa(pa_of(id).0) }
}

fn vm(id: u16, kind: VmKind, vcpus: u16) -> Vm {
    let vcpus = (0..vcpus).map(|i| Vcpu::new(VcpuIndex(i), vmtree::vcpu_mpidr(i))).collect();
    let mut tables = VmTables::new(IpaWidth::new(40).unwrap()).unwrap();
    tables.map(memory_of(kind, id), pa_of(id), MEMORY, Access::RWX, MemoryType::Normal).unwrap();
    Vm::new(VmId(id), kind, "vm", [u32::from(id); 4], Messaging::of(kind), vcpus, tables, [WINDOW, 16])
}

/// A core of the system, seen through the eyes of its primary vCPU.
struct Node {
    system: &'static System,
    core: &'static Core,
}

/// What has become of a vCPU's call.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It goes on, with these results.
    Returned(Regs),
    /// The primary goes on, with this exit.
    Exited(VcpuId, Exit),
    /// That vCPU was entered.
    Entered(VcpuId),
}

impl Node {
    fn new() -> Self {
        let vms: Vec<Vm> =
            [vm(1, VmKind::Primary, 2), vm(2, VmKind::Secondary, 2), vm(3, VmKind::Secondary, 1)].into();
        let cores = (0..2u16)
            .map(|i| Core::new(i, vmtree::vcpu_mpidr(i), vms.len(), Window::nowhere(), Pa(0), 0))
            .collect();
        let ids = || vms.iter().map(|vm| vm.id);
        let mut ownership = Ownership::new(ids().map(|id| (pa_of(id.0).0, MEMORY)), ids());
        ids().for_each(|id| assert!(ownership.assign(id, pa_of(id.0), MEMORY / PAGE)));
        let system: &'static System = Box::leak(Box::new(System {
            vms: vms.into(),
            cores,
            frequency: Frequency::from_hz(1_000_000_000).unwrap(),
            vtcr: 0,
            ownership: SpinMutex::new(ownership),
            conduit: Some(Conduit::Smc),
        }));
        system.vms.iter().for_each(|vm| vm.vcpus.iter().for_each(|vcpu| vcpu.attach(vm)));
        for (core, vcpu) in system.cores.iter().zip(&system.vms[0].vcpus) {
            core.attach(vcpu);
            let _ = vcpu.claim(VcpuState::Off, core).unwrap();
        }
        for vm in &system.vms[1..] {
            vm.vcpus[0].claim(VcpuState::Off, &system.cores[0]).unwrap().release(VcpuState::Ready);
        }
        SYSTEM.set(Some(system));
        Self { system, core: &system.cores[0] }
    }

    fn vcpu(&self, vm: u16, index: u16) -> &'static Vcpu {
        &self.system.vm(VmId(vm)).unwrap().vcpus[usize::from(index)]
    }

    /// Lets `vcpu`, which is loaded, make a call, and does the switch that follows.
    fn call(vcpu: &'static Vcpu, arguments: &[u64]) -> Outcome {
        let mut regs = Regs::default();
        regs.0[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: the test loads one vCPU at a time on its one core.
        let mut loaded = unsafe { Loaded::assume(vcpu) };
        loaded.regs().set_results(&regs);
        let is_run = arguments[0] == u64::from(ffa::RUN) && vcpu.vm().is_primary();
        Self::settle(vcpu, service::call(loaded), is_run)
    }

    /// `is_run`: `from` is the primary and called `FFA_RUN`, so that results are an exit.
    fn settle(from: &'static Vcpu, next: Next, is_run: bool) -> Outcome {
        if !core::ptr::eq(from, next) {
            run::switch(Some(from), next);
        }
        // SAFETY: as `call`.
        let regs = unsafe { Loaded::assume(next) }.regs().arguments();
        if core::ptr::eq(from, next) && !is_run {
            return Outcome::Returned(regs);
        }
        if next.vm().is_primary() {
            let (about, exit) = Exit::from_regs(&regs).unwrap();
            return Outcome::Exited(about, exit);
        }
        Outcome::Entered(next.id())
    }

    fn run(&self, vm: u16, index: u16) -> Outcome {
        Self::call(self.core.primary(), &[ffa::RUN.into(), id(vm, index).pack()])
    }
}

fn id(vm: u16, index: u16) -> VcpuId {
    VcpuId { vm: VmId(vm), index: VcpuIndex(index) }
}

fn refused(vm: u16, index: u16, code: ffa::Error) -> Outcome {
    Outcome::Exited(id(vm, index), Exit::Refused(code))
}

fn returned(x0: u64) -> impl Fn(&Outcome) -> bool {
    move |outcome| matches!(outcome, Outcome::Returned(regs) if regs.0[0] == x0)
}

#[test]
fn run_goes_to_the_vcpu_and_yield_comes_back() {
    let node = Node::new();
    for _ in 0..3 {
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        assert_eq!(node.vcpu(2, 0).state(), VcpuState::Running(0));
        assert_eq!(
            Node::call(node.vcpu(2, 0), &[ffa::YIELD.into()]),
            Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None })
        );
        assert_eq!(node.vcpu(2, 0).state(), VcpuState::Ready);
    }
}

#[test]
fn run_of_nonsense_is_refused() {
    let node = Node::new();
    for (vm, index) in [(0, 0), (1, 0), (4, 0), (u16::MAX, 0), (2, 2), (3, u16::MAX)] {
        assert_eq!(node.run(vm, index), refused(vm, index, ffa::Error::InvalidParameters), "{vm}:{index}");
    }
}

#[test]
fn a_vcpu_runs_on_one_core_at_a_time() {
    let node = Node::new();
    let _elsewhere = node.vcpu(2, 0).claim(VcpuState::Ready, &node.system.cores[1]).unwrap();
    assert_eq!(node.run(2, 0), refused(2, 0, ffa::Error::Busy));
}

#[test]
fn only_the_primary_runs_vcpus() {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let outcome = Node::call(node.vcpu(2, 0), &[ffa::RUN.into(), id(3, 0).pack()]);
    let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
    assert_eq!(regs.0[0], u64::from(ffa::ERROR));
    assert_eq!(ffa::Error::from_bits(regs.0[2]), Some(ffa::Error::NotSupported));
    assert_eq!(node.vcpu(3, 0).state(), VcpuState::Ready);
}

#[test]
fn unknown_calls_change_nothing() {
    let node = Node::new();
    let primary = node.core.primary();
    for function in [0u64, 0x8400_00aa, 0xc400_001f, 0x8600_7777, 0xff01, 0xffff_ffff] {
        let arguments = [function, 1, 2, 3, 4, 5, 6, 7];
        let Outcome::Returned(regs) = Node::call(primary, &arguments) else { panic!() };
        if regs.0[0] == u64::from(ffa::ERROR) {
            assert_eq!(ffa::Error::from_bits(regs.0[2]), Some(ffa::Error::NotSupported));
        } else {
            assert_eq!(regs.0[0], hv_abi::SMCCC_NOT_SUPPORTED);
            assert_eq!(regs.0[1..], arguments[1..]);
        }
    }
}

#[test]
fn a_vcpu_that_is_off_waits_until_it_is_started() {
    let node = Node::new();
    let wait = Exit::WaitForInterrupt { timeout_ns: None };
    assert_eq!(node.run(2, 1), Outcome::Exited(id(2, 1), wait));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let start = [u64::from(psci::CPU_ON_64), vmtree::vcpu_mpidr(1), 0x4020_0000, 7];
    // The primary learns which vCPU to run; the caller still has work.
    assert_eq!(Node::call(node.vcpu(2, 0), &start), Outcome::Exited(id(2, 1), Exit::Interrupt));
    assert_eq!(node.vcpu(2, 0).state(), VcpuState::Ready);
    assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
    // SAFETY: the vCPU is loaded by this test.
    let mut loaded = unsafe { Loaded::assume(node.vcpu(2, 1)) };
    assert_eq!((loaded.regs().x[0], loaded.regs().pc), (7, 0x4020_0000));
    let again = Node::call(node.vcpu(2, 1), &start);
    assert!(returned(psci::Status::AlreadyOn.bits())(&again), "{again:?}");
}

#[test]
fn a_vm_is_off_when_its_last_vcpu_is() {
    let node = Node::new();
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    let off = Exit::Off { reset: false };
    assert_eq!(Node::call(node.vcpu(3, 0), &[psci::CPU_OFF.into()]), Outcome::Exited(id(3, 0), off));
    assert_eq!(node.run(3, 0), Outcome::Exited(id(3, 0), off));
    // The other VM goes on.
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
}

#[test]
fn system_off_and_reset_are_told_apart() {
    let node = Node::new();
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    let exit = Node::call(node.vcpu(3, 0), &[psci::SYSTEM_RESET.into()]);
    assert_eq!(exit, Outcome::Exited(id(3, 0), Exit::Off { reset: true }));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let exit = Node::call(node.vcpu(2, 0), &[psci::SYSTEM_OFF.into()]);
    assert_eq!(exit, Outcome::Exited(id(2, 0), Exit::Off { reset: false }));
}

#[test]
fn a_wait_ends_with_an_interrupt_and_not_before() {
    let node = Node::new();
    let vcpu = node.vcpu(2, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    vcpu.irqs.enable(paravirt::IPI, true);
    let wait = Exit::WaitForInterrupt { timeout_ns: None };
    let suspend = [u64::from(psci::CPU_SUSPEND_64)];
    assert_eq!(Node::call(vcpu, &suspend), Outcome::Exited(id(2, 0), wait));
    assert_eq!(vcpu.state(), VcpuState::Waiting);
    assert_eq!(node.run(2, 0), Outcome::Exited(id(2, 0), wait));
    let inject = [u64::from(paravirt::INTERRUPT_INJECT), 2, 0, paravirt::IPI.number().into()];
    // 1: the caller should run the target.
    assert!(returned(1)(&Node::call(node.core.primary(), &inject)));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert!(returned(paravirt::IPI.number().into())(&Node::call(vcpu, &[paravirt::INTERRUPT_GET.into()])));
    let none = Node::call(vcpu, &[paravirt::INTERRUPT_GET.into()]);
    assert!(returned(paravirt::NO_INTERRUPT.into())(&none));
}

#[test]
fn an_interrupt_that_comes_while_a_vcpu_goes_to_sleep_is_told() {
    let node = Node::new();
    let vcpu = node.vcpu(2, 0);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    vcpu.irqs.enable(paravirt::IPI, true);
    // SAFETY: the vCPU is loaded by this test.
    let loaded = unsafe { Loaded::assume(vcpu) };
    let next = run::wait(&loaded, VcpuState::Waiting);
    // Between the decision and the end of the switch, another core sends an interrupt.
    vcpu.irqs.pend(paravirt::IPI);
    assert_eq!(Node::settle(vcpu, next, false), Outcome::Exited(id(2, 0), Exit::Interrupt));
}

#[test]
fn an_ipi_to_a_sleeping_sibling_wakes_it_through_the_primary() {
    let node = Node::new();
    let (first, second) = (node.vcpu(2, 0), node.vcpu(2, 1));
    second.irqs.enable(paravirt::IPI, true);
    second.claim(VcpuState::Off, node.core).unwrap().release(VcpuState::Waiting);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let send = [u64::from(paravirt::INTERRUPT_SEND_IPI), 1];
    assert_eq!(Node::call(first, &send), Outcome::Exited(id(2, 1), Exit::Interrupt));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let nobody = Node::call(first, &[u64::from(paravirt::INTERRUPT_SEND_IPI), 2]);
    assert!(returned(u64::MAX)(&nobody));
}

#[test]
fn a_secondary_cannot_interrupt_another_vm() {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    for target in [1, 3, 0, 9] {
        let inject = [u64::from(paravirt::INTERRUPT_INJECT), target, 0, 9];
        assert!(returned(u64::MAX)(&Node::call(node.vcpu(2, 0), &inject)), "vm{target}");
    }
    let own = [u64::from(paravirt::INTERRUPT_INJECT), 2, 0, 64];
    assert!(returned(u64::MAX)(&Node::call(node.vcpu(2, 0), &own)));
}

#[test]
fn the_primarys_own_interrupt_comes_before_a_run() {
    let node = Node::new();
    let primary = node.core.primary();
    primary.irqs.enable(paravirt::TIMER, true);
    primary.irqs.pend(paravirt::TIMER);
    assert_eq!(node.run(2, 0), Outcome::Exited(id(2, 0), Exit::Interrupt));
    assert_eq!(node.vcpu(2, 0).state(), VcpuState::Ready);
}

#[test]
fn a_fault_stops_the_vm_and_is_recorded() {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let fault = Fault { syndrome: 0x9200_0046, address: 1, ipa: 2, pc: 3 };
    let vm = node.vcpu(2, 0).vm();
    vm.abort(VcpuIndex(0), fault);
    vm.abort(VcpuIndex(1), Fault { pc: 99, ..fault });
    // SAFETY: the vCPU is loaded by this test.
    let next = run::stop(&unsafe { Loaded::assume(node.vcpu(2, 0)) });
    assert_eq!(Node::settle(node.vcpu(2, 0), next, false), Outcome::Exited(id(2, 0), Exit::Aborted(fault)));
    assert_eq!(node.run(2, 1), Outcome::Exited(id(2, 1), Exit::Aborted(fault)));
    let Outcome::Returned(regs) = Node::call(node.core.primary(), &[vendor::CRASH_RECORD_GET.into(), 2])
    else {
        panic!()
    };
    let success = u64::from(ffa::SUCCESS);
    assert_eq!(regs.0, [success, id(2, 0).pack(), 0x9200_0046, 1, 2, 3, AbortCause::Fault as u64, 0]);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
}

#[test]
fn only_own_memory_becomes_a_mailbox() {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    let map = |tx: u64, rx: u64, pages: u64| {
        let Outcome::Returned(regs) = Node::call(vcpu, &[ffa::RXTX_MAP_64.into(), tx, rx, pages]) else {
            panic!()
        };
        if regs.0[0] == u64::from(ffa::SUCCESS) {
            Ok(())
        } else {
            Err(ffa::Error::from_bits(regs.0[2]).unwrap())
        }
    };
    let invalid = Err(ffa::Error::InvalidParameters);
    assert_eq!(map(0x4000_0000, 0x4000_0000, 1), invalid);
    assert_eq!(map(0x4000_0001, 0x4000_1000, 1), invalid);
    assert_eq!(map(0x4000_0000, 0x4020_0000, 1), invalid);
    assert_eq!(map(0x4000_0000, !0xfff, 1), invalid);
    assert_eq!(map(0x4000_0000, 0x4000_1000, 0), invalid);
    assert_eq!(map(0x4000_0000, 0x4000_1000, 2), invalid);
    assert_eq!(map(0x4000_0000, 0x4000_1000, 1), Ok(()));
    assert_eq!(map(0x4000_0000, 0x4000_1000, 1), Err(ffa::Error::Denied));
    let Outcome::Returned(regs) = Node::call(vcpu, &[ffa::RX_RELEASE.into()]) else { panic!() };
    assert_eq!(ffa::Error::from_bits(regs.0[2]), Some(ffa::Error::Denied));
}

#[test]
fn partitions_are_counted_by_uuid() {
    let node = Node::new();
    let count = |uuid: u64| {
        let call = [ffa::PARTITION_INFO_GET.into(), uuid, uuid, uuid, uuid, ffa::PARTITION_INFO_COUNT_ONLY];
        let Outcome::Returned(regs) = Node::call(node.core.primary(), &call) else { panic!() };
        (regs.0[0] == u64::from(ffa::SUCCESS)).then_some(regs.0[2])
    };
    assert_eq!(count(0), Some(3));
    assert_eq!(count(2), Some(1));
    assert_eq!(count(77), None);
    // Descriptors need a mailbox.
    let Outcome::Returned(regs) = Node::call(node.core.primary(), &[ffa::PARTITION_INFO_GET.into()]) else {
        panic!()
    };
    assert_eq!(ffa::Error::from_bits(regs.0[2]), Some(ffa::Error::Busy));
}

fn words(ids: (u16, u16)) -> u64 {
    u64::from(ids.0) << 16 | u64::from(ids.1)
}

/// Runs VM `vm`'s vCPU until it waits for a message.
fn wait_for_message(node: &Node, vm: u16, index: u16) {
    if node.vcpu(vm, index).state() == VcpuState::Off {
        node.vcpu(vm, index).claim(VcpuState::Off, node.core).unwrap().release(VcpuState::Ready);
    }
    assert_eq!(node.run(vm, index), Outcome::Entered(id(vm, index)));
    let waits = Exit::MessageWait { timeout_ns: None };
    assert_eq!(
        Node::call(node.vcpu(vm, index), &[ffa::MSG_WAIT.into()]),
        Outcome::Exited(id(vm, index), waits)
    );
}

/// A call of a loaded vCPU that is refused with `code`, and changes nothing.
fn is_refused(vcpu: &'static Vcpu, call: &[u64], code: ffa::Error) {
    let Outcome::Returned(regs) = Node::call(vcpu, call) else { panic!("{call:x?} left the vCPU") };
    assert_eq!((regs.0[0] as u32, ffa::Error::from_bits(regs.0[2])), (ffa::ERROR, Some(code)), "{call:x?}");
}

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
    assert_eq!(one.state(), VcpuState::WaitingForResponse);
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
    assert_eq!(regs.0[..4], [ffa::SUCCESS_64.into(), 0, 2 << 7 | 1 << 14, 3 | 3 << 16 | 0 << 32]);
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
