//! `/dev/kmsg` and `syslog(2)`: the kernel's log, for programs.

use super::{
    copy,
    errno::{Errno, Result},
    files,
    lossy::Lossy,
    process::clock,
    thread::UserThread,
};
use crate::{
    arch::UserFrame,
    console::{self, with_log},
    log_ring::{LONGEST, Line, Overrun, Position, Record},
    logging,
    sync::IrqMutex,
};
use core::sync::atomic::{AtomicBool, Ordering};

/// `LOG_USER`: what programs say, unless they say otherwise.
const USER: u8 = 1 << 3;
/// The most that is written at once, as on Linux; what does not fit into a record is cut.
const MOST: usize = 1024;

/// Somebody waits for the log to grow.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Position up to which `syslog` has read, and up to which it has cleared the log.
static SYSLOG: IrqMutex<(Position, Position)> = IrqMutex::new((Position::START, Position::START));

/// The log has grown: whoever waits for that looks again. Nothing is logged with a scheduler's lock held.
pub(crate) fn log_grew() {
    if AWAITED.load(Ordering::Relaxed) && AWAITED.swap(false, Ordering::AcqRel) {
        files::something_happened();
    }
}

/// How a record is put into words.
type Words = fn(&Record, u64) -> Line;

/// The next record in words, if there is one; the position moves behind it.
#[inline(never)]
fn next(position: &mut Position, words: Words) -> core::result::Result<Option<Line>, Overrun> {
    let record = with_log(|log| log.read(position))?;
    Ok(record.map(|record| words(&record, clock().nanoseconds(record.time) / 1000)))
}

/// A position, or that of the oldest record if this is later; and that behind the last.
#[inline(never)]
fn ends(position: Position) -> (Position, Position) {
    with_log(|log| (log.not_before(position), log.end()))
}

/// Has waiters woken when the log grows. Call before reading the log, which is locked for that: records added
/// after the read wake the waiters.
fn await_more() {
    AWAITED.store(true, Ordering::Release);
}

/// `/dev/kmsg`, open.
#[derive(Debug)]
pub struct Reader(IrqMutex<Position>);

impl Reader {
    /// Opens a reader at the oldest record.
    pub fn new() -> Self {
        Self(IrqMutex::new(ends(Position::START).0))
    }

    /// The next record.
    pub fn read(&self, thread: &UserThread, to: u64, size: usize, now: bool) -> Result<u64> {
        let attempt = || {
            await_more();
            let mut position = *self.0.lock();
            let count = match next(&mut position, Record::for_kmsg) {
                Ok(Some(line)) if line.len() > size => return Err(Errno::EINVAL),
                Ok(Some(line)) => {
                    copy::write_bytes(to, &line)?;
                    Ok(Some(line.len() as u64))
                }
                Ok(None) => return if now { Err(Errno::EAGAIN) } else { Ok(None) },
                Err(Overrun) => Err(Errno::EPIPE),
            };
            *self.0.lock() = position;
            count
        };
        Ok(files::wait_until(thread, None, attempt)?.unwrap_or(0))
    }

    /// Returns the events for `poll`: `POLLIN` and `POLLOUT`, `POLLPRI` and `POLLERR` too if records were
    /// missed.
    pub fn ready(&self) -> u16 {
        await_more();
        let position = *self.0.lock();
        let (first, end) = ends(position);
        if first != position {
            1 | 2 | 4 | 8
        } else if position != end {
            1 | 4
        } else {
            4
        }
    }

    /// To the oldest record, behind what was last forgotten, or to the end.
    pub fn seek(&self, offset: u64, whence: u64) -> Result<u64> {
        const SEEK_DATA: u64 = 3;
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        let from = if whence == SEEK_DATA { SYSLOG.lock().1 } else { Position::START };
        let (first, end) = ends(from);
        *self.0.lock() = match whence {
            0 | SEEK_DATA => first,
            2 => end,
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
    let mut text = bytes.trim_ascii_end();
    let mut level = 4;
    if let [b'<', digits @ .., b'>'] =
        &text[..text.iter().position(|byte| *byte == b'>').map_or(0, |at| at + 1)]
        && let Some(said) = number(digits)
    {
        level = said;
        text = &text[digits.len() + 2..];
    }
    // Nobody else is the kernel.
    let facility = if level < USER { USER } else { 0 };
    logging::by_program(facility | level, format_args!("{}", Lossy(text)));
    Ok(size as u64)
}

fn number(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Copies whole records from a position on, as many as fit, and moves it behind them; how many bytes. Nowhere
/// to copy to: only that.
#[inline(never)]
fn copy_out(position: &mut Position, to: Option<u64>, size: u64) -> Result<u64> {
    let mut done = 0;
    // More may come meanwhile, but not for ever.
    let (_, end) = ends(*position);
    while position.sequence < end.sequence {
        let mut behind = *position;
        if let Ok(Some(line)) = next(&mut behind, Record::for_syslog) {
            if done + line.len() as u64 > size {
                break;
            }
            if let Some(to) = to {
                copy::write_bytes(to.wrapping_add(done), &line)?;
            }
            done += line.len() as u64;
        }
        *position = behind;
    }
    Ok(done)
}

/// The last records from a position on, as many as fit; the position moves behind them.
fn copy_last(position: &mut Position, to: u64, size: u64) -> Result<u64> {
    let length = |mut from| copy_out(&mut from, None, u64::MAX);
    let mut left = length(*position)?;
    while left > size {
        match next(position, Record::for_syslog) {
            Ok(Some(line)) => left = left.saturating_sub(line.len() as u64),
            Ok(None) => break,
            Err(Overrun) => left = length(*position)?,
        }
    }
    copy_out(position, Some(to), size)
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
    let (read, cleared) = *SYSLOG.lock();
    let (mut new_read, mut new_cleared) = (read, cleared);
    let mut result = 0;
    match action {
        0 | 1 => {}
        READ => {
            let attempt = || {
                await_more();
                let mut position = read;
                let count = copy_out(&mut position, Some(to), size)?;
                if position == read && ends(read).1 == read {
                    return Ok(None);
                }
                Ok(Some((position, count)))
            };
            (new_read, result) = files::wait_until(thread, None, attempt)?.unwrap_or((read, 0));
        }
        READ_ALL | READ_CLEAR => {
            let mut position = cleared;
            result = copy_last(&mut position, to, size)?;
            if action == READ_CLEAR {
                new_cleared = position;
            }
        }
        5 => new_cleared = ends(cleared).1,
        6 | 7 => logging::show_on_console(action == 7),
        8 if (1..=8).contains(&size) => logging::set_console_level(size as u8),
        9 => result = copy_out(&mut { read }, None, u64::MAX)?,
        10 => result = console::LOG as u64,
        _ => return Err(Errno::EINVAL),
    }
    *SYSLOG.lock() = (new_read, new_cleared);
    Ok(result)
}
