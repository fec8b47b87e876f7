//! Allocations that fail because a test wants it: of the heap, and of physical memory.
//!
//! A kernel whose command line has `fail-allocations` lets the first program say which allocation fails,
//! counted from then on, whoever makes it. So a test can make a call again and again, until each allocation
//! that it needs has failed once.

use core::sync::atomic::{AtomicU64, Ordering};

/// Allocations until one fails; 0: none does. The top bit: all from then on.
static LEFT: AtomicU64 = AtomicU64::new(0);
const ALL: u64 = 1 << 63;

/// Returns whether an allocation is to fail.
#[inline]
pub(super) fn fails() -> bool {
    LEFT.load(Ordering::Relaxed) != 0 && counts_down()
}

#[cold]
#[inline(never)]
fn counts_down() -> bool {
    let next = |left: u64| match left & !ALL {
        0 => None,
        1 if left & ALL != 0 => None,
        _ => Some(left - 1),
    };
    match LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(left) => left == 1,
        Err(left) => left & ALL != 0,
    }
}

/// Makes the `n`-th allocation from now on fail, 1 being the next, and with `all` also all behind it; 0:
/// none. Returns how many were left until the failure that was asked for before; 0 if it has happened.
#[cfg(programs)]
pub(crate) fn fail(n: u64, all: bool) -> u64 {
    let left = LEFT.swap(n & !ALL | if all && n != 0 { ALL } else { 0 }, Ordering::Relaxed);
    if left == ALL | 1 { 0 } else { left & !ALL }
}
