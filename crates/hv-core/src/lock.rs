//! Locks: `spin`'s, taken out of line, because they are taken in fifty places.

use lock_api::{GuardSend, RawMutex};
use spin::mutex::SpinMutex;

/// A lock without what it protects.
pub(crate) struct Raw(SpinMutex<()>);

// SAFETY: `spin`'s implementation of the same trait.
unsafe impl RawMutex for Raw {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait's")]
    const INIT: Self = Self(SpinMutex::new(()));
    type GuardMarker = GuardSend;

    #[inline(never)]
    fn lock(&self) {
        RawMutex::lock(&self.0);
    }

    #[inline(never)]
    fn try_lock(&self) -> bool {
        RawMutex::try_lock(&self.0)
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { RawMutex::unlock(&self.0) }
    }
}

/// A lock, and what it protects.
pub(crate) type Lock<T> = lock_api::Mutex<Raw, T>;
/// While it lives, the lock is held.
pub(crate) type Guard<'a, T> = lock_api::MutexGuard<'a, Raw, T>;
