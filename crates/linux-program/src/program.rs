//! Checked programs, and where each of their segments goes.
//!
//! The file is input from outside. [`Program::parse`] checks all that does not depend on where it is loaded,
//! [`Program::place`] the rest; afterwards nothing about it can fail but a lack of memory.

use crate::address::{PAGE, UserAddr, UserRange};
use crate::error::{ElfError, SegmentProblem};
use crate::property::has_bti;
use crate::symbols::Symbols;
use elf::abi;
use elf::dynamic::DynamicTable;
use elf::endian::LittleEndian;
use elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

/// Bytes of a program header.
pub const HEADER_SIZE: u16 = 56;
/// More program headers than linkers make.
pub const MAX_HEADERS: u16 = 128;

/// Limits of a program: addresses and memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Addresses.
    pub addresses: UserRange,
    /// Bytes of memory, for all its segments.
    pub memory: u64,
}

/// Whether a program has to be where it was linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has (`ET_EXEC`).
    Fixed,
    /// It relocates itself (`ET_DYN`, static PIE).
    PositionIndependent,
}

/// Access rights of a program to pages; never both write and execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Load from them.
    pub read: bool,
    /// Store to them.
    pub write: bool,
    /// Execute them.
    pub execute: bool,
}

/// Stack request of a program (`PT_GNU_STACK`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackRequest {
    /// Bytes, if it says: `-z stack-size`.
    pub size: Option<u64>,
    /// It was linked from something that executes code on its stack.
    pub executable: bool,
}

/// The initial image of thread-local variables, which the program's own library copies for each thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where its initialised bytes are.
    pub image: UserRange,
    /// Bytes of a thread's block.
    pub size: u64,
    /// Its alignment.
    pub alignment: u64,
}

/// Segment of a program, at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its pages. What is not covered by `contents` is zero.
    pub pages: UserRange,
    /// What it is, without the rest of its first and last page.
    pub range: UserRange,
    /// Its initialised bytes, which go to `range.start`.
    pub contents: &'a [u8],
    /// Where `contents` is in the file; at the same place of a page as in memory.
    pub file_offset: u64,
    /// What the program may do with it.
    pub access: Access,
}

/// A checked program.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    file: &'a [u8],
    headers: SegmentTable<'a, LittleEndian>,
    headers_at: u64,
    kind: Kind,
    entry: UserAddr,
    pages: UserRange,
    memory: u64,
    alignment: u64,
    tls: Option<Tls>,
}

impl<'a> Program<'a> {
    /// Checks all of a file that does not depend on where it is loaded.
    ///
    /// # Errors
    /// What is wrong with it; [`ElfError`] prints as one sentence.
    pub fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        let header = file_header(file)?;
        let kind = match header.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::PositionIndependent,
            other => return Err(ElfError::Type(other)),
        };
        let headers = program_headers(file, &header)?;
        let entry = UserAddr::new(header.e_entry);

        let mut program = Self {
            file,
            headers,
            headers_at: header.e_phoff,
            kind,
            entry,
            pages: UserRange { start: UserAddr::default(), end: UserAddr::default() },
            memory: 0,
            alignment: PAGE,
            tls: None,
        };
        program.check_segments()?;
        let in_code = |segment: Segment| segment.access.execute && segment.range.contains(entry);
        // 0 is what linkers write for "none", as in shared libraries.
        if entry.get() == 0 || !entry.get().is_multiple_of(4) || !program.linked_segments().any(in_code) {
            return Err(ElfError::Entry(entry));
        }
        program.tls = program.find_tls()?;
        Ok(program)
    }

    fn check_segments(&mut self) -> Result<(), ElfError> {
        for (index, header) in (0..).zip(self.headers) {
            let bad = |problem| ElfError::Segment { index, problem };
            match header.p_type {
                abi::PT_INTERP => return Err(ElfError::DynamicallyLinked),
                abi::PT_DYNAMIC if needs_libraries(self.file, &header) => {
                    return Err(ElfError::DynamicallyLinked);
                }
                abi::PT_LOAD if header.p_memsz != 0 || header.p_filesz != 0 => {}
                _ => continue,
            }
            let segment = check_segment(self.file, &header).map_err(bad)?;
            // Ascending, as the ELF specification wants it, so that one look at the end before is enough.
            if !self.pages.is_empty() && segment.pages.start < self.pages.end {
                return Err(bad(SegmentProblem::Overlap));
            }
            if self.pages.is_empty() {
                self.pages.start = segment.pages.start;
            }
            self.pages.end = segment.pages.end;
            self.memory += segment.pages.len();
            self.alignment = self.alignment.max(header.p_align);
        }
        if self.pages.is_empty() { Err(ElfError::NoSegments) } else { Ok(()) }
    }

    /// Its segments where it was linked. None is refused any more.
    fn linked_segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let file = self.file;
        let load = |header: &ProgramHeader| header.p_type == abi::PT_LOAD && header.p_memsz != 0;
        self.headers.iter().filter(load).filter_map(move |header| check_segment(file, &header).ok())
    }

    fn find_tls(&self) -> Result<Option<Tls>, ElfError> {
        let of_tls = |header: &(u16, ProgramHeader)| header.1.p_type == abi::PT_TLS;
        let Some((index, header)) = (0..).zip(self.headers).find(of_tls) else { return Ok(None) };
        let bad = |problem| ElfError::Segment { index, problem };
        let start = UserAddr::new(header.p_vaddr);
        let end = start.checked_add(header.p_filesz).ok_or(bad(SegmentProblem::Overflow))?;
        let image = UserRange { start, end };
        if header.p_filesz > header.p_memsz {
            return Err(bad(SegmentProblem::Sizes));
        }
        if !image.is_empty() && !self.linked_segments().any(|segment| segment.range.covers(image)) {
            return Err(bad(SegmentProblem::Tls));
        }
        let alignment = alignment(&header).map_err(bad)?;
        Ok(Some(Tls { image, size: header.p_memsz, alignment }))
    }

    /// Returns whether it has to be where it was linked.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The pages from its first to its last, as it was linked; there can be holes.
    pub const fn pages(&self) -> UserRange {
        self.pages
    }

    /// Bytes of memory that its segments need, in pages.
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns the alignment of the base address; [`Program::place`] applies it.
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Returns the program's stack request.
    pub fn stack(&self) -> StackRequest {
        self.headers.iter().find(|header| header.p_type == abi::PT_GNU_STACK).map_or_else(
            StackRequest::default,
            |header| StackRequest {
                size: Some(header.p_memsz).filter(|size| *size != 0),
                executable: header.p_flags & abi::PF_X != 0,
            },
        )
    }

    /// Returns whether its code has landing pads for all indirect branches, so that its pages can be guarded
    /// (FEAT_BTI).
    pub fn has_bti(&self) -> bool {
        self.headers
            .iter()
            .filter(|header| header.p_type == abi::PT_GNU_PROPERTY)
            .any(|header| bytes(self.file, &header).is_some_and(has_bti))
    }

    /// Puts it at its place: where it was linked, or at the first place from `base` that has its alignment.
    ///
    /// # Errors
    /// [`ElfError::Outside`] or [`ElfError::Memory`].
    pub fn place(&self, base: UserAddr, limits: &Limits) -> Result<Placed<'a>, ElfError> {
        let Limits { addresses: allowed, memory } = *limits;
        let beyond = UserRange { start: base, end: UserAddr::new(u64::MAX) };
        let bias = match self.kind {
            Kind::Fixed => 0,
            Kind::PositionIndependent => {
                let outside = ElfError::Outside { program: beyond, allowed };
                let base = base.align_up(self.alignment).ok_or(outside)?;
                let lowest = self.pages.start.align_down(self.alignment);
                // Its end must not come around to the beginning of all addresses.
                let last = base.checked_add(self.pages.end.get() - lowest.get());
                last.ok_or(outside)?;
                base.get().wrapping_sub(lowest.get())
            }
        };
        let pages = self.pages.shifted(bias);
        if !allowed.covers(pages) {
            return Err(ElfError::Outside { program: pages, allowed });
        }
        if self.memory > memory {
            return Err(ElfError::Memory { needed: self.memory, allowed: memory });
        }
        Ok(Placed { program: *self, bias })
    }
}

/// A program at its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    program: Program<'a>,
    bias: u64,
}

impl<'a> Placed<'a> {
    /// Returns the program.
    pub const fn program(&self) -> &Program<'a> {
        &self.program
    }

    /// Returns the load bias: load address minus link address, modulo 2^64.
    pub const fn bias(&self) -> u64 {
        self.bias
    }

    /// Returns the entry point.
    pub const fn entry(&self) -> UserAddr {
        UserAddr::new(self.program.entry.get().wrapping_add(self.bias))
    }

    /// The pages from its first to its last; there can be holes.
    pub fn pages(&self) -> UserRange {
        self.program.pages.shifted(self.bias)
    }

    /// Returns the first page after the program, where its heap (`brk`) can begin.
    pub fn heap(&self) -> UserAddr {
        self.pages().end
    }

    /// Returns the segments, ascending; no page is in two of them.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let bias = self.bias;
        self.program.linked_segments().map(move |segment| Segment {
            pages: segment.pages.shifted(bias),
            range: segment.range.shifted(bias),
            ..segment
        })
    }

    /// Returns the address of the program headers (`AT_PHDR`), if they are in memory.
    pub fn headers(&self) -> Option<UserAddr> {
        let length = self.header_count() * u64::from(HEADER_SIZE);
        let offset = self.program.headers_at;
        let stated = self.program.headers.iter().find(|header| header.p_type == abi::PT_PHDR);
        self.segments().find_map(|segment| {
            let from = offset.checked_sub(segment.file_offset)?;
            let behind = (segment.contents.len() as u64).checked_sub(from)?;
            let address = segment.range.start.checked_add(from)?;
            // Two segments can map the same part of the file: then PT_PHDR says which of them is meant.
            let other = stated.is_some_and(|stated| stated.p_vaddr.wrapping_add(self.bias) != address.get());
            (behind >= length && !other).then_some(address)
        })
    }

    /// Returns the number of program headers (`AT_PHNUM`).
    pub fn header_count(&self) -> u64 {
        self.program.headers.len() as u64
    }

    /// Returns the template of thread-local variables (`PT_TLS`).
    pub fn tls(&self) -> Option<Tls> {
        self.program.tls.map(|tls| Tls { image: tls.image.shifted(self.bias), ..tls })
    }

    /// The names of its functions, unless it was stripped.
    pub fn symbols(&self) -> Option<Symbols<'a>> {
        Symbols::new(self.program.file, self.bias)
    }
}

pub(crate) fn file_header(file: &[u8]) -> Result<FileHeader<LittleEndian>, ElfError> {
    if !file.starts_with(&abi::ELFMAGIC) {
        return Err(ElfError::NotElf);
    }
    let length = abi::EI_NIDENT + ELF64_EHDR_TAILSIZE;
    let truncated = ElfError::Truncated { needed: length as u64, length: file.len() as u64 };
    let (identity, rest) = file.split_at_checked(abi::EI_NIDENT).ok_or(truncated)?;
    if identity[abi::EI_CLASS] != abi::ELFCLASS64 {
        return Err(ElfError::Class);
    }
    if identity[abi::EI_DATA] != abi::ELFDATA2LSB {
        return Err(ElfError::Endianness);
    }
    let identity = parse_ident(identity).map_err(|_| ElfError::Version)?;
    let rest = rest.get(..ELF64_EHDR_TAILSIZE).ok_or(truncated)?;
    let header = FileHeader::parse_tail(identity, rest).map_err(|_| truncated)?;
    if header.version != u32::from(abi::EV_CURRENT) {
        return Err(ElfError::Version);
    }
    if header.e_machine != abi::EM_AARCH64 {
        return Err(ElfError::Machine(header.e_machine));
    }
    Ok(header)
}

fn program_headers<'a>(
    file: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<SegmentTable<'a, LittleEndian>, ElfError> {
    let (size, count) = (header.e_phentsize, header.e_phnum);
    if count == 0 {
        return Err(ElfError::NoSegments);
    }
    if size != HEADER_SIZE || count > MAX_HEADERS {
        return Err(ElfError::Headers { size, count });
    }
    let needed = header.e_phoff.saturating_add(u64::from(size) * u64::from(count));
    let headers = usize::try_from(needed).ok().and_then(|end| file.get(header.e_phoff as usize..end));
    let headers = headers.ok_or(ElfError::Truncated { needed, length: file.len() as u64 })?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, headers))
}

/// The bytes of the file that a program header is about.
fn bytes<'a>(file: &'a [u8], header: &ProgramHeader) -> Option<&'a [u8]> {
    let start = usize::try_from(header.p_offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(header.p_filesz).ok()?)?)
}

fn needs_libraries(file: &[u8], dynamic: &ProgramHeader) -> bool {
    let entries = bytes(file, dynamic).unwrap_or_default();
    DynamicTable::new(LittleEndian, Class::ELF64, entries).iter().any(|entry| entry.d_tag == abi::DT_NEEDED)
}

fn alignment(header: &ProgramHeader) -> Result<u64, SegmentProblem> {
    // 0 and 1 both mean none.
    let alignment = header.p_align.max(1);
    if alignment.is_power_of_two() { Ok(alignment) } else { Err(SegmentProblem::Alignment) }
}

fn check_segment<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>, SegmentProblem> {
    let contents = bytes(file, header).ok_or(SegmentProblem::OutsideFile)?;
    if header.p_filesz > header.p_memsz {
        return Err(SegmentProblem::Sizes);
    }
    alignment(header)?;
    if header.p_vaddr % PAGE != header.p_offset % PAGE {
        return Err(SegmentProblem::Congruence);
    }
    let start = UserAddr::new(header.p_vaddr);
    let end = start.checked_add(header.p_memsz).ok_or(SegmentProblem::Overflow)?;
    let last_page = end.align_up(PAGE).ok_or(SegmentProblem::Overflow)?;
    let flag = |flag| header.p_flags & flag != 0;
    let access = Access { read: flag(abi::PF_R), write: flag(abi::PF_W), execute: flag(abi::PF_X) };
    if access.write && access.execute {
        return Err(SegmentProblem::WritableCode);
    }
    Ok(Segment {
        pages: UserRange { start: start.align_down(PAGE), end: last_page },
        range: UserRange { start, end },
        contents,
        file_offset: header.p_offset,
        access,
    })
}
