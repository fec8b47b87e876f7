//! Waiting for descriptors: `ppoll` and `pselect6`.

use crate::{
    arch::UserFrame,
    time,
    user::{
        copy,
        errno::{Errno, Result},
        files,
        thread::UserThread,
    },
};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fallible::TryVec as _;

const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 16;
const POLLNVAL: u16 = 32;
const POLLRDNORM: u16 = 64;
const POLLWRNORM: u16 = 256;
/// Reported whether they were asked for or not.
const ALWAYS: u16 = POLLERR | POLLHUP | POLLNVAL;
/// 64-bit words of a `fd_set`.
const WORDS: usize = files::MOST_OPEN / 64;

/// A set of descriptors, as `select` has it.
type FdSet = [u64; WORDS];

/// The events of a descriptor; `POLLNVAL` alone if there is no such descriptor.
fn events(thread: &UserThread, file: u32) -> u16 {
    let Ok(open) = thread.process().files.lock().get(u64::from(file)) else { return POLLNVAL };
    let ready = open.ready();
    let read = if ready & POLLIN != 0 { POLLRDNORM } else { 0 };
    let write = if ready & POLLOUT != 0 { POLLWRNORM } else { 0 };
    ready | read | write
}

/// Waits until `look` counts something, with another signal mask; 0 after the timeout, which then says what
/// is left of it.
fn wait(
    thread: &UserThread,
    timeout: u64,
    mask: Option<u64>,
    look: impl FnMut() -> Result<Option<u64>>,
) -> Result<u64> {
    let deadline = if timeout == 0 { None } else { Some(super::time::deadline_after(timeout)?) };
    let count = thread.with_mask(mask, || files::wait_until(thread, deadline, look));
    if let Some(deadline) = deadline {
        let left = time::frequency().ticks_to_ns(deadline.saturating_sub(time::ticks()));
        // Linux does not report it either if this cannot be written.
        let _ = copy::write(timeout, &super::time::split(left));
    }
    if count == Err(Errno::RESTART) {
        // Made again, with the time that is left, only if no handler runs.
        thread.without_handler.store(true, Ordering::Relaxed);
    }
    Ok(count?.unwrap_or(0))
}

/// The mask to wait with, at this address if it is not null.
fn mask(from: u64, size: u64) -> Result<Option<u64>> {
    if from == 0 {
        return Ok(None);
    }
    super::signals::check_set(size)?;
    copy::read(from).map(Some)
}

pub fn ppoll(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [list, count, timeout, sigmask, size, ..] = frame.x;
    if count > files::MOST_OPEN as u64 {
        return Err(Errno::EINVAL);
    }
    let mask = mask(sigmask, size)?;
    let mut entries: Vec<[u32; 2]> = Vec::new();
    entries.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
    for index in 0..count {
        entries.try_push(copy::read(list.wrapping_add(index * 8))?)?;
    }
    // `events` is the lower half of the second word, `revents` the upper one.
    let look = || {
        let mut found = 0;
        for [file, word] in &mut entries {
            let asked = *word as u16;
            let ready = if (*file as i32) < 0 { 0 } else { events(thread, *file) & (asked | ALWAYS) };
            *word = u32::from(asked) | u32::from(ready) << 16;
            found += u64::from(ready != 0);
        }
        Ok((found > 0).then_some(found))
    };
    let found = wait(thread, timeout, mask, look)?;
    for (index, entry) in (0..).zip(&entries) {
        copy::write(list.wrapping_add(index * 8), entry)?;
    }
    Ok(found)
}

pub fn pselect6(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    /// Events of a descriptor for the sets that are read, written and exceptional; there are none of the
    /// latter here.
    const MEANT: [u16; 3] = [POLLIN | POLLERR | POLLHUP, POLLOUT | POLLERR, 0];
    let [count, readable, writable, exceptional, timeout, sigmask, ..] = frame.x;
    let Ok(count) = usize::try_from(count as i32) else { return Err(Errno::EINVAL) };
    let count = count.min(files::MOST_OPEN);
    let bytes = count.div_ceil(64) * 8;
    let mask = if sigmask == 0 {
        None
    } else {
        let [from, size] = copy::read(sigmask)?;
        mask(from, size)?
    };
    let places = [readable, writable, exceptional];
    let mut asked = [[0; WORDS]; 3];
    for (set, from) in asked.iter_mut().zip(places).filter(|(_, from)| *from != 0) {
        copy::read_bytes(from, &mut zerocopy::IntoBytes::as_mut_bytes(set)[..bytes])?;
    }
    let has = |set: &FdSet, file: usize| set[file / 64] >> (file % 64) & 1 != 0;
    let mut ready: [FdSet; 3] = [[0; WORDS]; 3];
    let look = || {
        ready = [[0; WORDS]; 3];
        let mut found = 0;
        for file in (0..count).filter(|file| asked.iter().any(|set| has(set, *file))) {
            let events = events(thread, file as u32);
            if events == POLLNVAL {
                return Err(Errno::EBADF);
            }
            for ((asked, ready), meant) in asked.iter().zip(&mut ready).zip(MEANT) {
                if has(asked, file) && events & meant != 0 {
                    ready[file / 64] |= 1 << (file % 64);
                    found += 1;
                }
            }
        }
        Ok((found > 0).then_some(found))
    };
    let found = wait(thread, timeout, mask, look)?;
    for (set, to) in ready.iter().zip(places).filter(|(_, to)| *to != 0) {
        copy::write_bytes(to, &zerocopy::IntoBytes::as_bytes(set)[..bytes])?;
    }
    Ok(found)
}
