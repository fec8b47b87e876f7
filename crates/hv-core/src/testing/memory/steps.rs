//! Memory calls that take several entries, and what may happen between these.

use super::*;
use crate::reload::{Progress, Reload};
use hv_abi::vendor;

/// How many pages are lent.
const MANY: u32 = 24;

/// Does `work` each time a vCPU makes a call again.
fn between(work: impl FnMut() + 'static) {
    ENTRIES.set(0);
    BETWEEN.set(Some(Box::new(work)));
}

/// Nothing more happens between entries; returns how many there were.
fn over() -> u64 {
    BETWEEN.set(None);
    ENTRIES.get()
}

fn lend<'a>(receivers: &'a [Receiver], ranges: &'a [(u64, u32)], flags: u32) -> Offer<'a> {
    let mut offer = share_from_two(receivers, ranges);
    offer.function = ffa::MEM_LEND;
    (offer.header.attributes, offer.header.flags) = (Attributes::NOT_SPECIFIED, flags);
    offer
}

fn donate<'a>(receivers: &'a [Receiver], ranges: &'a [(u64, u32)]) -> Offer<'a> {
    Offer { function: ffa::MEM_DONATE, ..lend(receivers, ranges, 0) }
}

fn asks(handle: Handle, flags: u32) -> Header {
    Header { handle, flags, ..header(2, Attributes::NOT_SPECIFIED) }
}

/// The primary, on core 1, makes calls meanwhile.
fn on_core_1(node: &Node, call: [u64; 4]) -> impl Fn() -> Regs + Clone + use<> {
    let primary = node.system.cores[1].primary();
    move || match Node::call(primary, &call) {
        Outcome::Returned(regs) => regs,
        other => panic!("{other:?}"),
    }
}

/// As [`started`], with VM 3 loaded nowhere, and VMs that can be restarted.
fn restartable() -> (Node, [&'static Vcpu; 3]) {
    let (node, vcpus) = started();
    for vm in [2, 3] {
        *node.vm(vm).reload.lock() = Some(Reload {
            ipa: Ipa(Node::page(vm, 0)),
            pa: pa_of(vm),
            bytes: MEMORY,
            regions: Box::new([]),
            mailbox: None,
            segments: Box::new([]),
            last_stop: None,
            entry: 0,
            argument: 0,
            register: 0,
            progress: Progress::Transactions,
        });
    }
    (node, vcpus)
}

fn state(node: &Node, vm: u16, page: u64) -> PageState {
    node.system.ownership.lock().state(Pa(pa_of(vm).0 + page * PAGE))
}

/// All memory is that of the VM that had it at first, and nobody else has any.
fn all_is_as_at_first(node: &Node) {
    for vm in [2, 3] {
        for page in 0..MEMORY / PAGE {
            let (state, owner) = (state(node, vm, page), VmId(vm));
            assert!(
                [PageState::Owned(owner), PageState::Mailbox(owner)].contains(&state),
                "{page}: {state:?}"
            );
        }
        assert_eq!(node.translate(vm, Node::page(vm, 3)).map(|m| m.block), Some(MEMORY));
        assert_eq!(node.translate(vm, WINDOW), None);
    }
}

/// Lets the vCPUs of a VM leave their cores, and restarts the VM.
fn restart(node: &Node, vm: u16) -> Result<(), Error> {
    let again = on_core_1(node, [vendor::VM_RESTART.into(), vm.into(), 0, 0]);
    loop {
        match result(&again()) {
            Ok((0, _)) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

fn leave(vcpu: &'static Vcpu) {
    // SAFETY: the test has loaded it.
    let next = run::after_interrupt(unsafe { Loaded::assume(vcpu) });
    Node::settle(vcpu, next, false);
}

#[test]
fn a_long_loan_is_made_in_parts_without_locks_in_between() {
    let (node, [primary, two, three]) = started();
    let receivers = [receiver(3, RW)];
    let ranges = [(Node::page(2, 1), MANY), (Node::page(2, 100), MANY)];
    let zero = lend(&receivers, &ranges, m::FLAG_ZERO);
    let system = node.system;
    let others = on_core_1(&node, [ffa::MEM_RECLAIM.into(), 1, 1 << 31, 0]);
    let quiet = move || {
        assert!(PAGES_TOUCHED.replace(0) <= page_ownership::STEP_ZEROED_PAGES + 2);
        assert!(!system.ownership.is_locked() && !two.vm().mailbox.is_locked());
        assert_eq!(result(&others()), Err(Error::InvalidParameters));
    };
    PAGES_TOUCHED.set(0);
    between(quiet.clone());
    let handle = zero.handle(&node, two);
    assert!(over() > u64::from(3 * MANY), "it came in one piece");
    between(quiet.clone());
    let got = retrieve(&node, three, asks(handle, m::FLAG_ZERO | m::FLAG_ZERO_AFTER), &receivers, None);
    assert_eq!(got, Ok(std::vec![Range { address: WINDOW, pages: 2 * MANY }]));
    assert!(over() > u64::from(2 * MANY));
    between(quiet.clone());
    assert_eq!(relinquish(&node, three, handle, 0), Ok((0, 0)));
    assert!(over() > u64::from(2 * MANY));
    between(quiet);
    assert_eq!(reclaim(two, handle, m::FLAG_ZERO), Ok((0, 0)));
    assert!(over() > u64::from(2 * MANY));
    assert_eq!(call(primary, &[ffa::RX_RELEASE.into()]).function(), ffa::ERROR);
    all_is_as_at_first(&node);
}

#[test]
fn a_descriptor_that_changes_meanwhile_changes_nothing() {
    let (node, [_, two, three]) = started();
    let receivers = [receiver(3, RW)];
    let ranges = [(Node::page(2, 1), MANY)];
    let tx = Pa(pa_of(2).0 + TX * PAGE);
    between(move || with_page(tx, |page| page.fill(0xff)));
    let handle = lend(&receivers, &ranges, 0).handle(&node, two);
    let rx = Pa(pa_of(3).0 + RX * PAGE);
    // The response is there before the memory is; it is the receiver's to spoil.
    between(move || with_page(rx, |page| page[..64].copy_within(0.., 0)));
    let got = retrieve(&node, three, asks(handle, 0), &receivers, None);
    over();
    assert_eq!(got, Ok(std::vec![Range { address: WINDOW, pages: MANY }]));
    for page in 0..u64::from(MANY) {
        assert_eq!(node.translate(3, WINDOW + page * PAGE).unwrap().pa.0, pa_of(2).0 + (1 + page) * PAGE);
        assert_eq!(node.translate(2, Node::page(2, 1 + page)), None);
    }
}

#[test]
fn a_call_that_is_not_made_again_is_done_by_the_next_one() {
    let (node, [_, two, _]) = started();
    let receivers = [receiver(3, RW)];
    let (first, second) = ([(Node::page(2, 1), MANY)], [(Node::page(2, 100), 1)]);
    let (first, second) = (lend(&receivers, &first, 0), lend(&receivers, &second, 0));
    // The first one gets no further than its first entry.
    GIVES_UP.set(true);
    let regs = first.send(&node, two);
    assert_eq!(regs.function(), ffa::MEM_LEND, "the vCPU has its arguments still");
    GIVES_UP.set(false);
    // The same length, so the same arguments but for the function.
    let other = Offer { function: ffa::MEM_LEND_64, ..second };
    let handle = other.handle(&node, two);
    for page in 0..u64::from(MANY) {
        assert!(matches!(state(&node, 2, 1 + page), PageState::Given(..)));
        assert_eq!(node.translate(2, Node::page(2, 1 + page)), None);
    }
    assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
    // Neither can its buffers be taken away while it needs them.
    GIVES_UP.set(true);
    first.send(&node, two);
    GIVES_UP.set(false);
    assert_eq!(result(&call(two, &[ffa::RXTX_UNMAP.into()])), Ok((0, 0)));
    assert!(two.vm().mailbox.lock().ongoing.is_none());
}

#[test]
fn a_sender_that_is_stopped_half_way_has_given_nothing() {
    for flags in [0, m::FLAG_ZERO] {
        for entries in 1.. {
            let (node, [_, two, _]) = restartable();
            let stop = on_core_1(&node, [vendor::VM_STOP.into(), 2, 0, 0]);
            between(move || {
                if ENTRIES.get() == entries {
                    stop();
                }
            });
            let receivers = [receiver(3, RW)];
            let ranges = [(Node::page(2, 1), MANY)];
            let sent = result(&lend(&receivers, &ranges, flags).send(&node, two));
            if over() < entries {
                assert!(sent.is_ok());
                break;
            }
            assert_eq!(sent, Err(Error::Aborted));
            leave(two);
            assert_eq!(restart(&node, 2), Ok(()), "after {entries}");
            all_is_as_at_first(&node);
        }
    }
}

/// VM 3 is stopped after some entries of its retrieval, and VM 2 wants its memory back.
fn stopped_while_it_retrieves(offer: &Offer<'_>, flags: u32) {
    let mut outcomes = std::collections::BTreeSet::new();
    for entries in 1.. {
        let (node, [_, two, three]) = restartable();
        let handle = offer.handle(&node, two);
        let stop = on_core_1(&node, [vendor::VM_STOP.into(), 3, 0, 0]);
        between(move || {
            if ENTRIES.get() == entries {
                stop();
            }
        });
        let asked = [receiver(3, if offer.function == ffa::MEM_DONATE { OPEN } else { RW })];
        let got = retrieve(&node, three, asks(handle, flags), &asked, None);
        if over() < entries {
            assert!(got.is_ok());
            break;
        }
        assert_eq!(got, Err(Error::Aborted));
        // It is still on its core.
        assert_eq!(reclaim(two, handle, 0), Err(Error::Denied));
        leave(three);
        let back = reclaim(two, handle, 0);
        outcomes.insert(back.is_ok());
        match back {
            Ok(_) => assert_eq!(node.translate(2, Node::page(2, 1)).map(|m| m.block), Some(MEMORY)),
            // A donation that had got so far that it could not be stopped: it is VM 3's, and with it the primary's.
            Err(error) => assert_eq!((error, offer.function), (Error::InvalidParameters, ffa::MEM_DONATE)),
        }
        assert_eq!(restart(&node, 3), Ok(()));
        if back.is_ok() {
            all_is_as_at_first(&node);
        } else {
            assert!((1..=u64::from(MANY)).all(|page| state(&node, 2, page) == PageState::Owned(VmId(1))));
            assert_eq!(node.translate(3, WINDOW), None);
        }
    }
    assert_eq!(outcomes.len(), if offer.function == ffa::MEM_DONATE { 2 } else { 1 }, "{outcomes:?}");
}

#[test]
fn a_receiver_that_is_stopped_half_way_has_got_nothing() {
    let receivers = [receiver(3, RW)];
    let ranges = [(Node::page(2, 1), MANY)];
    stopped_while_it_retrieves(&lend(&receivers, &ranges, 0), 0);
    stopped_while_it_retrieves(&lend(&receivers, &ranges, 0), m::FLAG_ZERO | m::FLAG_ZERO_AFTER);
    let receivers = [receiver(3, OPEN)];
    stopped_while_it_retrieves(&donate(&receivers, &ranges), 0);
}

#[test]
fn a_receiver_that_is_stopped_while_it_relinquishes_has_nothing_left() {
    let receivers = [receiver(3, RW)];
    let ranges = [(Node::page(2, 1), MANY)];
    for entries in 1.. {
        let (node, [_, two, three]) = restartable();
        let handle = lend(&receivers, &ranges, 0).handle(&node, two);
        retrieve(&node, three, asks(handle, m::FLAG_ZERO_AFTER), &receivers, None).unwrap();
        node.write(3, WINDOW + 5 * PAGE, b"secret");
        let stop = on_core_1(&node, [vendor::VM_STOP.into(), 3, 0, 0]);
        between(move || {
            if ENTRIES.get() == entries {
                stop();
            }
        });
        let done = relinquish(&node, three, handle, 0);
        if over() < entries {
            assert!(done.is_ok());
            break;
        }
        leave(three);
        assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
        assert_eq!(node.read(2, Node::page(2, 6), 6), [0; 6], "after {entries}");
        assert_eq!(restart(&node, 3), Ok(()));
        all_is_as_at_first(&node);
    }
}
