//! A guest that tries every system register, and whether its own registers stay its own. One parameter:
//!
//! | `mode=` | what |
//! |---|---|
//! | `sweep` | every encoding that MRS, MSR and SYS have, against the policy in `hv_abi::registers` |
//! | `private` | fills every register it may write with a pattern, yields, and looks again; `rounds=N` times |
//!
//! What is wrong is said by `@check name=register ok=no`, one line for each register; a `@result` line sums
//! up.

mod machine;
pub(crate) mod private;
mod sweep;

use core::fmt;
use lwk_core::app::{App, Status};

/// The program.
pub fn main(app: &App) -> Status {
    let line = app.command_line();
    match line.get("mode") {
        Some("private") => private::secondary(line.number("rounds").unwrap_or(500)),
        _ => sweep::run(),
    }
}

/// A register's name, as assemblers write it.
struct Name(u16);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n) = self;
        write!(f, "s{}_{}_c{}_c{}_{}", n >> 14, n >> 11 & 7, n >> 7 & 0xf, n >> 3 & 0xf, n & 7)
    }
}
