//! cpio archives: `newc`, with or without checksums, and the old binary form.
//!
//! The formats are those of cpio(5): a header, the name with a terminating zero, the data; each padded to 4
//! bytes (`newc`) or 2 bytes (old binary). The last entry is named `TRAILER!!!`.

use crate::printable::write_printable;
use core::fmt;
use plain_numbers::Dec;

/// Longest name of a file, in bytes.
const NAME_MAX: usize = 255;
/// Most files in a bundle: a kernel, ramdisk and tree for each of 64 VMs, and some.
const FILES_MAX: usize = 256;
const TRAILER: &str = "TRAILER!!!";
const NEWC_MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
const NEWC_HEADER: usize = 110;
const NEWC_ALIGN: usize = 4;
const OLD_MAGIC: u16 = 0o070_707;
const OLD_HEADER: usize = 26;
const OLD_ALIGN: usize = 2;

/// Why an archive is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveError<'a> {
    /// Where the entry begins, in bytes from the start of the archive.
    pub at: usize,
    /// The entry's name, if it was readable.
    pub name: Option<&'a str>,
    /// What is wrong with it.
    pub problem: ArchiveProblem,
}

/// Problem in an entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveProblem {
    /// It begins with no known magic.
    Magic,
    /// Its header does not fit into the archive.
    HeaderCut,
    /// Its name does not fit into the archive.
    NameCut,
    /// Its data does not fit into the archive.
    DataCut,
    /// A field of its header is not a number.
    Number,
    /// Its name is empty, longer than 255 bytes, not UTF-8, or not terminated.
    Name,
    /// An earlier entry has its name.
    Duplicate,
    /// The archive ends where it should begin: there is no trailer.
    NoTrailer,
    /// It is the 257th.
    TooMany,
    /// Something other than zeroes follows the trailer.
    AfterTrailer,
}

impl fmt::Display for ArchiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => {
                write_printable(f, name)?;
                write!(f, " (at byte {}): ", Dec(self.at as u64))?;
            }
            None => write!(f, "at byte {}: ", Dec(self.at as u64))?,
        }
        f.write_str(match self.problem {
            ArchiveProblem::Magic => "no entry of a cpio archive begins here",
            ArchiveProblem::HeaderCut => "the archive ends within the header",
            ArchiveProblem::NameCut => "the archive ends within the name",
            ArchiveProblem::DataCut => "the archive ends within the file's data",
            ArchiveProblem::Number => "the header holds something that is not a number",
            ArchiveProblem::Name => "the name is empty, longer than 255 bytes, not text or not terminated",
            ArchiveProblem::Duplicate => "the archive holds another file of this name",
            ArchiveProblem::NoTrailer => "the archive ends without a trailer",
            ArchiveProblem::TooMany => "the archive holds more than 256 files",
            ArchiveProblem::AfterTrailer => {
                "the archive's trailer is followed by something other than zeroes"
            }
        })
    }
}

impl core::error::Error for ArchiveError<'_> {}

/// A file of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name, without a leading `./`.
    pub name: &'a str,
    /// Its content.
    pub data: &'a [u8],
}

/// An archive that has been checked as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
}

/// An entry, and where the next one begins.
type Step<'a> = (Entry<'a>, usize);
type Result<'a, T> = core::result::Result<T, ArchiveError<'a>>;

/// What the header of an entry says, and where the parts begin.
struct Header {
    at: usize,
    name_at: usize,
    name_size: usize,
    file_size: usize,
    align: usize,
}

impl<'a> Archive<'a> {
    /// Checks an archive from its first byte to its last.
    ///
    /// # Errors
    /// The first entry that is wrong, and how; see [`ArchiveProblem`].
    pub fn new(bytes: &'a [u8]) -> Result<'a, Self> {
        let archive = Self { bytes };
        let mut at = 0;
        for count in 0..=FILES_MAX {
            let (entry, next) = archive.entry(at)?;
            let error = |problem| Err(ArchiveError { at, name: Some(entry.name), problem });
            if entry.name == TRAILER {
                let rest = bytes.get(next..).unwrap_or_default();
                return if rest.iter().all(|byte| *byte == 0) {
                    Ok(archive)
                } else {
                    error(ArchiveProblem::AfterTrailer)
                };
            }
            if count == FILES_MAX {
                return error(ArchiveProblem::TooMany);
            }
            if archive.entries().take(count).any(|earlier| earlier.name == entry.name) {
                return error(ArchiveProblem::Duplicate);
            }
            at = next;
        }
        Err(ArchiveError { at, name: None, problem: ArchiveProblem::TooMany })
    }

    /// The files, in the archive's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let archive = *self;
        let mut at = 0;
        core::iter::from_fn(move || {
            let (entry, next) = archive.entry(at).ok()?;
            at = next;
            (entry.name != TRAILER).then_some(entry)
        })
    }

    /// The content of file `name`.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.entries().find(|entry| entry.name == name).map(|entry| entry.data)
    }

    fn entry(&self, at: usize) -> Result<'a, Step<'a>> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        let header = if NEWC_MAGIC.iter().any(|magic| rest.starts_with(magic)) {
            newc(at, rest)
        } else if rest.starts_with(&OLD_MAGIC.to_le_bytes()) {
            old_binary(at, rest)
        } else if rest.is_empty() {
            Err(ArchiveProblem::NoTrailer)
        } else {
            Err(ArchiveProblem::Magic)
        };
        self.body(&header.map_err(|problem| ArchiveError { at, name: None, problem })?)
    }

    fn body(&self, header: &Header) -> Result<'a, Step<'a>> {
        let at = header.at;
        let unnamed = |problem| ArchiveError { at, name: None, problem };
        if header.name_size == 0 || header.name_size > NAME_MAX + 1 {
            return Err(unnamed(ArchiveProblem::Name));
        }
        let name = self.part(header.name_at, header.name_size).ok_or(unnamed(ArchiveProblem::NameCut))?;
        let name = name.strip_suffix(b"\0").and_then(|name| core::str::from_utf8(name).ok());
        let name = name.map(|name| name.strip_prefix("./").unwrap_or(name));
        let name = name
            .filter(|name| !name.is_empty() && !name.as_bytes().contains(&0))
            .ok_or(unnamed(ArchiveProblem::Name))?;
        // Padding is counted from the archive's start.
        let data_at = (header.name_at + header.name_size).next_multiple_of(header.align);
        let data = self.part(data_at, header.file_size).ok_or(ArchiveError {
            at,
            name: Some(name),
            problem: ArchiveProblem::DataCut,
        })?;
        Ok((Entry { name, data }, (data_at + header.file_size).next_multiple_of(header.align)))
    }

    fn part(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at.checked_add(len)?)
    }
}

/// `newc`: after the magic 13 fields of 8 hexadecimal digits; the 7th is the file's size, the 12th the
/// name's.
fn newc(at: usize, rest: &[u8]) -> core::result::Result<Header, ArchiveProblem> {
    let header = rest.get(..NEWC_HEADER).ok_or(ArchiveProblem::HeaderCut)?;
    let (fields, _) = header[6..].as_chunks::<8>();
    let mut numbers = [0; 13];
    for (number, digits) in numbers.iter_mut().zip(fields) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or(ArchiveProblem::Number)?;
            *number = *number << 4 | value as usize;
        }
    }
    Ok(Header {
        at,
        name_at: at + NEWC_HEADER,
        name_size: numbers[11],
        file_size: numbers[6],
        align: NEWC_ALIGN,
    })
}

/// The old binary form: 13 little-endian half words; the 11th is the name's size, the last two the file's,
/// high first.
fn old_binary(at: usize, rest: &[u8]) -> core::result::Result<Header, ArchiveProblem> {
    let header = rest.get(..OLD_HEADER).ok_or(ArchiveProblem::HeaderCut)?;
    let word = |n: usize| usize::from(u16::from_le_bytes([header[2 * n], header[2 * n + 1]]));
    Ok(Header {
        at,
        name_at: at + OLD_HEADER,
        name_size: word(10),
        file_size: word(11) << 16 | word(12),
        align: OLD_ALIGN,
    })
}
