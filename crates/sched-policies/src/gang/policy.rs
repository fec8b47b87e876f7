//! A core that goes by its column of the matrix.

use super::{Column, GangId};
use crate::{DEFAULT_QUANTUM, Nanos, Policy, PolicyError, Result, State, TaskId, queue::Queue};

/// Action of a core in a slot where it has no member to run: its place is empty, or the member is blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyPlace {
    /// It idles, so that nothing but the slot's gangs runs.
    #[default]
    Idle,
    /// It runs any ready task, of another gang or of none. They take turns, each for a slot's time.
    RunOthers,
    /// As [`Self::RunOthers`]. And so that gangs that never rest do not keep the core from its *outsiders*,
    /// tasks without a place in its column, these have turns of their own while they are ready: one in as
    /// many as there are slots and one more, taken from each slot in turn, on all cores at the same moment.
    ShareWithOutsiders,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    gang: Option<GangId>,
}

/// Which slot, and of which matrix: the start of its rotation, and the turn.
type Turn = (Nanos, u64);

/// The policy of one core of a gang-scheduled machine.
///
/// The core runs the member of the gang that has the present slot. Other tasks run as [`EmptyPlace`] says,
/// and take turns while no gang has any core. A task that yields while it is the slot's member goes on. `N`
/// is the capacity; tasks are numbered below it. `SLOTS` is that of the matrix, [`super::Gangs`].
#[derive(Clone, Debug)]
pub struct Gang<const N: usize, const SLOTS: usize> {
    entries: [Entry; N],
    /// Ready tasks, and the current one.
    runnable: Queue<N>,
    current: Option<TaskId>,
    column: Column<SLOTS>,
    /// Takes the place of `column` when its rotation starts.
    next_column: Option<Column<SLOTS>>,
    empty_place: EmptyPlace,
    /// The latest time passed to the policy.
    now: Nanos,
    /// When the current task was chosen, or confirmed.
    turn: Turn,
}

impl<const N: usize, const SLOTS: usize> Gang<N, SLOTS> {
    /// A core without tasks that knows of no gangs.
    pub const fn new(empty_place: EmptyPlace) -> Self {
        Self::with_quantum(empty_place, DEFAULT_QUANTUM)
    }

    /// As [`Self::new`]; a turn without gangs lasts for `quantum`.
    pub const fn with_quantum(empty_place: EmptyPlace, quantum: Nanos) -> Self {
        Self {
            entries: [Entry { state: State::Unknown, gang: None }; N],
            runnable: Queue::new(),
            current: None,
            column: Column::without_gangs(quantum),
            next_column: None,
            empty_place,
            now: Nanos(0),
            turn: (Nanos(0), 0),
        }
    }

    /// Sets a new matrix on the core, at `now`. It holds from the start of the column's rotation on; until
    /// then the present one does. One that was set before and has not started is dropped.
    pub fn set_column(&mut self, column: Column<SLOTS>, now: Nanos) {
        self.advance(now);
        self.next_column = Some(column);
    }

    /// Returns the core's action in an empty place.
    pub const fn empty_place(&self) -> EmptyPlace {
        self.empty_place
    }

    /// Changes what the core does in an empty place.
    pub const fn set_empty_place(&mut self, empty_place: EmptyPlace) {
        self.empty_place = empty_place;
    }

    /// [`Policy::add`], as member of a gang.
    ///
    /// # Errors
    /// [`PolicyError::NoRoom`], [`PolicyError::AlreadyThere`].
    pub fn add_member(&mut self, task: TaskId, gang: GangId) -> Result {
        self.add_to(task, Some(gang))
    }

    /// Returns a task's gang.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn gang(&self, task: TaskId) -> Result<Option<GangId>> {
        self.known(task).map(|entry| entry.gang)
    }

    /// Makes a task a member of another gang, or of none. If a gang has several members on this core, the one
    /// runs that has been ready for longest.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn set_gang(&mut self, task: TaskId, gang: Option<GangId>) -> Result {
        self.known(task)?;
        self.entries[task.0 as usize].gang = gang;
        Ok(())
    }

    fn add_to(&mut self, task: TaskId, gang: Option<GangId>) -> Result {
        let entry = self.entries.get_mut(task.0 as usize).ok_or(PolicyError::NoRoom(task))?;
        if entry.state != State::Unknown {
            return Err(PolicyError::AlreadyThere(task));
        }
        *entry = Entry { state: State::Runnable, gang };
        self.runnable.push(task);
        Ok(())
    }

    fn known(&self, task: TaskId) -> Result<Entry> {
        match self.entries.get(task.0 as usize) {
            Some(entry) if entry.state != State::Unknown => Ok(*entry),
            _ => Err(PolicyError::Unknown(task)),
        }
    }

    /// Takes a task away from wherever it is.
    fn detach(&mut self, task: TaskId, then: State) -> Result {
        if self.known(task)?.state == State::Runnable {
            self.runnable.unlink(task);
        }
        self.current = self.current.filter(|current| *current != task);
        self.entries[task.0 as usize].state = then;
        Ok(())
    }

    /// The next column, if it holds by now.
    fn started(&self, now: Nanos) -> Option<&Column<SLOTS>> {
        self.next_column.as_ref().filter(|next| next.rotation().start() <= now)
    }

    fn column_at(&self, now: Nanos) -> &Column<SLOTS> {
        self.started(now).unwrap_or(&self.column)
    }

    fn turn_at(&self, now: Nanos) -> Turn {
        let rotation = self.column_at(now).rotation();
        (rotation.start(), rotation.turn_at(now))
    }

    /// The member that the core has to run.
    fn member_at(&self, now: Nanos) -> Option<TaskId> {
        let gang = self.column_at(now).gang_at(now)?;
        self.runnable.iter().find(|task| self.entries[task.0 as usize].gang == Some(gang))
    }

    /// Returns whether tasks other than the slot's member may run.
    fn others_run(&self, now: Nanos) -> bool {
        self.empty_place != EmptyPlace::Idle || self.column_at(now).rotation().slots() == 0
    }

    /// Returns whether the slot's member lets outsiders go first.
    fn is_for_outsiders(&self, now: Nanos) -> bool {
        let rotation = self.column_at(now).rotation();
        let slots = u64::from(rotation.slots());
        // Slots and turns for outsiders have no common divisor, so each slot gives as much as the others.
        self.empty_place == EmptyPlace::ShareWithOutsiders && rotation.turn_at(now) % (slots + 1) == slots
    }

    fn is_outsider(&self, task: TaskId, now: Nanos) -> bool {
        !self.entries[task.0 as usize].gang.is_some_and(|gang| self.column_at(now).has(gang))
    }

    /// Which of these tasks has its turn: one for each slot's time.
    fn in_turn(&self, now: Nanos, among: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        let current = self.current.filter(|task| among(*task));
        let stays = current.filter(|_| self.turn == self.turn_at(now));
        let first = || self.runnable.iter().find(|task| Some(*task) != self.current && among(*task));
        stays.or_else(first).or(current)
    }

    /// The slot's member, or who is in its place.
    fn choose(&self, now: Nanos) -> Option<TaskId> {
        let outsider = if self.is_for_outsiders(now) {
            self.in_turn(now, |task| self.is_outsider(task, now))
        } else {
            None
        };
        let other = || if self.others_run(now) { self.in_turn(now, |_| true) } else { None };
        outsider.or_else(|| self.member_at(now)).or_else(other)
    }
}

impl<const N: usize, const SLOTS: usize> Default for Gang<N, SLOTS> {
    fn default() -> Self {
        Self::new(EmptyPlace::default())
    }
}

impl<const N: usize, const SLOTS: usize> Policy for Gang<N, SLOTS> {
    fn add(&mut self, task: TaskId) -> Result {
        self.add_to(task, None)
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Unknown)
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Blocked)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        let blocked = self.known(task)?.state == State::Blocked;
        if blocked {
            self.entries[task.0 as usize].state = State::Runnable;
            self.runnable.push(task);
        }
        Ok(blocked)
    }

    fn yield_current(&mut self) {
        if let Some(task) = self.current.take() {
            self.runnable.requeue(task);
        }
    }

    fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        if let Some(started) = self.started(self.now) {
            self.column = *started;
            self.next_column = None;
        }
    }

    fn pick_next(&mut self, now: Nanos) -> Option<TaskId> {
        let chosen = self.choose(now);
        let turn = self.turn_at(now);
        self.advance(now);
        // Its place in the queue is for its next turn, and for the next member if its gang has several here.
        if let Some(before) = self.current
            && self.turn != turn
            && chosen != Some(before)
        {
            self.runnable.requeue(before);
        }
        (self.current, self.turn) = (chosen, turn);
        chosen
    }

    fn on_tick(&self, now: Nanos) -> bool {
        self.choose(now) != self.current
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        if self.on_tick(now) {
            return Some(now);
        }
        let tasks = self.runnable.len();
        if tasks == 0 || (tasks == 1 && self.empty_place != EmptyPlace::Idle) {
            return None;
        }
        let column = self.column_at(now);
        let shares = self.empty_place == EmptyPlace::ShareWithOutsiders;
        let takes_turns = tasks > 1 && self.others_run(now) && (shares || self.member_at(now).is_none());
        let turn = (takes_turns || column.rotation().slots() > 1).then(|| column.rotation().next_turn(now));
        let change = self.next_column.map(|next| next.rotation().start()).filter(|start| *start > now);
        [turn, change].into_iter().flatten().min()
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        if self.others_run(self.now) {
            self.runnable.len()
        } else {
            self.member_at(self.now).map_or(0, |_| 1)
        }
    }
}
