//! Memory.

use crate::{
    arch::UserFrame,
    user::{
        errno::{Errno, Result},
        files::{self, Object},
        space::{NO_ACCESS, range},
        thread::UserThread,
    },
};
use address_space::{PAGE, Purpose};
use alloc::vec::Vec;
use linux_program::{Access, UserAddr};

const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
/// `PROT_BTI` and `PROT_MTE` are for processors that this kernel does not tell programs of.
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
const MADV_DONTNEED: u64 = 4;

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
    let access = access(prot)?;
    let size = pages(size)?;
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    if !offset.is_multiple_of(PAGE) || fixed && !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if ![MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE].contains(&(flags & MAP_TYPE)) {
        return Err(Errno::EINVAL);
    }
    let contents = if flags & MAP_ANONYMOUS == 0 {
        // What is written to a file's mapping does not go to the file.
        if flags & MAP_TYPE != MAP_PRIVATE && access.write {
            return Err(Errno::ENODEV);
        }
        Some(contents(thread, file, offset, size)?)
    } else {
        None
    };
    let wish = (address != 0).then_some(UserAddr::new(address & !(PAGE - 1)));
    // Stacks of threads ask for it too (glibc), and are wanted whole.
    let lazy = flags & MAP_NORESERVE != 0 && flags & MAP_STACK == 0;
    thread.process().with_space(|space| {
        if let Some(start) = wish.filter(|_| flags & MAP_FIXED != 0 && flags & MAP_FIXED_NOREPLACE == 0) {
            let end = start.checked_add(size).ok_or(Errno::ENOMEM)?;
            space.unmap(range(start, end))?;
        }
        let place = space.map(size, wish, fixed, access, Purpose::Anonymous, lazy && contents.is_none())?;
        if let Some(contents) = &contents {
            space.write(place.start, contents)?;
            if access.execute {
                space.synchronise_code(place);
            }
        }
        Ok(place.start.get())
    })
}

/// A copy of a part of a file.
fn contents(thread: &UserThread, file: u64, offset: u64, size: u64) -> Result<Vec<u8>> {
    let open = thread.process().files.lock().get(file)?;
    let Object::Node(node) = open.object else { return Err(Errno::ENODEV) };
    files::with_files(|files| {
        let bytes = files.bytes(node).map_err(|_| Errno::ENODEV)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok(rest[..rest.len().min(size as usize)].to_vec())
    })
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
    thread.process().with_space(|space| space.protect(range(start, end), access))?;
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
    thread.process().with_space(|space| {
        let region = *space.regions().find(start).ok_or(Errno::EFAULT)?;
        if !region.range.covers(range(start, end)) || region.purpose == Purpose::Kernel {
            return Err(Errno::EFAULT);
        }
        if flags & MREMAP_FIXED != 0 {
            let to = UserAddr::new(target);
            let place = range(to, to.checked_add(new).ok_or(Errno::EINVAL)?);
            let apart = place.end <= start || end <= place.start;
            if flags & MREMAP_MAYMOVE == 0 || !apart || !target.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            space.unmap(place)?;
            let kept = UserAddr::new(start.get() + old.min(new));
            space.move_memory(range(start, kept), to)?;
            if new < old {
                space.unmap(range(kept, end))?;
            } else if new > old {
                let rest = UserAddr::new(to.get() + old);
                space.map(new - old, Some(rest), true, region.access, region.purpose, region.lazy)?;
            }
            return Ok(target);
        }
        if new <= old {
            if new < old {
                space.unmap(range(new_end, end))?;
            }
            return Ok(address);
        }
        if space.map(new - old, Some(end), true, region.access, region.purpose, region.lazy).is_ok() {
            return Ok(address);
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let place = space.regions().free_place(new, None).ok_or(Errno::ENOMEM)?;
        let rest = UserAddr::new(place.start.get() + old);
        space.map(new - old, Some(rest), true, region.access, region.purpose, region.lazy)?;
        if let Err(error) = space.move_memory(range(start, end), place.start) {
            space.unmap(range(rest, place.end))?;
            return Err(error);
        }
        Ok(place.start.get())
    })
}

pub fn madvise(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, size, advice, ..] = frame.x;
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if size == 0 {
        return Ok(0);
    }
    let start = UserAddr::new(address);
    let forgotten = range(start, start.checked_add(pages(size)?).ok_or(Errno::ENOMEM)?);
    match advice {
        // All other advice is about paging, of which there is none, or free to be ignored.
        0..=3 | 8 | 10..=21 => Ok(0),
        MADV_DONTNEED => thread.process().with_space(|space| space.forget(forgotten).map(|()| 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// `MEMBARRIER_CMD_QUERY` says which commands there are: none, and programs have their fallback.
pub fn membarrier(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    if frame.x[0] == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// All memory stays where it is anyway.
pub fn pinned(_: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(0)
}
