//! A core that the primary switches off and on comes up in its reset state: nothing that it held before counts.

use super::*;
use crate::vcpu::Claimed;

/// Switches the node's core off and on, as `CPU_OFF` and a later `CPU_ON` of the primary do.
fn power_cycle(node: &Node) {
    let primary = node.core.primary();
    // SAFETY: the primary is loaded on this core, which is the test's only one.
    unsafe { Claimed::assume(primary) }.release(VcpuState::Off);
    let mut claimed = primary.claim(VcpuState::Off, node.core).unwrap();
    claimed.reset(pa_of(1).0, 0);
    run::switch(None, primary);
}

fn enter(node: &Node) {
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
}

fn leave(node: &Node) {
    let left = Node::call(node.vcpu(2, 0), &[ffa::YIELD.into()]);
    assert!(matches!(left, Outcome::Exited(..)), "{left:?}");
}

#[test]
fn restores_fp_after_cpu_hotplug() {
    let node = Node::new();
    enter(&node);
    // SAFETY: the vCPU is loaded on the test's only core.
    run::give_fp(&unsafe { Loaded::assume(node.vcpu(2, 0)) });
    leave(&node);
    enter(&node);
    assert!(node.core.contents.fp_in_use.get(), "the registers still hold the vCPU's values");
    leave(&node);
    power_cycle(&node);
    assert!(node.core.contents.fp_owner.get().is_null());
    enter(&node);
    assert!(!node.core.contents.fp_in_use.get(), "the registers hold reset values: first use must load them");
}

#[test]
fn restores_the_primarys_keys_and_fp_after_cpu_hotplug() {
    let node = Node::new();
    let primary = node.core.primary();
    // SAFETY: the primary is loaded on the test's only core.
    run::give_keys(&unsafe { Loaded::assume(primary) });
    // SAFETY: as above.
    run::give_fp(&unsafe { Loaded::assume(primary) });
    assert_ne!(primary.hcr.get() & crate::arch::KEYS, 0);
    power_cycle(&node);
    assert_eq!(primary.hcr.get() & crate::arch::KEYS, 0, "the first use of keys must load them");
    assert!(!node.core.contents.fp_in_use.get());
}

#[test]
fn restores_a_secondarys_keys_after_cpu_hotplug() {
    let node = Node::new();
    enter(&node);
    // SAFETY: the vCPU is loaded on the test's only core.
    run::give_keys(&unsafe { Loaded::assume(node.vcpu(2, 0)) });
    leave(&node);
    power_cycle(&node);
    enter(&node);
    assert_eq!(node.vcpu(2, 0).hcr.get() & crate::arch::KEYS, 0, "the first use of keys must load them");
}

#[test]
fn flushes_tlbs_of_every_vm_after_cpu_hotplug() {
    let node = Node::new();
    enter(&node);
    leave(&node);
    assert!(!node.core.another_ran_last(VmId(2), 0));
    power_cycle(&node);
    assert!(node.core.another_ran_last(VmId(2), 0), "who ran last before the power cycle does not count");
}
