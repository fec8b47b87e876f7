//! The kernel's log: `log`'s macros, printed on the console. Level by `loglevel=` on the command line.

use crate::cmdline::CommandLine;
use log::{LevelFilter, Log, Metadata, Record};

struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str();
            crate::println!("{level:<5} {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts the log: `loglevel=off|error|warn|info|debug|trace`, or info.
pub(crate) fn init(line: CommandLine<'_>) {
    let level = line.get("loglevel").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    // Fails only if there is a log already.
    let _ = log::set_logger(&ConsoleLog);
    log::set_max_level(level);
}
