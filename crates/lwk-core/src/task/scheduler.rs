//! One core's tasks: who runs, who is next, who sleeps until when.
//!
//! Who is next is the policy's business. This module keeps tasks and their stacks, reports to the policy what
//! happens, and sets the timer to whatever comes first of a sleeper's deadline and the policy's. With one
//! task and no sleeper there is neither, and the core is left in peace.
//!
//! A task never leaves its core, so the context switch itself needs no lock: only the core switches its
//! tasks, and other cores only wake them.

use super::{
    Life, Task, TaskError,
    life::State,
    policy::{CorePolicy, GangColumn, MOST_TASKS, ParameterError, Parameters, PassOn, PolicyKind},
};
use crate::{
    arch,
    percore::{self, PerCore},
    platform::platform,
    sync::{self, IrqMutex},
};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use fallible::{Arc, TryVec as _};
use sched_policies::TaskId;

/// Why a task gives its core up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The policy may have another one run.
    Preempt,
    /// Others may run first; it stays ready.
    Yield,
    /// It waits to be woken, at most until a deadline.
    Park { until: Option<u64> },
    /// It is over.
    Finish,
}

/// A switch to another task.
#[derive(Clone, Copy)]
struct Switch {
    /// Where the running task's context goes.
    save: *mut usize,
    /// The context to continue.
    restore: usize,
    /// The running task's program, or null.
    #[cfg(programs)]
    user: *mut arch::UserState,
}

/// The scheduler of one core.
#[derive(Debug)]
pub struct Scheduler {
    queue: IrqMutex<Queue>,
    /// The running task should let another one run.
    due: AtomicBool,
    /// There is a task in [`Queue::ended`]. Only this core asks, with interrupts masked.
    has_ended: AtomicBool,
}

/// Of a timer that is off: a moment that does not come.
const NEVER: u64 = u64::MAX;

/// Which task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// None yet.
    Nobody,
    /// The idle task.
    Idle,
    /// The one with this number.
    Task(TaskId),
    /// One that is over, and has not left its stack.
    Ended,
}

#[derive(Debug)]
struct Queue {
    policy: CorePolicy,
    /// The core's tasks, by their number.
    tasks: [Option<Arc<Task>>; MOST_TASKS],
    /// The running task.
    current: Current,
    /// What runs when nothing is ready.
    idle: Option<Arc<Task>>,
    /// It has room for each task.
    sleepers: Vec<(u64, Arc<Task>)>,
    /// What the timer is set to, or [`NEVER`].
    armed: u64,
    /// The task that has just ended, on whose stack the core still was when it left.
    ended: Option<Arc<Task>>,
}

impl Queue {
    fn idles(&self) -> bool {
        self.current == Current::Idle
    }

    #[inline]
    fn running(&self) -> Option<&Arc<Task>> {
        match self.current {
            Current::Nobody => None,
            Current::Idle => self.idle.as_ref(),
            Current::Task(number) => self.tasks[number.0 as usize].as_ref(),
            Current::Ended => self.ended.as_ref(),
        }
    }

    /// Sets the timer to what comes first, or off.
    fn arm(&mut self, now: u64) {
        let policy = self.policy.next_deadline(now);
        self.arm_for(policy);
    }

    /// As [`arm`](Self::arm), after a turn that has ended early: the timer may be a little late for the end
    /// of the next one, which will end early too. So it is not set again at each switch, and never fires
    /// before there is something to do.
    #[unsafe(link_section = ".text.hot")]
    fn arm_late(&mut self, now: u64) {
        let policy = self.policy.next_deadline(now);
        let slack = self.policy.slack();
        let late = |end: u64| {
            let latest = if end > now { end.saturating_add(slack) } else { end };
            if (end..=latest).contains(&self.armed) { self.armed } else { latest }
        };
        self.arm_for(policy.map(late));
    }

    #[unsafe(link_section = ".text.hot")]
    fn arm_for(&mut self, policy: Option<u64>) {
        let sleeper = self.sleepers.iter().map(|&(deadline, _)| deadline).min();
        let next = sleeper.unwrap_or(NEVER).min(policy.unwrap_or(NEVER));
        if next != self.armed {
            self.armed = next;
            platform().set_timer((next != NEVER).then_some(next));
        }
    }

    /// The running task has yielded to another one, whose turn it is until `until`. `None` if the policy
    /// picks a task that is not of this core, which it never does.
    #[inline(always)]
    fn pass_on(&mut self, chosen: TaskId, now: u64, until: u64, slack: u64) -> Option<Switch> {
        let Current::Task(number) = self.current else { return None };
        let leaving = self.tasks.get(number.0 as usize)?.as_deref()?;
        let next = self.tasks.get(chosen.0 as usize)?.as_deref()?;
        self.current = Current::Task(chosen);
        leaving.with_life(Life::preempt);
        let switch = Switch::between(leaving, next, now);
        // What `arm_late` asks, in short.
        if self.armed.wrapping_sub(until) > slack {
            self.arm_late(now);
        }
        Some(switch)
    }

    /// Wakes a task if it is parked. Returns whether it was.
    #[unsafe(link_section = ".text.hot")]
    fn wake(&mut self, task: &Task) -> bool {
        let woken = task.with_life(Life::wake);
        if woken {
            self.sleepers.retain(|(_, sleeper)| !core::ptr::eq(&raw const **sleeper, task));
            // The policy knows every task of the core that has not ended, and one that has ended is not
            // woken.
            let _ = self.policy.wake(task.number());
        }
        woken
    }

    /// Wakes all whose time has come.
    fn wake_sleepers(&mut self, now: u64) {
        while let Some(at) = self.sleepers.iter().position(|&(deadline, _)| deadline <= now) {
            let (_, task) = self.sleepers.swap_remove(at);
            self.wake(&task);
        }
    }
}

impl Scheduler {
    pub(crate) const fn new() -> Self {
        Self {
            queue: IrqMutex::new(Queue {
                policy: CorePolicy::new(),
                tasks: [const { None }; MOST_TASKS],
                current: Current::Nobody,
                idle: None,
                sleepers: Vec::new(),
                armed: NEVER,
                ended: None,
            }),
            due: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        }
    }

    /// Gives the core a policy. Its tasks are ready or wait as before; parameters are those of new tasks.
    ///
    /// # Errors
    /// The policy does not take as many tasks, or there is no memory for it; the old one stays.
    pub(crate) fn set_policy(&self, core: &PerCore, kind: PolicyKind) -> Result<(), TaskError> {
        // The boot core's first task is the kernel's, for good.
        let mut new = CorePolicy::of(kind, core.is_boot_core().then_some(TaskId(0)))?;
        let old = {
            let mut queue = self.queue.lock();
            for task in queue.tasks.iter().flatten() {
                new.add(task.number())?;
                if task.with_life(|life| life.state() == State::Parked) {
                    new.block(task.number())?;
                }
            }
            core::mem::replace(&mut queue.policy, new)
        };
        drop(old);
        self.look_from_anywhere(core);
        Ok(())
    }

    /// Gives a task of this core parameters.
    ///
    /// # Errors
    /// See [`ParameterError`].
    pub(super) fn set_parameters(
        &self,
        core: &PerCore,
        task: &Task,
        parameters: Parameters,
    ) -> Result<(), ParameterError> {
        {
            let mut queue = self.queue.lock();
            // What it has run so far counts with what it had.
            queue.policy.advance(platform().counter());
            queue.policy.set_parameters(task.number(), parameters)?;
        }
        self.look_from_anywhere(core);
        Ok(())
    }

    /// The parameters of a task of this core, if its policy has given it some.
    #[cfg(programs)]
    pub(super) fn parameters(&self, task: &Task) -> Option<Parameters> {
        self.queue.lock().policy.parameters(task.number())
    }

    /// Sets a new gang matrix on the core, from any core; it holds from the start of the column's rotation
    /// on.
    ///
    /// # Errors
    /// See [`ParameterError`].
    pub(super) fn set_column(&self, core: &PerCore, column: &GangColumn) -> Result<(), ParameterError> {
        self.queue.lock().policy.set_column(column, platform().counter())?;
        self.look_from_anywhere(core);
        Ok(())
    }

    /// Makes what executes now on this core its idle task. The policy does not know it.
    pub(super) fn adopt_idle(&self, idle: Arc<Task>) {
        let mut queue = self.queue.lock();
        idle.with_life(Life::dispatch);
        queue.current = Current::Idle;
        queue.idle = Some(idle);
    }

    /// Makes what executes now on this core its idle task again, if it has been before.
    pub(super) fn continue_idle(&self) -> bool {
        let mut queue = self.queue.lock();
        let known = queue.idle.is_some();
        if known {
            queue.current = Current::Idle;
        }
        known
    }

    /// The running task.
    pub(super) fn current(&self) -> Option<Arc<Task>> {
        self.queue.lock().running().cloned()
    }

    /// Runs `f` with the queue locked, and the running task.
    #[cfg(programs)]
    pub(super) fn with_running<R>(&self, f: impl FnOnce(Option<&Arc<Task>>) -> R) -> R {
        f(self.queue.lock().running())
    }

    /// Runs `f` with the queue locked.
    pub(super) fn with_lock<R>(&self, f: impl FnOnce() -> R) -> R {
        let _queue = self.queue.lock();
        f()
    }

    /// Passes the running task's name to a closure, from any core, unless the queue is locked.
    pub(crate) fn with_running_name<R>(&self, f: impl FnOnce(&str) -> R) -> Option<R> {
        let task = self.queue.try_lock()?.running().cloned();
        Some(f(task.as_ref().map_or("nothing", |task| task.name())))
    }

    /// Returns whether the core has no task but the idle one, waiting ones included.
    pub(crate) fn is_empty(&self) -> bool {
        let queue = self.queue.lock();
        queue.tasks.iter().all(Option::is_none) && queue.ended.is_none()
    }

    /// Returns whether a task waits for the core.
    pub(super) fn has_ready(&self) -> bool {
        self.queue.lock().policy.runnable() > 0
    }

    /// How many tasks are ready or running.
    pub(super) fn load(&self) -> usize {
        self.queue.lock().policy.runnable()
    }

    /// Takes a new task on, which nobody knows yet, and gives it its number.
    pub(super) fn add(&self, core: &PerCore, task: &Arc<Task>) -> Result<(), TaskError> {
        {
            let mut queue = self.queue.lock();
            let queue = &mut *queue;
            let free = queue.tasks.iter().position(Option::is_none).unwrap_or(MOST_TASKS);
            // Going to sleep cannot fail.
            let others = queue.tasks.iter().flatten().count();
            let more = (others + 1).saturating_sub(queue.sleepers.len());
            queue.sleepers.try_reserve(more).map_err(|_| TaskError::NoMemory)?;
            let number = TaskId(free as u32);
            queue.policy.add(number)?;
            task.set_number(number);
            queue.tasks[free] = Some(task.clone());
        }
        self.look_from_anywhere(core);
        Ok(())
    }

    /// Wakes a task of this core, from any core.
    #[unsafe(link_section = ".text.hot")]
    pub(super) fn wake(&self, core: &PerCore, task: &Task) {
        let woken = sync::lock_in_place(&self.queue).wake(task);
        if woken {
            self.look_from_anywhere(core);
        }
    }

    fn look_from_anywhere(&self, core: &PerCore) {
        if core::ptr::eq(core, percore::this()) {
            self.look();
        } else if core.is_online() {
            core.interrupt();
        }
    }

    /// On this core: something may have changed in the queue.
    #[unsafe(link_section = ".text.hot")]
    pub(crate) fn look(&self) {
        let mut queue = sync::lock_in_place(&self.queue);
        if queue.idles() {
            if queue.policy.runnable() > 0 {
                self.due.store(true, Ordering::Relaxed);
            }
        } else {
            // If another task is to run at once, the timer says so at once.
            let now = platform().counter();
            queue.policy.advance(now);
            queue.arm_late(now);
        }
    }

    /// On this core: the timer has fired.
    #[unsafe(link_section = ".text.hot")]
    pub(crate) fn timer(&self, now: u64) {
        let mut queue = sync::lock_in_place(&self.queue);
        // It fired, and a hypervisor may have masked it: it counts as off, and is silent until it is set
        // anew.
        queue.armed = NEVER;
        platform().set_timer(None);
        queue.wake_sleepers(now);
        if queue.policy.on_tick(now) {
            // The switch sets the timer.
            self.due.store(true, Ordering::Relaxed);
        } else {
            queue.arm(now);
        }
    }

    /// Returns whether the running task should let another one run. Asking ends it.
    pub(super) fn take_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    /// Gives this core up. Returns when the running task has it again; interrupts are masked before and
    /// after.
    #[unsafe(link_section = ".text.hot")]
    pub(super) fn leave(&self, how: Leave) {
        if let Some(to) = self.choose(how) {
            self.switch(to);
        }
    }

    /// [`Leave::Yield`] by the short way, for threads that wait for each other by yielding. Interrupts need
    /// not be masked.
    #[inline(always)]
    pub(super) fn yield_core(&self) {
        let mut queue = sync::lock_in_place(&self.queue);
        let to = match queue.policy.pass_on(|| platform().counter()) {
            PassOn::Alone => return,
            PassOn::To { next, now, until, slack } => queue.pass_on(next, now, until, slack),
            PassOn::TheLongWay => None,
        };
        let before = sync::release_masked(queue);
        match to {
            Some(to) => self.switch(to),
            None => self.leave(Leave::Yield),
        }
        arch::restore_interrupts(before);
    }

    #[inline(always)]
    fn switch(&self, to: Switch) {
        let Switch {
            save,
            restore,
            #[cfg(programs)]
            user,
        } = to;
        #[cfg(programs)]
        if !user.is_null() {
            // SAFETY: as below; the state is the running task's, see `task::set_user`.
            unsafe { arch::switch_user(save, restore, user) };
            // SAFETY: as above; the task has its core again.
            unsafe { arch::restore_user(user) };
            return self.arrived();
        }
        // SAFETY: `restore` is the saved context of a task of this core that does not run, `save` the running
        // task's place for its own; both tasks are kept alive by the queue or, if it has ended, by `ended`.
        unsafe { arch::switch(save, restore) };
        self.arrived();
    }

    /// After every switch, on the stack of the task that has arrived.
    #[inline(always)]
    pub(super) fn arrived(&self) {
        if self.has_ended.load(Ordering::Relaxed) {
            self.bury();
        }
    }

    /// Drops the task that has ended, now that nobody is on its stack.
    #[cold]
    #[inline(never)]
    fn bury(&self) {
        self.has_ended.store(false, Ordering::Relaxed);
        let ended = self.queue.lock().ended.take();
        drop(ended);
    }

    /// Marks the running task as over, before it leaves with [`Leave::Finish`]. Its number is free again.
    pub(super) fn mark_finished(&self, task: &Task) {
        let mut queue = self.queue.lock();
        task.with_life(Life::finish);
        // The policy knows the running task.
        let _ = queue.policy.remove(task.number());
        // It is kept until the core is on another stack.
        queue.ended = queue.tasks[task.number().0 as usize].take();
        queue.current = Current::Ended;
    }

    /// Puts the running task where it belongs and makes another one current: where to save, and what to
    /// continue. `None` if the running task goes on.
    #[inline(always)]
    fn choose(&self, how: Leave) -> Option<Switch> {
        let mut queue = sync::lock_in_place(&self.queue);
        let queue = &mut *queue;
        let others = queue.policy.runnable() > usize::from(!queue.idles());
        match how {
            Leave::Yield if !others => return None,
            Leave::Preempt => {}
            Leave::Yield => queue.policy.yield_current(),
            Leave::Park { until } => {
                let leaving = queue.running()?;
                if !leaving.with_life(Life::park) {
                    return None;
                }
                let number = leaving.number();
                if let Some(deadline) = until {
                    let leaving = leaving.clone();
                    // There is room for each task of the core.
                    let _ = queue.sleepers.try_push((deadline, leaving));
                }
                let _ = queue.policy.block(number);
            }
            Leave::Finish => self.has_ended.store(true, Ordering::Relaxed),
        }
        let now = platform().counter();
        let chosen = queue.policy.pick_next(now).map_or(Current::Idle, Current::Task);
        if chosen == queue.current {
            queue.arm(now);
            return None;
        }
        let leaving = core::ptr::from_ref::<Task>(queue.running()?);
        queue.current = chosen;
        if matches!(how, Leave::Preempt) {
            queue.arm(now);
        } else {
            queue.arm_late(now);
        }
        let next =
            queue.running().expect("the policy picks a task of this core, and every core has an idle task");
        // SAFETY: the queue keeps the task that leaves: among its tasks, as the idle one, or as the one that
        // has ended.
        let leaving = unsafe { &*leaving };
        leaving.with_life(|life| {
            if life.state() == State::Running {
                life.preempt();
            }
        });
        Some(Switch::between(leaving, next, now))
    }
}

impl Switch {
    /// From a task that has been put where it belongs to another one, at `now`.
    #[inline(always)]
    fn between(leaving: &Task, next: &Task, now: u64) -> Self {
        next.with_life(Life::dispatch);
        #[cfg(programs)]
        {
            leaving.leaves(now);
            next.arrives(now);
        }
        #[cfg(not(programs))]
        let _ = now;
        Self {
            save: leaving.context(),
            // SAFETY: the task does not run, so its saved context is not being written.
            restore: unsafe { *next.context() },
            #[cfg(programs)]
            user: leaving.user(),
        }
    }
}
