//! `/dev/kmsg` and `syslog(2)`: the kernel's log, for programs.

use super::{
    copy,
    errno::{Errno, Result},
    files,
    process::clock,
    thread::UserThread,
};
use crate::{
    arch::UserFrame,
    console::{self, with_log},
    log_ring::{LONGEST, Overrun, Position, Record},
    logging,
    sync::IrqMutex,
};
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};

/// `LOG_USER`: what programs say, unless they say otherwise.
const USER: u8 = 1 << 3;
/// The most that is written at once, as on Linux; what does not fit into a record is cut.
const MOST: usize = 1024;

/// Somebody waits for the log to grow.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// What `syslog` has read, and up to where it has been told to forget.
static SYSLOG: IrqMutex<(Position, Position)> = IrqMutex::new((Position::START, Position::START));

/// The log has grown: whoever waits for that looks again. Nothing is logged with a scheduler's lock held.
pub(crate) fn log_grew() {
    if AWAITED.load(Ordering::Relaxed) && AWAITED.swap(false, Ordering::AcqRel) {
        files::something_happened();
    }
}

fn microseconds(record: &Record) -> u64 {
    clock().nanoseconds(record.time) / 1000
}

/// `/dev/kmsg`, open.
#[derive(Debug)]
pub struct Reader(IrqMutex<Position>);

impl Reader {
    /// It begins with the oldest record.
    pub fn new() -> Self {
        Self(IrqMutex::new(with_log(|log| log.first())))
    }

    /// The next record.
    pub fn read(&self, thread: &UserThread, to: u64, size: usize, now: bool) -> Result<u64> {
        let attempt = || {
            let mut position = *self.0.lock();
            let record = with_log(|log| log.read(&mut position));
            let Ok(record) = record else {
                *self.0.lock() = position;
                return Err(Errno::EPIPE);
            };
            let Some(record) = record else {
                AWAITED.store(true, Ordering::Release);
                return if now { Err(Errno::EAGAIN) } else { Ok(None) };
            };
            let line = record.for_kmsg(microseconds(&record));
            if line.len() > size {
                return Err(Errno::EINVAL);
            }
            copy::write_bytes(to, &line)?;
            *self.0.lock() = position;
            Ok(Some(line.len() as u64))
        };
        Ok(files::wait_until(thread, None, attempt)?.unwrap_or(0))
    }

    /// What `poll` says: `POLLIN` and `POLLOUT`, `POLLPRI` and `POLLERR` too if records were missed.
    pub fn ready(&self) -> u16 {
        let mut position = *self.0.lock();
        match with_log(|log| log.read(&mut position)) {
            Ok(Some(_)) => 1 | 4,
            Err(Overrun) => 1 | 2 | 4 | 8,
            Ok(None) => {
                AWAITED.store(true, Ordering::Release);
                4
            }
        }
    }

    /// To the oldest record, behind what was last forgotten, or to the end.
    pub fn seek(&self, offset: u64, whence: u64) -> Result<u64> {
        const SEEK_DATA: u64 = 3;
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        let cleared = SYSLOG.lock().1;
        *self.0.lock() = match whence {
            0 => with_log(|log| log.first()),
            2 => with_log(|log| log.end()),
            SEEK_DATA => with_log(|log| log.not_before(cleared)),
            _ => return Err(Errno::EINVAL),
        };
        Ok(0)
    }
}

/// A program has something to say, `<level>` in front of it if it is not a warning.
pub fn write(from: u64, size: usize) -> Result<u64> {
    if size > MOST {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; LONGEST];
    let bytes = &mut bytes[..size.min(LONGEST)];
    copy::read_bytes(from, bytes)?;
    let text = String::from_utf8_lossy(bytes);
    let heading = text.strip_prefix('<').and_then(|rest| {
        let (level, rest) = rest.split_once('>')?;
        Some((level.parse::<u8>().ok()?, rest))
    });
    let (level, text) = heading.unwrap_or((4, &text));
    // Nobody else is the kernel.
    let facility = if level < USER { USER } else { 0 };
    logging::by_program(facility | level, format_args!("{}", text.trim_end()));
    Ok(size as u64)
}

/// Copies whole records from a position on, as many as fit, and moves it behind them; how many bytes.
fn copy_out(position: &mut Position, to: u64, size: u64) -> Result<u64> {
    let mut done = 0;
    loop {
        let mut next = *position;
        let line = match with_log(|log| log.read(&mut next)) {
            Ok(Some(record)) => record.for_syslog(microseconds(&record)),
            Ok(None) => return Ok(done),
            Err(Overrun) => {
                *position = next;
                continue;
            }
        };
        if done + line.len() as u64 > size {
            return Ok(done);
        }
        copy::write_bytes(to.wrapping_add(done), &line)?;
        done += line.len() as u64;
        *position = next;
    }
}

/// Bytes of all records from a position on.
fn length(mut position: Position) -> u64 {
    let mut total = 0;
    // New ones may come meanwhile, but not for ever.
    let end = with_log(|log| log.end()).sequence;
    while position.sequence < end {
        match with_log(|log| log.read(&mut position)) {
            Ok(Some(record)) => total += record.for_syslog(microseconds(&record)).len() as u64,
            Ok(None) => break,
            Err(Overrun) => {}
        }
    }
    total
}

/// `syslog(2)`.
pub fn syslog(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const READ: u64 = 2;
    const READ_ALL: u64 = 3;
    const READ_CLEAR: u64 = 4;
    let [action, to, size, ..] = frame.x;
    if matches!(action, READ..=READ_CLEAR) && (to == 0 || size as i32 <= 0) {
        return Err(Errno::EINVAL);
    }
    let size = size & 0x7fff_ffff;
    match action {
        0 | 1 => {}
        READ => {
            let attempt = || {
                let mut position = SYSLOG.lock().0;
                let from = position;
                let count = copy_out(&mut position, to, size)?;
                if position == from && with_log(|log| log.end()) == from {
                    AWAITED.store(true, Ordering::Release);
                    return Ok(None);
                }
                SYSLOG.lock().0 = position;
                Ok(Some(count))
            };
            return Ok(files::wait_until(thread, None, attempt)?.unwrap_or(0));
        }
        READ_ALL | READ_CLEAR => {
            let cleared = SYSLOG.lock().1;
            let mut position = with_log(|log| log.not_before(cleared));
            // The last ones, as many as fit.
            let mut left = length(position);
            while left > size {
                match with_log(|log| log.read(&mut position)) {
                    Ok(Some(record)) => {
                        left = left.saturating_sub(record.for_syslog(microseconds(&record)).len() as u64);
                    }
                    Ok(None) => break,
                    Err(Overrun) => left = length(position),
                }
            }
            let count = copy_out(&mut position, to, size)?;
            if action == READ_CLEAR {
                SYSLOG.lock().1 = position;
            }
            return Ok(count);
        }
        5 => SYSLOG.lock().1 = with_log(|log| log.end()),
        6 => logging::show_on_console(false),
        7 => logging::show_on_console(true),
        8 if (1..=8).contains(&size) => logging::set_console_level(size as u8),
        9 => return Ok(length(SYSLOG.lock().0)),
        10 => return Ok(console::LOG as u64),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
