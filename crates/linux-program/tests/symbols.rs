//! Functions around addresses.

mod common;

use common::{Symbol, fixed, pie};
use linux_program::{Place, Program, Symbols, UserAddr};
use proptest::prelude::*;

const FUNCTION: u8 = 2;
const GLOBAL_FUNCTION: u8 = 0x12;

fn symbol(name: &'static str, info: u8, value: u64, size: u64) -> Symbol {
    Symbol { name, info, section: 1, value, size }
}

fn table() -> Vec<Symbol> {
    vec![
        symbol("$x", 0, 0x40_0400, 0),
        symbol("_start", GLOBAL_FUNCTION, 0x40_0400, 0),
        symbol("__libc_write", GLOBAL_FUNCTION, 0x40_0500, 0x40),
        symbol("write", 0x22, 0x40_0500, 0x40),
        symbol("__write", GLOBAL_FUNCTION, 0x40_0500, 0x40),
        symbol("main", FUNCTION, 0x40_0600, 0x100),
        symbol("inner", FUNCTION, 0x40_0640, 0x20),
        symbol("table", 1, 0x40_0680, 0x20),
        symbol("label", 0, 0x40_1000, 0),
        Symbol { section: 0, ..symbol("elsewhere", GLOBAL_FUNCTION, 0x40_0300, 0) },
        Symbol { section: 0xfff1, ..symbol("constant", 0, 0x40_1100, 0) },
        symbol("", FUNCTION, 0x40_0600, 0x100),
    ]
}

fn find(symbols: &Symbols<'_>, address: u64) -> Option<(String, u64)> {
    let Place { function, offset } = symbols.find(UserAddr::new(address))?;
    Some((function.into(), offset))
}

#[test]
fn finds_the_function() {
    let mut elf = fixed();
    elf.symbols = table();
    let file = elf.build();
    let symbols = Symbols::new(&file, 0).unwrap();
    let at = |address| find(&symbols, address);
    let place = |function: &str, offset| Some((function.into(), offset));
    assert_eq!(at(0x40_0400), place("_start", 0));
    assert_eq!(at(0x40_0410), place("_start", 0x10));
    assert_eq!(at(0x40_053c), place("write", 0x3c));
    // A function ends where its size says.
    assert_eq!(at(0x40_053f), place("write", 0x3f));
    assert_eq!(at(0x40_0540), place("_start", 0x140));
    assert_eq!(at(0x40_0604), place("main", 4));
    assert_eq!(at(0x40_0644), place("inner", 4));
    assert_eq!(at(0x40_0684), place("main", 0x84));
    assert_eq!(at(0x40_1104), place("label", 0x104));
    // Before all functions, and behind the section.
    assert_eq!(at(0x40_0304), None);
    assert_eq!(at(0x40_1800), None);
    assert_eq!(at(0), None);
    assert_eq!(at(u64::MAX), None);
}

#[test]
fn finds_it_where_the_program_was_put() {
    let mut elf = pie();
    elf.symbols = vec![symbol("main", FUNCTION, 0x600, 0x100)];
    let file = elf.build();
    let placed =
        Program::parse(&file).unwrap().place(UserAddr::new(0x5555_0000_0000), &common::LIMITS).unwrap();
    let symbols = placed.symbols().unwrap();
    assert_eq!(find(&symbols, 0x5555_0000_0610), Some(("main".into(), 0x10)));
    assert_eq!(find(&symbols, 0x610), None);
}

#[test]
fn stripped_program_has_no_symbols() {
    let file = fixed().build();
    assert!(Symbols::new(&file, 0).is_none());
    assert!(Symbols::new(b"no program", 0).is_none());
}

/// The names are in the section that the symbol table links to, if that is one of strings.
#[test]
fn ignores_symbol_table_without_names() {
    const LINK: usize = 40;
    let mut elf = fixed();
    elf.symbols = table();
    let mut file = elf.build();
    let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let sections = long(0x28);
    let symtab = (sections..file.len()).step_by(64).find(|at| file[at + 4] == 2).unwrap();
    assert!(Symbols::new(&file, 0).is_some());
    file[symtab + LINK] = 1;
    assert!(Symbols::new(&file, 0).is_none());
}

proptest! {
    #[test]
    fn damaged_symbol_tables_cause_no_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        address in 0x40_0000_u64..0x40_2000,
        bias in any::<u64>(),
    ) {
        let mut elf = fixed();
        elf.symbols = table();
        let mut file = elf.build();
        // The file's header and everything behind the program's own bytes.
        let start = elf.length - 64;
        let length = file.len() - start;
        for (index, byte) in changes {
            let at = index.index(length);
            file[if at < 64 { at } else { start + at }] = byte;
        }
        if let Some(symbols) = Symbols::new(&file, bias) {
            let _ = symbols.find(UserAddr::new(address.wrapping_add(bias)));
        }
    }
}
