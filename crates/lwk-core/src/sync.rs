//! Locks that an interrupt handler may take too.

use crate::arch;
use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

/// A spin lock that masks interrupts on its core while it is held.
pub type IrqMutex<T> = lock_api::Mutex<RawIrqLock, T>;

/// Takes a lock, without a call where it is free: on the path of every switch and wake-up.
#[inline(always)]
pub fn lock_in_place<T>(mutex: &IrqMutex<T>) -> lock_api::MutexGuard<'_, RawIrqLock, T> {
    use lock_api::RawMutex;
    // SAFETY: the lock is taken, and given back by the guard that is made for it.
    unsafe {
        mutex.raw().lock();
        mutex.make_guard_unchecked()
    }
}

/// Releases a lock, but interrupts stay masked. Returns what to restore later.
#[inline(always)]
pub fn release_masked<T>(guard: lock_api::MutexGuard<'_, RawIrqLock, T>) -> u64 {
    let lock = lock_api::MutexGuard::mutex(&guard);
    core::mem::forget(guard);
    // SAFETY: the guard has been forgotten, so the lock is held, and nobody but this releases it.
    let raw = unsafe { lock.raw() };
    let before = raw.before.get();
    raw.locked.store(false, Ordering::Release);
    before
}

/// The lock itself. Locks nest; they are released in the opposite order.
#[derive(Debug)]
pub struct RawIrqLock {
    locked: AtomicBool,
    /// The holder's interrupt mask from before.
    before: Cell<u64>,
}

// SAFETY: `before` is only touched by the holder of the lock.
unsafe impl Sync for RawIrqLock {}

/// After so many looks at a lock its holder is taken for stuck: some seconds on any machine.
const TOO_MANY: u64 = 1 << 30;

impl RawIrqLock {
    /// Waits until the lock may be free.
    #[cold]
    #[inline(never)]
    fn wait(&self) {
        let mut looks = 0;
        while self.locked.load(Ordering::Relaxed) {
            core::hint::spin_loop();
            looks += 1;
            if looks == TOO_MANY {
                crate::watch::lock_is_stuck();
            }
        }
    }
}

// SAFETY: `locked` is taken by compare-and-swap with acquire ordering and given back with release ordering.
unsafe impl lock_api::RawMutex for RawIrqLock {
    const INIT: Self = Self { locked: AtomicBool::new(false), before: Cell::new(0) };

    type GuardMarker = lock_api::GuardNoSend;

    #[inline(always)]
    fn lock(&self) {
        let before = arch::mask_interrupts();
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
        self.before.set(before);
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let before = arch::mask_interrupts();
        let taken = self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.before.set(before);
        } else {
            arch::restore_interrupts(before);
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        let before = self.before.get();
        self.locked.store(false, Ordering::Release);
        arch::restore_interrupts(before);
    }
}
