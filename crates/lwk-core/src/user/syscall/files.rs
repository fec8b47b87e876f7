//! Files and standard streams.

use crate::{
    arch::UserFrame,
    user::{
        copy,
        errno::{Errno, Result},
        files::{self, O_ACCMODE, O_APPEND, O_CLOEXEC, O_NONBLOCK, O_WRONLY, Object, Open, with_files},
        thread::UserThread,
    },
};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fallible::{Arc, TryVec as _};
use memfs::{Kind, NodeId, Start, Stat};
use zerocopy::{Immutable, IntoBytes};

pub(super) const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_EMPTY_PATH: u64 = 0x1000;
/// `IOV_MAX`.
const MOST_PIECES: u64 = 1024;
/// The most bytes of one transfer, as Linux: a page less than 2 GiB.
const MOST_BYTES: u64 = 0x7fff_f000;
const TCGETS: u64 = 0x5401;
const TCSETS: [u64; 3] = [0x5402, 0x5403, 0x5404];
const TIOCGWINSZ: u64 = 0x5413;
const FIONBIO: u64 = 0x5421;

pub(super) fn open_file(thread: &UserThread, number: u64) -> Result<Arc<Open>> {
    thread.process().files.lock().get(number)
}

/// Where a path begins that belongs to a directory's descriptor.
pub(super) fn start(thread: &UserThread, directory: u64, path: &[u8]) -> Result<Start> {
    if path.starts_with(b"/") {
        return Ok(Start::Root);
    }
    if directory as i32 == AT_FDCWD {
        return Ok(Start::At(thread.process().files.lock().directory));
    }
    match open_file(thread, directory)?.object {
        Object::Node(node) => Ok(Start::At(node)),
        _ => Err(Errno::ENOTDIR),
    }
}

/// `/proc/self/exe` leads to the program's file.
pub(super) fn own(thread: &UserThread, path: Vec<u8>) -> Result<Vec<u8>> {
    if path != b"/proc/self/exe" {
        return Ok(path);
    }
    Ok(Vec::try_copy_of(&thread.process().image().path)?)
}

pub fn openat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, flags, mode, ..] = frame.x;
    let path = own(thread, copy::read_string(path)?)?;
    let flags = flags as u32;
    let start = start(thread, directory, &path)?;
    let open = files::open(thread, start, &path, flags, mode as u32)?;
    thread.process().files.lock().add(open, flags & O_CLOEXEC != 0, 0)
}

pub fn close(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let open = thread.process().files.lock().remove(frame.x[0])?;
    drop(open);
    Ok(0)
}

fn size(bytes: u64) -> usize {
    bytes.min(MOST_BYTES) as usize
}

pub fn read(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, to, bytes, ..] = frame.x;
    open_file(thread, file)?.read(thread, to, size(bytes), None)
}

pub fn write(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, from, bytes, ..] = frame.x;
    open_file(thread, file)?.write(thread, from, size(bytes), None)
}

fn position(offset: u64) -> Result<Option<u64>> {
    if (offset as i64) < 0 { Err(Errno::EINVAL) } else { Ok(Some(offset)) }
}

pub fn pread64(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, to, bytes, offset, ..] = frame.x;
    let open = open_file(thread, file)?;
    let position = position(offset)?;
    if open.is_seekable() { open.read(thread, to, size(bytes), position) } else { Err(Errno::ESPIPE) }
}

pub fn pwrite64(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, from, bytes, offset, ..] = frame.x;
    let open = open_file(thread, file)?;
    let position = position(offset)?;
    if open.is_seekable() { open.write(thread, from, size(bytes), position) } else { Err(Errno::ESPIPE) }
}

/// Does one transfer for each piece of a list, until one is short. An error counts if nothing was done before
/// it.
fn pieces(list: u64, count: u64, mut transfer: impl FnMut(u64, usize) -> Result<u64>) -> Result<u64> {
    if count > MOST_PIECES {
        return Err(Errno::EINVAL);
    }
    let mut done: u64 = 0;
    for piece in 0..count {
        let [start, bytes] = copy::read::<[u64; 2]>(list.wrapping_add(piece * 16))?;
        if (bytes as i64) < 0 {
            return Err(Errno::EINVAL);
        }
        if bytes == 0 {
            continue;
        }
        match transfer(start, size(bytes)) {
            Ok(moved) => {
                done += moved;
                if moved < bytes || done > MOST_BYTES {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

pub fn readv(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, list, count, ..] = frame.x;
    let open = open_file(thread, file)?;
    pieces(list, count, |to, bytes| open.read(thread, to, bytes, None))
}

pub fn writev(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, list, count, ..] = frame.x;
    let open = open_file(thread, file)?;
    pieces(list, count, |from, bytes| open.write(thread, from, bytes, None))
}

fn length(object: &Object) -> u64 {
    match object {
        Object::Node(node) => with_files(|files| files.stat(*node).size),
        Object::Text(text) => text.len() as u64,
        _ => 0,
    }
}

pub fn lseek(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, offset, whence, ..] = frame.x;
    let open = open_file(thread, file)?;
    if let Object::Log(log) = &open.object {
        return log.seek(offset, whence);
    }
    if !open.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    let base = match whence {
        0 => 0,
        1 => open.offset.load(Ordering::Relaxed),
        2 => length(&open.object),
        _ => return Err(Errno::EINVAL),
    };
    let position = (base as i64).checked_add(offset as i64).filter(|position| *position >= 0);
    let position = position.ok_or(Errno::EINVAL)? as u64;
    open.offset.store(position, Ordering::Relaxed);
    Ok(position)
}

/// `struct stat` of AArch64.
#[repr(C)]
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
struct LinuxStat {
    device: u64,
    inode: u64,
    mode: u32,
    links: u32,
    user: u32,
    group: u32,
    special: u64,
    padding: u64,
    size: u64,
    block_size: u32,
    padding_too: u32,
    blocks: u64,
    accessed: [u64; 2],
    modified: [u64; 2],
    changed: [u64; 2],
    unused: u64,
}

const _: () = assert!(size_of::<LinuxStat>() == 128);
const CHARACTER: u32 = 0o020_000;
const FIFO: u32 = 0o010_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

fn of_node(stat: &Stat) -> LinuxStat {
    LinuxStat {
        device: 1,
        inode: stat.node.inode(),
        mode: stat.mode,
        links: stat.links,
        special: if let Kind::Device(device) = stat.kind { 0x100 | u64::from(device.0) } else { 0 },
        size: stat.size,
        block_size: 4096,
        blocks: stat.size.div_ceil(512),
        accessed: [stat.modified, 0],
        modified: [stat.modified, 0],
        changed: [stat.modified, 0],
        ..LinuxStat::default()
    }
}

fn of_object(object: &Object) -> LinuxStat {
    let other = |mode, size| LinuxStat {
        device: 2,
        inode: 1,
        mode,
        links: 1,
        size,
        block_size: 4096,
        ..LinuxStat::default()
    };
    match object {
        Object::Node(node) => of_node(&with_files(|files| files.stat(*node))),
        Object::Console => LinuxStat { special: 0x105, block_size: 1024, ..other(CHARACTER | 0o620, 0) },
        Object::Null | Object::Zero | Object::Full | Object::Random => other(CHARACTER | 0o666, 0),
        Object::Special(_) | Object::Log(_) => other(CHARACTER | 0o600, 0),
        Object::Switch(_) | Object::Name(_) => other(REGULAR | 0o644, 4096),
        Object::Text(text) => other(REGULAR | 0o444, text.len() as u64),
        Object::Tasks(_) => other(DIRECTORY | 0o555, 0),
        Object::PipeIn(_) | Object::PipeOut(_) => other(FIFO | 0o600, 0),
    }
}

pub fn fstat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, to, ..] = frame.x;
    copy::write(to, &of_object(&open_file(thread, file)?.object))?;
    Ok(0)
}

/// What a directory's descriptor and a path mean, for the calls that take an empty path for the descriptor
/// itself.
fn stat_at(thread: &UserThread, directory: u64, path: u64, flags: u64) -> Result<LinuxStat> {
    let path = own(thread, copy::read_string(path)?)?;
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        if directory as i32 == AT_FDCWD {
            let here = thread.process().files.lock().directory;
            return Ok(of_node(&with_files(|files| files.stat(here))));
        }
        return Ok(of_object(&open_file(thread, directory)?.object));
    }
    if crate::user::proc::is_tasks(thread, &path) {
        return Ok(of_object(&Object::Tasks(thread.process().clone())));
    }
    if let Some(text) = crate::user::proc::text(thread, &path)? {
        return Ok(of_object(&Object::Text(text)));
    }
    let start = start(thread, directory, &path)?;
    with_files(|files| {
        let node = files.find(start, &path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
        Ok(of_node(&files.stat(node)))
    })
}

pub fn newfstatat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, to, flags, ..] = frame.x;
    copy::write(to, &stat_at(thread, directory, path, flags)?)?;
    Ok(0)
}

/// `struct statx`, up to the times; the rest is zero.
pub fn statx(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const BASIC: u32 = 0x7ff;
    let [directory, path, flags, _, to, ..] = frame.x;
    let stat = stat_at(thread, directory, path, flags)?;
    let mut words = [0_u64; 32];
    words[0] = u64::from(BASIC) | u64::from(stat.block_size) << 32;
    words[2] = u64::from(stat.links);
    words[3] = u64::from(stat.group) | u64::from(stat.mode) << 32;
    words[4] = stat.inode;
    words[5] = stat.size;
    words[6] = stat.blocks;
    for (slot, time) in [8, 12, 14].iter().zip([stat.accessed, stat.changed, stat.modified]) {
        words[*slot] = time[0];
    }
    words[16] = stat.special >> 8 | (stat.special & 0xff) << 32;
    words[17] = stat.device << 32;
    copy::write(to, &words)?;
    Ok(0)
}

pub fn readlinkat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, to, room, ..] = frame.x;
    if room as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = copy::read_string(path)?;
    let target = if path == b"/proc/self/exe" {
        own(thread, path)?
    } else {
        let start = start(thread, directory, &path)?;
        with_files(|files| {
            let node = files.find(start, &path, false)?;
            let link = files.read_link(node)?;
            let mut target = files::buffer(link.len())?;
            target.copy_from_slice(link);
            Ok::<_, Errno>(target)
        })?
    };
    let count = target.len().min(room as usize);
    copy::write_bytes(to, &target[..count])?;
    Ok(count as u64)
}

/// Without flags: what is in x3 is not an argument.
pub fn faccessat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, mode, ..] = frame.x;
    access(thread, directory, path, mode, 0)
}

pub fn faccessat2(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, mode, flags, ..] = frame.x;
    access(thread, directory, path, mode, flags)
}

fn access(thread: &UserThread, directory: u64, path: u64, mode: u64, flags: u64) -> Result<u64> {
    const X_OK: u64 = 1;
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let stat = stat_at(thread, directory, path, flags)?;
    // There is one user, who may do all but execute what nobody may.
    if mode & X_OK != 0 && stat.mode & 0o111 == 0 { Err(Errno::EACCES) } else { Ok(0) }
}

pub fn unlinkat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, flags, ..] = frame.x;
    let path = copy::read_string(path)?;
    let start = start(thread, directory, &path)?;
    with_files(|files| {
        if flags & AT_REMOVEDIR != 0 {
            files.remove_directory(start, &path)
        } else {
            files.unlink(start, &path)
        }
    })?;
    Ok(0)
}

pub fn mkdirat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [directory, path, mode, ..] = frame.x;
    let path = copy::read_string(path)?;
    let start = start(thread, directory, &path)?;
    files::check_space()?;
    let mode = mode as u32 & 0o1777 & !thread.process().umask.load(Ordering::Relaxed);
    with_files(|files| files.create_directory(start, &path, mode, crate::user::seconds()))?;
    Ok(0)
}

pub fn renameat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [from_directory, from, to_directory, to, ..] = frame.x;
    let (from, to) = (copy::read_string(from)?, copy::read_string(to)?);
    let (first, second) = (start(thread, from_directory, &from)?, start(thread, to_directory, &to)?);
    files::check_space()?;
    with_files(|files| files.rename((first, &from), (second, &to)))?;
    Ok(0)
}

pub fn symlinkat(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [target, directory, path, ..] = frame.x;
    let (target, path) = (copy::read_string(target)?, copy::read_string(path)?);
    let start = start(thread, directory, &path)?;
    files::check_space()?;
    with_files(|files| files.create_symlink(start, &path, &target, crate::user::seconds()))?;
    Ok(0)
}

pub fn ftruncate(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, size, ..] = frame.x;
    let open = open_file(thread, file)?;
    let Object::Node(node) = open.object else { return Err(Errno::EINVAL) };
    if open.flags.load(Ordering::Relaxed) & O_ACCMODE == 0 || (size as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    files::check_space()?;
    with_files(|files| files.truncate(node, size))?;
    Ok(0)
}

/// What is written is where it stays.
pub fn nothing_to_write(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    open_file(thread, frame.x[0]).map(|_| 0)
}

pub fn ioctl(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, request, argument, ..] = frame.x;
    let open = open_file(thread, file)?;
    let is_console = matches!(open.object, Object::Console);
    match request & 0xffff_ffff {
        TCGETS if is_console => {
            // `struct termios`: output with carriage returns, 8 bits, lines with echo; the usual characters
            // are left out.
            let mut termios = [0_u32; 9];
            termios[..4].copy_from_slice(&[0x500, 5, 0xbf, 0x8a3b]);
            copy::write(argument, &termios)?;
            Ok(0)
        }
        request if is_console && TCSETS.contains(&request) => Ok(0),
        TIOCGWINSZ if is_console => {
            copy::write(argument, &[24_u16, 80, 0, 0])?;
            Ok(0)
        }
        FIONBIO => {
            let on = copy::load_u32(argument)? != 0;
            set_flag(&open, O_NONBLOCK, on);
            Ok(0)
        }
        request => match &open.object {
            Object::Special(device) => device.ioctl(request as u32, argument),
            _ => Err(Errno::ENOTTY),
        },
    }
}

fn set_flag(open: &Open, flag: u32, on: bool) {
    if on {
        open.flags.fetch_or(flag, Ordering::Relaxed);
    } else {
        open.flags.fetch_and(!flag, Ordering::Relaxed);
    }
}

pub fn fcntl(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const FD_CLOEXEC: u64 = 1;
    let [file, command, argument, ..] = frame.x;
    let mut descriptors = thread.process().files.lock();
    match command {
        // F_DUPFD, F_DUPFD_CLOEXEC
        0 | 1030 => {
            let open = descriptors.get(file)?;
            if argument >= files::MOST_OPEN as u64 {
                return Err(Errno::EINVAL);
            }
            descriptors.add(open, command == 1030, argument as usize)
        }
        1 => Ok(u64::from(*descriptors.close_on_exec(file)?)),
        2 => {
            *descriptors.close_on_exec(file)? = argument & FD_CLOEXEC != 0;
            Ok(0)
        }
        3 => Ok(u64::from(descriptors.get(file)?.flags.load(Ordering::Relaxed))),
        4 => {
            let open = descriptors.get(file)?;
            for flag in [O_APPEND, O_NONBLOCK] {
                set_flag(&open, flag, argument as u32 & flag != 0);
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn dup(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let mut descriptors = thread.process().files.lock();
    let open = descriptors.get(frame.x[0])?;
    descriptors.add(open, false, 0)
}

pub fn dup3(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [old, new, flags, ..] = frame.x;
    if old as u32 == new as u32 || flags as u32 & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let number = new as u32 as usize;
    if number >= files::MOST_OPEN {
        return Err(Errno::EBADF);
    }
    let closed = {
        let mut descriptors = thread.process().files.lock();
        let open = descriptors.get(old)?;
        descriptors.put(number, open, flags as u32 & O_CLOEXEC != 0)?
    };
    drop(closed);
    Ok(number as u64)
}

pub fn pipe2(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [to, flags, ..] = frame.x;
    let flags = flags as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    files::check_memory()?;
    let pipe = files::new_pipe()?;
    let out = Open::new(Object::PipeOut(pipe.clone()), flags & O_NONBLOCK)?;
    let into = Open::new(Object::PipeIn(pipe), O_WRONLY | flags & O_NONBLOCK)?;
    let closes = flags & O_CLOEXEC != 0;
    let mut descriptors = thread.process().files.lock();
    let first = descriptors.add(out, closes, 0)?;
    let second = match descriptors.add(into, closes, 0) {
        Ok(second) => second,
        Err(error) => {
            let open = descriptors.remove(first);
            drop(descriptors);
            drop(open);
            return Err(error);
        }
    };
    drop(descriptors);
    copy::write(to, &[first as u32, second as u32])?;
    Ok(0)
}

pub fn getcwd(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [to, room, ..] = frame.x;
    let here = thread.process().files.lock().directory;
    let mut path = with_files(|files| files.path_of(here))?;
    path.try_push(0)?;
    if path.len() as u64 > room {
        return Err(Errno::ERANGE);
    }
    copy::write_bytes(to, &path)?;
    Ok(path.len() as u64)
}

pub fn chdir(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let path = copy::read_string(frame.x[0])?;
    let start = start(thread, AT_FDCWD as u64, &path)?;
    let node: NodeId = with_files(|files| {
        let node = files.find(start, &path, true)?;
        if files.kind(node) == Kind::Directory { Ok(node) } else { Err(Errno::ENOTDIR) }
    })?;
    thread.process().files.lock().directory = node;
    Ok(0)
}

pub fn umask(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let old = thread.process().umask.swap(frame.x[0] as u32 & 0o777, Ordering::Relaxed);
    Ok(u64::from(old))
}
