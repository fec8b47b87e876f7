//! The other cores.

use crate::{
    arch::{self, CoreStart},
    memory::{self, Phys, Stack},
    percore::{self, PerCore},
    platform::platform,
    task, time,
};
use alloc::boxed::Box;

/// How long a core may take to come up. In a VM it waits for its turn.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How often that is looked at.
const LOOK_NS: u64 = 200_000;
/// Stack of a core's idle task.
const IDLE_STACK: usize = 32 << 10;

/// Starts all cores but this one, and waits until they take tasks. Returns how many cores do, this one included.
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

fn start_core(core: &'static PerCore) -> Result<(), crate::platform::PlatformError> {
    let stack = Stack::new(IDLE_STACK);
    let start = Box::leak(Box::new(CoreStart {
        root: memory::root().0,
        stack_top: stack.top() as u64,
        per_core: core,
    }));
    core::mem::forget(stack);
    arch::clean_to_memory(start);
    let context = Phys::of_linear(core::ptr::from_ref(start).cast()).expect("the heap is in the linear map");
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
    core.set_online();
    task::idle(core)
}
