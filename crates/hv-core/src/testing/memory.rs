//! Memory transactions and indirect messages, call by call.

use super::*;
use ffa::{
    Error, Version,
    memory::{
        self as m, Attributes, Composite, DataAccess, Descriptor, Handle, Header, InstructionAccess,
        Permissions, Range, Receiver, Relinquish,
    },
    message::Message,
};
use page_ownership::PageState;

mod rx;
mod steps;

const TX: u64 = 509;
const RX: u64 = 511;
const RW: Permissions =
    Permissions { data: DataAccess::ReadWrite, instruction: InstructionAccess::NotSpecified };
const RO: Permissions =
    Permissions { data: DataAccess::ReadOnly, instruction: InstructionAccess::NotSpecified };
const OPEN: Permissions =
    Permissions { data: DataAccess::NotSpecified, instruction: InstructionAccess::NotSpecified };

fn call(vcpu: &'static Vcpu, arguments: &[u64]) -> Regs {
    match Node::call(vcpu, arguments) {
        Outcome::Returned(regs) => regs,
        other => panic!("{arguments:x?}: {other:?}"),
    }
}

fn result(regs: &Regs) -> Result<(u64, u64), Error> {
    match regs.function() {
        ffa::ERROR => Err(Error::from_bits(regs.0[2]).unwrap()),
        _ => Ok((regs.0[2], regs.0[3])),
    }
}

/// Makes the mailbox of a VM.
fn mailbox(vcpu: &'static Vcpu) {
    let vm = vcpu.vm().id.0;
    let map = [ffa::RXTX_MAP_64.into(), Node::page(vm, TX), Node::page(vm, RX), 1];
    assert_eq!(result(&call(vcpu, &map)), Ok((0, 0)));
}

/// A system in which all VMs have mailboxes and VM 2's vCPU 0 is loaded on core 0, and VM 3's on core 1.
fn started() -> (Node, [&'static Vcpu; 3]) {
    let node = Node::new();
    let vcpus = [node.core.primary(), node.vcpu(2, 0), node.vcpu(3, 0)];
    mailbox(vcpus[0]);
    assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
    let other = &node.system.cores[1];
    let run = Node::call(other.primary(), &[ffa::RUN.into(), id(3, 0).pack()]);
    assert_eq!(run, Outcome::Entered(id(3, 0)));
    mailbox(vcpus[1]);
    mailbox(vcpus[2]);
    (node, vcpus)
}

/// A sender's request.
#[derive(Clone)]
struct Offer<'a> {
    function: u32,
    version: Version,
    header: Header,
    receivers: &'a [Receiver],
    ranges: &'a [(u64, u32)],
}

const fn receiver(vm: u16, permissions: Permissions) -> Receiver {
    Receiver { vm: VmId(vm), permissions, flags: 0 }
}

fn header(sender: u16, attributes: Attributes) -> Header {
    Header { sender: VmId(sender), attributes, flags: 0, handle: Handle(0), tag: 0x7a6 }
}

fn ranges(ranges: &[(u64, u32)]) -> impl Iterator<Item = Range> + use<'_> {
    ranges.iter().map(|(address, pages)| Range { address: *address, pages: *pages })
}

impl Offer<'_> {
    fn send(&self, node: &Node, vcpu: &'static Vcpu) -> Regs {
        let vm = vcpu.vm().id.0;
        let composite = Composite {
            pages: self.ranges.iter().map(|range| range.1).sum(),
            ranges: self.ranges.len() as u32,
        };
        let mut bytes = [0; 4096];
        let Offer { version, header, receivers, .. } = self;
        let written =
            m::write(&mut bytes, *version, header, receivers, Some(composite), ranges(self.ranges)).unwrap();
        node.write(vm, Node::page(vm, TX), &bytes[..written.fragment]);
        call(vcpu, &[self.function.into(), written.total as u64, written.fragment as u64])
    }

    fn handle(&self, node: &Node, vcpu: &'static Vcpu) -> Handle {
        let (low, high) = result(&self.send(node, vcpu)).unwrap();
        Handle::from_words(low, high)
    }
}

/// A retrieve request of `vcpu`, and its result: the ranges it got.
fn retrieve(
    node: &Node,
    vcpu: &'static Vcpu,
    header: Header,
    receivers: &[Receiver],
    place: Option<(u64, u32)>,
) -> Result<Vec<Range>, Error> {
    let vm = vcpu.vm().id.0;
    let version = vcpu.vm().ffa_version();
    let mut bytes = [0; 4096];
    let composite = place.map(|(_, pages)| Composite { pages, ranges: 1 });
    let place: Vec<(u64, u32)> = place.into_iter().collect();
    let written = m::write(&mut bytes, version, &header, receivers, composite, ranges(&place)).unwrap();
    node.write(vm, Node::page(vm, TX), &bytes[..written.fragment]);
    let length = written.total as u64;
    let regs = call(vcpu, &[ffa::MEM_RETRIEVE_REQ.into(), length, length]);
    result(&regs)?;
    assert_eq!(regs.function(), ffa::MEM_RETRIEVE_RESP);
    let (total, fragment) = (regs.0[1] as usize, regs.0[2] as usize);
    let response = node.read(vm, Node::page(vm, RX), fragment);
    let response = Descriptor::parse(&response, total, version).unwrap();
    assert_eq!((response.header().tag, response.header().handle), (header.tag, header.handle));
    let got = response.ranges().collect();
    assert_eq!(result(&call(vcpu, &[ffa::RX_RELEASE.into()])), Ok((0, 0)));
    Ok(got)
}

fn relinquish(node: &Node, vcpu: &'static Vcpu, handle: Handle, flags: u32) -> Result<(u64, u64), Error> {
    let vm = vcpu.vm().id.0;
    let bytes = Relinquish { handle, flags, vm: VmId(vm) }.to_bytes();
    node.write(vm, Node::page(vm, TX), &bytes);
    result(&call(vcpu, &[ffa::MEM_RELINQUISH.into()]))
}

fn reclaim(vcpu: &'static Vcpu, handle: Handle, flags: u32) -> Result<(u64, u64), Error> {
    let (low, high) = handle.words();
    result(&call(vcpu, &[ffa::MEM_RECLAIM.into(), low, high, flags.into()]))
}

fn share_from_two<'a>(receivers: &'a [Receiver], ranges: &'a [(u64, u32)]) -> Offer<'a> {
    Offer {
        function: ffa::MEM_SHARE,
        version: ffa::VERSION_1_2,
        header: header(2, Attributes::NORMAL_WB_INNER),
        receivers,
        ranges,
    }
}

#[test]
fn what_is_shared_is_read_and_written_by_both_in_every_version() {
    for version in [ffa::VERSION_1_0, ffa::VERSION_1_1, ffa::VERSION_1_2] {
        let node = Node::new();
        for vm in [2, 3] {
            assert!(node.vm(vm).negotiate(version));
        }
        assert_eq!(node.run(2, 0), Outcome::Entered(id(2, 0)));
        let two = node.vcpu(2, 0);
        mailbox(two);
        let receivers = [receiver(3, RW)];
        let ranges = [(Node::page(2, 3), 2), (Node::page(2, 9), 1)];
        let handle = Offer { version, ..share_from_two(&receivers, &ranges) }.handle(&node, two);
        let none = Exit::Yield { timeout_ns: None };
        assert_eq!(Node::call(two, &[ffa::YIELD.into()]), Outcome::Exited(id(2, 0), none));
        assert_eq!(node.run(3, 0), Outcome::Entered(id(3, 0)));
        let three = node.vcpu(3, 0);
        mailbox(three);
        let asks = Header { handle, ..header(2, Attributes::NOT_SPECIFIED) };
        let got = retrieve(&node, three, asks, &receivers, None).unwrap();
        assert_eq!(got, [Range { address: WINDOW, pages: 3 }], "{version:?}");
        node.write(3, WINDOW + 2 * PAGE, b"hello");
        assert_eq!(node.read(2, Node::page(2, 9), 5), b"hello");
        let seen = node.translate(3, WINDOW).unwrap();
        assert_eq!((seen.pa, seen.access), (Pa(pa_of(2).0 + 3 * PAGE), Access::RW));
        // Twice is too often, and it cannot be reclaimed while somebody has it.
        assert_eq!(retrieve(&node, three, asks, &receivers, None), Err(Error::Denied));
        assert_eq!(reclaim(three, handle, 0), Err(Error::InvalidParameters));
        assert_eq!(relinquish(&node, three, handle, m::FLAG_ZERO), Err(Error::InvalidParameters));
        assert_eq!(relinquish(&node, three, handle, 0), Ok((0, 0)));
        assert_eq!(node.translate(3, WINDOW), None);
        assert_eq!(relinquish(&node, three, handle, 0), Err(Error::Denied));
    }
}

#[test]
fn what_is_lent_is_the_borrowers_alone_and_comes_back() {
    let (node, [_, two, three]) = started();
    let page = Node::page(2, 7);
    node.write(2, page, b"secret");
    let receivers = [receiver(3, RW)];
    let mut offer = share_from_two(&receivers, &[(0, 1)]);
    offer.function = ffa::MEM_LEND_64;
    offer.header.attributes = Attributes::NOT_SPECIFIED;
    offer.header.flags = m::FLAG_ZERO;
    let ranges = [(page, 1)];
    offer.ranges = &ranges;
    let handle = offer.handle(&node, two);
    assert_eq!(node.translate(2, page), None);
    // It is not the sender's to give any more, nor to be its mailbox.
    assert_eq!(result(&offer.send(&node, two)), Err(Error::Denied));
    let asks = Header { handle, ..header(2, Attributes::NORMAL_WB_INNER) };
    let place = (0x9000_0000, 1);
    let executable = [receiver(3, Permissions { instruction: InstructionAccess::Executable, ..RW })];
    let got = retrieve(&node, three, asks, &executable, Some(place)).unwrap();
    assert_eq!(got, [Range { address: 0x9000_0000, pages: 1 }]);
    assert_eq!(node.translate(3, 0x9000_0000).unwrap().access, Access::RWX);
    assert_eq!(node.read(3, 0x9000_0000, 6), [0; 6]);
    node.write(3, 0x9000_0000, b"other");
    assert_eq!(reclaim(two, handle, 0), Err(Error::Denied));
    assert_eq!(relinquish(&node, three, handle, m::FLAG_ZERO), Ok((0, 0)));
    assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
    assert_eq!(node.read(2, page, 5), [0; 5]);
    assert_eq!(reclaim(two, handle, 0), Err(Error::InvalidParameters));
    // A whole block again.
    assert_eq!(node.translate(2, page).unwrap().block, MEMORY);
}

#[test]
fn a_donation_changes_the_owner() {
    let (node, [primary, two, _]) = started();
    let page = Node::page(2, 7);
    node.write(2, page, b"present");
    let receivers = [receiver(1, OPEN)];
    let ranges = [(page, 1), (Node::page(2, 9), 1)];
    let mut offer = share_from_two(&receivers, &ranges);
    offer.function = ffa::MEM_DONATE;
    offer.header.attributes = Attributes::NOT_SPECIFIED;
    let handle = offer.handle(&node, two);
    let asks = Header { handle, ..header(2, Attributes::NOT_SPECIFIED) };
    let got = retrieve(&node, primary, asks, &[receiver(1, RW)], None).unwrap();
    // The primary sees physical addresses.
    let pa = |n: u64| pa_of(2).0 + n * PAGE;
    assert_eq!(got, [Range { address: pa(7), pages: 1 }, Range { address: pa(9), pages: 1 }]);
    assert_eq!(node.read(1, pa(7), 7), b"present");
    assert_eq!(node.system.ownership.lock().state(Pa(pa(7))), PageState::Owned(VmId(1)));
    assert_eq!(reclaim(two, handle, 0), Err(Error::InvalidParameters));
    assert_eq!(node.translate(2, page), None);
    // What it owns now it can give on, and get nothing else for it.
    let receivers = [receiver(2, OPEN)];
    let ranges = [(pa(7), 1)];
    offer.header = header(1, Attributes::NOT_SPECIFIED);
    (offer.receivers, offer.ranges) = (&receivers, &ranges);
    let handle = offer.handle(&node, primary);
    let asks = Header { handle, ..header(1, Attributes::NOT_SPECIFIED) };
    let got = retrieve(&node, two, asks, &[receiver(2, OPEN)], Some((page, 1))).unwrap();
    assert_eq!(got, [Range { address: page, pages: 1 }]);
    assert_eq!(node.read(2, page, 7), b"present");
}

#[test]
fn a_long_list_comes_in_fragments_and_goes_in_fragments() {
    let (node, [primary, two, _]) = started();
    // Every other page, so that nothing can be joined.
    let all: Vec<(u64, u32)> = (0..254).map(|n| (Node::page(2, 2 * n), 1)).collect();
    let receivers = [receiver(1, RO)];
    let offer = share_from_two(&receivers, &all);
    let first = 20;
    let mut bytes = std::vec![0; 8192];
    let composite = Composite { pages: 254, ranges: 254 };
    let head = m::ranges_offset(ffa::VERSION_1_2, 1);
    let total =
        m::write(&mut bytes, ffa::VERSION_1_2, &offer.header, &receivers, Some(composite), ranges(&all));
    let total = total.unwrap().total;
    let cut = head + first * m::RANGE_SIZE;
    node.write(2, Node::page(2, TX), &bytes[..cut]);
    let regs = call(two, &[ffa::MEM_SHARE.into(), total as u64, cut as u64]);
    assert_eq!((regs.function(), regs.0[3]), (ffa::MEM_FRAG_RX, cut as u64));
    let handle = Handle::from_words(regs.0[1], regs.0[2]);
    // One at a time; and nobody can have what is not complete.
    assert_eq!(result(&share_from_two(&receivers, &all[40..41]).send(&node, two)), Err(Error::Busy));
    let asks = Header { handle, ..header(2, Attributes::NOT_SPECIFIED) };
    assert_eq!(retrieve(&node, primary, asks, &receivers, None), Err(Error::InvalidParameters));
    let frag = |length: usize| {
        let (low, high) = handle.words();
        call(two, &[ffa::MEM_FRAG_TX.into(), low, high, length as u64])
    };
    node.write(2, Node::page(2, TX), &bytes[cut..cut + 160]);
    let regs = frag(160);
    assert_eq!((regs.function(), regs.0[3]), (ffa::MEM_FRAG_RX, cut as u64 + 160));
    node.write(2, Node::page(2, TX), &bytes[cut + 160..total]);
    let regs = frag(total - cut - 160);
    assert_eq!(result(&regs).map(|(low, high)| Handle::from_words(low, high)), Ok(handle));

    let mut got = retrieve(&node, primary, asks, &receivers, None).unwrap();
    assert!(got.len() < 254);
    while got.len() < 254 {
        let (low, high) = handle.words();
        let offset = (head + got.len() * m::RANGE_SIZE) as u64;
        let regs = call(primary, &[ffa::MEM_FRAG_RX.into(), low, high, offset]);
        assert_eq!(regs.function(), ffa::MEM_FRAG_TX);
        let bytes = node.read(1, Node::page(1, RX), regs.0[3] as usize);
        got.extend(m::ranges(&bytes).unwrap());
        call(primary, &[ffa::RX_RELEASE.into()]);
    }
    assert!(got.iter().map(|range| range.address).eq((0..254).map(|n| pa_of(2).0 + 2 * n * PAGE)));
    let (low, high) = handle.words();
    for offset in [0, head as u64 + 8, 1 << 31, (head + 254 * m::RANGE_SIZE) as u64] {
        is_refused(primary, &[ffa::MEM_FRAG_RX.into(), low, high, offset], Error::InvalidParameters);
    }
    assert_eq!(relinquish(&node, primary, handle, 0), Ok((0, 0)));
    assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
}

#[test]
fn what_cannot_be_continued_is_given_up() {
    let (node, [_, two, _]) = started();
    let receivers = [receiver(3, RO)];
    let page = Node::page(2, 4);
    for (length, low) in [(8, 0), (0, 0), (32, 0), (16, 1)] {
        let mut bytes = [0; 4096];
        let composite = Composite { pages: 2, ranges: 2 };
        let all = [(page, 1), (page, 1)];
        let head = header(2, Attributes::NORMAL_WB_INNER);
        let written =
            m::write(&mut bytes, ffa::VERSION_1_2, &head, &receivers, Some(composite), ranges(&all)).unwrap();
        let cut = (written.total - m::RANGE_SIZE) as u64;
        node.write(2, Node::page(2, TX), &bytes[..cut as usize]);
        let regs = call(two, &[ffa::MEM_SHARE.into(), written.total as u64, cut]);
        let handle = Handle::from_words(regs.0[1], regs.0[2]);
        assert_eq!(node.system.ownership.lock().state(Pa(pa_of(2).0 + 4 * PAGE)).owner(), Some(VmId(2)));
        let frag = [ffa::MEM_FRAG_TX.into(), handle.words().0 + low, handle.words().1, length];
        // The page is in it already, in the last case the handle is another.
        assert!(result(&call(two, &frag)).is_err(), "{length}");
        if low == 1 {
            assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
        }
        let state = node.system.ownership.lock().state(Pa(pa_of(2).0 + 4 * PAGE));
        assert_eq!(state, PageState::Owned(VmId(2)));
        assert_eq!(reclaim(two, handle, 0), Err(Error::InvalidParameters));
    }
}

#[test]
fn every_misuse_of_a_sender_has_its_error() {
    let (node, [_, two, _]) = started();
    let page = Node::page(2, 3);
    let one = [(page, 1)];
    let (to3, ro) = ([receiver(3, RW)], [receiver(3, RO)]);
    let good = share_from_two(&to3, &one);
    let lend =
        Offer { function: ffa::MEM_LEND, header: header(2, Attributes::NOT_SPECIFIED), ..good.clone() };
    let donate = Offer { function: ffa::MEM_DONATE, ..lend.clone() };
    let is = |offer: &Offer<'_>, error: Error, why: &str| {
        assert_eq!(result(&offer.send(&node, two)), Err(error), "{why}");
        let state = node.system.ownership.lock().state(Pa(pa_of(2).0 + 3 * PAGE));
        assert_eq!(state, PageState::Owned(VmId(2)), "{why}");
    };
    let invalid = Error::InvalidParameters;
    let mut bad = good.clone();
    bad.header.sender = VmId(3);
    is(&bad, Error::Denied, "another sender");
    bad.header = Header { handle: Handle(1), ..good.header };
    is(&bad, invalid, "a handle");
    bad.header = Header { flags: 1 << 5, ..good.header };
    is(&bad, invalid, "unknown flags");
    bad.header = Header { flags: m::FLAG_ZERO, ..good.header };
    is(&bad, invalid, "zeroing of what is shared");
    bad.header = header(2, Attributes(1 << 6 | 0x2f));
    is(&bad, invalid, "a security state");
    bad.header = header(2, Attributes(0x10));
    is(&bad, Error::Denied, "device memory");
    bad.header = header(2, Attributes::NOT_SPECIFIED);
    is(&bad, Error::Denied, "no attributes for a share");
    bad = lend.clone();
    bad.header = header(2, Attributes::NORMAL_WB_INNER);
    is(&bad, invalid, "attributes for a loan");
    let executable = [receiver(3, Permissions { instruction: InstructionAccess::Executable, ..RW })];
    is(&Offer { receivers: &executable, ..good.clone() }, invalid, "execution of what is shared");
    is(&Offer { receivers: &[receiver(3, OPEN)], ..good.clone() }, invalid, "a share without permission");
    is(&Offer { receivers: &[receiver(3, OPEN)], ..lend.clone() }, invalid, "a loan without permission");
    is(&Offer { receivers: &ro, ..donate.clone() }, invalid, "a donation with permission");
    let two_open = [receiver(3, OPEN), receiver(1, OPEN)];
    let mut many = Offer { receivers: &two_open, ..donate.clone() };
    many.header = header(2, Attributes::NOT_SPECIFIED);
    is(&many, invalid, "a donation to two");
    is(&Offer { receivers: &[Receiver { flags: 1, ..ro[0] }], ..good.clone() }, invalid, "a proxy");
    for vm in [0, 2, 4, 99] {
        is(&Offer { receivers: &[receiver(vm, RW)], ..good.clone() }, invalid, "a receiver that cannot be");
    }
    is(&Offer { receivers: &[to3[0], ro[0]], ..good.clone() }, invalid, "the same receiver twice");
    for ranges in [[(page, 0)], [(page + 8, 1)], [(!0xfff, 2)], [(u64::MAX, 1)]] {
        is(&Offer { ranges: &ranges, ..good.clone() }, invalid, "a range that cannot be");
    }
    for ranges in [[(page, 1), (page, 1)], [(page, 2), (page + PAGE, 1)]] {
        is(&Offer { ranges: &ranges, ..good.clone() }, Error::Denied, "a page twice");
    }
    for n in [TX, RX] {
        is(&Offer { ranges: &[(Node::page(2, n), 1)], ..good.clone() }, Error::Denied, "a mailbox");
    }
    for address in [0, 0x4020_0000, pa_of(3).0, 0x3fff_f000, 1 << 39, 1 << 52] {
        is(&Offer { ranges: &[(address, 1)], ..good.clone() }, Error::Denied, "nobody's memory");
    }
    is(&Offer { ranges: &[(page, u32::MAX)], ..good.clone() }, Error::NoMemory, "too many pages");
    is(&Offer { ranges: &[(page, 1024)], ..good.clone() }, Error::Denied, "more than it has");
    // Buffers other than TX, lengths that do not fit.
    for call in [
        [ffa::MEM_SHARE.into(), 96, 96, page, 1],
        [ffa::MEM_SHARE.into(), 96, 97, 0, 0],
        [ffa::MEM_SHARE.into(), 5000, 4097, 0, 0],
        [ffa::MEM_SHARE.into(), 0, 0, 0, 0],
        [ffa::MEM_SHARE.into(), u64::MAX, u64::MAX, 0, 0],
    ] {
        is_refused(two, &call, invalid);
    }
    // There is room for so many, and no more.
    let handles: Vec<Handle> = (0..page_ownership::MAX_TRANSACTIONS as u64)
        .map(|n| Offer { ranges: &[(Node::page(2, 10 + n), 1)], ..good.clone() }.handle(&node, two))
        .collect();
    is(&good, Error::NoMemory, "one more");
    for handle in handles {
        assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
    }
    good.handle(&node, two);
}

#[test]
fn every_misuse_of_a_receiver_has_its_error() {
    let (node, [primary, two, three]) = started();
    let page = Node::page(2, 3);
    let receivers = [receiver(3, RO)];
    let ranges = [(page, 2)];
    let mut offer = share_from_two(&receivers, &ranges);
    offer.function = ffa::MEM_LEND;
    offer.header.attributes = Attributes::NOT_SPECIFIED;
    let handle = offer.handle(&node, two);
    let asks = Header { handle, ..header(2, Attributes::NOT_SPECIFIED) };
    let is = |vcpu, header: Header, receivers: &[Receiver], place, error: Error| {
        assert_eq!(retrieve(&node, vcpu, header, receivers, place), Err(error), "{header:?} {receivers:?}");
    };
    let invalid = Error::InvalidParameters;
    is(three, Header { handle: Handle(handle.0 + 1), ..asks }, &receivers, None, invalid);
    is(three, Header { handle: Handle(handle.0 + (1 << 32)), ..asks }, &receivers, None, invalid);
    is(three, Header { handle: Handle(handle.0 & !Handle::HYPERVISOR), ..asks }, &receivers, None, invalid);
    is(three, Header { sender: VmId(1), ..asks }, &receivers, None, invalid);
    is(three, Header { tag: 1, ..asks }, &receivers, None, invalid);
    is(three, Header { flags: ffa::memory::Kind::Share.flags(), ..asks }, &receivers, None, invalid);
    is(three, Header { flags: 1 << 9, ..asks }, &receivers, None, invalid);
    is(three, Header { flags: m::FLAG_ZERO, ..asks }, &receivers, None, Error::Denied);
    is(three, Header { attributes: Attributes(0x10), ..asks }, &receivers, None, Error::Denied);
    // More than it was granted; another's part; nobody's part.
    is(three, asks, &[receiver(3, RW)], None, Error::Denied);
    is(three, asks, &[receiver(1, RO)], None, invalid);
    is(three, asks, &[receiver(3, RO), receiver(1, RO)], None, invalid);
    is(three, asks, &[receiver(3, RO), receiver(3, RO)], None, invalid);
    // Not a receiver at all.
    is(primary, asks, &[receiver(1, RO)], None, invalid);
    is(primary, asks, &receivers, None, invalid);
    // Places that are taken, too short, not aligned, or none.
    for place in [(Node::page(3, 0), 2), (WINDOW, 1), (WINDOW + 8, 2), (1 << 52, 2), (!0xfff, 2), (WINDOW, 0)]
    {
        is(three, asks, &receivers, Some(place), invalid);
    }
    let release = [ffa::RX_RELEASE.into()];
    is_refused(three, &release, Error::Denied);
    // Nothing was mapped by any of these.
    assert_eq!(node.translate(3, WINDOW), None);
    let executable = [receiver(3, Permissions { instruction: InstructionAccess::Executable, ..RO })];
    assert!(retrieve(&node, three, asks, &executable, None).is_ok());
    assert_eq!(node.translate(3, WINDOW).unwrap().access, Access { write: false, ..Access::RWX });
    // Not its own: it cannot be given on, nor be a mailbox.
    let mine = [receiver(2, RW)];
    let on = [(WINDOW, 1)];
    let mut given_on = share_from_two(&mine, &on);
    given_on.header.sender = VmId(3);
    assert_eq!(result(&given_on.send(&node, three)), Err(Error::Denied));
    assert_eq!(relinquish(&node, three, handle, m::FLAG_ZERO), Err(Error::Denied));
    assert_eq!(relinquish(&node, three, Handle(handle.0 ^ 1), 0), Err(invalid));
    assert_eq!(relinquish(&node, three, handle, 1 << 2), Err(invalid));
    assert_eq!(relinquish(&node, two, handle, 0), Err(Error::Denied));
    assert_eq!(reclaim(two, handle, 1 << 2), Err(invalid));
}

#[test]
fn a_vm_that_stops_gives_back_what_it_had_borrowed() {
    let (node, [_, two, three]) = started();
    let receivers = [receiver(3, RW)];
    let ranges = [(Node::page(2, 3), 1)];
    let handle = share_from_two(&receivers, &ranges).handle(&node, two);
    let asks = Header { handle, ..header(2, Attributes::NOT_SPECIFIED) };
    retrieve(&node, three, asks, &receivers, None).unwrap();
    assert_eq!(reclaim(two, handle, 0), Err(Error::Denied));
    Node::call(three, &[psci::SYSTEM_OFF.into()]);
    // The lender takes it back, which needs nobody's help.
    assert_eq!(reclaim(two, handle, 0), Ok((0, 0)));
    assert_eq!(node.translate(3, WINDOW), None);
}

#[test]
fn messages_go_from_page_to_page() {
    let (node, [_, two, three]) = started();
    let send = |receiver: u16, offset: usize, size: usize| {
        let message = Message { sender: VmId(2), receiver: VmId(receiver), offset, size, uuid: [0; 4] };
        let mut bytes = [0x5a; 4096];
        message.write(&mut bytes[..64], ffa::VERSION_1_2);
        node.write(2, Node::page(2, TX), &bytes);
        Node::call(two, &[ffa::MSG_SEND2.into()])
    };
    let refused = |outcome: Outcome| match outcome {
        Outcome::Returned(regs) => result(&regs).err(),
        _ => None,
    };
    let invalid = Some(Error::InvalidParameters);
    for receiver in [0, 2, 9] {
        assert_eq!(refused(send(receiver, 40, 4)), invalid);
    }
    assert_eq!(refused(send(3, 39, 4)), invalid);
    assert_eq!(refused(send(3, 40, 4057)), invalid);
    assert_eq!(refused(send(3, usize::MAX >> 32, 1)), invalid);
    is_refused(two, &[ffa::MSG_SEND2.into(), 0, 1], Error::InvalidParameters);
    assert_eq!(refused(send(3, 64, 4032)), None);
    assert_eq!(refused(send(3, 40, 4)), Some(Error::Busy));
    let page = node.read(3, Node::page(3, RX), 4096);
    let got = Message::parse(&page, ffa::VERSION_1_2).unwrap();
    assert_eq!((got.sender, got.receiver, got.offset, got.size), (VmId(2), VmId(3), 40, 4032));
    assert!(page[40..4072].iter().all(|byte| *byte == 0x5a));
    // A wait ends at once while there is a message, and the message is not lost by it.
    let waited = call(three, &[ffa::MSG_WAIT.into()]);
    assert_eq!(waited.function(), ffa::RUN);
    assert_eq!(refused(send(3, 40, 4)), Some(Error::Busy));
    assert_eq!(result(&call(three, &[ffa::RX_RELEASE.into()])), Ok((0, 0)));
    // One that waits is run: the primary is told.
    let waits = Exit::MessageWait { timeout_ns: None };
    assert_eq!(Node::call(three, &[ffa::MSG_WAIT.into()]), Outcome::Exited(id(3, 0), waits));
    assert_eq!(send(3, 40, 4), Outcome::Exited(id(3, 0), Exit::Interrupt));
}
