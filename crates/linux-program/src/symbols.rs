//! Names of functions, for messages about crashed programs.

use crate::address::UserAddr;
use crate::program::file_header;
use core::cmp::Reverse;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::section::{SectionHeader, SectionHeaderTable};
use elf::string_table::StringTable;
use elf::symbol::{Symbol, SymbolTable};

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
    sections: SectionHeaderTable<'a, LittleEndian>,
    table: SymbolTable<'a, LittleEndian>,
    names: StringTable<'a>,
    bias: u64,
}

impl<'a> Symbols<'a> {
    /// The table of this file, if it has one that makes sense, for a program that is `bias` from where it was linked.
    pub fn new(file: &'a [u8], bias: u64) -> Option<Self> {
        let header = file_header(file).ok()?;
        if usize::from(header.e_shentsize) != SECTION_HEADER {
            return None;
        }
        let length = usize::from(header.e_shnum) * SECTION_HEADER;
        let sections = part(file, header.e_shoff, length as u64)?;
        let sections = SectionHeaderTable::new(LittleEndian, Class::ELF64, sections);
        let symtab = sections.iter().find(|section| section.sh_type == abi::SHT_SYMTAB)?;
        let names = sections.get(symtab.sh_link as usize).ok()?;
        if names.sh_type != abi::SHT_STRTAB {
            return None;
        }
        let bytes = |section: &SectionHeader| part(file, section.sh_offset, section.sh_size);
        Some(Self {
            sections,
            table: SymbolTable::new(LittleEndian, Class::ELF64, bytes(&symtab)?),
            names: StringTable::new(bytes(&names)?),
            bias,
        })
    }

    /// The function that has the instruction at `address`. Reads the whole table.
    pub fn find(&self, address: UserAddr) -> Option<Place<'a>> {
        let linked = address.get().wrapping_sub(self.bias);
        let candidates = self.table.iter().filter_map(|symbol| {
            let offset = linked.checked_sub(symbol.st_value)?;
            if !self.may_contain(&symbol, linked, offset) {
                return None;
            }
            let name = self.names.get(symbol.st_name as usize).ok()?;
            // `$x` and `$d` tell disassemblers code from data.
            (!name.is_empty() && !name.starts_with('$')).then_some((symbol, name, offset))
        });
        // Of several names, the nearest, a function's rather than a label's, and the one for people: `write`, not
        // `__libc_write`.
        let (.., function, offset) = candidates.max_by_key(|(symbol, name, offset)| {
            let underscores = name.len() - name.trim_start_matches('_').len();
            (Reverse(*offset), symbol.st_size != 0, Reverse(underscores), Reverse(name.len()))
        })?;
        Some(Place { function, offset })
    }

    fn may_contain(&self, symbol: &Symbol, linked: u64, offset: u64) -> bool {
        match symbol.st_symtype() {
            abi::STT_FUNC | abi::STT_GNU_IFUNC | abi::STT_NOTYPE => {}
            _ => return false,
        }
        // Functions in assembly often have no size: they end somewhere in their section.
        if symbol.st_size != 0 {
            return offset < symbol.st_size;
        }
        let Ok(section) = self.sections.get(usize::from(symbol.st_shndx)) else { return false };
        !symbol.is_undefined()
            && section.sh_flags & u64::from(abi::SHF_EXECINSTR) != 0
            && linked.checked_sub(section.sh_addr).is_some_and(|at| at < section.sh_size)
    }
}

const SECTION_HEADER: usize = 64;

fn part(file: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}
