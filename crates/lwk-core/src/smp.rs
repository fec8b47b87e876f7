//! The other cores: started at boot, switched off and on later.

use crate::{
    arch::{self, CoreStart},
    memory::{self, Phys, Stack},
    percore::{self, CoreIndex, PerCore},
    platform::{PlatformError, platform},
    sync::IrqMutex,
    task, time,
};
use alloc::boxed::Box;
use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

/// How long a core may take to come up. In a VM it waits for its turn.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How often that is looked at.
const LOOK_NS: u64 = 200_000;
/// Stack of a core's idle task.
const IDLE_STACK: usize = 32 << 10;

/// Starts all cores but this one, and waits until they take tasks. Returns how many cores do, this one
/// included.
pub(crate) fn start() -> usize {
    let others = || percore::all().iter().filter(|core| !core::ptr::eq(**core, percore::this()));
    let mut expected = 1;
    for core in others() {
        match start_core(core) {
            Ok(()) => expected += 1,
            Err(error) => log::warn!("core {} (affinity {}) stays off: {error}", core.index(), core.mpidr()),
        }
    }
    let deadline = time::after_ns(PATIENCE_NS);
    let online = || percore::all().iter().filter(|core| core.is_online()).count();
    while online() < expected && time::ticks() < deadline {
        task::sleep_until(time::after_ns(LOOK_NS));
    }
    if online() < expected {
        for core in others().filter(|core| !core.is_online()) {
            log::warn!("core {} does not come up", core.index());
        }
    }
    online()
}

#[expect(clippy::disallowed_methods, reason = "once for each core, at boot")]
fn start_core(core: &'static PerCore) -> Result<(), PlatformError> {
    // What it starts with, and the stack of its idle task, are the same each time.
    let start = core.start.call_once(|| {
        let stack = Stack::new(IDLE_STACK).expect("memory for a core's stack at boot");
        let stack_top = stack.top() as u64;
        core::mem::forget(stack);
        Box::leak(Box::new(CoreStart { root: memory::root().0, stack_top, per_core: core }))
    });
    arch::clean_to_memory(*start);
    let context = Phys::of_linear(core::ptr::from_ref(*start).cast()).expect("the heap is in the linear map");
    let entry = memory::image_phys(arch::secondary_entry());
    platform().start_core(core.mpidr(), entry.0, context.0)
}

/// The first Rust function of another core, from `boot.S`.
#[unsafe(no_mangle)]
extern "C" fn lwk_core_started() -> ! {
    memory::leave_identity_map();
    let core = percore::this();
    if let Err(error) = platform().init_core(core.mpidr()) {
        crate::fault::fatal(format_args!("core {}: {error}", core.index()));
    }
    task::adopt_idle(core);
    #[cfg(programs)]
    crate::user::init_core();
    core.set_online(true);
    task::idle(core)
}

/// Why a core is not switched off or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlugError {
    /// There is no such core, or it cannot be switched: the first one runs the kernel's own tasks.
    NoCore,
    /// The machine cannot do it.
    Unsupported,
    /// It is the caller's own, or has tasks that do not go elsewhere.
    Busy,
    /// It does not come up.
    Failed(PlatformError),
}

/// How long tasks may take to leave a core, and the core itself to go or come.
const LEAVE_NS: u64 = 2_000_000_000;

/// What makes tasks leave a core: of programs, of VMs.
static LEAVERS: IrqMutex<heapless::Vec<fn(CoreIndex), 2>> = IrqMutex::new(heapless::Vec::new());
/// One core is switched at a time.
static SWITCHING: AtomicBool = AtomicBool::new(false);

/// Adds something that makes tasks leave a core that takes no new ones.
pub(crate) fn on_leave(leaver: fn(CoreIndex)) {
    LEAVERS.lock().push(leaver).expect("there are two kinds of tasks that can leave");
}

/// Returns whether a core can be switched off at all.
pub fn can_be_unplugged(index: CoreIndex) -> bool {
    percore::get(index).is_some_and(|core| core.start.get().is_some()) && platform().can_stop_cores()
}

fn one_at_a_time<R>(f: impl FnOnce() -> Result<R, PlugError>) -> Result<R, PlugError> {
    if SWITCHING.swap(true, Ordering::Acquire) {
        return Err(PlugError::Busy);
    }
    let result = f();
    SWITCHING.store(false, Ordering::Release);
    result
}

/// Waits until something holds, for as long as a core may take.
fn soon(holds: impl Fn() -> bool) -> bool {
    let deadline = time::after_ns(LEAVE_NS);
    while !holds() {
        if time::ticks() >= deadline {
            return false;
        }
        task::sleep_until(time::after_ns(LOOK_NS));
    }
    true
}

/// Switches a core off: its tasks go to others first. Returns when it is off, or takes tasks as before.
///
/// # Errors
/// See [`PlugError`].
pub fn unplug(index: CoreIndex) -> Result<(), PlugError> {
    let core = percore::get(index).filter(|core| core.start.get().is_some()).ok_or(PlugError::NoCore)?;
    if !platform().can_stop_cores() {
        return Err(PlugError::Unsupported);
    }
    if core::ptr::eq(core, percore::this()) {
        return Err(PlugError::Busy);
    }
    one_at_a_time(|| {
        if !core.is_online() {
            return Ok(());
        }
        core.set_leaving(true);
        let leavers = LEAVERS.lock().clone();
        // Tasks that were on their way there are sent on as well.
        let is_empty = || {
            leavers.iter().for_each(|leaver| leaver(index));
            core.scheduler.is_empty()
        };
        if !soon(is_empty) {
            core.set_leaving(false);
            return Err(PlugError::Busy);
        }
        core.goes.store(true, Ordering::Release);
        core.interrupt();
        let gone = soon(|| !core.is_online());
        core.goes.store(false, Ordering::Release);
        core.set_leaving(false);
        if !gone {
            return Err(PlugError::Unsupported);
        }
        log::info!("core {index} is off");
        Ok(())
    })
}

/// Switches a core on that was switched off. Returns when it takes tasks.
///
/// # Errors
/// See [`PlugError`].
pub fn plug(index: CoreIndex) -> Result<(), PlugError> {
    let core = percore::get(index).filter(|core| core.start.get().is_some()).ok_or(PlugError::NoCore)?;
    one_at_a_time(|| {
        if core.is_online() {
            return Ok(());
        }
        // Firmware may not have put it down yet.
        let outcome = Cell::new(Ok(()));
        let started = soon(|| {
            outcome.set(start_core(core));
            outcome.get().is_ok()
        });
        if !started {
            return Err(outcome.get().map_or_else(PlugError::Failed, |()| PlugError::Busy));
        }
        if !soon(|| core.is_online()) {
            return Err(PlugError::Failed(PlatformError("it does not come up")));
        }
        log::info!("core {index} is on");
        Ok(())
    })
}

/// On a core that has no tasks any more: goes, interrupts masked. Returns if it cannot.
#[cold]
pub(crate) fn go(core: &PerCore) {
    platform().set_timer(None);
    core.set_online(false);
    let error = platform().stop_core();
    core.goes.store(false, Ordering::Release);
    core.set_online(true);
    log::error!("core {} stays on: {error}", core.index());
}
