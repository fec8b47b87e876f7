//! One core's tasks: who runs, who is next, who sleeps until when.
//!
//! A task never leaves its core, so the context switch itself needs no lock: only the core takes tasks out of its
//! queue, and other cores only put them in.

use super::{Task, life::State};
use crate::{
    arch,
    percore::{self, PerCore},
    platform::platform,
    sync::IrqMutex,
};
use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Quantum in ticks of the counter, for all cores. Zero until it is set: then nobody is preempted.
static QUANTUM: AtomicU64 = AtomicU64::new(0);

/// Sets the time that a task has its core for when others are waiting.
pub fn set_quantum(ticks: u64) {
    QUANTUM.store(ticks, Ordering::Relaxed);
}

/// The quantum in ticks.
pub fn quantum() -> u64 {
    QUANTUM.load(Ordering::Relaxed)
}

/// Why a task gives its core up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Others may run; it stays ready.
    Yield,
    /// It waits to be woken, at most until a deadline.
    Park { until: Option<u64> },
    /// It is over.
    Finish,
}

/// The scheduler of one core.
#[derive(Debug)]
pub struct Scheduler {
    queue: IrqMutex<Queue>,
    /// The running task should let another one run.
    due: AtomicBool,
}

#[derive(Debug)]
struct Queue {
    ready: VecDeque<Arc<Task>>,
    /// The running task; `None` before the core has one.
    current: Option<Arc<Task>>,
    /// What runs when nothing is ready.
    idle: Option<Arc<Task>>,
    sleepers: Vec<(u64, Arc<Task>)>,
    /// When the running task began to run.
    since: u64,
    /// What the timer is set to.
    armed: Option<u64>,
    /// The task that has just ended, on whose stack the core still was when it left.
    ended: Option<Arc<Task>>,
}

impl Queue {
    fn idles(&self) -> bool {
        match (&self.current, &self.idle) {
            (Some(current), Some(idle)) => Arc::ptr_eq(current, idle),
            _ => false,
        }
    }

    /// When the running task's time is over: only if another one waits.
    fn slice_end(&self) -> Option<u64> {
        let quantum = quantum();
        (quantum > 0 && !self.ready.is_empty() && !self.idles()).then(|| self.since.saturating_add(quantum))
    }

    /// Sets the timer to what comes first, or off: a core with one task has no timer interrupts.
    fn arm(&mut self) {
        let sleeper = self.sleepers.iter().map(|&(deadline, _)| deadline).min();
        let next = match (sleeper, self.slice_end()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if next != self.armed {
            self.armed = next;
            platform().set_timer(next);
        }
    }

    /// Puts a woken task into the queue. Returns whether the core should look.
    fn enqueue(&mut self, task: Arc<Task>) {
        self.sleepers.retain(|(_, sleeper)| !Arc::ptr_eq(sleeper, &task));
        self.ready.push_back(task);
    }

    /// Wakes all whose time has come.
    fn wake_sleepers(&mut self, now: u64) {
        while let Some(at) = self.sleepers.iter().position(|&(deadline, _)| deadline <= now) {
            let (_, task) = self.sleepers.swap_remove(at);
            if task.with_life(super::Life::wake) {
                self.ready.push_back(task);
            }
        }
    }
}

impl Scheduler {
    pub(crate) const fn new() -> Self {
        Self {
            queue: IrqMutex::new(Queue {
                ready: VecDeque::new(),
                current: None,
                idle: None,
                sleepers: Vec::new(),
                since: 0,
                armed: None,
                ended: None,
            }),
            due: AtomicBool::new(false),
        }
    }

    /// Makes what executes now on this core its idle task.
    pub(super) fn adopt_idle(&self, idle: Arc<Task>) {
        let mut queue = self.queue.lock();
        idle.with_life(super::Life::dispatch);
        queue.current = Some(idle.clone());
        queue.idle = Some(idle);
    }

    /// The running task.
    pub(super) fn current(&self) -> Option<Arc<Task>> {
        self.queue.lock().current.clone()
    }

    /// Runs `f` with the queue locked.
    pub(super) fn with_lock<R>(&self, f: impl FnOnce() -> R) -> R {
        let _queue = self.queue.lock();
        f()
    }

    /// Whether a task waits for the core.
    pub(super) fn has_ready(&self) -> bool {
        !self.queue.lock().ready.is_empty()
    }

    /// Marks the running task as over, before it leaves with [`Leave::Finish`].
    pub(super) fn mark_finished(&self, task: &Task) {
        let myself = self.with_lock(|| {
            task.with_life(super::Life::finish);
            task.release()
        });
        // The queue still has it as the running task.
        drop(myself);
    }

    /// How many tasks are ready or running.
    pub(super) fn load(&self) -> usize {
        let queue = self.queue.lock();
        queue.ready.len() + usize::from(!queue.idles())
    }

    /// Puts a new task into the queue.
    pub(super) fn add(&self, core: &PerCore, task: Arc<Task>) {
        self.queue.lock().enqueue(task);
        self.look_from_anywhere(core);
    }

    /// Wakes a task of this core, from any core.
    pub(super) fn wake(&self, core: &PerCore, task: &Arc<Task>) {
        {
            let mut queue = self.queue.lock();
            if !task.with_life(super::Life::wake) {
                return;
            }
            queue.enqueue(task.clone());
        }
        self.look_from_anywhere(core);
    }

    fn look_from_anywhere(&self, core: &PerCore) {
        if core::ptr::eq(core, percore::this()) {
            self.look();
        } else if core.is_online() {
            core.kick(platform());
        }
    }

    /// On this core: something may have changed in the queue.
    pub(crate) fn look(&self) {
        let mut queue = self.queue.lock();
        if queue.idles() {
            if !queue.ready.is_empty() {
                self.due.store(true, Ordering::Relaxed);
            }
        } else {
            queue.arm();
        }
    }

    /// On this core: the timer has fired.
    pub(crate) fn timer(&self, now: u64) {
        let mut queue = self.queue.lock();
        // It fired, and a hypervisor may have masked it: it counts as off.
        queue.armed = None;
        queue.wake_sleepers(now);
        let over = queue.slice_end().is_some_and(|end| end <= now);
        if over || queue.idles() && !queue.ready.is_empty() {
            self.due.store(true, Ordering::Relaxed);
            // The switch sets the timer anew; until then it must be silent.
            platform().set_timer(None);
        } else {
            queue.arm();
            if queue.armed.is_none() {
                platform().set_timer(None);
            }
        }
    }

    /// Whether the running task should let another one run. Asking ends it.
    pub(super) fn take_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    /// Gives this core up. Returns when the running task has it again; interrupts are masked before and after.
    pub(super) fn leave(&self, how: Leave) {
        let Some((save, restore)) = self.choose(how) else { return };
        // SAFETY: `restore` is the saved context of a task of this core that does not run, `save` the running task's
        // place for its own; both tasks are kept alive by the queue or, if it has ended, by `ended`.
        unsafe { arch::switch(save, restore) };
        self.arrived();
    }

    /// After every switch, on the stack of the task that has arrived.
    pub(super) fn arrived(&self) {
        let ended = self.queue.lock().ended.take();
        drop(ended);
    }

    /// Puts the running task where it belongs and makes another one current: where to save, and what to continue.
    fn choose(&self, how: Leave) -> Option<(*mut usize, usize)> {
        let mut queue = self.queue.lock();
        let idles = queue.idles();
        if how == Leave::Yield && queue.ready.is_empty() {
            return None;
        }
        let leaving = queue.current.take().expect("a core that leaves a task has one");
        let save = leaving.context();
        match how {
            Leave::Yield => {
                leaving.with_life(super::Life::preempt);
                if !idles {
                    queue.ready.push_back(leaving);
                }
            }
            Leave::Park { until } => {
                if !leaving.with_life(super::Life::park) {
                    queue.current = Some(leaving);
                    return None;
                }
                if let Some(deadline) = until {
                    queue.sleepers.push((deadline, leaving));
                }
            }
            Leave::Finish => {
                debug_assert_eq!(leaving.with_life(|life| life.state()), State::Finished);
                queue.ended = Some(leaving);
            }
        }
        let next = queue.ready.pop_front().or_else(|| queue.idle.clone()).expect("every core has an idle task");
        debug_assert_eq!(next.with_life(|life| life.state()), State::Ready);
        next.with_life(super::Life::dispatch);
        // SAFETY: the task does not run, so its saved context is not being written.
        let restore = unsafe { *next.context() };
        queue.current = Some(next);
        queue.since = platform().counter();
        queue.arm();
        Some((save, restore))
    }
}
