//! Events that the control task receives.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// A VM runs: it was started, or started again.
    Started = 1,
    /// It has switched itself off.
    Off = 2,
    /// It was stopped for a fault, or could not be run.
    Aborted = 3,
    /// It asks to be started again.
    Reset = 4,
    /// The control task has stopped it.
    Stopped = 5,
    /// Events were lost, because nobody read them: ask how everything stands.
    Lost = 6,
}

impl EventKind {
    const ALL: [Self; 6] = [Self::Started, Self::Off, Self::Aborted, Self::Reset, Self::Stopped, Self::Lost];

    /// The kind with a number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Returns whether the VM is over, and nothing of it runs any more.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Off | Self::Aborted | Self::Reset | Self::Stopped)
    }
}

/// Something that has happened to a VM, as it is read from the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// A number of [`EventKind`].
    pub kind: u16,
    /// The VM; 0 for none.
    pub vm: u16,
    /// How often the VM has been started.
    pub start: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
}

const _: () = assert!(size_of::<Event>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_round_trip() {
        for number in 0..20 {
            let kind = EventKind::from_number(number);
            assert!(kind.is_none_or(|kind| kind as u16 == number));
            assert_eq!(kind.is_some(), (1..=6).contains(&number));
        }
        let event = Event { kind: 2, vm: 3, start: 1, time_ns: 77 };
        assert_eq!(Event::read_from_bytes(event.as_bytes()), Ok(event));
    }
}
