//! Reading `newc` archives (cpio(5)): a header of 110 characters, a name, the data, each padded to 4 bytes.

use core::fmt;

const MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
const HEADER: usize = 110;
const ALIGN: usize = 4;
/// `PATH_MAX` of Linux.
const LONGEST_NAME: usize = 4096;
const TRAILER: &[u8] = b"TRAILER!!!";

/// An entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As the archive has it.
    pub path: &'a [u8],
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: u32,
    /// Content; of a symbolic link, where it leads.
    pub data: &'a [u8],
}

/// Error in an archive: offset and problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveError {
    /// Bytes from its start.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// Problem in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No entry begins here.
    Magic,
    /// A field is not a number.
    Number,
    /// The archive ends within this entry, or without a trailer.
    Cut,
    /// The name is empty, too long, or not terminated.
    Name,
    /// The path leads through something that is not a directory, or there is something else at its end.
    Path,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Magic => "no entry of a newc archive begins here",
            Problem::Number => "the header holds something that is not a number",
            Problem::Cut => "the archive ends too early",
            Problem::Name => "the name is empty, too long or not terminated",
            Problem::Path => "the path leads through something that is not a directory, or is in use",
        };
        write!(f, "at byte {}: {problem}", self.at)
    }
}

impl core::error::Error for ArchiveError {}

/// The entries of an archive, with the byte each begins at; after an error there are no more.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, Entry<'_>), ArchiveError>> {
    let mut at = Some(0);
    core::iter::from_fn(move || {
        let here = at.take()?;
        match entry(bytes, here) {
            Ok((entry, _)) if entry.path == TRAILER => None,
            Ok((entry, next)) => {
                at = Some(next);
                Some(Ok((here, entry)))
            }
            Err(problem) => Some(Err(ArchiveError { at: here, problem })),
        }
    })
}

fn entry(bytes: &[u8], at: usize) -> Result<(Entry<'_>, usize), Problem> {
    let part = |at: usize, size: usize| bytes.get(at..at.checked_add(size)?).ok_or(Problem::Cut).ok();
    let header = part(at, HEADER).ok_or(Problem::Cut)?;
    if !MAGIC.iter().any(|magic| header.starts_with(magic)) {
        return Err(Problem::Magic);
    }
    let (fields, _) = header[6..].as_chunks::<8>();
    let mut numbers = [0_u32; 13];
    for (number, digits) in numbers.iter_mut().zip(fields) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or(Problem::Number)?;
            *number = *number << 4 | value;
        }
    }
    let [_, mode, _, _, _, modified, size, .., name_size, _] = numbers;
    let (size, name_size) = (size as usize, name_size as usize);
    if name_size > LONGEST_NAME {
        return Err(Problem::Name);
    }
    let name = part(at + HEADER, name_size).ok_or(Problem::Cut)?;
    let path = name.strip_suffix(b"\0").filter(|path| !path.is_empty() && !path.contains(&0));
    let path = path.ok_or(Problem::Name)?;
    let data_at = (at + HEADER + name_size).next_multiple_of(ALIGN);
    let data = part(data_at, size).ok_or(Problem::Cut)?;
    Ok((Entry { path, mode, modified, data }, (data_at + size).next_multiple_of(ALIGN)))
}
