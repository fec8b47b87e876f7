//! Kernel stacks with a guard page below.

use super::{STACKS, physical, regions::PAGE, tables};
use crate::sync::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use fallible::{OutOfMemory, TryVec as _};

/// Where the next stack goes that has never been one.
static NEXT: AtomicUsize = AtomicUsize::new(STACKS);
/// Stacks that have ever been made.
static MADE: AtomicUsize = AtomicUsize::new(0);
/// Stacks of tasks that have ended, for new ones. It has room for all that have been made.
static UNUSED: IrqMutex<Vec<(usize, usize)>> = IrqMutex::new(Vec::new());

/// A stack; another task gets it when this is dropped.
#[derive(Debug)]
pub struct Stack {
    bottom: usize,
    size: usize,
}

impl Stack {
    /// A stack of `size` bytes, rounded up to pages.
    ///
    /// # Errors
    /// Memory is exhausted.
    pub fn new(size: usize) -> Result<Self, OutOfMemory> {
        let size = size.next_multiple_of(PAGE as usize);
        {
            let mut unused = UNUSED.lock();
            if let Some(index) = unused.iter().position(|&(_, s)| s == size) {
                let (bottom, size) = unused.swap_remove(index);
                return Ok(Self { bottom, size });
            }
            // Room for the day when it is not used any more: that cannot fail.
            let wanted = MADE.fetch_add(1, Ordering::Relaxed) + 1;
            let more = wanted.saturating_sub(unused.len());
            if let Err(error) = unused.try_reserve(more) {
                MADE.fetch_sub(1, Ordering::Relaxed);
                return Err(error.into());
            }
        }
        let made = Self::map(size);
        if made.is_err() {
            MADE.fetch_sub(1, Ordering::Relaxed);
        }
        made
    }

    fn map(size: usize) -> Result<Self, OutOfMemory> {
        let phys = physical::take(size as u64).ok_or(OutOfMemory)?;
        let range = phys.0..phys.0 + size as u64;
        let place = || {
            let bottom = NEXT.fetch_add(size + PAGE as usize, Ordering::Relaxed) + PAGE as usize;
            bottom..bottom + size
        };
        let bottom = tables::map_stack(place, phys).inspect_err(|_| physical::give(range))?;
        Ok(Self { bottom, size })
    }

    /// The address after its last byte.
    pub const fn top(&self) -> usize {
        self.bottom + self.size
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // There is room.
        let _ = UNUSED.lock().try_push((self.bottom, self.size));
    }
}
