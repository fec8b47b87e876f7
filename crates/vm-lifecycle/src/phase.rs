//! The phases of a VM, and the events between them.

use core::sync::atomic::{AtomicU8, Ordering};

/// Why a VM stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It switched itself off.
    Off,
    /// It asked for a reset.
    Reset,
    /// It was stopped for a fault.
    Aborted,
    /// The primary stopped it.
    Stopped,
}

/// The phase of a VM's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its vCPUs may be claimed, and its calls are accepted.
    Running,
    /// The core that stopped it looks at its vCPUs: it sends a kick to cores that own one, and fails those
    /// who wait for one.
    Halting(StopReason),
    /// vCPUs that cores own are leaving; no other one is entered.
    Stopping(StopReason),
    /// Every vCPU is parked. Memory transactions are taken back and memory is scrubbed, a bounded part at a
    /// time.
    Reclaiming(StopReason),
    /// Nothing is left of the last run. The reason is what exits report until the next start.
    Off(StopReason),
}

/// What makes a VM go on to the next phase. Creation and destruction of VMs will be events from and to a
/// phase before `Off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is as at boot, and runs.
    Start,
    /// By itself, by the primary, or for a fault. Needs no token.
    Stop(StopReason),
    /// The core that stopped it has looked at all of its vCPUs.
    Halted,
    /// All of its vCPUs are parked.
    Quiesced,
    /// Nobody has memory of it, it has nobody's, and its own is scrubbed.
    Reclaimed,
}

impl Status {
    /// The phase that follows when `event` happens, if it can happen now.
    pub const fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Off(_), Event::Start) => Some(Self::Running),
            (Self::Running, Event::Stop(reason)) => Some(Self::Halting(reason)),
            (Self::Halting(reason), Event::Halted) => Some(Self::Stopping(reason)),
            (Self::Stopping(reason), Event::Quiesced) => Some(Self::Reclaiming(reason)),
            (Self::Reclaiming(reason), Event::Reclaimed) => Some(Self::Off(reason)),
            _ => None,
        }
    }

    /// Returns whether its vCPUs may be entered, and calls by it or about it may change anything.
    pub const fn accepts_calls(self) -> bool {
        matches!(self, Self::Running)
    }

    /// Why it stopped; `None` while it runs.
    pub const fn reason(self) -> Option<StopReason> {
        match self {
            Self::Running => None,
            Self::Halting(reason) | Self::Stopping(reason) | Self::Reclaiming(reason) | Self::Off(reason) => {
                Some(reason)
            }
        }
    }

    /// `Running` is zero, because it is what the run path compares with.
    const fn bits(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Stopping(reason) => 1 << 2 | reason as u8,
            Self::Reclaiming(reason) => 2 << 2 | reason as u8,
            Self::Off(reason) => 3 << 2 | reason as u8,
            Self::Halting(reason) => 4 << 2 | reason as u8,
        }
    }

    const fn from_bits(bits: u8) -> Self {
        let reason = match bits & 3 {
            0 => StopReason::Off,
            1 => StopReason::Reset,
            2 => StopReason::Aborted,
            _ => StopReason::Stopped,
        };
        match bits >> 2 {
            0 => Self::Running,
            1 => Self::Stopping(reason),
            2 => Self::Reclaiming(reason),
            4 => Self::Halting(reason),
            _ => Self::Off(reason),
        }
    }
}

/// The phase of one VM, shared by all cores.
#[derive(Debug)]
pub struct LifeCycle(AtomicU8);

impl LifeCycle {
    /// A VM in this phase.
    pub const fn new(status: Status) -> Self {
        Self(AtomicU8::new(status.bits()))
    }

    /// The phase, now.
    #[inline(always)]
    pub fn status(&self) -> Status {
        Status::from_bits(self.0.load(Ordering::SeqCst))
    }

    /// Returns whether its vCPUs may be entered, and calls by it or about it may change anything, now.
    #[inline(always)]
    pub fn accepts_calls(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Status::Running.bits()
    }

    /// As [`Self::accepts_calls`], for who neither relies on it nor orders anything by it: a call that a stop
    /// makes needless, and which could as well have been made before.
    #[inline(always)]
    pub fn accepted_calls(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Status::Running.bits()
    }

    /// Makes the transition; returns whether it could be made. Of two cores, one makes it.
    pub fn apply(&self, event: Event) -> bool {
        let next = |bits| Status::from_bits(bits).after(event).map(Status::bits);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [StopReason; 4] =
        [StopReason::Off, StopReason::Reset, StopReason::Aborted, StopReason::Stopped];

    fn all() -> impl Iterator<Item = Status> {
        let with = |reason| {
            [
                Status::Halting(reason),
                Status::Stopping(reason),
                Status::Reclaiming(reason),
                Status::Off(reason),
            ]
        };
        REASONS.into_iter().flat_map(with).chain([Status::Running])
    }

    #[test]
    fn statuses_survive_their_bits() {
        for status in all() {
            assert_eq!(Status::from_bits(status.bits()), status);
        }
    }

    #[test]
    fn phases_advance_in_one_direction() {
        let events =
            [Event::Start, Event::Stop(StopReason::Off), Event::Halted, Event::Quiesced, Event::Reclaimed];
        for status in all() {
            let possible: std::vec::Vec<_> =
                events.into_iter().filter(|e| status.after(*e).is_some()).collect();
            assert_eq!(possible.len(), 1, "{status:?}");
            assert_eq!(status.accepts_calls(), matches!(possible[0], Event::Stop(_)));
        }
    }

    #[test]
    fn keeps_the_first_reason_until_the_next_start() {
        let life = LifeCycle::new(Status::Running);
        assert!(life.apply(Event::Stop(StopReason::Reset)));
        assert!(!life.apply(Event::Stop(StopReason::Aborted)));
        assert!(!life.apply(Event::Quiesced), "vCPUs may not have been looked at");
        assert!(life.apply(Event::Halted) && life.apply(Event::Quiesced) && life.apply(Event::Reclaimed));
        assert_eq!(life.status(), Status::Off(StopReason::Reset));
        assert!(life.apply(Event::Start));
        assert_eq!(life.status().reason(), None);
    }
}
