//! An image that measures itself: how long each call, trap and interrupt keeps a core, with interrupts masked all that time.
//!
//! With QEMU's `-icount shift=0`, a counter of 1 GHz and one core, a tick of the counter is an instruction, and every run gives the same
//! numbers. What is not in them are the instructions of `vectors.S` before the first and after the last line of Rust: [`ASSEMBLY`] at most.
//! The scenarios in `tests/bounds.toml` let guests do their worst. In all other images the condition is a constant, and nothing is left of this.

use crate::{arch, board, console, service};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use plain_numbers::{Dec, Hex};

/// Instructions of `vectors.S` around a handler and a switch.
const ASSEMBLY: u32 = 150;

/// When the core was entered from a VM.
static ENTERED: AtomicU64 = AtomicU64::new(0);
/// The longest of each call, by its row.
static CALLS: [AtomicU32; service::ROWS] = [const { AtomicU32::new(0) }; service::ROWS];
static TRAPS: AtomicU32 = AtomicU32::new(0);
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
/// The longest of all of them, with the switch to another vCPU that may follow.
static MASKED: AtomicU32 = AtomicU32::new(0);

fn now() -> u64 {
    arch::isb();
    arch::counter_now()
}

/// Notes how long it is since the core was entered.
#[cold]
#[inline(never)]
fn note(longest: &AtomicU32) {
    let ticks = now().wrapping_sub(ENTERED.load(Ordering::Relaxed)) as u32;
    longest.fetch_max(ticks, Ordering::Relaxed);
    MASKED.fetch_max(ticks.saturating_add(ASSEMBLY), Ordering::Relaxed);
}

/// A VM has been left for the hypervisor.
#[inline(always)]
pub(crate) fn entered() {
    if board::is_measured() {
        ENTERED.store(now(), Ordering::Relaxed);
    }
}

/// A call has been handled.
#[inline(always)]
pub(crate) fn call(function: u32) {
    if board::is_measured()
        && let Some(longest) = service::row(function).and_then(|row| CALLS.get(row))
    {
        note(longest);
    }
}

/// A trap that is no call by `HVC` has been handled.
#[inline(always)]
pub(crate) fn trap() {
    if board::is_measured() {
        note(&TRAPS);
    }
}

/// A physical interrupt has been handled.
#[inline(always)]
pub(crate) fn interrupt() {
    if board::is_measured() {
        note(&INTERRUPTS);
    }
}

/// A switch has been made, with which ends what one of the others has begun.
#[inline(always)]
pub(crate) fn switch() {
    if board::is_measured() && ENTERED.load(Ordering::Relaxed) != 0 {
        note(&AtomicU32::new(0));
    }
}

/// Prints what has been measured, and whether it is within the bounds.
pub(crate) fn report() {
    if board::is_measured() {
        print();
    }
}

#[cold]
fn print() {
    let mut within = true;
    let mut tell = |name: Hex, longest: &AtomicU32, bound: u32| {
        let longest = longest.load(Ordering::Relaxed);
        within &= longest <= bound;
        if longest > 0 {
            let (longest, bound) = (Dec(longest.into()), Dec(bound.into()));
            console::print_at_once(format_args!("@longest path={name} instructions={longest} bound={bound}"));
        }
    };
    for (row, longest) in CALLS.iter().enumerate() {
        if let Some(function) = service::function(row) {
            tell(Hex(function.into()), longest, service::bound(function));
        }
    }
    // Not functions: what is no call.
    tell(Hex(0), &TRAPS, service::LONGEST);
    tell(Hex(1), &INTERRUPTS, service::LONGEST);
    let masked = MASKED.load(Ordering::Relaxed);
    within &= masked <= service::LONGEST;
    let ok = console::Text(if within { "yes" } else { "no" });
    console::print_at_once(format_args!("@check name=bounds ok={ok} masked={}", Dec(masked.into())));
}
