//! Fixed priorities, and first in, first out among equals: `SCHED_FIFO` of POSIX.1-2017, System Interfaces,
//! 2.8.4.
//!
//! POSIX has a list of runnable threads for each priority, and the running thread is in it. So has this
//! policy. What happens to a task is then only a place in a list:
//!
//! * One that is woken or added goes to the tail of its priority's list. So does one that yields.
//! * One that is preempted stays where it is: at the head.
//! * One whose priority is raised goes to the tail of its new list, one whose priority is lowered to the head
//!   of its (`pthread_setschedprio`).
//!
//! The head of the highest list runs. There are no quanta, hence no ticks.

use crate::{Nanos, Policy, PolicyError, Result, State, TaskId, levels::Levels};

/// A priority: the higher number goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

/// The priority of a task that is added without one: the lowest.
pub const DEFAULT_PRIORITY: Priority = Priority(0);

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    priority: Priority,
}

/// Fixed priorities, and first in, first out among equals.
///
/// A task runs until it yields or blocks, or until one of a higher priority is ready. `N` is the capacity;
/// tasks are numbered below it.
#[derive(Clone, Debug)]
pub struct Fifo<const N: usize> {
    entries: [Entry; N],
    /// All ready tasks and the current one.
    runnable: Levels<N>,
    current: Option<TaskId>,
}

impl<const N: usize> Fifo<N> {
    /// A policy without tasks.
    pub const fn new() -> Self {
        Self {
            entries: [Entry { state: State::Unknown, priority: DEFAULT_PRIORITY }; N],
            runnable: Levels::new(),
            current: None,
        }
    }

    /// [`Policy::add`], with a priority.
    ///
    /// # Errors
    /// [`PolicyError::NoRoom`], [`PolicyError::AlreadyThere`].
    pub fn add_with(&mut self, task: TaskId, priority: Priority) -> Result {
        let entry = self.entries.get_mut(task.0 as usize).ok_or(PolicyError::NoRoom(task))?;
        if entry.state != State::Unknown {
            return Err(PolicyError::AlreadyThere(task));
        }
        *entry = Entry { state: State::Runnable, priority };
        self.runnable.push_back(task, priority.0);
        Ok(())
    }

    /// Returns a task's priority.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn priority(&self, task: TaskId) -> Result<Priority> {
        self.known(task).map(|entry| entry.priority)
    }

    /// Changes a task's priority, whatever its state. [`Policy::on_tick`] returns whether another task goes
    /// first now.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn set_priority(&mut self, task: TaskId, priority: Priority) -> Result {
        let Entry { state, priority: before } = self.known(task)?;
        if priority == before {
            return Ok(());
        }
        self.entries[task.0 as usize].priority = priority;
        if state == State::Runnable {
            self.runnable.unlink(task, before.0);
            if priority > before {
                self.runnable.push_back(task, priority.0);
            } else {
                self.runnable.push_front(task, priority.0);
            }
        }
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
        let Entry { state, priority } = self.known(task)?;
        if state == State::Runnable {
            self.runnable.unlink(task, priority.0);
        }
        self.current = self.current.filter(|current| *current != task);
        self.entries[task.0 as usize].state = then;
        Ok(())
    }
}

impl<const N: usize> Default for Fifo<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Policy for Fifo<N> {
    fn add(&mut self, task: TaskId) -> Result {
        self.add_with(task, DEFAULT_PRIORITY)
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Unknown)
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Blocked)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        let Entry { state, priority } = self.known(task)?;
        let blocked = state == State::Blocked;
        if blocked {
            self.entries[task.0 as usize].state = State::Runnable;
            self.runnable.push_back(task, priority.0);
        }
        Ok(blocked)
    }

    fn yield_current(&mut self) {
        if let Some(task) = self.current.take() {
            let priority = self.entries[task.0 as usize].priority;
            self.runnable.unlink(task, priority.0);
            self.runnable.push_back(task, priority.0);
        }
    }

    fn pick_next(&mut self, _now: Nanos) -> Option<TaskId> {
        self.current = self.runnable.first();
        self.current
    }

    fn on_tick(&self, _now: Nanos) -> bool {
        self.runnable.first() != self.current
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        self.on_tick(now).then_some(now)
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        self.runnable.len()
    }
}
