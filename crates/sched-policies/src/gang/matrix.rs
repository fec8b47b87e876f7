//! Ousterhout's matrix.

use super::{Column, CoreId, GangId, Rotation};
use crate::Nanos;
use core::{array, error, fmt};

/// Why a gang is not placed, or not removed. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GangError {
    /// The gang has its places already.
    AlreadyThere(GangId),
    /// The gang has no places.
    Unknown(GangId),
    /// A gang needs a member.
    Empty(GangId),
    /// The gang has more members than there are cores.
    TooWide {
        /// The gang.
        gang: GangId,
        /// How many members it has.
        width: usize,
    },
    /// There is no such core.
    NoCore(GangId, CoreId),
    /// Two members of the gang want the same core, so they cannot run at the same time.
    SameCore(GangId, CoreId),
    /// No slot has room for the gang.
    NoRoom(GangId),
}

impl fmt::Display for GangError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyThere(gang) => write!(f, "gang {} has its places already", gang.0),
            Self::Unknown(gang) => write!(f, "gang {} has no places", gang.0),
            Self::Empty(gang) => write!(f, "gang {} has no members", gang.0),
            Self::TooWide { gang, width } => {
                write!(f, "gang {} has {width} members, more than there are cores", gang.0)
            }
            Self::NoCore(gang, core) => {
                write!(f, "gang {}: core {} does not exist", gang.0, core.0)
            }
            Self::SameCore(gang, core) => write!(f, "gang {}: core {} has two members", gang.0, core.0),
            Self::NoRoom(gang) => write!(f, "no slot has room for gang {}", gang.0),
        }
    }
}

impl error::Error for GangError {}

/// Which gang has which core in which slot: `SLOTS` slots at most, on `CORES` cores.
///
/// A gang keeps its places. Slots without gangs are left out of the rotation, so that each gang has one part
/// in as many as there are slots in use.
///
/// A change of the matrix changes nothing on a core until the core has its new [`Column`]. So that all cores
/// change at the same moment, the kernel chooses one that is far enough in the future, passes it to
/// [`Self::start_at`], and gives each core its column before.
#[derive(Clone, Debug)]
pub struct Gangs<const SLOTS: usize, const CORES: usize> {
    slots: [[Option<GangId>; CORES]; SLOTS],
    /// How many slots have gangs: the first ones.
    used: usize,
    start: Nanos,
    quantum: Nanos,
}

impl<const SLOTS: usize, const CORES: usize> Gangs<SLOTS, CORES> {
    /// A matrix without gangs. A slot lasts for `quantum`; 0 counts as 1 ns.
    pub const fn new(quantum: Nanos) -> Self {
        const { assert!(SLOTS <= u32::MAX as usize && CORES <= u32::MAX as usize) };
        Self { slots: [[None; CORES]; SLOTS], used: 0, start: Nanos(0), quantum }
    }

    /// Places a gang of `width` members, in the first slot with so many free cores, on the first of these.
    /// Returns the slot.
    ///
    /// # Errors
    /// [`GangError`], but not for a core.
    pub fn place(&mut self, gang: GangId, width: usize) -> Result<usize, GangError> {
        if width > CORES {
            return Err(GangError::TooWide { gang, width });
        }
        self.check(gang, width)?;
        let slot =
            self.slot_where(gang, |slot| slot.iter().filter(|place| place.is_none()).count() >= width)?;
        let free = self.slots[slot].iter_mut().filter(|place| place.is_none());
        free.take(width).for_each(|place| *place = Some(gang));
        Ok(slot)
    }

    /// Places a gang that has a member for each of these cores, in the first slot where they are free.
    /// Returns the slot.
    ///
    /// # Errors
    /// [`GangError`], but not `TooWide`.
    pub fn place_on(&mut self, gang: GangId, cores: &[CoreId]) -> Result<usize, GangError> {
        self.check(gang, cores.len())?;
        self.put(gang, &Self::wanted(gang, cores)?)
    }

    /// Gives a gang that has its places these in their stead, in the first slot where they are free, or its
    /// own. Returns the slot.
    ///
    /// # Errors
    /// [`GangError`], but not `AlreadyThere`, `TooWide`.
    pub fn move_to(&mut self, gang: GangId, cores: &[CoreId]) -> Result<usize, GangError> {
        if cores.is_empty() {
            return Err(GangError::Empty(gang));
        }
        let wanted = Self::wanted(gang, cores)?;
        if !self.slots.iter().any(|slot| is_free(slot, &wanted, Some(gang))) {
            return Err(GangError::NoRoom(gang));
        }
        self.remove(gang)?;
        // There is room: where it was found, or behind the others if that slot had no other gang.
        self.put(gang, &wanted)
    }

    fn put(&mut self, gang: GangId, wanted: &[bool; CORES]) -> Result<usize, GangError> {
        let slot = self.slot_where(gang, |slot| is_free(slot, wanted, None))?;
        for (place, _) in self.slots[slot].iter_mut().zip(wanted).filter(|(_, wanted)| **wanted) {
            *place = Some(gang);
        }
        Ok(slot)
    }

    fn wanted(gang: GangId, cores: &[CoreId]) -> Result<[bool; CORES], GangError> {
        let mut wanted = [false; CORES];
        for core in cores {
            match wanted.get_mut(core.0 as usize) {
                None => return Err(GangError::NoCore(gang, *core)),
                Some(true) => return Err(GangError::SameCore(gang, *core)),
                Some(wanted) => *wanted = true,
            }
        }
        Ok(wanted)
    }

    /// Takes a gang out. If its slot has no other, the later slots move up.
    ///
    /// # Errors
    /// [`GangError::Unknown`].
    pub fn remove(&mut self, gang: GangId) -> Result<(), GangError> {
        let slot = self.slot_of(gang).ok_or(GangError::Unknown(gang))?;
        for place in &mut self.slots[slot] {
            *place = place.filter(|other| *other != gang);
        }
        if self.slots[slot].iter().all(Option::is_none) {
            self.slots[slot..self.used].rotate_left(1);
            self.used -= 1;
        }
        Ok(())
    }

    /// Sets the start of the first slot, from which on later columns hold.
    pub const fn start_at(&mut self, start: Nanos) {
        self.start = start;
    }

    /// Returns the rotation of the slots.
    pub const fn rotation(&self) -> Rotation {
        Rotation::new(self.start, self.quantum, self.used as u32)
    }

    /// Which slot has its turn. `None` if there are no gangs.
    pub fn slot_at(&self, now: Nanos) -> Option<usize> {
        self.rotation().slot_at(now)
    }

    /// Which slot a gang is in.
    pub fn slot_of(&self, gang: GangId) -> Option<usize> {
        self.slots[..self.used].iter().position(|slot| slot.contains(&Some(gang)))
    }

    /// Which cores a gang has.
    pub fn cores_of(&self, gang: GangId) -> impl Iterator<Item = CoreId> + '_ {
        let places = self.slot_of(gang).map(|slot| self.slots[slot].iter()).into_iter().flatten();
        (0..).map(CoreId).zip(places).filter(move |(_, place)| **place == Some(gang)).map(|(core, _)| core)
    }

    /// Returns the column of a core; `None` if there is no such core.
    pub fn column(&self, core: CoreId) -> Option<Column<SLOTS>> {
        let core = Some(core.0 as usize).filter(|core| *core < CORES)?;
        Some(Column::new(self.rotation(), array::from_fn(|slot| self.slots[slot][core])))
    }

    fn check(&self, gang: GangId, width: usize) -> Result<(), GangError> {
        match width {
            _ if self.slot_of(gang).is_some() => Err(GangError::AlreadyThere(gang)),
            0 => Err(GangError::Empty(gang)),
            _ => Ok(()),
        }
    }

    /// The first slot that fits, a new one if need be.
    fn slot_where(
        &mut self,
        gang: GangId,
        fits: impl Fn(&[Option<GangId>; CORES]) -> bool,
    ) -> Result<usize, GangError> {
        // All behind those in use are empty, so the first of them fits whatever fits anywhere.
        let slot = self.slots.iter().position(fits).ok_or(GangError::NoRoom(gang))?;
        self.used = self.used.max(slot + 1);
        Ok(slot)
    }
}

/// Returns whether the places that are wanted are nobody's, or that gang's.
fn is_free(slot: &[Option<GangId>], wanted: &[bool], or_of: Option<GangId>) -> bool {
    slot.iter().zip(wanted).all(|(place, wanted)| !wanted || place.is_none() || *place == or_of)
}
