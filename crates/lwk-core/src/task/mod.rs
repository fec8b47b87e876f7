//! Kernel tasks.
//!
//! A task has a stack of its own, belongs to one core, and runs until it yields, parks, ends, or its quantum
//! is over and another one waits. `spawn` starts one on a core; its `Handle` wakes it and waits for its end.

pub mod life;
#[cfg(programs)]
mod mutex;
pub mod name;
#[cfg(target_os = "none")]
mod policy;
#[cfg(target_os = "none")]
mod scheduler;

#[cfg(target_os = "none")]
pub use kernel::*;
#[cfg(target_os = "none")]
use life::Life;
#[cfg(programs)]
pub use mutex::Mutex;
#[cfg(target_os = "none")]
pub(crate) use policy::{GANG_SLOTS, GangColumn};
#[cfg(target_os = "none")]
pub use policy::{ParameterError, Parameters, PolicyKind};
#[cfg(target_os = "none")]
pub use scheduler::Scheduler;

#[cfg(target_os = "none")]
mod kernel {
    use super::{
        Life,
        life::State,
        name::Name,
        scheduler::{Leave, Scheduler},
    };
    use crate::{
        arch,
        memory::Stack,
        percore::{self, CoreIndex, PerCore},
        platform::platform,
        sync::IrqMutex,
    };
    use alloc::{boxed::Box, vec::Vec};
    #[cfg(programs)]
    use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
    use core::{
        cell::{Cell, UnsafeCell},
        fmt,
    };
    use fallible::{Arc, OutOfMemory, TryVec as _, try_box};
    use sched_policies::{PolicyError, TaskId};

    /// Why a core does not take a task, or a policy.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TaskError {
        /// Its policy does not.
        Policy(PolicyError),
        /// There is no memory for it.
        NoMemory,
    }

    impl From<PolicyError> for TaskError {
        fn from(error: PolicyError) -> Self {
            Self::Policy(error)
        }
    }

    impl From<OutOfMemory> for TaskError {
        fn from(_: OutOfMemory) -> Self {
            Self::NoMemory
        }
    }

    impl fmt::Display for TaskError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Policy(error) => error.fmt(f),
                Self::NoMemory => OutOfMemory.fmt(f),
            }
        }
    }

    /// Size of a task's stack, unless it asks for another one.
    pub const STACK_SIZE: usize = 256 << 10;

    type Entry = Box<dyn FnOnce() + Send>;

    /// A task. Reached through a [`Handle`].
    pub struct Task {
        name: Name,
        core: &'static PerCore,
        /// Under the lock of the core's queue.
        life: Cell<Life>,
        /// The saved stack pointer, while it does not run.
        context: UnsafeCell<usize>,
        entry: IrqMutex<Option<Entry>>,
        waiting_for_end: IrqMutex<Vec<Handle>>,
        /// Its number on its core.
        number: Cell<TaskId>,
        /// Who waits behind it for a lock; of [`super::Mutex`].
        #[cfg(programs)]
        behind: IrqMutex<Option<Handle>>,
        _stack: Option<Stack>,
        /// What the processor has for the program of this task while it runs; of tasks with one.
        #[cfg(programs)]
        user: AtomicPtr<arch::UserState>,
        #[cfg(programs)]
        user_thread: AtomicPtr<()>,
        /// Ticks that it has had its core, up to the last switch, and when it got it the last time.
        #[cfg(programs)]
        used: AtomicU64,
        #[cfg(programs)]
        since: AtomicU64,
    }

    // SAFETY: `life` is only touched with the lock of the core's queue held, `context` only by the core
    // itself, with interrupts masked, while it switches; both are private to the scheduler.
    unsafe impl Send for Task {}
    // SAFETY: as above.
    unsafe impl Sync for Task {}

    impl fmt::Debug for Task {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Task({}, core {})", self.name(), self.core.index())
        }
    }

    impl Task {
        /// A task that does not run yet, and has no number.
        fn try_new(
            name: Name,
            core: &'static PerCore,
            entry: Option<Entry>,
            stack: Option<Stack>,
        ) -> Result<Arc<Self>, OutOfMemory> {
            Arc::try_new(Self {
                name,
                core,
                number: Cell::new(TaskId(u32::MAX)),
                #[cfg(programs)]
                behind: IrqMutex::new(None),
                life: Cell::new(Life::new()),
                context: UnsafeCell::new(0),
                entry: IrqMutex::new(entry),
                waiting_for_end: IrqMutex::new(Vec::new()),
                _stack: stack,
                #[cfg(programs)]
                user: AtomicPtr::default(),
                #[cfg(programs)]
                user_thread: AtomicPtr::default(),
                #[cfg(programs)]
                used: AtomicU64::new(0),
                #[cfg(programs)]
                since: AtomicU64::new(0),
            })
        }

        /// Reads or changes the state. The caller holds the lock of the core's queue.
        pub(super) fn with_life<R>(&self, change: impl FnOnce(&mut Life) -> R) -> R {
            let mut life = self.life.get();
            let result = change(&mut life);
            self.life.set(life);
            result
        }

        pub(super) fn name(&self) -> &str {
            self.name.as_str()
        }

        pub(super) const fn number(&self) -> TaskId {
            self.number.get()
        }

        /// Gives it its number, before anybody else knows the task.
        pub(super) fn set_number(&self, number: TaskId) {
            self.number.set(number);
        }

        pub(super) const fn context(&self) -> *mut usize {
            self.context.get()
        }

        /// What to save and restore around a switch beside the context; null for tasks without a program.
        #[cfg(programs)]
        pub(super) fn user(&self) -> *mut arch::UserState {
            self.user.load(Ordering::Relaxed)
        }

        /// It gets its core. Only the core itself, in a switch, does this and the next.
        #[cfg(programs)]
        #[inline]
        pub(super) fn arrives(&self, now: u64) {
            self.since.store(now, Ordering::Relaxed);
        }

        /// It leaves its core.
        #[cfg(programs)]
        #[inline]
        pub(super) fn leaves(&self, now: u64) {
            let ran = now.saturating_sub(self.since.load(Ordering::Relaxed));
            self.used.store(self.used.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
        }
    }

    /// A reference to a task.
    #[derive(Clone, Debug)]
    pub struct Handle(Arc<Task>);

    impl PartialEq for Handle {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    impl Eq for Handle {}

    impl Handle {
        /// The task's name.
        pub fn name(&self) -> &str {
            self.0.name()
        }

        /// The core that it runs on.
        pub fn core(&self) -> CoreIndex {
            self.0.core.index()
        }

        #[cfg(programs)]
        pub(super) fn behind(&self) -> &IrqMutex<Option<Self>> {
            &self.0.behind
        }

        /// Wakes the task if it is parked; otherwise its next park returns at once.
        pub fn wake(&self) {
            self.0.core.scheduler.wake(self.0.core, &self.0);
        }

        /// Gives the task what its core's policy goes by.
        ///
        /// # Errors
        /// See [`ParameterError`](super::ParameterError).
        pub fn set_parameters(&self, parameters: super::Parameters) -> Result<(), super::ParameterError> {
            self.0.core.scheduler.set_parameters(self.0.core, &self.0, parameters)
        }

        /// The parameters that it has from its core's policy, if any.
        #[cfg(programs)]
        pub fn parameters(&self) -> Option<super::Parameters> {
            self.0.core.scheduler.parameters(&self.0)
        }

        /// Waits until the task has ended.
        pub fn join(&self) {
            let me = current();
            loop {
                {
                    let mut waiting = self.0.waiting_for_end.lock();
                    // The list is emptied at the end, under the same lock, when the entry is gone too.
                    if self.is_over() {
                        return;
                    }
                    // Without memory for its place in the list, it looks again and again.
                    if waiting.try_push(me.clone()).is_err() {
                        drop(waiting);
                        yield_now();
                        continue;
                    }
                }
                park();
            }
        }

        /// Ticks of the counter that the task has had its core; until now, if it runs, on any core.
        #[cfg(programs)]
        pub fn used_ticks(&self) -> u64 {
            let task = &self.0;
            task.core.scheduler.with_running(|running| {
                let used = task.used.load(Ordering::Relaxed);
                let runs = running.is_some_and(|running| Arc::ptr_eq(running, task));
                let since = task.since.load(Ordering::Relaxed);
                if runs { used + platform().counter().saturating_sub(since) } else { used }
            })
        }

        fn is_over(&self) -> bool {
            self.0.core.scheduler.is_over(&self.0)
        }
    }

    impl Scheduler {
        fn is_over(&self, task: &Arc<Task>) -> bool {
            self.with_lock(|| task.with_life(|life| life.state() == State::Finished))
        }
    }

    /// Starts a task on a core.
    ///
    /// # Panics
    /// If there is no such core, if its policy takes no more tasks, or if there is no memory for it.
    pub fn spawn(core: CoreIndex, name: impl fmt::Display, entry: impl FnOnce() + Send + 'static) -> Handle {
        spawn_with_stack(core, name, STACK_SIZE, entry)
    }

    /// As [`spawn`], with a stack of `size` bytes.
    ///
    /// # Panics
    /// If there is no such core, if its policy takes no more tasks, or if there is no memory for it.
    pub fn spawn_with_stack(
        core: CoreIndex,
        name: impl fmt::Display,
        size: usize,
        entry: impl FnOnce() + Send + 'static,
    ) -> Handle {
        match try_spawn(core, format_args!("{name}"), size, entry) {
            Ok(task) => task,
            Err(error) => panic!("core {core} takes no more tasks: {error}"),
        }
    }

    /// As [`spawn_with_stack`], if the core takes one more task.
    ///
    /// # Errors
    /// Its policy does not, or there is no memory for it.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn try_spawn(
        core: CoreIndex,
        name: fmt::Arguments<'_>,
        size: usize,
        entry: impl FnOnce() + Send + 'static,
    ) -> Result<Handle, TaskError> {
        spawn_boxed(core, name, size, try_box(entry)?)
    }

    fn spawn_boxed(
        core: CoreIndex,
        name: fmt::Arguments<'_>,
        size: usize,
        entry: Entry,
    ) -> Result<Handle, TaskError> {
        let core = percore::get(core).expect("a task is for a core that exists");
        let stack = Stack::new(size)?;
        let top = stack.top();
        let task = Task::try_new(Name::new(name), core, Some(entry), Some(stack))?;
        // SAFETY: the stack is new, and the task has not run yet.
        unsafe { *task.context.get() = arch::prepare_stack(top) };
        core.scheduler.add(core, &task)?;
        Ok(Handle(task))
    }

    /// The first Rust function of a task, from `switch.S`, interrupts masked.
    #[unsafe(no_mangle)]
    extern "C" fn lwk_task_main() -> ! {
        let core = percore::this();
        core.scheduler.arrived();
        let task = current();
        let entry = task.0.entry.lock().take();
        arch::unmask_interrupts();
        if let Some(entry) = entry {
            entry();
        }
        arch::mask_interrupts();
        finish(core, task)
    }

    fn finish(core: &PerCore, task: Handle) -> ! {
        // Whoever waits looks again after this task has left; a wake-up is kept until then.
        let waiting = core::mem::take(&mut *task.0.waiting_for_end.lock());
        core.scheduler.finish_after(task.0, waiting);
        unreachable!("a task that has ended does not run again")
    }

    impl Scheduler {
        /// Ends the running task: its state is set before those who wait for it are woken.
        fn finish_after(&self, task: Arc<Task>, waiting: Vec<Handle>) {
            self.mark_finished(&task);
            let late = core::mem::take(&mut *task.waiting_for_end.lock());
            for handle in waiting.into_iter().chain(late) {
                handle.wake();
            }
            // The queue's reference keeps the task, and the stack that this runs on, until after the switch.
            drop(task);
            self.leave(Leave::Finish);
        }
    }

    /// The running task.
    ///
    /// # Panics
    /// Before the core has tasks.
    pub fn current() -> Handle {
        Handle(percore::this().scheduler.current().expect("the core has tasks"))
    }

    fn masked<R>(f: impl FnOnce(&Scheduler) -> R) -> R {
        let before = arch::mask_interrupts();
        let result = f(&percore::this().scheduler);
        arch::restore_interrupts(before);
        result
    }

    /// From now on, the running task's switches save and restore this too; and this is its thread.
    ///
    /// # Safety
    /// The state is this task's alone; it and the thread live until others are set, or none.
    #[cfg(programs)]
    pub(crate) unsafe fn set_user(state: *mut arch::UserState, thread: *const ()) {
        let task = current().0;
        task.user_thread.store(thread.cast_mut(), Ordering::Relaxed);
        task.user.store(state, Ordering::Relaxed);
    }

    /// The thread that [`set_user`] recorded for the running task.
    #[cfg(programs)]
    pub(crate) fn user_thread() -> Option<*const ()> {
        let thread = current().0.user_thread.load(Ordering::Relaxed);
        (!thread.is_null()).then_some(thread.cast_const())
    }

    /// Lets other ready tasks of this core run first.
    #[inline]
    pub fn yield_now() {
        percore::this().scheduler.yield_core();
    }

    /// Waits until woken. Returns at once if that has happened since the last time.
    pub fn park() {
        masked(|scheduler| scheduler.leave(Leave::Park { until: None }));
    }

    /// Waits until woken or until the counter reaches `deadline`, whichever is first.
    pub fn park_until(deadline: u64) {
        masked(|scheduler| scheduler.leave(Leave::Park { until: Some(deadline) }));
    }

    /// Sleeps until the counter reaches `deadline`.
    pub fn sleep_until(deadline: u64) {
        while platform().counter() < deadline {
            park_until(deadline);
        }
    }

    /// Gives a core another policy, with the tasks that it has.
    ///
    /// # Errors
    /// There is no such core, the policy does not take as many tasks, or there is no memory for it.
    pub fn set_policy(core: CoreIndex, kind: super::PolicyKind) -> Result<(), TaskError> {
        let core = percore::get(core).ok_or(PolicyError::NoRoom(TaskId(0)))?;
        core.scheduler.set_policy(core, kind)
    }

    /// Sets a new gang matrix on a core, which holds from the start of the column's rotation on.
    ///
    /// # Errors
    /// There is no such core, or it has another policy.
    pub(crate) fn set_column(
        core: CoreIndex,
        column: &super::GangColumn,
    ) -> Result<(), super::ParameterError> {
        let core = percore::get(core).ok_or(super::ParameterError::Invalid)?;
        core.scheduler.set_column(core, column)
    }

    /// Returns the number of ready and running tasks of a core.
    pub fn load(core: CoreIndex) -> usize {
        percore::get(core).map_or(0, |core| core.scheduler.load())
    }

    /// At the end of an interrupt: lets another task run if the running one's time is over. Returns whether
    /// it was.
    pub(crate) fn preempt_if_due(core: &PerCore) -> bool {
        let due = core.scheduler.take_due();
        if due {
            core.scheduler.leave(Leave::Preempt);
        }
        due
    }

    /// Makes what executes now the core's idle task.
    pub(crate) fn adopt_idle(core: &'static PerCore) {
        // A core that was off has its own from before.
        if core.scheduler.continue_idle() {
            return;
        }
        let name = Name::new(format_args!("idle/{}", core.index()));
        // At boot; the policy does not know it.
        let idle = Task::try_new(name, core, None, None).expect("memory for an idle task");
        core.scheduler.adopt_idle(idle);
    }

    /// The idle task: runs whatever is ready, waits for an interrupt otherwise.
    pub(crate) fn idle(core: &PerCore) -> ! {
        loop {
            arch::mask_interrupts();
            core.scheduler.take_due();
            core.scheduler.leave(Leave::Yield);
            if core.goes() && core.scheduler.is_empty() {
                crate::smp::go(core);
            }
            if !core.scheduler.has_ready() {
                arch::wait_for_interrupt();
            }
            arch::unmask_interrupts();
        }
    }
}
