//! Copies between files and a program's memory, piece by piece.

use super::{copy, errno::Result};
use alloc::vec::Vec;
use fallible::TryVec as _;

/// What is copied at once between a program and a file.
const CHUNK: usize = 64 << 10;
/// Room for bytes that are overwritten next: zeroes, or `ENOMEM`.
pub fn buffer(size: usize) -> Result<Vec<u8>> {
    Ok(Vec::try_filled(0, size)?)
}

/// Copies the part of a text from `offset` on to the program, at most `size` bytes; how many there were.
pub fn copy_part(bytes: &[u8], offset: u64, to: u64, size: usize) -> Result<u64> {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let count = rest.len().min(size);
    copy::write_bytes(to, &rest[..count])?;
    Ok(count as u64)
}

/// Fills the program's memory with what `make` makes.
pub fn fill(to: u64, size: usize, make: impl Fn(&mut [u8])) -> Result<u64> {
    let mut done = 0;
    let mut piece = [0; 256];
    while done < size {
        let count = piece.len().min(size - done);
        make(&mut piece[..count]);
        copy::write_bytes(to.wrapping_add(done as u64), &piece[..count])?;
        done += count;
    }
    Ok(size as u64)
}

/// Copies from the program piece by piece; how many bytes `take` has had. An error counts if it is the first
/// thing.
pub fn chunks(from: u64, size: usize, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let mut done = 0;
    let mut small = [0; 256];
    let mut large;
    let piece = if size <= small.len() {
        &mut small[..]
    } else {
        large = buffer(size.min(CHUNK))?;
        &mut large[..]
    };
    while done < size {
        let count = piece.len().min(size - done);
        let result = copy::read_bytes(from.wrapping_add(done as u64), &mut piece[..count])
            .and_then(|()| take(&piece[..count]));
        match result {
            Ok(()) => done += count,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done as u64)
}
