//! When nothing can go on: one sentence, or a full report, and the machine stops.

use crate::{arch, board, console};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use hv_abi::psci;
use plain_numbers::{Dec, Hex};

/// How firmware switches the machine off: 0 unknown, 1 SMC.
static POWER: AtomicU64 = AtomicU64::new(0);

/// Makes power-off by SMC known.
pub(crate) fn set_power_by_smc() {
    POWER.store(1, Ordering::Relaxed);
}

/// Says why and stops the machine.
pub(crate) fn fatal(why: fmt::Arguments<'_>) -> ! {
    console::print_at_once(format_args!("fatal: {why}"));
    power_off()
}

/// Switches the machine off, or stops this core for good.
pub(crate) fn power_off() -> ! {
    console::finish();
    if POWER.load(Ordering::Relaxed) == 1 {
        arch::smc([psci::SYSTEM_OFF.into(), 0, 0, 0, 0, 0, 0, 0]);
    }
    board::power(psci::SYSTEM_OFF, [0; 3]);
    arch::halt()
}

/// Registers x0 to x30 and SP, as `vectors.S` saves them for a report.
pub(crate) type Snapshot = [u64; 32];

/// An exception of the hypervisor itself: a bug, or a failing machine.
pub(crate) fn unexpected(vector: usize, registers: &Snapshot) -> ! {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if REPORTING.swap(true, Ordering::Relaxed) {
        arch::halt();
    }
    let [esr, elr, far, spsr] = arch::el2_fault();
    let line = console::print_at_once;
    line(format_args!("panic: an exception in the hypervisor, vector {}", Dec(vector as u64)));
    line(format_args!("  pc {}  esr {}  far {}  spsr {}", Hex(elr), Hex(esr), Hex(far), Hex(spsr)));
    for (number, value) in (0..).zip(registers) {
        // The last one is the stack pointer.
        line(format_args!("  x{} {}", Dec(number), Hex(*value)));
    }
    backtrace(elr, registers[31]);
    power_off()
}

/// What on the stack, from `sp` up, may be return addresses: newest first, perhaps with some that calls before have left. (Frame
/// records would tell exactly, and take a fortieth of the image and some of every path.)
pub(crate) fn backtrace(pc: u64, sp: u64) {
    let text = arch::image_layout();
    let image = crate::el2_map::image().0;
    console::print_at_once(format_args!(
        "  addresses of code on the stack, as linked; image at {}:",
        Hex(image)
    ));
    console::print_at_once(format_args!("    {}", Hex(pc)));
    let (mut at, mut left) = (sp.next_multiple_of(8), 24);
    while let Some(word) = arch::stack_word(at).filter(|_| left > 0) {
        if (text.start..text.text_end).contains(&word) {
            console::print_at_once(format_args!("    {}", Hex(word - 4)));
            left -= 1;
        }
        at += 8;
    }
}

/// A Rust panic of the hypervisor: a bug. Where it is, its ELF file's debug information says for the addresses; messages
/// and places of all panics that there might be would be an eighth of the image.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    if !PANICKING.swap(true, Ordering::Relaxed) {
        console::print_at_once(format_args!("panic: a bug in the hypervisor"));
        let (pc, sp) = arch::here();
        backtrace(pc, sp);
    }
    power_off()
}
