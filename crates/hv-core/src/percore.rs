//! What each physical core has for itself. Nothing here is shared between cores while VMs run.

use crate::vcpu::{Vcpu, VcpuState};
use alloc::vec;
use core::{cell::Cell, sync::atomic::AtomicPtr};
use hv_abi::ids::{Pa, VmId};
use vm_lifecycle::PackedState;

/// A physical core.
pub struct Core {
    /// Its number: its place among the enabled cores of the device tree.
    pub(crate) index: u16,
    /// Its affinity.
    pub(crate) mpidr: u64,
    primary: Cell<*const Vcpu>,
    /// State that the vCPU being switched out gets once its registers are saved.
    departing: Cell<PackedState>,
    /// The vCPU that the primary ran last: another one may have taken over from it, by a direct message.
    pub(crate) ran: Cell<*const Vcpu>,
    /// A vCPU that the primary should be told to run, when this core is back there.
    pub(crate) tell: Cell<*const Vcpu>,
    /// Which vCPUs' state the core's registers and TLBs hold.
    pub(crate) contents: Contents,
    /// A page of EL2 address space through which this core copies to and from VM memory.
    pub(crate) window: crate::el2_map::Window,
    /// What the core needs to start.
    pub(crate) start: CoreStart,
}

/// Which vCPUs' state a core's registers and TLBs hold: facts that end when the core loses power, because a core comes up
/// in its reset state (PSCI, DEN 0022, `CPU_ON`). What the processor keeps across switches of vCPUs is noted here or in the
/// primary vCPU, which `CPU_ON` resets, and nowhere else.
pub(crate) struct Contents {
    /// The vCPU whose FP/SIMD values are in the registers.
    pub(crate) fp_owner: Cell<*const Vcpu>,
    /// Whether the loaded vCPU may use the FP/SIMD registers.
    pub(crate) fp_in_use: Cell<bool>,
    /// For each VM, the index of its vCPU that ran on the core last, plus one; 0 if none did.
    last_vcpu: alloc::boxed::Box<[Cell<u16>]>,
}

impl Contents {
    fn new(vms: usize) -> Self {
        Self {
            fp_owner: Cell::new(core::ptr::null()),
            fp_in_use: Cell::new(false),
            last_vcpu: vec![const { Cell::new(0) }; vms + 1].into_boxed_slice(),
        }
    }

    /// Discards every fact: the core has just been powered up, and holds reset values.
    #[cold]
    pub(crate) fn reset(&self) {
        // Destructured, so that a new field cannot be left out.
        let Self { fp_owner, fp_in_use, last_vcpu } = self;
        fp_owner.set(core::ptr::null());
        fp_in_use.set(false);
        last_vcpu.iter().for_each(|last| last.set(0));
    }
}

/// What `hv_secondary_entry` reads with the MMU off. The assembly knows this layout.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct CoreStart {
    pub(crate) tables: Pa,
    pub(crate) stack_top: u64,
    pub(crate) core: AtomicPtr<Core>,
}

// SAFETY: the cells are used by the core itself only; boot fills them before it starts.
unsafe impl Sync for Core {}

impl Core {
    pub(crate) fn new(
        index: u16,
        mpidr: u64,
        vms: usize,
        window: crate::el2_map::Window,
        tables: Pa,
        stack_top: u64,
    ) -> Self {
        Self {
            index,
            mpidr,
            primary: Cell::new(core::ptr::null()),
            departing: Cell::new(PackedState::new(VcpuState::Ready)),
            ran: Cell::new(core::ptr::null()),
            tell: Cell::new(core::ptr::null()),
            contents: Contents::new(vms),
            window,
            start: CoreStart { tables, stack_top, core: AtomicPtr::new(core::ptr::null_mut()) },
        }
    }

    /// Decides which state the vCPU that is being switched out gets once its registers are saved.
    #[inline(always)]
    pub(crate) fn set_departing(&self, state: VcpuState) {
        self.departing.set(PackedState::new(state));
    }

    /// That state.
    #[inline(always)]
    pub(crate) fn departing(&self) -> PackedState {
        self.departing.get()
    }

    pub(crate) fn attach(&self, primary: &'static Vcpu) {
        self.primary.set(primary);
    }

    /// The primary VM's vCPU on this core.
    #[inline]
    pub(crate) fn primary(&self) -> &'static Vcpu {
        // SAFETY: `attach` stored a reference of static lifetime before any VM ran.
        unsafe { &*self.primary.get() }
    }

    /// The vCPU that the primary should be told to run, if there is one; it is told once.
    #[inline]
    pub(crate) fn take_tell(&self) -> Option<&'static Vcpu> {
        let vcpu = self.tell.get();
        if vcpu.is_null() {
            return None;
        }
        self.tell.set(core::ptr::null());
        // SAFETY: only references of static lifetime are put there.
        Some(unsafe { &*vcpu })
    }

    /// Notes that `vcpu` of `vm` is about to run here; returns whether another vCPU of that VM did last. Two vCPUs of
    /// one VM share a VMID but not always their address spaces (Arm ARM, D8.16.3).
    #[inline]
    pub(crate) fn another_ran_last(&self, vm: VmId, vcpu: u16) -> bool {
        let Some(last) = self.contents.last_vcpu.get(usize::from(vm.0)) else { return true };
        last.replace(vcpu + 1) != vcpu + 1
    }
}
