//! A process: an address space, open files, signal actions, and the threads that share them.

use super::{
    errno::{Errno, Result},
    files::{Descriptors, Output},
    futex::Futexes,
    signal::{Info, ProcessSignals},
    space::{self, Space, range},
    thread::{self, CoreSet, Start, UserThread, work},
};
use crate::{
    arch,
    memory::Phys,
    percore,
    sync::IrqMutex,
    task::{self, Handle, Mutex},
    time, watch,
};
use address_space::{PAGE, Purpose};
use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use linux_program::{
    Access, Credentials, Hwcaps, InitialStack, Limits, MIN_SIGNAL_STACK, Placed, Program, UserAddr,
    UserRange,
    vdso::{Clock, IMAGE},
};
use spin::Once;

/// Size of the first thread's stack, unless the program says otherwise.
pub const STACK: u64 = 8 << 20;
/// What arguments and environment may take of it.
const STRINGS: u64 = 2 << 20;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By `exit_group`, or the last thread's `exit`.
    Exited(u8),
    /// By a signal.
    Killed(u32),
}

impl End {
    /// As a shell tells it.
    pub const fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + (signal as u8 & 0x7f),
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its file in the root file system.
    pub path: Vec<u8>,
    /// `argv`.
    pub arguments: Vec<Vec<u8>>,
    /// `envp`, each `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Where its threads may run.
    pub cores: CoreSet,
}

/// A process.
pub struct Process {
    id: u32,
    parent: u32,
    name: String,
    path: Vec<u8>,
    /// The file, for names of functions.
    file: &'static [u8],
    bias: u64,
    space: Mutex<Option<Space>>,
    tables: u64,
    pub(super) files: Mutex<Descriptors>,
    pub(super) output: Mutex<Output>,
    pub(super) signals: IrqMutex<ProcessSignals>,
    pub(super) futexes: Futexes,
    threads: IrqMutex<Vec<Arc<UserThread>>>,
    ending: AtomicBool,
    /// How it ends: bit 16 set once that is known, bit 15 for a signal.
    end: AtomicU32,
    over: AtomicBool,
    waiting_for_end: IrqMutex<Vec<Handle>>,
    started: u64,
    ended: AtomicU64,
    /// Ticks that threads had which are over.
    used_by_ended: AtomicU64,
    /// The most bytes that it had.
    pub(super) most_backed: AtomicU64,
    pub(super) umask: AtomicU32,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.id, self.name)
    }
}

const KNOWN: u32 = 1 << 16;
const BY_SIGNAL: u32 = 1 << 15;

fn hwcaps() -> Hwcaps {
    static CAPS: Once<Hwcaps> = Once::new();
    *CAPS.call_once(|| Hwcaps::of(&arch::identification(), linux_program::hwcap::Allowed::default()))
}

/// The clock of all programs, and the page that they read it from.
pub fn clock() -> &'static Clock {
    static CLOCK: Once<Clock> = Once::new();
    CLOCK.call_once(|| {
        let frequency = time::frequency().hz();
        Clock::new(super::boot_ticks(), frequency, super::epoch_ns())
    })
}

fn clock_page() -> Phys {
    static PAGE_OF_CLOCK: Once<Phys> = Once::new();
    *PAGE_OF_CLOCK.call_once(|| {
        let mut block = crate::memory::allocate(PAGE).expect("no memory for the clock's page");
        block.as_slice::<u8>()[..Clock::SIZE].copy_from_slice(&clock().encode());
        Phys::of_linear(block.leak().as_ptr()).expect("blocks are in the linear map")
    })
}

fn vdso_page() -> Phys {
    static PAGE_OF_VDSO: Once<Phys> = Once::new();
    *PAGE_OF_VDSO.call_once(|| {
        let mut block = crate::memory::allocate(PAGE).expect("no memory for the vDSO");
        block.as_slice::<u8>().copy_from_slice(&IMAGE.0);
        let page = block.leak();
        arch::synchronise_code(page.as_ptr(), page.len());
        Phys::of_linear(page.as_ptr()).expect("blocks are in the linear map")
    })
}

impl Process {
    /// Loads a program and starts its first thread.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the program, or missing.
    pub fn start(command: &Command, parent: u32) -> core::result::Result<Arc<Self>, String> {
        let name =
            String::from_utf8_lossy(command.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default());
        let path = String::from_utf8_lossy(&command.path);
        let wrong = |why: &dyn fmt::Display| alloc::format!("{path}: {why}");
        let file = super::files::whole_file(&command.path).map_err(|_| wrong(&"there is no such file"))?;
        let program = Program::parse(file).map_err(|why| wrong(&why))?;
        let limits = Limits {
            addresses: range(space::LOWEST, UserAddr::new(1 << 35)),
            memory: crate::memory::free_bytes(),
        };
        let placed = program.place(space::PROGRAM, &limits).map_err(|why| wrong(&why))?;
        let too_little = |_| wrong(&"there is not enough memory for it");
        let mut space = Space::new().ok_or_else(|| wrong(&"there are too many processes"))?;
        load(&mut space, &placed).map_err(too_little)?;
        let sp = make_stack(&mut space, &placed, command).map_err(too_little)?;
        let process = Arc::new(Self {
            id: thread::next_id(),
            parent,
            name: name.to_string(),
            path: command.path.clone(),
            file,
            bias: placed.bias(),
            tables: space.tables(),
            most_backed: AtomicU64::new(space.backed()),
            space: Mutex::new(Some(space)),
            files: Mutex::new(Descriptors::standard()),
            output: Mutex::new(Output::default()),
            signals: IrqMutex::new(ProcessSignals::new()),
            futexes: Futexes::new(),
            threads: IrqMutex::new(Vec::new()),
            ending: AtomicBool::new(false),
            end: AtomicU32::new(0),
            over: AtomicBool::new(false),
            waiting_for_end: IrqMutex::new(Vec::new()),
            started: time::stopwatch(),
            used_by_ended: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            umask: AtomicU32::new(0o022),
        });
        let first = Start::first(placed.entry().get(), sp.get(), command.cores);
        UserThread::start(&process, process.id, first)
            .ok_or_else(|| wrong(&"none of its cores takes a thread"))?;
        Ok(process)
    }

    /// Its number.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The number of the process that started it; 0: the kernel.
    pub const fn parent(&self) -> u32 {
        self.parent
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of its program.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Names of its functions.
    pub fn symbols(&self) -> Option<linux_program::Symbols<'static>> {
        linux_program::Symbols::new(self.file, self.bias)
    }

    /// What [`Space::tables`] says.
    pub const fn tables(&self) -> u64 {
        self.tables
    }

    /// Works with its address space; `ESRCH` once it has none any more.
    pub fn with_space<R>(&self, f: impl FnOnce(&mut Space) -> Result<R>) -> Result<R> {
        let mut space = self.space.lock();
        let space = space.as_mut().ok_or(Errno::ESRCH)?;
        let result = f(space);
        self.most_backed.fetch_max(space.backed(), Ordering::Relaxed);
        result
    }

    pub(super) fn enlist(&self, thread: &Arc<UserThread>) -> bool {
        let mut threads = self.threads.lock();
        // Room first: nothing is allocated while it ends.
        let ending = self.is_ending();
        if !ending {
            threads.push(thread.clone());
        }
        !ending
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
        }
    }

    /// Ticks that threads had which are over.
    pub fn used_by_ended(&self) -> u64 {
        self.used_by_ended.load(Ordering::Relaxed)
    }

    /// Its threads.
    pub fn threads(&self) -> Vec<Arc<UserThread>> {
        self.threads.lock().clone()
    }

    /// One of its threads.
    pub fn thread(&self, id: u32) -> Option<Arc<UserThread>> {
        self.threads.lock().iter().find(|thread| thread.id() == id).cloned()
    }

    /// Whether its threads are on their way out.
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
        let threads = {
            let threads = self.threads.lock();
            self.ending.store(true, Ordering::Release);
            threads.clone()
        };
        for thread in threads {
            thread.add_work(work::EXIT);
            thread.kick();
        }
        // Who waits does so with less patience now.
        self.waiting_for_end.lock().iter().for_each(Handle::wake);
    }

    /// After its last thread: memory and files are free again, and whoever waits is told.
    fn finish(&self) {
        let _ = self.end.compare_exchange(0, KNOWN, Ordering::AcqRel, Ordering::Relaxed);
        let files = self.files.lock().take();
        drop(files);
        drop(self.space.lock().take());
        super::syscall::release_physical(self.id);
        self.output.lock().flush();
        self.ended.store(time::stopwatch(), Ordering::Relaxed);
        self.over.store(true, Ordering::Release);
        for handle in core::mem::take(&mut *self.waiting_for_end.lock()) {
            handle.wake();
        }
    }

    /// How it ends, if that is known.
    pub fn how(&self) -> Option<End> {
        let word = self.end.load(Ordering::Acquire);
        (word & KNOWN != 0).then_some(if word & BY_SIGNAL == 0 {
            End::Exited(word as u8)
        } else {
            End::Killed(word & 0x7f)
        })
    }

    /// Waits until it is over. How it ended, and how long it ran in nanoseconds.
    pub fn join(&self) -> (End, u64) {
        let me = task::current();
        loop {
            {
                let mut waiting = self.waiting_for_end.lock();
                if self.over.load(Ordering::Acquire) {
                    break;
                }
                if !waiting.contains(&me) {
                    waiting.push(me.clone());
                }
            }
            if self.is_ending() {
                // Its threads leave at once, unless a core is stuck.
                let patience = watch::deadline();
                task::park_until(patience);
                if time::ticks() >= patience {
                    self.threads()
                        .iter()
                        .filter_map(|thread| percore::get(thread.core()))
                        .for_each(watch::tell);
                }
            } else {
                task::park();
            }
        }
        let ticks = self.ended.load(Ordering::Relaxed).saturating_sub(self.started);
        (self.how().unwrap_or(End::Exited(0)), time::frequency().ticks_to_ns(ticks))
    }

    /// Sends a signal to the process: to a thread that takes it, if there is one.
    pub fn signal(&self, info: Info) {
        let threads = self.threads();
        let taker = threads.iter().find(|thread| thread.takes(info.number)).or(threads.first());
        if let Some(thread) = taker {
            thread.signal(info);
        }
    }
}

/// Puts a program's segments into an address space, with vDSO and heap.
fn load(space: &mut Space, placed: &Placed<'_>) -> Result<()> {
    for segment in placed.segments() {
        let UserRange { start, .. } = segment.pages;
        // Written before the program may only read it.
        space.map(segment.pages.len(), Some(start), true, segment.access, Purpose::Program, false)?;
        space.write(segment.range.start, segment.contents)?;
        if segment.access.execute {
            space.synchronise_code(segment.pages);
        }
    }
    space.set_heap(placed.heap());
    let read = Access { read: true, write: false, execute: false };
    let clock_at = UserAddr::new(space::VDSO.get() - PAGE);
    space.map_kernel(clock_at, clock_page(), PAGE, read)?;
    space.map_kernel(space::VDSO, vdso_page(), PAGE, Access { execute: true, ..read })
}

/// Makes the first thread's stack; returns its stack pointer.
fn make_stack(space: &mut Space, placed: &Placed<'_>, command: &Command) -> Result<UserAddr> {
    let wanted = placed.program().stack().size.unwrap_or(STACK);
    let size = wanted.max(4 * PAGE).checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
    let data = Access { read: true, write: true, execute: false };
    let bottom = space::STACK_TOP.get().checked_sub(size).ok_or(Errno::ENOMEM)?;
    space.map(size, Some(UserAddr::new(bottom)), true, data, Purpose::Stack, false)?;
    let mut random = [0; 16];
    super::random::fill(&mut random);
    let first = InitialStack {
        arguments: command.arguments.iter().map(Vec::as_slice),
        environment: command.environment.iter().map(Vec::as_slice),
        file_name: &command.path,
        program: placed,
        random,
        hwcaps: hwcaps(),
        credentials: Credentials::default(),
        vdso: Some(space::VDSO),
        min_signal_stack: MIN_SIGNAL_STACK,
    };
    let needed = first.size().map_err(|_| Errno::EINVAL)? as u64;
    if needed > STRINGS.min(size / 2) {
        return Err(Errno::E2BIG);
    }
    let mut memory = vec![0; needed as usize];
    let sp = first.write(space::STACK_TOP, &mut memory).map_err(|_| Errno::E2BIG)?;
    let used = (space::STACK_TOP.get() - sp.get()) as usize;
    space.write(sp, &memory[memory.len() - used..])?;
    Ok(sp)
}
