//! Random bytes for programs: seeds of stack protectors, hash tables, `getrandom`, `/dev/urandom`.
//!
//! From the processor's own generator (`RNDR`, FEAT_RNG) if it has one. Otherwise from the counter, stirred
//! by SplitMix64 (Steele, Lea and Flood, 2014): different at every call, and no secret.

use crate::{arch, time};
use core::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn word() -> u64 {
    if let Some(word) = arch::random() {
        return word;
    }
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mix(state ^ mix(time::stopwatch()))
}

/// Fills a buffer.
pub fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&word().to_le_bytes()[..chunk.len()]);
    }
}
