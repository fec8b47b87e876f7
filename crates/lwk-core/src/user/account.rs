//! What programs take from the kernel's memory: who pays for it, and how much it may be.
//!
//! The first process has an account, and so has each of its children, which their own children share. Threads
//! with their kernel stacks, processes, open files, pipes and translation tables are charged to it for as
//! long as they exist. So a program that takes what it can get is refused, and whoever started it goes on;
//! the first process, the control task of a primary, may in addition use what others may not (`check_room`).

use super::{
    errno::{Errno, Result},
    process::Process,
    processes, thread,
};
use crate::memory;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use fallible::Arc;

/// The part of the machine's memory that an account can have, and the least that it has.
const PART: u64 = 8;
const LEAST: u64 = 4 << 20;

/// Bytes of the kernel's memory.
#[derive(Debug)]
pub struct Account {
    used: AtomicU64,
    limit: u64,
}

impl Account {
    /// An account without charges.
    pub fn new() -> Result<Arc<Self>> {
        let limit = (super::memory_bytes() / PART).max(LEAST);
        Ok(Arc::try_new(Self { used: AtomicU64::new(0), limit })?)
    }

    /// That of a new child.
    pub fn of_child(parent: &Process) -> Result<Arc<Self>> {
        if processes::is_first(parent.id()) { Self::new() } else { Ok(parent.account().clone()) }
    }

    fn add(&self, bytes: u64) -> Result<()> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let result = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        result.map(drop).map_err(|_| Errno::ENOMEM)
    }

    fn take(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are charged to an account until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Arc<Account>>,
    bytes: u64,
}

impl Charge {
    /// Charges bytes.
    ///
    /// # Errors
    /// `ENOMEM`: the account's limit.
    pub fn new(account: &Arc<Account>, bytes: usize) -> Result<Self> {
        account.add(bytes as u64)?;
        Ok(Self { account: Some(account.clone()), bytes: bytes as u64 })
    }

    /// Charges bytes to the process that makes a system call. What the kernel does by itself nobody pays for.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn to_caller(bytes: usize) -> Result<Self> {
        match thread::current() {
            Some(thread) => Self::new(thread.process().account(), bytes),
            None => Ok(Self { account: None, bytes: 0 }),
        }
    }

    /// Charges so many bytes instead.
    ///
    /// # Errors
    /// `ENOMEM`: the account's limit; the charge stays as it was.
    pub fn set(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes as u64;
        if let Some(account) = &self.account {
            if bytes > self.bytes {
                account.add(bytes - self.bytes)?;
            } else {
                account.take(self.bytes - bytes);
            }
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.take(self.bytes);
        }
    }
}

/// Returns whether there is memory for what the kernel keeps for a process: more has to be left for others
/// than for the first.
pub fn has_room(process: &Process) -> bool {
    /// What calls need in passing.
    const LEFT: usize = 1 << 20;
    if memory::has_room_for_kernel(processes::is_first(process.id())) {
        return true;
    }
    // The heap keeps what has been freed in it: that counts.
    let mut probe: Vec<u8> = Vec::new();
    core::hint::black_box(&mut probe).try_reserve_exact(LEFT).is_ok()
}

/// As [`has_room`], for the process that makes a system call.
///
/// # Errors
/// `ENOMEM`.
pub fn check_room() -> Result<()> {
    let has_room = thread::current().is_none_or(|thread| has_room(thread.process()));
    if has_room { Ok(()) } else { Err(Errno::ENOMEM) }
}
