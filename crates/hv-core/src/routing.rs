//! Device interrupts: whose each is, and where it is in its life.
//!
//! ```text
//! off --enabled by its owner--> idle --arrives--> pending --taken--> active --ended by its owner--> idle
//! ```
//!
//! From its arrival until its owner has ended it, an interrupt is masked at the controller: each costs at most one exit, and a device
//! that never stops interrupting interrupts its owner alone, as often as the owner ends it.

use crate::{board, console, percore::Core, system::System, vcpu::Vcpu, vm::Vm};
use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use hv_abi::{
    ids::{VcpuId, VcpuIndex, VmId},
    paravirt,
};

/// Shared peripheral interrupts, the only ones that devices have (GIC architecture, 2.2.1).
const FIRST: u32 = 32;
const END: u32 = 1020;

/// It is let through to its owner.
const ENABLED: u32 = 1;
/// Its owner has taken it, and has not ended it.
const ACTIVE: u32 = 2;
/// The manifest says whose it is.
const FIXED: u32 = 4;
const FLAGS: u32 = 0xf;

/// The table: for each interrupt its owner's VM (bits 31:16) and vCPU (15:4), and flags. 0: nobody's.
#[derive(Debug)]
pub(crate) struct Routes {
    table: Box<[AtomicU32]>,
    /// How often each has arrived, modulo 2^32.
    arrivals: Box<[AtomicU32]>,
    /// The core that each was let through to last.
    cores: Box<[AtomicU16]>,
    /// Each arrival is an exit to the primary, which goes on with the owner.
    pub(crate) forwards: bool,
}

/// What of its device interrupts is pending for a VM.
pub(crate) type Pending = [AtomicU64; END.div_ceil(64) as usize];
/// Nothing.
#[allow(clippy::declare_interior_mutable_const, reason = "a new one for each VM")]
pub(crate) const NOTHING: Pending = [const { AtomicU64::new(0) }; END.div_ceil(64) as usize];

fn owner(route: u32) -> VcpuId {
    VcpuId { vm: VmId((route >> 16) as u16), index: VcpuIndex((route >> 4 & 0xfff) as u16) }
}

fn packed(vcpu: VcpuId) -> u32 {
    u32::from(vcpu.vm.0) << 16 | u32::from(vcpu.index.0) << 4
}

fn fixed(vm: VmId) -> u32 {
    packed(VcpuId { vm, index: VcpuIndex(0) }) | FIXED
}

impl Routes {
    /// All nobody's.
    pub(crate) fn new() -> Self {
        let words = || {
            let mut words = Vec::new();
            words.resize_with((END - FIRST) as usize, Default::default);
            words.into_boxed_slice()
        };
        let (table, arrivals) = (words(), words());
        let mut cores = Vec::new();
        cores.resize_with((END - FIRST) as usize, Default::default);
        let cores = cores.into_boxed_slice();
        Self { table, arrivals, cores, forwards: false }
    }

    /// An interrupt's entry, and what it says now; `None` if it is no device's interrupt.
    #[inline(never)]
    fn get(&self, intid: u32) -> Option<(&AtomicU32, u32)> {
        let route = self.table.get(intid.wrapping_sub(FIRST) as usize)?;
        Some((route, route.load(Ordering::SeqCst)))
    }

    /// Whose it is; `None` if it is no device's interrupt.
    pub(crate) fn owner(&self, intid: u32) -> Option<VcpuId> {
        self.get(intid).map(|(_, now)| owner(now))
    }

    /// How often it has arrived since boot, taken by its owner or not; modulo 2^32.
    pub(crate) fn arrivals(&self, intid: u32) -> u32 {
        let count = self.arrivals.get(intid.wrapping_sub(FIRST) as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Gives an interrupt to a VM, as the manifest says.
    pub(crate) fn fix(&self, intid: u32, vm: VmId) {
        if let Some((route, _)) = self.get(intid) {
            route.store(fixed(vm), Ordering::SeqCst);
        }
    }

    /// Gives it to another vCPU, as the primary wants it: what the manifest has given to a VM stays with that VM. Returns whether
    /// that can be.
    pub(crate) fn set(&self, intid: u32, to: VcpuId) -> bool {
        let Some((route, now)) = self.get(intid) else { return false };
        let (from, mut flags) = (owner(now).vm, now & FLAGS);
        if from != to.vm {
            if flags & FIXED != 0 {
                return false;
            }
            board::disable(intid);
            flags = 0;
            if let Some(vm) = System::get().vm(from) {
                vm.device_irqs[intid as usize / 64].fetch_and(!(1 << (intid % 64)), Ordering::SeqCst);
            }
        }
        // Whoever else changes it at this moment, it is one of the two.
        route.compare_exchange(now, packed(to) | flags, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// `HF_INTERRUPT_ENABLE` of an interrupt that is `vcpu`'s VM's: it comes to that vCPU, through the core that this is. Returns
    /// whether it is.
    pub(crate) fn enable(&self, intid: u32, vcpu: &Vcpu, core: &Core, enable: bool) -> bool {
        let Some((route, now)) = self.get(intid) else { return false };
        let to = packed(vcpu.id()) | now & (FIXED | ACTIVE) | if enable { ENABLED } else { 0 };
        // If somebody else changes it at this moment, it may not be this VM's any more.
        if owner(now).vm != vcpu.vm().id
            || route.compare_exchange(now, to, Ordering::SeqCst, Ordering::Relaxed).is_err()
        {
            return false;
        }
        vcpu.irqs.enable(paravirt::DEVICE, true);
        if !enable {
            board::disable(intid);
        } else if now & ACTIVE == 0 {
            self.let_through(intid, core);
        }
        true
    }

    /// Unmasks an interrupt at the controller, which routes it to `core`.
    fn let_through(&self, intid: u32, core: &Core) {
        if let Some(last) = self.cores.get(intid.wrapping_sub(FIRST) as usize) {
            last.store(core.index, Ordering::SeqCst);
        }
        board::enable(intid, core.mpidr);
    }

    /// `from` goes off: interrupts that are routed there go to `to`, if they are not masked.
    #[cold]
    pub(crate) fn reroute(&self, from: &Core, to: &Core) {
        for (intid, (route, last)) in (FIRST..).zip(self.table.iter().zip(&self.cores)) {
            let now = route.load(Ordering::SeqCst);
            let pending = System::get().vm(owner(now).vm).is_some_and(|vm| {
                let word = vm.device_irqs.get(intid as usize / 64);
                word.is_some_and(|word| word.load(Ordering::SeqCst) >> (intid % 64) & 1 != 0)
            });
            let is_open = now & (ENABLED | ACTIVE) == ENABLED && !pending;
            if is_open && last.load(Ordering::SeqCst) == from.index {
                self.let_through(intid, to);
            }
        }
    }

    /// Takes a device interrupt that is pending for `vcpu`.
    pub(crate) fn take(&self, vcpu: &Vcpu) -> Option<u32> {
        let mut taken = None;
        for (base, word) in (0..END).step_by(64).zip(&vcpu.vm().device_irqs) {
            let mut bits = word.load(Ordering::SeqCst);
            while bits != 0 {
                let (bit, intid) = (bits & bits.wrapping_neg(), base + bits.trailing_zeros());
                bits &= !bit;
                let Some((route, now)) = self.get(intid) else { continue };
                if owner(now) != vcpu.id() {
                    continue;
                }
                if taken.is_some() {
                    vcpu.irqs.set_pending(paravirt::DEVICE);
                    return taken;
                }
                word.fetch_and(!bit, Ordering::SeqCst);
                route.fetch_or(ACTIVE, Ordering::SeqCst);
                taken = Some(intid);
            }
        }
        taken
    }

    /// Gives what is pending for a VM with a virtual GIC to that: taken, all of it.
    pub(crate) fn drain(&self, vm: &Vm, taken: &mut dyn FnMut(u32)) {
        for (base, word) in (0..END).step_by(64).zip(&vm.device_irqs) {
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let intid = base + bits.trailing_zeros();
                bits &= bits - 1;
                if let Some((route, _)) = self.get(intid) {
                    route.fetch_or(ACTIVE, Ordering::SeqCst);
                    taken(intid);
                }
            }
        }
    }

    /// `HF_INTERRUPT_DEACTIVATE`: the owner has taken it, and has done what it is about. Returns whether that is so.
    pub(crate) fn end(&self, intid: u32, vcpu: &Vcpu, core: &Core) -> bool {
        let Some((route, now)) = self.get(intid) else { return false };
        if owner(now).vm != vcpu.vm().id {
            return false;
        }
        let before = route.fetch_and(!ACTIVE, Ordering::SeqCst);
        if before & (ACTIVE | ENABLED) == ACTIVE | ENABLED {
            self.let_through(intid, core);
        }
        before & ACTIVE != 0
    }

    /// Whether an interrupt that `vcpu`'s VM has taken is still asserted, for which it is let through for a moment. If not, that was
    /// its end.
    pub(crate) fn is_still_asserted(&self, intid: u32, vcpu: &Vcpu, core: &Core) -> bool {
        let Some((_, now)) = self.get(intid) else { return false };
        if owner(now).vm != vcpu.vm().id || now & (ENABLED | ACTIVE) != ENABLED | ACTIVE {
            return false;
        }
        // Another core may take it in this moment: then it has arrived once more, and is masked.
        self.let_through(intid, core);
        if board::is_asserted(intid) {
            board::disable(intid);
            return true;
        }
        self.end(intid, vcpu, core);
        false
    }

    /// A VM starts again: it has enabled nothing.
    pub(crate) fn forget(&self, vm: &Vm) {
        vm.device_irqs.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        // One that arrives nevertheless is put off then.
        for route in self.table.iter().filter(|route| owner(route.load(Ordering::SeqCst)).vm == vm.id) {
            route.fetch_and(!(ENABLED | ACTIVE), Ordering::SeqCst);
        }
    }

    /// An interrupt has arrived: masks it, and makes it pending. Returns the vCPU that it is for, if it is for one.
    #[cold]
    pub(crate) fn arrive(&self, intid: u32) -> Option<&'static Vcpu> {
        board::disable(intid);
        let (_, route) = self.get(intid)?;
        if let Some(count) = self.arrivals.get((intid - FIRST) as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let owner = owner(route);
        let vm = System::get().vm(owner.vm).filter(|_| route & ENABLED != 0);
        let Some(vcpu) = vm.and_then(|vm| vm.vcpus.get(usize::from(owner.index.0))) else {
            console::info!("interrupt {} has no owner: disabled", plain_numbers::Dec(intid.into()));
            return None;
        };
        vcpu.vm().device_irqs[intid as usize / 64].fetch_or(1 << (intid % 64), Ordering::SeqCst);
        Some(vcpu)
    }
}
