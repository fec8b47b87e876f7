//! A first-in, first-out queue of tasks whose links are in an array: every operation takes constant time.

use crate::TaskId;
use core::iter::successors;

/// A link to no task. No task has this number, because the capacity is at most `u32::MAX`.
pub(crate) const NONE: u32 = u32::MAX;

/// A task's neighbours in its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) next: u32,
    pub(crate) previous: u32,
}

impl Links {
    pub(crate) const NONE: Self = Self { next: NONE, previous: NONE };
}

/// A queue of tasks with numbers below `N`, each in it at most once.
#[derive(Clone, Debug)]
pub(crate) struct Queue<const N: usize> {
    links: [Links; N],
    head: u32,
    tail: u32,
    len: usize,
}

impl<const N: usize> Queue<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N <= NONE as usize) };
        Self { links: [Links::NONE; N], head: NONE, tail: NONE, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The task that has been in the queue for longest.
    #[inline]
    pub(crate) fn first(&self) -> Option<TaskId> {
        (self.head != NONE).then_some(TaskId(self.head))
    }

    /// All, the one that has been there for longest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TaskId> + Clone + '_ {
        successors(self.first(), |task| {
            let next = self.links[task.0 as usize].next;
            (next != NONE).then_some(TaskId(next))
        })
    }

    /// Appends a task that is not in the queue.
    #[inline]
    pub(crate) fn push(&mut self, task: TaskId) {
        self.links[task.0 as usize] = Links { next: NONE, previous: self.tail };
        match self.tail {
            NONE => self.head = task.0,
            tail => self.links[tail as usize].next = task.0,
        }
        self.tail = task.0;
        self.len += 1;
    }

    /// Takes the task that has been in the queue for longest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TaskId> {
        let task = self.first()?;
        self.unlink(task);
        Some(task)
    }

    /// Takes the task that has been in the queue for longest, and appends another one that is not in it.
    #[inline]
    pub(crate) fn exchange(&mut self, task: TaskId) -> Option<TaskId> {
        let first = self.first()?;
        let next = self.links[first.0 as usize].next;
        let (head, previous) = if next == NONE { (task.0, NONE) } else { (next, self.tail) };
        // The same entry twice if one is left: then it is the second that counts.
        self.links[head as usize].previous = NONE;
        if previous != NONE {
            self.links[previous as usize].next = task.0;
        }
        self.links[task.0 as usize] = Links { next: NONE, previous };
        (self.head, self.tail) = (head, task.0);
        Some(first)
    }

    /// Takes a task that is in the queue.
    #[inline]
    pub(crate) fn unlink(&mut self, task: TaskId) {
        let Links { next, previous } = self.links[task.0 as usize];
        match previous {
            NONE => self.head = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.len -= 1;
    }

    /// Moves a task that is in the queue to its end.
    pub(crate) fn requeue(&mut self, task: TaskId) {
        self.unlink(task);
        self.push(task);
    }
}
