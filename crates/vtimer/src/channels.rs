//! The timer registers of the calling core.
use crate::{Frequency, Timer, TimerState, erratum::checked};
use aarch64_cpu::{
    asm::barrier,
    registers::{
        CNTFRQ_EL0, CNTHP_CTL_EL2, CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTPCT_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0,
        CNTVCT_EL0, Readable, Writeable,
    },
};

/// The frequency of the system counter, as firmware wrote it to `CNTFRQ_EL0`; `None` if it did not.
#[inline]
pub fn frequency() -> Option<Frequency> {
    Frequency::from_hz(CNTFRQ_EL0.get())
}

/// The physical counter (`CNTPCT_EL0`), read in program order.
#[inline]
pub fn physical_counter() -> u64 {
    barrier::isb(barrier::SY);
    checked(CNTPCT_EL0.get(), || CNTPCT_EL0.get())
}

/// The virtual counter (`CNTVCT_EL0`), read in program order.
#[inline]
pub fn virtual_counter() -> u64 {
    barrier::isb(barrier::SY);
    checked(CNTVCT_EL0.get(), || CNTVCT_EL0.get())
}

/// Returns whether a control register says on, not masked and condition met.
#[inline]
fn asserted(ctl: u64) -> bool {
    const MASK: u64 = TimerState::ENABLE | TimerState::IMASK | TimerState::ISTATUS;
    ctl & MASK == TimerState::ENABLE | TimerState::ISTATUS
}

/// The EL1 physical timer (CNTP): what a native kernel uses. At EL2 it is the guest's.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhysicalTimer;

impl Timer for PhysicalTimer {
    #[inline]
    fn counter(&self) -> u64 {
        physical_counter()
    }

    #[inline]
    fn frequency_hz(&self) -> u64 {
        CNTFRQ_EL0.get()
    }

    #[inline]
    fn set_deadline(&self, deadline: u64) {
        CNTP_CVAL_EL0.set(deadline);
        CNTP_CTL_EL0.set(TimerState::ENABLE);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn cancel(&self) {
        CNTP_CTL_EL0.set(0);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn is_pending(&self) -> bool {
        asserted(CNTP_CTL_EL0.get())
    }
}

/// The virtual timer (CNTV): what a guest uses, and what a hypervisor saves and restores for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VirtualTimer;

impl VirtualTimer {
    /// The registers of the vCPU that has just stopped running. The timer still runs afterwards:
    /// [`stop`](Self::stop) it, or [`restore`](Self::restore) another vCPU's.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "two instructions on the world-switch path")]
    pub fn save() -> TimerState {
        TimerState { ctl: CNTV_CTL_EL0.get(), cval: CNTV_CVAL_EL0.get() }
    }

    /// Loads the registers of the vCPU that is about to run. The exception return to it synchronises.
    ///
    /// The compare value goes first, so that an interrupt of the old value cannot be raised by the new
    /// control.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "two instructions on the world-switch path")]
    pub fn restore(state: TimerState) {
        CNTV_CVAL_EL0.set(state.cval);
        CNTV_CTL_EL0.set(state.ctl);
    }

    /// Switches the timer off, because no vCPU with a virtual timer is running.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one instruction on the world-switch path")]
    pub fn stop() {
        CNTV_CTL_EL0.set(0);
    }
}

impl Timer for VirtualTimer {
    #[inline]
    fn counter(&self) -> u64 {
        virtual_counter()
    }

    #[inline]
    fn frequency_hz(&self) -> u64 {
        CNTFRQ_EL0.get()
    }

    #[inline]
    fn set_deadline(&self, deadline: u64) {
        CNTV_CVAL_EL0.set(deadline);
        CNTV_CTL_EL0.set(TimerState::ENABLE);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn cancel(&self) {
        CNTV_CTL_EL0.set(0);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn is_pending(&self) -> bool {
        asserted(CNTV_CTL_EL0.get())
    }
}

/// The EL2 physical timer (CNTHP): the hypervisor's own. At EL2 only.
#[derive(Clone, Copy, Debug, Default)]
pub struct HypervisorTimer;

impl Timer for HypervisorTimer {
    #[inline]
    fn counter(&self) -> u64 {
        physical_counter()
    }

    #[inline]
    fn frequency_hz(&self) -> u64 {
        CNTFRQ_EL0.get()
    }

    #[inline]
    fn set_deadline(&self, deadline: u64) {
        // SAFETY: `CNTHP_CVAL_EL2`, which `aarch64-cpu` lacks, is a compare value: writing it touches no
        // memory.
        unsafe {
            core::arch::asm!(
                "msr CNTHP_CVAL_EL2, {}",
                in(reg) deadline,
                options(nomem, nostack, preserves_flags)
            );
        }
        CNTHP_CTL_EL2.set(TimerState::ENABLE);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn cancel(&self) {
        CNTHP_CTL_EL2.set(0);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn is_pending(&self) -> bool {
        asserted(CNTHP_CTL_EL2.get())
    }
}
