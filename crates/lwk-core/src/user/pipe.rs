//! A pipe: the bytes in it, and how many ends are open. Whoever reads and writes does the waiting.

use super::{
    copy,
    errno::{Errno, Result},
};
use crate::task::Mutex;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a pipe holds.
pub const CAPACITY: usize = 64 << 10;

/// A pipe. It keeps a `C` as long as it exists.
#[derive(Debug)]
pub struct Pipe<C> {
    bytes: Mutex<VecDeque<u8>>,
    readers: AtomicUsize,
    writers: AtomicUsize,
    _charge: C,
}

impl<C> Pipe<C> {
    /// With one end each.
    pub const fn new(charge: C) -> Self {
        Self {
            bytes: Mutex::new(VecDeque::new()),
            readers: AtomicUsize::new(1),
            writers: AtomicUsize::new(1),
            _charge: charge,
        }
    }

    /// Closes one of the ends to read from.
    pub fn close_reader(&self) {
        self.readers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Closes one of the ends to write to.
    pub fn close_writer(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// What `poll` says of the end to read from.
    pub fn ready_out(&self) -> u16 {
        let hang_up = if self.writers.load(Ordering::Acquire) == 0 { 16 } else { 0 };
        hang_up | u16::from(!self.bytes.lock().is_empty())
    }

    /// What `poll` says of the end to write to.
    pub fn ready_in(&self) -> u16 {
        if self.readers.load(Ordering::Acquire) == 0 {
            return 8;
        }
        if self.bytes.lock().len() < CAPACITY { 4 } else { 0 }
    }

    /// Moves bytes to the program; how many. `None` if there are none yet.
    pub fn read(&self, to: u64, size: usize) -> Result<Option<u64>> {
        let mut bytes = self.bytes.lock();
        let count = bytes.len().min(size);
        if count == 0 {
            let is_end = size == 0 || self.writers.load(Ordering::Acquire) == 0;
            return Ok(is_end.then_some(0));
        }
        let (first, second) = bytes.as_slices();
        let split = first.len().min(count);
        copy::write_bytes(to, &first[..split])?;
        copy::write_bytes(to.wrapping_add(split as u64), &second[..count - split])?;
        bytes.drain(..count);
        Ok(Some(count as u64))
    }

    /// Adds the beginning of a piece, at least `least` bytes; how many. `None` if there is no room yet.
    /// Before memory is allocated, `check` says whether there may be more.
    ///
    /// # Errors
    /// `EPIPE`: nobody can read it. `ENOMEM`.
    pub fn write(&self, piece: &[u8], least: usize, check: fn() -> Result<()>) -> Result<Option<usize>> {
        if self.readers.load(Ordering::Acquire) == 0 {
            return Err(Errno::EPIPE);
        }
        let mut bytes = self.bytes.lock();
        let room = (CAPACITY - bytes.len()).min(piece.len());
        if room < least {
            return Ok(None);
        }
        if bytes.capacity() - bytes.len() < room {
            check()?;
            bytes.try_reserve(room).map_err(|_| Errno::ENOMEM)?;
        }
        #[expect(clippy::disallowed_methods, reason = "there is room")]
        bytes.extend(&piece[..room]);
        Ok(Some(room))
    }
}
