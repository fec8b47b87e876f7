//! Signals.

use super::threads::find;
use crate::{
    arch::UserFrame,
    user::{
        copy,
        errno::{Errno, Result},
        process::Process,
        processes,
        signal::{self, Action, AltStack, Info, SI_TKILL, SI_USER, SigInfo, UNBLOCKABLE},
        thread::UserThread,
    },
};

/// Bytes of a `sigset_t` of the kernel's interface.
const SET: u64 = 8;

pub(super) fn check_set(size: u64) -> Result<()> {
    if size == SET { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn rt_sigaction(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [number, new, old, size, ..] = frame.x;
    check_set(size)?;
    let action = if new == 0 { None } else { Some(copy::read::<Action>(new)?) };
    let before = thread.process().signals.lock().action(number as u32, action)?;
    copy::write_if(old, &before)?;
    Ok(0)
}

pub fn rt_sigprocmask(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [how, new, old, size, ..] = frame.x;
    check_set(size)?;
    let before = thread.signals.lock().mask;
    if new != 0 {
        let set = copy::read::<u64>(new)?;
        thread.set_mask(match how {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    copy::write_if(old, &before)?;
    Ok(0)
}

pub fn rt_sigreturn(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    if signal::leave_handler(thread, frame).is_err() {
        thread.fault(Info { number: signal::SIGSEGV, code: 1, value: frame.sp, more: 0, syndrome: 0 });
    }
    Ok(frame.x[0])
}

pub fn rt_sigpending(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    check_set(frame.x[1])?;
    let pending = thread.pending_signals() & thread.signals.lock().mask;
    copy::write(frame.x[0], &pending)?;
    Ok(0)
}

pub fn rt_sigsuspend(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    check_set(frame.x[1])?;
    let mask = copy::read::<u64>(frame.x[0])?;
    thread.with_mask(Some(mask), || {
        while !thread.is_interrupted() {
            crate::user::thread::park(None);
        }
        Err(thread.ended_wait())
    })
}

pub fn rt_sigtimedwait(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [set, info, timeout, size, ..] = frame.x;
    check_set(size)?;
    let set = copy::read::<u64>(set)? & !UNBLOCKABLE;
    let deadline = if timeout == 0 { None } else { Some(super::time::deadline_after(timeout)?) };
    // Known to senders before the queues are looked at, so that no signal is missed in between.
    thread.signals.lock().awaited = set;
    let taken = loop {
        if let Some(taken) = thread.take_signal(set) {
            break Ok(taken);
        }
        if thread.is_interrupted() {
            break Err(thread.ended_wait());
        }
        if !crate::user::thread::park(deadline) {
            break Err(Errno::EAGAIN);
        }
    };
    thread.signals.lock().awaited = 0;
    let taken = taken?;
    copy::write_if(info, &SigInfo::from(&taken)).map(|()| u64::from(taken.number))
}

pub fn sigaltstack(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [new, old, ..] = frame.x;
    let new = if new == 0 { None } else { Some(copy::read::<AltStack>(new)?) };
    let before = thread.signals.lock().alternative(frame.sp, new)?;
    copy::write_if(old, &before)?;
    Ok(0)
}

/// To one process, or, with -1, to all but the caller. There are no groups: 0 is the caller's.
pub fn kill(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [target, number, ..] = frame.x;
    let own = thread.process();
    let send = |process: &Process| signal::send(own.id(), process, None, number as u32, SI_USER);
    match target as i32 {
        0 => send(own)?,
        -1 => {
            let mut sent = Err(Errno::ESRCH);
            processes::each(|process| {
                if process.id() != own.id() && !process.is_over() {
                    sent = send(process);
                }
            });
            sent?;
        }
        // A number below is that of a group, and each process is the only one of its own.
        id => send(&*processes::get(id.unsigned_abs()).ok_or(Errno::ESRCH)?)?,
    }
    Ok(0)
}

pub fn tkill(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, number, ..] = frame.x;
    if id as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(thread, id, number)
}

fn send_to_thread(thread: &UserThread, id: u64, number: u64) -> Result<u64> {
    let target = find(thread, id)?;
    signal::send(thread.process().id(), target.process(), Some(&*target), number as u32, SI_TKILL)?;
    Ok(0)
}

pub fn tgkill(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [process, id, number, ..] = frame.x;
    if process as i32 <= 0 || id as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    if find(thread, id)?.process().id() != process as u32 {
        return Err(Errno::ESRCH);
    }
    send_to_thread(thread, id, number)
}

/// What a sender has to say with a signal. Only to itself a process may speak as the kernel does, or as
/// `kill` and `tgkill`.
fn info(own: bool, number: u64, from: u64) -> Result<Info> {
    let SigInfo { code, value, more, .. } = copy::read(from)?;
    if !own && (code >= 0 || code == SI_TKILL) {
        return Err(Errno::EPERM);
    }
    if number > u64::from(signal::MOST) {
        return Err(Errno::EINVAL);
    }
    Ok(Info { number: number as u32, code, value, more, syndrome: 0 })
}

fn queued(process: &Process, target: Option<&UserThread>, info: Info) -> Result<u64> {
    if info.number == 0 || signal::queue(process, target, info) { Ok(0) } else { Err(Errno::EAGAIN) }
}

pub fn rt_sigqueueinfo(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, number, from, ..] = frame.x;
    let info = info(id as u32 == thread.process().id(), number & 0xffff_ffff, from)?;
    queued(&*processes::get(id as u32).ok_or(Errno::ESRCH)?, None, info)
}

pub fn rt_tgsigqueueinfo(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [process, id, number, from, ..] = frame.x;
    if process as i32 <= 0 || id as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = info(id as u32 == thread.id(), number & 0xffff_ffff, from)?;
    let target = find(thread, id)?;
    if target.process().id() != process as u32 {
        return Err(Errno::ESRCH);
    }
    queued(target.process(), Some(&*target), info)
}
