//! Kernel stacks with a guard page below.

use super::{STACKS, physical, regions::PAGE, tables};
use crate::sync::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Where the next stack goes that has never been one.
static NEXT: AtomicUsize = AtomicUsize::new(STACKS);
/// Stacks of tasks that have ended, for new ones.
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
    /// # Panics
    /// If memory is exhausted.
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(PAGE as usize);
        {
            let mut unused = UNUSED.lock();
            if let Some(index) = unused.iter().position(|&(_, s)| s == size) {
                let (bottom, size) = unused.swap_remove(index);
                return Self { bottom, size };
            }
        }
        let phys = physical::take(size as u64).expect("no memory for a stack");
        let bottom = NEXT.fetch_add(size + PAGE as usize, Ordering::Relaxed) + PAGE as usize;
        tables::map_stack(bottom..bottom + size, phys).expect("a stack cannot be mapped");
        Self { bottom, size }
    }

    /// The address after its last byte.
    pub const fn top(&self) -> usize {
        self.bottom + self.size
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        UNUSED.lock().push((self.bottom, self.size));
    }
}
