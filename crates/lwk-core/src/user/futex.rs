//! Waiting on a word of memory (futex(2)), within a process.
//!
//! A waiter is in its bucket's list before it looks at the word. Whoever changes the word wakes afterwards,
//! and so finds it there: no wake-up is lost, and no lock is held while the program's memory is read.

use super::{
    copy,
    errno::{Errno, Result},
    thread::{self, UserThread},
};
use crate::sync::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fallible::{Arc, TryVec as _};

const BUCKETS: usize = 64;

/// `FUTEX_BITSET_MATCH_ANY`.
pub const ANY: u32 = u32::MAX;

#[derive(Debug)]
struct Waiter {
    address: u64,
    bits: u32,
    thread: Arc<UserThread>,
}

/// A process's waiters, by address.
#[derive(Debug)]
pub struct Futexes {
    buckets: [IrqMutex<Vec<Waiter>>; BUCKETS],
}

/// State of a thread's futex wait.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The address that it is in the list for; a requeue changes it, with both buckets locked.
    address: AtomicU64,
    woken: AtomicBool,
}

const fn bucket(address: u64) -> usize {
    (address >> 2 ^ address >> 8) as usize % BUCKETS
}

impl Futexes {
    /// Returns a table without waiters.
    pub const fn new() -> Self {
        Self { buckets: [const { IrqMutex::new(Vec::new()) }; BUCKETS] }
    }

    /// Waits until woken, if the word is what is expected; at most until the counter reaches the deadline.
    #[unsafe(link_section = ".text.hot")]
    pub fn wait(
        &self,
        thread: &UserThread,
        address: u64,
        expected: u32,
        bits: u32,
        deadline: Option<u64>,
    ) -> Result<()> {
        if bits == 0 || !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let waiting = &thread.waiting;
        waiting.woken.store(false, Ordering::Relaxed);
        waiting.address.store(address, Ordering::Relaxed);
        let waiter = Waiter { address, bits, thread: thread.shared() };
        // Without memory for it, the caller looks at the word again: C libraries end a program at other
        // errors.
        self.buckets[bucket(address)].lock().try_push(waiter).map_err(|_| Errno::EAGAIN)?;
        let outcome = match copy::load_u32(address) {
            Ok(word) if word == expected => loop {
                if waiting.woken.load(Ordering::Acquire) {
                    return Ok(());
                }
                if thread.is_interrupted() {
                    break Err(Errno::RESTART);
                }
                if !thread::park(deadline) {
                    break Err(Errno::ETIMEDOUT);
                }
            },
            Ok(_) => Err(Errno::EAGAIN),
            Err(error) => Err(error),
        };
        // A wake-up that was meant for this thread is not for nothing.
        if self.leave(thread) { outcome } else { Ok(()) }
    }

    /// Takes a waiter out of its list. Whether it was still there.
    #[unsafe(link_section = ".text.hot")]
    fn leave(&self, thread: &UserThread) -> bool {
        loop {
            let address = thread.waiting.address.load(Ordering::Relaxed);
            let mut waiters = self.buckets[bucket(address)].lock();
            if let Some(at) =
                waiters.iter().position(|waiter| core::ptr::eq(&raw const *waiter.thread, thread))
            {
                let waiter = waiters.remove(at);
                drop(waiters);
                drop(waiter);
                return true;
            }
            if thread.waiting.woken.load(Ordering::Acquire) {
                return false;
            }
            // It has been requeued meanwhile: look there.
        }
    }

    /// Wakes up to `most` waiters that share a bit; returns how many.
    #[unsafe(link_section = ".text.hot")]
    pub fn wake(&self, address: u64, most: u32, bits: u32) -> u64 {
        let mut count = 0;
        while count < u64::from(most) {
            let woken = {
                let mut waiters = self.buckets[bucket(address)].lock();
                let at =
                    waiters.iter().position(|waiter| waiter.address == address && waiter.bits & bits != 0);
                let Some(at) = at else { break };
                // Most lists have one waiter: nothing has to move up.
                let last = at + 1 == waiters.len();
                let waiter = if last { waiters.pop() } else { Some(waiters.remove(at)) };
                let Some(waiter) = waiter else { break };
                waiter.thread.waiting.woken.store(true, Ordering::Release);
                waiter
            };
            woken.thread.wake();
            count += 1;
        }
        count
    }

    /// Wakes up to `wake` waiters, and lets up to `move_most` others wait on another word; returns how many
    /// of both.
    pub fn requeue(&self, from: u64, to: u64, wake: u32, move_most: u32) -> u64 {
        let mut count = self.wake(from, wake, ANY);
        if from == to {
            return count;
        }
        let (first, second) = (bucket(from).min(bucket(to)), bucket(from).max(bucket(to)));
        let mut lower = self.buckets[first].lock();
        let mut upper = (first != second).then(|| self.buckets[second].lock());
        let has_room = upper.as_mut().is_none_or(|upper| {
            let (source, target) =
                if bucket(from) == first { (&mut lower, upper) } else { (upper, &mut lower) };
            let moved = source.iter().filter(|waiter| waiter.address == from).count();
            target.try_reserve(moved.min(move_most as usize)).is_ok()
        });
        if !has_room {
            // Whoever waits for a futex may be woken without a reason; left where it is, it might wait for
            // ever.
            drop(upper);
            drop(lower);
            return count + self.wake(from, move_most, ANY);
        }
        for _ in 0..move_most {
            let source =
                if bucket(from) == first { &mut lower } else { upper.as_mut().unwrap_or(&mut lower) };
            let Some(at) = source.iter().position(|waiter| waiter.address == from) else { break };
            let mut waiter = source.remove(at);
            waiter.address = to;
            waiter.thread.waiting.address.store(to, Ordering::Relaxed);
            let target = if bucket(to) == first { &mut lower } else { upper.as_mut().unwrap_or(&mut lower) };
            // There is room.
            let _ = target.try_push(waiter);
            count += 1;
        }
        count
    }
}
