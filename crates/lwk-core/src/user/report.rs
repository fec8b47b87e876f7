//! What the console says of a program that crashed.

use super::{copy, lossy::Lossy, signal::Info, thread::UserThread};
use crate::{arch::UserFrame, syndrome::Syndrome};
use address_space::Region;
use core::fmt;
use fallible::Text;
use linux_program::UserAddr;

/// The most callers that are shown.
const MOST_CALLERS: usize = 32;

fn name(signal: u32) -> Option<&'static str> {
    Some(match signal {
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
        _ => return None,
    })
}

/// Says that a signal ends a program; with all that helps to find out why, if it is a fault.
pub fn killed(thread: &UserThread, frame: &UserFrame, info: &Info) {
    let process = thread.process();
    process.output.lock().flush();
    let who = process.name();
    let signal = fmt::from_fn(|f| match name(info.number) {
        Some(name) => f.write_str(name),
        None => write!(f, "signal {}", info.number),
    });
    crate::println!("{who} (process {}, thread {}) ends by {signal}", process.id(), thread.id());
    if info.syndrome != 0 {
        let syndrome = Syndrome(info.syndrome);
        crate::println!("{who}: {syndrome} (ESR {:#x})", info.syndrome);
        if syndrome.has_address() {
            let place = place(thread, info.value);
            crate::println!("{who}: address {:#x}, {place}", info.value);
        }
    } else if info.number != super::signal::SIGABRT {
        return;
    }
    let image = process.image();
    let code = |address: u64| {
        // Without memory, without the function's name. Nothing waits for files while the console is locked.
        let mut text = Text::new();
        image.with_symbols(|symbols| {
            if let Some(place) = symbols.and_then(|symbols| symbols.find(UserAddr::new(address))) {
                let _ = text.try_format(format_args!(" {}+{:#x}", place.function, place.offset));
            }
        });
        (address, text)
    };
    let say = |what: &str, address: u64| {
        let (address, function) = code(address);
        crate::println!("  {what} {address:#x}{}", Lossy(function.as_bytes()));
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
    say("at", frame.pc);
    say("called from", x30.wrapping_sub(4));
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
        say("by", caller.wrapping_sub(4));
        (last, record) = (record, next);
    }
}

/// Where an address is, as a sentence has it.
struct Place {
    address: UserAddr,
    /// The region that it is in, or the first one above.
    region: Option<Region>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Region { range, purpose, .. }) = self.region else { return f.write_str("not mapped") };
        match range.start.get().checked_sub(self.address.get()).filter(|below| *below > 0) {
            Some(below) => write!(f, "not mapped, {below} bytes below {purpose:?} {}", range.start),
            None => write!(f, "in {purpose:?} {}-{}", range.start, range.end),
        }
    }
}

fn place(thread: &UserThread, address: u64) -> Place {
    let address = UserAddr::new(address);
    let region = thread.process().with_space(|space| {
        let regions = space.regions();
        Ok(regions
            .find(address)
            .or_else(|| regions.iter().find(|region| region.range.start > address))
            .copied())
    });
    Place { address, region: region.ok().flatten() }
}
