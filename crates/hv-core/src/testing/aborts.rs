//! Accesses to addresses where a VM has nothing.

use super::{Node, id};
use crate::{
    arch::{FAULT, INJECTED},
    bcm2836::{Bcm2836, Place},
    trap,
    vcpu::Loaded,
    vm::{Vm, VmKind},
};
use alloc::boxed::Box;
use hv_abi::{
    exit::{Exit, Fault},
    ids::VmId,
    vendor,
};

/// Where no VM has anything.
const NOWHERE: u64 = 0x7654_3210;
/// `ESR_EL2` of a load and of an instruction fetch from a lower level: translation faults at level 1.
const LOAD: u64 = 0x24 << 26 | 1 << 25 | 0b00_0101;
const FETCH: u64 = 0x20 << 26 | 1 << 25 | 0b00_0101;

/// Lets vCPU 0 of VM `vm` access an address. Returns what is injected, or `None` if the VM is stopped.
fn access(node: &Node, vm: u16, esr: u64) -> Option<(u64, u64)> {
    let vcpu = node.vcpu(vm, 0);
    if vm != 1 {
        assert_eq!(node.run(vm, 0), super::Outcome::Entered(id(vm, 0)));
    }
    FAULT.set(NOWHERE);
    INJECTED.set((0, 0));
    // SAFETY: it is loaded.
    let next = trap::handle(unsafe { Loaded::assume(vcpu) }, esr);
    if core::ptr::eq(next, vcpu) {
        return Some(INJECTED.get());
    }
    let fault = Fault { syndrome: esr, address: NOWHERE, ipa: NOWHERE & !0xfff, pc: 0 };
    let outcome = Node::settle(vcpu, next, true);
    assert!(matches!(outcome, super::Outcome::Exited(_, Exit::Aborted { .. })), "{outcome:?}");
    assert_eq!(node.vm(vm).crash().map(|(_, fault)| fault), Some(fault));
    None
}

fn with(change: fn(&mut Vm)) -> Node {
    Node::with_vms(|vm| {
        if vm.id == VmId(2) {
            change(vm);
        }
    })
}

#[test]
fn vms_that_take_themselves_for_machines_get_external_aborts() {
    let machine_like: [fn(&mut Vm); 2] =
        [|vm| vm.kind = VmKind::SuperSecondary, |vm| vm.bcm2836 = Some(Box::new(Bcm2836::new(Place::USUAL)))];
    for change in machine_like {
        let node = with(change);
        assert_eq!(access(&node, 1, LOAD), Some((0x24 << 26 | 1 << 25 | 0x10, NOWHERE)));
        assert_eq!(access(&node, 2, LOAD), Some((0x24 << 26 | 1 << 25 | 0x10, NOWHERE)));
        assert!(node.vm(2).is_active());
    }
    let node = with(|vm| vm.kind = VmKind::SuperSecondary);
    assert_eq!(access(&node, 2, FETCH), Some((0x20 << 26 | 1 << 25 | 0x10, NOWHERE)));
}

#[test]
fn para_virtual_vms_are_stopped() {
    for esr in [LOAD, FETCH] {
        let node = Node::new();
        assert_eq!(access(&node, 2, esr), None);
        assert!(!node.vm(2).is_active() && node.vm(3).is_active());
    }
}

#[test]
fn external_aborts_are_counted() {
    let node = with(|vm| vm.kind = VmKind::SuperSecondary);
    access(&node, 2, LOAD);
    // SAFETY: it is loaded.
    trap::handle(unsafe { Loaded::assume(node.vcpu(2, 0)) }, FETCH);
    assert_eq!(node.vcpu(2, 0).statistics.external_aborts(), 2);
    Node::call(node.vcpu(2, 0), &[hv_abi::ffa::YIELD.into()]);
    let call = [vendor::VCPU_STATISTICS_GET.into(), id(2, 0).pack(), 1];
    let super::Outcome::Returned(regs) = Node::call(node.core.primary(), &call) else { panic!() };
    assert_eq!(regs.0[1..], [2, 0, 0, 0, 0, 0, 0]);
}
