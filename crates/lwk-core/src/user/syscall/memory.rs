//! Memory.

use crate::{
    arch::UserFrame,
    user::{
        errno::{Errno, Result},
        files::{self, Object, Open},
        space::{self, NO_ACCESS, Space, range},
        thread::UserThread,
    },
};
use address_space::{PAGE, Purpose};
use alloc::vec::Vec;
use fallible::Arc;
use linux_program::{Access, UserAddr, UserRange};

const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
/// `PROT_BTI` and `PROT_MTE` are for processors that this kernel does not report to programs.
const PROT_KNOWN: u64 = PROT_READ | PROT_WRITE | PROT_EXEC | 0x10;
const MAP_TYPE: u64 = 0xf;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_STACK: u64 = 0x2_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;

fn access(prot: u64) -> Result<Access> {
    if prot & !PROT_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let has = |bit| prot & bit != 0;
    let access = Access { read: has(PROT_READ), write: has(PROT_WRITE), execute: has(PROT_EXEC) };
    Ok(Access { read: access.read || access.write || access.execute, ..access })
}

/// Whole pages for a number of bytes.
fn pages(size: u64) -> Result<u64> {
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    size.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)
}

pub fn brk(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let end = UserAddr::new(frame.x[0]);
    thread.process().with_space(|space| Ok(space.set_break(end).get()))
}

pub fn mmap(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, size, prot, flags, file, offset, ..] = frame.x;
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let anonymous = flags & MAP_ANONYMOUS != 0;
    let open = if anonymous { None } else { Some(thread.process().files.lock().get(file)?) };
    let access = access(prot)?;
    let size = pages(size)?;
    match flags & MAP_TYPE {
        MAP_SHARED | MAP_PRIVATE => {}
        MAP_SHARED_VALIDATE if !anonymous => {}
        _ => return Err(Errno::EINVAL),
    }
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    if fixed {
        check_fixed(address, size)?;
    }
    let open = open.map(|open| check_file(open, flags, access)).transpose()?.flatten();
    // Not closed while the space is locked, whatever fails.
    let _kept_open = open.clone();
    let wish = (fixed || address != 0).then_some(UserAddr::new(address & !(PAGE - 1)));
    // A thread's stack takes what is touched, a block at a time: it is often far larger than what is used.
    let lazy = flags & (MAP_NORESERVE | MAP_STACK) != 0;
    let (place, parts) = thread.process().with_space(|space| {
        if let Some(start) = wish.filter(|_| flags & MAP_FIXED != 0 && flags & MAP_FIXED_NOREPLACE == 0) {
            let end = start.checked_add(size).ok_or(Errno::ENOMEM)?;
            space.unmap(range(start, end))?;
        }
        let Some(open) = open else {
            let place = space.map(size, wish, fixed, access, Purpose::Anonymous, lazy)?;
            return Ok((place, Vec::new()));
        };
        let purpose = space.add_file(open)?;
        let mapped = space.map(size, wish, fixed, access, purpose, false).and_then(|place| {
            space.place_file(purpose, place.start, offset);
            Ok((place, space.file_parts(place)?))
        });
        if mapped.is_err() {
            space.release_file(purpose);
        }
        mapped
    })?;
    for part in &parts {
        part.load(thread)?;
    }
    if access.execute && !parts.is_empty() {
        thread.process().with_space(|space| {
            space.synchronise_code(place);
            Ok(())
        })?;
    }
    Ok(place.start.get())
}

/// Returns whether a mapping can be at exactly this place.
fn check_fixed(address: u64, size: u64) -> Result<()> {
    let end = address.checked_add(size).ok_or(Errno::ENOMEM)?;
    if end > space::END.get() {
        return Err(Errno::ENOMEM);
    }
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    // Linux' `vm.mmap_min_addr`.
    if address < space::LOWEST.get() { Err(Errno::EPERM) } else { Ok(()) }
}

/// Returns whether a file can be mapped so; `None` for `/dev/zero`, whose private mapping is anonymous
/// memory.
fn check_file(open: Arc<Open>, flags: u64, access: Access) -> Result<Option<Arc<Open>>> {
    open.may(false).map_err(|_| Errno::EACCES)?;
    let shared = flags & MAP_TYPE != MAP_PRIVATE;
    if shared && access.write {
        open.may(true).map_err(|_| Errno::EACCES)?;
    }
    match open.object {
        Object::Zero if !shared => Ok(None),
        // A mapping is a copy: what is written to the file, or to a shared mapping of it, would not be seen
        // by the other.
        Object::Node(node) if !shared && files::is_file(node) => Ok(Some(open)),
        _ => Err(Errno::ENODEV),
    }
}

pub fn munmap(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, size, ..] = frame.x;
    let start = UserAddr::new(address);
    let end = start.checked_add(pages(size).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    thread.process().with_space(|space| space.unmap(range(start, end)))?;
    Ok(0)
}

pub fn mprotect(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, size, prot, ..] = frame.x;
    let access = if prot == 0 { NO_ACCESS } else { access(prot)? };
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if size == 0 {
        return Ok(0);
    }
    let start = UserAddr::new(address);
    let end = start.checked_add(pages(size)?).ok_or(Errno::ENOMEM)?;
    let changed = range(start, end);
    thread.process().with_space(|space| {
        // What is outside of the address space is not mapped either.
        if !space.is_mapped(changed) {
            return Err(Errno::ENOMEM);
        }
        space.protect(changed, access)
    })?;
    Ok(0)
}

pub fn mremap(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, old, new, flags, target, ..] = frame.x;
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED) != 0 || !address.is_multiple_of(PAGE) || old == 0 {
        return Err(Errno::EINVAL);
    }
    let (old, new) = (pages(old)?, pages(new)?);
    let start = UserAddr::new(address);
    let end = start.checked_add(old).ok_or(Errno::EINVAL)?;
    let new_end = start.checked_add(new).ok_or(Errno::EINVAL)?;
    let (place, grown) = thread.process().with_space(|space| {
        let region = *space.regions().find(start).ok_or(Errno::EFAULT)?;
        if !region.range.covers(range(start, end)) || region.purpose == Purpose::Kernel {
            return Err(Errno::EFAULT);
        }
        let grow = |space: &mut Space, rest: UserAddr, purpose| {
            space.map(new - old, Some(rest), true, region.access, purpose, region.lazy)
        };
        if flags & MREMAP_FIXED != 0 {
            check_fixed(target, new)?;
            let to = UserAddr::new(target);
            let place = range(to, to.checked_add(new).ok_or(Errno::EINVAL)?);
            let apart = place.end <= start || end <= place.start;
            if flags & MREMAP_MAYMOVE == 0 || !apart {
                return Err(Errno::EINVAL);
            }
            space.unmap(place)?;
            let kept = UserAddr::new(start.get() + old.min(new));
            let purpose = space.moved_purpose(region.purpose, target.wrapping_sub(address))?;
            space
                .move_memory(range(start, kept), to, purpose)
                .inspect_err(|_| space.release_file(purpose))?;
            if new < old {
                space.unmap(range(kept, end))?;
            } else if new > old {
                grow(space, UserAddr::new(to.get() + old), purpose)?;
            }
            return Ok((target, new > old));
        }
        if new <= old {
            if new < old {
                space.unmap(range(new_end, end))?;
            }
            return Ok((address, false));
        }
        if grow(space, end, region.purpose).is_ok() {
            return Ok((address, true));
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let place = space.regions().free_place(new, None).ok_or(Errno::ENOMEM)?;
        let rest = UserAddr::new(place.start.get() + old);
        let purpose = space.moved_purpose(region.purpose, place.start.get().wrapping_sub(address))?;
        grow(space, rest, purpose).inspect_err(|_| space.release_file(purpose))?;
        if let Err(error) = space.move_memory(range(start, end), place.start, purpose) {
            space.unmap(range(rest, place.end))?;
            return Err(error);
        }
        Ok((place.start.get(), true))
    })?;
    if grown {
        // What a file has there.
        let more = range(UserAddr::new(place + old), UserAddr::new(place + new));
        let parts = thread.process().with_space(|space| space.file_parts(more))?;
        parts.iter().try_for_each(|part| part.load(thread))?;
    }
    Ok(place)
}

/// Advice that has nothing to do here: about paging, of which there is none, about `fork`, dumps and huge
/// pages.
const fn has_no_effect(advice: u64) -> bool {
    matches!(advice, 0..=3 | 8 | 10..=21)
}

pub fn madvise(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const MADV_DONTNEED: u64 = 4;
    const MADV_POPULATE_READ: u64 = 22;
    const MADV_POPULATE_WRITE: u64 = 23;
    let [address, size, advice, ..] = frame.x;
    let known =
        has_no_effect(advice) || [MADV_DONTNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE].contains(&advice);
    if !known || !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if size == 0 {
        return Ok(0);
    }
    let start = UserAddr::new(address);
    let end = start.checked_add(pages(size).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    let advised = range(start, end);
    let (mapped, parts) = thread.process().with_space(|space| {
        let mapped = space.is_mapped(advised);
        let parts = match advice {
            MADV_DONTNEED => space.discard(advised)?,
            MADV_POPULATE_READ | MADV_POPULATE_WRITE => {
                space.populate(advised)?;
                Vec::new()
            }
            _ => Vec::new(),
        };
        Ok((mapped, parts))
    })?;
    parts.iter().try_for_each(|part| part.load(thread))?;
    // What is mapped in the range has been done.
    if mapped { Ok(0) } else { Err(Errno::ENOMEM) }
}

/// `MEMBARRIER_CMD_QUERY` says which commands there are: none, and programs have their fallback.
pub fn membarrier(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    if frame.x[0] == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `mlock` and `mlock2`: memory stays where it is anyway, once it is there.
pub fn mlock(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    with_mapped(thread, frame, Space::populate)
}

pub fn mlock2(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const MLOCK_ONFAULT: u64 = 1;
    match frame.x[2] {
        0 => mlock(thread, frame),
        MLOCK_ONFAULT => munlock(thread, frame),
        _ => Err(Errno::EINVAL),
    }
}

pub fn munlock(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    with_mapped(thread, frame, |_, _| Ok(()))
}

/// Mappings of files are private: there is nothing to write back.
pub fn msync(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const MS_ASYNC: u64 = 1;
    const MS_SYNC: u64 = 4;
    let flags = frame.x[2];
    if flags & !7 != 0
        || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC
        || !frame.x[0].is_multiple_of(PAGE)
    {
        return Err(Errno::EINVAL);
    }
    munlock(thread, frame)
}

/// Works with a range of whole pages all of which is mapped, if it is.
fn with_mapped(
    thread: &UserThread,
    frame: &UserFrame,
    f: impl FnOnce(&mut Space, UserRange) -> Result<()>,
) -> Result<u64> {
    let [address, size, ..] = frame.x;
    if size == 0 {
        return Ok(0);
    }
    let start = UserAddr::new(address & !(PAGE - 1));
    let end = address.checked_add(size).and_then(|end| end.checked_next_multiple_of(PAGE));
    let within = range(start, UserAddr::new(end.ok_or(Errno::EINVAL)?));
    thread.process().with_space(|space| {
        if !space.is_mapped(within) {
            return Err(Errno::ENOMEM);
        }
        f(space, within)
    })?;
    Ok(0)
}

/// `mlockall` and `munlockall`: all memory stays where it is anyway.
pub fn pinned(_: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(0)
}
