//! The vDSO as a shared object, laid out here rather than by a linker.
//!
//! One page: the ELF header, two program headers, what a library's start-up code looks functions up with
//! (symbols, their names, hash table and versions, the dynamic section that says where all this is), and the
//! code. There are no sections: nothing that loads it looks at them.

use super::code::{CODE, FUNCTIONS};
use crate::address::PAGE;
use elf::abi;

/// `DT_SONAME`: the name under which debuggers and `ldd` know it.
const NAME: &str = "linux-vdso.so.1";
/// The version of AArch64's vDSO functions, which the C libraries ask for.
const VERSION: &str = "LINUX_2.6.39";
const VERSION_INDEX: u16 = 2;

const SYMBOLS: usize = 1 + FUNCTIONS.len();
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PROGRAM_HEADERS: usize = 2;
const SYMBOL: usize = 24;
const DYNAMIC_ENTRY: usize = 16;
const DYNAMIC_ENTRIES: usize = 10;
const BUCKETS: usize = 3;

// Where everything is.
const DYNAMIC: usize = HEADER + PROGRAM_HEADERS * PROGRAM_HEADER;
const SYMTAB: usize = DYNAMIC + DYNAMIC_ENTRIES * DYNAMIC_ENTRY;
const HASH: usize = SYMTAB + SYMBOLS * SYMBOL;
const VERDEF: usize = (HASH + (2 + BUCKETS + SYMBOLS) * 4).next_multiple_of(8);
const VERDEF_ENTRY: usize = 20 + 8;
const VERSYM: usize = VERDEF + 2 * VERDEF_ENTRY;
const STRTAB: usize = VERSYM + SYMBOLS * 2;
const STRTAB_SIZE: usize = names_size();
/// `vdso.S` knows it as well.
pub(super) const CODE_AT: usize = 0x400;
pub(super) const END: usize = CODE_AT + CODE.len() * 4;

const _: () = assert!(STRTAB + STRTAB_SIZE <= CODE_AT && END <= PAGE as usize);

const fn names_size() -> usize {
    let mut size = 1 + NAME.len() + 1 + VERSION.len() + 1;
    let mut function = 0;
    while function < FUNCTIONS.len() {
        size += FUNCTIONS[function].name.len() + 1;
        function += 1;
    }
    size
}

/// Writes one thing after the other.
struct Writer {
    page: [u8; PAGE as usize],
    at: usize,
}

impl Writer {
    const fn bytes(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < bytes.len() {
            self.page[self.at] = bytes[index];
            self.at += 1;
            index += 1;
        }
    }

    const fn half(&mut self, half: u16) {
        self.bytes(&half.to_le_bytes());
    }

    const fn word(&mut self, word: usize) {
        self.bytes(&(word as u32).to_le_bytes());
    }

    const fn long(&mut self, long: usize) {
        self.bytes(&(long as u64).to_le_bytes());
    }

    /// Adds a name to the string table; returns its place there.
    const fn name(&mut self, name: &str) -> usize {
        let place = self.at - STRTAB;
        self.bytes(name.as_bytes());
        self.at += 1;
        place
    }

    const fn program_header(&mut self, kind: u32, flags: u32, start: usize, size: usize, alignment: usize) {
        self.word(kind as usize);
        self.word(flags as usize);
        self.long(start);
        // Virtual, physical.
        self.long(start);
        self.long(start);
        self.long(size);
        self.long(size);
        self.long(alignment);
    }

    const fn dynamic(&mut self, tag: i64, value: usize) {
        self.long(tag as usize);
        self.long(value);
    }

    /// One `Verdef` with its `Verdaux`.
    const fn version(&mut self, index: u16, name: &str, name_at: usize, last: bool) {
        self.half(1);
        self.half(if last { 0 } else { abi::VER_FLG_BASE });
        self.half(index);
        self.half(1);
        self.word(hash(name) as usize);
        self.word(20);
        self.word(if last { 0 } else { VERDEF_ENTRY });
        self.word(name_at);
        self.word(0);
    }
}

/// The hash function of System V's ABI.
const fn hash(name: &str) -> u32 {
    let name = name.as_bytes();
    let mut hash: u32 = 0;
    let mut index = 0;
    while index < name.len() {
        hash = (hash << 4).wrapping_add(name[index] as u32);
        hash = (hash ^ hash >> 24 & 0xf0) & 0x0fff_ffff;
        index += 1;
    }
    hash
}

/// The whole page.
pub(super) const fn build() -> [u8; PAGE as usize] {
    let mut writer = Writer { page: [0; PAGE as usize], at: 0 };
    writer.bytes(&abi::ELFMAGIC);
    writer.bytes(&[abi::ELFCLASS64, abi::ELFDATA2LSB, abi::EV_CURRENT]);
    writer.at = abi::EI_NIDENT;
    writer.half(abi::ET_DYN);
    writer.half(abi::EM_AARCH64);
    writer.word(abi::EV_CURRENT as usize);
    writer.long(0);
    writer.long(HEADER);
    writer.long(0);
    writer.word(0);
    writer.half(HEADER as u16);
    writer.half(PROGRAM_HEADER as u16);
    writer.half(PROGRAM_HEADERS as u16);
    writer.at = HEADER;
    writer.program_header(abi::PT_LOAD, abi::PF_R | abi::PF_X, 0, END, PAGE as usize);
    writer.program_header(abi::PT_DYNAMIC, abi::PF_R, DYNAMIC, DYNAMIC_ENTRIES * DYNAMIC_ENTRY, 8);

    writer.at = STRTAB + 1;
    let name = writer.name(NAME);
    let version = writer.name(VERSION);
    let mut function_names = [0; FUNCTIONS.len()];
    let mut function = 0;
    while function < FUNCTIONS.len() {
        function_names[function] = writer.name(FUNCTIONS[function].name);
        function += 1;
    }

    writer.at = DYNAMIC;
    writer.dynamic(abi::DT_SONAME, name);
    writer.dynamic(abi::DT_HASH, HASH);
    writer.dynamic(abi::DT_SYMTAB, SYMTAB);
    writer.dynamic(abi::DT_SYMENT, SYMBOL);
    writer.dynamic(abi::DT_STRTAB, STRTAB);
    writer.dynamic(abi::DT_STRSZ, STRTAB_SIZE);
    writer.dynamic(abi::DT_VERSYM, VERSYM);
    writer.dynamic(abi::DT_VERDEF, VERDEF);
    writer.dynamic(abi::DT_VERDEFNUM, 2);
    writer.dynamic(abi::DT_NULL, 0);

    // The first symbol is the one that is none.
    writer.at = SYMTAB + SYMBOL;
    function = 0;
    while function < FUNCTIONS.len() {
        writer.word(function_names[function]);
        writer.bytes(&[abi::STB_GLOBAL << 4 | abi::STT_FUNC, abi::STV_DEFAULT]);
        // Libraries want it to be in a section, and do not ask which.
        writer.half(1);
        writer.long(CODE_AT + FUNCTIONS[function].at);
        writer.long(FUNCTIONS[function].size);
        function += 1;
    }

    // A bucket is the first symbol of its hash, a chain the next one.
    let mut buckets = [0; BUCKETS];
    let mut chains = [0; SYMBOLS];
    let mut symbol = 1;
    while symbol < SYMBOLS {
        let bucket = hash(FUNCTIONS[symbol - 1].name) as usize % BUCKETS;
        chains[symbol] = buckets[bucket];
        buckets[bucket] = symbol;
        symbol += 1;
    }
    writer.at = HASH;
    writer.word(BUCKETS);
    writer.word(SYMBOLS);
    let mut entry = 0;
    while entry < BUCKETS + SYMBOLS {
        writer.word(if entry < BUCKETS { buckets[entry] } else { chains[entry - BUCKETS] });
        entry += 1;
    }

    writer.at = VERDEF;
    writer.version(1, NAME, name, false);
    writer.version(VERSION_INDEX, VERSION, version, true);
    writer.at = VERSYM + 2;
    symbol = 1;
    while symbol < SYMBOLS {
        writer.half(VERSION_INDEX);
        symbol += 1;
    }

    writer.at = CODE_AT;
    let mut instruction = 0;
    while instruction < CODE.len() {
        writer.bytes(&CODE[instruction].to_le_bytes());
        instruction += 1;
    }
    writer.page
}
