//! A queue for each of 256 levels, with links in one array: every operation takes constant time.

use crate::{
    TaskId,
    queue::{Links, NONE},
};

const LEVELS: usize = 256;
const WORDS: usize = LEVELS / u64::BITS as usize;

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

/// Tasks with numbers below `N`, each at most once in at most one level's queue.
#[derive(Clone, Debug)]
pub(crate) struct Levels<const N: usize> {
    links: [Links; N],
    ends: [Ends; LEVELS],
    /// A bit for each level with tasks.
    occupied: [u64; WORDS],
    len: usize,
}

impl<const N: usize> Levels<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N <= NONE as usize) };
        Self {
            links: [Links::NONE; N],
            ends: [Ends { head: NONE, tail: NONE }; LEVELS],
            occupied: [0; WORDS],
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The head of the highest level with tasks.
    pub(crate) fn first(&self) -> Option<TaskId> {
        let word = self.occupied.iter().rposition(|word| *word != 0)?;
        let level = word * u64::BITS as usize + self.occupied[word].ilog2() as usize;
        Some(TaskId(self.ends[level].head))
    }

    /// Appends a task that is in no queue to this level's.
    pub(crate) fn push_back(&mut self, task: TaskId, level: u8) {
        let tail = self.ends[level as usize].tail;
        self.link(task, level, Links { previous: tail, next: NONE });
    }

    /// Puts a task that is in no queue at the head of this level's.
    pub(crate) fn push_front(&mut self, task: TaskId, level: u8) {
        let head = self.ends[level as usize].head;
        self.link(task, level, Links { previous: NONE, next: head });
    }

    /// Takes a task that is in this level's queue.
    pub(crate) fn unlink(&mut self, task: TaskId, level: u8) {
        let Links { next, previous } = self.links[task.0 as usize];
        *self.next_of(previous, level) = next;
        *self.previous_of(next, level) = previous;
        if self.ends[level as usize].head == NONE {
            self.occupied[level as usize / 64] &= !(1 << (level % 64));
        }
        self.len -= 1;
    }

    fn link(&mut self, task: TaskId, level: u8, links: Links) {
        self.links[task.0 as usize] = links;
        *self.next_of(links.previous, level) = task.0;
        *self.previous_of(links.next, level) = task.0;
        self.occupied[level as usize / 64] |= 1 << (level % 64);
        self.len += 1;
    }

    /// What follows this task, or the level's end.
    fn next_of(&mut self, task: u32, level: u8) -> &mut u32 {
        match task {
            NONE => &mut self.ends[level as usize].head,
            task => &mut self.links[task as usize].next,
        }
    }

    /// What precedes this task, or the level's end.
    fn previous_of(&mut self, task: u32, level: u8) -> &mut u32 {
        match task {
            NONE => &mut self.ends[level as usize].tail,
            task => &mut self.links[task as usize].previous,
        }
    }
}
