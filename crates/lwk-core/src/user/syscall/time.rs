//! Time.

use crate::{
    arch::UserFrame,
    time,
    user::{
        copy,
        errno::{Errno, Result},
        process::clock as clock_of_programs,
        processes,
        thread::UserThread,
    },
};
use core::sync::atomic::Ordering;

const SECOND: u64 = 1_000_000_000;
const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
/// Raw, coarse and boot-time variants are the same clocks here.
const CLOCK_MONOTONIC_RAW: i32 = 4;
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;
const CLOCK_BOOTTIME: i32 = 7;
const TIMER_ABSTIME: u64 = 1;
/// `AT_CLKTCK`.
const CLOCK_TICKS: u64 = 100;

/// Nanoseconds since boot.
pub fn monotonic() -> u64 {
    clock_of_programs().nanoseconds(time::stopwatch())
}

fn real() -> u64 {
    monotonic() + clock_of_programs().realtime_offset
}

/// Nanoseconds that a process has had its cores: what its threads have run, taken together.
fn used(thread: &UserThread) -> u64 {
    time::frequency().ticks_to_ns(thread.process().used_ticks())
}

/// What a process's children have had that it has waited for.
fn used_by_children(thread: &UserThread) -> u64 {
    time::frequency().ticks_to_ns(thread.process().used_by_children.load(Ordering::Relaxed))
}

/// The kind of a clock id of a process or thread, and its number, 0 for the caller (Linux,
/// `posix-timers_types.h`).
const CPU_CLOCK_OF_THREAD: i32 = 4;
const CPU_CLOCK_KIND: i32 = 3;

/// Nanoseconds that the process or thread of a negative clock id has had its cores.
fn cpu_clock(thread: &UserThread, clock: i32) -> Result<u64> {
    // Ticks in user mode and in both modes, and nanoseconds: the same here. 3 is for a descriptor of a clock.
    if clock & CPU_CLOCK_KIND == 3 {
        return Err(Errno::EINVAL);
    }
    let id = !(clock >> 3) as u32;
    let ticks = if clock & CPU_CLOCK_OF_THREAD != 0 {
        // Those of other processes' threads are not for it.
        let found = if id == 0 { Some(thread.shared()) } else { thread.process().thread(id) };
        found.ok_or(Errno::EINVAL)?.used_ticks()
    } else if id == 0 {
        thread.process().used_ticks()
    } else {
        processes::get(id).ok_or(Errno::EINVAL)?.used_ticks()
    };
    Ok(time::frequency().ticks_to_ns(ticks))
}

fn now(thread: &UserThread, clock: u64) -> Result<u64> {
    match clock as i32 {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => Ok(real()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(monotonic()),
        CLOCK_PROCESS_CPUTIME_ID => Ok(used(thread)),
        CLOCK_THREAD_CPUTIME_ID => Ok(time::frequency().ticks_to_ns(thread.used_ticks())),
        clock if clock < 0 => cpu_clock(thread, clock),
        _ => Err(Errno::EINVAL),
    }
}

/// Nanoseconds as a `struct timespec`.
pub const fn split(ns: u64) -> [u64; 2] {
    [ns / SECOND, ns % SECOND]
}

/// A `struct timespec` of the program's, in nanoseconds; one that is too long is very long.
pub fn timespec(from: u64) -> Result<u64> {
    let [seconds, ns] = copy::read::<[u64; 2]>(from)?;
    if (seconds as i64) < 0 || ns >= SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(ns))
}

/// The deadline, in the counter's ticks, after a `struct timespec` of the program's.
pub fn deadline_after(from: u64) -> Result<u64> {
    timespec(from).map(time::after_ns)
}

/// The deadline, in the counter's ticks, when a clock reaches a time.
pub fn deadline_at(is_real: bool, ns: u64) -> u64 {
    let now = if is_real { real() } else { monotonic() };
    time::after_ns(ns.saturating_sub(now))
}

pub fn clock_gettime(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [clock, to, ..] = frame.x;
    copy::write(to, &split(now(thread, clock)?))?;
    Ok(0)
}

pub fn clock_getres(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [clock, to, ..] = frame.x;
    now(thread, clock)?;
    copy::write_if(to, &[0, 1_u64])?;
    Ok(0)
}

pub fn gettimeofday(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [seconds, ns] = split(real());
    copy::write_if(frame.x[0], &[seconds, ns / 1000])?;
    copy::write_if(frame.x[1], &[0_u32, 0])?;
    Ok(0)
}

/// Sleeps; what is left goes to `rest` if a signal comes first.
fn sleep(thread: &UserThread, deadline: u64, rest: u64) -> Result<u64> {
    // It may have begun on another core.
    let deadline = match thread.wakes_at.swap(0, Ordering::Relaxed) {
        0 => deadline,
        begun => begun,
    };
    while crate::user::thread::park(Some(deadline)) {
        if thread.leaves() {
            thread.wakes_at.store(deadline, Ordering::Relaxed);
            return Err(thread.ended_wait());
        }
        if thread.is_interrupted() {
            let left = deadline.saturating_sub(time::ticks());
            copy::write_if(rest, &split(time::frequency().ticks_to_ns(left)))?;
            return Err(Errno::EINTR);
        }
    }
    Ok(0)
}

pub fn nanosleep(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [duration, rest, ..] = frame.x;
    sleep(thread, deadline_after(duration)?, rest)
}

pub fn clock_nanosleep(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [clock, flags, duration, rest, ..] = frame.x;
    now(thread, clock)?;
    let clock = clock as i32;
    if clock == CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EINVAL);
    }
    // Nothing is woken by a CPU clock.
    if clock < 0 || [CLOCK_PROCESS_CPUTIME_ID, CLOCK_MONOTONIC_RAW].contains(&clock) {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & TIMER_ABSTIME != 0 {
        let is_real = [CLOCK_REALTIME, CLOCK_REALTIME_COARSE].contains(&clock);
        return sleep(thread, deadline_at(is_real, timespec(duration)?), 0);
    }
    sleep(thread, deadline_after(duration)?, rest)
}

pub fn times(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let ticks = |ns: u64| ns / (SECOND / CLOCK_TICKS);
    copy::write_if(frame.x[0], &[ticks(used(thread)), 0, ticks(used_by_children(thread)), 0])?;
    Ok(ticks(monotonic()))
}

pub fn getrusage(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_THREAD: i32 = 1;
    let [who, to, ..] = frame.x;
    let ns = match who as i32 {
        RUSAGE_SELF => used(thread),
        RUSAGE_THREAD => time::frequency().ticks_to_ns(thread.used_ticks()),
        RUSAGE_CHILDREN => used_by_children(thread),
        _ => return Err(Errno::EINVAL),
    };
    let most = thread.process().most_backed.load(Ordering::Relaxed) >> 10;
    copy::write(to, &rusage(ns, most))?;
    Ok(0)
}

/// `struct rusage`: user time, system time (counted as the program's), the most memory in KiB, and what is 0
/// here.
pub fn rusage(ns: u64, most: u64) -> [u64; 18] {
    let mut words = [0; 18];
    (words[0], words[1], words[4]) = (ns / SECOND, ns % SECOND / 1000, most);
    words
}
