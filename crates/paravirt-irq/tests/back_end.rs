//! Whatever is made pending and enabled is taken by the guest once each time, by whichever back end, in
//! whatever order of things.
use hv_abi::ids::VirtIntId;
use paravirt_irq::{BackEnd, Line, ListRegisters, ListState, Listed, Lists, VcpuInterrupts};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeSet, vec::Vec};

/// A core's list registers, and what a guest does with them: all are of one priority, so that nothing is
/// taken before the last has ended.
struct Core {
    registers: RefCell<Vec<(u32, ListState)>>,
    underflow: RefCell<bool>,
}

impl Core {
    fn new(count: usize) -> Self {
        Self { registers: RefCell::new(vec![(0, ListState::Free); count]), underflow: RefCell::new(false) }
    }

    fn is_active(&self) -> bool {
        let registers = self.registers.borrow();
        registers.iter().any(|(_, state)| matches!(state, ListState::Active | ListState::PendingAndActive))
    }

    /// `ICC_IAR1_EL1`, which takes any that is pending: `choice` decides.
    fn acknowledge(&self, choice: usize) -> Option<u32> {
        if self.is_active() {
            return None;
        }
        let mut registers = self.registers.borrow_mut();
        let pending: Vec<_> =
            registers.iter_mut().filter(|(_, state)| *state == ListState::Pending).collect();
        let which = choice.checked_rem(pending.len())?;
        let register = pending.into_iter().nth(which)?;
        register.1 = ListState::Active;
        Some(register.0)
    }

    /// `ICC_EOIR1_EL1`.
    fn end(&self, id: u32) {
        for (listed, state) in self.registers.borrow_mut().iter_mut().filter(|(listed, _)| *listed == id) {
            assert_eq!(*listed, id);
            *state = match *state {
                ListState::Active => ListState::Free,
                ListState::PendingAndActive => ListState::Pending,
                other => other,
            };
        }
    }

    /// Whether there is a maintenance interrupt: room, which was asked for.
    fn has_room(&self) -> bool {
        let used = self.registers.borrow().iter().filter(|(_, state)| *state != ListState::Free).count();
        *self.underflow.borrow() && used <= 1
    }
}

impl ListRegisters for &Core {
    fn count(&self) -> usize {
        self.registers.borrow().len()
    }
    fn state(&self, n: usize) -> ListState {
        self.registers.borrow()[n].1
    }
    fn write(&self, n: usize, id: VirtIntId, state: ListState) {
        let mut registers = self.registers.borrow_mut();
        let twice = registers.iter().enumerate().any(|(m, (listed, now))| {
            m != n && *listed == id.number() && *now != ListState::Free && state != ListState::Free
        });
        assert!(!twice, "an interrupt is in two list registers, which is UNPREDICTABLE");
        registers[n] = (id.number(), state);
    }
    fn set_underflow_interrupt(&self, enabled: bool) {
        *self.underflow.borrow_mut() = enabled;
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// By any core, which then makes the vCPU's core look.
    Pend(u64),
    /// By any core, whose kick has not arrived yet.
    PendSilently(u64),
    Enable(u64, bool),
    Acknowledge(usize),
    End,
    /// The vCPU goes to one of two cores, or leaves the one that it is on.
    Move(usize),
    Unload,
    Update,
}

fn op() -> impl Strategy<Value = Op> {
    // Few ids, so that they meet.
    prop_oneof![
        3 => (0_u64..9).prop_map(Op::Pend),
        1 => (0_u64..9).prop_map(Op::PendSilently),
        2 => (0_u64..9, prop::bool::weighted(0.8)).prop_map(|(id, on)| Op::Enable(id, on)),
        4 => any::<usize>().prop_map(Op::Acknowledge),
        4 => Just(Op::End),
        1 => (0_usize..2).prop_map(Op::Move),
        1 => Just(Op::Unload),
        1 => Just(Op::Update),
    ]
}

fn id(number: u64) -> VirtIntId {
    VirtIntId::new(number).unwrap()
}

/// Plays a sequence with list registers, and sees that the guest takes what it must, and nothing else.
fn play(count: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let cores = [Core::new(count), Core::new(count)];
    let (irqs, mut listed) = (VcpuInterrupts::new(), Listed::new());
    let mut on: Option<&Core> = None;
    // What the guest has not taken yet, what it has enabled, what it has taken and not ended.
    let (mut pending, mut enabled) = (BTreeSet::new(), BTreeSet::new());
    let mut active = None;
    // What is on its way: it arrives when the core looks, as an interrupt that has been sent does.
    let mut sent = BTreeSet::new();
    let leave = |on: &mut Option<&Core>, listed: &mut Listed| {
        let Some(core) = on.take() else { return };
        Lists { hardware: core, listed }.unload(&irqs);
        assert!(
            core.registers.borrow().iter().all(|(_, state)| *state == ListState::Free),
            "something stays"
        );
    };
    for op in ops {
        match *op {
            Op::Pend(number) | Op::PendSilently(number) => {
                irqs.pend(id(number));
                sent.insert(number);
            }
            Op::Enable(number, enable) if on.is_some() => {
                irqs.enable(id(number), enable);
                if enable {
                    enabled.insert(number)
                } else {
                    enabled.remove(&number)
                };
            }
            Op::Acknowledge(choice) => {
                let Some(core) = on else { continue };
                let taken = core.acknowledge(choice).map(u64::from);
                let waits = pending.intersection(&enabled).next().is_some();
                if active.is_none() {
                    prop_assert_eq!(
                        taken.is_some(),
                        waits,
                        "{:?} is pending, {:?} enabled",
                        pending,
                        enabled
                    );
                }
                if let Some(taken) = taken {
                    prop_assert!(pending.remove(&taken), "{} was not pending", taken);
                    prop_assert!(enabled.contains(&taken), "{} is not enabled", taken);
                    active = Some(taken);
                }
            }
            Op::End => {
                let Some(core) = on else { continue };
                if let Some(ended) = active.take() {
                    core.end(ended as u32);
                }
            }
            Op::Move(to) => {
                leave(&mut on, &mut listed);
                on = Some(&cores[to]);
                Lists { hardware: &cores[to], listed: &mut listed }.load(&irqs);
                pending.append(&mut sent);
            }
            Op::Unload => {
                leave(&mut on, &mut listed);
                pending.append(&mut sent);
                // Whoever asks whether the vCPU has a reason to run gets the right answer.
                prop_assert_eq!(irqs.line(), pending.intersection(&enabled).next().is_some());
            }
            Op::Enable(..) | Op::Update => {}
        }
        let Some(core) = on else {
            pending.append(&mut sent);
            continue;
        };
        let looks = matches!(op, Op::Pend(_) | Op::Enable(..) | Op::Update);
        if looks || core.has_room() {
            Lists { hardware: core, listed: &mut listed }.update(&irqs);
            pending.append(&mut sent);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 600 }))]

    #[test]
    fn list_registers_deliver_each_interrupt_once(count in 2_usize..5, ops in prop::collection::vec(op(), 0..120)) {
        play(count, &ops)?;
    }

    /// The same by the line, where the guest takes by a call.
    #[test]
    fn line_delivers_each_interrupt_once(ops in prop::collection::vec(op(), 0..120)) {
        let irqs = VcpuInterrupts::new();
        let (mut pending, mut enabled) = (BTreeSet::new(), BTreeSet::new());
        let mut high = false;
        for op in ops {
            match op {
                Op::Pend(number) | Op::PendSilently(number) => {
                    irqs.pend(id(number));
                    pending.insert(number);
                }
                Op::Enable(number, enable) => {
                    irqs.enable(id(number), enable);
                    if enable { enabled.insert(number) } else { enabled.remove(&number) };
                }
                Op::Acknowledge(_) => {
                    let expected = pending.intersection(&enabled).next().copied();
                    prop_assert_eq!(irqs.take().map(|taken| u64::from(taken.number())), expected);
                    if let Some(taken) = expected { pending.remove(&taken); }
                }
                Op::Move(_) => Line(|now| high = now).load(&irqs),
                Op::Unload => Line(|now| high = now).unload(&irqs),
                Op::End | Op::Update => {}
            }
            Line(|now| high = now).update(&irqs);
            prop_assert_eq!(high, pending.intersection(&enabled).next().is_some());
        }
    }
}

#[test]
fn redelivers_interrupt_pended_while_active() {
    let once = [Op::Move(0), Op::Enable(3, true), Op::Pend(3), Op::Acknowledge(0), Op::Pend(3)];
    let then = [Op::Acknowledge(0), Op::End, Op::Acknowledge(0), Op::End, Op::Acknowledge(0)];
    for between in [&[][..], &[Op::Move(1)], &[Op::Unload, Op::Pend(3), Op::Move(0)]] {
        let ops: Vec<_> = once.iter().chain(between).chain(&then).cloned().collect();
        play(4, &ops).unwrap();
    }
}
