//! What each core has for itself.

use crate::{
    arch::{self, CoreStart},
    platform::platform,
    task::Scheduler,
    time,
    watch::{self, Watch},
};
use alloc::{boxed::Box, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU64, Ordering},
};
use machine::Mpidr;
use spin::Once;

/// A core, by its place among the enabled cores of the device tree. In a VM this is the vCPU's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoreIndex(pub u16);

impl fmt::Display for CoreIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The data of one core. Reached by [`this`] on the core itself, and by [`get`] from others.
#[repr(C)]
pub struct PerCore {
    /// Where fault reports run; the vectors read this.
    report_stack_top: AtomicPtr<u8>,
    index: AtomicU16,
    mpidr: AtomicU64,
    online: AtomicBool,
    /// It takes no new tasks, because it is to be switched off.
    leaving: AtomicBool,
    /// It has no tasks any more, and is to go.
    pub(crate) goes: AtomicBool,
    /// How it is started; the boot core is not.
    pub(crate) start: Once<&'static CoreStart>,
    /// This core is printing a fault report.
    pub(crate) reporting: AtomicBool,
    /// Interrupts taken, for statistics.
    pub(crate) interrupts: AtomicU64,
    /// The counter when the last timer interrupt was handled, for measurements.
    pub(crate) last_timer: AtomicU64,
    /// What it owes to cores that ask.
    pub(crate) watch: Watch,
    /// The core's tasks.
    pub(crate) scheduler: Scheduler,
}

/// For `vectors.S`.
pub(crate) const REPORT_STACK_OFFSET: usize = core::mem::offset_of!(PerCore, report_stack_top);

/// The core that boots; `boot.S` puts its address into `TPIDR_EL1` before the first line of Rust.
#[unsafe(export_name = "LWK_BOOT_CORE")]
static BOOT_CORE: PerCore =
    PerCore::new(CoreIndex(0), AtomicPtr::new((&raw const arch::__report_stack_top).cast_mut()));

/// Size of a core's report stack.
const REPORT_STACK: usize = 16 << 10;

static CORES: Once<Box<[&'static PerCore]>> = Once::new();

impl PerCore {
    const fn new(index: CoreIndex, report_stack_top: AtomicPtr<u8>) -> Self {
        Self {
            report_stack_top,
            index: AtomicU16::new(index.0),
            mpidr: AtomicU64::new(0),
            online: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            goes: AtomicBool::new(false),
            start: Once::new(),
            reporting: AtomicBool::new(false),
            interrupts: AtomicU64::new(0),
            last_timer: AtomicU64::new(0),
            watch: Watch::new(),
            scheduler: Scheduler::new(),
        }
    }

    /// Which core this is.
    pub fn index(&self) -> CoreIndex {
        CoreIndex(self.index.load(Ordering::Relaxed))
    }

    /// Returns whether the kernel was entered on this core.
    pub(crate) fn is_boot_core(&self) -> bool {
        core::ptr::eq(self, &raw const BOOT_CORE)
    }

    /// Returns the affinity of the core.
    pub fn mpidr(&self) -> Mpidr {
        Mpidr::new(self.mpidr.load(Ordering::Relaxed))
    }

    /// Returns whether it runs tasks.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Returns whether it takes new tasks.
    pub fn takes_tasks(&self) -> bool {
        self.is_online() && !self.is_leaving()
    }

    /// Returns whether it is to be switched off.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Returns whether it has no tasks any more, and is to go.
    pub(crate) fn goes(&self) -> bool {
        self.goes.load(Ordering::Acquire)
    }

    pub(crate) fn set_leaving(&self, leaving: bool) -> bool {
        self.leaving.swap(leaving, Ordering::AcqRel)
    }

    pub(crate) fn set_online(&self, online: bool) {
        self.online.store(online, Ordering::Release);
    }

    /// Interrupts that the core has taken since boot.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    /// The counter when the core's last timer interrupt was handled.
    pub fn last_timer(&self) -> u64 {
        self.last_timer.load(Ordering::Relaxed)
    }

    /// Interrupts the core, which then checks its queue. A core that has not answered for too long is
    /// reported.
    pub fn interrupt(&self) {
        if let Some(since) = self.watch.ask(time::stopwatch()) {
            watch::overdue(self, since);
        }
        platform().send_ipi(self.index(), self.mpidr());
    }
}

impl fmt::Debug for PerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerCore({})", self.index())
    }
}

/// The data of the core that executes this. Tasks stay on their core, so the answer stays right.
#[inline]
pub fn this() -> &'static PerCore {
    // SAFETY: TPIDR_EL1 is set by `boot.S` before any Rust runs on the core, to a `PerCore` that lives for
    // ever.
    unsafe { &*arch::per_core() }
}

/// Makes the data of all cores, in the device tree's order; this core is the one with the affinity `boot`.
#[expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]
pub(crate) fn init(boot: Mpidr, all: Vec<Mpidr>) {
    let mut cores = Vec::new();
    for (index, mpidr) in (0..).map(CoreIndex).zip(all) {
        let core = if mpidr == boot {
            BOOT_CORE.index.store(index.0, Ordering::Relaxed);
            &BOOT_CORE
        } else {
            let report = crate::memory::Stack::new(REPORT_STACK).expect("memory for a core's stack at boot");
            let top = core::ptr::with_exposed_provenance_mut(report.top());
            core::mem::forget(report);
            &*Box::leak(Box::new(PerCore::new(index, AtomicPtr::new(top))))
        };
        core.mpidr.store(mpidr.raw(), Ordering::Relaxed);
        cores.push(core);
    }
    CORES.call_once(|| cores.into_boxed_slice());
}

/// All cores, by index. Empty until memory is up.
pub fn all() -> &'static [&'static PerCore] {
    CORES.get().map_or(&[], |cores| cores)
}

/// The core with this index.
pub fn get(index: CoreIndex) -> Option<&'static PerCore> {
    all().get(index.0 as usize).copied()
}
