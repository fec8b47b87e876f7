//! From a linked ELF file to a flat arm64 `Image`.
//!
//! The linked program starts with the 64-byte header of Linux's `Documentation/arch/arm64/booting.rst`;
//! flattening lays the loadable segments out by physical address and checks what a boot loader will rely on.

mod symbols;

use anyhow::{Context, Result, bail, ensure};
use elf::{ElfBytes, abi, endian::LittleEndian, section::SectionHeader};

type Elf<'a> = ElfBytes<'a, LittleEndian>;

/// Nothing Margay builds is near this; a wild segment address is caught before memory runs out.
const LARGEST: u64 = 256 << 20;
const MAGIC: &[u8] = b"ARM\x64";

/// A flat image.
#[derive(Debug)]
pub struct Image {
    /// The bytes to load.
    pub bytes: Vec<u8>,
    /// How many symbols its table has, if it has room for one.
    pub symbols: Option<usize>,
}

/// Flattens `elf`, fills its symbol table, and checks the header, unless it is to have none.
pub fn from_elf(file: &[u8], header: bool) -> Result<Image> {
    let elf = Elf::minimal_parse(file).context("it is not an ELF file")?;
    ensure!(elf.ehdr.e_machine == abi::EM_AARCH64, "it is not for 64-bit ARM");
    let layout = Layout::of(&elf)?;
    let mut bytes = layout.flatten(file)?;
    let symbols = match section(&elf, ".symbols")? {
        Some(table) => Some(fill_symbols(&elf, &layout, &table, &mut bytes)?),
        None => None,
    };
    if header {
        check_header(&bytes)?;
    }
    Ok(Image { bytes, symbols })
}

/// The bytes of code and constants in an ELF file: its sections .text and .rodata.
pub fn text_and_rodata(file: &[u8]) -> Result<u64> {
    let elf = Elf::minimal_parse(file).context("it is not an ELF file")?;
    let size =
        |name| section(&elf, name)?.map(|header| header.sh_size).with_context(|| format!("it has no {name}"));
    Ok(size(".text")? + size(".rodata")?)
}

/// One loadable segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    physical: u64,
    virt: u64,
    offset: u64,
    size: u64,
}

/// Where the loadable bytes go.
struct Layout {
    segments: Vec<Segment>,
    /// Lowest physical address: the image's first byte.
    start: u64,
    /// Lowest virtual address: what symbol offsets count from.
    base: u64,
    length: usize,
}

impl Layout {
    fn of(elf: &Elf) -> Result<Self> {
        let headers = elf.segments().context("it has no program headers")?;
        let mut segments: Vec<Segment> = headers
            .iter()
            .filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz > 0)
            .map(|h| Segment { physical: h.p_paddr, virt: h.p_vaddr, offset: h.p_offset, size: h.p_filesz })
            .collect();
        segments.sort_by_key(|segment| segment.physical);
        let start = segments.first().context("it has no loadable segment")?.physical;
        let base = segments.iter().map(|segment| segment.virt).min().unwrap_or_default();
        let mut end = start;
        for segment in &segments {
            if segment.size == 0 {
                continue;
            }
            ensure!(segment.physical >= end, "two of its segments overlap at {:#x}", segment.physical);
            end = segment.physical.checked_add(segment.size).context("a segment wraps around")?;
        }
        let length = end - start;
        ensure!(length <= LARGEST, "its segments are spread over {length:#x} bytes");
        Ok(Self { segments, start, base, length: length as usize })
    }

    fn flatten(&self, file: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        for segment in self.segments.iter().filter(|segment| segment.size > 0) {
            let from = segment.offset as usize;
            let content = from.checked_add(segment.size as usize).and_then(|end| file.get(from..end));
            let at = (segment.physical - self.start) as usize;
            let content = content.context("it is cut short: a segment lies behind its end")?;
            bytes[at..at + content.len()].copy_from_slice(content);
        }
        Ok(bytes)
    }

    /// Where `size` bytes at virtual address `address` are in the image.
    fn place(&self, address: u64, size: u64) -> Option<std::ops::Range<usize>> {
        let segment = self.segments.iter().find(|segment| {
            address.checked_sub(segment.virt).is_some_and(|into| into.saturating_add(size) <= segment.size)
        })?;
        let start = (segment.physical - self.start + (address - segment.virt)) as usize;
        Some(start..start + size as usize)
    }
}

fn section(elf: &Elf, name: &str) -> Result<Option<SectionHeader>> {
    elf.section_header_by_name(name).context("its section headers are damaged")
}

fn fill_symbols(elf: &Elf, layout: &Layout, table: &SectionHeader, bytes: &mut [u8]) -> Result<usize> {
    let place = layout
        .place(table.sh_addr, table.sh_size)
        .context("its section .symbols is in no loadable segment's file content")?;
    let (entries, names) = elf
        .symbol_table()
        .context("its symbol table is damaged")?
        .context("it has no symbol table (stripped?)")?;
    let mut functions = Vec::new();
    for symbol in entries.iter().filter(|s| s.st_symtype() == abi::STT_FUNC && s.st_shndx != 0) {
        let name = names.get(symbol.st_name as usize).context("a symbol has no name")?;
        if let Some(Ok(offset)) = symbol.st_value.checked_sub(layout.base).map(u32::try_from) {
            functions.push((offset, name));
        }
    }
    let content = symbols::table(&functions, place.len())?;
    let room = &mut bytes[place];
    room.fill(0);
    room[..content.bytes.len()].copy_from_slice(&content.bytes);
    Ok(content.count)
}

/// What a boot loader reads: the magic, and how much memory the running image needs.
fn check_header(bytes: &[u8]) -> Result<()> {
    ensure!(bytes.get(56..60) == Some(MAGIC), "it does not start with an arm64 Image header");
    let size: [u8; 8] = bytes[16..24].try_into().context("its header is short")?;
    let size = u64::from_le_bytes(size);
    if bytes.len() as u64 > size {
        bail!("its header says image_size {size:#x}, but it has {:#x} bytes", bytes.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[56..60].copy_from_slice(MAGIC);
        bytes
    }

    /// A minimal ELF file: one segment per `(virtual, physical, content)`, no sections.
    fn elf(segments: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half = |file: &mut Vec<u8>, v: u16| file.extend(v.to_le_bytes());
        half(&mut file, 2);
        half(&mut file, abi::EM_AARCH64);
        file.extend(1u32.to_le_bytes());
        file.extend(0u64.to_le_bytes()); // entry
        file.extend(64u64.to_le_bytes()); // program headers
        file.extend(0u64.to_le_bytes()); // section headers
        file.extend(0u32.to_le_bytes());
        for value in [64, 56, segments.len() as u16, 64, 0, 0] {
            half(&mut file, value);
        }
        let mut offset = 64 + 56 * segments.len() as u64;
        for (virt, physical, content) in segments {
            file.extend(abi::PT_LOAD.to_le_bytes());
            file.extend(5u32.to_le_bytes());
            let size = content.len() as u64;
            for value in [offset, *virt, *physical, size, size, 0x1000] {
                file.extend(value.to_le_bytes());
            }
            offset += size;
        }
        for (_, _, content) in segments {
            file.extend(*content);
        }
        file
    }

    #[test]
    fn segments_are_laid_out_by_physical_address() {
        let first = header(0x1000);
        let image =
            from_elf(&elf(&[(0xffff_0080, 0x80, b"second"), (0xffff_0000, 0, &first)]), true).unwrap();
        assert_eq!(image.bytes.len(), 0x86);
        assert_eq!(&image.bytes[56..60], MAGIC);
        assert_eq!(&image.bytes[64..0x80], &[0; 64]);
        assert_eq!(&image.bytes[0x80..], b"second");
    }

    #[test]
    fn rejects_images_a_boot_loader_cannot_load() {
        let sentence =
            |segments: &[(u64, u64, &[u8])]| from_elf(&elf(segments), true).unwrap_err().to_string();
        assert!(sentence(&[(0, 0, &[0; 64])]).contains("Image header"));
        assert!(sentence(&[(0, 0, &header(63))]).contains("image_size 0x3f"));
        assert!(sentence(&[(0, 0, &header(99)), (32, 32, b"x")]).contains("overlap"));
        assert!(sentence(&[(0, 0, &header(99)), (1 << 40, 1 << 40, b"x")]).contains("spread"));
        assert!(sentence(&[]).contains("no loadable segment"));
        assert!(from_elf(b"MZ", true).is_err());
    }

    #[test]
    fn damaged_files_cause_errors() {
        let whole = elf(&[(0, 0, &header(0x1000)), (0x80, 0x80, b"tail")]);
        for length in 0..whole.len() {
            let _ = from_elf(&whole[..length], true);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = from_elf(&damaged, true);
        }
    }
}
