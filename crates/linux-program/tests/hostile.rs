//! Files that were damaged or made to do harm.

mod common;

use common::{Elf, Header, LIMITS, fixed, pie};
use linux_program::{Limits, Program, UserAddr, UserRange};
use proptest::prelude::*;
use proptest::sample::Index;

/// Everything that is promised about a program that was not refused.
fn check(file: &[u8], base: u64, limits: &Limits) -> Result<(), TestCaseError> {
    let Ok(program) = Program::parse(file) else { return Ok(()) };
    let _ = (program.stack(), program.has_bti());
    let Ok(placed) = program.place(UserAddr::new(base), limits) else { return Ok(()) };
    let _ = placed.symbols().and_then(|symbols| symbols.find(placed.entry()).map(|place| place.offset));

    let mut end = limits.addresses.start;
    let mut memory = 0;
    let mut entry_is_code = false;
    let mut headers_are_there = placed.headers().is_none();
    for segment in placed.segments() {
        prop_assert!(segment.pages.start >= end && segment.pages.end > segment.pages.start);
        prop_assert_eq!((segment.pages.start.get() | segment.pages.end.get()) % 4096, 0);
        prop_assert!(segment.pages.covers(segment.range));
        prop_assert!(segment.pages.start.get() + 4096 > segment.range.start.get());
        prop_assert!(segment.contents.len() as u64 <= segment.range.len());
        prop_assert_eq!(segment.file_offset % 4096, segment.range.start.get() % 4096);
        prop_assert_eq!(segment.contents, &file[segment.file_offset as usize..][..segment.contents.len()]);
        prop_assert!(!(segment.access.write && segment.access.execute));
        entry_is_code |= segment.access.execute && segment.range.contains(placed.entry());
        if let Some(headers) = placed.headers().filter(|headers| segment.range.contains(*headers)) {
            let at = (headers.get() - segment.range.start.get()) as usize;
            let stored = segment.contents.get(at..at + placed.header_count() as usize * 56);
            let offset = u64::from_le_bytes(file[32..40].try_into().unwrap()) as usize;
            headers_are_there |= stored == file.get(offset..offset + placed.header_count() as usize * 56);
        }
        memory += segment.pages.len();
        end = segment.pages.end;
    }
    prop_assert!(end <= limits.addresses.end);
    prop_assert_eq!(end, placed.heap());
    prop_assert!(memory <= limits.memory && memory == program.memory());
    prop_assert!(entry_is_code && headers_are_there);
    Ok(())
}

/// Numbers near which things go wrong.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..0x5000_u64,
        (0..64_u32, -3..3_i64).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add_signed(off)),
        (0..0x30_u64).prop_map(|page| 0x40_0000 + page * 0x400),
        Just(u64::MAX),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    let kind = prop_oneof![5 => Just(1), 1 => 0..8_u32, 1 => 0x6474_e550..0x6474_e554_u32];
    (kind, 0..8_u32, [number(), number(), number(), number(), number()]).prop_map(|(kind, flags, numbers)| {
        let [offset, address, in_file, in_memory, alignment] = numbers;
        Header { kind, flags, offset, address, in_file, in_memory, alignment }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 4000 }))]

    #[test]
    fn any_bytes(file in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&file, 0, &LIMITS)?;
    }

    #[test]
    fn damaged_files(
        independent in any::<bool>(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..8),
        length in any::<Index>(),
        cut in any::<bool>(),
        base in number(),
    ) {
        let mut file = if independent { pie() } else { fixed() }.build();
        for (index, byte) in changes {
            file[index.index(64 + 4 * 56)] = byte;
        }
        if cut {
            file.truncate(length.index(file.len()));
        }
        check(&file, base, &LIMITS)?;
    }

    #[test]
    fn malicious_headers(
        kind in 2..=3_u16,
        entry in number(),
        some in proptest::collection::vec((any::<Index>(), header()), 0..4),
        fields in proptest::collection::vec((any::<Index>(), 0..5_usize, number()), 0..4),
        base in number(),
        bounds in (number(), number()),
        memory in number(),
    ) {
        let mut elf = Elf { kind, ..if kind == 3 { pie() } else { fixed() } };
        if entry % 4 == 0 {
            elf.entry = entry;
        }
        for (index, header) in some {
            elf.headers.insert(index.index(elf.headers.len()), header);
        }
        for (index, field, number) in fields {
            let header = index.index(elf.headers.len());
            let header = &mut elf.headers[header];
            *match field {
                0 => &mut header.offset,
                1 => &mut header.address,
                2 => &mut header.in_file,
                3 => &mut header.in_memory,
                _ => &mut header.alignment,
            } = number;
        }
        let addresses = UserRange { start: UserAddr::new(bounds.0), end: UserAddr::new(bounds.1) };
        let file = elf.build();
        check(&file, base, &Limits { addresses, memory })?;
        check(&file, base, &LIMITS)?;
    }
}
