//! From the first line of Rust to the application.

use crate::{
    app::App,
    arch,
    cmdline::CommandLine,
    console,
    fault::fatal,
    logging,
    memory::{self, DEVICE_TREE, Phys},
    percore,
    platform::{self, PlatformError},
    smp,
    task::{self, PolicyKind},
    time, watch,
};
use alloc::{boxed::Box, vec::Vec};
use core::fmt::Arguments;
use machine::{Machine, Mpidr, Region};

/// What is mapped of the device tree: two blocks of 2 MiB.
const DEVICE_TREE_WINDOW: usize = 4 << 20;
/// Length of a device tree's header (DT specification, 5.2).
const HEADER: usize = 40;
/// A task's quantum if others wait, unless `quantum-ms=` says otherwise.
const QUANTUM_MS: u64 = 100;
/// Stack of the application's first task.
const MAIN_STACK: usize = 1 << 20;

/// The scheduling policy: `policy=round-robin|pinned|fifo|share|edf`, `quantum-ms=`.
fn policy(line: CommandLine<'_>) -> PolicyKind {
    // A quantum of nothing would be nothing but interrupts.
    let ms = line.number("quantum-ms").filter(|ms| *ms > 0).unwrap_or(QUANTUM_MS);
    let quantum = time::frequency().ns_to_ticks(ms.saturating_mul(1_000_000));
    match line.get("policy") {
        Some("round-robin") | None => PolicyKind::RoundRobin { quantum },
        Some("pinned") => PolicyKind::Pinned,
        Some("fifo") => PolicyKind::Fifo,
        Some("share") => PolicyKind::Share { quantum },
        Some("edf") => PolicyKind::Edf { quantum },
        Some(other) => fatal(format_args!("there is no scheduling policy {other}")),
    }
}

/// The cores to use, in the device tree's order: all that are enabled, or `cores=N` of them, the one that
/// this runs on among them.
#[expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]
fn cores(machine: &Machine<'_>, line: CommandLine<'_>) -> Vec<Mpidr> {
    let boot = arch::mpidr();
    let mut cores: Vec<_> = machine.cores().filter(|core| core.enabled).map(|core| core.mpidr).collect();
    cores.truncate(line.number("cores").filter(|count| *count > 0).unwrap_or(usize::MAX));
    if !cores.contains(&boot) {
        cores.pop();
        cores.push(boot);
    }
    cores
}

/// The device tree, in the window that `boot.S` has mapped.
fn device_tree(dtb: Phys) -> Option<&'static [u8]> {
    let offset = dtb.0 as usize & 0x1f_ffff;
    let start = core::ptr::with_exposed_provenance::<u8>(DEVICE_TREE + offset);
    // SAFETY: the window is mapped, holds what the boot loader put there, and is at least 2 MiB from `start`
    // on. The final tables map the tree at the same place, and nothing writes to it.
    let header = unsafe { core::slice::from_raw_parts(start, HEADER) };
    let size = Machine::dtb_size(header)?;
    // SAFETY: as above; the size has been checked against the window.
    (offset + size <= DEVICE_TREE_WINDOW).then(|| unsafe { core::slice::from_raw_parts(start, size) })
}

/// Ends before there is a console on a bare machine: a VM's console works at once.
fn early_fatal(sentence: Arguments<'_>) -> ! {
    fatal(sentence)
}

/// The first Rust function, from `boot.S`: on the boot core, on the early tables, interrupts masked. Physical
/// addresses of the device tree and of the image, and the counter at entry.
#[expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]
#[unsafe(no_mangle)]
extern "C" fn lwk_boot(dtb: u64, image: u64, entry_ticks: u64) -> ! {
    let (dtb, image) = (Phys(dtb), Phys(image));
    let Some(tree) = device_tree(dtb) else {
        early_fatal(format_args!("there is no device tree at {:#x}", dtb.0));
    };
    let machine = match Machine::from_dtb(tree) {
        Ok(machine) => machine,
        Err(error) => early_fatal(format_args!("{error}")),
    };
    let line = CommandLine::new(machine.bootargs().unwrap_or(""));
    logging::init(line);
    log::debug!("command line: {}", line.as_str());
    let memory = memory::init(&machine, image, dtb);

    let platform = platform::platform();
    let map = &mut |region: Region| {
        memory::map_device(region).map_err(|_| PlatformError("a device's registers cannot be mapped"))
    };
    if let Err(error) = platform.init(&machine, map) {
        fatal(format_args!("{error}"));
    }
    console::came_up();
    if let Err(error) = memory {
        fatal(format_args!("{error}"));
    }
    if machine.timer().is_some_and(|timer| timer.allwinner_erratum) {
        if vtimer::WORKED_AROUND {
            log::info!("counter reads are repeated where this machine's may glitch");
        } else {
            log::warn!("this machine's counter may glitch, and this kernel is built without `allwinner`");
        }
    }
    if !time::init(machine.timer().and_then(|timer| timer.clock_frequency)) {
        fatal(format_args!("the counter's frequency is not known"));
    }
    watch::init(line.number("watch-ms").unwrap_or(watch::PATIENCE_MS));
    percore::init(arch::mpidr(), cores(&machine, line));
    let policy = policy(line);
    let core = percore::this();
    if let Err(error) = platform.init_core(core.mpidr()) {
        fatal(format_args!("core {}: {error}", core.index()));
    }
    for core in percore::all() {
        core.scheduler.set_policy(core, policy).expect("a policy takes no tasks at all");
    }
    task::adopt_idle(core);
    #[cfg(programs)]
    crate::user::init_core();
    core.set_online(true);
    line.check(cfg!(programs), &mut |word, expected| log::warn!("command line: ignoring {word}: {expected}"));
    log::info!(
        "Margay LWK {} on a {}: {} cores, {} MiB free",
        env!("CARGO_PKG_VERSION"),
        platform.name(),
        percore::all().len(),
        memory::free_bytes() >> 20
    );
    let app = App::new(Box::leak(Box::new(machine)), line, entry_ticks);
    task::spawn_with_stack(core.index(), "main", MAIN_STACK, move || {
        smp::start();
        app.run();
    });
    task::idle(core)
}
