//! One task owns the core.

use crate::{Nanos, Policy, PolicyError, Result, TaskId};

/// One task owns the core: it is never preempted, and the policy never wants a timer.
#[derive(Clone, Debug, Default)]
pub struct Pinned {
    owner: Option<TaskId>,
    runnable: bool,
    current: bool,
}

impl Pinned {
    /// A core without an owner: the first task that is added will be it.
    pub const fn new() -> Self {
        Self { owner: None, runnable: false, current: false }
    }

    fn set_runnable(&mut self, task: TaskId, runnable: bool) -> Result<bool> {
        if self.owner != Some(task) {
            return Err(PolicyError::Unknown(task));
        }
        let changed = self.runnable != runnable;
        self.runnable = runnable;
        self.current &= runnable;
        Ok(changed)
    }
}

impl Policy for Pinned {
    fn add(&mut self, task: TaskId) -> Result {
        match self.owner {
            Some(owner) if owner == task => Err(PolicyError::AlreadyThere(task)),
            Some(_) => Err(PolicyError::NoRoom(task)),
            None => {
                *self = Self { owner: Some(task), runnable: true, current: false };
                Ok(())
            }
        }
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.set_runnable(task, false)?;
        self.owner = None;
        Ok(())
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.set_runnable(task, false).map(drop)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        self.set_runnable(task, true)
    }

    fn yield_current(&mut self) {
        self.current = false;
    }

    fn pick_next(&mut self, _now: Nanos) -> Option<TaskId> {
        self.current = self.runnable;
        self.current()
    }

    fn on_tick(&self, _now: Nanos) -> bool {
        self.runnable && !self.current
    }

    fn next_deadline(&self, _now: Nanos) -> Option<Nanos> {
        None
    }

    fn current(&self) -> Option<TaskId> {
        self.owner.filter(|_| self.current)
    }

    fn runnable(&self) -> usize {
        self.runnable.into()
    }
}
