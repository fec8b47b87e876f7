//! How what is pending comes to the guest: by the virtual IRQ line, or by list registers.

use crate::VcpuInterrupts;
use hv_abi::ids::VirtIntId;

/// Brings a vCPU's interrupts to its guest. All of this is done by the core that has the vCPU.
pub trait BackEnd {
    /// The vCPU is about to run.
    fn load(&mut self, irqs: &VcpuInterrupts);
    /// It runs, and something may have become pending, enabled or disabled, or has been taken.
    fn update(&mut self, irqs: &VcpuInterrupts);
    /// It no longer runs: [`VcpuInterrupts`] says again all that is pending.
    fn unload(&mut self, irqs: &VcpuInterrupts);
}

/// The virtual IRQ line, which this sets. The guest takes its interrupts by a call.
#[derive(Debug)]
pub struct Line<F: FnMut(bool)>(pub F);

impl<F: FnMut(bool)> BackEnd for Line<F> {
    #[inline(always)]
    fn load(&mut self, irqs: &VcpuInterrupts) {
        self.update(irqs);
    }

    #[inline(always)]
    fn update(&mut self, irqs: &VcpuInterrupts) {
        (self.0)(irqs.line());
    }

    #[inline(always)]
    fn unload(&mut self, _irqs: &VcpuInterrupts) {}
}

/// State of an interrupt in a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListState {
    /// There is none.
    Free,
    /// To be taken.
    Pending,
    /// Taken, and not ended.
    Active,
    /// Both: it has come again since.
    PendingAndActive,
}

/// List registers of the calling core: each holds an interrupt, which the guest takes and ends without an
/// exit.
pub trait ListRegisters {
    /// How many there are, up to [`MAX_LIST_REGISTERS`].
    fn count(&self) -> usize;
    /// What has become of the interrupt in one.
    fn state(&self, n: usize) -> ListState;
    /// Puts an interrupt into one, or, if the state is [`ListState::Free`], nothing.
    fn write(&self, n: usize, id: VirtIntId, state: ListState);
    /// Enables or disables the underflow maintenance interrupt: an exit when at most one list register is in
    /// use.
    fn set_underflow_interrupt(&self, enabled: bool);
}

/// Maximum number of list registers that are used.
pub const MAX_LIST_REGISTERS: usize = 16;

/// Interrupts of a vCPU in list registers; while the vCPU is not loaded, its active interrupts.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    slots: [VirtIntId; MAX_LIST_REGISTERS],
    /// Which slots hold something.
    used: u16,
    /// Which ids they hold.
    ids: u64,
    /// More is pending than there was room for.
    full: bool,
}

impl Listed {
    /// Returns a state with all list registers free.
    pub const fn new() -> Self {
        Self { slots: [hv_abi::paravirt::TIMER; MAX_LIST_REGISTERS], used: 0, ids: 0, full: false }
    }

    /// Calls `each` with every slot that holds something, and what.
    #[inline(always)]
    fn each_used(&mut self, mut each: impl FnMut(&mut Self, usize, VirtIntId)) {
        let mut used = self.used;
        while used != 0 {
            let n = used.trailing_zeros() as usize;
            used &= used - 1;
            if let Some(id) = self.slots.get(n).copied() {
                each(self, n, id);
            }
        }
    }

    fn clear(&mut self, n: usize, id: VirtIntId) {
        self.used &= !(1 << n);
        self.ids &= !id.bit();
    }
}

impl Default for Listed {
    fn default() -> Self {
        Self::new()
    }
}

/// The back end of list registers, for one vCPU on one core.
///
/// What is pending and enabled moves into list registers, and is no longer pending in [`VcpuInterrupts`];
/// what is in one and has not been taken moves back when it is disabled, or the vCPU unloaded. So each time
/// an id has been made pending, the guest takes it once, however often that was done before it is taken.
#[derive(Debug)]
pub struct Lists<'a, H: ListRegisters> {
    /// The core's.
    pub hardware: H,
    /// The vCPU's.
    pub listed: &'a mut Listed,
}

impl<H: ListRegisters> Lists<'_, H> {
    /// Sees what the guest has done, and takes back what it is not to take.
    fn sync(&mut self, irqs: &VcpuInterrupts) {
        let hardware = &self.hardware;
        self.listed.each_used(|listed, n, id| match hardware.state(n) {
            ListState::Free => listed.clear(n, id),
            ListState::Pending if !irqs.is_enabled(id) => {
                hardware.write(n, id, ListState::Free);
                listed.clear(n, id);
                irqs.set_pending(id);
            }
            ListState::PendingAndActive if !irqs.is_enabled(id) => {
                hardware.write(n, id, ListState::Active);
                irqs.set_pending(id);
            }
            _ => {}
        });
    }

    /// Lists what is pending and enabled, the lowest first.
    fn flush(&mut self, irqs: &VcpuInterrupts) {
        let count = self.hardware.count().min(MAX_LIST_REGISTERS);
        let all = u32::MAX >> (32 - count as u32) & 0xffff;
        // Those that are there already, first: what has been taken meanwhile becomes pending besides, and
        // what has not is the same.
        let again = irqs.take_of(self.listed.ids);
        if again != 0 {
            let hardware = &self.hardware;
            self.listed.each_used(|_, n, id| {
                if again & id.bit() != 0 && hardware.state(n) == ListState::Active {
                    hardware.write(n, id, ListState::PendingAndActive);
                }
            });
        }
        let mut full = false;
        // Not one that another core makes pending between the two: nothing may be in two list registers.
        let mut new = irqs.take_of(!self.listed.ids);
        while let Some(id) = VirtIntId::lowest(new) {
            new &= !id.bit();
            let n = (!u32::from(self.listed.used) & all).trailing_zeros() as usize;
            let Some(slot) = self.listed.slots.get_mut(n).filter(|_| n < count) else {
                irqs.set_pending(id);
                full = true;
                continue;
            };
            *slot = id;
            self.listed.used |= 1 << n;
            self.listed.ids |= id.bit();
            self.hardware.write(n, id, ListState::Pending);
        }
        if core::mem::replace(&mut self.listed.full, full) != full {
            self.hardware.set_underflow_interrupt(full);
        }
    }
}

impl<H: ListRegisters> BackEnd for Lists<'_, H> {
    fn load(&mut self, irqs: &VcpuInterrupts) {
        let hardware = &self.hardware;
        self.listed.each_used(|_, n, id| hardware.write(n, id, ListState::Active));
        self.listed.full = false;
        self.hardware.set_underflow_interrupt(false);
        self.flush(irqs);
    }

    fn update(&mut self, irqs: &VcpuInterrupts) {
        self.sync(irqs);
        self.flush(irqs);
    }

    fn unload(&mut self, irqs: &VcpuInterrupts) {
        let hardware = &self.hardware;
        self.listed.each_used(|listed, n, id| {
            let state = hardware.state(n);
            hardware.write(n, id, ListState::Free);
            if matches!(state, ListState::Pending | ListState::PendingAndActive) {
                irqs.set_pending(id);
            }
            if matches!(state, ListState::Pending | ListState::Free) {
                listed.clear(n, id);
            }
        });
    }
}
