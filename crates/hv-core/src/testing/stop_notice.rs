//! The terminal of a VM with devices learns why the VM stopped.

use super::*;
use crate::{
    board::host::TERMINAL as OUTPUT,
    console,
    reload::Reload,
    stop_notice::{self, REASON_LEN},
};
use hv_abi::{psci, vendor};
use machine::{ConsoleInfo, ConsoleKind};
use std::{format, string::String};

/// Where in VM 2's memory its tree has the property: in two pages.
const PROPERTY: u64 = 3 * PAGE - 5;

const UART: ConsoleInfo =
    ConsoleInfo { kind: ConsoleKind::Pl011, region: machine::Region { base: 0x904_0000, size: 0x1000 } };

/// What the UART has been sent since it was last asked, after so many chances to send.
fn output() -> String {
    for _ in 0..100 {
        console::drain();
    }
    let bytes = core::mem::take(&mut *OUTPUT.lock().unwrap());
    String::from_utf8(bytes).unwrap()
}

/// What the tree in the VM's memory says, without the zeros behind it.
fn property(node: &Node) -> String {
    let mut bytes = node.read(2, Node::page(2, 2) + PAGE - 5, 5);
    bytes.extend(node.read(2, Node::page(2, 3), REASON_LEN - 5));
    String::from(String::from_utf8(bytes).unwrap().trim_end_matches('\0'))
}

// One test, because there is one terminal.
#[test]
fn the_terminal_of_a_stopped_vm_says_why() {
    let node = Node::of([vm(1, VmKind::Primary, 2), vm(2, VmKind::Secondary, 2)].into(), Routes::new());
    let name = node.vm(2).name;
    let reload = Reload { last_stop: Some((PROPERTY, [0; REASON_LEN])), ..lifecycle::image(2) };
    *node.vm(2).reload.lock() = Some(reload);
    stop_notice::attach(node.vm(2), UART);

    let vcpu = node.vcpu(2, 0);
    for (stop, reason) in [
        (psci::SYSTEM_OFF, "it switched itself off"),
        (psci::SYSTEM_RESET, "it asked for a reset"),
        (vendor::VM_STOP, "the primary stopped it"),
        (0, "a fault: vcpu 0 at 0x4, syndrome 0x1, address 0x2, ipa 0x3"),
    ] {
        assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
        let other = node.vcpu(2, 1).claim(VcpuState::Off, &node.system.cores[1]).unwrap();
        match stop {
            0 => {
                let fault = Fault { syndrome: 1, address: 2, ipa: 3, pc: 4 };
                let first = vcpu.vm().abort(VcpuIndex(0), fault);
                // SAFETY: the vCPU is loaded by this test.
                let next = run::stop(&unsafe { Loaded::assume(vcpu) }, first);
                Node::settle(vcpu, next, false);
            }
            vendor::VM_STOP => {
                let stops = node.system.cores[1].primary();
                Node::call(stops, &[stop.into(), 2]);
                assert!(stops.hcr.get() & arch::TWI != 0);
                // SAFETY: the vCPU is loaded by this test; the kick has arrived.
                let next = run::after_interrupt(unsafe { Loaded::assume(vcpu) });
                Node::settle(vcpu, next, false);
            }
            call => assert!(matches!(Node::call(vcpu, &[call.into()]), Outcome::Exited(..))),
        }
        let primary = node.core.primary();
        let wfi_traps = || primary.hcr.get() & arch::TWI != 0;
        assert!(wfi_traps());
        assert_eq!(output(), "", "a core still has a vCPU of the VM");
        // SAFETY: the vCPU is loaded by this test, now that VM 2 has been left.
        let idle = || run::wait(&unsafe { Loaded::assume(primary) }, VcpuState::Waiting);
        assert!(core::ptr::eq(idle(), primary) && wfi_traps());
        other.release(VcpuState::Off);
        // No interrupt, and nobody prints. (The ring is that of other tests, too.)
        assert!((0..10_000).any(|_| core::ptr::eq(idle(), primary) && !wfi_traps()));
        assert!(!stop_notice::is_queued());
        assert_eq!(output(), format!("\r\n[hv] {name} stopped: {reason}\r\n"));
        lifecycle::restart(&node, 2).unwrap();
        assert_eq!((property(&node).as_str(), output().as_str()), (reason, ""));
    }

    // A VM that runs again has its UART for itself, also when the line has not been written.
    let stuck = ConsoleInfo { region: machine::Region { base: 0, ..UART.region }, ..UART };
    stop_notice::attach(node.vm(2), stuck);
    assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
    Node::call(vcpu, &[psci::SYSTEM_RESET.into()]);
    console::drain();
    assert!(stop_notice::is_queued());
    lifecycle::restart(&node, 2).unwrap();
    assert!(!stop_notice::is_queued());

    // A UART that sends nothing is given up.
    assert_eq!(node.run(2, 0), Outcome::Entered(vcpu.id()));
    Node::call(vcpu, &[psci::SYSTEM_OFF.into()]);
    for _ in 0..1000 {
        console::drain();
    }
    assert!(stop_notice::is_queued());
    // Other tests may hold the terminal's lock meanwhile: such a try does not count.
    assert!((0..10_000_000).any(|_| {
        console::drain();
        !stop_notice::is_queued()
    }));
    stop_notice::detach();
}

#[test]
fn the_longest_reason_fits_the_property() {
    let node = Node::new();
    let most = Fault { syndrome: u64::MAX, address: u64::MAX, ipa: u64::MAX, pc: u64::MAX };
    node.vm(2).abort(VcpuIndex(u16::MAX), most);
    let reason = stop_notice::reason(node.vm(2));
    assert_eq!(reason.iter().position(|byte| *byte == 0), Some(122));
}
