//! cpio archives: `newc` and the old binary form.
use core::fmt;

/// What is wrong with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError<'a> {
    /// No known magic at this offset.
    Magic(usize),
    /// The archive ends within an entry.
    Truncated(usize),
    /// A header field is not a number.
    Number(usize),
    /// A name is empty, too long or not text.
    Name(usize),
    /// Two entries have this name.
    Duplicate(&'a str),
    /// There is no trailer.
    NoTrailer,
    /// More files than any bundle needs.
    TooMany,
}

impl fmt::Display for ArchiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bundle ")?;
        match self {
            Self::Magic(at) => write!(f, "is not a cpio archive: no entry begins at byte {at}"),
            Self::Truncated(at) => write!(f, "ends within the entry that begins at byte {at}"),
            Self::Number(at) => write!(f, "has an entry at byte {at} whose header is not made of numbers"),
            Self::Name(at) => {
                write!(f, "has an entry at byte {at} whose name is empty, too long, or not text")
            }
            Self::Duplicate(name) => write!(f, "holds two files named {name}"),
            Self::TooMany => write!(f, "holds more than {FILES_MAX} files"),
            Self::NoTrailer => f.write_str("has no trailer: it is cut off after an entry"),
        }
    }
}

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

/// Longest name of a file.
pub const NAME_MAX: usize = 255;
/// Most files in a bundle: a kernel, ramdisk and tree for each of 64 VMs, and some.
pub const FILES_MAX: usize = 256;
const TRAILER: &str = "TRAILER!!!";
const OLD_MAGIC: u16 = 0o070_707;

/// An entry, and where the next one begins.
type Step<'a> = (Entry<'a>, usize);

impl<'a> Archive<'a> {
    /// Checks an archive.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArchiveError<'a>> {
        let archive = Self { bytes };
        let mut at = 0;
        for _ in 0..=FILES_MAX {
            if at >= bytes.len() {
                return Err(ArchiveError::NoTrailer);
            }
            let (entry, next) = archive.entry(at)?;
            if entry.name == TRAILER {
                return Ok(archive);
            }
            if archive
                .entries()
                .take_while(|e| !core::ptr::eq(e.name, entry.name))
                .any(|e| e.name == entry.name)
            {
                return Err(ArchiveError::Duplicate(entry.name));
            }
            at = next;
        }
        Err(ArchiveError::TooMany)
    }

    /// The files, in the archive's order. Ends at whatever is no entry.
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
        self.entries().find(|e| e.name == name).map(|e| e.data)
    }

    fn entry(&self, at: usize) -> Result<Step<'a>, ArchiveError<'a>> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.starts_with(b"070701") || rest.starts_with(b"070702") {
            self.newc(at)
        } else if rest.starts_with(&OLD_MAGIC.to_le_bytes()) {
            self.old_binary(at)
        } else {
            Err(ArchiveError::Magic(at))
        }
    }

    /// `newc`: 14 fields of 8 hexadecimal digits, of which the 7th is the file's size and the 12th that of its name.
    fn newc(&self, at: usize) -> Result<Step<'a>, ArchiveError<'a>> {
        let header = self.slice(at, at, 110)?;
        let field = |n: usize| -> Result<usize, ArchiveError<'a>> {
            let digits = &header[6 + n * 8..14 + n * 8];
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return Err(ArchiveError::Number(at));
            }
            let text = core::str::from_utf8(digits).map_err(|_| ArchiveError::Number(at))?;
            usize::from_str_radix(text, 16).map_err(|_| ArchiveError::Number(at))
        };
        self.finish(at, 110, field(11)?, field(6)?, 4)
    }

    /// The old binary form: 13 little-endian half words; name size is the 11th, file size the last two, high first.
    fn old_binary(&self, at: usize) -> Result<Step<'a>, ArchiveError<'a>> {
        let header = self.slice(at, at, 26)?;
        let word = |n: usize| usize::from(u16::from_le_bytes([header[2 * n], header[2 * n + 1]]));
        self.finish(at, 26, word(10), word(11) << 16 | word(12), 2)
    }

    fn finish(
        &self,
        at: usize,
        header: usize,
        name_size: usize,
        file_size: usize,
        align: usize,
    ) -> Result<Step<'a>, ArchiveError<'a>> {
        if name_size == 0 || name_size > NAME_MAX + 1 {
            return Err(ArchiveError::Name(at));
        }
        let name = self.slice(at, at + header, name_size)?;
        let name = name.strip_suffix(b"\0").ok_or(ArchiveError::Name(at))?;
        let name = core::str::from_utf8(name).map_err(|_| ArchiveError::Name(at))?;
        let name = name.strip_prefix("./").unwrap_or(name);
        if name.is_empty() || name.contains('\0') {
            return Err(ArchiveError::Name(at));
        }
        // Alignment is relative to the archive's start.
        let data_at = (at + header + name_size).next_multiple_of(align);
        let data = self.slice(at, data_at, file_size)?;
        Ok((Entry { name, data }, (data_at + file_size).next_multiple_of(align)))
    }

    fn slice(&self, entry: usize, at: usize, len: usize) -> Result<&'a [u8], ArchiveError<'a>> {
        let end = at.checked_add(len).ok_or(ArchiveError::Truncated(entry))?;
        self.bytes.get(at..end).ok_or(ArchiveError::Truncated(entry))
    }
}
