//! SErrors: the VM whose access caused one is told, or stopped, and no other; the machine goes on.

use super::*;
use crate::trap;

/// UEU, and an external abort: what a posted write may cause on a core with FEAT_RAS.
const UNRECOVERABLE: u64 = 0b001 << 10 | 1 << 9 | 0b01_0001;
const CORRECTED: u64 = 0b110 << 10 | 0b01_0001;

/// A primary, VM 2 and VM 3, of which those in `with_devices` have devices.
fn node(with_devices: &[u16]) -> Node {
    let mut vms = [vm(1, VmKind::Primary, 2), vm(2, VmKind::Secondary, 2), vm(3, VmKind::Secondary, 1)];
    vms.iter_mut().filter(|vm| with_devices.contains(&vm.id.0)).for_each(Vm::set_devices);
    Node::of(vms.into(), Routes::new())
}

fn leave(node: &Node, vm: u16) -> Outcome {
    Node::call(node.vcpu(vm, 0), &[ffa::YIELD.into()])
}

#[test]
fn stops_the_vm_that_caused_an_error_and_not_the_next() {
    let node = node(&[2]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    // A posted write of VM 2 fails when the VM has just made its last call.
    arch::SERROR.set(Some(UNRECOVERABLE));
    assert!(matches!(leave(&node, 2), Outcome::Exited(..)));
    assert_eq!(arch::SERROR.get(), None);
    assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
    leave(&node, 3);
    let Outcome::Exited(_, Exit::Aborted(fault)) = node.run(2, 0) else { panic!("VM 2 goes on") };
    assert_eq!(fault.syndrome, 0x2f << 26 | 1 << 25 | UNRECOVERABLE);
    assert_eq!(node.vm(2).crash(), Some((VcpuIndex(0), fault)));
}

#[test]
fn a_vm_without_devices_is_not_synchronised() {
    let node = node(&[]);
    arch::SERROR.set(Some(UNRECOVERABLE));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    leave(&node, 2);
    assert!(arch::SERROR.take().is_some());
}

#[test]
fn the_primary_gets_a_virtual_error_once() {
    let node = node(&[1]);
    let primary = node.core.primary();
    arch::SERROR.set(Some(UNRECOVERABLE));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)), "its error is not VM 2's");
    assert_eq!(arch::VIRTUAL_SERROR.get().0 & arch::VSE, 0, "nor does VM 2 see it");
    leave(&node, 2);
    assert_eq!(arch::VIRTUAL_SERROR.get(), (arch::VSE, UNRECOVERABLE));
    // It stays pending, as long as the VM masks it, over interrupts and other VMs.
    // SAFETY: the primary is loaded on the test's only core.
    unsafe { Loaded::assume(primary) }.update_line();
    assert!(arch::has_virtual_serror());
    node.run(2, 0);
    leave(&node, 2);
    assert!(arch::has_virtual_serror());
    // The processor clears HCR_EL2.VSE when the VM takes it.
    arch::VIRTUAL_SERROR.set((0, UNRECOVERABLE));
    // SAFETY: as above.
    unsafe { Loaded::assume(primary) }.update_line();
    node.run(2, 0);
    leave(&node, 2);
    assert!(!arch::has_virtual_serror());
}

#[test]
fn an_error_while_the_primary_runs_does_not_stop_the_machine() {
    let node = node(&[1]);
    let primary = node.core.primary();
    // SAFETY: the primary is loaded on the test's only core.
    let next = trap::serror(&unsafe { Loaded::assume(primary) }, 0x2f << 26 | UNRECOVERABLE);
    assert!(core::ptr::eq(next, primary));
    assert_eq!(arch::VIRTUAL_SERROR.get(), (arch::VSE, UNRECOVERABLE));
}

#[test]
fn a_corrected_error_is_only_reported() {
    let node = node(&[1, 2]);
    node.run(2, 0);
    arch::SERROR.set(Some(CORRECTED));
    leave(&node, 2);
    assert!(!arch::has_virtual_serror());
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
}
