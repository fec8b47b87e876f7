//! Load plans of small ELF files, and everything for which a file is refused.

mod common;

use common::{
    DYNAMIC, Elf, GNU_PROPERTY, GNU_STACK, Header, INTERP, LIMITS, PHDR, R, RW, RX, TLS, fixed, pie,
};
use linux_program::{Access, ElfError, Kind, Limits, Program, SegmentProblem, UserAddr, UserRange};

const BASE: UserAddr = UserAddr::new(0x5555_0000_1234);

fn range(start: u64, end: u64) -> UserRange {
    UserRange { start: UserAddr::new(start), end: UserAddr::new(end) }
}

fn refusal(elf: &Elf) -> ElfError {
    Program::parse(&elf.build()).expect_err("a program that is refused")
}

fn problem(change: impl FnOnce(&mut Elf)) -> SegmentProblem {
    let mut elf = fixed();
    change(&mut elf);
    match refusal(&elf) {
        ElfError::Segment { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fixed_program() {
    let file = fixed().build();
    let program = Program::parse(&file).unwrap();
    assert_eq!(program.kind(), Kind::Fixed);
    assert_eq!(program.pages(), range(0x40_0000, 0x40_5000));
    assert_eq!(program.memory(), 0x5000);
    assert_eq!(program.stack().size, Some(0x10_0000));
    assert!(!program.stack().executable);
    assert!(!program.has_bti());

    let placed = program.place(BASE, &LIMITS).unwrap();
    assert_eq!(placed.bias(), 0);
    assert_eq!(placed.entry(), UserAddr::new(0x40_0400));
    assert_eq!(placed.headers(), Some(UserAddr::new(0x40_0040)));
    assert_eq!(placed.header_count(), 4);
    assert_eq!(placed.heap(), UserAddr::new(0x40_5000));
    let tls = placed.tls().unwrap();
    assert_eq!((tls.image, tls.size, tls.alignment), (range(0x40_2800, 0x40_2810), 0x48, 0x1000));

    let segments: Vec<_> = placed.segments().collect();
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[0].pages, range(0x40_0000, 0x40_2000));
    assert_eq!(segments[0].access, Access { read: true, write: false, execute: true });
    assert_eq!(segments[1].pages, range(0x40_2000, 0x40_5000));
    assert_eq!(segments[1].range, range(0x40_2800, 0x40_4800));
    assert_eq!(segments[1].contents, &file[0x1800..0x1b00]);
    assert_eq!(segments[1].access, Access { read: true, write: true, execute: false });
}

#[test]
fn a_position_independent_program() {
    let file = pie().build();
    let program = Program::parse(&file).unwrap();
    assert_eq!(program.kind(), Kind::PositionIndependent);
    assert_eq!(program.alignment(), 0x1_0000);
    let placed = program.place(BASE, &LIMITS).unwrap();
    let base = 0x5555_0001_0000;
    assert_eq!(placed.bias(), base);
    assert_eq!(placed.pages(), range(base, base + 0x5000));
    assert_eq!(placed.entry(), UserAddr::new(base + 0x400));
    assert_eq!(placed.headers(), Some(UserAddr::new(base + 0x40)));
    assert_eq!(placed.tls().unwrap().image.start, UserAddr::new(base + 0x2800));
    assert_eq!(placed.segments().nth(1).unwrap().range, range(base + 0x2800, base + 0x4800));
}

#[test]
fn a_position_independent_program_linked_high_goes_down() {
    let mut elf = pie();
    elf.entry += 0x7000_0000_1000;
    elf.headers.iter_mut().for_each(|header| header.address += 0x7000_0000_1000);
    let file = elf.build();
    let placed = Program::parse(&file).unwrap().place(BASE, &LIMITS).unwrap();
    // Where it is relative to its alignment stays.
    assert_eq!(placed.pages(), range(0x5555_0001_1000, 0x5555_0001_6000));
    assert_eq!(placed.entry(), UserAddr::new(0x5555_0001_1400));
}

#[test]
fn finds_phdr_address() {
    let mut elf = fixed();
    // The beginning of the file twice in memory.
    elf.headers.insert(1, Header::load(R, 0, 0x41_0000, 0x400, 0x400));
    elf.headers[2].address = 0x42_0800;
    elf.headers[3].address = 0x42_0800;
    elf.headers.push(Header { kind: PHDR, ..Header::load(R, 64, 0x41_0040, 6 * 56, 6 * 56) });
    let file = elf.build();
    let placed = Program::parse(&file).unwrap().place(BASE, &LIMITS).unwrap();
    assert_eq!(placed.headers(), Some(UserAddr::new(0x41_0040)));
}

#[test]
fn headers_outside_memory() {
    let mut elf = fixed();
    elf.headers[0] = Header::load(RX, 0x1000, 0x40_0000, 0x800, 0x800);
    let file = elf.build();
    let placed = Program::parse(&file).unwrap().place(BASE, &LIMITS).unwrap();
    assert_eq!(placed.headers(), None);
}

#[test]
fn landing_pads() {
    let note = |feature: u32| {
        let mut note = Vec::new();
        note.extend([4_u32, 16, 5].iter().flat_map(|word| word.to_le_bytes()));
        note.extend(b"GNU\0");
        note.extend([0xc000_0000_u32, 4, feature, 0].iter().flat_map(|word| word.to_le_bytes()));
        note
    };
    for (feature, bti) in [(3, true), (1, true), (2, false), (0, false)] {
        let mut elf = fixed();
        elf.headers.push(Header { kind: GNU_PROPERTY, ..Header::load(R, 0x1000, 0x40_1000, 32, 32) });
        elf.put.push((0x1000, note(feature)));
        assert_eq!(Program::parse(&elf.build()).unwrap().has_bti(), bti, "{feature}");
    }
}

#[test]
fn reports_executable_stacks() {
    let mut elf = fixed();
    elf.headers[3] = Header { kind: GNU_STACK, ..Header::load(7, 0, 0, 0, 0) };
    let file = elf.build();
    let stack = Program::parse(&file).unwrap().stack();
    assert!(stack.executable);
    assert_eq!(stack.size, None);
}

#[test]
fn rejects_other_than_static_aarch64() {
    let sentence = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = fixed().build();
        change(&mut file);
        Program::parse(&file).expect_err("refused").to_string()
    };
    assert_eq!(sentence(&|file| file.clear()), "is not an ELF file");
    assert_eq!(sentence(&|file| file[0] = b'#'), "is not an ELF file");
    assert_eq!(sentence(&|file| file[4] = 1), "is a 32-bit program: compile it for 64-bit AArch64");
    assert_eq!(
        sentence(&|file| file[5] = 2),
        "is a big-endian program: compile it for little-endian AArch64"
    );
    assert_eq!(sentence(&|file| file[6] = 9), "has a version of ELF that is not 1");
    assert_eq!(sentence(&|file| file[18] = 62), "is for x86-64: compile it for AArch64");
    assert_eq!(sentence(&|file| file[18] = 8), "is for processor 8 of ELF's list: compile it for AArch64");
    assert_eq!(sentence(&|file| file[16] = 1), "is an object file: link it with -static");
    assert_eq!(sentence(&|file| file[16] = 4), "is a core dump, not a program");
    assert_eq!(
        sentence(&|file| file.truncate(63)),
        "is cut short: its headers end at byte 0x40, the file at 0x3f"
    );
    assert_eq!(
        sentence(&|file| file.truncate(99)),
        "is cut short: its headers end at byte 0x120, the file at 0x63"
    );
    assert_eq!(sentence(&|file| file[54] = 32), "has 4 program headers of 32 bytes: there can be 128 of 56");
    assert_eq!(
        sentence(&|file| file[56] = 200),
        "has 200 program headers of 56 bytes: there can be 128 of 56"
    );
    assert_eq!(sentence(&|file| file[56] = 0), "has no segments to load");
    assert_eq!(
        sentence(&|file| file.truncate(0x1a00)),
        "has a bad program header 1: its bytes are not all in the file"
    );
}

#[test]
fn rejects_dynamically_linked() {
    let mut elf = fixed();
    elf.headers.insert(0, Header { kind: INTERP, ..Header::load(R, 0x1000, 0x40_1000, 8, 8) });
    assert_eq!(refusal(&elf).to_string(), "is dynamically linked: link it with -static");

    let mut library = pie();
    library.headers.push(Header { kind: DYNAMIC, ..Header::load(RW, 0x1800, 0x2800, 32, 32) });
    let mut dynamic = vec![0; 32];
    library.put.push((0x1800, dynamic.clone()));
    assert!(Program::parse(&library.build()).is_ok());
    // DT_NEEDED.
    dynamic[0] = 1;
    library.put.push((0x1800, dynamic));
    assert_eq!(refusal(&library), ElfError::DynamicallyLinked);
}

#[test]
fn entry_points() {
    for entry in [0, 0x40_0402, 0x40_1800, 0x40_2900, 0x3f_fffc, u64::MAX - 3] {
        let elf = Elf { entry, ..fixed() };
        assert_eq!(refusal(&elf), ElfError::Entry(UserAddr::new(entry)));
    }
    // Address 0 is code of a library, but its entry point is none.
    assert!(matches!(refusal(&Elf { entry: 0, ..pie() }), ElfError::Entry(_)));
}

#[test]
fn rejects_malformed_segments() {
    use SegmentProblem as P;
    assert_eq!(problem(|elf| elf.headers[0].flags = 7), P::WritableCode);
    assert_eq!(problem(|elf| elf.headers[1].in_file = 0x2001), P::OutsideFile);
    assert_eq!(problem(|elf| elf.headers[1].offset = u64::MAX - 0x7ff), P::OutsideFile);
    assert_eq!(problem(|elf| elf.headers[1].in_memory = 0x2ff), P::Sizes);
    assert_eq!(problem(|elf| elf.headers[1].in_memory = 0), P::Sizes);
    assert_eq!(problem(|elf| elf.headers[1].address = 0xffff_ffff_ffff_f800), P::Overflow);
    assert_eq!(problem(|elf| elf.headers[1].in_memory = u64::MAX - 0x40_2800), P::Overflow);
    assert_eq!(problem(|elf| elf.headers[1].alignment = 0x3000), P::Alignment);
    assert_eq!(problem(|elf| elf.headers[1].address += 8), P::Congruence);
    assert_eq!(problem(|elf| elf.headers[1].address = 0x40_1800), P::Overlap);
    assert_eq!(problem(|elf| elf.headers[1].address = 0x3f_0800), P::Overlap);
    assert_eq!(problem(|elf| elf.headers[2].address = 0x41_0000), P::Tls);
    assert_eq!(problem(|elf| elf.headers[2].in_memory = 1), P::Sizes);
    assert_eq!(problem(|elf| elf.headers[2].address = u64::MAX), P::Overflow);
    assert_eq!(problem(|elf| elf.headers[2].alignment = 3), P::Alignment);
}

#[test]
fn thread_local_variables_that_are_all_zero() {
    let mut elf = fixed();
    elf.headers[2] = Header { kind: TLS, ..Header::load(R, 0, 0x77_0000, 0, 0x20) };
    let file = elf.build();
    let placed = Program::parse(&file).unwrap().place(BASE, &LIMITS).unwrap();
    assert_eq!(placed.tls().map(|tls| tls.size), Some(0x20));
}

#[test]
fn limits() {
    let file = fixed().build();
    let program = Program::parse(&file).unwrap();
    let place = |start, end, memory| {
        program.place(BASE, &Limits { addresses: range(start, end), memory }).map(|_| ())
    };
    let here = range(0x40_0000, 0x40_5000);
    assert_eq!(place(0x40_0000, 0x40_5000, 0x5000), Ok(()));
    let outside = |allowed| Err(ElfError::Outside { program: here, allowed });
    assert_eq!(place(0x40_1000, 1 << 40, 0x5000), outside(range(0x40_1000, 1 << 40)));
    assert_eq!(place(0x1000, 0x40_4000, 0x5000), outside(range(0x1000, 0x40_4000)));
    assert_eq!(place(0x1000, 1 << 40, 0x4000), Err(ElfError::Memory { needed: 0x5000, allowed: 0x4000 }));
    assert_eq!(
        place(0x1000, 1 << 40, 0x4000).unwrap_err().to_string(),
        "needs 20 KiB of memory: 16 KiB are left"
    );

    let file = pie().build();
    let program = Program::parse(&file).unwrap();
    for base in [LIMITS.addresses.end.get() - 0x1000, u64::MAX - 0xffff, u64::MAX, 0] {
        let refused = program.place(UserAddr::new(base), &LIMITS);
        assert!(matches!(refused, Err(ElfError::Outside { .. })), "{base:#x}");
    }
}
