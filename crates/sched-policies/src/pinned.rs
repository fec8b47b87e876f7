//! One task owns the core.

use crate::{Nanos, Policy, PolicyError, Result, TaskId};

/// A place for one task.
#[derive(Clone, Debug, Default)]
struct Seat {
    task: Option<TaskId>,
    runnable: bool,
}

/// One task owns the core: it is never preempted, and the policy never wants a timer.
///
/// A kernel may have [a task of its own](Self::with_housekeeping) on the core beside the owner. It waits
/// nearly always; when it is ready, it runs first.
#[derive(Clone, Debug, Default)]
pub struct Pinned {
    owner: Seat,
    housekeeping: Seat,
    /// The number of the kernel's task.
    reserved: Option<TaskId>,
    current: Option<TaskId>,
}

impl Pinned {
    /// A core without an owner: the first task that is added will be it.
    pub const fn new() -> Self {
        Self::with_housekeeping(None)
    }

    /// A core without an owner, where the task with this number never is the owner.
    pub const fn with_housekeeping(reserved: Option<TaskId>) -> Self {
        const EMPTY: Seat = Seat { task: None, runnable: false };
        Self { owner: EMPTY, housekeeping: EMPTY, reserved, current: None }
    }

    fn seat(&mut self, task: TaskId) -> &mut Seat {
        if self.reserved == Some(task) { &mut self.housekeeping } else { &mut self.owner }
    }

    fn set_runnable(&mut self, task: TaskId, runnable: bool) -> Result<bool> {
        let seat = self.seat(task);
        if seat.task != Some(task) {
            return Err(PolicyError::Unknown(task));
        }
        let changed = core::mem::replace(&mut seat.runnable, runnable) != runnable;
        if !runnable && self.current == Some(task) {
            self.current = None;
        }
        Ok(changed)
    }

    fn next(&self) -> Option<TaskId> {
        [&self.housekeeping, &self.owner].into_iter().find(|seat| seat.runnable)?.task
    }
}

impl Policy for Pinned {
    fn add(&mut self, task: TaskId) -> Result {
        let seat = self.seat(task);
        match seat.task {
            Some(owner) if owner == task => Err(PolicyError::AlreadyThere(task)),
            Some(_) => Err(PolicyError::NoRoom(task)),
            None => {
                *seat = Seat { task: Some(task), runnable: true };
                Ok(())
            }
        }
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.set_runnable(task, false)?;
        self.seat(task).task = None;
        Ok(())
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.set_runnable(task, false).map(drop)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        self.set_runnable(task, true)
    }

    fn yield_current(&mut self) {
        self.current = None;
    }

    fn pick_next(&mut self, _now: Nanos) -> Option<TaskId> {
        self.current = self.next();
        self.current
    }

    fn on_tick(&self, _now: Nanos) -> bool {
        let next = self.next();
        next.is_some() && next != self.current
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        // Only for the kernel's task, which is ready: the owner runs until it waits.
        (self.housekeeping.runnable && self.on_tick(now)).then_some(now)
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        usize::from(self.owner.runnable) + usize::from(self.housekeeping.runnable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: TaskId = TaskId(0);
    const OWNER: TaskId = TaskId(1);
    const NOW: Nanos = Nanos(7);

    #[test]
    fn refuses_a_second_owner() {
        let mut policy = Pinned::new();
        policy.add(KERNEL).unwrap();
        assert_eq!(policy.add(OWNER), Err(PolicyError::NoRoom(OWNER)));
        policy.remove(KERNEL).unwrap();
        policy.add(OWNER).unwrap();
    }

    #[test]
    fn housekeeping_task_leaves_room_for_an_owner() {
        let mut policy = Pinned::with_housekeeping(Some(KERNEL));
        policy.add(KERNEL).unwrap();
        assert_eq!(policy.pick_next(NOW), Some(KERNEL));
        policy.add(OWNER).unwrap();
        assert_eq!(policy.add(TaskId(2)), Err(PolicyError::NoRoom(TaskId(2))));
        policy.block(KERNEL).unwrap();
        assert_eq!(policy.pick_next(NOW), Some(OWNER));
        assert_eq!((policy.next_deadline(NOW), policy.on_tick(NOW), policy.runnable()), (None, false, 1));
    }

    #[test]
    fn housekeeping_task_preempts_the_owner_when_it_is_ready() {
        let mut policy = Pinned::with_housekeeping(Some(KERNEL));
        policy.add(KERNEL).unwrap();
        policy.add(OWNER).unwrap();
        policy.block(KERNEL).unwrap();
        policy.pick_next(NOW);
        policy.wake(KERNEL).unwrap();
        assert_eq!(policy.next_deadline(NOW), Some(NOW));
        assert!(policy.on_tick(NOW));
        assert_eq!(policy.pick_next(NOW), Some(KERNEL));
        assert_eq!((policy.next_deadline(NOW), policy.on_tick(NOW)), (None, false));
        policy.block(KERNEL).unwrap();
        assert_eq!(policy.pick_next(NOW), Some(OWNER));
    }
}
