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
use alloc::vec::Vec;
use fallible::TryVec as _;

/// A block that a process has.
#[derive(Clone, Copy, Debug)]
struct Taken {
    phys: u64,
    size: u64,
    owner: u32,
}

static BLOCKS: IrqMutex<Vec<Taken>> = IrqMutex::new(Vec::new());

/// Margay's own calls, from number 0x4d00.
pub fn find(number: usize) -> Option<Call> {
    Some(match number {
        0 => query,
        1 => allocate,
        2 => map,
        3 => free,
        4 => super::policies::set_policy,
        5 => fail_allocation,
        _ => return None,
    })
}

/// `query(u64 out[2])`: bytes of memory of the machine, and how many are free. `fail_allocation(n, all)`: a
/// test's. The kernel's `n`-th allocation from now on fails, with `all` those behind it too. Returns how many
/// there were to go until the one that was asked for before.
fn fail_allocation(_: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [n, all, ..] = frame.x;
    if crate::user::may_fail_allocations() { Ok(memory::fail(n, all != 0)) } else { Err(Errno::ENOSYS) }
}

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
    let taken = Taken { phys: phys.0, size, owner: thread.process().id() };
    let kept = BLOCKS.lock().try_push(taken);
    kept.inspect_err(|_| memory::give(phys.0..phys.0 + size))?;
    Ok(phys.0)
}

fn block(thread: &UserThread, phys: u64) -> Result<u64> {
    let owner = thread.process().id();
    let blocks = BLOCKS.lock();
    let block = blocks.iter().find(|block| block.phys == phys && block.owner == owner);
    block.map(|block| block.size).ok_or(Errno::EINVAL)
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
        let mut blocks = BLOCKS.lock();
        let at = blocks.iter().position(|block| block.phys == phys).ok_or(Errno::EINVAL)?;
        blocks.swap_remove(at);
        drop(blocks);
        memory::give(phys..phys + size);
        Ok(0)
    })
}

/// Gives back what a process that is over still had. Its address space is gone.
pub fn release(process: u32) {
    let take = || {
        let mut blocks = BLOCKS.lock();
        let at = blocks.iter().position(|block| block.owner == process)?;
        Some(blocks.swap_remove(at))
    };
    while let Some(Taken { phys, size, .. }) = take() {
        memory::give(phys..phys + size);
    }
}
