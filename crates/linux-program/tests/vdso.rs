//! The vDSO's image, as C libraries look at it, and its instructions.

mod common;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::gnu_symver::{SymbolVersionTable, VerDefIterator, VersionIndexTable};
use elf::hash::{SysVHashTable, sysv_hash};
use elf::string_table::StringTable;
use elf::symbol::SymbolTable;
use elf::{ElfBytes, dynamic::DynamicTable};
use linux_program::UserAddr;
use linux_program::vdso::{CONTENTS, Clock, IMAGE, signal_return};
use std::process::Command;

const NAMES: [&str; 4] =
    ["__kernel_rt_sigreturn", "__kernel_gettimeofday", "__kernel_clock_gettime", "__kernel_clock_getres"];

/// Looks a function up by name and version through nothing but the dynamic section, as glibc does.
fn look_up(name: &str, version: &str) -> Option<(usize, usize)> {
    let image = &IMAGE.0[..];
    let elf = ElfBytes::<LittleEndian>::minimal_parse(image).unwrap();
    let segments = elf.segments().unwrap();
    let load = segments.iter().find(|header| header.p_type == abi::PT_LOAD).unwrap();
    assert_eq!((load.p_vaddr, load.p_offset, load.p_flags), (0, 0, abi::PF_R | abi::PF_X));
    let dynamic = segments.iter().find(|header| header.p_type == abi::PT_DYNAMIC).unwrap();
    let dynamic = &image[dynamic.p_offset as usize..][..dynamic.p_filesz as usize];
    let dynamic = DynamicTable::new(LittleEndian, Class::ELF64, dynamic);
    assert_eq!(dynamic.get(dynamic.len() - 1).unwrap().d_tag, abi::DT_NULL);
    let value = |tag| dynamic.iter().find(|entry| entry.d_tag == tag).unwrap().d_val() as usize;

    let hash = SysVHashTable::new(LittleEndian, Class::ELF64, &image[value(abi::DT_HASH)..]).unwrap();
    let symbols =
        SymbolTable::new(LittleEndian, Class::ELF64, &image[value(abi::DT_SYMTAB)..value(abi::DT_HASH)]);
    let names = StringTable::new(&image[value(abi::DT_STRTAB)..][..value(abi::DT_STRSZ)]);
    assert_eq!(names.get(value(abi::DT_SONAME)).unwrap(), "linux-vdso.so.1");
    assert_eq!(value(abi::DT_SYMENT), 24);

    let versions = VersionIndexTable::new(LittleEndian, Class::ELF64, &image[value(abi::DT_VERSYM)..]);
    let definitions = VerDefIterator::new(
        LittleEndian,
        Class::ELF64,
        value(abi::DT_VERDEFNUM) as u64,
        0,
        &image[value(abi::DT_VERDEF)..value(abi::DT_VERSYM)],
    );
    let versions = SymbolVersionTable::new(versions, None, Some((definitions, names)));

    let (index, symbol) = hash.find(name.as_bytes(), &symbols, &names).unwrap()?;
    assert_eq!((symbol.st_symtype(), symbol.st_bind()), (abi::STT_FUNC, abi::STB_GLOBAL));
    assert!(!symbol.is_undefined());
    let mut definition = versions.get_definition(index).unwrap()?;
    assert_eq!((definition.flags, definition.hash), (0, sysv_hash(version.as_bytes())));
    (definition.names.next().unwrap().unwrap() == version)
        .then_some((symbol.st_value as usize, symbol.st_size as usize))
}

fn instruction(at: usize) -> u32 {
    u32::from_le_bytes(*IMAGE.0[at..].first_chunk().unwrap())
}

#[test]
fn functions_are_found_with_their_version() {
    assert_eq!(sysv_hash(b"LINUX_2.6.39"), 0x075f_cb89, "what glibc has");
    for name in NAMES {
        let (at, size) = look_up(name, "LINUX_2.6.39").unwrap_or_else(|| panic!("{name}"));
        // SVC or RET.
        assert!([0xd400_0001, 0xd65f_03c0].contains(&instruction(at + size - 4)), "{name}");
        if name != "__kernel_rt_sigreturn" {
            assert_eq!(instruction(at), 0xd503_245f, "{name}: BTI c");
        }
    }
    assert_eq!(look_up("__kernel_getcpu", "LINUX_2.6.39"), None);
}

#[test]
fn signals_return_as_unwinders_expect() {
    let (at, _) = look_up("__kernel_rt_sigreturn", "LINUX_2.6.39").unwrap();
    assert_eq!((instruction(at), instruction(at + 4)), (0xd280_1168, 0xd400_0001));
    assert_eq!(signal_return(UserAddr::new(0x7000)), Some(UserAddr::new(0x7000 + at as u64)));
    assert_eq!(signal_return(UserAddr::new(u64::MAX)), None);
}

#[test]
fn the_image_is_a_page_that_can_be_mapped() {
    assert_eq!(&raw const IMAGE as usize % 4096, 0);
    assert_eq!(size_of_val(&IMAGE), 4096);
    let (contents, rest) = IMAGE.0.split_at(CONTENTS.len());
    assert!(contents == CONTENTS && rest.iter().all(|byte| *byte == 0));
}

#[test]
fn the_clock_is_where_the_code_reads_it() {
    let clock = Clock { counter_base: 1, multiplier: 2, shift: 3, realtime_offset: 4, readable: 5 };
    let words: Vec<_> =
        clock.encode().chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [1, 2, 3, 4, 5]);
    assert_eq!(clock.encode()[Clock::REALTIME_OFFSET_AT], 4);
    // `adr x10, clock` in each function that reads it: a page before the image.
    let clocks: Vec<_> = (0x400..0xffc)
        .step_by(4)
        .filter(|at| instruction(*at) & 0x9f00_001f == 0x1000_000a)
        .map(|at| {
            let word = instruction(at);
            let immediate = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
            at as i64 + i64::from((immediate << 11) as i32 >> 11)
        })
        .collect();
    assert_eq!(clocks, [-4096, -4096]);
}

#[test]
fn the_instructions_are_those_of_the_source() {
    if !common::has("aarch64-linux-gnu-as") || !common::has("aarch64-linux-gnu-objcopy") {
        return;
    }
    let directory = common::directory("vdso");
    let (object, binary) = (directory.join("vdso.o"), directory.join("vdso.bin"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/vdso/vdso.S");
    common::run(Command::new("aarch64-linux-gnu-as").args(["-march=armv8.5-a", source, "-o"]).arg(&object));
    common::run(
        Command::new("aarch64-linux-gnu-objcopy")
            .args(["-O", "binary", "-j", ".text"])
            .args([&object, &binary]),
    );
    let assembled = std::fs::read(&binary).unwrap();
    let (code, rest) = IMAGE.0[0x400..].split_at(assembled.len());
    assert!(code == assembled, "code.rs is not what vdso.S assembles to");
    assert!(rest.iter().all(|byte| *byte == 0));

    let symbols = common::run(Command::new("aarch64-linux-gnu-nm").arg(&object));
    for name in NAMES {
        let line = symbols.lines().find(|line| line.ends_with(name)).unwrap();
        let at = usize::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        assert_eq!(look_up(name, "LINUX_2.6.39").unwrap().0, 0x400 + at, "{name}");
    }
}
