//! What a kernel's own paths cost, in ticks of the counter.
//!
//! Each path is measured many times and the least is reported: with one instruction a tick (QEMU,
//! `-icount shift=0`, a 1 GHz counter) all are nearly the same, and on hardware the least is the undisturbed
//! one. Nothing is subtracted: the two reads of the counter are in the figure, one read being an `isb` and an
//! `mrs`.

use crate::hostile::clock::Clock;
use alloc::sync::Arc;
use core::{
    arch::asm,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use hv_abi::{
    ffa,
    guest::{self, messages},
    ids::VmId,
};
use lwk_core::{
    app::{App, Status},
    arch, memory,
    percore::{self, CoreIndex},
    println,
    task::{self, Handle},
    time,
};

/// How often a path is measured.
const ROUNDS: u32 = 1000;

/// Prints the cost of a path.
pub fn report(path: &str, ticks: u64) {
    println!("@bench path={path} instructions={ticks}");
}

/// The least that `path` costs in many rounds. Out of line, so that what the caller does besides decides
/// nothing about the registers here.
#[inline(never)]
pub fn least(mut path: impl FnMut()) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let start = time::stopwatch();
        path();
        least = least.min(time::stopwatch().wrapping_sub(start));
    }
    least
}

/// The paths of a native kernel: counter, task switch, timer interrupt.
pub fn kernel(app: &App) -> bool {
    report("boot-to-main", time::stopwatch().wrapping_sub(app.entry_ticks()));
    report("counter-read", least(|| ()));
    report("context-switch", context_switch());
    report("yield-alone", least(task::yield_now));
    report("native-timer-interrupt", timer_interrupt());
    true
}

/// From one task's yield to the other task after its own: the least of many turns. One switch, with the
/// scheduler.
pub fn context_switch() -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let core = task::current().core();
    let partner = {
        let (stop, left) = (stop.clone(), left.clone());
        task::spawn(core, "partner", move || {
            while !stop.load(Ordering::Relaxed) {
                left.store(time::stopwatch(), Ordering::Relaxed);
                task::yield_now();
            }
        })
    };
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        task::yield_now();
        least = least.min(time::stopwatch().wrapping_sub(left.load(Ordering::Relaxed)));
    }
    stop.store(true, Ordering::Relaxed);
    partner.join();
    least
}

/// The payload of a direct message that ends a server's work.
pub const STOP: u64 = u64::MAX;

/// Answers direct messages until one says [`STOP`].
fn answer() {
    let me = guest::id_get().unwrap_or(VmId::HYPERVISOR);
    let mut regs = guest::msg_wait();
    loop {
        let [function, ids, _, word, ..] = regs.0;
        let from = VmId((ids >> 16) as u16);
        regs = match function as u32 {
            ffa::MSG_SEND_DIRECT_REQ_64 if word == STOP => {
                // An answer would wait for the next message.
                guest::yield_now();
                return;
            }
            ffa::MSG_SEND_DIRECT_REQ_64 => messages::direct_response(me, from, [word + 1, 0, 0, 0, 0]),
            _ => guest::msg_wait(),
        };
    }
}

/// The program of a VM that is measured: it yields, then answers, until the primary has measured that, then
/// measures itself.
pub fn guest(app: &App) -> Status {
    if app.cores() > 1 {
        report("ipi", inter_core_interrupt());
        return Status::SUCCESS;
    }
    if let Some(path) = app.command_line().get("device") {
        report(path, device_interrupt());
        return Status::SUCCESS;
    }
    let yields = app.command_line().number("yields").unwrap_or(4 * ROUNDS);
    for _ in 0..yields {
        guest::yield_now();
    }
    if app.command_line().has("answers") {
        answer();
    }
    report("hypercall-secondary", least(|| _ = guest::id_get()));
    report("guest-context-switch", context_switch());
    report("timer-interrupt", timer_interrupt());
    Status::SUCCESS
}

/// From a core's interrupting another one, which executes, to that one's having handled it and gone on.
///
/// Where QEMU executes one core at a time (`-icount`), `yield` lets the other one go on: so the figure is
/// what both execute, besides a few instructions of the loops.
fn inter_core_interrupt() -> u64 {
    let Some(there) = percore::get(CoreIndex(1)) else {
        println!("there is no other core to interrupt");
        return 0;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let spinner = {
        let stop = stop.clone();
        task::spawn(there.index(), "spinner", move || {
            while !stop.load(Ordering::Relaxed) {
                yield_processor();
            }
        })
    };
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let before = there.interrupts();
        let start = time::stopwatch();
        there.interrupt();
        while there.interrupts() == before {
            yield_processor();
        }
        least = least.min(time::stopwatch().wrapping_sub(start));
    }
    stop.store(true, Ordering::Relaxed);
    spinner.join();
    least
}

/// From the end of a device's interrupt, which the device asks for all the time, to its being taken again.
fn device_interrupt() -> u64 {
    let Some(clock) = Clock::find() else {
        println!("there is no clock that interrupts");
        return 0;
    };
    let masked = arch::mask_interrupts();
    let intid = clock.storm(true);
    let take = || while guest::any_interrupt_get() != Some(intid) {};
    guest::device_interrupt_enable(intid, true);
    take();
    let least = least(|| {
        guest::device_interrupt_end(intid);
        take();
    });
    clock.storm(false);
    guest::device_interrupt_end(intid);
    arch::restore_interrupts(masked);
    least
}

/// The instruction `yield` (Arm ARM, C6.2).
fn yield_processor() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// The program of a VM with list registers that is measured.
pub fn guest_lists(app: &App) -> Status {
    if app.cores() > 1 {
        report("lists-ipi", inter_core_interrupt());
    } else {
        report("lists-timer-interrupt", timer_interrupt());
    }
    Status::SUCCESS
}

/// The program of a VM with a virtual GIC that is measured.
pub fn guest_gic(app: &App) -> Status {
    if app.cores() > 1 {
        report("gic-ipi", inter_core_interrupt());
        return Status::SUCCESS;
    }
    report("gic-timer-interrupt", timer_interrupt());
    let Some(gicd) = app.machine().gic_v3().and_then(|gic| memory::map_device(gic.gicd).ok()) else {
        println!("there is no distributor to read");
        return Status::FAILURE;
    };
    // GICD_TYPER.
    let typer = core::ptr::with_exposed_provenance::<u32>(gicd + 4);
    report(
        "distributor-read",
        least(|| {
            // SAFETY: a register of the distributor, mapped as a device, whose reading changes nothing.
            unsafe { typer.read_volatile() };
        }),
    );
    Status::SUCCESS
}

/// From a timer's deadline to the counter that its handler reads: entry, saving all registers, acknowledging.
pub fn timer_interrupt() -> u64 {
    const AHEAD_NS: u64 = 100_000;
    const TURNS: usize = 200;
    let core = percore::this();
    let deadline = Arc::new(AtomicU64::new(0));
    let sleeper: Handle = {
        let deadline = deadline.clone();
        task::spawn(core.index(), "sleeper", move || {
            for _ in 0..TURNS {
                let at = time::after_ns(AHEAD_NS);
                deadline.store(at, Ordering::Relaxed);
                task::sleep_until(at);
                // The other task looks at what the handler has noted before this one sleeps again.
                task::park();
            }
        })
    };
    let mut least = u64::MAX;
    for _ in 0..TURNS {
        let before = core.last_timer();
        task::yield_now();
        // On a slow machine the deadline may pass before the sleeper sleeps: then there is no interrupt.
        let at = deadline.load(Ordering::Relaxed);
        let give_up = at.saturating_add(time::frequency().ns_to_ticks(AHEAD_NS));
        while core.last_timer() == before && time::ticks() < give_up {
            core::hint::spin_loop();
        }
        if core.last_timer() != before {
            least = least.min(core.last_timer().wrapping_sub(at));
        }
        sleeper.wake();
    }
    sleeper.join();
    least
}
