//! The timer of a vCPU, as data.

/// The two registers of a timer channel: control and compare value (`CNTV_CTL_EL0`, `CNTV_CVAL_EL0`; Arm ARM,
/// D12.2.4 "Timers"). The default is what [`reset`](Self::RESET) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TimerState {
    /// The control register.
    pub ctl: u64,
    /// The compare value.
    pub cval: u64,
}

/// Time until a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// It is off or masked: it raises no interrupt however long one waits.
    Never,
    /// Its interrupt is asserted now.
    Expired,
    /// Its interrupt will be asserted in this many ticks, at least one.
    Ticks(u64),
}

impl TimerState {
    /// `ENABLE`: the timer is on.
    pub const ENABLE: u64 = 1 << 0;
    /// `IMASK`: the timer raises no interrupt.
    pub const IMASK: u64 = 1 << 1;
    /// `ISTATUS`: the condition is met. Read-only in the hardware.
    pub const ISTATUS: u64 = 1 << 2;

    /// State of a disabled timer.
    pub const RESET: Self = Self { ctl: 0, cval: 0 };

    /// A timer that fires at `deadline` of its own counter.
    #[inline]
    pub const fn at(deadline: u64) -> Self {
        Self { ctl: Self::ENABLE, cval: deadline }
    }

    /// Returns whether the timer can raise an interrupt: on and not masked.
    #[inline]
    pub const fn is_armed(&self) -> bool {
        self.ctl & (Self::ENABLE | Self::IMASK) == Self::ENABLE
    }

    /// How long the timer has to go when the physical counter is at `now` and the timer's counter is `offset`
    /// behind it (`CNTVOFF_EL2` for a virtual timer, 0 for a physical one).
    ///
    /// The hardware's rule (Arm ARM, D12.2.4 "Operation of the CompareValue views of the timers"): the
    /// condition is met when the counter, `now - offset` in 64 bits, is not below the compare value, both
    /// unsigned.
    #[inline]
    pub const fn remaining(&self, now: u64, offset: u64) -> Remaining {
        if !self.is_armed() {
            return Remaining::Never;
        }
        let counter = now.wrapping_sub(offset);
        if counter >= self.cval { Remaining::Expired } else { Remaining::Ticks(self.cval - counter) }
    }

    /// Returns whether the timer's interrupt is asserted at physical count `now`.
    #[inline]
    pub const fn is_expired(&self, now: u64, offset: u64) -> bool {
        matches!(self.remaining(now, offset), Remaining::Expired)
    }

    /// The physical count at which the timer's interrupt is asserted: `now` if it is already, `None` if it
    /// never is, also when the counter would wrap before that.
    #[inline]
    pub const fn physical_deadline(&self, now: u64, offset: u64) -> Option<u64> {
        match self.remaining(now, offset) {
            Remaining::Never => None,
            Remaining::Expired => Some(now),
            Remaining::Ticks(ticks) => now.checked_add(ticks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn off_or_masked_never_fires() {
        for ctl in [0, TimerState::IMASK, TimerState::ENABLE | TimerState::IMASK, TimerState::ISTATUS] {
            assert_eq!(TimerState { ctl, cval: 0 }.remaining(100, 0), Remaining::Never);
        }
        assert_eq!(TimerState::RESET, TimerState::default());
        assert_eq!(TimerState::RESET.physical_deadline(1, 0), None);
    }

    #[test]
    fn ignores_stale_istatus() {
        let state = TimerState { ctl: TimerState::ENABLE | TimerState::ISTATUS, cval: 10 };
        assert_eq!(state.remaining(4, 0), Remaining::Ticks(6));
    }

    #[test]
    fn fires_exactly_at_the_compare_value() {
        let state = TimerState::at(10);
        assert_eq!(state.remaining(9, 0), Remaining::Ticks(1));
        assert_eq!(state.remaining(10, 0), Remaining::Expired);
        assert_eq!(state.physical_deadline(12, 0), Some(12));
    }

    #[test]
    fn disabled_timer_has_no_deadline() {
        assert_eq!(TimerState::at(u64::MAX).physical_deadline(1_000, 500), None);
        assert_eq!(TimerState::at(u64::MAX).remaining(1_000, 500), Remaining::Ticks(u64::MAX - 500));
    }

    proptest! {
        #[test]
        fn deadline_is_first_firing_time(cval: u64, now: u64, offset: u64) {
            let state = TimerState::at(cval);
            match state.physical_deadline(now, offset) {
                Some(deadline) => {
                    prop_assert!(deadline >= now);
                    prop_assert!(state.is_expired(deadline, offset));
                    if deadline > now {
                        prop_assert!(!state.is_expired(deadline - 1, offset));
                    }
                }
                None => prop_assert!(!state.is_expired(now, offset)),
            }
        }
    }
}
