//! Tasks take turns.

use crate::{Nanos, Policy, PolicyError, Result, State, TaskId, queue::Queue};

/// The quantum if none is given: 100 ms. Long, because a switch costs caches and TLBs, and HPC tasks seldom
/// share a core.
pub const DEFAULT_QUANTUM: Nanos = Nanos(100_000_000);

/// Tasks take turns, in the order in which they became runnable.
///
/// A task runs until it yields or blocks, or until its quantum is over and another task is ready. Time alone
/// on the core counts: a task that has run for its quantum makes room for the next that becomes ready, at
/// once. A task whose quantum is over while nobody else is ready goes on. `N` is the capacity; tasks are
/// numbered below it.
#[derive(Clone, Debug)]
pub struct RoundRobin<const N: usize> {
    states: [State; N],
    ready: Queue<N>,
    current: Option<TaskId>,
    quantum: Nanos,
    /// When the current task's quantum is over.
    quantum_end: Nanos,
}

impl<const N: usize> RoundRobin<N> {
    /// A policy without tasks. A quantum of 0 changes tasks whenever there is another.
    pub const fn new(quantum: Nanos) -> Self {
        Self {
            states: [State::Unknown; N],
            ready: Queue::new(),
            current: None,
            quantum,
            quantum_end: Nanos(0),
        }
    }

    /// Nanoseconds that a task runs before others get their turn.
    pub const fn quantum(&self) -> Nanos {
        self.quantum
    }

    /// Changes the quantum, from the next turn on.
    pub const fn set_quantum(&mut self, quantum: Nanos) {
        self.quantum = quantum;
    }

    /// Returns whether the current task would make room for another one if it yielded.
    #[inline]
    pub const fn has_ready(&self) -> bool {
        self.ready.len() > 0
    }

    /// [`Policy::yield_current`] and [`Policy::pick_next`] in one step: what a switch between tasks costs
    /// most often. `None`, and nothing has changed, if no other task is ready, or none is current.
    #[inline]
    pub fn pass_on(&mut self, now: Nanos) -> Option<TaskId> {
        let task = self.current?;
        let next = self.ready.exchange(task)?;
        self.current = Some(next);
        self.quantum_end = now.saturating_add(self.quantum);
        Some(next)
    }

    /// Returns the end of the current task's quantum.
    #[inline]
    pub const fn quantum_end(&self) -> Nanos {
        self.quantum_end
    }

    fn known(&self, task: TaskId) -> Result<State> {
        match self.states.get(task.0 as usize) {
            None | Some(State::Unknown) => Err(PolicyError::Unknown(task)),
            Some(state) => Ok(*state),
        }
    }

    fn enqueue(&mut self, task: TaskId) {
        self.states[task.0 as usize] = State::Runnable;
        self.ready.push(task);
    }

    /// Takes a task away from wherever it is.
    fn detach(&mut self, task: TaskId, then: State) -> Result {
        match self.known(task)? {
            State::Runnable if self.current == Some(task) => self.current = None,
            State::Runnable => self.ready.unlink(task),
            State::Blocked | State::Unknown => {}
        }
        self.states[task.0 as usize] = then;
        Ok(())
    }
}

impl<const N: usize> Default for RoundRobin<N> {
    fn default() -> Self {
        Self::new(DEFAULT_QUANTUM)
    }
}

impl<const N: usize> Policy for RoundRobin<N> {
    fn add(&mut self, task: TaskId) -> Result {
        match self.states.get(task.0 as usize) {
            None => Err(PolicyError::NoRoom(task)),
            Some(State::Unknown) => {
                self.enqueue(task);
                Ok(())
            }
            Some(_) => Err(PolicyError::AlreadyThere(task)),
        }
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Unknown)
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Blocked)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        let blocked = self.known(task)? == State::Blocked;
        if blocked {
            self.enqueue(task);
        }
        Ok(blocked)
    }

    fn yield_current(&mut self) {
        if let Some(task) = self.current.take() {
            self.ready.push(task);
        }
    }

    fn pick_next(&mut self, now: Nanos) -> Option<TaskId> {
        if now >= self.quantum_end {
            self.yield_current();
        }
        if self.current.is_none() {
            let task = self.ready.pop()?;
            self.current = Some(task);
            self.quantum_end = now.saturating_add(self.quantum);
        }
        self.current
    }

    fn on_tick(&self, now: Nanos) -> bool {
        self.ready.len() > 0 && (self.current.is_none() || now >= self.quantum_end)
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        match self.current {
            _ if self.runnable() < 2 => None,
            None => Some(now),
            Some(_) => Some(self.quantum_end.max(now)),
        }
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        self.ready.len() + usize::from(self.current.is_some())
    }
}
