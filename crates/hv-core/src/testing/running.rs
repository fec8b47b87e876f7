//! Running, waiting, stopping, and the first calls of a VM.

use super::*;
use hv_abi::{exit::AbortCause, vendor};

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
    let start = [u64::from(psci::CPU_ON_64), vmtree::vcpu_mpidr(1), 0x4010_0000, 7];
    // The primary learns which vCPU to run; the caller still has work.
    assert_eq!(Node::call(node.vcpu(2, 0), &start), Outcome::Exited(id(2, 1), Exit::Interrupt));
    assert_eq!(node.vcpu(2, 0).state(), VcpuState::Ready);
    assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
    // SAFETY: the vCPU is loaded by this test.
    let mut loaded = unsafe { Loaded::assume(node.vcpu(2, 1)) };
    assert_eq!((loaded.regs().x[0], loaded.regs().pc), (7, 0x4010_0000));
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
    assert!(vm.abort(VcpuIndex(0), fault));
    assert!(!vm.abort(VcpuIndex(1), Fault { pc: 99, ..fault }));
    // SAFETY: the vCPU is loaded by this test.
    let next = run::stop(&unsafe { Loaded::assume(node.vcpu(2, 0)) }, true);
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

/// A trapped access to a register by `x5`.
fn access(register: u16, read: bool) -> u64 {
    let n = u64::from(register);
    let fields =
        (n >> 14) << 20 | (n & 7) << 17 | (n >> 11 & 7) << 14 | (n >> 7 & 0xf) << 10 | (n >> 3 & 0xf) << 1;
    0x18 << 26 | 1 << 25 | fields | 5 << 5 | u64::from(read)
}

/// Lets `vcpu`, which is loaded, trap; returns x5 if it goes on.
fn trap(vcpu: &'static Vcpu, esr: u64) -> Option<u64> {
    // SAFETY: the test loads one vCPU at a time on its one core.
    let mut loaded = unsafe { Loaded::assume(vcpu) };
    loaded.regs().x = [0x5ec2_e700; 31];
    let next = crate::trap::handle(loaded, esr);
    // SAFETY: as above.
    let x = unsafe { Loaded::assume(vcpu) }.regs().x;
    assert!(x.iter().enumerate().all(|(n, x)| n == 5 || *x == 0x5ec2_e700), "only x5 may change");
    core::ptr::eq(next, vcpu).then_some(x[5])
}

#[test]
fn no_register_stops_a_vm_and_only_what_is_zero_or_a_value_is_answered() {
    use hv_abi::registers::{Seen, rule};
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    for register in 1 << 14..=u16::MAX {
        for read in [true, false] {
            let x5 = trap(node.vcpu(2, 0), access(register, read)).expect("the VM goes on");
            let seen = rule(register).filter(|rule| rule.allows(read)).map(|rule| rule.group.secondary());
            match seen {
                Some(Seen::Zero | Seen::Ignored) if read => assert_eq!(x5, 0, "{register:#06x}"),
                Some(Seen::Value) => assert_ne!(x5, 0x5ec2_e700, "{register:#06x}"),
                _ => assert_eq!(x5, 0x5ec2_e700, "{register:#06x}"),
            }
        }
    }
    assert!(node.vcpu(2, 0).vm().stop_reason().is_none());
}

#[test]
fn instructions_of_hidden_features_stop_nobody() {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // AArch32 coprocessors, 64-byte stores, SVE, SME, pointer authentication, guarded control stacks.
    for class in [0x00, 0x03, 0x05, 0x08, 0x09, 0x0a, 0x0c, 0x14, 0x19, 0x1b, 0x1d, 0x2d] {
        assert_eq!(trap(node.vcpu(2, 0), class << 26), Some(0x5ec2_e700), "{class:#x}");
    }
    // What nothing explains stops the VM: a breakpoint at EL2, say.
    assert_eq!(trap(node.vcpu(2, 0), 0x30 << 26), None);
}

#[test]
fn keys_belong_to_whoever_used_them_last() {
    use crate::arch::KEYS;
    const AUTHENTICATE: u64 = 0x09 << 26;
    let node = Node::new();
    let (primary, secondary) = (node.core.primary(), node.vcpu(2, 0));
    let has = |vcpu: &Vcpu| vcpu.hcr.get() & KEYS != 0;
    trap(primary, AUTHENTICATE);
    assert!(has(primary));
    // A secondary that does not use them leaves the primary's alone.
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    assert!(has(primary) && !has(secondary));
    Node::call(secondary, &[ffa::YIELD.into()]);
    assert!(has(primary));
    // One that does displaces them, and has its own until it leaves.
    node.run(2, 0);
    trap(secondary, AUTHENTICATE);
    assert!(!has(primary) && has(secondary));
    Node::call(secondary, &[ffa::YIELD.into()]);
    assert!(!has(primary) && !has(secondary));
    node.run(2, 0);
    assert!(!has(secondary));
}

#[test]
fn what_a_vcpu_does_is_counted() {
    let node = Node::new();
    for _ in 0..3 {
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        Node::call(node.vcpu(2, 0), &[ffa::YIELD.into()]);
    }
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    Node::call(node.vcpu(2, 0), &[ffa::MSG_WAIT.into()]);
    let Outcome::Returned(regs) =
        Node::call(node.core.primary(), &[vendor::VCPU_STATISTICS_GET.into(), id(2, 0).pack()])
    else {
        panic!()
    };
    assert_eq!(regs.0[1..], [0, 4, 3, 0, 1, 0, 0]);
    is_refused(
        node.core.primary(),
        &[vendor::VCPU_STATISTICS_GET.into(), id(1, 0).pack()],
        ffa::Error::InvalidParameters,
    );
}
