//! The console: whole lines, whichever core they come from; and the kernel's log, which keeps what the kernel
//! itself has said.
//!
//! A line is formatted once, goes to the console if its level is shown there, and into the log. What comes
//! before there is a console is in the log, and is shown when there is one.

use crate::{
    log_ring::{LogRing, Overrun, Position},
    logging,
    platform::platform,
    sync::IrqMutex,
};
use core::fmt::{self, Write};

/// A line that is longer is put out in pieces.
const LINE: usize = 256;
/// Bytes of the log.
pub const LOG: usize = 64 << 10;
/// The level of what is printed, as syslog has it.
pub(crate) const INFORMATION: u8 = 6;

static CONSOLE: IrqMutex<Console> = IrqMutex::new(Console::new());

struct Console {
    text: [u8; LINE],
    used: usize,
    log: LogRing<LOG>,
    /// The first record that should have been shown when there was no console.
    unseen: Option<Position>,
}

/// Where text goes.
#[derive(Clone, Copy)]
struct Route {
    /// The level with which it is kept in the log.
    kept: Option<u8>,
    shown: bool,
    /// Bytes in front that are for the console alone.
    heading: usize,
}

impl Route {
    /// What a program says.
    const PROGRAM: Self = Self { kept: None, shown: true, heading: 0 };
    /// What the kernel prints.
    const KERNEL: Self = Self { kept: Some(INFORMATION), ..Self::PROGRAM };
}

impl Console {
    const fn new() -> Self {
        Self { text: [0; LINE], used: 0, log: LogRing::new(), unseen: None }
    }

    fn flush(&mut self, route: &mut Route) {
        let text = &self.text[..core::mem::take(&mut self.used)];
        let here = self.log.end();
        if let Some(level) = route.kept {
            let kept = text.get(core::mem::take(&mut route.heading)..).unwrap_or_default();
            self.log.push(level, vtimer::virtual_counter(), kept.strip_suffix(b"\n").unwrap_or(kept));
        }
        if route.shown && !text.is_empty() && !platform().write(text) && self.unseen.is_none() {
            self.unseen = Some(here);
        }
    }

    fn put(&mut self, bytes: &[u8], route: &mut Route) {
        for &byte in bytes {
            self.text[self.used] = byte;
            self.used += 1;
            if byte == b'\n' || self.used == LINE {
                self.flush(route);
            }
        }
    }
}

/// A console, and where what is written goes.
struct Writer<'a> {
    console: &'a mut Console,
    route: Route,
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.console.put(text.as_bytes(), &mut self.route);
        Ok(())
    }
}

fn write(console: &mut Console, route: Route, arguments: fmt::Arguments<'_>) {
    // What a formatter of the caller's fails to write is not there; there is nowhere to report it.
    let _ = Writer { console, route }.write_fmt(arguments);
}

/// Prints; used by [`print!`](crate::print).
pub fn print(arguments: fmt::Arguments<'_>) {
    write(&mut CONSOLE.lock(), Route::KERNEL, arguments);
}

/// Prints a line.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    write(&mut CONSOLE.lock(), Route::KERNEL, format_args!("{arguments}\n"));
    grew();
}

/// Keeps a line of the log, and shows it with its level's name.
pub(crate) fn log_line(level: u8, name: &str, shown: bool, arguments: fmt::Arguments<'_>) {
    let mut console = CONSOLE.lock();
    // What is there of a line that is not complete comes first.
    if console.used > 0 {
        console.flush(&mut { Route::KERNEL });
    }
    let route = Route { kept: Some(level), shown, heading: 6 };
    write(&mut console, route, format_args!("{name:<5} {arguments}\n"));
    drop(console);
    grew();
}

/// There is more in the log than before.
#[inline]
fn grew() {
    #[cfg(programs)]
    crate::user::log_grew();
}

/// Shows what was said before there was a console.
pub(crate) fn came_up() {
    let mut console = CONSOLE.lock();
    let Some(mut position) = console.unseen.take() else { return };
    loop {
        match console.log.read(&mut position) {
            Ok(Some(record)) => {
                let level = logging::level(record.level);
                if logging::is_shown(level) {
                    let text = str::from_utf8(record.text()).unwrap_or_default();
                    let _ = writeln!(Beside, "{:<5} {text}", level.as_str());
                }
            }
            Ok(None) => break,
            Err(Overrun) => {}
        }
    }
}

/// Works with the log.
#[cfg(programs)]
pub(crate) fn with_log<R>(f: impl FnOnce(&mut LogRing<LOG>) -> R) -> R {
    f(&mut CONSOLE.lock().log)
}

/// Prints bytes of a program.
#[cfg(programs)]
pub(crate) fn print_bytes(bytes: &[u8]) {
    CONSOLE.lock().put(bytes, &mut { Route::PROGRAM });
}

/// The console, whoever has it.
struct Beside;

impl Write for Beside {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        platform().write(text.as_bytes());
        Ok(())
    }
}

/// Prints from a fault report or a panic: if the lock cannot be had soon, its holder is the one that failed,
/// and the text goes out beside it.
pub(crate) fn print_urgently(arguments: fmt::Arguments<'_>) {
    for _ in 0..1_000_000 {
        if let Some(mut console) = CONSOLE.try_lock() {
            write(&mut console, Route::KERNEL, arguments);
            if console.used > 0 {
                console.flush(&mut { Route::KERNEL });
            }
            return;
        }
        core::hint::spin_loop();
    }
    let _ = Beside.write_fmt(arguments);
}

/// Prints on the kernel's console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line on the kernel's console. A line is never mixed with another core's.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print_line(::core::format_args!("")) };
    ($($argument:tt)*) => { $crate::console::print_line(::core::format_args!($($argument)*)) };
}
