//! Interrupts: taken, handed on, ended.

use crate::{
    fault, percore,
    platform::{Interrupt, platform},
    primary, task, watch,
};
use core::sync::atomic::Ordering;

/// An IRQ, from `vectors.S`, with everything saved and interrupts masked. Returns whether another task may
/// have had the core.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn lwk_interrupt() -> bool {
    let platform = platform();
    let core = percore::this();
    while let Some(taken) = platform.take_interrupt() {
        core.interrupts.store(core.interrupts.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        match taken.interrupt {
            Interrupt::Timer => {
                let now = platform.counter();
                core.last_timer.store(now, Ordering::Relaxed);
                core.scheduler.timer(now);
            }
            Interrupt::Ipi => {
                fault::stop_if_failed();
                if core.watch.answer() {
                    watch::report_here(core);
                }
                core.scheduler.look();
            }
            Interrupt::Schedule => primary::ring(),
            Interrupt::Unknown(number) => log::warn!("unexpected interrupt {number}: no handler"),
        }
        platform.end_interrupt(taken);
    }
    task::preempt_if_due(core)
}
