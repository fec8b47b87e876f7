//! Starting cores through a spin table.
//!
//! Firmware leaves the other cores in a loop of `wfe`, each looking at a word of memory of its own, the
//! `cpu-release-addr` of its node in the device tree. When the word is not zero, the core branches there,
//! with its MMU and caches off, at the exception level that the boot core was entered at, and without any
//! argument. The argument that a kernel wants, it gets from a table here: the trampoline finds it by the
//! core's affinity.
//!
//! Source: *Devicetree Specification* v0.4, 3.8.1 "cpu-release-addr"; Linux,
//! `Documentation/arch/arm64/booting.rst`.

#[cfg(any(test, target_os = "none"))]
use core::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of cores of a spin table; machines with more have PSCI.
pub const MAX_CORES: usize = 16;

/// A core that is started, or was: one cache line each.
#[cfg(any(test, target_os = "none"))]
#[repr(C, align(64))]
struct Place {
    mpidr: AtomicU64,
    entry: AtomicU64,
    context: AtomicU64,
}

/// No core has this affinity.
#[cfg(any(test, target_os = "none"))]
const FREE: u64 = u64::MAX;

#[cfg(any(test, target_os = "none"))]
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
static SPIN_TABLE: [Place; MAX_CORES] =
    [const { Place { mpidr: AtomicU64::new(FREE), entry: AtomicU64::new(0), context: AtomicU64::new(0) } };
        MAX_CORES];

/// There is no place left in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyCores;

/// Puts what a core needs into the table; returns its entry.
#[cfg(any(test, target_os = "none"))]
fn note(mpidr: u64, entry: u64, context: u64) -> Result<&'static Place, TooManyCores> {
    for place in &SPIN_TABLE {
        let taken = place.mpidr.compare_exchange(FREE, mpidr, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_ok() || taken == Err(mpidr) {
            place.entry.store(entry, Ordering::Relaxed);
            place.context.store(context, Ordering::Release);
            return Ok(place);
        }
    }
    Err(TooManyCores)
}

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("spin_table.S"));

/// The linked address of the code that a core is released to. It has to know only where it is itself: it runs
/// at its physical address, and so it and the image around it lie in physical memory as they are linked.
#[cfg(target_os = "none")]
pub fn trampoline() -> usize {
    unsafe extern "C" {
        fn spin_table_trampoline();
    }
    spin_table_trampoline as *const () as usize
}

/// Releases the core with affinity `mpidr`: it comes to the physical address `entry`, with `context` in x0.
///
/// `release` is where its `cpu-release-addr` is mapped, and `trampoline` the physical address of
/// [`trampoline`].
///
/// # Errors
/// [`TooManyCores`]: more than [`MAX_CORES`] have been released.
///
/// # Safety
/// `release` is the word that the core looks at, mapped writable, as device or as cacheable memory; the core
/// has not been released before; what is at `entry` is code that can be run with the MMU off, and `context`
/// what it expects.
#[cfg(target_os = "none")]
pub unsafe fn start(
    release: *mut u64,
    trampoline: u64,
    mpidr: u64,
    entry: u64,
    context: u64,
) -> Result<(), TooManyCores> {
    let place = note(mpidr, entry, context)?;
    // SAFETY: the caller vouches for `release`. The entry is one cache line, and the word is in one; cleaning
    // changes no value.
    unsafe {
        core::arch::asm!("dc civac, {}", "dsb sy", in(reg) core::ptr::from_ref(place), options(nostack, preserves_flags));
        release.write_volatile(trampoline);
        core::arch::asm!("dc civac, {}", "dsb sy", "sev", in(reg) release, options(nostack, preserves_flags));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_have_distinct_slots() {
        for core in 0..MAX_CORES as u64 {
            note(core, 0x8000, core * 2).unwrap();
        }
        note(3, 0x9000, 7).unwrap();
        assert_eq!(note(99, 0, 0).err(), Some(TooManyCores));
        let of = |core: u64| SPIN_TABLE.iter().find(|e| e.mpidr.load(Ordering::Relaxed) == core).unwrap();
        assert_eq!(of(3).entry.load(Ordering::Relaxed), 0x9000);
        assert_eq!(of(3).context.load(Ordering::Relaxed), 7);
        assert_eq!(of(15).context.load(Ordering::Relaxed), 30);
        assert_eq!(size_of_val(&SPIN_TABLE[0]), 64);
    }
}
