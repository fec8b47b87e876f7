//! A lock that waits without its core: for what takes long, and touches programs' memory.

use super::{Handle, current, park};
use crate::sync::IrqMutex;
use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

/// A mutual exclusion lock of tasks. Interrupts stay as they are.
pub type Mutex<T> = lock_api::Mutex<RawTaskLock, T>;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may wait.
const WANTED: u32 = 2;

/// The lock itself.
pub struct RawTaskLock {
    state: AtomicU32,
    waiting: IrqMutex<Waiting>,
}

/// Who waits for a lock, first come, first served: a list through the tasks, each of which waits for one lock
/// at most. So waiting needs no memory, which may not be there.
struct Waiting {
    first: Option<Handle>,
    last: Option<Handle>,
}

impl Waiting {
    fn push(&mut self, task: Handle) {
        match self.last.replace(task.clone()) {
            Some(last) => *last.behind().lock() = Some(task),
            None => self.first = Some(task),
        }
    }

    fn pop(&mut self) -> Option<Handle> {
        let first = self.first.take()?;
        self.first = first.behind().lock().take();
        if self.first.is_none() {
            self.last = None;
        }
        Some(first)
    }

    fn remove(&mut self, task: &Handle) {
        let mut before: Option<Handle> = None;
        let mut here = self.first.clone();
        while let Some(one) = here {
            let next = one.behind().lock().clone();
            if one == *task {
                *one.behind().lock() = None;
                if next.is_none() {
                    self.last.clone_from(&before);
                }
                match before {
                    Some(before) => *before.behind().lock() = next,
                    None => self.first = next,
                }
                return;
            }
            before = Some(one);
            here = next;
        }
    }
}

impl fmt::Debug for RawTaskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTaskLock({})", self.state.load(Ordering::Relaxed))
    }
}

impl RawTaskLock {
    #[cold]
    fn lock_slow(&self) {
        let me = current();
        loop {
            {
                let mut waiting = self.waiting.lock();
                // A wake-up can have been meant for something else: nobody is in the list twice.
                waiting.remove(&me);
                // Whoever lets go sees WANTED, and then looks into the list, behind the lock that is held
                // here.
                if self.state.swap(WANTED, Ordering::Acquire) == FREE {
                    return;
                }
                waiting.push(me.clone());
            }
            park();
        }
    }
}

// SAFETY: the state is taken by swaps with acquire ordering, from FREE only, and given back with release
// ordering.
unsafe impl lock_api::RawMutex for RawTaskLock {
    const INIT: Self =
        Self { state: AtomicU32::new(FREE), waiting: IrqMutex::new(Waiting { first: None, last: None }) };

    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == WANTED {
            let next = self.waiting.lock().pop();
            if let Some(next) = next {
                next.wake();
            }
        }
    }
}
