//! What time has to do with slots, and what a core has to know of the matrix.

use super::GangId;
use crate::Nanos;

/// Slots take turns, each for a quantum, from a common start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    start: Nanos,
    quantum: Nanos,
    slots: u32,
}

impl Rotation {
    /// `slots` slots; the first begins at `start`. A quantum of 0 counts as 1 ns.
    pub const fn new(start: Nanos, quantum: Nanos, slots: u32) -> Self {
        let quantum = if quantum.0 == 0 { Nanos(1) } else { quantum };
        Self { start, quantum, slots }
    }

    /// Returns the start time of the first slot.
    pub const fn start(&self) -> Nanos {
        self.start
    }

    /// Nanoseconds of a turn.
    pub const fn quantum(&self) -> Nanos {
        self.quantum
    }

    /// Returns the number of slots that take turns.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the number of finished turns at `now`; 0 before the start.
    pub const fn turn_at(&self, now: Nanos) -> u64 {
        now.since(self.start).0 / self.quantum.0
    }

    /// Returns the current slot; `None` if there are no slots.
    pub fn slot_at(&self, now: Nanos) -> Option<usize> {
        self.turn_at(now).checked_rem(self.slots.into()).map(|slot| slot as usize)
    }

    /// Returns the start of the next turn: later than `now`, unless the time saturates.
    pub const fn next_turn(&self, now: Nanos) -> Nanos {
        let turns = self.turn_at(now).saturating_add(1);
        self.start.saturating_add(Nanos(self.quantum.0.saturating_mul(turns)))
    }
}

/// A column of the matrix: which gangs a core belongs to, and when. Made by [`super::Gangs::column`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<const SLOTS: usize> {
    rotation: Rotation,
    places: [Option<GangId>; SLOTS],
}

impl<const SLOTS: usize> Column<SLOTS> {
    pub(super) const fn new(rotation: Rotation, places: [Option<GangId>; SLOTS]) -> Self {
        Self { rotation, places }
    }

    /// No gangs; who else is there takes turns.
    pub const fn without_gangs(quantum: Nanos) -> Self {
        Self::new(Rotation::new(Nanos(0), quantum, 0), [None; SLOTS])
    }

    /// Returns the rotation of the slots.
    pub const fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Returns whether a gang has a place in it.
    pub fn has(&self, gang: GangId) -> bool {
        self.places.contains(&Some(gang))
    }

    /// Returns the gang whose member the core runs; `None` if its place is empty.
    pub fn gang_at(&self, now: Nanos) -> Option<GangId> {
        *self.places.get(self.rotation.slot_at(now)?)?
    }
}
