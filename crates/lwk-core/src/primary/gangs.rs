//! Which VMs are gangs, and when they have which cores.
//!
//! VMs that share a core have the same quantum, so there is a matrix for each quantum in use, and no core is
//! of interest to two of them.

use alloc::{boxed::Box, vec::Vec};
use fallible::{OutOfMemory, TryVec as _, try_box};
use sched_policies::{Column, CoreId, GangError, GangId, Gangs, Nanos};

/// The most cores that a machine can have.
const MOST_CORES: usize = 128;

/// The places that a gang is to have.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// How long a turn is.
    pub quantum: Nanos,
    /// The cores of its members, each once.
    pub cores: &'a [CoreId],
}

/// Why a gang does not get its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The matrix has none.
    Gang(GangError),
    /// There is no memory for a matrix.
    NoMemory,
}

impl From<GangError> for Refused {
    fn from(error: GangError) -> Self {
        Self::Gang(error)
    }
}

impl From<OutOfMemory> for Refused {
    fn from(_: OutOfMemory) -> Self {
        Self::NoMemory
    }
}

#[derive(Debug)]
struct Matrix<const SLOTS: usize> {
    quantum: Nanos,
    gangs: Box<Gangs<SLOTS, MOST_CORES>>,
}

impl<const SLOTS: usize> Matrix<SLOTS> {
    fn has_places(&self, gang: GangId, places: &Places<'_>) -> bool {
        let count = self.gangs.cores_of(gang).count();
        self.quantum == places.quantum
            && count == places.cores.len()
            && self.gangs.cores_of(gang).all(|core| places.cores.contains(&core))
    }
}

/// All matrices: of `SLOTS` slots at most.
#[derive(Debug)]
pub struct Matrices<const SLOTS: usize>(Vec<Matrix<SLOTS>>);

impl<const SLOTS: usize> Default for Matrices<SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize> Matrices<SLOTS> {
    /// Returns a table without gangs.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Gives a gang these places in place of those that it has, or none. What changes holds from `start` on.
    /// Returns the quanta whose columns are others now.
    ///
    /// # Errors
    /// [`GangError::NoCore`], [`GangError::SameCore`], [`GangError::NoRoom`], [`GangError::Empty`]: nothing
    /// has changed.
    pub fn set(
        &mut self,
        gang: GangId,
        places: Option<Places<'_>>,
        start: Nanos,
    ) -> Result<[Option<Nanos>; 2], Refused> {
        let old = self.0.iter().position(|matrix| matrix.gangs.slot_of(gang).is_some());
        let before = old.map(|at| self.0[at].quantum);
        let Some(places) = places else {
            if let Some(at) = old {
                self.leave(at, gang, start)?;
            }
            return Ok([before, None]);
        };
        if old.is_some_and(|at| self.0[at].has_places(gang, &places)) {
            return Ok([None, None]);
        }
        let new = self.0.iter().position(|matrix| matrix.quantum == places.quantum);
        if let Some(at) = new {
            let gangs = &mut self.0[at].gangs;
            if old == new {
                gangs.move_to(gang, places.cores)?;
            } else {
                gangs.place_on(gang, places.cores)?;
            }
            gangs.start_at(start);
        } else {
            let mut gangs = try_box(Gangs::new(places.quantum))?;
            gangs.place_on(gang, places.cores)?;
            gangs.start_at(start);
            self.0.try_push(Matrix { quantum: places.quantum, gangs })?;
        }
        if let Some(at) = old.filter(|_| old != new) {
            self.leave(at, gang, start)?;
        }
        Ok([Some(places.quantum), before.filter(|before| *before != places.quantum)])
    }

    fn leave(&mut self, at: usize, gang: GangId, start: Nanos) -> Result<(), GangError> {
        let gangs = &mut self.0[at].gangs;
        gangs.remove(gang)?;
        gangs.start_at(start);
        if gangs.rotation().slots() == 0 {
            self.0.swap_remove(at);
        }
        Ok(())
    }

    /// Returns the column of a core, in the matrix of a quantum.
    pub fn column(&self, quantum: Nanos, core: CoreId) -> Column<SLOTS> {
        self.0
            .iter()
            .find(|matrix| matrix.quantum == quantum)
            .and_then(|matrix| matrix.gangs.column(core))
            .unwrap_or_else(|| Column::without_gangs(quantum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SLOTS: usize = 4;
    const CORES: u32 = 5;

    type All = Matrices<SLOTS>;

    fn on(quantum: u64, cores: &[CoreId]) -> Places<'_> {
        Places { quantum: Nanos(quantum), cores }
    }

    #[test]
    fn does_not_move_lone_task() {
        let mut all = All::new();
        let cores = [CoreId(1), CoreId(2)];
        assert_eq!(all.set(GangId(1), Some(on(10, &cores)), Nanos(5)), Ok([Some(Nanos(10)), None]));
        let column = all.column(Nanos(10), CoreId(1));
        assert_eq!((column.rotation().slots(), column.rotation().start()), (1, Nanos(5)));
        // The same again, in another order: no core hears of it.
        assert_eq!(all.set(GangId(1), Some(on(10, &[CoreId(2), CoreId(1)])), Nanos(9)), Ok([None, None]));
        assert_eq!(all.column(Nanos(10), CoreId(1)), column);
        assert_eq!(all.set(GangId(1), None, Nanos(11)), Ok([Some(Nanos(10)), None]));
        assert_eq!(all.column(Nanos(10), CoreId(1)), Column::without_gangs(Nanos(10)));
        assert_eq!(all.set(GangId(1), None, Nanos(12)), Ok([None, None]));
    }

    #[test]
    fn a_gang_with_another_quantum_changes_two_matrices() {
        let mut all = All::new();
        let cores = [CoreId(1), CoreId(2)];
        for gang in [1, 2] {
            all.set(GangId(gang), Some(on(10, &cores)), Nanos(0)).unwrap();
        }
        assert_eq!(
            all.set(GangId(1), Some(on(20, &cores)), Nanos(7)),
            Ok([Some(Nanos(20)), Some(Nanos(10))])
        );
        for quantum in [10, 20] {
            let column = all.column(Nanos(quantum), CoreId(2));
            assert_eq!((column.rotation().slots(), column.rotation().start()), (1, Nanos(7)));
        }
    }

    proptest! {
        /// Whatever is asked for: each gang has the places that it was given last, in one slot of its matrix,
        /// and what is refused changes nothing.
        #[test]
        fn each_has_what_it_was_given(
            asked in prop::collection::vec(
                (0..6_u32, 1..4_u64, prop::option::weighted(0.8, prop::collection::vec(0..=CORES, 0..4))),
                0..80,
            ),
        ) {
            let mut all = All::new();
            let mut given: BTreeMap<u32, (u64, BTreeSet<u32>)> = BTreeMap::new();
            for (now, (gang, quantum, cores)) in asked.into_iter().enumerate() {
                let ids: Option<Vec<_>> = cores
                    .as_ref()
                    .map(|cores| cores.iter().map(|core| CoreId(if *core == CORES { 128 } else { *core })).collect());
                let places = ids.as_deref().map(|cores| on(quantum, cores));
                let before = given.get(&gang).cloned();
                let result = all.set(GangId(gang), places, Nanos(now as u64));
                let wanted = cores.as_ref().map(|cores| (quantum, cores.iter().copied().collect::<BTreeSet<_>>()));
                let sound = cores.as_ref().is_none_or(|cores| {
                    let (_, set) = wanted.as_ref().unwrap();
                    !cores.is_empty() && set.len() == cores.len() && !set.contains(&CORES)
                });
                match result {
                    Ok(changed) => {
                        prop_assert!(sound);
                        let mut due = BTreeSet::new();
                        if before != wanted {
                            due.extend(before.map(|(quantum, _)| quantum));
                            due.extend(wanted.as_ref().map(|(quantum, _)| *quantum));
                        }
                        let changed: BTreeSet<_> = changed.into_iter().flatten().map(|quantum| quantum.0).collect();
                        prop_assert_eq!(changed, due);
                        match wanted {
                            Some(wanted) => drop(given.insert(gang, wanted)),
                            None => drop(given.remove(&gang)),
                        }
                    }
                    Err(Refused::Gang(GangError::NoRoom(_))) => prop_assert!(sound),
                    Err(_) => prop_assert!(!sound),
                }
                for quantum in 1..4 {
                    let columns: Vec<_> =
                        (0..CORES).map(|core| all.column(Nanos(quantum), CoreId(core))).collect();
                    prop_assert!(columns.iter().all(|column| column.rotation() == columns[0].rotation()));
                    let slots = columns[0].rotation().slots();
                    let start = columns[0].rotation().start();
                    for gang in 0..6 {
                        let at = |core: u32| (0..slots).find(|slot| {
                            let time = start.0 + u64::from(*slot) * quantum;
                            columns[core as usize].gang_at(Nanos(time)) == Some(GangId(gang))
                        });
                        let has: BTreeSet<_> = (0..CORES).filter(|core| at(*core).is_some()).collect();
                        let rows: BTreeSet<_> = (0..CORES).filter_map(at).collect();
                        let due = given.get(&gang).filter(|(other, _)| *other == quantum);
                        prop_assert!(rows.len() <= 1);
                        prop_assert_eq!(has, due.map(|(_, cores)| cores.clone()).unwrap_or_default());
                    }
                }
            }
        }
    }
}
