//! Pending signals: a queue for each thread, and one for each process.

use super::signal::{FAULTS, Info, MOST_PENDING, SI_KERNEL, bit};
use alloc::vec::Vec;
use fallible::TryVec as _;

/// Signals from here on are queued, each with its sender's value (the kernel's `SIGRTMIN`).
const REAL_TIME: u32 = 32;

/// Signals that have been sent and not been taken.
#[derive(Debug)]
pub struct Pending {
    queue: Vec<Info>,
    /// A fault of the thread itself, which needs no memory to be kept.
    fault: Option<Info>,
    /// Signals for whose [`Info`] there was no memory: they arrive without it, as on Linux.
    bare: u64,
}

impl Pending {
    /// Returns a state without pending signals.
    pub const fn new() -> Self {
        Self { queue: Vec::new(), fault: None, bare: 0 }
    }

    /// The pending signals as a mask.
    pub fn set(&self) -> u64 {
        self.queue.iter().chain(&self.fault).fold(self.bare, |mask, info| mask | bit(info.number))
    }

    /// Takes a signal of a set: faults before others, then by number; of one number, the first that was sent.
    pub fn take(&mut self, set: u64) -> Option<Info> {
        if let Some(fault) = self.fault.take_if(|fault| bit(fault.number) & set != 0) {
            return Some(fault);
        }
        let mut first: Option<(u32, usize)> = None;
        for (at, info) in self.queue.iter().enumerate().filter(|(_, info)| bit(info.number) & set != 0) {
            let order = if bit(info.number) & FAULTS != 0 { 0 } else { info.number };
            if first.is_none_or(|(before, _)| order < before) {
                first = Some((order, at));
            }
        }
        if let Some((_, at)) = first {
            return Some(self.queue.remove(at));
        }
        let bare = self.bare & set;
        if bare == 0 {
            return None;
        }
        self.bare &= !(bare & bare.wrapping_neg());
        let number = bare.trailing_zeros() + 1;
        Some(Info { number, code: SI_KERNEL, value: 0, more: 0, syndrome: 0 })
    }

    /// Adds a signal, unless it is pending already; a real-time signal is queued each time. Returns false if
    /// it was not queued for lack of room: a real-time signal is lost then, any other one arrives without its
    /// [`Info`].
    pub fn add(&mut self, info: Info) -> bool {
        let known = self.set() & bit(info.number) != 0;
        let queued = info.number >= REAL_TIME;
        if known && !queued {
            return true;
        }
        let room = self.queue.len() < MOST_PENDING && self.queue.try_push(info).is_ok();
        if !room && !queued {
            self.bare |= bit(info.number);
        }
        room
    }

    /// Adds a fault of the thread itself, whatever is pending.
    pub fn add_fault(&mut self, info: Info) {
        if self.fault.is_none() {
            self.fault = Some(info);
        } else if self.queue.try_push(info).is_err() {
            self.bare |= bit(info.number);
        }
    }
}
