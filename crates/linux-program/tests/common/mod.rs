//! ELF files made for tests, and tools that may be installed.
#![allow(dead_code, missing_docs)]

use linux_program::{Limits, UserAddr, UserRange};
use std::path::PathBuf;
use std::process::Command;

pub const LIMITS: Limits = Limits {
    addresses: UserRange { start: UserAddr::new(0x1_0000), end: UserAddr::new(1 << 47) },
    memory: 1 << 30,
};

pub const LOAD: u32 = 1;
pub const DYNAMIC: u32 = 2;
pub const INTERP: u32 = 3;
pub const PHDR: u32 = 6;
pub const TLS: u32 = 7;
pub const GNU_STACK: u32 = 0x6474_e551;
pub const GNU_PROPERTY: u32 = 0x6474_e553;
pub const R: u32 = 4;
pub const RW: u32 = 6;
pub const RX: u32 = 5;

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
    pub alignment: u64,
}

impl Header {
    pub fn load(flags: u32, offset: u64, address: u64, in_file: u64, in_memory: u64) -> Self {
        Self { kind: LOAD, flags, offset, address, in_file, in_memory, alignment: 0x1000 }
    }
}

#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: &'static str,
    pub info: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

/// An ELF file to be.
#[derive(Clone, Debug)]
pub struct Elf {
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    pub headers: Vec<Header>,
    /// Bytes of the file behind its headers; what is at offset n is n mod 251, unless set by `put`.
    pub length: usize,
    pub put: Vec<(usize, Vec<u8>)>,
    /// Section 1 is code from 0x400000, 0x1800 bytes long; 2 and 3 are the symbols and their names.
    pub symbols: Vec<Symbol>,
}

/// Code with headers, data with bss.
pub fn fixed() -> Elf {
    Elf {
        kind: 2,
        machine: 183,
        entry: 0x40_0400,
        headers: vec![
            Header::load(RX, 0, 0x40_0000, 0x1800, 0x1800),
            Header::load(RW, 0x1800, 0x40_2800, 0x300, 0x2000),
            Header { kind: TLS, ..Header::load(R, 0x1800, 0x40_2800, 0x10, 0x48) },
            Header { kind: GNU_STACK, ..Header::load(RW, 0, 0, 0, 0x10_0000) },
        ],
        length: 0x2000,
        put: vec![],
        symbols: vec![],
    }
}

/// The same, to go anywhere.
pub fn pie() -> Elf {
    let mut elf = fixed();
    elf.kind = 3;
    elf.entry -= 0x40_0000;
    for header in &mut elf.headers {
        header.address = header.address.saturating_sub(0x40_0000);
        header.alignment = 0x1_0000;
    }
    elf
}

impl Elf {
    pub fn build(&self) -> Vec<u8> {
        let mut file: Vec<u8> = (0..self.length).map(|at| (at % 251) as u8).collect();
        for (at, bytes) in &self.put {
            file[*at..][..bytes.len()].copy_from_slice(bytes);
        }
        let sections_at = self.add_symbols(&mut file);
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        head.extend(self.kind.to_le_bytes());
        head.extend(self.machine.to_le_bytes());
        head.extend(1_u32.to_le_bytes());
        head.extend([self.entry, 64, sections_at as u64].iter().flat_map(|long| long.to_le_bytes()));
        head.extend(0_u32.to_le_bytes());
        let sections = if sections_at == 0 { 0 } else { 4 };
        let halves = [64, 56, self.headers.len() as u16, 64, sections, 0];
        head.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        for header in &self.headers {
            head.extend(header.kind.to_le_bytes());
            head.extend(header.flags.to_le_bytes());
            let Header { offset, address, in_file, in_memory, alignment, .. } = *header;
            for long in [offset, address, address, in_file, in_memory, alignment] {
                head.extend(long.to_le_bytes());
            }
        }
        assert!(head.len() <= file.len());
        file[..head.len()].copy_from_slice(&head);
        file
    }

    fn add_symbols(&self, file: &mut Vec<u8>) -> usize {
        if self.symbols.is_empty() {
            return 0;
        }
        let (mut table, mut names) = (vec![0; 24], vec![0]);
        for symbol in &self.symbols {
            table.extend((names.len() as u32).to_le_bytes());
            names.extend(symbol.name.bytes().chain([0]));
            table.extend([symbol.info, 0]);
            table.extend(symbol.section.to_le_bytes());
            table.extend(symbol.value.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
        }
        let table_at = file.len() as u64;
        let names_at = table_at + table.len() as u64;
        let mut sections = vec![0; 64];
        let mut section = |kind: u32, flags: u64, address: u64, offset: u64, size: u64, link: u32| {
            sections.extend(0_u32.to_le_bytes());
            sections.extend(kind.to_le_bytes());
            sections.extend([flags, address, offset, size].iter().flat_map(|long| long.to_le_bytes()));
            sections.extend(link.to_le_bytes());
            sections.extend([0; 20]);
        };
        section(1, 6, 0x40_0000, 0, 0x1800, 0);
        section(2, 0, 0, table_at, table.len() as u64, 3);
        section(3, 0, 0, names_at, names.len() as u64, 0);
        file.extend(table);
        file.extend(names);
        let at = file.len();
        file.extend(sections);
        at
    }
}

/// Whether a tool can be used; says so if not.
pub fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// A directory for files of one test.
pub fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("a directory for tests");
    path
}
