//! Pointer authentication keys. The hypervisor does not authenticate pointers, so they are some VM's at all times.

use crate::regs::Keys;
use core::arch::asm;

/// Goes through the keys, two registers at a time.
macro_rules! pairs {
    ($with:ident, $keys:expr) => {
        $with!($keys, 0, "s3_0_c2_c1_0", "s3_0_c2_c1_1");
        $with!($keys, 1, "s3_0_c2_c1_2", "s3_0_c2_c1_3");
        $with!($keys, 2, "s3_0_c2_c2_0", "s3_0_c2_c2_1");
        $with!($keys, 3, "s3_0_c2_c2_2", "s3_0_c2_c2_3");
        $with!($keys, 4, "s3_0_c2_c3_0", "s3_0_c2_c3_1");
    };
}

macro_rules! save {
    ($keys:expr, $n:literal, $low:literal, $high:literal) => {
        // SAFETY: the caller has seen that the processor has keys; reading them has no side effect.
        unsafe {
            asm!(concat!("mrs {}, ", $low), concat!("mrs {}, ", $high),
                out(reg) $keys.0[$n][0], out(reg) $keys.0[$n][1], options(nomem, nostack, preserves_flags));
        }
    };
}

macro_rules! load {
    ($keys:expr, $n:literal, $low:literal, $high:literal) => {
        // SAFETY: as above; the hypervisor's own code has no authenticated pointers.
        unsafe {
            asm!(concat!("msr ", $low, ", {}"), concat!("msr ", $high, ", {}"),
                in(reg) $keys.0[$n][0], in(reg) $keys.0[$n][1], options(nomem, nostack, preserves_flags));
        }
    };
}

/// Reads the keys of this core, which has some.
#[inline(never)]
pub(crate) fn save(keys: &mut Keys) {
    pairs!(save, keys);
}

/// Writes the keys of this core, which has some.
#[inline(never)]
pub(crate) fn load(keys: &Keys) {
    pairs!(load, keys);
}
