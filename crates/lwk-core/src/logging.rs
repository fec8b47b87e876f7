//! The kernel's log: `log`'s macros. Everything up to `debug` is kept; what `loglevel=` on the command line
//! says is on the console too.

use crate::{cmdline::CommandLine, console};
use core::sync::atomic::{AtomicUsize, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The last level that the console shows.
static SHOWN: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);

/// The last level that is kept, if the console shows no more.
const KEPT: LevelFilter = LevelFilter::Debug;

struct KernelLog;

/// As syslog numbers it.
const fn urgency(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => console::INFORMATION,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level();
            console::log_line(urgency(level), level.as_str(), is_shown(level), *record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts the log: `loglevel=off|error|warn|info|debug|trace` for the console, or info.
pub(crate) fn init(line: CommandLine<'_>) {
    let shown = line.get("loglevel").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    show(shown);
    // Fails only if there is a log already.
    let _ = log::set_logger(&KernelLog);
    log::set_max_level(shown.max(KEPT));
}

fn show(level: LevelFilter) {
    SHOWN.store(level as usize, Ordering::Relaxed);
}

/// Shows what programs say, if it is as urgent as what the console shows; keeps it in any case. Facility and
/// level are as syslog has them.
#[cfg(programs)]
pub(crate) fn by_program(priority: u8, arguments: core::fmt::Arguments<'_>) {
    let level = level(priority);
    console::log_line(priority, level.as_str(), is_shown(level), arguments);
}

/// A level of syslog's, the facility ignored.
pub(crate) const fn level(priority: u8) -> Level {
    match priority & 7 {
        0..=3 => Level::Error,
        4 => Level::Warn,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    }
}

/// Returns whether the console shows a level.
pub(crate) fn is_shown(level: Level) -> bool {
    level as usize <= SHOWN.load(Ordering::Relaxed)
}

/// Shows what is more urgent than a level of syslog's.
#[cfg(programs)]
pub(crate) fn set_console_level(level: u8) {
    show(match level {
        0..=3 => LevelFilter::Off,
        4 => LevelFilter::Error,
        5 | 6 => LevelFilter::Warn,
        7 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    });
}

/// Shows nothing, or again what was shown before.
#[cfg(programs)]
pub(crate) fn show_on_console(shown: bool) {
    const OFF: usize = LevelFilter::Off as usize;
    static BEFORE: AtomicUsize = AtomicUsize::new(OFF);
    let (from, to) = if shown { (&BEFORE, &SHOWN) } else { (&SHOWN, &BEFORE) };
    let level = from.swap(OFF, Ordering::Relaxed);
    if level != OFF {
        to.store(level, Ordering::Relaxed);
    }
}
