//! Interrupts of devices.

use super::*;
use hv_abi::{ids::VcpuIndex, paravirt, vendor};

const CLOCK: u32 = 34;
const ENABLE: u64 = paravirt::INTERRUPT_ENABLE as u64;
const GET: u64 = paravirt::INTERRUPT_GET as u64;
const END: u64 = paravirt::INTERRUPT_DEACTIVATE as u64;
const NONE: u64 = paravirt::NO_INTERRUPT as u64;
const FAILED: u64 = u64::MAX;

fn x0(vcpu: &'static Vcpu, arguments: &[u64]) -> u64 {
    let outcome = Node::call(vcpu, arguments);
    let Outcome::Returned(regs) = outcome else { panic!("{outcome:?}") };
    regs.0[0]
}

/// VM 2 owns the clock, and runs.
fn node() -> (Node, &'static Vcpu) {
    let node = Node::new();
    node.system.routes.fix(CLOCK, VmId(2));
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let vcpu = node.vcpu(2, 0);
    (node, vcpu)
}

/// The interrupt arrives on the core of the test; returns the vCPU that it is pending for.
fn arrive(node: &Node) -> Option<VcpuId> {
    let target = node.system.routes.arrive(CLOCK)?;
    target.irqs.pend(paravirt::DEVICE);
    Some(target.id())
}

#[test]
fn an_interrupt_is_enabled_taken_and_ended() {
    let (node, vcpu) = node();
    let clock = u64::from(CLOCK);
    assert_eq!(x0(vcpu, &[END, clock, clock]), FAILED);
    assert_eq!(arrive(&node), None, "nobody has enabled it");
    assert_eq!(x0(vcpu, &[ENABLE, clock, 1, 0]), 0);
    assert_eq!(arrive(&node), Some(id(2, 0)));
    assert!(vcpu.irqs.line());
    assert_eq!(x0(vcpu, &[END, clock, clock]), FAILED, "it has not been taken");
    assert_eq!(x0(vcpu, &[GET]), clock);
    assert_eq!(x0(vcpu, &[GET]), NONE);
    assert_eq!(x0(vcpu, &[END, clock, clock + 1]), FAILED);
    assert_eq!(x0(vcpu, &[END, clock, clock]), 0);
    assert_eq!(x0(vcpu, &[END, clock, clock]), FAILED);
    assert_eq!(x0(vcpu, &[ENABLE, clock, 0, 0]), 0);
    assert_eq!(arrive(&node), None);
}

#[test]
fn interrupts_of_a_core_that_goes_off_go_to_another() {
    use crate::board::host::Controller;
    let (node, vcpu) = node();
    let [first, second] = [0, 1].map(|n| &node.system.cores[n]);
    let routed = |change: &dyn Fn()| {
        Controller::change(|controller| (controller.enabled, controller.routed) = (0, u64::MAX));
        change();
        (Controller::now().enabled >> CLOCK & 1 != 0).then(|| Controller::now().routed)
    };
    let clock = u64::from(CLOCK);
    assert_eq!(routed(&|| node.system.routes.reroute(first, second)), None, "it is not enabled");
    let enable = || assert_eq!(x0(vcpu, &[ENABLE, clock, 1, 0]), 0);
    assert_eq!(routed(&enable), Some(first.mpidr));
    assert_eq!(routed(&|| node.system.routes.reroute(second, first)), None, "it is elsewhere");
    assert_eq!(routed(&|| node.system.routes.reroute(first, second)), Some(second.mpidr));
    assert_eq!(routed(&|| node.system.routes.reroute(first, second)), None, "it has gone");
    // Masked until its owner ends it, which routes it to the core that it is ended on.
    assert_eq!(arrive(&node), Some(id(2, 0)));
    assert_eq!(routed(&|| node.system.routes.reroute(second, first)), None, "it is pending");
    assert_eq!(x0(vcpu, &[GET]), clock);
    assert_eq!(routed(&|| node.system.routes.reroute(second, first)), None, "it is active");
    assert_eq!(routed(&|| assert_eq!(x0(vcpu, &[END, clock, clock]), 0)), Some(first.mpidr));
}

#[test]
fn several_are_taken_one_by_one_by_the_vcpu_that_enabled_them() {
    let (node, vcpu) = node();
    for intid in [1019, 40, 127] {
        node.system.routes.fix(intid, VmId(2));
        assert_eq!(x0(vcpu, &[ENABLE, intid.into(), 1, 0]), 0);
        assert_eq!(node.system.routes.arrive(intid).map(Vcpu::id), Some(id(2, 0)));
        assert_eq!(node.system.routes.arrivals(intid), 1);
    }
    assert_eq!([31, 41, 1020].map(|intid| node.system.routes.arrivals(intid)), [0; 3]);
    vcpu.irqs.pend(paravirt::DEVICE);
    vcpu.irqs.enable(paravirt::TIMER, true);
    vcpu.irqs.pend(paravirt::TIMER);
    let order: [u64; 5] = core::array::from_fn(|_| x0(vcpu, &[GET]));
    assert_eq!(order, [paravirt::TIMER.number().into(), 40, 127, 1019, NONE]);
}

#[test]
fn what_is_not_a_vms_is_not_given_to_it() {
    let (node, vcpu) = node();
    for intid in [0, 31, 35, 1019, 1020, 1 << 31, u32::MAX] {
        node.system.routes.fix(35, VmId(3));
        // Below 63 there are interrupts that are no device's.
        let expected = if intid < 63 { 0 } else { FAILED };
        assert_eq!(x0(vcpu, &[ENABLE, intid.into(), 1, 0]), expected, "{intid}");
        assert_eq!(x0(vcpu, &[END, intid.into(), intid.into()]), FAILED, "{intid}");
        assert!(node.system.routes.arrive(intid).is_none(), "{intid}");
    }
    // Nor is one that stands for others.
    assert_eq!(x0(vcpu, &[ENABLE, 63, 1, 0]), FAILED);
    assert_eq!(x0(vcpu, &[paravirt::INTERRUPT_INJECT.into(), 2, 0, 63]), FAILED);
}

#[test]
fn the_primary_routes_what_the_manifest_has_not_given_away() {
    let node = Node::new();
    let primary = node.core.primary();
    node.system.routes.fix(CLOCK, VmId(2));
    let set = |intid: u32, to: VcpuId| {
        let out = Node::call(primary, &[vendor::INTERRUPT_ROUTE_SET.into(), intid.into(), to.pack()]);
        let Outcome::Returned(regs) = out else { panic!("{out:?}") };
        if regs.function() == ffa::SUCCESS { Ok(()) } else { Err(ffa::Error::from_bits(regs.0[2]).unwrap()) }
    };
    let nobody = VcpuId { vm: VmId(0), index: VcpuIndex(0) };
    assert_eq!(set(CLOCK, id(3, 0)), Err(ffa::Error::Denied));
    assert_eq!(set(CLOCK, nobody), Err(ffa::Error::Denied));
    assert_eq!(set(CLOCK, id(2, 1)), Ok(()));
    assert_eq!(node.system.routes.owner(CLOCK), Some(id(2, 1)));
    for bad in [id(9, 0), id(2, 99), VcpuId { vm: VmId(0), index: VcpuIndex(1) }] {
        assert_eq!(set(50, bad), Err(ffa::Error::InvalidParameters), "{bad}");
    }
    for intid in [0, 31, 1020, u32::MAX] {
        assert_eq!(set(intid, id(2, 0)), Err(ffa::Error::InvalidParameters), "{intid}");
    }
    // What has been given can be given to another; what was pending for the first is not the second's.
    assert_eq!(set(50, id(2, 0)), Ok(()));
    assert!(node.system.routes.enable(50, node.vcpu(2, 0), node.core, true));
    assert_eq!(node.system.routes.arrive(50).map(Vcpu::id), Some(id(2, 0)));
    assert_eq!(set(50, id(3, 0)), Ok(()));
    assert_eq!(node.system.routes.take(node.vcpu(2, 0)), None);
    assert_eq!(node.system.routes.take(node.vcpu(3, 0)), None);
    assert_eq!(node.system.routes.arrive(50).map(Vcpu::id), None, "its new owner has not enabled it");
    assert_eq!(set(50, nobody), Ok(()));
}

#[test]
fn a_vm_that_starts_again_has_enabled_nothing() {
    let (node, vcpu) = node();
    assert_eq!(x0(vcpu, &[ENABLE, CLOCK.into(), 1, 0]), 0);
    assert_eq!(arrive(&node), Some(id(2, 0)));
    node.system.routes.forget(vcpu.vm());
    assert_eq!(node.system.routes.take(vcpu), None);
    assert_eq!(arrive(&node), None);
    assert_eq!(node.system.routes.owner(CLOCK), Some(id(2, 0)));
}

#[test]
fn an_interrupt_comes_to_its_owner_or_to_the_primary_first() {
    for forwards in [false, true] {
        let mut routes = Routes::new();
        routes.forwards = forwards;
        let node = Node::with(|_| (), routes);
        node.system.routes.fix(CLOCK, VmId(2));
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        let vcpu = node.vcpu(2, 0);
        assert_eq!(x0(vcpu, &[ENABLE, CLOCK.into(), 1, 0]), 0);
        let interrupt = |running: &'static Vcpu| {
            let target = node.system.routes.arrive(CLOCK).unwrap();
            // SAFETY: the test has loaded it, on its one core.
            let current = unsafe { Loaded::assume(running) };
            Node::settle(running, service::interrupt(current, target), false)
        };
        if forwards {
            assert_eq!(interrupt(vcpu), Outcome::Exited(id(2, 0), Exit::Interrupt));
            assert!(
                node.core.primary().irqs.is_pending(paravirt::DEVICE_WAITS),
                "the primary can ask whom to run"
            );
            assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        } else {
            assert!(matches!(interrupt(vcpu), Outcome::Returned(_)), "without the primary");
            assert!(!node.core.primary().irqs.is_pending(paravirt::DEVICE_WAITS));
        }
        assert_eq!(x0(vcpu, &[GET]), CLOCK.into());
        assert_eq!(x0(vcpu, &[END, CLOCK.into(), CLOCK.into()]), 0);

        // Another VM runs when it comes.
        assert_eq!(
            Node::call(vcpu, &[ffa::YIELD.into()]),
            Outcome::Exited(id(2, 0), Exit::Yield { timeout_ns: None })
        );
        assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
        let outcome = interrupt(node.vcpu(3, 0));
        let told = Outcome::Exited(id(2, 0), Exit::Interrupt);
        assert!(
            if forwards { outcome == told } else { matches!(outcome, Outcome::Returned(_)) },
            "{outcome:?}"
        );
    }
}
