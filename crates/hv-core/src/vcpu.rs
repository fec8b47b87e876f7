//! A vCPU: its registers, its state, and who may touch which of them when.
//!
//! The state says who owns the registers. While it is [`VcpuState::Running`] they belong to the core that set it so;
//! while the vCPU is off, ready or blocked they belong to nobody, and whoever wins the exchange to `Running` takes
//! them. A core gives them up by *publishing* another state, and does so only after the last register has been saved.

use crate::{
    arch, bcm2836,
    board::SavedInterface,
    gic, lists,
    percore::Core,
    regs::{FpRegs, GpRegs, Keys, SysRegs},
    statistics::Statistics,
    vm::Vm,
};
use core::{
    cell::{Cell, UnsafeCell},
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use hv_abi::ids::{VcpuId, VcpuIndex, VmId};
use paravirt_irq::{BackEnd as _, Line as IrqLine, Listed, VcpuInterrupts};
use vm_lifecycle::{PackedState, RequestCell, StateCell};
pub(crate) use vm_lifecycle::{Request, VcpuState};

/// A line of console output that is not complete yet.
pub(crate) type Line = heapless::Vec<u8, 240>;

/// What else only the owning core touches.
struct Owned {
    fp: FpRegs,
    keys: Keys,
    line: Line,
    gic: SavedInterface,
    listed: Listed,
}

/// A virtual core of a VM.
#[repr(C)]
pub struct Vcpu {
    // First: vectors.S finds it through TPIDR_EL2.
    regs: UnsafeCell<GpRegs>,
    /// The column of the table of calls that is for its VM; `vectors.S` reads it.
    column: AtomicU64,
    /// Its VM's id; `vectors.S` reads it.
    vm_id: AtomicU64,
    // Near: two of them are saved or loaded by one instruction if they are within 504 bytes.
    sys: UnsafeCell<SysRegs>,
    /// The core that owns it, or did last. Belongs to that core.
    core: Cell<*const Core>,
    state: StateCell,
    /// The core whose FP/SIMD registers hold this vCPU's latest values, if its `fp_owner` is this vCPU.
    pub(crate) fp_core: AtomicU32,
    /// The direct request that it is working on.
    request: RequestCell,
    /// The number of the last direct request that it has sent. Belongs to the owning core; restarts do not reset it.
    last_request: AtomicU32,
    /// Notifications of VMs that are pending for this vCPU, and no other of its VM.
    pub(crate) notifications: AtomicU64,
    /// The scheduler has been told of them.
    pub(crate) reported: AtomicBool,
    /// How often it had been entered when `CPU_ON` started it.
    started: AtomicU64,
    /// What it has done so far.
    pub(crate) statistics: Statistics,
    /// Its interrupts.
    pub(crate) irqs: VcpuInterrupts,
    /// Its `HCR_EL2`: its VM's, with `VSE` while a virtual SError is pending for it, and with `KEYS` while its pointer authentication keys are in the registers of its core. A
    /// secondary's are only while it is loaded; the primary's stay until another vCPU on that core uses its own.
    /// Belongs to the owning core.
    pub(crate) hcr: Cell<u64>,
    /// The syndrome of the virtual SError that is pending for it, while `hcr` has `VSE`. Belongs to the owning core.
    pub(crate) virtual_serror: Cell<u64>,
    /// Its VM, from `attach` on. Not atomic, so that the compiler reads it once where several expressions want it.
    vm: Cell<*const Vm>,
    index: VcpuIndex,
    vmpidr: u64,
    owned: UnsafeCell<Owned>,
}

// SAFETY: the cells are only reached through `Loaded` and `Claimed`, of which there is at most one for a vCPU at a
// time, by the state protocol in the module's documentation; `hcr`, `virtual_serror` and `core` by the owning core; `vm` is written by boot
// before it starts another core or enters a VM.
unsafe impl Sync for Vcpu {}

pub(crate) const NO_CORE: u32 = u32::MAX;
impl Vcpu {
    /// A vCPU that is off.
    pub(crate) fn new(index: VcpuIndex, mpidr: u64) -> Self {
        Self {
            regs: UnsafeCell::new(GpRegs::new()),
            column: AtomicU64::new(0),
            vm_id: AtomicU64::new(0),
            sys: UnsafeCell::new(SysRegs::start()),
            core: Cell::new(core::ptr::null()),
            state: StateCell::new(VcpuState::Off),
            fp_core: AtomicU32::new(NO_CORE),
            request: RequestCell::new(None),
            last_request: AtomicU32::new(0),
            notifications: AtomicU64::new(0),
            reported: AtomicBool::new(false),
            started: AtomicU64::new(u64::MAX),
            statistics: Statistics::default(),
            irqs: VcpuInterrupts::new(),
            hcr: Cell::new(0),
            virtual_serror: Cell::new(0),
            vm: Cell::new(core::ptr::null()),
            index,
            // VMPIDR_EL2: bit 31 is RES1.
            vmpidr: mpidr | 1 << 31,
            owned: UnsafeCell::new(Owned {
                fp: FpRegs::new(),
                keys: Keys::default(),
                line: Line::new(),
                gic: SavedInterface::default(),
                listed: Listed::new(),
            }),
        }
    }

    /// Tells the vCPU whose it is; once, at boot.
    pub(crate) fn attach(&self, vm: &'static Vm) {
        self.hcr.set(vm.traps.hcr);
        self.column.store(crate::service::column(vm.kind) as u64, Ordering::Relaxed);
        self.vm_id.store(vm.id.0.into(), Ordering::Relaxed);
        self.vm.set(vm);
    }

    /// Its VM.
    #[inline]
    pub(crate) fn vm(&self) -> &'static Vm {
        // SAFETY: `attach` stored a reference of static lifetime before any VM ran.
        unsafe { &*self.vm.get() }
    }

    /// Its number within its VM.
    pub(crate) fn index(&self) -> VcpuIndex {
        self.index
    }

    /// Its name in calls and exits.
    #[inline(always)]
    pub(crate) fn id(&self) -> VcpuId {
        VcpuId { vm: self.vm().id, index: self.index }
    }

    /// The direct request that it is working on.
    pub(crate) fn request(&self) -> Option<Request> {
        self.request.get()
    }

    /// Notes the direct request that it is working on.
    pub(crate) fn set_request(&self, request: Request) {
        self.request.set(request);
    }

    /// It works on no direct request any more; returns the one that it worked on. Only one caller gets it.
    pub(crate) fn take_request(&self) -> Option<Request> {
        self.request.take()
    }

    /// If it works on a request of `vm`, which is gone, nobody will get the response.
    pub(crate) fn orphan_request(&self, vm: VmId) {
        self.request.orphan(vm);
    }

    /// The number for a direct request that it sends now. For the owning core.
    #[inline(always)]
    pub(crate) fn next_request(&self) -> u32 {
        let number = Request::number_after(self.last_request.load(Ordering::Relaxed));
        self.last_request.store(number, Ordering::Relaxed);
        number
    }

    /// What it shows in MPIDR_EL1.
    pub(crate) fn vmpidr(&self) -> u64 {
        self.vmpidr
    }

    /// Its affinity, as PSCI names it.
    pub(crate) fn affinity(&self) -> u64 {
        self.vmpidr & 0xff_00ff_ffff
    }

    /// Notes that `CPU_ON` starts it.
    pub(crate) fn note_start(&self) {
        self.started.store(self.statistics.entries(), Ordering::Relaxed);
    }

    /// Whether, if it is not off, it has been started by `CPU_ON` but never entered since.
    pub(crate) fn is_starting(&self) -> bool {
        self.started.load(Ordering::Relaxed) == self.statistics.entries()
    }

    /// What it is doing, as of now.
    #[inline(always)]
    pub(crate) fn state(&self) -> VcpuState {
        self.state.load()
    }

    /// Takes a vCPU that is in state `from`: if it still is, `core` owns it now.
    #[inline(always)]
    pub(crate) fn claim(&'static self, from: VcpuState, core: &'static Core) -> Option<Claimed> {
        if !self.state.claim(from, core.index) {
            return None;
        }
        self.core.set(core);
        Some(Claimed(self))
    }

    /// Takes it out of all cores' reach, if none owns it; returns whether it is. For the holder of its stopped VM's teardown token.
    pub(crate) fn park(&self) -> bool {
        self.state.park()
    }
}

/// A vCPU that this core owns but has not loaded: its registers are all in memory.
pub(crate) struct Claimed(&'static Vcpu);

impl Claimed {
    /// # Safety
    /// The caller is the core that owns the vCPU, and has saved its registers completely or not loaded them yet; or it holds the
    /// teardown token of the vCPU's VM, and the vCPU is parked.
    pub(crate) unsafe fn assume(vcpu: &'static Vcpu) -> Self {
        Self(vcpu)
    }

    pub(crate) fn vcpu(&self) -> &'static Vcpu {
        self.0
    }

    pub(crate) fn regs(&mut self) -> &mut GpRegs {
        // SAFETY: this core owns the vCPU (type invariant), and `self` is borrowed exclusively.
        unsafe { &mut *self.0.regs.get() }
    }

    pub(crate) fn sys(&mut self) -> &mut SysRegs {
        // SAFETY: as `regs`.
        unsafe { &mut *self.0.sys.get() }
    }

    pub(crate) fn fp(&mut self) -> &mut FpRegs {
        // SAFETY: as `regs`.
        unsafe { &mut (*self.0.owned.get()).fp }
    }

    pub(crate) fn keys(&mut self) -> &mut Keys {
        // SAFETY: as `regs`.
        unsafe { &mut (*self.0.owned.get()).keys }
    }

    pub(crate) fn gic(&mut self) -> &mut SavedInterface {
        // SAFETY: as `regs`.
        unsafe { &mut (*self.0.owned.get()).gic }
    }

    pub(crate) fn lists(&mut self) -> lists::Saved<'_> {
        // SAFETY: as `regs`.
        let owned = unsafe { &mut *self.0.owned.get() };
        (&mut owned.listed, &mut owned.gic)
    }

    /// Makes the vCPU as it is when it starts at `entry`, with `argument` in x0.
    pub(crate) fn reset(&mut self, entry: u64, argument: u64) {
        *self.regs() = GpRegs::start(entry, argument);
        *self.sys() = SysRegs::start();
        *self.fp() = FpRegs::new();
        *self.keys() = Keys::default();
        // What the vCPU has not ended is no part of a line of its next life. Not printed: a restart resets many vCPUs in one call.
        // SAFETY: as `regs`.
        unsafe { (*self.0.owned.get()).line.clear() };
        self.0.hcr.set(self.0.vm().traps.hcr);
        self.0.fp_core.store(NO_CORE, Ordering::Relaxed);
        self.0.request.clear();
        self.0.irqs.reset();
        if gic::is_possible() && self.0.vm().gic.is_some() {
            *self.gic() = SavedInterface::default();
            gic::enable_sources(self.0);
        }
        if bcm2836::of(self.0).is_some() {
            gic::enable_sources(self.0);
        }
        if lists::has(self.0.vm()) {
            let (listed, interface) = self.lists();
            (*listed, *interface) = Default::default();
        }
    }

    /// Gives the vCPU up.
    #[inline(always)]
    pub(crate) fn release(self, state: VcpuState) {
        self.0.state.publish(state);
    }

    /// As [`Self::release`].
    #[inline(always)]
    pub(crate) fn release_packed(self, state: PackedState) {
        self.0.state.publish_packed(state);
    }
}

/// The vCPU that is loaded on this core: x0 to x18, x29 and x30 are in memory, x19 to x28 too in trap handlers,
/// everything else is in the processor.
pub(crate) struct Loaded(&'static Vcpu);

impl Loaded {
    /// # Safety
    /// `vcpu` is the vCPU that TPIDR_EL2 of this core names, and no other `Loaded` for it exists.
    pub(crate) unsafe fn assume(vcpu: &'static Vcpu) -> Self {
        Self(vcpu)
    }

    /// The vCPU.
    #[inline]
    pub(crate) fn vcpu(&self) -> &'static Vcpu {
        self.0
    }

    /// Its VM.
    #[inline]
    pub(crate) fn vm(&self) -> &'static Vm {
        self.0.vm()
    }

    /// The core it is on: this one.
    #[inline]
    pub(crate) fn core(&self) -> &'static Core {
        // SAFETY: set, to a reference of static lifetime, when this core claimed the vCPU.
        unsafe { &*self.0.core.get() }
    }

    /// The registers that are in memory.
    #[inline]
    pub(crate) fn regs(&mut self) -> &mut GpRegs {
        // SAFETY: this core owns the vCPU (type invariant), and `self` is borrowed exclusively.
        unsafe { &mut *self.0.regs.get() }
    }

    /// The console line it is writing.
    pub(crate) fn line(&mut self) -> &mut Line {
        // SAFETY: as `regs`.
        unsafe { &mut (*self.0.owned.get()).line }
    }

    /// Where its virtual interface is while it is not loaded.
    pub(crate) fn gic(&mut self) -> &mut SavedInterface {
        // SAFETY: as `regs`.
        unsafe { &mut (*self.0.owned.get()).gic }
    }

    /// Changes what list registers hold of it.
    pub(crate) fn with_listed(&self, change: impl FnOnce(&mut Listed)) {
        // SAFETY: as `regs`; `change` is code that does not know of this vCPU, so it is borrowed once.
        change(unsafe { &mut (*self.0.owned.get()).listed });
    }

    /// Brings what is pending to the vCPU, and returns it: by the virtual interrupt line; that of a VM whose interrupts come by list registers
    /// stays low.
    #[inline(always)]
    pub(crate) fn update_line(&self) -> &'static Vcpu {
        let (vcpu, hcr) = (self.0, self.0.hcr.get());
        if hcr & arch::VSE != 0 {
            return update_line_with_serror(vcpu);
        }
        update_line_of(vcpu, hcr)
    }
}

/// As [`Loaded::update_line`], if interrupts come by list registers and something is pending.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
fn bring(vcpu: &'static Vcpu) -> &'static Vcpu {
    gic::bring(&Loaded(vcpu));
    arch::set_virtual_irq(vcpu.hcr.get(), false);
    vcpu
}

/// As [`Loaded::update_line`], if a virtual SError was pending, which the vCPU may have taken.
#[cold]
#[inline(never)]
fn update_line_with_serror(vcpu: &'static Vcpu) -> &'static Vcpu {
    crate::serror::update_virtual(vcpu);
    update_line_of(vcpu, vcpu.hcr.get())
}

/// As [`Loaded::update_line`], of the vCPU that is loaded; `hcr` is its own.
#[inline(always)]
fn update_line_of(vcpu: &'static Vcpu, hcr: u64) -> &'static Vcpu {
    if gic::is_possible() && vcpu.vm().by_list_registers() {
        if vcpu.irqs.line() {
            return bring(vcpu);
        }
        arch::set_virtual_irq(hcr, false);
    } else if let Some(controllers) = bcm2836::of(vcpu) {
        let line = controllers.update(vcpu, Loaded(vcpu).core());
        arch::set_virtual_irq(hcr, line);
    } else {
        IrqLine(|high| arch::set_virtual_irq(hcr, high)).update(&vcpu.irqs);
    }
    vcpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_the_assembly_expects_them() {
        assert_eq!(core::mem::offset_of!(Vcpu, regs), 0);
        assert_eq!(core::mem::offset_of!(GpRegs, pc), 31 * 8);
        assert_eq!(core::mem::offset_of!(Vcpu, column), 33 * 8);
        assert_eq!(core::mem::offset_of!(Vcpu, vm_id), 34 * 8);
    }
}
