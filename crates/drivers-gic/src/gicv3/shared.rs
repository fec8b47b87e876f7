//! Layout that the distributor and the redistributors' SGI frame have in common (GIC spec, 12.9 and 12.11):
//! the registers of interrupt `n` are at the same offsets in both.
use super::registers::gicd::{ICFGR, IPRIORITYR};
use crate::{GicError, Mmio, Trigger};

/// How often a status bit is read before giving up. Far longer than any implementation takes.
const PATIENCE: u32 = 10_000_000;

/// Sets the bit of interrupt `n` in a write-one-to-set or write-one-to-clear register array.
#[inline]
pub(crate) fn write_one<M: Mmio>(block: &M, array: usize, n: u32) {
    block.write32(array + (n / 32) as usize * 4, 1 << (n % 32));
}

/// The bit of interrupt `n` in a register array of one bit per interrupt.
#[inline]
pub(crate) fn read_one<M: Mmio>(block: &M, array: usize, n: u32) -> bool {
    block.read32(array + (n / 32) as usize * 4) >> (n % 32) & 1 != 0
}

/// Sets the priority of interrupt `n`. The register array allows byte access (GIC spec, 12.1.3).
#[inline]
pub(crate) fn set_priority<M: Mmio>(block: &M, n: u32, priority: u8) {
    block.write8(IPRIORITYR + n as usize, priority);
}

/// Sets the trigger of interrupt `n`: the upper of two bits, one for edge (GIC spec, `GICD_ICFGR<n>`).
pub(crate) fn set_trigger<M: Mmio>(block: &M, n: u32, trigger: Trigger) {
    let offset = ICFGR + (n / 16) as usize * 4;
    let bit = 0b10 << (n % 16 * 2);
    let old = block.read32(offset);
    let new = match trigger {
        Trigger::Edge => old | bit,
        Trigger::Level => old & !bit,
    };
    if new != old {
        block.write32(offset, new);
    }
}

/// Waits until the bits `mask` of a register are all zero.
pub(crate) fn wait_clear<M: Mmio>(
    block: &M,
    offset: usize,
    mask: u32,
    name: &'static str,
) -> Result<(), GicError> {
    for _ in 0..PATIENCE {
        if block.read32(offset) & mask == 0 {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(GicError::Timeout(name))
}
