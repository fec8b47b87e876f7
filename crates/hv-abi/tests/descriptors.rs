//! Descriptors and message headers: written out by hand, compared with another implementation, and made of
//! anything.
#![allow(missing_docs)]

use arm_ffa::memory_management as other;
use hv_abi::{
    ffa::{
        Error, VERSION_1_0, VERSION_1_1, VERSION_1_2, Version,
        memory::{
            self, Attributes, Composite, DataAccess, Descriptor, FLAG_ZERO, Handle, Header,
            InstructionAccess, Kind, Permissions, Range, Receiver, Relinquish,
        },
        message::Message,
    },
    ids::VmId,
};
use proptest::{collection::vec, prelude::*, sample::Index};

const VERSIONS: [Version; 3] = [VERSION_1_0, VERSION_1_1, VERSION_1_2];
const ROOM: usize = 4096;

/// Bytes written as hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// VM 2 lends VM 3 (read and write, no instructions) and VM 4 (read) two ranges of 3 pages together: header,
/// then the rest, which is the same in all versions but for the receivers' size.
fn lent() -> (Header, [Receiver; 2], Composite, [Range; 2]) {
    let receiver = |vm, bits| {
        let permissions = Permissions::from_bits(bits).unwrap();
        Receiver { vm: VmId(vm), permissions, flags: 0 }
    };
    let header = Header {
        sender: VmId(2),
        attributes: Attributes::NORMAL_WB_INNER,
        flags: FLAG_ZERO,
        handle: Handle(0),
        tag: 0x8877_6655_4433_2211,
    };
    let ranges = [Range { address: 0x4000_0000, pages: 1 }, Range { address: 0x12_3456_7000, pages: 2 }];
    (header, [receiver(3, 0b0110), receiver(4, 0b0001)], Composite { pages: 3, ranges: 2 }, ranges)
}

const COMPOSITE: &str = "03000000 02000000 0000000000000000
    0000004000000000 01000000 00000000  0070563412000000 02000000 00000000";

fn lent_bytes(version: Version) -> Vec<u8> {
    let text = match version {
        VERSION_1_0 => {
            "0200 2f 00 01000000 0000000000000000 1122334455667788 00000000 02000000
             0300 06 00 40000000 0000000000000000  0400 01 00 40000000 0000000000000000"
        }
        VERSION_1_1 => {
            "0200 2f00  01000000 0000000000000000 1122334455667788 10000000 02000000 30000000 000000000000000000000000
             0300 06 00 50000000 0000000000000000  0400 01 00 50000000 0000000000000000"
        }
        _ => {
            "0200 2f00  01000000 0000000000000000 1122334455667788 20000000 02000000 30000000 000000000000000000000000
             0300 06 00 70000000 0000000000000000 0000000000000000 0000000000000000
             0400 01 00 70000000 0000000000000000 0000000000000000 0000000000000000"
        }
    };
    hex(&format!("{text} {COMPOSITE}"))
}

#[test]
fn encoding_matches_specification() {
    let (header, receivers, composite, ranges) = lent();
    for version in VERSIONS {
        let expected = lent_bytes(version);
        let mut bytes = [0xaa; ROOM];
        let written =
            memory::write(&mut bytes, version, &header, &receivers, Some(composite), ranges.into_iter());
        let written = written.unwrap();
        assert_eq!((written.total, written.fragment), (expected.len(), expected.len()));
        assert_eq!(bytes[..written.total], expected, "{version:?}");
        let parsed = Descriptor::parse(&expected, expected.len(), version).unwrap();
        assert_eq!(*parsed.header(), header);
        assert_eq!(parsed.composite(), Some(composite));
        assert!(parsed.receivers().map(Result::unwrap).eq(receivers));
        assert!(parsed.ranges().eq(ranges));
    }
}

#[test]
fn a_version_does_not_read_another_s_bytes() {
    for written in VERSIONS {
        for read in VERSIONS {
            let bytes = lent_bytes(written);
            // Version 1.2 reads what 1.1 writes: the descriptor says the size of a receiver.
            let readable = written == read || (written, read) == (VERSION_1_1, VERSION_1_2);
            assert_eq!(Descriptor::parse(&bytes, bytes.len(), read).is_ok(), readable);
        }
    }
}

/// Linux clears neither the second half of a 16-byte receiver nor the reserved word of a message of version
/// 1.2.
#[test]
fn ignores_stale_bytes_from_linux() {
    for (version, second_half) in [(VERSION_1_0, 40..48), (VERSION_1_1, 56..64)] {
        let mut bytes = lent_bytes(version);
        bytes[second_half].fill(0xa5);
        assert!(Descriptor::parse(&bytes, bytes.len(), version).is_ok());
    }
    let mut bytes = hex("00000000 00000000 28000000 03000200 04000000 a5a5a5a5
        00112233 44556677 8899aabb ccddeeff 01020304");
    let expected = Message {
        sender: VmId(2),
        receiver: VmId(3),
        offset: 40,
        size: 4,
        uuid: [0x3322_1100, 0x7766_5544, 0xbbaa_9988, 0xffee_ddcc],
    };
    assert_eq!(Message::parse(&bytes, VERSION_1_2), Ok(expected));
    let mut written = [0xa5; 44];
    expected.write(&mut written, VERSION_1_2).unwrap();
    bytes[20..24].fill(0);
    assert_eq!(written[..40], bytes[..40]);
}

#[test]
fn encodes_relinquish() {
    let bytes = hex("0500000000000080 01000000 01000000 0300");
    let relinquish = Relinquish { handle: Handle(Handle::HYPERVISOR | 5), flags: FLAG_ZERO, vm: VmId(3) };
    assert_eq!(Relinquish::parse(&bytes), Ok(relinquish));
    assert_eq!(bytes, relinquish.to_bytes());
    let (parsed, endpoints) = other::MemRelinquishDesc::unpack(&bytes).unwrap();
    assert_eq!((parsed.handle.0, parsed.flags), (relinquish.handle.0, relinquish.flags));
    assert!(endpoints.eq([3]));
}

/// Counts, sizes and offsets that overflow or reach beyond the buffer.
#[test]
fn numbers_at_their_ends() {
    for version in VERSIONS {
        let good = lent_bytes(version);
        let receivers_at = if version == VERSION_1_0 { 32 } else { 48 };
        let size = if version == VERSION_1_2 { 32 } else { 16 };
        let composite_at = receivers_at + 2 * size;
        let mut places = vec![28, receivers_at + 4, composite_at + 4, composite_at + 8];
        if version != VERSION_1_0 {
            places.extend([24, 32]);
        }
        for at in places {
            for value in [3, 7, 8, 17, 0x7fff_ffff, 0x8000_0000, 0xffff_ffe0, 0xffff_fff0, u32::MAX] {
                let mut bytes = good.clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                for total in [bytes.len(), usize::MAX, usize::MAX & !15, u32::MAX as usize] {
                    let parsed = Descriptor::parse(&bytes, total, version);
                    assert_eq!(parsed.err(), Some(Error::InvalidParameters), "{value:#x} at {at}");
                }
            }
        }
        for end in 0..good.len() {
            assert!(Descriptor::parse(&good[..end], end, version).is_err());
        }
    }
}

/// Descriptors that are wrong in one respect, and consistent with that in all others.
#[test]
fn each_check_alone() {
    let set = |bytes: &mut Vec<u8>, at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    let refused = |bytes: &[u8], total: usize, why: &str| {
        let parsed = Descriptor::parse(bytes, total, VERSION_1_1);
        assert_eq!(parsed.err(), Some(Error::InvalidParameters), "{why}");
    };
    let good = lent_bytes(VERSION_1_1);
    let length = good.len();

    let mut bytes = good.clone();
    set(&mut bytes, 84, 1);
    refused(&bytes, length - 16, "more ranges than there are");
    assert!(Descriptor::parse(&bytes[..length - 16], length - 16, VERSION_1_1).is_ok());
    set(&mut bytes, 84, 0);
    refused(&bytes[..length - 32], length - 32, "no ranges");

    // The only receiver is read from the header.
    for at in [16, 32] {
        let mut bytes = good[..at as usize + 16].to_vec();
        bytes.resize(48, 0);
        set(&mut bytes, 20, 0);
        set(&mut bytes, 28, 1);
        set(&mut bytes, 32, at);
        let end = at as usize + 16;
        refused(&bytes[..end.max(48)], end.max(48), "receivers in the header");
    }

    let mut bytes = good.clone();
    bytes.splice(48..48, [0; 8]);
    set(&mut bytes, 32, 56);
    for at in [60, 76] {
        set(&mut bytes, at, 88);
    }
    refused(&bytes, bytes.len(), "receivers not aligned to 16 bytes");

    for (gap, fine) in [(4, false), (8, true)] {
        let mut bytes = good.clone();
        bytes.splice(80..80, vec![0; gap]);
        for at in [52, 68] {
            set(&mut bytes, at, 80 + gap as u32);
        }
        let parsed = Descriptor::parse(&bytes, bytes.len(), VERSION_1_1);
        assert_eq!(parsed.is_ok(), fine, "composite aligned to {gap} bytes");
    }

    // The only receiver is the composite, too: of as many ranges as the composite's offset is a number.
    let mut bytes = good[..64].to_vec();
    set(&mut bytes, 28, 1);
    set(&mut bytes, 52, 48);
    bytes.resize(64 + 48 * memory::RANGE_SIZE, 0);
    refused(&bytes, bytes.len(), "a composite within the receivers");
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let data =
        prop_oneof![Just(DataAccess::NotSpecified), Just(DataAccess::ReadOnly), Just(DataAccess::ReadWrite)];
    let instruction = prop_oneof![
        Just(InstructionAccess::NotSpecified),
        Just(InstructionAccess::NotExecutable),
        Just(InstructionAccess::Executable)
    ];
    (data, instruction).prop_map(|(data, instruction)| Permissions { data, instruction })
}

fn receivers() -> impl Strategy<Value = Vec<Receiver>> {
    let receiver = (any::<u16>(), permissions(), any::<u8>());
    vec(receiver.prop_map(|(vm, permissions, flags)| Receiver { vm: VmId(vm), permissions, flags }), 1..9)
}

fn ranges() -> impl Strategy<Value = Vec<Range>> {
    let range = (any::<u64>(), 0..0x10_0000u32);
    vec(range.prop_map(|(address, pages)| Range { address, pages }), 0..400)
}

fn header() -> impl Strategy<Value = Header> {
    // What both implementations have words for.
    let attributes =
        prop_oneof![Just(0), Just(0b01_0100), Just(0b10_0110), Just(0b10_1111), Just(0b110_1110)];
    (any::<u16>(), attributes, any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
        |(sender, attributes, flags, handle, tag)| Header {
            sender: VmId(sender),
            attributes: Attributes(attributes),
            flags,
            handle: Handle(handle),
            tag,
        },
    )
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(VERSIONS.to_vec())
}

fn composite_of(ranges: &[Range]) -> Option<Composite> {
    let pages = ranges.iter().map(|range| range.pages).sum();
    (!ranges.is_empty()).then_some(Composite { pages, ranges: ranges.len() as u32 })
}

/// Looks at everything that a parser says.
fn read(bytes: &[u8], total: usize, version: Version) {
    if let Ok(parsed) = Descriptor::parse(bytes, total, version) {
        assert!(parsed.receiver_count() * 16 <= bytes.len());
        assert_eq!(parsed.receivers().count(), parsed.receiver_count());
        let seen = parsed.ranges().count();
        assert!(seen * memory::RANGE_SIZE <= bytes.len());
        match parsed.composite() {
            Some(composite) => assert_eq!(
                total - bytes.len(),
                (composite.ranges as usize - seen) * memory::RANGE_SIZE,
                "the rest is whole ranges"
            ),
            None => assert_eq!((seen, total), (0, bytes.len())),
        }
    }
    if let Ok(message) = Message::parse(bytes, version) {
        assert!(message.offset >= Message::header_size(version));
        assert!(bytes.get(message.offset..message.offset + message.size).is_some());
    }
    let _ = Relinquish::parse(bytes);
    let _ = memory::ranges(bytes).map(Iterator::count);
}

proptest! {
    #[test]
    fn a_descriptor_survives_its_fragments(
        version in version(),
        header in header(),
        receivers in receivers(),
        ranges in ranges(),
        room in 400usize..ROOM,
        fill in any::<u8>(),
    ) {
        let mut bytes = vec![fill; room];
        let composite = composite_of(&ranges);
        let all = ranges.iter().copied();
        let written = memory::write(&mut bytes, version, &header, &receivers, composite, all.clone()).unwrap();
        let parsed = Descriptor::parse(&bytes[..written.fragment], written.total, version).unwrap();
        prop_assert_eq!(*parsed.header(), header);
        prop_assert_eq!(parsed.composite(), composite);
        prop_assert!(parsed.receivers().map(Result::unwrap).eq(receivers.iter().copied()));
        let mut got: Vec<Range> = parsed.ranges().collect();
        if composite.is_some() {
            let head = memory::ranges_offset(version, receivers.len());
            prop_assert_eq!(written.fragment, head + got.len() * memory::RANGE_SIZE);
        }
        let mut length = written.fragment;
        while length < written.total {
            let mut fragment = vec![fill; room];
            let more = memory::write_ranges(&mut fragment, all.clone().skip(got.len())) * memory::RANGE_SIZE;
            prop_assert!(more > 0);
            got.extend(memory::ranges(&fragment[..more]).unwrap());
            length += more;
        }
        prop_assert_eq!(length, written.total);
        prop_assert_eq!(got, ranges);
    }

    #[test]
    fn does_not_write_past_small_buffer(
        version in version(), header in header(), receivers in receivers(), ranges in ranges(), room in 0usize..400,
    ) {
        let mut bytes = vec![0; room];
        let composite = composite_of(&ranges);
        let needed = memory::ranges_offset(version, receivers.len()) - if composite.is_some() { 0 } else { 16 };
        let written = memory::write(&mut bytes, version, &header, &receivers, composite, ranges.iter().copied());
        prop_assert_eq!(written.is_some(), room >= needed);
    }

    /// `arm-ffa` speaks the form of version 1.1, in one fragment.
    #[test]
    fn descriptors_are_read_by_another_implementation(
        header in header(), receivers in receivers(), ranges in ranges(),
    ) {
        let mut bytes = vec![0xaa; 2 * ROOM];
        let composite = composite_of(&ranges);
        let all = ranges.iter().copied();
        let written = memory::write(&mut bytes, VERSION_1_1, &header, &receivers, composite, all).unwrap();
        prop_assert_eq!(written.total, written.fragment);
        let (read, read_receivers, read_ranges) = other::MemTransactionDesc::unpack(&bytes[..written.total]).unwrap();
        prop_assert_eq!(read.sender_id, header.sender.0);
        prop_assert_eq!(u16::from(read.mem_region_attr), header.attributes.0);
        prop_assert_eq!((read.flags.0, read.handle.0, read.tag), (header.flags, header.handle.0, header.tag));
        let read_receivers: Vec<_> = read_receivers.map(|receiver| receiver.unwrap()).collect();
        prop_assert_eq!(read_receivers.len(), receivers.len());
        for (read, receiver) in read_receivers.iter().zip(&receivers) {
            let bits = read.data_access as u8 | read.instr_access as u8;
            prop_assert_eq!((read.endpoint_id, bits, read.flags), (receiver.vm.0, receiver.permissions.to_bits(), receiver.flags));
        }
        prop_assert_eq!(read_ranges.is_some(), composite.is_some());
        let read_ranges = read_ranges.into_iter().flatten().map(|range| range.unwrap());
        let same = read_ranges.map(|range| Range { address: range.address, pages: range.page_cnt }).eq(ranges);
        prop_assert!(same);
    }

    #[test]
    fn reads_descriptors_of_another_implementation(
        header in header(), receivers in receivers(), ranges in ranges().prop_filter("some", |all| !all.is_empty()),
    ) {
        let written = other::MemTransactionDesc {
            sender_id: header.sender.0,
            mem_region_attr: header.attributes.0.try_into().unwrap(),
            flags: other::MemTransactionFlags(header.flags),
            handle: other::Handle(header.handle.0),
            tag: header.tag,
        };
        let written_ranges: Vec<_> = ranges
            .iter()
            .map(|range| other::ConstituentMemRegion { address: range.address, page_cnt: range.pages })
            .collect();
        let written_receivers: Vec<_> = receivers
            .iter()
            .map(|receiver| other::MemAccessPerm {
                endpoint_id: receiver.vm.0,
                instr_access: receiver.permissions.to_bits().try_into().unwrap(),
                data_access: receiver.permissions.to_bits().try_into().unwrap(),
                flags: receiver.flags,
            })
            .collect();
        let mut bytes = vec![0xaa; 2 * ROOM];
        let length = written.pack(&written_ranges, &written_receivers, &mut bytes);
        for version in [VERSION_1_1, VERSION_1_2] {
            let parsed = Descriptor::parse(&bytes[..length], length, version).unwrap();
            prop_assert_eq!(*parsed.header(), header);
            prop_assert!(parsed.receivers().map(Result::unwrap).eq(receivers.iter().copied()));
            prop_assert_eq!(parsed.composite(), composite_of(&ranges));
            prop_assert!(parsed.ranges().eq(ranges.iter().copied()));
        }
        // And it writes the bytes that Margay writes.
        let mut own = vec![0x55; 2 * ROOM];
        let all = ranges.iter().copied();
        memory::write(&mut own, VERSION_1_1, &header, &receivers, composite_of(&ranges), all).unwrap();
        prop_assert_eq!(&own[..length], &bytes[..length]);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(
        version in version(), bytes in vec(any::<u8>(), 0..300), more in prop_oneof![Just(0), Just(16), any::<usize>()],
    ) {
        read(&bytes, bytes.len().wrapping_add(more), version);
    }

    #[test]
    fn nearly_valid_bytes_cause_no_panic(
        version in version(),
        changes in vec((any::<Index>(), prop_oneof![Just(0), Just(1), Just(16), Just(0x30), Just(0xff), any::<u8>()]), 1..6),
        end in any::<Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = lent_bytes(version);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let total = bytes.len();
        if !whole {
            bytes.truncate(end.index(total + 1));
        }
        read(&bytes, total, version);
        read(&bytes, bytes.len(), version);
    }

    #[test]
    fn messages_survive(
        version in version(), sender in any::<u16>(), receiver in any::<u16>(), uuid in any::<[u32; 4]>(),
        gap in 0usize..64, size in 0usize..256, fill in any::<u8>(),
    ) {
        let offset = Message::header_size(version) + gap;
        let uuid = if version == VERSION_1_2 { uuid } else { [0; 4] };
        let message = Message { sender: VmId(sender), receiver: VmId(receiver), offset, size, uuid };
        let mut bytes = vec![fill; offset + size];
        message.write(&mut bytes, version).unwrap();
        prop_assert_eq!(Message::parse(&bytes, version), Ok(message));
        bytes.pop();
        prop_assert!(message.write(&mut bytes, version).is_none());
        prop_assert!(Message::parse(&bytes, version).is_err());
    }
}

#[test]
fn kinds_survive_their_flags() {
    for kind in [Kind::Donate, Kind::Lend, Kind::Share] {
        assert_eq!(Kind::from_flags(kind.flags() | !0x18), Some(kind));
    }
    assert_eq!(Kind::from_flags(!0x18), None);
    assert_eq!(Kind::Donate.flags(), other::MemTransactionFlags::TYPE_DONATE);
    assert_eq!(Kind::Lend.flags(), other::MemTransactionFlags::TYPE_LEND);
    assert_eq!(Kind::Share.flags(), other::MemTransactionFlags::TYPE_SHARE);
}
