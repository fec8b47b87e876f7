//! Faults and panics: a report, and the end.

use crate::{
    arch::{self, TrapFrame},
    backtrace::{Backtrace, Code},
    console::print_urgently,
    percore, platform,
    syndrome::Syndrome,
};
use core::{
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};
use hv_abi::{exit::Fault, ids::VcpuId};

/// The core that reports first has the console; the others stop.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Prints on the way down.
macro_rules! report {
    ($format:literal $(, $argument:expr)*) => {
        print_urgently(format_args!(concat!($format, "\n") $(, $argument)*))
    };
}

const VECTORS: [&str; 4] = ["synchronous exception", "IRQ", "FIQ", "SError"];
const SOURCES: [&str; 4] =
    ["this level with SP_EL0", "this level", "a lower level", "a lower level in AArch32"];

/// Takes the right to report. Does not return if another core has it, or if this core was at it already.
fn begin() {
    let again = percore::this().reporting.swap(true, Ordering::AcqRel);
    if again {
        report!("panic: a fault while a fault was reported");
        power_off();
    }
    if REPORTING.swap(true, Ordering::AcqRel) {
        arch::halt();
    }
    for core in
        percore::all().iter().filter(|core| core.is_online() && core.index() != percore::this().index())
    {
        core.interrupt();
    }
}

/// On a core that another one has interrupted: stops it if that one has failed.
#[inline]
pub(crate) fn stop_if_failed() {
    if REPORTING.load(Ordering::Relaxed) {
        arch::halt();
    }
}

fn power_off() -> ! {
    report!("@exit status=1");
    platform::platform().power_off()
}

/// Prints the frame's registers, four to a line.
fn registers(frame: &TrapFrame) {
    for (row, values) in frame.x[..28].chunks(4).enumerate() {
        let n = row * 4;
        let [a, b, c, d] = [values[0], values[1], values[2], values[3]];
        report!(
            "  x{:<2} {:016x}  x{:<2} {:016x}  x{:<2} {:016x}  x{:<2} {:016x}",
            n,
            a,
            n + 1,
            b,
            n + 2,
            c,
            n + 3,
            d
        );
    }
    report!(
        "  x28 {:016x}  x29 {:016x}  x30 {:016x}  sp  {:016x}",
        frame.x[28],
        frame.x[29],
        frame.x[30],
        frame.sp
    );
}

/// A fault, from `vectors.S`: which of the sixteen vectors, with syndrome and fault address.
#[unsafe(no_mangle)]
extern "C" fn lwk_fault(frame: &TrapFrame, vector: usize, esr: u64, far: u64) -> ! {
    begin();
    let syndrome = Syndrome(esr);
    let core = percore::this().index();
    let (kind, source) = (VECTORS[vector % 4], SOURCES[vector / 4 % 4]);
    report!("panic: unexpected {} from {} on core {}", kind, source, core);
    if vector.is_multiple_of(4) || vector % 4 == 3 {
        report!("  {} (ESR {:#x})", syndrome, esr);
    }
    if syndrome.has_address() {
        report!("  address {:#018x}", far);
    }
    report!("  PSTATE {:#x} at {}", frame.pstate, Code(frame.pc));
    report!("  called from {}", Code(frame.x[30].wrapping_sub(4)));
    registers(frame);
    print_urgently(format_args!("{}", Backtrace { pc: Some(frame.pc), frame: frame.x[29] as usize }));
    power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    arch::mask_interrupts();
    let backtrace = Backtrace::here();
    begin();
    let place = info.location();
    let (file, line) = place.map_or(("?", 0), |place| (place.file(), place.line()));
    report!("panic: {} at {}:{}", info.message(), file, line);
    print_urgently(format_args!("{backtrace}"));
    power_off()
}

/// Ends with a sentence: something outside of this kernel is not as it must be.
pub fn fatal(sentence: core::fmt::Arguments<'_>) -> ! {
    arch::mask_interrupts();
    begin();
    print_urgently(format_args!("fatal: {sentence}\n"));
    power_off()
}

/// Says why a VM was stopped, on one line that names it and a few that explain.
pub(crate) fn vm_report(name: &str, vcpu: VcpuId, fault: &Fault) {
    let syndrome = Syndrome(fault.syndrome);
    crate::println!("{name} (vCPU {}) was aborted: {syndrome}", vcpu.index.0);
    crate::println!("{name}: ESR {:#x} PC {:#x}", fault.syndrome, fault.pc);
    if syndrome.has_address() {
        crate::println!("{name}: address {:#x} IPA {:#x}", fault.address, fault.ipa);
    }
}
