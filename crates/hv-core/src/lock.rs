//! Locks. [`Lock`] is fair: whoever asks first gets it first (a ticket lock), so that no VM's core can starve another's.
//!
//! A waiter for a fair lock waits for at most one critical section of each other core. [`ControllerLock`] is not fair. It protects the
//! state of one VM's interrupt controller, which that VM's own vCPUs lock at each trapped access; another core takes it only for an
//! interrupt of one of the VM's devices. A ticket lock would hand over to a waiter whose core is not running, if there is a hypervisor or an emulator
//! below with fewer cores: with four vCPUs on two host cores Linux' boot on an emulated BCM2836 took ten times as long.
//!
//! Both are taken out of line, because they are taken in fifty places.

use core::sync::atomic::{AtomicU32, Ordering};
use lock_api::{GuardSend, RawMutex};
use spin::mutex::SpinMutex;

/// A ticket lock without what it protects. Tickets wrap around; there are fewer cores than tickets.
pub(crate) struct Raw {
    /// The ticket that the next to ask is given.
    next: AtomicU32,
    /// The ticket that holds the lock, or may take it.
    serving: AtomicU32,
}

// SAFETY: only the core whose ticket is served holds the lock, and a ticket is given out once. Taking it is an acquire of what the
// `unlock` before it released.
unsafe impl RawMutex for Raw {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait's")]
    const INIT: Self = Self { next: AtomicU32::new(0), serving: AtomicU32::new(0) };
    type GuardMarker = GuardSend;

    #[inline(never)]
    fn lock(&self) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        while self.serving.load(Ordering::Acquire) != ticket {
            core::hint::spin_loop();
        }
    }

    #[inline(never)]
    fn try_lock(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        let next = serving.wrapping_add(1);
        self.next.compare_exchange(serving, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    unsafe fn unlock(&self) {
        // Only the holder writes it.
        let next = self.serving.load(Ordering::Relaxed).wrapping_add(1);
        self.serving.store(next, Ordering::Release);
    }
}

/// A lock that is not fair, without what it protects.
pub(crate) struct Unfair(SpinMutex<()>);

// SAFETY: `spin`'s implementation of the same trait.
unsafe impl RawMutex for Unfair {
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

/// The lock of one VM's interrupt controller, and its state.
pub(crate) type ControllerLock<T> = lock_api::Mutex<Unfair, T>;

/// A lock, and what it protects.
pub(crate) type Lock<T> = lock_api::Mutex<Raw, T>;
/// While it lives, the lock is held.
pub(crate) type Guard<'a, T> = lock_api::MutexGuard<'a, Raw, T>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread, vec::Vec};

    #[test]
    fn serves_waiters_in_the_order_in_which_they_asked() {
        let lock = Arc::new(Lock::new(Vec::new()));
        let guard = lock.lock();
        let mut waiters = Vec::new();
        for n in 0..4_u32 {
            let its = Arc::clone(&lock);
            waiters.push(thread::spawn(move || its.lock().push(n)));
            // SAFETY: the raw lock is only read.
            let raw = unsafe { lock.raw() };
            // The holder has ticket 0; waiter n has asked once tickets 0 to n + 1 are given out.
            while raw.next.load(Ordering::Relaxed) != n + 2 {
                thread::yield_now();
            }
        }
        assert!(lock.try_lock().is_none());
        drop(guard);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(*lock.lock(), [0, 1, 2, 3]);
    }

    #[test]
    fn excludes_others_when_tickets_wrap_around() {
        let raw = Raw { next: AtomicU32::new(u32::MAX), serving: AtomicU32::new(u32::MAX) };
        assert!(raw.try_lock() && !raw.try_lock());
        // SAFETY: held since the line above.
        unsafe { raw.unlock() };
        raw.lock();
        assert!(!raw.try_lock());
    }
}
