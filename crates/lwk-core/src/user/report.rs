//! What the console says of a program that crashed.

use super::{copy, signal::Info, thread::UserThread};
use crate::{arch::UserFrame, syndrome::Syndrome};
use alloc::{
    format,
    string::{String, ToString},
};
use linux_program::UserAddr;

/// The most callers that are shown.
const MOST_CALLERS: usize = 32;

fn name(signal: u32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_string()
}

/// Says that a signal ends a program; with all that helps to find out why, if it is a fault.
pub fn killed(thread: &UserThread, frame: &UserFrame, info: &Info) {
    let process = thread.process();
    process.output.lock().flush();
    let (who, signal) = (process.name(), name(info.number));
    crate::println!("{who} (process {}, thread {}) ends by {signal}", process.id(), thread.id());
    if info.syndrome != 0 {
        let syndrome = Syndrome(info.syndrome);
        crate::println!("{who}: {syndrome} (ESR {:#x})", info.syndrome);
        if syndrome.has_address() {
            crate::println!("{who}: address {:#x}, {}", info.value, place(thread, info.value));
        }
    } else if info.number != super::signal::SIGABRT {
        return;
    }
    let image = process.image();
    let code = |address: u64| {
        let name = image.with_symbols(|symbols| {
            let place = symbols?.find(UserAddr::new(address))?;
            Some(format!(" {}+{:#x}", place.function, place.offset))
        });
        format!("{address:#x}{}", name.unwrap_or_default())
    };
    for (row, values) in frame.x[..28].chunks(4).enumerate() {
        let n = row * 4;
        let [a, b, c, d] = [values[0], values[1], values[2], values[3]];
        crate::println!(
            "  x{:<2} {a:016x}  x{:<2} {b:016x}  x{:<2} {c:016x}  x{:<2} {d:016x}",
            n,
            n + 1,
            n + 2,
            n + 3
        );
    }
    let (x28, x29, x30) = (frame.x[28], frame.x[29], frame.x[30]);
    crate::println!("  x28 {x28:016x}  x29 {x29:016x}  x30 {x30:016x}  sp  {:016x}", frame.sp);
    crate::println!("  at {}", code(frame.pc));
    crate::println!("  called from {}", code(x30.wrapping_sub(4)));
    let mut record = frame.x[29];
    let mut last = 0;
    for _ in 0..MOST_CALLERS {
        // Records go up the stack; anything else is not one.
        if record <= last || !record.is_multiple_of(8) {
            break;
        }
        let Ok([next, caller]) = copy::read::<[u64; 2]>(record) else { break };
        if caller == 0 {
            break;
        }
        crate::println!("  by {}", code(caller - 4));
        (last, record) = (record, next);
    }
}

/// Where an address is, in words.
fn place(thread: &UserThread, address: u64) -> String {
    let found = thread.process().with_space(|space| {
        let regions = space.regions();
        let at = UserAddr::new(address);
        Ok(match regions.find(at) {
            Some(region) => format!("in {:?} {}-{}", region.purpose, region.range.start, region.range.end),
            None => {
                match regions.iter().filter(|region| region.range.start > at).min_by_key(|r| r.range.start) {
                    Some(region) => {
                        let below = region.range.start.get() - address;
                        format!("not mapped, {below} bytes below {:?} {}", region.purpose, region.range.start)
                    }
                    None => "not mapped".into(),
                }
            }
        })
    });
    found.unwrap_or_else(|_| "not mapped".into())
}
