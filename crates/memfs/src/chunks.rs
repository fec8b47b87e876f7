//! The contents of a file in pieces of one size, so that a file that grows is not copied.
#![expect(
    clippy::disallowed_methods,
    reason = "there is room; `tests/allocation.rs` has each allocation fail"
)]

use crate::{FsError, Result};
use alloc::vec::Vec;

/// Size of each chunk but the last, which may be smaller.
pub const CHUNK: usize = 64 << 10;
/// Smallest allocation of a chunk.
const SMALLEST: usize = 64;

/// Contents of a file, in chunks.
#[derive(Debug, Default)]
pub struct Chunks {
    /// All are full but the last; none is empty.
    chunks: Vec<Vec<u8>>,
}

/// Allocation of a chunk that holds `len` bytes.
fn capacity_for(len: usize) -> usize {
    len.next_power_of_two().clamp(SMALLEST, CHUNK)
}

impl Chunks {
    /// Returns empty contents.
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// A copy of these bytes.
    ///
    /// # Errors
    /// [`FsError::NoSpace`].
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        let mut chunks = Self::new();
        chunks.resize(bytes.len() as u64)?;
        chunks.write(0, bytes);
        Ok(chunks)
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * CHUNK + last.len()) as u64)
    }

    /// Memory that the contents take.
    pub fn allocated(&self) -> u64 {
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * CHUNK + last.capacity()) as u64)
    }

    /// Cuts the contents, or adds zeros. Nothing has changed if there is no memory.
    ///
    /// # Errors
    /// [`FsError::NoSpace`].
    pub fn resize(&mut self, size: u64) -> Result<()> {
        let old = self.len();
        if size <= old {
            self.truncate(size);
            return Ok(());
        }
        let grown = self.grow(size);
        if grown.is_err() {
            self.truncate(old);
        }
        grown
    }

    fn truncate(&mut self, size: u64) {
        let size = size as usize;
        self.chunks.truncate(size.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut()
            && !size.is_multiple_of(CHUNK)
        {
            last.truncate(size % CHUNK);
        }
    }

    fn grow(&mut self, size: u64) -> Result<()> {
        let mut len = self.len();
        while len < size {
            if len.is_multiple_of(CHUNK as u64) {
                let mut chunk = Vec::new();
                let first = (size - len).min(CHUNK as u64) as usize;
                chunk.try_reserve_exact(capacity_for(first)).map_err(|_| FsError::NoSpace)?;
                self.chunks.try_reserve(1).map_err(|_| FsError::NoSpace)?;
                chunk.resize(first, 0);
                self.chunks.push(chunk);
                len += first as u64;
            } else {
                let last = self.chunks.last_mut().ok_or(FsError::NoSpace)?;
                let end = (last.len() as u64 + size - len).min(CHUNK as u64) as usize;
                if end > last.capacity() {
                    let more = capacity_for(end) - last.len();
                    last.try_reserve_exact(more).map_err(|_| FsError::NoSpace)?;
                }
                len += (end - last.len()) as u64;
                last.resize(end, 0);
            }
        }
        Ok(())
    }

    /// The bytes from an offset on that lie together; none at the end.
    pub fn piece(&self, offset: u64) -> &[u8] {
        let Ok(offset) = usize::try_from(offset) else { return &[] };
        self.chunks.get(offset / CHUNK).and_then(|chunk| chunk.get(offset % CHUNK..)).unwrap_or_default()
    }

    /// Overwrites bytes, which must be within the contents.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        let (mut offset, mut rest) = (offset as usize, from);
        while !rest.is_empty() {
            let to = &mut self.chunks[offset / CHUNK][offset % CHUNK..];
            let count = to.len().min(rest.len());
            to[..count].copy_from_slice(&rest[..count]);
            (offset, rest) = (offset + count, &rest[count..]);
        }
    }
}
