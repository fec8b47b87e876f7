//! A thread of a program: a kernel task that is mostly at EL0.

use super::{
    account::{self, Charge},
    copy,
    errno::Errno,
    futex,
    process::Process,
    rseq,
    signal::{self, ThreadSignals},
};
use crate::{
    arch::{self, UserFrame, UserState},
    percore::{self, CoreIndex},
    sync::IrqMutex,
    task::{self, Handle, ParameterError, Parameters, TaskError},
};
use core::{
    cell::UnsafeCell,
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use fallible::{Arc, Uncounted};

/// Kernel stack of a thread.
const STACK: usize = 32 << 10;
/// The most entries of a robust list that are looked at, as Linux.
const ROBUST_LIST_LIMIT: usize = 2048;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// A number for a new thread or process.
pub fn next_id() -> u32 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Work of a thread before it returns to EL0.
pub mod work {
    /// Look for signals.
    pub const SIGNAL: u32 = 1;
    /// End.
    pub const EXIT: u32 = 2;
    /// Go to another core.
    pub const MOVE: u32 = 4;
    /// With it: give up waiting, because the core is to be switched off.
    pub const LEAVE: u32 = 8;
    /// Something else had the core, or it is another one: for restartable sequences.
    pub const RSEQ: u32 = 16;
}

/// Thread of a Linux process.
#[repr(C)]
pub struct UserThread {
    /// Bits of [`work`]. `user.S` looks at it: it is the first field.
    work: AtomicU32,
    /// That of its process, if it is the first or the only one.
    id: AtomicU32,
    process: Arc<Process>,
    /// The thread's alone, and of the switches of its task.
    state: UnsafeCell<UserState>,
    handle: IrqMutex<Option<Handle>>,
    /// Its name, as `prctl` and `/proc` have it.
    name: IrqMutex<Name>,
    /// Where it may run.
    cores: IrqMutex<CoreSet>,
    core: AtomicU32,
    /// Where to write 0, and wake, when it ends.
    pub(super) clear_at_end: AtomicU64,
    /// Head of its robust list.
    pub(super) robust: AtomicU64,
    pub(super) rseq: rseq::Registration,
    pub(super) waiting: futex::Waiting,
    pub(super) signals: IrqMutex<ThreadSignals>,
    /// x0 of a call that is to be made again; with [`Errno::RESTART`](super::errno::Errno::RESTART).
    pub(super) argument: AtomicU64,
    pub(super) restarts: AtomicBool,
    /// Such a call is made again only if no handler runs (Linux' `ERESTARTNOHAND`).
    pub(super) without_handler: AtomicBool,
    /// When the sleep is over that it goes on with; 0: it has not begun.
    pub(super) wakes_at: AtomicU64,
    myself: IrqMutex<Option<Uncounted<Self>>>,
    /// Ticks that it had on cores where it no longer is.
    used_before: AtomicU64,
    _charge: Charge,
    /// Its registers at its start, and on the way to another core.
    frame: IrqMutex<UserFrame>,
}

// SAFETY: `state` is touched by the thread itself, and by its task's switches, both on its core; all else is
// shared safely.
unsafe impl Sync for UserThread {}
// SAFETY: as above.
unsafe impl Send for UserThread {}

impl fmt::Debug for UserThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserThread({} of {:?})", self.id(), self.process)
    }
}

/// The name of a thread: up to 15 bytes, and NUL (Linux' `TASK_COMM_LEN`).
pub type Name = [u8; 16];

/// A name, cut to what fits.
pub fn name(text: &[u8]) -> Name {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut name = [0; 16];
    let count = text.len().min(15);
    name[..count].copy_from_slice(&text[..count]);
    name
}

/// Cores, by their index.
pub type CoreSet = [u64; 2];

/// The set of all cores that take tasks.
pub fn all_cores() -> CoreSet {
    let mut set = [0; 2];
    for core in percore::all().iter().filter(|core| core.takes_tasks()) {
        insert(&mut set, core.index());
    }
    set
}

/// Adds a core to a set.
pub const fn insert(set: &mut CoreSet, core: CoreIndex) {
    if (core.0 as usize) < 128 {
        set[core.0 as usize / 64] |= 1 << (core.0 % 64);
    }
}

/// Returns whether a core is in a set.
pub const fn contains(set: &CoreSet, core: CoreIndex) -> bool {
    (core.0 as usize) < 128 && set[core.0 as usize / 64] >> (core.0 % 64) & 1 != 0
}

/// The core of a set with the fewest tasks; of several, the first. It is counted when a thread starts, and
/// nothing is moved later unless the program asks.
fn least_loaded(set: &CoreSet) -> Option<CoreIndex> {
    let cores = percore::all().iter().filter(|core| core.takes_tasks() && contains(set, core.index()));
    cores.map(|core| core.index()).min_by_key(|core| THREADS[core.0 as usize].load(Ordering::Relaxed))
}

/// Threads on each core.
static THREADS: [AtomicU32; 128] = [const { AtomicU32::new(0) }; 128];

/// Initial state of a new thread.
#[derive(Debug)]
pub struct Start {
    /// Its registers.
    pub frame: UserFrame,
    /// FP/SIMD registers and thread pointer; the address space is filled in.
    pub state: UserState,
    /// Its signal mask.
    pub mask: u64,
    /// Its name.
    pub name: Name,
    /// Where it may run.
    pub cores: CoreSet,
    /// See [`UserThread::clear_at_end`].
    pub clear_at_end: u64,
}

impl Start {
    /// A program's first thread.
    pub fn first(name: Name, pc: u64, sp: u64, cores: CoreSet) -> Self {
        Self { frame: UserFrame::new(pc, sp), state: Self::state(0), mask: 0, name, cores, clear_at_end: 0 }
    }

    /// FP/SIMD registers and thread pointer of a new program.
    const fn state(tables: u64) -> UserState {
        UserState { fpsr: 0, fpcr: 0, thread_pointer: 0, tables, q: [0; 32] }
    }
}

impl UserThread {
    /// Makes a thread of a process and lets it run. `None` if no core takes it, or the process is ending.
    pub fn start(process: &Arc<Process>, id: u32, start: Start) -> Result<Arc<Self>, Errno> {
        let Start { frame, mut state, mask, name, cores, clear_at_end } = start;
        state.tables = process.tables();
        let core = least_loaded(&cores).ok_or(Errno::EAGAIN)?;
        let thread = Arc::try_new(Self {
            work: AtomicU32::new(0),
            id: AtomicU32::new(id),
            process: process.clone(),
            state: UnsafeCell::new(state),
            handle: IrqMutex::new(None),
            name: IrqMutex::new(name),
            cores: IrqMutex::new(cores),
            core: AtomicU32::new(u32::from(core.0)),
            clear_at_end: AtomicU64::new(clear_at_end),
            robust: AtomicU64::new(0),
            rseq: rseq::Registration::default(),
            waiting: futex::Waiting::default(),
            signals: IrqMutex::new(ThreadSignals::new(mask)),
            argument: AtomicU64::new(0),
            restarts: AtomicBool::new(false),
            without_handler: AtomicBool::new(false),
            wakes_at: AtomicU64::new(0),
            myself: IrqMutex::new(None),
            used_before: AtomicU64::new(0),
            frame: IrqMutex::new(frame),
            _charge: Charge::new(process.account(), size_of::<Self>() + STACK)?,
        })?;
        *thread.myself.lock() = Some(Arc::uncounted(&thread));
        process.enlist(&thread)?;
        // A core may have as many tasks as its policy takes: then the next one is tried.
        let mut rest = cores;
        let mut next = Some(core);
        let mut refusal = Errno::EAGAIN;
        while let Some(core) = next {
            match Self::carry(&thread, core) {
                Ok(()) => return Ok(thread),
                Err(error) => refusal = error,
            }
            rest[core.0 as usize / 64] &= !(1 << (core.0 % 64));
            next = least_loaded(&rest);
        }
        process.refuse(&thread);
        Err(refusal)
    }

    /// Starts a task on `core` that is this thread; it begins with what is in `frame`. False if the core
    /// takes no more.
    fn carry(this: &Arc<Self>, core: CoreIndex) -> Result<(), Errno> {
        if !account::has_room(&this.process) {
            return Err(Errno::ENOMEM);
        }
        THREADS[core.0 as usize].fetch_add(1, Ordering::Relaxed);
        this.core.store(u32::from(core.0), Ordering::Relaxed);
        // It is known by its task before it runs: others may want to wake it, or read its priority.
        let mut handle = this.handle.lock();
        let thread = this.clone();
        let name = format_args!("{}/{}", this.process.name(), this.id());
        let started = task::try_spawn(core, name, STACK, move || Self::run(thread));
        let started = started.map(|task| *handle = Some(task)).map_err(|error| match error {
            TaskError::Policy(_) => Errno::EAGAIN,
            TaskError::NoMemory => Errno::ENOMEM,
        });
        if started.is_err() {
            THREADS[core.0 as usize].fetch_sub(1, Ordering::Relaxed);
        }
        started
    }

    /// The body of the task.
    fn run(this: Arc<Self>) {
        while !Self::run_program(&this) {}
        drop(this);
    }

    /// Runs the program until the thread has ended, or is another task's: false if neither, because no other
    /// core takes it.
    fn run_program(this: &Arc<Self>) -> bool {
        let frame = *this.frame.lock();
        // A switch must not find the state half taken over: what it saved would be another thread's.
        let masked = arch::mask_interrupts();
        // SAFETY: the state is the thread's, which lives as long as this function.
        unsafe { task::set_user(this.state.get(), (&raw const **this).cast()) };
        // SAFETY: `work` is the thread's first field; the state has just been given to the scheduler.
        unsafe { arch::enter_user(&frame, this.state.get(), (&raw const **this).cast()) };
        let moves = this.work.load(Ordering::Acquire) & work::EXIT == 0;
        if moves {
            // Leaving saved nothing: the registers are still the program's. SAFETY: this task's switches are
            // the only others that touch the state, and interrupts are masked.
            unsafe { arch::save_user(this.state.get()) };
        }
        arch::leave_user_tables();
        // SAFETY: from here on the task has no program: there is nothing to save or restore.
        unsafe { task::set_user(core::ptr::null_mut(), core::ptr::null()) };
        arch::restore_interrupts(masked);
        let task = task::current();
        let used = task.used_ticks();
        this.used_before.fetch_add(used, Ordering::Relaxed);
        *this.handle.lock() = None;
        let core = CoreIndex(this.core.load(Ordering::Relaxed) as u16);
        THREADS[core.0 as usize].fetch_sub(1, Ordering::Relaxed);
        if moves {
            this.work.fetch_and(!(work::MOVE | work::LEAVE), Ordering::AcqRel);
            let cores = *this.cores.lock();
            // None of them may be there any more.
            let target = least_loaded(&cores).or_else(|| least_loaded(&all_cores())).unwrap_or(core);
            if target != core {
                if Self::carry(this, target).is_ok() {
                    return true;
                }
                log::warn!("{}: core {target} refuses thread {}", this.process.name(), this.id());
            }
            // It stays here, in this task.
            THREADS[core.0 as usize].fetch_add(1, Ordering::Relaxed);
            this.core.store(u32::from(core.0), Ordering::Relaxed);
            this.used_before.fetch_sub(used, Ordering::Relaxed);
            *this.handle.lock() = Some(task);
            return false;
        }
        this.finish();
        true
    }

    /// What is left to do when the program's thread is over.
    fn finish(&self) {
        let process = self.process.clone();
        process.delist(self);
    }

    /// Ends this thread, at the end of its system call. Its end is reported to the program here, while its
    /// memory is there.
    pub fn exit(&self, frame: &UserFrame) -> ! {
        if !self.process.is_ending() {
            self.exit_robust_list();
            let clear = self.clear_at_end.load(Ordering::Relaxed);
            if clear != 0 && copy::write(clear, &0_u32).is_ok() {
                self.process.futexes.wake(clear, 1, futex::ANY);
            }
        }
        self.add_work(work::EXIT);
        // SAFETY: the frame is that of this thread's entry; nothing on this stack is to be dropped.
        unsafe { arch::leave_user(frame) }
    }

    /// Marks the locks that the thread holds, so that others do not wait for ever (Linux, robust-futex-ABI).
    fn exit_robust_list(&self) {
        let head = self.robust.load(Ordering::Relaxed);
        if head == 0 {
            return;
        }
        let Ok([first, offset, pending]) = copy::read::<[u64; 3]>(head) else { return };
        let mut entry = first;
        for _ in 0..ROBUST_LIST_LIMIT {
            // The lowest bit says that the lock inherits priorities.
            let here = entry & !1;
            if here == head {
                break;
            }
            let next = copy::read::<u64>(here);
            if entry != pending {
                self.owner_died(here.wrapping_add(offset));
            }
            match next {
                Ok(next) => entry = next,
                Err(_) => break,
            }
        }
        if pending != 0 {
            self.owner_died((pending & !1).wrapping_add(offset));
        }
    }

    fn owner_died(&self, lock: u64) {
        let Ok(word) = copy::load_u32(lock) else { return };
        if word & FUTEX_TID_MASK != self.id() {
            return;
        }
        let after = word & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        if copy::write(lock, &after).is_ok() && word & FUTEX_WAITERS != 0 {
            self.process.futexes.wake(lock, 1, futex::ANY);
        }
    }

    /// Returns the thread id.
    pub fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// Begins another program, in the address space with these tables: the only thread of its process.
    pub fn begin_again(&self, frame: &mut UserFrame, entry: u64, sp: u64) {
        self.id.store(self.process.id(), Ordering::Relaxed);
        self.set_name(name(self.process.image().name()));
        self.clear_at_end.store(0, Ordering::Relaxed);
        self.robust.store(0, Ordering::Relaxed);
        self.rseq.forget();
        self.signals.lock().renew();
        *frame = UserFrame::new(entry, sp);
        let state = Start::state(self.process.tables());
        let masked = arch::mask_interrupts();
        // SAFETY: interrupts are masked, so that no switch touches the state; it is this thread's, and its
        // address space is its process's, which lives as long as the thread.
        unsafe {
            *self.state.get() = state;
            arch::restore_user(self.state.get());
        }
        arch::restore_interrupts(masked);
    }

    /// Returns the thread's name.
    pub fn name(&self) -> Name {
        *self.name.lock()
    }

    /// Gives it another name.
    pub fn set_name(&self, name: Name) {
        *self.name.lock() = name;
    }

    /// Returns whether it is on its way out.
    pub fn must_end(&self) -> bool {
        self.work.load(Ordering::Acquire) & work::EXIT != 0
    }

    /// Returns the thread's process.
    pub const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// A reference that can be kept.
    pub fn shared(&self) -> Arc<Self> {
        let myself = self.myself.lock();
        let myself = myself.as_ref().expect("a thread gets its own handle when it is made");
        // SAFETY: whoever has this reference to the thread has it from a counted one, which keeps it.
        unsafe { myself.counted() }
    }

    /// The core that it runs on.
    pub fn core(&self) -> CoreIndex {
        CoreIndex(self.core.load(Ordering::Relaxed) as u16)
    }

    /// Returns the affinity mask of the thread.
    pub fn cores(&self) -> CoreSet {
        *self.cores.lock()
    }

    /// Says where it may run; it goes there before its program goes on. False if no such core takes tasks.
    pub fn set_cores(&self, cores: CoreSet) -> bool {
        if least_loaded(&cores).is_none() {
            return false;
        }
        *self.cores.lock() = cores;
        if !contains(&cores, self.core()) {
            self.add_work(work::MOVE);
            self.kick();
        }
        true
    }

    /// What a call returns that signals end for good (`EINTR`): it is made again if it waits no more only
    /// because its core is to be switched off.
    pub fn ended_wait(&self) -> Errno {
        if !self.leaves() {
            return Errno::EINTR;
        }
        self.without_handler.store(true, Ordering::Relaxed);
        Errno::RESTART
    }

    /// Returns whether its core is to be switched off, and there is nothing else to do.
    pub fn leaves(&self) -> bool {
        let work = self.work.load(Ordering::Acquire);
        work & work::LEAVE != 0 && work & (work::SIGNAL | work::EXIT) == 0
    }

    /// Moves the thread away from its core, which goes offline.
    pub fn leave(&self) {
        self.add_work(work::MOVE | work::LEAVE);
        self.kick();
    }

    /// The parameters for the policy of its core, if they were set.
    pub fn parameters(&self) -> Option<Parameters> {
        self.handle.lock().as_ref().and_then(Handle::parameters)
    }

    /// Gives it what its core's policy goes by; another core knows nothing of that.
    pub fn set_parameters(&self, parameters: Parameters) -> Result<(), ParameterError> {
        match &*self.handle.lock() {
            Some(handle) => handle.set_parameters(parameters),
            // It is on its way to another core.
            None => Err(ParameterError::OtherPolicy),
        }
    }

    /// Gives it something to do before its program goes on.
    pub fn add_work(&self, bits: u32) {
        self.work.fetch_or(bits, Ordering::AcqRel);
    }

    pub(super) fn take_work(&self, bits: u32) -> bool {
        self.work.fetch_and(!bits, Ordering::AcqRel) & bits != 0
    }

    /// Returns whether a wait is to be given up.
    pub fn is_interrupted(&self) -> bool {
        let work = self.work.load(Ordering::Acquire) & (work::SIGNAL | work::EXIT | work::LEAVE);
        work != 0 && (work != work::SIGNAL || self.has_deliverable())
    }

    /// Wakes it from [`park`](Self::park).
    #[unsafe(link_section = ".text.hot")]
    pub fn wake(&self) {
        if let Some(handle) = &*self.handle.lock() {
            handle.wake();
        }
    }

    /// Makes it look at its work, wherever it is.
    pub fn kick(&self) {
        self.wake();
        let elsewhere = self.core() != percore::this().index();
        if elsewhere && let Some(core) = percore::get(self.core()) {
            core.interrupt();
        }
    }

    /// Ticks of the counter that it has had a core.
    pub fn used_ticks(&self) -> u64 {
        let handle = self.handle.lock().clone();
        handle.map_or(0, |handle| handle.used_ticks()) + self.used_before.load(Ordering::Relaxed)
    }

    /// Saves the program's FP/SIMD registers and gives a copy.
    pub fn registers(&self) -> UserState {
        let masked = arch::mask_interrupts();
        // SAFETY: interrupts are masked, so that no switch touches the state; the registers are this
        // thread's.
        let state = unsafe {
            arch::save_user(self.state.get());
            (*self.state.get()).clone()
        };
        arch::restore_interrupts(masked);
        state
    }
}

/// Waits until the running thread is [woken](UserThread::wake), or until the counter reaches the deadline:
/// false then.
#[inline(always)]
pub fn park(deadline: Option<u64>) -> bool {
    match deadline {
        None => task::park(),
        Some(deadline) if crate::time::ticks() >= deadline => return false,
        Some(deadline) => task::park_until(deadline),
    }
    true
}

/// The running program's thread has something to do before it goes on, from `user.S`.
#[unsafe(no_mangle)]
extern "C" fn lwk_user_work(frame: &mut UserFrame) {
    let thread = running(frame);
    if thread.work.load(Ordering::Acquire) & work::EXIT != 0 {
        thread.exit(frame);
    }
    if thread.work.load(Ordering::Acquire) & work::MOVE != 0 {
        // It arrives at another core with this to do.
        thread.was_preempted();
        *thread.frame.lock() = *frame;
        // SAFETY: the frame is that of this thread's entry, and has been copied.
        unsafe { arch::leave_user(frame) };
    }
    if thread.take_work(work::RSEQ) {
        thread.restart_sequence(frame);
    }
    if thread.take_work(work::SIGNAL) {
        signal::deliver(thread, frame);
    }
}

/// The running task's thread, if it has one: where there is no frame at hand.
pub(super) fn current() -> Option<&'static UserThread> {
    let thread = task::user_thread()?;
    // SAFETY: `run` keeps the thread while its task has a program.
    Some(unsafe { &*thread.cast::<UserThread>() })
}

/// The thread whose entry made this frame: its address is above the frame.
pub(super) fn running(frame: &UserFrame) -> &'static UserThread {
    let place = (&raw const *frame).wrapping_add(1).cast::<*const UserThread>();
    // SAFETY: `lwk_enter_user` put the thread there, and `run` keeps it until the task has left the program.
    // Nothing that a system call keeps outlives that.
    unsafe { &**place }
}
