//! Names of functions, for messages about crashed programs.

use crate::address::UserAddr;
use crate::program::file_header;
use core::cmp::Reverse;
use elf::abi;

/// A function around an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its name, as the linker knows it.
    pub function: &'a str,
    /// Bytes from its first instruction.
    pub offset: u64,
}

/// A program's symbol table, `.symtab`.
#[derive(Debug)]
pub struct Symbols<'a> {
    sections: &'a [[u8; SECTION_HEADER]],
    table: &'a [[u8; SYMBOL]],
    names: &'a [u8],
    bias: u64,
}

// The fields are read where they are: a kernel has this in less space than structures of every class and byte
// order.
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;

fn word<const SIZE: usize>(bytes: &[u8; SIZE], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn long<const SIZE: usize>(bytes: &[u8; SIZE], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |long| u64::from_le_bytes(*long))
}

/// `Elf64_Shdr`.
#[derive(Clone, Copy)]
struct Section<'a>(&'a [u8; SECTION_HEADER]);

impl Section<'_> {
    fn kind(self) -> u32 {
        word(self.0, 4)
    }

    fn is_code(self) -> bool {
        long(self.0, 8) & u64::from(abi::SHF_EXECINSTR) != 0
    }

    fn contains(self, address: u64) -> bool {
        address.checked_sub(long(self.0, 16)).is_some_and(|at| at < long(self.0, 32))
    }

    fn link(self) -> u32 {
        word(self.0, 40)
    }

    fn contents(self, file: &[u8]) -> Option<&[u8]> {
        part(file, long(self.0, 24), long(self.0, 32))
    }
}

/// `Elf64_Sym`.
#[derive(Clone, Copy)]
struct Symbol<'a>(&'a [u8; SYMBOL]);

impl Symbol<'_> {
    fn name(self) -> u32 {
        word(self.0, 0)
    }

    fn kind(self) -> u8 {
        self.0[4] & 0xf
    }

    fn section(self) -> u16 {
        (word(self.0, 4) >> 16) as u16
    }

    fn value(self) -> u64 {
        long(self.0, 8)
    }

    fn size(self) -> u64 {
        long(self.0, 16)
    }
}

impl<'a> Symbols<'a> {
    /// The table of this file, if it has one that makes sense, for a program that is `bias` from where it was
    /// linked.
    pub fn new(file: &'a [u8], bias: u64) -> Option<Self> {
        let header = file_header(file).ok()?;
        if usize::from(header.e_shentsize) != SECTION_HEADER {
            return None;
        }
        let length = usize::from(header.e_shnum) * SECTION_HEADER;
        let sections = part(file, header.e_shoff, length as u64)?;
        let (sections, _) = sections.as_chunks();
        let symtab = sections.iter().map(Section).find(|section| section.kind() == abi::SHT_SYMTAB)?;
        let names = sections.get(symtab.link() as usize).map(Section)?;
        if names.kind() != abi::SHT_STRTAB {
            return None;
        }
        let (table, _) = symtab.contents(file)?.as_chunks();
        Some(Self { sections, table, names: names.contents(file)?, bias })
    }

    /// The function that has the instruction at `address`. Reads the whole table.
    pub fn find(&self, address: UserAddr) -> Option<Place<'a>> {
        let linked = address.get().wrapping_sub(self.bias);
        let candidates = self.table.iter().map(Symbol).filter_map(|symbol| {
            let offset = linked.checked_sub(symbol.value())?;
            if !self.may_contain(symbol, linked, offset) {
                return None;
            }
            let name = self.name(symbol.name())?;
            // `$x` and `$d` separate code from data for disassemblers.
            (!name.is_empty() && !name.starts_with('$')).then_some((symbol, name, offset))
        });
        // Of several names, the nearest, a function's rather than a label's, and the one for people: `write`,
        // not `__libc_write`.
        let (.., function, offset) = candidates.max_by_key(|(symbol, name, offset)| {
            let underscores = name.len() - name.trim_start_matches('_').len();
            (Reverse(*offset), symbol.size() != 0, Reverse(underscores), Reverse(name.len()))
        })?;
        Some(Place { function, offset })
    }

    /// The string that begins at an offset, up to its NUL.
    fn name(&self, at: u32) -> Option<&'a str> {
        let rest = self.names.get(at as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        core::str::from_utf8(&rest[..end]).ok()
    }

    fn may_contain(&self, symbol: Symbol<'_>, linked: u64, offset: u64) -> bool {
        match symbol.kind() {
            abi::STT_FUNC | abi::STT_GNU_IFUNC | abi::STT_NOTYPE => {}
            _ => return false,
        }
        // Functions in assembly often have no size: they end somewhere in their section.
        if symbol.size() != 0 {
            return offset < symbol.size();
        }
        let Some(section) = self.sections.get(usize::from(symbol.section())).map(Section) else {
            return false;
        };
        symbol.section() != abi::SHN_UNDEF && section.is_code() && section.contains(linked)
    }
}

fn part(file: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}
