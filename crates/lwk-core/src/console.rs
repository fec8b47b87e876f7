//! The console: whole lines, whichever core they come from.

use crate::{platform::platform, sync::IrqMutex};
use core::fmt::{self, Write};

/// A line that is longer is put out in pieces.
const LINE: usize = 256;

static CONSOLE: IrqMutex<Line> = IrqMutex::new(Line { text: [0; LINE], used: 0 });

struct Line {
    text: [u8; LINE],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        if self.used > 0 {
            platform().write(&self.text[..self.used]);
            self.used = 0;
        }
    }
}

impl Line {
    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.text[self.used] = byte;
            self.used += 1;
            if byte == b'\n' || self.used == LINE {
                self.flush();
            }
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// Prints; used by [`print!`](crate::print).
pub fn print(arguments: fmt::Arguments<'_>) {
    // What a formatter of the caller's fails to write is not there; there is nobody to tell.
    let _ = CONSOLE.lock().write_fmt(arguments);
}

/// Prints a line.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut console = CONSOLE.lock();
    let _ = console.write_fmt(arguments);
    let _ = console.write_str("\n");
}

/// Prints bytes of a program.
#[cfg(programs)]
pub(crate) fn print_bytes(bytes: &[u8]) {
    CONSOLE.lock().put(bytes);
}

/// Prints from a fault report or a panic: if the lock cannot be had soon, its holder is the one that failed, and the
/// text goes out beside it.
pub(crate) fn print_urgently(arguments: fmt::Arguments<'_>) {
    for _ in 0..1_000_000 {
        if let Some(mut console) = CONSOLE.try_lock() {
            let _ = console.write_fmt(arguments);
            console.flush();
            return;
        }
        core::hint::spin_loop();
    }
    let mut line = Line { text: [0; LINE], used: 0 };
    let _ = line.write_fmt(arguments);
    line.flush();
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
