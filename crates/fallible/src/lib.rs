//! Allocations that can fail, for code that a system call reaches.
//!
//! `alloc` aborts when memory is exhausted, unless a vector's room is reserved first. Here is the rest: what
//! allocates returns [`OutOfMemory`], and has changed nothing then.
//!
//! ```
//! use fallible::{Arc, Text, TryVec, try_box};
//!
//! let shared = Arc::try_new(5)?;
//! assert_eq!(*shared.clone() + *try_box(1)?, 6);
//! let mut list = Vec::new();
//! list.try_push(1)?;
//! let mut text = Text::new();
//! text.try_format(format_args!("{} of {}", list[0], shared))?;
//! assert_eq!(text.as_bytes(), b"1 of 5");
//! # Ok::<(), fallible::OutOfMemory>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(feature = "testing")]
extern crate std;

mod arc;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod vec;

pub use arc::{Arc, Uncounted};
pub use text::Text;
pub use vec::TryVec;

use alloc::{
    alloc::{Layout, alloc},
    boxed::Box,
};
use core::{fmt, ptr::NonNull};

/// There is not enough memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

impl From<alloc::collections::TryReserveError> for OutOfMemory {
    fn from(_: alloc::collections::TryReserveError) -> Self {
        Self
    }
}

/// Memory for a value, from the global allocator.
#[inline]
fn allocate(layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
    debug_assert!(layout.size() > 0);
    // SAFETY: the callers' layouts are not empty.
    NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)
}

/// `Box::new` that can fail.
///
/// # Errors
/// There is no memory for it; the value is dropped.
pub fn try_box<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    let layout = Layout::new::<T>();
    let place = if layout.size() == 0 { NonNull::<T>::dangling() } else { allocate(layout)?.cast::<T>() };
    // SAFETY: the place is aligned, large enough, and nobody else's; a box of a type without a size has no
    // memory.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place.as_ptr()))
    }
}
