//! PSCI, as a VM sees it.

use super::*;
use crate::arch::FIRMWARE;
use psci::Status;

const MEMORY_BASE: u64 = 0x4000_0000;

/// What x0 holds after a call that returns.
fn x0(vcpu: &'static Vcpu, arguments: &[u64]) -> u64 {
    let outcome = Node::call(vcpu, arguments);
    let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
    regs.0[0]
}

fn status(vcpu: &'static Vcpu, arguments: &[u64]) -> i32 {
    x0(vcpu, arguments) as i32
}

fn running() -> (Node, &'static Vcpu) {
    let node = Node::new();
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    (node, vcpu)
}

#[test]
fn every_function_is_found_and_no_other() {
    let (node, vcpu) = running();
    // All that PSCI 1.1 requires, and what is optional and there.
    let known = [
        psci::VERSION,
        psci::FEATURES,
        psci::CPU_SUSPEND,
        psci::CPU_SUSPEND_64,
        psci::CPU_OFF,
        psci::CPU_ON,
        psci::CPU_ON_64,
        psci::AFFINITY_INFO,
        psci::AFFINITY_INFO_64,
        psci::MIGRATE_INFO_TYPE,
        psci::SYSTEM_OFF,
        psci::SYSTEM_RESET,
        psci::SYSTEM_RESET2,
        psci::SYSTEM_RESET2_64,
        hv_abi::smccc::VERSION,
    ];
    for function in
        (0..0x40).flat_map(|n| [0x8400_0000 + n, 0xc400_0000 + n]).chain([0x8000_0000, 0x8000_0001])
    {
        let expected = if known.contains(&function) { Status::Success } else { Status::NotSupported };
        let feature = status(vcpu, &[psci::FEATURES.into(), function.into()]);
        let suspend = [psci::CPU_SUSPEND, psci::CPU_SUSPEND_64].contains(&function);
        assert_eq!(feature, if suspend { 2 } else { expected as i32 }, "{function:#x}");
        if expected == Status::NotSupported
            && function > 0x8400_0000
            && !crate::service::functions().contains(&function)
        {
            assert_eq!(status(vcpu, &[function.into()]), Status::NotSupported as i32, "{function:#x}");
        }
    }
    // The format of the primary's states, and whether the machine can be reset so, are for firmware to say.
    let suspend = [psci::FEATURES.into(), psci::CPU_SUSPEND_64.into()];
    for (answer, expected) in [(u64::MAX, 0), (0, 0), (1, 0), (2, 2), (3, 2)] {
        FIRMWARE.set(
            [|_| [u64::MAX; 8], |_| [0; 8], |_| [1; 8], |_| [2; 8], |_| [3; 8]]
                [answer.wrapping_add(1) as usize],
        );
        assert_eq!(x0(node.core.primary(), &suspend), expected, "{answer}");
    }
    FIRMWARE.set(|_| [u64::MAX; 8]);
    let ask = [psci::FEATURES.into(), psci::SYSTEM_RESET2.into()];
    assert_eq!(status(node.core.primary(), &ask), Status::NotSupported as i32);
    FIRMWARE.set(|_| [0; 8]);
    assert_eq!(status(node.core.primary(), &ask), 0);
}

#[test]
fn versions_and_constants() {
    let (_, vcpu) = running();
    assert_eq!(x0(vcpu, &[psci::VERSION.into()]), 0x1_0001);
    assert_eq!(x0(vcpu, &[psci::MIGRATE_INFO_TYPE.into()]), 2);
}

#[test]
fn a_vcpu_starts_in_its_own_memory_only() {
    for function in [psci::CPU_ON, psci::CPU_ON_64] {
        let (node, vcpu) = running();
        let on = |mpidr, entry| [u64::from(function), mpidr, entry, 7];
        for entry in [0, MEMORY_BASE - 4, MEMORY_BASE + 2, MEMORY_BASE + MEMORY, pa_of(2).0 | 0xf000_0000] {
            assert_eq!(status(vcpu, &on(1, entry)), Status::InvalidAddress as i32, "{entry:#x}");
        }
        for mpidr in [2, 0x100, 0x8000_0001, 0xff00_0001] {
            assert_eq!(status(vcpu, &on(mpidr, MEMORY_BASE)), Status::InvalidParameters as i32, "{mpidr:#x}");
        }
        assert_eq!(node.vcpu(2, 1).state(), VcpuState::Off);
        // The 32-bit form has 32-bit arguments.
        let high = if function == psci::CPU_ON { 1 << 32 } else { 0 };
        let started = Node::call(vcpu, &on(1 | high, (MEMORY_BASE + 8) | high));
        assert_eq!(started, Outcome::Exited(id(2, 1), Exit::Interrupt));
        assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
        // SAFETY: the vCPU is loaded by this test.
        assert_eq!(unsafe { Loaded::assume(node.vcpu(2, 1)) }.regs().pc, MEMORY_BASE + 8);
    }
}

#[test]
fn a_vcpu_starts_where_it_may_execute() {
    let node = Node::with_vms(|vm| {
        let access = Access { read: true, write: true, execute: false };
        let page = (Ipa(memory_of(vm.kind, vm.id.0).0 + PAGE), Pa(pa_of(vm.id.0).0 + PAGE));
        vm.stage2.get_mut().replace(page.0, page.1, PAGE, access).unwrap();
    });
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let on = |entry| [psci::CPU_ON_64.into(), 1, entry, 0];
    assert_eq!(status(node.vcpu(2, 0), &on(MEMORY_BASE + PAGE)), Status::InvalidAddress as i32);
    let started = Node::call(node.vcpu(2, 0), &on(MEMORY_BASE + 2 * PAGE));
    assert_eq!(started, Outcome::Exited(id(2, 1), Exit::Interrupt));
}

#[test]
fn the_primary_starts_cores_in_its_own_memory_only() {
    let node = Node::new();
    let primary = node.core.primary();
    let on = |entry| [u64::from(psci::CPU_ON_64), 1, entry, 0];
    for entry in [0, MEMORY_BASE, pa_of(2).0, pa_of(1).0 + MEMORY, pa_of(1).0 + 1] {
        assert_eq!(status(primary, &on(entry)), Status::InvalidAddress as i32, "{entry:#x}");
    }
}

#[test]
fn a_vcpu_is_pending_until_it_is_entered() {
    let (node, vcpu) = running();
    let info = |level| [u64::from(psci::AFFINITY_INFO_64), 1, level];
    let on = [psci::CPU_ON_64.into(), 1, MEMORY_BASE, 0];
    for _ in 0..2 {
        assert_eq!(x0(vcpu, &info(0)), psci::AFFINITY_OFF);
        assert_eq!(Node::call(vcpu, &on), Outcome::Exited(id(2, 1), Exit::Interrupt));
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        assert_eq!(x0(vcpu, &info(0)), psci::AFFINITY_ON_PENDING);
        assert_eq!(status(vcpu, &on), Status::OnPending as i32);
        let _ = Node::call(vcpu, &[ffa::YIELD.into()]);
        assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
        let _ = Node::call(node.vcpu(2, 1), &[ffa::YIELD.into()]);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        assert_eq!(x0(vcpu, &info(0)), psci::AFFINITY_ON);
        assert_eq!(status(vcpu, &on), Status::AlreadyOn as i32);
        assert_eq!(status(vcpu, &info(1)), Status::InvalidParameters as i32);
        let _ = Node::call(vcpu, &[ffa::YIELD.into()]);
        assert_eq!(node.run(2, 1), Outcome::Entered(id(2, 1)));
        let _ = Node::call(node.vcpu(2, 1), &[psci::CPU_OFF.into()]);
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    }
    assert_eq!(x0(vcpu, &[psci::AFFINITY_INFO.into(), 0, 0]), psci::AFFINITY_ON);
}

#[test]
fn a_suspended_vcpu_asks_for_what_there_is() {
    for function in [psci::CPU_SUSPEND, psci::CPU_SUSPEND_64] {
        let (_, vcpu) = running();
        let suspend = |state, entry| [u64::from(function), state, entry, 0];
        for state in [1 << 28, 1 << 29, 1 << 31] {
            assert_eq!(
                status(vcpu, &suspend(state, MEMORY_BASE)),
                Status::InvalidParameters as i32,
                "{state:#x}"
            );
        }
        assert_eq!(status(vcpu, &suspend(1 << 30, 0)), Status::InvalidAddress as i32);
        let wait = Exit::WaitForInterrupt { timeout_ns: None };
        assert_eq!(Node::call(vcpu, &suspend(0x4fff_ffff, MEMORY_BASE)), Outcome::Exited(id(2, 0), wait));
        // SAFETY: the vCPU does not run; this test has the only core.
        assert_eq!(unsafe { Loaded::assume(vcpu) }.regs().x[0], 0);
    }
}

#[test]
fn the_primary_suspends_in_firmwares_format() {
    let node = Node::new();
    for state in [0, 1 << 16, 1 << 30, 1 << 31] {
        assert_eq!(status(node.core.primary(), &[psci::CPU_SUSPEND_64.into(), state, 0, 0]), 0, "{state:#x}");
    }
}

#[test]
fn a_warm_reset_is_a_reset() {
    for function in [psci::SYSTEM_RESET2, psci::SYSTEM_RESET2_64] {
        let (_, vcpu) = running();
        for kind in [1, 0x8000_0000] {
            assert_eq!(status(vcpu, &[function.into(), kind]), Status::InvalidParameters as i32);
        }
        let off = Exit::Off { reset: true };
        assert_eq!(Node::call(vcpu, &[function.into(), 0]), Outcome::Exited(id(2, 0), off));
    }
}
