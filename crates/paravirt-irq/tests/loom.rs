//! Every order in which cores can meet in one vCPU's controller. Loom's atomics stand where the crate has the
//! processor's.
// Miri would take hours for all these states.
#![cfg(not(miri))]

mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../src/state.rs"]
#[expect(dead_code, reason = "what loom has nothing to say of")]
mod state;

use hv_abi::ids::VirtIntId;
use loom::{sync::Arc, thread};
use state::VcpuInterrupts;

fn id(number: u64) -> VirtIntId {
    VirtIntId::new(number).unwrap()
}

fn enabled(ids: &[u64]) -> Arc<VcpuInterrupts> {
    let irqs = Arc::new(VcpuInterrupts::default());
    for number in ids {
        irqs.enable(id(*number), true);
    }
    irqs
}

/// What the running core takes until nothing is left, while it looks at the line as an exit does.
fn take_all(irqs: &VcpuInterrupts) -> Vec<u32> {
    let mut taken = Vec::new();
    while irqs.line() {
        taken.extend(irqs.take().map(VirtIntId::number));
    }
    taken
}

#[test]
fn two_cores_pend_while_a_third_takes() {
    loom::model(|| {
        let irqs = enabled(&[3, 7]);
        let others = [3, 7].map(|number| {
            let irqs = Arc::clone(&irqs);
            thread::spawn(move || irqs.pend(id(number)))
        });
        let mut taken = take_all(&irqs);
        for other in others {
            assert!(other.join().unwrap(), "it is enabled, so the line is high because of it");
        }
        taken.extend(take_all(&irqs));
        taken.sort_unstable();
        assert_eq!(taken, [3, 7], "each once, and none lost");
    });
}

#[test]
fn keeps_interrupt_pended_during_acknowledge() {
    loom::model(|| {
        let irqs = enabled(&[5]);
        irqs.pend(id(5));
        let other = {
            let irqs = Arc::clone(&irqs);
            thread::spawn(move || irqs.pend(id(5)))
        };
        let before = irqs.take().is_some();
        other.join().unwrap();
        let after = take_all(&irqs);
        assert!(before, "it was pending");
        // Whoever came first: one take or two, and nothing pending is left behind.
        assert!(after.len() <= 1);
        assert!(!irqs.line() && !irqs.is_pending(id(5)));
    });
}

#[test]
fn pend_during_enable_raises_line_once() {
    loom::model(|| {
        let irqs = Arc::new(VcpuInterrupts::default());
        let other = {
            let irqs = Arc::clone(&irqs);
            thread::spawn(move || irqs.pend(id(9)))
        };
        irqs.enable(id(9), true);
        // The core that enables looks at the line afterwards (the exit to the VM does).
        let seen_here = irqs.line();
        let seen_there = other.join().unwrap();
        let _ = (seen_here, seen_there);
        assert!(irqs.line(), "nothing is lost once both have happened");
        assert_eq!(irqs.take(), Some(id(9)));
    });
}

#[test]
fn disabling_keeps_what_is_pending() {
    loom::model(|| {
        let irqs = enabled(&[1]);
        let other = {
            let irqs = Arc::clone(&irqs);
            thread::spawn(move || irqs.pend(id(1)))
        };
        irqs.enable(id(1), false);
        assert_eq!(irqs.take(), None);
        other.join().unwrap();
        irqs.enable(id(1), true);
        assert_eq!(take_all(&irqs), [1]);
    });
}
