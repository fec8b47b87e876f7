//! What of firmware VMs reach.

use super::*;
use crate::{
    arch::FIRMWARE,
    firmware::{self, Whitelist},
};
use hv_abi::{SMCCC_NOT_SUPPORTED, smccc};
use std::vec;

thread_local! {
    /// The calls that firmware has got.
    static CALLS: RefCell<Vec<[u64; 8]>> = const { RefCell::new(Vec::new()) };
    /// What firmware answers to `SMCCC_ARCH_FEATURES` for `ARCH_WORKAROUND_1` to `_3`.
    static ANSWERS: Cell<[i32; 3]> = const { Cell::new([-1; 3]) };
}

const WORKAROUNDS: [u32; 3] = [smccc::ARCH_WORKAROUND_1, smccc::ARCH_WORKAROUND_2, smccc::ARCH_WORKAROUND_3];

/// Firmware with SMCCC 1.1 that answers what it does not know with its arguments, changed.
fn install() {
    FIRMWARE.set(|x| {
        CALLS.with_borrow_mut(|calls| calls.push(x));
        let number = |function: u64| WORKAROUNDS.iter().position(|known| u64::from(*known) == function);
        let answer = match (x[0] as u32, number(x[1])) {
            (psci::FEATURES, _) => 0,
            (smccc::VERSION, _) => smccc::VERSION_1_1,
            (smccc::ARCH_FEATURES, Some(number)) => ANSWERS.get()[number],
            _ => return x.map(|value| !value),
        };
        [i64::from(answer) as u64, 0, 0, 0, 0, 0, 0, 0]
    });
}

fn calls() -> Vec<[u64; 8]> {
    CALLS.take()
}

fn x0(outcome: &Outcome) -> u64 {
    let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
    regs.0[0]
}

/// A node whose cores have asked firmware that answers with `answers`, core by core.
fn probed(answers: &[[i32; 3]]) -> Node {
    let node = Node::new();
    install();
    for answer in answers {
        ANSWERS.set(*answer);
        firmware::probe();
    }
    node
}

fn seen(vcpu: &'static Vcpu) -> [i32; 3] {
    WORKAROUNDS.map(|function| x0(&Node::call(vcpu, &[smccc::ARCH_FEATURES.into(), function.into()])) as i32)
}

#[test]
fn a_workaround_is_needed_if_one_core_needs_it() {
    for (answers, expected) in [
        (vec![[-1, -1, -1]], [-1, -1, -1]),
        (vec![[1, -2, 1]], [1, -2, 1]),
        (vec![[1, 1, 1], [0, 1, 1]], [0, 1, 1]),
        (vec![[0, 1, 0], [1, 1, 1]], [0, 1, 0]),
        // It stays on for all VMs, so there is nothing to be switched.
        (vec![[1, 0, 1]], [1, 1, 1]),
    ] {
        let node = probed(&answers);
        for vcpu in [node.core.primary(), node.vcpu(2, 0)] {
            assert_eq!(seen(vcpu), expected, "{answers:?}");
        }
    }
}

#[test]
fn workarounds_reach_firmware_if_they_are_needed() {
    let node = probed(&[[0, 0, 1]]);
    assert!(calls().contains(&[smccc::ARCH_WORKAROUND_2.into(), 1, 0, 0, 0, 0, 0, 0]), "switched on");
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    for (function, reaches) in WORKAROUNDS.iter().zip([true, false, false]) {
        let function = u64::from(*function);
        assert_eq!(x0(&Node::call(vcpu, &[function, 0])), function, "nothing is returned");
        let expected = if reaches { vec![[function, 0, 0, 0, 0, 0, 0, 0]] } else { vec![] };
        assert_eq!(calls(), expected);
    }
    let node = probed(&[[-1, -2, -1]]);
    calls();
    for function in WORKAROUNDS {
        assert_eq!(x0(&Node::call(node.core.primary(), &[function.into(), 0])), SMCCC_NOT_SUPPORTED);
    }
    assert!(calls().is_empty());
}

#[test]
fn old_firmware_is_not_asked_for_workarounds() {
    let node = Node::new();
    FIRMWARE.set(|x| {
        CALLS.with_borrow_mut(|calls| calls.push(x));
        [if x[0] as u32 == psci::FEATURES { 0 } else { u64::MAX }; 8]
    });
    firmware::probe();
    assert!(calls().iter().all(|call| call[0] as u32 != smccc::ARCH_FEATURES));
    assert_eq!(seen(node.vcpu(2, 0)), [-1; 3]);
}

/// VM 2 has function `0x3f000000`, VM 3 all functions; the cells are those of a device tree.
fn node_with_whitelists() -> Node {
    let node = Node::with_vms(|vm| {
        let functions =
            if vm.id == VmId(2) { bundle::Cells::new(&[[0x3f, 0, 0, 0]]) } else { bundle::Cells::default() };
        vm.whitelist = Whitelist { functions, permissive: vm.id == VmId(3) };
    });
    install();
    for vm in [2, 3] {
        let _ = node.vcpu(vm, 0).claim(VcpuState::Ready, node.core).unwrap();
    }
    node
}

#[test]
fn whitelisted_calls_go_to_firmware_with_the_vms_id() {
    let node = node_with_whitelists();
    let call = [0x3f00_0000, 1, 2, 3, 4, 5, 6, 0x7777_8888];
    let Outcome::Returned(regs) = Node::smc(node.vcpu(2, 0), &call) else { panic!() };
    assert_eq!(calls(), [[0x3f00_0000, 1, 2, 3, 4, 5, 6, 0x7777_0002]]);
    assert_eq!(regs.0, [!0x3f00_0000, !1, !2, !3, !4, !5, !6, 0x7777_8888]);
    // By HVC it is the hypervisor that is called, which has no such function.
    assert_eq!(x0(&Node::call(node.vcpu(2, 0), &call)), SMCCC_NOT_SUPPORTED);
    assert!(calls().is_empty());
}

#[test]
fn other_calls_do_not() {
    let node = node_with_whitelists();
    for vcpu in [node.core.primary(), node.vcpu(2, 0)] {
        assert_eq!(x0(&Node::smc(vcpu, &[0x3f00_0001])), SMCCC_NOT_SUPPORTED);
    }
    assert_eq!(x0(&Node::smc(node.core.primary(), &[0x3f00_0000])), SMCCC_NOT_SUPPORTED);
    assert!(calls().is_empty());
}

#[test]
fn a_permissive_vm_has_all_but_power_ffa_and_hypervisors_calls() {
    let node = node_with_whitelists();
    let vcpu = node.vcpu(3, 0);
    for function in [0x3f00_0000_u64, 0x8000_0002, 0x8200_0000, 0x8400_0050, 0xb200_0000] {
        assert_eq!(x0(&Node::smc(vcpu, &[function])), !function);
        assert_eq!(calls().len(), 1);
    }
    for function in
        [0x8400_000e_u64, 0xc400_000e, 0x8400_0013, 0x8400_006e, 0xc400_00a0, 0x8500_0000, 0xc600_0020]
    {
        let refused = x0(&Node::smc(vcpu, &[function]));
        assert!([SMCCC_NOT_SUPPORTED, ffa::ERROR.into()].contains(&refused), "{function:#x}");
    }
    // What the hypervisor has it answers itself.
    assert_eq!(x0(&Node::smc(vcpu, &[psci::VERSION.into()])), psci::VERSION_1_1);
    assert!(calls().is_empty());
}

#[test]
fn without_firmware_nothing_is_called() {
    let mut node = node_with_whitelists();
    for conduit in [None, Some(Conduit::Hvc)] {
        let vms = Vec::new().into();
        let cores = Vec::new().into();
        let system = System {
            vms,
            cores,
            frequency: node.system.frequency,
            vtcr: 0,
            ownership: crate::lock::Lock::new(Ownership::new([].into_iter(), [].into_iter())),
            conduit,
            workarounds: Default::default(),
            routes: crate::routing::Routes::new(),
        };
        let vcpu = node.vcpu(3, 0);
        SYSTEM.set(Some(Box::leak(Box::new(system))));
        firmware::probe();
        assert_eq!(x0(&Node::smc(vcpu, &[0x3f00_0000])), SMCCC_NOT_SUPPORTED);
        assert!(calls().is_empty());
        node = node_with_whitelists();
    }
}
