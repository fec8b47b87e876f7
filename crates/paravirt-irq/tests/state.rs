//! The state of a vCPU's controller, against two sets, and on real threads.
use hv_abi::{ids::VirtIntId, paravirt};
use paravirt_irq::VcpuInterrupts;
use proptest::prelude::*;
use std::{collections::BTreeSet, thread, vec::Vec};

#[derive(Clone, Debug)]
enum Op {
    Enable(u64, bool),
    Pend(u64),
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u64..63, any::<bool>()).prop_map(|(id, on)| Op::Enable(id, on)),
        (0u64..63).prop_map(Op::Pend),
        Just(Op::Take),
    ]
}

proptest! {
    #[test]
    fn behaves_as_two_sets(ops in prop::collection::vec(op(), 0..200)) {
        let irqs = VcpuInterrupts::new();
        let (mut enabled, mut pending) = (BTreeSet::new(), BTreeSet::new());
        for op in ops {
            match op {
                Op::Enable(id, on) => {
                    irqs.enable(VirtIntId::new(id).unwrap(), on);
                    if on { enabled.insert(id); } else { enabled.remove(&id); }
                }
                Op::Pend(id) => {
                    pending.insert(id);
                    prop_assert_eq!(irqs.pend(VirtIntId::new(id).unwrap()), enabled.contains(&id));
                }
                Op::Take => {
                    let next = pending.intersection(&enabled).next().copied();
                    if let Some(id) = next { pending.remove(&id); }
                    prop_assert_eq!(irqs.take().map(|id| u64::from(id.number())), next);
                }
            }
            prop_assert_eq!(irqs.line(), pending.intersection(&enabled).next().is_some());
        }
    }
}

#[test]
fn loses_no_interrupt_between_cores() {
    let irqs = VcpuInterrupts::new();
    let ids: Vec<_> = (16..32).map(|id| VirtIntId::new(id).unwrap()).collect();
    for id in &ids {
        irqs.enable(*id, true);
    }
    thread::scope(|scope| {
        for chunk in ids.chunks(8) {
            let irqs = &irqs;
            scope.spawn(move || chunk.iter().for_each(|id| assert!(irqs.pend(*id))));
        }
        let mut seen = BTreeSet::new();
        while seen.len() < ids.len() {
            if let Some(id) = irqs.take() {
                assert!(seen.insert(id), "taken twice");
            }
        }
    });
    assert!(!irqs.line());
}

#[test]
fn reset_clears_all_state() {
    let irqs = VcpuInterrupts::new();
    irqs.enable(paravirt::IPI, true);
    irqs.pend(paravirt::IPI);
    irqs.reset();
    irqs.enable(paravirt::IPI, true);
    assert!(!irqs.line());
}
