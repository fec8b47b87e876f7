//! Programs that fail on purpose, to see that a kernel says why: `workload=crash.KIND`.
//!
//! Each ends in a report and `@exit status=1`; one that goes on says `@check name=crash ok=no`.

use core::{
    fmt,
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use lwk_core::{
    arch,
    percore::{self, CoreIndex},
    println, task, time, watch,
};

/// A constant, in read-only memory.
static CONSTANT: u64 = 0x1234_5678;

/// Fails in the way called `kind`. Returns if there is no such way, or if it has no effect.
pub(crate) fn run(kind: &str) -> bool {
    println!("@check name=crash-started ok=yes kind={kind}");
    match kind {
        "panic" => panic!("as asked for"),
        "panic-beside-others" => {
            work_elsewhere();
            panic!("as asked for, {Others}");
        }
        "read" => {
            // SAFETY: none: the read faults, and that is the point.
            black_box(unsafe { core::ptr::with_exposed_provenance::<u64>(0x1000).read_volatile() });
        }
        "write-constant" => {
            // SAFETY: none: the write faults, because constants are read-only, and that is the point.
            unsafe { (&raw const CONSTANT).cast_mut().write_volatile(0) };
        }
        "write-code" => {
            let code = core::ptr::with_exposed_provenance_mut::<u32>(run as *const () as usize);
            // SAFETY: none: the write faults, because code is read-only, and that is the point.
            unsafe { code.write_volatile(0) };
        }
        "execute-data" => {
            let ret = [0xd65f_03c0_u32; 4];
            // SAFETY: none: the call faults, because stacks are not executable, and that is the point.
            unsafe { core::mem::transmute::<*const u32, extern "C" fn()>(black_box(ret.as_ptr()))() };
        }
        "stack" => {
            black_box(descend(0));
        }
        "undefined" => {
            // SAFETY: none: an undefined instruction, and that is the point.
            unsafe { core::arch::asm!("udf #0") };
        }
        "stuck" => return stuck(),
        _ => return false,
    }
    println!("@check name=crash ok=no kind={kind}");
    false
}

/// The runaway of [`stuck`] is to mask its interrupts.
static MASKED: AtomicBool = AtomicBool::new(false);

/// Core 1 runs for ever: with interrupts, where it can report its location, and then without, where it is
/// noticed that it does not answer. The others are not disturbed. Returns whether there are two cores.
fn stuck() -> bool {
    let Some(core) = lwk_core::percore::get(CoreIndex(1)) else { return false };
    task::spawn(core.index(), "runaway", runs_away);
    time::sleep_ms(50);
    watch::request_report(core);
    time::sleep_ms(50);
    println!("@check name=stuck-core-reports ok=yes");
    MASKED.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        time::sleep_ms(50);
        core.interrupt();
    }
    println!("@check name=stuck-core-is-noticed ok=yes");
    true
}

#[inline(never)]
fn runs_away() {
    while !MASKED.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
    arch::mask_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

/// What a task of another core has counted.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// Has another core count, and waits until it does.
fn work_elsewhere() {
    let other =
        percore::all().iter().find(|core| core.is_online() && core.index() != percore::this().index());
    let Some(other) = other else { return };
    task::spawn(other.index(), "counts", || {
        loop {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
    });
    while COUNTED.load(Ordering::Relaxed) == 0 {
        core::hint::spin_loop();
    }
}

/// Whether other cores still work, while a panic is printed.
struct Others;

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = || COUNTED.load(Ordering::Relaxed);
        // They may be a moment on the way to where they stop.
        let mut before = count();
        for _ in 0..100 {
            (0..100_000).for_each(|_| core::hint::spin_loop());
            let now = count();
            if now == before {
                return f.write_str(if now > 0 { "others have stopped" } else { "there are no others" });
            }
            before = now;
        }
        f.write_str("others work on")
    }
}

/// Goes down until there is no stack left.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
fn descend(depth: u64) -> u64 {
    let mut room = black_box([depth; 64]);
    room[0] = descend(depth + 1);
    room.iter().sum()
}
