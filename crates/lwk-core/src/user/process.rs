//! A process: an address space, open files, signal actions, and the threads that share them.

use super::{
    account::{Account, Charge},
    errno::{Errno, Result},
    files::{Descriptors, Output},
    futex::Futexes,
    image::{Image, Loaded},
    lossy::Lossy,
    processes,
    signal::{Info, ProcessSignals},
    space::Space,
    thread::{self, CoreSet, Start, UserThread, work},
};
use crate::{
    percore,
    sync::IrqMutex,
    task::{self, Handle, Mutex},
    time, watch,
};
use alloc::vec::Vec;
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use fallible::{Arc, TryVec as _};
use linux_program::vdso::Clock;
use spin::Once;

/// Exit status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By `exit_group`, or the last thread's `exit`.
    Exited(u8),
    /// By a signal.
    Killed(u32),
}

impl End {
    /// Returns the exit status as a shell reports it.
    pub const fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + (signal as u8 & 0x7f),
        }
    }
}

/// The name of a process, to be shown.
pub struct Name(Arc<Image>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lossy(self.0.name()).fmt(f)
    }
}

/// Linux process: address space, files, threads.
pub struct Process {
    id: u32,
    /// Who started it; 0: the kernel, also if that one is over.
    parent: AtomicU32,
    image: IrqMutex<Arc<Image>>,
    /// Shared with its parent between `vfork` and `execve`.
    space: IrqMutex<Option<Arc<Mutex<Space>>>>,
    tables: AtomicU64,
    /// The thread of its parent that waits for it to have an address space of its own, or to end.
    lender: IrqMutex<Option<Arc<UserThread>>>,
    pub(super) files: Mutex<Descriptors>,
    pub(super) output: Mutex<Output>,
    pub(super) signals: IrqMutex<ProcessSignals>,
    pub(super) futexes: Futexes,
    threads: IrqMutex<Vec<Arc<UserThread>>>,
    /// The thread that waits to be the only one.
    alone: IrqMutex<Option<Arc<UserThread>>>,
    ending: AtomicBool,
    /// How it ends: bit 16 set once that is known, bit 15 for a signal.
    end: AtomicU32,
    over: AtomicBool,
    /// The kernel's own task, if it waits.
    waiting_for_end: IrqMutex<Option<Handle>>,
    started: u64,
    ended: AtomicU64,
    /// Ticks that threads had which are over.
    used_by_ended: AtomicU64,
    /// Ticks of processes that it started and has waited for.
    pub(super) used_by_children: AtomicU64,
    /// The most bytes that it had.
    pub(super) most_backed: AtomicU64,
    pub(super) umask: AtomicU32,
    account: Arc<Account>,
    _charge: Charge,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.id, self.name())
    }
}

const KNOWN: u32 = 1 << 16;
const BY_SIGNAL: u32 = 1 << 15;

/// The clock of all programs.
pub fn clock() -> &'static Clock {
    static CLOCK: Once<Clock> = Once::new();
    CLOCK.call_once(|| {
        let frequency = time::frequency().hz();
        Clock::new(super::boot_ticks(), frequency, super::epoch_ns())
    })
}

impl Process {
    /// What it is made of; it runs nothing yet.
    fn new(
        parent: u32,
        image: Arc<Image>,
        space: Arc<Mutex<Space>>,
        files: Descriptors,
        signals: ProcessSignals,
        umask: u32,
        account: Arc<Account>,
    ) -> Result<Self> {
        let (tables, backed) = {
            let space = space.lock();
            (space.tables(), space.backed())
        };
        let charge = Charge::new(&account, size_of::<Self>())?;
        Ok(Self {
            id: thread::next_id(),
            parent: AtomicU32::new(parent),
            image: IrqMutex::new(image),
            tables: AtomicU64::new(tables),
            most_backed: AtomicU64::new(backed),
            space: IrqMutex::new(Some(space)),
            lender: IrqMutex::new(None),
            files: Mutex::new(files),
            output: Mutex::new(Output::default()),
            signals: IrqMutex::new(signals),
            futexes: Futexes::new(),
            threads: IrqMutex::new(Vec::new()),
            alone: IrqMutex::new(None),
            ending: AtomicBool::new(false),
            end: AtomicU32::new(0),
            over: AtomicBool::new(false),
            waiting_for_end: IrqMutex::new(None),
            started: time::stopwatch(),
            used_by_ended: AtomicU64::new(0),
            used_by_children: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            umask: AtomicU32::new(umask),
            account,
            _charge: charge,
        })
    }

    /// Runs a program as the kernel's own process. `EAGAIN` if no core takes a thread.
    pub fn start(loaded: Loaded, cores: CoreSet) -> Result<Arc<Self>> {
        let Loaded { image, space, entry, sp } = loaded;
        let files = Descriptors::standard()?;
        let signals = ProcessSignals::new();
        let account = Account::new()?;
        let process = Arc::try_new(Self::new(0, image, space, files, signals, 0o022, account)?)?;
        processes::enter(&process)?;
        processes::set_first(process.id());
        let name = thread::name(process.image().name());
        Self::begin(&process, Start::first(name, entry.get(), sp.get(), cores))?;
        Ok(process)
    }

    /// A process that has this one's memory, and a copy of everything else, until it has a program of its
    /// own: what `vfork` makes. The calling thread waits meanwhile.
    pub fn lend(&self, thread: &UserThread, start: Start, default_signals: bool) -> Result<Arc<Self>> {
        let space = self.space.lock().clone().ok_or(Errno::ESRCH)?;
        let files = self.files.lock().duplicate()?;
        let signals = self.signals.lock().copied(default_signals);
        let umask = self.umask.load(Ordering::Relaxed);
        let account = Account::of_child(self)?;
        let child = Arc::try_new(Self::new(self.id, self.image(), space, files, signals, umask, account)?)?;
        *child.lender.lock() = Some(thread.shared());
        processes::enter(&child)?;
        Self::begin(&child, start)?;
        while child.lender.lock().is_some() && !thread.must_end() {
            task::park();
        }
        Ok(child)
    }

    /// Starts the first thread.
    fn begin(process: &Arc<Self>, start: Start) -> Result<()> {
        UserThread::start(process, process.id, start).map(drop).inspect_err(|_| processes::leave(process.id))
    }

    /// Ends all threads but the calling one, and waits for that. False if the caller is to end too.
    pub fn keep_only(&self, thread: &UserThread) -> bool {
        loop {
            if self.thread_count() <= 1 || thread.must_end() {
                return !thread.must_end();
            }
            *self.alone.lock() = Some(thread.shared());
            self.each_thread(|other| {
                if !core::ptr::eq(&raw const **other, thread) {
                    other.add_work(work::EXIT);
                    other.kick();
                }
            });
            task::park();
        }
    }

    /// Runs another program from now on, in its own address space; returns the old one, in which the calling
    /// thread, the only one, still is.
    pub fn replace(&self, image: Arc<Image>, space: Arc<Mutex<Space>>) -> Option<Arc<Mutex<Space>>> {
        let (tables, backed) = {
            let space = space.lock();
            (space.tables(), space.backed())
        };
        let old_image = core::mem::replace(&mut *self.image.lock(), image);
        drop(old_image);
        let old = self.space.lock().replace(space);
        self.tables.store(tables, Ordering::Relaxed);
        self.most_backed.store(backed, Ordering::Relaxed);
        self.signals.lock().forget_handlers();
        loop {
            // Closed without the lock.
            let open = self.files.lock().take_closed_by_exec();
            if open.is_none() {
                break;
            }
        }
        super::syscall::release_physical(self.id);
        old
    }

    /// Lets the parent's thread go on that has lent its memory.
    pub fn release_lender(&self) {
        let lender = self.lender.lock().take();
        if let Some(lender) = lender {
            lender.wake();
        }
    }

    /// Returns the process id.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The number of the process that started it; 0: the kernel.
    pub fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// Says whose child it is from now on.
    pub(super) fn set_parent(&self, parent: u32) {
        self.parent.store(parent, Ordering::Relaxed);
    }

    /// Returns the account that kernel memory of the process is charged to.
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Returns the program of the process.
    pub fn image(&self) -> Arc<Image> {
        self.image.lock().clone()
    }

    /// The last part of its program's path.
    pub fn name(&self) -> Name {
        Name(self.image())
    }

    /// Returns [`Space::tables`] of the process.
    pub fn tables(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
    }

    /// Works with its address space; `ESRCH` once it has none any more.
    pub fn with_space<R>(&self, f: impl FnOnce(&mut Space) -> Result<R>) -> Result<R> {
        let shared = self.space.lock().clone().ok_or(Errno::ESRCH)?;
        let mut space = shared.lock();
        let result = f(&mut space);
        self.most_backed.fetch_max(space.backed(), Ordering::Relaxed);
        while let Some(unused) = space.files.take_unused() {
            // Files are closed without the lock.
            drop(space);
            drop(unused);
            space = shared.lock();
        }
        result
    }

    pub(super) fn enlist(&self, thread: &Arc<UserThread>) -> Result<()> {
        let mut threads = self.threads.lock();
        if self.is_ending() {
            return Err(Errno::EAGAIN);
        }
        Ok(threads.try_push(thread.clone())?)
    }

    pub(super) fn delist(&self, thread: &UserThread) {
        self.used_by_ended.fetch_add(thread.used_ticks(), Ordering::Relaxed);
        let (gone, last) = {
            let mut threads = self.threads.lock();
            let at = threads.iter().position(|other| core::ptr::eq(&raw const **other, thread));
            (at.map(|at| threads.swap_remove(at)), threads.is_empty())
        };
        drop(gone);
        if last {
            self.finish();
            return;
        }
        self.retarget_signals(u64::MAX);
        if let Some(waiter) = &*self.alone.lock() {
            waiter.wake();
        }
    }

    /// Takes out a thread that no core has taken. A process without threads has not begun.
    pub(super) fn refuse(&self, thread: &UserThread) {
        if self.threads.lock().len() > 1 {
            self.delist(thread);
        } else {
            let gone = self.threads.lock().pop();
            drop(gone);
        }
    }

    /// Ticks that threads had which are over.
    pub fn used_by_ended(&self) -> u64 {
        self.used_by_ended.load(Ordering::Relaxed)
    }

    /// Returns the number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// The thread with the lowest number from `id` on.
    pub fn next_thread_id(&self, id: u32) -> Option<u32> {
        self.threads.lock().iter().map(|thread| thread.id()).filter(|other| *other >= id).min()
    }

    /// Does something with each of its threads, without the list's lock. Threads that begin or end meanwhile
    /// may be left out, but no other one: one that moves in the list moves towards its beginning, and the
    /// list is gone through from its end.
    pub fn each_thread(&self, mut f: impl FnMut(&Arc<UserThread>)) {
        let mut end = usize::MAX;
        loop {
            let thread = {
                let threads = self.threads.lock();
                end = end.min(threads.len());
                let Some(last) = end.checked_sub(1) else { break };
                end = last;
                threads[last].clone()
            };
            f(&thread);
        }
    }

    /// Returns a thread of the process.
    pub fn thread(&self, id: u32) -> Option<Arc<UserThread>> {
        self.threads.lock().iter().find(|thread| thread.id() == id).cloned()
    }

    /// The name of its first thread, or of the program if that thread has ended.
    pub fn comm(&self) -> thread::Name {
        self.thread(self.id).map_or_else(|| thread::name(self.image().name()), |thread| thread.name())
    }

    /// Returns whether its threads are on their way out.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Ends it: every thread, as soon as it is in the kernel. The first to say how counts.
    pub fn end(&self, how: End) {
        let word = KNOWN
            | match how {
                End::Exited(status) => u32::from(status),
                End::Killed(signal) => BY_SIGNAL | signal,
            };
        let _ = self.end.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed);
        {
            // No thread is added from now on.
            let _threads = self.threads.lock();
            self.ending.store(true, Ordering::Release);
        }
        self.each_thread(|thread| {
            thread.add_work(work::EXIT);
            thread.kick();
        });
        // Who waits does so with less patience now.
        self.waiting_for_end.lock().iter().for_each(Handle::wake);
    }

    /// After its last thread: memory and files are free again, and waiters are woken.
    fn finish(&self) {
        let _ = self.end.compare_exchange(0, KNOWN, Ordering::AcqRel, Ordering::Relaxed);
        let files = self.files.lock().take();
        drop(files);
        let space = self.space.lock().take();
        drop(space);
        *self.alone.lock() = None;
        super::syscall::release_physical(self.id);
        self.output.lock().flush();
        self.ended.store(time::stopwatch(), Ordering::Relaxed);
        self.report();
        self.over.store(true, Ordering::Release);
        self.release_lender();
        processes::ended(self);
        let waiting = self.waiting_for_end.lock().take();
        if let Some(handle) = waiting {
            handle.wake();
        }
    }

    /// Returns the exit status, once it is known.
    pub fn how(&self) -> Option<End> {
        let word = self.end.load(Ordering::Acquire);
        (word & KNOWN != 0).then_some(if word & BY_SIGNAL == 0 {
            End::Exited(word as u8)
        } else {
            End::Killed(word & 0x7f)
        })
    }

    /// Returns whether nothing of it is left but how it ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ticks that all its threads have had.
    pub fn used_ticks(&self) -> u64 {
        let mut used = self.used_by_ended();
        self.each_thread(|thread| used += thread.used_ticks());
        used
    }

    /// Says how it ended, and how long it ran.
    fn report(&self) {
        let ns =
            time::frequency().ticks_to_ns(self.ended.load(Ordering::Relaxed).saturating_sub(self.started));
        let (how, number) = match self.how() {
            Some(End::Killed(signal)) => ("was ended by signal", signal),
            Some(End::Exited(status)) => ("exited with status", u32::from(status)),
            None => ("ended with", 0),
        };
        let (seconds, us) = (ns / 1_000_000_000, ns / 1000 % 1_000_000);
        log::info!("{} (process {}) {how} {number} after {seconds}.{us:06} s", self.name(), self.id);
    }

    /// Waits until it is over.
    pub fn join(&self) -> End {
        let me = task::current();
        loop {
            {
                let mut waiting = self.waiting_for_end.lock();
                if self.is_over() {
                    break;
                }
                *waiting = Some(me.clone());
            }
            if self.is_ending() {
                // Its threads leave at once, unless a core is stuck.
                let patience = watch::deadline();
                task::park_until(patience);
                if time::ticks() >= patience {
                    self.each_thread(|thread| {
                        if let Some(core) = percore::get(thread.core()) {
                            watch::request_report(core);
                        }
                    });
                }
            } else {
                task::park();
            }
        }
        self.how().unwrap_or(End::Exited(0))
    }

    /// Sends a signal to the process: any thread may take it that does not block it, or that waits for it,
    /// then or later. False if there was no room for it in the queue.
    pub fn signal(&self, info: Info) -> bool {
        let kept = {
            // A blocked signal stays pending even if it is ignored now.
            let blocked = self.threads.lock().iter().all(|thread| thread.is_blocked(info.number));
            let mut signals = self.signals.lock();
            if signals.ignores(info.number) && !blocked {
                return true;
            }
            signals.pending.add(info)
        };
        // It is pending before anybody is looked for: a thread that begins to wait meanwhile finds it.
        self.notify_taker(info.number);
        kept
    }

    fn notify_taker(&self, number: u32) {
        let taker = self.threads.lock().iter().find(|thread| thread.takes(number)).cloned();
        if let Some(taker) = taker {
            taker.notify_signal();
        }
    }

    /// Finds other threads for the pending signals of a set, whose taker blocks them now or has ended.
    pub fn retarget_signals(&self, set: u64) {
        let mut pending = self.signals.lock().pending.set() & set;
        while pending != 0 {
            self.notify_taker(pending.trailing_zeros() + 1);
            pending &= pending - 1;
        }
    }
}
