//! Physical memory for run-times that manage memory themselves: query, allocate, map, free.

use super::Call;
use crate::{
    arch::UserFrame,
    memory::{self, Phys},
    sync::IrqMutex,
    user::{
        copy,
        errno::{Errno, Result},
        thread::UserThread,
    },
};
use address_space::PAGE;
use alloc::{collections::BTreeMap, vec::Vec};

/// Blocks that processes have, by their physical address: size, and whose.
static BLOCKS: IrqMutex<BTreeMap<u64, (u64, u32)>> = IrqMutex::new(BTreeMap::new());

/// Margay's own calls, from number 0x4d00.
pub fn find(number: usize) -> Option<Call> {
    Some(match number {
        0 => query,
        1 => allocate,
        2 => map,
        3 => free,
        4 => super::policies::set_policy,
        _ => return None,
    })
}

/// `query(u64 out[2])`: bytes of memory of the machine, and how many are free.
fn query(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    copy::write(frame.x[0], &[crate::user::memory_bytes(), memory::free_bytes()])?;
    Ok(0)
}

/// `allocate(size) -> physical address`: contiguous, zeroed, aligned as large pages want it.
fn allocate(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let size = frame.x[0].max(1).checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
    let phys = memory::take_for_program(size).ok_or(Errno::ENOMEM)?;
    // SAFETY: whole pages, just taken from free memory.
    unsafe { crate::arch::zero_pages(phys.linear(), size as usize) };
    BLOCKS.lock().insert(phys.0, (size, thread.process().id()));
    Ok(phys.0)
}

fn block(thread: &UserThread, phys: u64) -> Result<u64> {
    match BLOCKS.lock().get(&phys) {
        Some((size, owner)) if *owner == thread.process().id() => Ok(*size),
        _ => Err(Errno::EINVAL),
    }
}

/// `map(physical address) -> address`: the whole block, readable and writable.
fn map(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let size = block(thread, frame.x[0])?;
    let phys = Phys(frame.x[0]);
    thread.process().with_space(|space| Ok(space.map_physical(phys, size)?.start.get()))
}

/// `free(physical address)`: a block that is not mapped (`munmap`) any more.
fn free(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let phys = frame.x[0];
    let size = block(thread, phys)?;
    thread.process().with_space(|space| {
        if space.maps_physical(phys..phys + size) {
            return Err(Errno::EBUSY);
        }
        BLOCKS.lock().remove(&phys).ok_or(Errno::EINVAL)?;
        memory::give(phys..phys + size);
        Ok(0)
    })
}

/// Gives back what a process that is over still had. Its address space is gone.
pub fn release(process: u32) {
    let gone: Vec<(u64, u64)> = {
        let mut blocks = BLOCKS.lock();
        let gone = blocks.iter().filter(|(_, (_, owner))| *owner == process);
        let gone: Vec<_> = gone.map(|(phys, (size, _))| (*phys, *size)).collect();
        for (phys, _) in &gone {
            blocks.remove(phys);
        }
        gone
    };
    for (phys, size) in gone {
        memory::give(phys..phys + size);
    }
}
