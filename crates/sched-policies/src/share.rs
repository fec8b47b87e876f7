//! Processor time in proportion to weights: earliest eligible virtual deadline first.
//!
//! I. Stoica and H. Abdel-Wahab, "Earliest Eligible Virtual Deadline First", Old Dominion University
//! TR-95-22, 1995. It is stride scheduling (C. Waldspurger and W. Weihl, MIT/LCS/TM-528, 1995) with a bound
//! that does not grow with the number of tasks: no task is ever more than about a quantum ahead of its share
//! or behind it.
//!
//! Each task has a virtual time, which goes by as the task runs, and the slower the heavier the task is. The
//! core's virtual time is the mean of those of its runnable tasks, by weight. A task that is not ahead of it
//! is eligible; of these, the one runs whose quantum would be over first in its own virtual time.
//!
//! What a task is behind, in time that it should have had, is its *lag*; of one that is ahead it is a debt,
//! below 0. A task takes its lag with it when it blocks, and has it again when it wakes, whatever the others
//! did meanwhile: neither is a debt paid by a nap, nor does sleep earn anything. The others bear it while it
//! is away, and have it back afterwards.

use crate::{DEFAULT_QUANTUM, Nanos, Policy, PolicyError, Result, State, TaskId, queue::Queue};
use core::num::NonZeroU32;

/// The weight of a task that is added without one: room for smaller and larger ones.
pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(1024).expect("not 0");

/// Virtual times are in 2^-31 ns at weight 1, so that rounding is below a few nanoseconds at any weight.
const FRACTION_BITS: u32 = 31;

/// Where virtual time begins: further from 0 than a task can be behind.
const BEGINNING: u128 = 1 << 96;

/// What a task's virtual time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its own.
    Here,
    /// Its own, but it has yielded since the last time passed to the policy.
    Yielding,
    /// Not set yet: it has become runnable since then, with its `lag`.
    Arriving,
    /// Its own until the next time passed to the policy: it has blocked since then.
    Departing,
    /// None: it has `lag` instead.
    Away,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    weight: NonZeroU32,
    /// The task's virtual time.
    time: u128,
    /// What the division by the weight has left over, so that errors do not add up.
    remainder: u64,
    /// When its quantum is over, in its virtual time.
    deadline: u128,
    place: Place,
    /// What it is behind: virtual time by weight. Of tasks that arrive or are away.
    lag: i128,
}

impl Entry {
    const UNKNOWN: Self = Self {
        state: State::Unknown,
        weight: DEFAULT_WEIGHT,
        time: 0,
        remainder: 0,
        deadline: 0,
        place: Place::Away,
        lag: 0,
    };

    /// The virtual time of so many nanoseconds, and the remainder.
    fn virtual_time(&self, time: Nanos, remainder: u64) -> (u128, u64) {
        // In two steps, of 64 bits each.
        let weight = u64::from(self.weight.get());
        let rest = ((time.0 % weight) << FRACTION_BITS) + remainder;
        ((u128::from(time.0 / weight) << FRACTION_BITS) + u128::from(rest / weight), rest % weight)
    }

    /// The task has run for this long.
    fn charge(&mut self, ran: Nanos, quantum: Nanos) {
        let (passed, remainder) = self.virtual_time(ran, self.remainder);
        self.time = self.time.saturating_add(passed);
        self.remainder = remainder;
        if self.time >= self.deadline {
            self.start_quantum(quantum);
        }
    }

    fn start_quantum(&mut self, quantum: Nanos) {
        self.deadline = self.time.saturating_add(self.virtual_time(quantum, 0).0);
    }

    /// Sets its virtual time, and begins a quantum.
    fn start_at(&mut self, time: u128, quantum: Nanos) {
        self.time = time;
        self.place = Place::Here;
        self.start_quantum(quantum);
    }

    fn has_time(&self) -> bool {
        matches!(self.place, Place::Here | Place::Yielding | Place::Departing)
    }

    /// What it is behind on a core whose virtual time is `time`.
    fn lag_at(&self, time: u128) -> i128 {
        let weight = i128::from(self.weight.get());
        // Both are far below the sign.
        (time as i128).saturating_sub(self.time as i128).saturating_mul(weight)
    }

    /// The virtual time of a task with this lag, on a core whose virtual time is `time` with the task there.
    fn time_behind(&self, time: u128, lag: i128) -> u128 {
        time.saturating_add_signed(-(lag / i128::from(self.weight.get())))
    }
}

/// The virtual time of a core.
#[derive(Clone, Copy, Debug)]
struct Mean {
    /// The virtual time of the task that is furthest behind.
    base: u128,
    /// The sum of weight * (virtual time - base).
    sum: u128,
    /// The sum of weights. Not 0.
    weight: u128,
}

impl Mean {
    fn of<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Option<Self> {
        let base = entries.clone().map(|entry| entry.time).min()?;
        let mut mean = Self { base, sum: 0, weight: 0 };
        for entry in entries {
            let weight = u128::from(entry.weight.get());
            mean.sum = mean.sum.saturating_add((entry.time - base).saturating_mul(weight));
            mean.weight += weight;
        }
        Some(mean)
    }

    /// Returns whether a task is not ahead of this.
    fn admits(&self, entry: &Entry) -> bool {
        entry.time.saturating_sub(self.base).saturating_mul(self.weight) <= self.sum
    }

    fn time(&self) -> u128 {
        self.base.saturating_add(self.sum / self.weight.max(1))
    }

    /// The core's virtual time when tasks come that are behind by `lag` altogether: so that they are.
    fn time_with(&self, lag: i128) -> u128 {
        self.time().saturating_add_signed(-(lag / (self.weight.max(1) as i128)))
    }
}

/// Processor time in proportion to weights.
///
/// A task runs until it yields or blocks, or until its quantum is over and another task is ready; a task that
/// wakes does not preempt it. One that slept gets nothing for its sleep: what it was ahead or behind when it
/// went to sleep it still is, but never more than a quantum behind. On a core where nobody is ready all
/// begins anew. A task that yields lets another one go first, and gives up what it is behind. `N` is the
/// capacity; tasks are numbered below it.
#[derive(Clone, Debug)]
pub struct Share<const N: usize> {
    entries: [Entry; N],
    /// Ready tasks, and the current one.
    runnable: Queue<N>,
    /// Those that have blocked since the last time passed to the policy.
    departing: Queue<N>,
    /// Some task's virtual time is to be set.
    unsettled: bool,
    current: Option<TaskId>,
    /// Who has had the core since `since`. It may have blocked meanwhile.
    on_core: Option<TaskId>,
    /// The latest time passed to the policy.
    since: Nanos,
    quantum: Nanos,
    /// When the current task's turn is over.
    turn_end: Nanos,
    /// The core's virtual time, for when nobody is left.
    time: u128,
    /// Lets another one go first.
    yielded: Option<TaskId>,
}

impl<const N: usize> Share<N> {
    /// A policy without tasks. A quantum of 0 lets the policy choose anew whenever it is asked.
    pub const fn new(quantum: Nanos) -> Self {
        Self {
            entries: [Entry::UNKNOWN; N],
            runnable: Queue::new(),
            departing: Queue::new(),
            unsettled: false,
            current: None,
            on_core: None,
            since: Nanos(0),
            quantum,
            turn_end: Nanos(0),
            time: BEGINNING,
            yielded: None,
        }
    }

    /// Nanoseconds that a task runs before another one may.
    pub const fn quantum(&self) -> Nanos {
        self.quantum
    }

    /// Changes the quantum, from the next turn on.
    pub const fn set_quantum(&mut self, quantum: Nanos) {
        self.quantum = quantum;
    }

    /// [`Policy::add`], with a weight.
    ///
    /// # Errors
    /// [`PolicyError::NoRoom`], [`PolicyError::AlreadyThere`].
    pub fn add_with(&mut self, task: TaskId, weight: NonZeroU32) -> Result {
        let entry = self.entries.get_mut(task.0 as usize).ok_or(PolicyError::NoRoom(task))?;
        if entry.state != State::Unknown {
            return Err(PolicyError::AlreadyThere(task));
        }
        *entry = Entry { weight, ..Entry::UNKNOWN };
        self.enqueue(task);
        Ok(())
    }

    /// Returns a task's weight.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn weight(&self, task: TaskId) -> Result<NonZeroU32> {
        self.known(task).map(|entry| entry.weight)
    }

    /// Changes a task's weight. What it is behind or ahead stays as it is; what it has run since the
    /// last time passed to the policy counts with the new one.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn set_weight(&mut self, task: TaskId, weight: NonZeroU32) -> Result {
        let before = *self.known(task)?;
        let mean = |with: bool| {
            let others = self.present().filter(|other| *other != task || with);
            Mean::of(others.map(|other| &self.entries[other.0 as usize]))
        };
        // As if it left and came back.
        let lag = mean(true).filter(|_| before.has_time()).map_or(0, |mean| before.lag_at(mean.time()));
        let with = mean(false).map(|mean| mean.time_with(lag));
        let quantum = self.quantum;
        let entry = &mut self.entries[task.0 as usize];
        entry.weight = weight;
        entry.remainder = 0;
        if let Some(time) = with.filter(|_| entry.has_time()) {
            entry.time = entry.time_behind(time, lag);
        }
        entry.start_quantum(quantum);
        Ok(())
    }

    /// Those that have a virtual time.
    fn present(&self) -> impl Iterator<Item = TaskId> + Clone + '_ {
        let all = self.runnable.iter().chain(self.departing.iter());
        all.filter(|task| self.entries[task.0 as usize].has_time())
    }

    fn known(&self, task: TaskId) -> Result<&Entry> {
        match self.entries.get(task.0 as usize) {
            Some(entry) if entry.state != State::Unknown => Ok(entry),
            _ => Err(PolicyError::Unknown(task)),
        }
    }

    /// Makes a task runnable that is not.
    fn enqueue(&mut self, task: TaskId) {
        let entry = &mut self.entries[task.0 as usize];
        entry.state = State::Runnable;
        if entry.place == Place::Departing {
            // It has not been away for any time.
            entry.place = Place::Here;
            self.departing.unlink(task);
        } else {
            entry.place = Place::Arriving;
            self.unsettled = true;
        }
        self.runnable.push(task);
    }

    /// Takes a task away from wherever it is.
    fn detach(&mut self, task: TaskId, then: State) -> Result {
        let entry = self.known(task)?;
        let departs = then == State::Blocked && entry.has_time();
        match entry.state {
            State::Runnable => self.runnable.unlink(task),
            _ if entry.place == Place::Departing && !departs => self.departing.unlink(task),
            _ => {}
        }
        let entry = &mut self.entries[task.0 as usize];
        if departs && entry.place != Place::Departing {
            entry.place = Place::Departing;
            self.departing.push(task);
            self.unsettled = true;
        } else if !departs {
            entry.place = Place::Away;
        }
        let others = |other: &TaskId| *other != task;
        self.current = self.current.filter(others);
        self.yielded = self.yielded.filter(others);
        self.entries[task.0 as usize].state = then;
        Ok(())
    }

    /// Notes the lag of those that have blocked, and gives those that have woken or yielded their virtual
    /// times.
    #[inline(never)]
    fn settle(&mut self) {
        self.unsettled = false;
        let quantum = self.quantum;
        if let Some(mean) = Mean::of(self.present().map(|task| &self.entries[task.0 as usize])) {
            self.time = mean.time();
        }
        while let Some(task) = self.departing.pop() {
            let entry = &mut self.entries[task.0 as usize];
            let most = i128::from(quantum.0) << FRACTION_BITS;
            (entry.lag, entry.place) = (entry.lag_at(self.time).min(most), Place::Away);
        }
        let Self { entries, runnable, .. } = self;
        let here = |entries: &[Entry; N]| {
            let here = runnable.iter().map(|task| &entries[task.0 as usize]);
            Mean::of(here.filter(|entry| entry.place == Place::Here))
        };
        for task in runnable.iter().filter(|task| self.yielded == Some(*task)) {
            let others = here(entries).map_or(0, |mean| mean.time());
            let entry = &mut entries[task.0 as usize];
            if entry.place == Place::Yielding {
                entry.start_at(entry.time.max(others), quantum);
            }
        }
        let arriving = |entry: &Entry| entry.place == Place::Arriving;
        let lags = runnable.iter().map(|task| &entries[task.0 as usize]).filter(|entry| arriving(entry));
        let lag = lags.fold(0_i128, |sum, entry| sum.saturating_add(entry.lag));
        let time = here(entries).map_or(self.time, |mean| mean.time_with(lag));
        for task in runnable.iter() {
            let entry = &mut entries[task.0 as usize];
            if arriving(entry) {
                entry.start_at(entry.time_behind(time, entry.lag), quantum);
            }
        }
    }

    /// Of the tasks that are eligible, the one with the earliest deadline, and of these the one that waits
    /// for longest.
    fn choose(&self) -> Option<TaskId> {
        let entry = |task: TaskId| &self.entries[task.0 as usize];
        let mean = Mean::of(self.runnable.iter().map(entry))?;
        let waits = self.yielded.filter(|_| self.runnable.len() > 1);
        // All that are eligible may have yielded. Then it is the earliest deadline alone.
        self.runnable
            .iter()
            .filter(|task| Some(*task) != waits)
            .min_by_key(|task| (!mean.admits(entry(*task)), entry(*task).deadline))
    }
}

impl<const N: usize> Default for Share<N> {
    fn default() -> Self {
        Self::new(DEFAULT_QUANTUM)
    }
}

impl<const N: usize> Policy for Share<N> {
    fn add(&mut self, task: TaskId) -> Result {
        self.add_with(task, DEFAULT_WEIGHT)
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Unknown)?;
        self.on_core = self.on_core.filter(|on_core| *on_core != task);
        Ok(())
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Blocked)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        let blocked = self.known(task)?.state == State::Blocked;
        if blocked {
            self.enqueue(task);
        }
        Ok(blocked)
    }

    fn yield_current(&mut self) {
        if let Some(task) = self.current.take() {
            self.runnable.requeue(task);
            self.entries[task.0 as usize].place = Place::Yielding;
            self.unsettled = true;
            self.yielded = Some(task);
        }
    }

    fn advance(&mut self, now: Nanos) {
        let ran = now.since(self.since);
        self.since = self.since.max(now);
        if let Some(task) = self.on_core {
            self.entries[task.0 as usize].charge(ran, self.quantum);
        }
        self.on_core = self.current;
        if self.unsettled {
            self.settle();
        }
    }

    fn pick_next(&mut self, now: Nanos) -> Option<TaskId> {
        self.advance(now);
        let goes_on = self.current.filter(|_| now < self.turn_end || self.runnable.len() == 1);
        if goes_on.is_none() {
            if let Some(task) = self.current {
                self.runnable.requeue(task);
            }
            self.current = self.choose();
            self.yielded = None;
            self.turn_end = now.saturating_add(self.quantum);
        }
        self.on_core = self.current;
        self.current
    }

    fn on_tick(&self, now: Nanos) -> bool {
        self.next_deadline(now) == Some(now)
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        match self.current {
            None => (self.runnable.len() > 0).then_some(now),
            Some(_) if self.runnable.len() == 1 => None,
            Some(_) => Some(self.turn_end.max(now)),
        }
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        self.runnable.len()
    }
}
