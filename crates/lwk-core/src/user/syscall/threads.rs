//! Threads.

use crate::{
    arch::UserFrame,
    percore, task,
    user::{
        copy,
        errno::{Errno, Result},
        futex::ANY,
        process::End,
        processes,
        rseq::Area,
        thread::{self, CoreSet, Start, UserThread},
    },
};
use core::sync::atomic::Ordering;
use fallible::Arc;

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// What a new thread shares.
const THREAD: u64 = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX_REQUEUE: u64 = 3;
const FUTEX_CMP_REQUEUE: u64 = 4;
const FUTEX_WAKE_OP: u64 = 5;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAKE_BITSET: u64 = 10;
const FUTEX_PRIVATE_FLAG: u64 = 128;
const FUTEX_CLOCK_REALTIME: u64 = 256;

/// What `clone` and `clone3` are asked for.
struct Request {
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

/// A thread; or a process that has its parent's memory until it has a program of its own (`vfork`,
/// `posix_spawn`). A copy of the whole address space (`fork`) there is not.
fn clone_any(thread: &UserThread, frame: &UserFrame, request: &Request) -> Result<u64> {
    let has = |flag| request.flags & flag != 0;
    let is_thread = request.flags & THREAD == THREAD;
    if !is_thread {
        let shared = CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_PARENT;
        if request.flags & (CLONE_VM | CLONE_VFORK) != CLONE_VM | CLONE_VFORK || has(shared) {
            return Err(Errno::ENOSYS);
        }
    }
    let id = if is_thread { thread::next_id() } else { 0 };
    let mut child = *frame;
    child.x[0] = 0;
    if request.stack != 0 {
        child.sp = request.stack;
    }
    let mut state = thread.registers();
    if has(CLONE_SETTLS) {
        state.thread_pointer = request.tls;
    }
    if is_thread && has(CLONE_PARENT_SETTID) {
        copy::write(request.parent_tid, &id)?;
    }
    if is_thread && has(CLONE_CHILD_SETTID) {
        copy::write(request.child_tid, &id)?;
    }
    let start = Start {
        frame: child,
        state,
        mask: thread.signals.lock().mask,
        name: thread.name(),
        cores: thread.cores(),
        clear_at_end: if has(CLONE_CHILD_CLEARTID) { request.child_tid } else { 0 },
    };
    if !is_thread {
        let child = thread.process().lend(thread, start, has(CLONE_CLEAR_SIGHAND))?;
        if has(CLONE_PARENT_SETTID) {
            copy::write(request.parent_tid, &child.id())?;
        }
        return Ok(u64::from(child.id()));
    }
    UserThread::start(thread.process(), id, start).map(|_| u64::from(id))
}

pub fn clone(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [flags, stack, parent_tid, tls, child_tid, ..] = frame.x;
    clone_any(thread, frame, &Request { flags: flags & !0xff, stack, parent_tid, child_tid, tls })
}

pub fn clone3(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    /// `CLONE_ARGS_SIZE_VER0`.
    const LEAST: u64 = 64;
    let [arguments, size, ..] = frame.x;
    if size < LEAST {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, _, child_tid, parent_tid, _, stack, stack_size, tls] = copy::read::<[u64; 8]>(arguments)?;
    let stack = stack.checked_add(stack_size).ok_or(Errno::EINVAL)?;
    clone_any(thread, frame, &Request { flags, stack, parent_tid, child_tid, tls })
}

pub fn futex(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [address, operation, value, timeout, other, bits, ..] = frame.x;
    let futexes = &thread.process().futexes;
    let is_real = operation & FUTEX_CLOCK_REALTIME != 0;
    let (value, bits) = (value as u32, bits as u32);
    // Of the calls that take no time, the fourth argument is a number.
    let most = timeout as u32;
    match operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME) {
        FUTEX_WAIT => {
            let deadline = if timeout == 0 { None } else { Some(super::time::deadline_after(timeout)?) };
            wait(thread, address, value, ANY, deadline)
        }
        FUTEX_WAIT_BITSET => {
            let deadline = if timeout == 0 {
                None
            } else {
                Some(super::time::deadline_at(is_real, super::time::timespec(timeout)?))
            };
            wait(thread, address, value, bits, deadline)
        }
        FUTEX_WAKE => Ok(futexes.wake(address, value, ANY)),
        FUTEX_WAKE_BITSET if bits == 0 => Err(Errno::EINVAL),
        FUTEX_WAKE_BITSET => Ok(futexes.wake(address, value, bits)),
        FUTEX_REQUEUE => Ok(futexes.requeue(address, other, value, most)),
        FUTEX_CMP_REQUEUE => {
            if copy::load_u32(address)? != bits {
                return Err(Errno::EAGAIN);
            }
            Ok(futexes.requeue(address, other, value, most))
        }
        FUTEX_WAKE_OP => wake_op(thread, address, other, value, most, bits),
        _ => Err(Errno::ENOSYS),
    }
}

fn wait(thread: &UserThread, address: u64, value: u32, bits: u32, deadline: Option<u64>) -> Result<u64> {
    let outcome = thread.process().futexes.wait(thread, address, value, bits, deadline);
    match outcome {
        Ok(()) => Ok(0),
        // With a time relative to now, a call cannot be made again as it was.
        Err(Errno::RESTART) if deadline.is_some() => Err(thread.ended_wait()),
        Err(error) => Err(error),
    }
}

/// Changes a second word at once, wakes at the first, and at the second too if its old value compares.
fn wake_op(
    thread: &UserThread,
    first: u64,
    second: u64,
    wake: u32,
    wake_second: u32,
    code: u32,
) -> Result<u64> {
    let signed = |field: u32| ((field << 20) as i32 >> 20) as u32;
    let (operand, compared) = (signed(code >> 12 & 0xfff), signed(code & 0xfff));
    let operand = if code >> 31 != 0 { 1_u32.wrapping_shl(operand) } else { operand };
    let change: fn(u32, u32) -> u32 = match code >> 28 & 7 {
        0 => |_, operand| operand,
        1 => u32::wrapping_add,
        2 => |old, operand| old | operand,
        3 => |old, operand| old & !operand,
        4 => |old, operand| old ^ operand,
        _ => return Err(Errno::ENOSYS),
    };
    let old = thread.process().with_space(|space| space.change_word(second, |old| change(old, operand)))?;
    let signed_old = old as i32;
    let compared = compared as i32;
    let holds = match code >> 24 & 0xf {
        0 => signed_old == compared,
        1 => signed_old != compared,
        2 => signed_old < compared,
        3 => signed_old <= compared,
        4 => signed_old > compared,
        5 => signed_old >= compared,
        _ => return Err(Errno::ENOSYS),
    };
    let futexes = &thread.process().futexes;
    let mut count = futexes.wake(first, wake, ANY);
    if holds {
        count += futexes.wake(second, wake_second, ANY);
    }
    Ok(count)
}

pub fn set_tid_address(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    thread.clear_at_end.store(frame.x[0], Ordering::Relaxed);
    Ok(u64::from(thread.id()))
}

pub fn set_robust_list(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    if frame.x[1] != 24 {
        return Err(Errno::EINVAL);
    }
    thread.robust.store(frame.x[0], Ordering::Relaxed);
    Ok(0)
}

pub fn get_robust_list(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, head, size, ..] = frame.x;
    let robust = find(thread, id)?.robust.load(Ordering::Relaxed);
    copy::write(head, &robust)?;
    copy::write(size, &24_u64)?;
    Ok(0)
}

pub fn rseq(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    const UNREGISTER: u32 = 1;
    let [address, length, flags, signature, ..] = frame.x;
    let area = Area { address, length: length as u32, signature: signature as u32 };
    match flags as u32 {
        0 => thread.register(area)?,
        UNREGISTER => thread.unregister(area)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub fn gettid(thread: &UserThread, _: &mut UserFrame) -> Result<u64> {
    Ok(u64::from(thread.id()))
}

pub fn exit(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    if thread.process().thread_count() == 1 {
        thread.process().end(End::Exited(frame.x[0] as u8));
    }
    thread.exit(frame)
}

pub fn exit_group(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    thread.process().end(End::Exited(frame.x[0] as u8));
    thread.exit(frame)
}

pub fn sched_yield(_: &UserThread, _: &mut UserFrame) -> Result<u64> {
    task::yield_now();
    Ok(0)
}

/// A thread of any process, by number; 0 is the caller.
pub(super) fn find(thread: &UserThread, id: u64) -> Result<Arc<UserThread>> {
    if id == 0 || id == u64::from(thread.id()) {
        return Ok(thread.shared());
    }
    let own = thread.process().thread(id as u32);
    own.or_else(|| processes::thread(id as u32)).ok_or(Errno::ESRCH)
}

pub fn sched_setaffinity(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, size, from, ..] = frame.x;
    let target = find(thread, id)?;
    let mut set: CoreSet = [0; 2];
    let count = (size as usize).min(16);
    let mut bytes = [0; 16];
    copy::read_bytes(from, &mut bytes[..count])?;
    for (word, eight) in set.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*eight);
    }
    if target.set_cores(set) { Ok(0) } else { Err(Errno::EINVAL) }
}

pub fn sched_getaffinity(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, size, to, ..] = frame.x;
    let cores = percore::all().len();
    if size * 8 < cores as u64 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mut set = find(thread, id)?.cores();
    let all = thread::all_cores();
    for (word, all) in set.iter_mut().zip(all) {
        *word &= all;
    }
    let bytes = if size >= 16 && cores > 64 { 16 } else { 8 };
    copy::write_bytes(to, zerocopy::IntoBytes::as_bytes(&set).get(..bytes).unwrap_or_default())?;
    Ok(bytes as u64)
}

pub fn getcpu(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    copy::write_if(frame.x[0], &u32::from(thread.core().0))?;
    copy::write_if(frame.x[1], &0_u32)?;
    Ok(0)
}
