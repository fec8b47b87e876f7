//! Partition information.

use super::*;
use hv_abi::ffa::{PartitionInfo, PartitionInfoRegs};

const DIRECT: u16 = (ffa::PROPERTY_DIRECT_RECV | ffa::PROPERTY_DIRECT_SEND) as u16;
const SECOND: u16 = (ffa::PROPERTY_DIRECT2_RECV | ffa::PROPERTY_DIRECT2_SEND) as u16;
const INDIRECT: u16 = ffa::PROPERTY_INDIRECT as u16;
const COUNT: u64 = ffa::PARTITION_INFO_COUNT_ONLY;
/// The page that is the primary's RX buffer.
const RX: u64 = 6;

/// A VM, its properties, a UUID.
type Found = (u16, u32, [u32; 4]);

const fn service(word: u32, messaging_method: u16) -> Service {
    Service { uuid: [word, 1, 2, 3], messaging_method }
}

/// VM 2 has three services, VM 3 one that VM 2 has too; the primary has no manifest.
fn partitions() -> Node {
    Node::with_vms(|vm| {
        let services: &[Service] = match vm.id.0 {
            2 => &[service(20, DIRECT), service(21, SECOND), service(30, INDIRECT)],
            3 => &[service(30, DIRECT)],
            _ => {
                vm.services = [crate::vm::ANY_SERVICE].into();
                return;
            }
        };
        vm.services = services.into();
        let methods = services.iter().fold(0, |all, service| all | service.messaging_method);
        vm.messaging = Messaging::by_manifest(vm.kind, methods, vm.id.0 == 2, 0x1_0002);
    })
}

fn speak(node: &Node, minor: u64) {
    let call = [ffa::VERSION.into(), 0x1_0000 | minor];
    assert_eq!(
        Node::call(node.core.primary(), &call),
        Outcome::Returned(Regs([0x1_0002, 0, 0, 0, 0, 0, 0, 0]))
    );
    let map = [ffa::RXTX_MAP_64.into(), Node::page(1, RX + 1), Node::page(1, RX), 1];
    assert!(returned(ffa::SUCCESS.into())(&Node::call(node.core.primary(), &map)));
}

/// What `FFA_PARTITION_INFO_GET` puts into the RX buffer; the number alone is the same.
fn list(node: &Node, uuid: [u32; 4]) -> Vec<Found> {
    let [a, b, c, d] = uuid.map(u64::from);
    let get = |flags| {
        let call = [ffa::PARTITION_INFO_GET.into(), a, b, c, d, flags];
        let Outcome::Returned(regs) = Node::call(node.core.primary(), &call) else { panic!() };
        assert_eq!(regs.function(), ffa::SUCCESS);
        (regs.0[2] as usize, regs.0[3] as usize)
    };
    let (counted, (count, size)) = (get(COUNT), get(0));
    assert_eq!(counted, (count, 0));
    is_refused(node.core.primary(), &[ffa::PARTITION_INFO_GET.into()], ffa::Error::Busy);
    let page = node.read(1, Node::page(1, RX), PAGE as usize);
    Node::call(node.core.primary(), &[ffa::RX_RELEASE.into()]);
    PartitionInfo::list(&page, count, size).map(|info| (info.id, info.properties, info.uuid)).collect()
}

/// What `FFA_PARTITION_INFO_GET_REGS` returns, from number `first` on: the last number and the last one here, and descriptors.
fn registers(node: &Node, uuid: [u32; 4], first: u16) -> ([u16; 2], Vec<Found>) {
    let [low, high] = ffa::uuid_to_words(uuid);
    let primary = node.core.primary();
    // SAFETY: the primary is loaded.
    unsafe { Loaded::assume(primary) }.regs().x[8..18].fill(u64::MAX);
    let call = [ffa::PARTITION_INFO_GET_REGS.into(), low, high, first.into()];
    assert!(returned(ffa::SUCCESS_64.into())(&Node::call(primary, &call)));
    // SAFETY: as above.
    let x = unsafe { Loaded::assume(primary) }.regs().x;
    assert_eq!((x[1], x[2] >> 48), (0, 24));
    let mut regs = [0; 18];
    regs.copy_from_slice(&x[..18]);
    let got = PartitionInfoRegs { first, regs };
    let infos: Vec<_> = got.infos().map(|info| (info.id, info.properties, info.uuid)).collect();
    assert!(x[3 + 3 * infos.len()..18].iter().all(|x| *x == 0), "what is not used is zero");
    assert_eq!(got.tag(), 0);
    ([got.last(), got.current()], infos)
}

fn uuid(word: u32) -> [u32; 4] {
    [word, 1, 2, 3]
}

const NIL: [u32; 4] = [0; 4];
const A64: u32 = ffa::PROPERTY_AARCH64;
const BELL: u32 = ffa::PROPERTY_NOTIFICATIONS;
/// Everything that a primary can do.
const PRIMARY: u32 =
    A64 | BELL | ffa::PROPERTY_DIRECT_SEND | ffa::PROPERTY_DIRECT2_SEND | ffa::PROPERTY_INDIRECT;

#[test]
fn every_service_has_a_descriptor() {
    let node = partitions();
    speak(&node, 2);
    let all = [
        (1, PRIMARY, NIL),
        (2, A64 | BELL | u32::from(DIRECT), uuid(20)),
        (2, A64 | BELL | u32::from(SECOND), uuid(21)),
        (2, A64 | BELL | u32::from(INDIRECT), uuid(30)),
        (3, A64 | u32::from(DIRECT), uuid(30)),
    ];
    assert_eq!(list(&node, NIL), all);
    let nameless =
        |numbers: &[usize]| -> Vec<_> { numbers.iter().map(|&n| (all[n].0, all[n].1, NIL)).collect() };
    for (word, numbers) in [(20, &[1][..]), (21, &[2]), (30, &[3, 4])] {
        assert_eq!(list(&node, uuid(word)), nameless(numbers));
        let last = numbers.len() as u16 - 1;
        assert_eq!(registers(&node, uuid(word), 0), ([last; 2], nameless(numbers)));
    }
    for first in 0..5 {
        assert_eq!(registers(&node, NIL, first), ([4, 4], all[first as usize..].to_vec()));
    }
    let unknown = [ffa::PARTITION_INFO_GET.into(), 22, 1, 2, 3];
    is_refused(node.core.primary(), &unknown, ffa::Error::InvalidParameters);
}

#[test]
fn before_1_2_a_partition_has_one_descriptor() {
    for (minor, known) in [(0, 0b111), (1, 0b1_0000_1111)] {
        let node = partitions();
        speak(&node, minor);
        let (method, mine) =
            (u32::from(DIRECT | INDIRECT) | A64, |word| if minor == 0 { NIL } else { uuid(word) });
        let all = [
            (1, PRIMARY & known, NIL),
            (2, (method | BELL) & known, mine(20)),
            (3, (A64 | u32::from(DIRECT)) & known, mine(30)),
        ];
        assert_eq!(list(&node, NIL), all);
        assert_eq!(list(&node, uuid(21)), [(2, (A64 | BELL) & known, NIL)]);
        let third = [(2, (A64 | BELL | u32::from(INDIRECT)) & known, NIL), (all[2].0, all[2].1, NIL)];
        assert_eq!(list(&node, uuid(30)), third);
        // Nor are there registers for them.
        let primary = node.core.primary();
        is_refused(primary, &[ffa::PARTITION_INFO_GET_REGS.into()], ffa::Error::NotSupported);
        for function in [ffa::PARTITION_INFO_GET_REGS, ffa::MSG_SEND_DIRECT_REQ2] {
            is_refused(primary, &[ffa::FEATURES.into(), function.into()], ffa::Error::NotSupported);
        }
    }
}

#[test]
fn registers_hold_five() {
    let node = Node::with_vms(|vm| vm.services = (0..4).map(|n| service(n, DIRECT)).collect());
    let (first, second, third) =
        (registers(&node, NIL, 0), registers(&node, NIL, 5), registers(&node, NIL, 10));
    assert_eq!([first.0, second.0, third.0], [[11, 4], [11, 9], [11, 11]]);
    let all: Vec<_> = [first.1, second.1, third.1].concat();
    let expected = (1..=3).flat_map(|id| (0..4).map(move |n| (id, uuid(n))));
    assert!(all.iter().map(|(id, _, uuid)| (*id, *uuid)).eq(expected));
    let primary = node.core.primary();
    let call = |uuid, from| [ffa::PARTITION_INFO_GET_REGS.into(), uuid, 0, from];
    is_refused(primary, &call(0, 12), ffa::Error::InvalidParameters);
    is_refused(primary, &call(0, 0xffff), ffa::Error::InvalidParameters);
    is_refused(primary, &call(77, 0), ffa::Error::InvalidParameters);
    // The tag is 0, and must be at the start.
    is_refused(primary, &call(0, 1 << 16), ffa::Error::InvalidParameters);
    is_refused(primary, &call(0, 1 << 16 | 5), ffa::Error::Retry);
    let features = [ffa::FEATURES.into(), ffa::PARTITION_INFO_GET_REGS.into()];
    assert!(returned(ffa::SUCCESS.into())(&Node::call(primary, &features)));
}

#[test]
fn messages_find_every_service() {
    let node = partitions();
    wait_for_message(&node, 2, 0);
    let ask = |uuid| {
        let [low, high] = ffa::uuid_to_words(uuid);
        [ffa::MSG_SEND_DIRECT_REQ2.into(), words((1, 2)), low, high]
    };
    is_refused(node.core.primary(), &ask(uuid(22)), ffa::Error::InvalidParameters);
    for known in [NIL, uuid(20), uuid(21), uuid(30)] {
        assert_eq!(Node::call(node.core.primary(), &ask(known)), Outcome::Entered(id(2, 0)));
        let answer = [ffa::MSG_SEND_DIRECT_RESP2.into(), words((2, 1))];
        let back = Exit::DirectResponse { to: VmId(1) };
        assert_eq!(Node::call(node.vcpu(2, 0), &answer), Outcome::Exited(id(2, 0), back));
    }
}
