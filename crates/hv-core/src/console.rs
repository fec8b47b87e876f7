//! The console: whole lines, each with the name of its VM.

use crate::{board, printable, vcpu::Loaded};
use core::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Held for the length of a piece of output, so that those of several cores do not mix. No run path takes it.
static LOCK: crate::lock::Lock<()> = crate::lock::Lock::new(());
static OUTPUT: Output = Output::new();

/// Joins the pieces of lines that are longer than a vCPU's buffer.
///
/// A piece without an end leaves its line open. The same vCPU's next piece continues the line; anybody else's output ends the line
/// first, so that nobody waits for a line to end, and what is left of it begins with its VM's name again.
struct Output {
    /// The vCPU whose line is open, by its address; 0 if none is.
    open: AtomicUsize,
}

impl Output {
    const fn new() -> Self {
        Self { open: AtomicUsize::new(0) }
    }

    /// Ends the open line, if there is one.
    fn end_line(&self, write: fn(&[u8])) {
        if self.open.load(Ordering::Relaxed) != 0 {
            self.open.store(0, Ordering::Relaxed);
            write(b"\n");
        }
    }

    /// Writes a piece of a line of vCPU `who`, whose VM is `name`.
    fn piece(&self, who: usize, name: &[u8], text: &[u8], ends: bool, write: fn(&[u8])) {
        if self.open.load(Ordering::Relaxed) != who {
            self.end_line(write);
            write(b"[");
            write(name);
            write(b"] ");
        }
        write(text);
        self.open.store(who, Ordering::Relaxed);
        if ends {
            self.end_line(write);
        }
    }
}

/// Prints a line of the hypervisor's own.
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    let _line = LOCK.lock();
    print_at_once(arguments);
}

/// Prints without waiting for whoever holds the console: for reports after which nothing runs any more.
pub(crate) fn print_at_once(arguments: fmt::Arguments<'_>) {
    OUTPUT.end_line(board::write);
    let _ = writeln!(board::ConsoleWriter, "[hv] {arguments}");
}

/// Adds characters to the current vCPU's line, and prints it when it is complete, or as a piece without an end when the buffer is full.
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
            print_line(current, false);
            let _ = current.line().push(byte);
        }
    }
}

/// Prints the current vCPU's line, and ends it.
pub(crate) fn flush(current: &mut Loaded) {
    print_line(current, true);
}

fn print_line(current: &mut Loaded, ends: bool) {
    let (who, name) = (core::ptr::from_ref(current.vcpu()) as usize, current.vm().name.as_bytes());
    let line = current.line();
    let cut = if ends { line.len() } else { whole_characters(line) };
    let (text, rest) = line.split_at_mut(cut);
    printable::replace_others(text);
    let left = rest.len();
    {
        let _lock = LOCK.lock();
        OUTPUT.piece(who, name, text, ends, board::write);
    }
    line.copy_within(cut.., 0);
    line.truncate(left);
}

/// How many bytes there are before the last character, if that may be incomplete UTF-8; otherwise all.
fn whole_characters(line: &[u8]) -> usize {
    let is_start = |byte: &u8| *byte >= 0xc0;
    let longest = line.len().saturating_sub(3);
    line.iter().rposition(is_start).filter(|at| *at >= longest).unwrap_or(line.len())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, string::String, thread_local};

    thread_local! {
        static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
    }

    fn write(text: &[u8]) {
        WRITTEN.with_borrow_mut(|written| written.push_str(core::str::from_utf8(text).unwrap()));
    }

    fn pieces(pieces: &[(usize, &str, bool)]) -> String {
        WRITTEN.take();
        let output = Output::new();
        for (who, text, ends) in pieces {
            output.piece(*who, if *who < 3 { b"one" } else { b"two" }, text.as_bytes(), *ends, write);
        }
        WRITTEN.take()
    }

    #[test]
    fn joins_the_pieces_of_a_long_line() {
        let long = pieces(&[(1, "a", false), (1, "b", false), (1, "c", true), (1, "d", true)]);
        assert_eq!(long, "[one] abc\n[one] d\n");
    }

    #[test]
    fn an_open_line_does_not_hold_up_others() {
        // vCPUs 1 and 2 are of one VM, vCPU 3 of another.
        let mixed =
            pieces(&[(1, "a", false), (3, "x", true), (1, "b", false), (2, "y", false), (1, "", true)]);
        assert_eq!(mixed, "[one] a\n[two] x\n[one] b\n[one] y\n[one] \n");
    }

    #[test]
    fn the_hypervisors_lines_begin_a_line() {
        WRITTEN.take();
        let output = Output::new();
        output.piece(1, b"one", b"[hv] ", false, write);
        output.end_line(write);
        output.end_line(write);
        assert_eq!(WRITTEN.take(), "[one] [hv] \n");
    }

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(whole_characters("abcd".as_bytes()), 4);
        assert_eq!(whole_characters("abc\u{e9}".as_bytes()), 3);
        assert_eq!(whole_characters(&"abc\u{1f600}".as_bytes()[..6]), 3);
        assert_eq!(whole_characters("abc\u{1f600}".as_bytes()), 7);
        assert_eq!(whole_characters(b"\xc3\x80\x80\x80\x80"), 5);
        assert_eq!(whole_characters(b""), 0);
    }
}
