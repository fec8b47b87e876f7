//! Processor time in proportion to weights: earliest eligible virtual deadline first.
//!
//! I. Stoica and H. Abdel-Wahab, "Earliest Eligible Virtual Deadline First", Old Dominion University TR-95-22, 1995. It
//! is stride scheduling (C. Waldspurger and W. Weihl, MIT/LCS/TM-528, 1995) with a bound that does not grow with the
//! number of tasks: no task is ever more than about a quantum ahead of its share or behind it.
//!
//! Each task has a virtual time, which goes by as the task runs, and the slower the heavier the task is. The core's
//! virtual time is the mean of those of its runnable tasks, by weight. A task that is not ahead of it is eligible; of
//! these, the one runs whose quantum would be over first in its own virtual time.

use crate::{DEFAULT_QUANTUM, Nanos, Policy, PolicyError, Result, State, TaskId, queue::Queue};
use core::num::NonZeroU32;

/// The weight of a task that is added without one: room for smaller and larger ones.
pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(1024).expect("not 0");

/// Virtual times are in 2^-16 ns at weight 1.
const FRACTION_BITS: u32 = 16;

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
    /// It has become runnable or has yielded since the policy was last told the time: its virtual time is not set yet.
    arriving: bool,
}

impl Entry {
    const UNKNOWN: Self = Self {
        state: State::Unknown,
        weight: DEFAULT_WEIGHT,
        time: 0,
        remainder: 0,
        deadline: 0,
        arriving: false,
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

    /// Whether a task is not ahead of this.
    fn admits(&self, entry: &Entry) -> bool {
        entry.time.saturating_sub(self.base).saturating_mul(self.weight) <= self.sum
    }

    fn time(&self) -> u128 {
        self.base.saturating_add(self.sum / self.weight.max(1))
    }
}

/// Processor time in proportion to weights.
///
/// A task runs until it yields or blocks, or until its quantum is over and another task is ready; a task that wakes does
/// not preempt it. One that slept gets nothing for its sleep, nor for what it was behind when it went to sleep; what it
/// was ahead it still is, unless the others have caught up. A task that yields lets another one go first, and gives up
/// what it is behind. `N` is the capacity; tasks are numbered below it.
#[derive(Clone, Debug)]
pub struct Share<const N: usize> {
    entries: [Entry; N],
    /// Ready tasks, and the current one.
    runnable: Queue<N>,
    current: Option<TaskId>,
    /// Who has had the core since `since`. It may have blocked meanwhile.
    on_core: Option<TaskId>,
    /// The last moment that the policy was told.
    since: Nanos,
    quantum: Nanos,
    /// When the current task's turn is over.
    turn_end: Nanos,
    /// The core's virtual time.
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
            current: None,
            on_core: None,
            since: Nanos(0),
            quantum,
            turn_end: Nanos(0),
            time: 0,
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

    /// A task's weight.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn weight(&self, task: TaskId) -> Result<NonZeroU32> {
        self.known(task).map(|entry| entry.weight)
    }

    /// Changes a task's weight. What it has run since the policy was last told the time counts with the new one.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn set_weight(&mut self, task: TaskId, weight: NonZeroU32) -> Result {
        self.known(task)?;
        let quantum = self.quantum;
        let entry = &mut self.entries[task.0 as usize];
        entry.weight = weight;
        entry.remainder = 0;
        entry.start_quantum(quantum);
        Ok(())
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
        (entry.state, entry.arriving) = (State::Runnable, true);
        self.runnable.push(task);
    }

    /// Takes a task away from wherever it is.
    fn detach(&mut self, task: TaskId, then: State) -> Result {
        if self.known(task)?.state == State::Runnable {
            self.runnable.unlink(task);
        }
        let others = |other: &TaskId| *other != task;
        self.current = self.current.filter(others);
        self.yielded = self.yielded.filter(others);
        self.entries[task.0 as usize].state = then;
        Ok(())
    }

    /// Of the tasks that are eligible, the one with the earliest deadline, and of these the one that waits for longest.
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
            self.entries[task.0 as usize].arriving = true;
            self.yielded = Some(task);
        }
    }

    fn advance(&mut self, now: Nanos) {
        let ran = now.since(self.since);
        self.since = self.since.max(now);
        if let Some(task) = self.on_core {
            let entry = &mut self.entries[task.0 as usize];
            entry.charge(ran, self.quantum);
            // Stands if nobody is left.
            self.time = self.time.max(entry.time);
        }
        self.on_core = self.current;
        let Self { entries, runnable, .. } = self;
        let here = runnable.iter().map(|task| &entries[task.0 as usize]).filter(|entry| !entry.arriving);
        if let Some(mean) = Mean::of(here) {
            self.time = mean.time();
        }
        for task in runnable.iter() {
            let entry = &mut entries[task.0 as usize];
            if entry.arriving {
                entry.arriving = false;
                entry.time = entry.time.max(self.time);
                entry.start_quantum(self.quantum);
            }
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
