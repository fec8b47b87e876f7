//! Power functions.

use crate::{Map, PowerPart};
use core::{
    arch::asm,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use drivers_power::{MmioBlock, bcm2835::PowerManagement, spin_table};
use hv_abi::{SMCCC_NOT_SUPPORTED, psci, psci::Status};
use hv_core::{
    board::physical,
    machine::{EnableMethod, Machine},
};

/// Firmware answers PSCI calls.
#[derive(Debug)]
pub struct Psci;

// SAFETY: does nothing.
unsafe impl PowerPart for Psci {
    const EARLY_STOP: bool = true;

    fn devices(_: &Machine<'_>, _: Map<'_>) {}
    fn memory(_: &Machine<'_>, _: Map<'_>) {}

    fn call(_: u32, _: [u64; 3]) -> u64 {
        SMCCC_NOT_SUPPORTED
    }
}

/// Firmware answers nothing: cores are released from a spin table, once, and wait in the hypervisor
/// afterwards while they are off; the watchdog of BCM2835 and its successors stops the machine.
#[derive(Debug)]
pub struct SpinTable;

/// A core that can be started.
struct Core {
    mpidr: AtomicU64,
    /// Physical address of its word in the spin table.
    release: AtomicU64,
    state: AtomicU32,
}

/// Firmware has it.
const FRESH: u32 = 0;
const ON: u32 = 1;
/// It waits in [`park`].
const PARKED: u32 = 2;
/// It is to leave [`park`], or not to stay there.
const CALLED: u32 = 3;

static CORES: [Core; spin_table::MAX_CORES] = [const {
    Core { mpidr: AtomicU64::new(u64::MAX), release: AtomicU64::new(0), state: AtomicU32::new(FRESH) }
}; spin_table::MAX_CORES];
/// Where the power-management block is; 0 if there is none.
static BLOCK: AtomicU64 = AtomicU64::new(0);

const COMPATIBLE: &str = "brcm,bcm2835-pm-wdt";

fn find(mpidr: u64) -> Option<&'static Core> {
    CORES.iter().find(|core| core.mpidr.load(Ordering::Acquire) == mpidr)
}

/// The affinity of the calling core.
fn this() -> u64 {
    let mpidr: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags)) };
    mpidr & 0xff_00ff_ffff
}

fn for_each_release(machine: &Machine<'_>, each: &mut dyn FnMut(u64, u64)) {
    for core in machine.cores().filter(|core| core.enabled) {
        if let EnableMethod::SpinTable { release_addr } = core.enable_method {
            each(core.mpidr.raw(), release_addr);
        }
    }
}

/// `CPU_ON`.
fn start(mpidr: u64, entry: u64, context: u64) -> Status {
    let Some(core) = find(mpidr) else { return Status::InvalidParameters };
    if mpidr == this() {
        return Status::AlreadyOn;
    }
    if core.state.compare_exchange(FRESH, ON, Ordering::AcqRel, Ordering::Acquire).is_err() {
        core.state.store(CALLED, Ordering::Release);
        // SAFETY: wakes cores that wait.
        unsafe { asm!("dsb ish", "sev", options(nostack, preserves_flags)) };
        return Status::Success;
    }
    let word = core::ptr::with_exposed_provenance_mut(core.release.load(Ordering::Relaxed) as usize);
    let trampoline = physical(spin_table::trampoline());
    // SAFETY: the word is the core's own, by the device tree, and mapped where it is; the core has not been
    // released, since its state was `FRESH`; entry and context are `hv-core`'s.
    let started = unsafe { spin_table::start(word, trampoline, mpidr, entry, context) };
    if started.is_ok() { Status::Success } else { Status::InternalFailure }
}

/// `CPU_OFF`: returns when the core is switched on again.
fn park() -> Status {
    let Some(core) = find(this()) else { return Status::Denied };
    // Fails if it has been called back in the meantime.
    for expected in [FRESH, ON] {
        let _ = core.state.compare_exchange(expected, PARKED, Ordering::AcqRel, Ordering::Acquire);
    }
    while core.state.compare_exchange(CALLED, ON, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: waits.
        unsafe { asm!("wfe", options(nomem, nostack, preserves_flags)) };
    }
    Status::Success
}

fn affinity(mpidr: u64) -> u64 {
    match find(mpidr).map(|core| core.state.load(Ordering::Acquire)) {
        None => Status::InvalidParameters.bits(),
        Some(FRESH | PARKED) if mpidr != this() => psci::AFFINITY_OFF,
        Some(CALLED) => psci::AFFINITY_ON_PENDING,
        Some(_) => psci::AFFINITY_ON,
    }
}

/// Stops or resets the machine, in a moment.
fn stop(reset: bool) -> u64 {
    let block = BLOCK.load(Ordering::Relaxed);
    if block == 0 {
        return SMCCC_NOT_SUPPORTED;
    }
    // SAFETY: where the device tree says that it is, mapped as a device there.
    let block = PowerManagement(unsafe { MmioBlock::new(block as usize) });
    if reset {
        block.reset();
    } else {
        block.halt();
    }
    loop {
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}

// SAFETY: of the spin table, whose memory is kept from the VMs, a core's word is written once; the watchdog
// resets the machine.
unsafe impl PowerPart for SpinTable {
    const EARLY_STOP: bool = false;

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        let mut places = CORES.iter();
        for_each_release(machine, &mut |mpidr, release| {
            if let Some(core) = places.next() {
                core.release.store(release, Ordering::Relaxed);
                core.mpidr.store(mpidr, Ordering::Release);
                map(release, 8);
            }
        });
        if let Some(block) = machine.device(COMPATIBLE) {
            BLOCK.store(block.base, Ordering::Relaxed);
            map(block.base, block.size);
        }
    }

    fn memory(machine: &Machine<'_>, keep: Map<'_>) {
        for_each_release(machine, &mut |_, release| keep(release, 8));
    }

    fn call(function: u32, [a, b, c]: [u64; 3]) -> u64 {
        match function {
            psci::VERSION => psci::VERSION_1_1,
            psci::CPU_ON_64 => start(a, b, c).bits(),
            psci::CPU_OFF => park().bits(),
            psci::AFFINITY_INFO | psci::AFFINITY_INFO_64 => affinity(a),
            psci::SYSTEM_OFF => stop(false),
            psci::SYSTEM_RESET => stop(true),
            _ => SMCCC_NOT_SUPPORTED,
        }
    }
}
