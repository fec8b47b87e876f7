//! Open files: of the root file system, the console, devices, pipes.

use super::{
    account::Charge,
    copy,
    errno::{Errno, Result},
    kmsg,
    pieces::{chunks, copy_part, fill},
    pipe,
    process::Process,
    random, signal,
    thread::{self, UserThread},
};
use crate::{percore::CoreIndex, sync::IrqMutex, task::Mutex};
use alloc::{boxed::Box, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use fallible::{Arc, TryVec as _};
use memfs::{Device, FileSystem, FsError, Kind, NodeId, Start};
use spin::Once;

/// The most open files of a process: what `RLIMIT_NOFILE` says.
pub const MOST_OPEN: usize = 1024;

pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_ACCMODE: u32 = 3;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_TRUNC: u32 = 0o1000;
pub const O_APPEND: u32 = 0o2000;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_DIRECTORY: u32 = 0o40000;
pub const O_NOFOLLOW: u32 = 0o100_000;
pub const O_CLOEXEC: u32 = 0o2_000_000;

/// Devices of `/dev`.
pub const NULL: Device = Device(1);
pub const ZERO: Device = Device(2);
pub const FULL: Device = Device(3);
pub const RANDOM: Device = Device(4);
pub const CONSOLE: Device = Device(5);
/// What the image provides: [`provide`].
pub const OF_IMAGE: Device = Device(6);
pub const LOG: Device = Device(7);

/// The root file system.
static FILES: Once<Mutex<FileSystem>> = Once::new();

/// Takes the file system that programs see.
pub fn mount(files: FileSystem) {
    FILES.call_once(|| Mutex::new(files));
}

/// Works with the file system.
pub fn with_files<R>(f: impl FnOnce(&mut FileSystem) -> R) -> R {
    f(&mut FILES.get().expect("there is a root file system").lock())
}

/// A device that not every image has, open.
pub trait Special: Send + Sync + fmt::Debug {
    /// Reads into the program's memory; `now`: or fails with `EAGAIN`.
    fn read(&self, thread: &UserThread, to: u64, size: usize, now: bool) -> Result<u64>;
    /// Does a request.
    fn ioctl(&self, request: u32, argument: u64) -> Result<u64>;
    /// Whether there is something to read.
    fn is_ready(&self) -> bool;
}

/// Opens a [`Special`].
pub type OpenSpecial = fn(&UserThread) -> Result<Box<dyn Special>>;

/// The path of the image's device, and what opens it. Images without it do not link what is behind it.
static SPECIAL: Once<(&'static [u8], OpenSpecial)> = Once::new();

/// Adds the image's device, before the file system is made.
pub fn provide(path: &'static [u8], open: OpenSpecial) {
    SPECIAL.call_once(|| (path, open));
}

/// The path of the image's device.
pub fn special() -> Option<&'static [u8]> {
    SPECIAL.get().map(|(path, _)| *path)
}

/// What a descriptor stands for.
#[derive(Debug)]
pub enum Object {
    Console,
    Null,
    Zero,
    Full,
    Random,
    /// A file or a directory.
    Node(NodeId),
    /// Text that was made when it was opened.
    Text(Vec<u8>),
    PipeOut(Arc<Pipe>),
    PipeIn(Arc<Pipe>),
    /// `/dev/kmsg`.
    Log(kmsg::Reader),
    /// What switches a core on and off.
    Switch(CoreIndex),
    /// A thread's name in `/proc`.
    /// The directory of a process's threads.
    Tasks(Arc<Process>),
    Name(Arc<UserThread>),
    /// The image's device.
    Special(Box<dyn Special>),
}

/// An open file: descriptors that were duplicated share it.
#[derive(Debug)]
pub struct Open {
    pub object: Object,
    pub offset: AtomicU64,
    pub flags: AtomicU32,
    _charge: Charge,
}

impl Open {
    /// Opened with these flags.
    pub fn new(object: Object, flags: u32) -> Result<Arc<Self>> {
        let text = if let Object::Text(text) = &object { text.capacity() } else { 0 };
        let charge = Charge::to_caller(size_of::<Self>() + text);
        let refused = charge.as_ref().err().copied();
        let charge = charge.unwrap_or_default();
        // Refused, dropping it closes what it would have been.
        let open = Self { object, offset: AtomicU64::new(0), flags: AtomicU32::new(flags), _charge: charge };
        refused.map_or(Ok(()), Err)?;
        Ok(Arc::try_new(open)?)
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether the descriptor's access mode allows to read, or to write: `EBADF` if not.
    pub fn may(&self, write: bool) -> Result<()> {
        let mode = self.flags.load(Ordering::Relaxed) & O_ACCMODE;
        let allowed = mode == O_RDWR || (mode == O_WRONLY) == write;
        if allowed { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Whether it has a position.
    pub const fn is_seekable(&self) -> bool {
        matches!(self.object, Object::Node(_) | Object::Text(_) | Object::Name(_) | Object::Tasks(_))
    }

    /// Reads into the program's memory: at a position, or at the file's own, which moves.
    pub fn read(&self, thread: &UserThread, to: u64, size: usize, at: Option<u64>) -> Result<u64> {
        self.may(false)?;
        let offset = at.unwrap_or_else(|| self.offset.load(Ordering::Relaxed));
        let count = match &self.object {
            // Nobody types here.
            Object::Console => {
                thread.process().output.lock().flush();
                0
            }
            Object::Null => 0,
            Object::Zero | Object::Full => fill(to, size, |_| {})?,
            Object::Random => fill(to, size, random::fill)?,
            Object::Text(text) => copy_part(text, offset, to, size)?,
            Object::Name(named) => copy_part(&super::proc::name_of(named), offset, to, size)?,
            Object::PipeOut(pipe) => read_pipe(pipe, thread, to, size, self.has(O_NONBLOCK))?,
            Object::PipeIn(_) | Object::Switch(_) => return Err(Errno::EBADF),
            Object::Tasks(_) => return Err(Errno::EISDIR),
            Object::Special(device) => device.read(thread, to, size, self.has(O_NONBLOCK))?,
            Object::Log(log) => log.read(thread, to, size, self.has(O_NONBLOCK))?,
            Object::Node(node) => match with_files(|files| files.archived(*node)) {
                Some(bytes) => copy_part(bytes, offset, to, size)?,
                None => with_files(|files| copy_node(files, *node, offset, to, size))?,
            },
        };
        if at.is_none() && self.is_seekable() {
            self.offset.store(offset + count, Ordering::Relaxed);
        }
        Ok(count)
    }

    /// Writes from the program's memory.
    pub fn write(&self, thread: &UserThread, from: u64, size: usize, at: Option<u64>) -> Result<u64> {
        self.may(true)?;
        match &self.object {
            Object::Null | Object::Zero | Object::Random => Ok(size as u64),
            Object::Full => Err(Errno::ENOSPC),
            Object::Text(_) => Err(Errno::EROFS),
            Object::PipeOut(_) | Object::Tasks(_) => Err(Errno::EBADF),
            Object::Special(_) => Err(Errno::EINVAL),
            Object::Switch(core) => {
                let mut word = [0];
                if size > 0 {
                    copy::read_bytes(from, &mut word)?;
                }
                super::proc::switch_core(*core, word[0])?;
                Ok(size as u64)
            }
            Object::Name(named) => {
                let mut text = [0; 15];
                let count = size.min(text.len());
                copy::read_bytes(from, &mut text[..count])?;
                named.set_name(thread::name(&text));
                Ok(size as u64)
            }
            Object::Log(_) => kmsg::write(from, size),
            Object::PipeIn(pipe) => write_pipe(pipe, thread, from, size, self.has(O_NONBLOCK)),
            Object::Console => chunks(from, size, |bytes| {
                thread.process().output.lock().write(bytes);
                Ok(())
            }),
            Object::Node(node) => {
                let mut offset = at.unwrap_or_else(|| self.offset.load(Ordering::Relaxed));
                if self.has(O_APPEND) {
                    offset = with_files(|files| files.stat(*node).size);
                }
                let count = chunks(from, size, |bytes| {
                    check_space()?;
                    with_files(|files| files.write_at(*node, offset, bytes))?;
                    offset += bytes.len() as u64;
                    Ok(())
                })?;
                with_files(|files| files.set_modified(*node, super::seconds()));
                if at.is_none() {
                    self.offset.store(offset, Ordering::Relaxed);
                }
                Ok(count)
            }
        }
    }

    /// What `poll` says: `POLLIN` 1, `POLLOUT` 4, `POLLHUP` 16.
    pub fn ready(&self) -> u16 {
        match &self.object {
            Object::PipeOut(pipe) => pipe.ready_out(),
            Object::PipeIn(pipe) => pipe.ready_in(),
            Object::Special(device) => u16::from(device.is_ready()),
            Object::Log(log) => log.ready(),
            _ => 1 | 4,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        match &self.object {
            Object::Node(node) => with_files(|files| files.close(*node)),
            Object::PipeOut(pipe) => {
                pipe.close_reader();
                something_happened();
            }
            Object::PipeIn(pipe) => {
                pipe.close_writer();
                something_happened();
            }
            _ => {}
        }
    }
}

/// Copies from a file in chunks to the program; how many bytes there were. An error counts if it is the first
/// thing.
fn copy_node(files: &FileSystem, node: NodeId, offset: u64, to: u64, size: usize) -> Result<u64> {
    let mut done = 0;
    while done < size {
        let piece = files.piece_at(node, offset.saturating_add(done as u64))?;
        let count = piece.len().min(size - done);
        if count == 0 {
            break;
        }
        match copy::write_bytes(to.wrapping_add(done as u64), &piece[..count]) {
            Ok(()) => done += count,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done as u64)
}

pub use super::{account::check_room as check_memory, output::Output, pieces::buffer};

/// The same where a file system has no space: `ENOSPC`.
pub fn check_space() -> Result<()> {
    check_memory().map_err(|_| Errno::ENOSPC)
}

/// Whether it is a regular file.
pub fn is_file(node: NodeId) -> bool {
    with_files(|files| files.kind(node)) == Kind::File
}

/// Copies from a file of the file system; how many bytes there were.
pub fn read_node(node: NodeId, offset: u64, to: &mut [u8]) -> Result<usize> {
    with_files(|files| files.read_at(node, offset, to).map_err(|_| Errno::ENODEV))
}

/// Threads that wait for something to happen to files.
static WAITERS: IrqMutex<Vec<Arc<UserThread>>> = IrqMutex::new(Vec::new());

/// Waits until `ready` says something, a signal comes, or the deadline.
pub fn wait_until<R>(
    thread: &UserThread,
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Result<Option<R>>,
) -> Result<Option<R>> {
    let mut result = Ok(None);
    let mut look = || {
        result = ready();
        !matches!(result, Ok(None))
    };
    // One body for all that is waited for: it is not small.
    if !look() {
        wait(thread, deadline, &mut look)?;
    }
    result
}

/// Waits until `ready` says so, or until the deadline.
#[inline(never)]
fn wait(thread: &UserThread, deadline: Option<u64>, ready: &mut dyn FnMut() -> bool) -> Result<()> {
    {
        WAITERS.lock().try_push(thread.shared())?;
    }
    let outcome = loop {
        if ready() {
            break Ok(());
        }
        if thread.is_interrupted() {
            break Err(Errno::RESTART);
        }
        if !thread::park(deadline) {
            break Ok(());
        }
    };
    let gone = {
        let mut waiters = WAITERS.lock();
        let at = waiters.iter().position(|waiter| core::ptr::eq(&raw const **waiter, thread));
        at.map(|at| waiters.swap_remove(at))
    };
    drop(gone);
    outcome
}

/// Has all of them look again.
pub fn something_happened() {
    // From the end: whoever moves in the list moves towards its beginning.
    let mut end = usize::MAX;
    loop {
        let thread = {
            let waiters = WAITERS.lock();
            end = end.min(waiters.len());
            let Some(last) = end.checked_sub(1) else { break };
            end = last;
            waiters[last].clone()
        };
        thread.wake();
    }
}

/// A pipe, and what its process pays for it.
pub type Pipe = pipe::Pipe<Charge>;

/// Makes a pipe with one end each.
pub fn new_pipe() -> Result<Arc<Pipe>> {
    // All that it can hold.
    Ok(Arc::try_new(Pipe::new(Charge::to_caller(size_of::<Pipe>() + pipe::CAPACITY)?))?)
}

fn read_pipe(pipe: &Pipe, thread: &UserThread, to: u64, size: usize, now: bool) -> Result<u64> {
    let attempt = || match pipe.read(to, size)? {
        None if now => Err(Errno::EAGAIN),
        count => Ok(count),
    };
    let count = wait_until(thread, None, attempt)?.unwrap_or(0);
    something_happened();
    Ok(count)
}

fn write_pipe(pipe: &Pipe, thread: &UserThread, from: u64, size: usize, now: bool) -> Result<u64> {
    let mut done = 0;
    while done < size {
        let mut piece = buffer((size - done).min(pipe::CAPACITY))?;
        if let Err(error) = copy::read_bytes(from.wrapping_add(done as u64), &mut piece) {
            return if done == 0 { Err(error) } else { Ok(done as u64) };
        }
        // What is not larger than PIPE_BUF goes in whole.
        let least = if size <= 4096 { size } else { 1 };
        let attempt = || match pipe.write(&piece, least, check_memory)? {
            None if now => Err(Errno::EAGAIN),
            count => Ok(count),
        };
        match wait_until(thread, None, attempt) {
            Ok(count) => done += count.unwrap_or(0),
            Err(Errno::EPIPE) => {
                let process = thread.process();
                let _ = signal::send(process.id(), process, Some(thread), signal::SIGPIPE, 0);
                return Err(Errno::EPIPE);
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        something_happened();
    }
    Ok(done as u64)
}

#[derive(Clone, Debug)]
struct Slot {
    open: Arc<Open>,
    close_on_exec: bool,
}

/// A process's descriptors, and its working directory.
#[derive(Debug)]
pub struct Descriptors {
    slots: Vec<Option<Slot>>,
    pub directory: NodeId,
}

impl Descriptors {
    /// Standard input, output and error: the console.
    pub fn standard() -> Result<Self> {
        let console = Slot { open: Open::new(Object::Console, O_RDWR)?, close_on_exec: false };
        Ok(Self { slots: Vec::try_filled(Some(console), 3)?, directory: NodeId::ROOT })
    }

    /// The open file behind a descriptor.
    pub fn get(&self, number: u64) -> Result<Arc<Open>> {
        let slot = usize::try_from(number as u32).ok().and_then(|number| self.slots.get(number));
        slot.and_then(Option::as_ref).map(|slot| slot.open.clone()).ok_or(Errno::EBADF)
    }

    /// The first free descriptor from `least` on, for an open file.
    pub fn add(&mut self, open: Arc<Open>, close_on_exec: bool, least: usize) -> Result<u64> {
        let free = (least..MOST_OPEN).find(|number| self.slots.get(*number).is_none_or(Option::is_none));
        let number = free.ok_or(Errno::EMFILE)?;
        drop(self.put(number, open, close_on_exec)?);
        Ok(number as u64)
    }

    /// Puts an open file at this descriptor; returns what was there.
    pub fn put(&mut self, number: usize, open: Arc<Open>, close_on_exec: bool) -> Result<Option<Arc<Open>>> {
        if self.slots.len() <= number {
            self.slots.try_reserve(number + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            #[expect(clippy::disallowed_methods, reason = "there is room")]
            self.slots.resize(number + 1, None);
        }
        Ok(self.slots[number].replace(Slot { open, close_on_exec }).map(|slot| slot.open))
    }

    /// Takes a descriptor away. What it stood for is closed when the result is dropped.
    pub fn remove(&mut self, number: u64) -> Result<Arc<Open>> {
        let slot = self.slots.get_mut(number as u32 as usize).and_then(Option::take);
        slot.map(|slot| slot.open).ok_or(Errno::EBADF)
    }

    /// Whether it is closed by `execve`.
    pub fn close_on_exec(&mut self, number: u64) -> Result<&mut bool> {
        let slot = self.slots.get_mut(number as u32 as usize).and_then(Option::as_mut);
        slot.map(|slot| &mut slot.close_on_exec).ok_or(Errno::EBADF)
    }

    /// The same open files for another process.
    pub fn duplicate(&self) -> Result<Self> {
        let slots = Vec::try_collected(self.slots.iter().cloned())?;
        Ok(Self { slots, directory: self.directory })
    }

    /// Takes one of those that `execve` closes.
    pub fn take_closed_by_exec(&mut self) -> Option<impl Sized + use<>> {
        let closes = |slot: &&mut Option<Slot>| slot.as_ref().is_some_and(|slot| slot.close_on_exec);
        self.slots.iter_mut().find(closes)?.take()
    }

    /// Takes all of them.
    pub fn take(&mut self) -> impl Sized + use<> {
        core::mem::take(&mut self.slots)
    }
}

/// Opens a path.
pub fn open(thread: &UserThread, start: Start, path: &[u8], flags: u32, mode: u32) -> Result<Arc<Open>> {
    if flags & O_ACCMODE != 0
        && let Some(core) = super::proc::switch(path)
    {
        return Open::new(Object::Switch(core), O_WRONLY);
    }
    if flags & O_ACCMODE != 0
        && let Some(named) = super::proc::named_thread(thread, path)
    {
        return Open::new(Object::Name(named), flags);
    }
    if super::proc::is_tasks(thread, path) {
        return if flags & O_ACCMODE == 0 {
            Open::new(Object::Tasks(thread.process().clone()), flags)
        } else {
            Err(Errno::EISDIR)
        };
    }
    if let Some(text) = super::proc::text(thread, path)? {
        return if flags & O_ACCMODE == 0 {
            Open::new(Object::Text(text), flags)
        } else {
            Err(Errno::EACCES)
        };
    }
    check_memory()?;
    let umask = thread.process().umask.load(Ordering::Relaxed);
    let (node, kind) = with_files(|files| {
        let found = files.find(start, path, flags & O_NOFOLLOW == 0);
        let node = match found {
            Ok(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(Errno::EEXIST),
            Ok(node) => node,
            Err(FsError::NotFound) if flags & O_CREAT != 0 => {
                check_space()?;
                files.create_file(start, path, mode & 0o777 & !umask, super::seconds())?
            }
            Err(error) => return Err(error.into()),
        };
        let kind = files.kind(node);
        let writes = flags & O_ACCMODE != 0;
        match kind {
            Kind::Symlink => return Err(Errno::ELOOP),
            Kind::Directory if writes => return Err(Errno::EISDIR),
            Kind::File if flags & O_DIRECTORY != 0 => return Err(Errno::ENOTDIR),
            Kind::File if flags & O_TRUNC != 0 && writes => files.truncate(node, 0)?,
            _ => {}
        }
        if matches!(kind, Kind::File | Kind::Directory) {
            files.open(node)?;
        }
        Ok((node, kind))
    })?;
    let object = match kind {
        Kind::Device(NULL) => Object::Null,
        Kind::Device(ZERO) => Object::Zero,
        Kind::Device(FULL) => Object::Full,
        Kind::Device(RANDOM) => Object::Random,
        Kind::Device(CONSOLE) => Object::Console,
        Kind::Device(LOG) => Object::Log(kmsg::Reader::new()),
        Kind::Device(OF_IMAGE) => {
            let (_, open) = SPECIAL.get().ok_or(Errno::ENODEV)?;
            Object::Special(open(thread)?)
        }
        Kind::Device(_) => return Err(Errno::ENODEV),
        _ => Object::Node(node),
    };
    Open::new(object, flags & !(O_CREAT | O_EXCL | O_TRUNC))
}
