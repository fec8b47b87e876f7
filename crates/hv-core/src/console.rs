//! The console: whole lines, each with the name of its VM.

use crate::{board, printable, vcpu::Loaded};
use core::fmt::{self, Write as _};

/// Held for the length of a line, so that lines of several cores do not mix. No run path takes it.
static LOCK: crate::lock::Lock<()> = crate::lock::Lock::new(());

/// Prints a line of the hypervisor's own.
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    let _line = LOCK.lock();
    let _ = writeln!(board::ConsoleWriter, "[hv] {arguments}");
}

/// Prints without waiting for whoever holds the console: for reports after which nothing runs any more.
pub(crate) fn print_at_once(arguments: fmt::Arguments<'_>) {
    let _ = writeln!(board::ConsoleWriter, "[hv] {arguments}");
}

/// Adds characters to the current vCPU's line, and prints it when it is complete or full.
pub(crate) fn log(current: &mut Loaded, text: impl Iterator<Item = u8>) {
    for byte in text {
        if byte == b'\n' {
            flush(current);
            continue;
        }
        if byte == b'\r' {
            continue;
        }
        if current.line().push(byte).is_err() {
            flush(current);
            let _ = current.line().push(byte);
        }
    }
}

/// Prints the current vCPU's line, if it has one.
pub(crate) fn flush(current: &mut Loaded) {
    let name = current.vm().name.as_bytes();
    let line = current.line();
    let _lock = LOCK.lock();
    board::write(b"[");
    board::write(name);
    board::write(b"] ");
    printable::replace_others(line);
    board::write(line);
    board::write(b"\n");
    line.clear();
}

/// Text in a line. `str` is formatted by code for widths and precisions, which nothing here needs, and which is large.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Prints a line of the hypervisor.
macro_rules! info {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}
pub(crate) use info;
