//! Processes: programs that replace others, and waiting for children.

use super::files;
use crate::{
    arch::UserFrame,
    time,
    user::{
        copy,
        errno::{Errno, Result},
        files::with_files,
        image::{Command, Loaded, STRINGS},
        process::End,
        processes::{self, Ended},
        thread::UserThread,
    },
};
use alloc::vec::Vec;
use fallible::TryVec as _;
use memfs::Start;

const WNOHANG: u64 = 1;
const WEXITED: u64 = 4;
const WNOWAIT: u64 = 0x0100_0000;
/// Children that stop or continue: none ever does. Whose threads wait, and what clones are: no difference
/// here.
const NO_EFFECT: u64 = 2 | 8 | 0x2000_0000 | 0x4000_0000 | 0x8000_0000;
const P_ALL: u64 = 0;
const P_PID: u64 = 1;

/// A list of strings that ends with a null pointer; `room` is what it may take still.
fn strings(from: u64, room: &mut u64) -> Result<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    if from == 0 {
        return Ok(list);
    }
    for at in (from..).step_by(8) {
        let string = copy::read::<u64>(at)?;
        if string == 0 {
            return Ok(list);
        }
        let string = copy::read_string(string).map_err(|error| match error {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        // Its bytes, the NUL, and the pointer to it.
        *room = room.checked_sub(string.len() as u64 + 9).ok_or(Errno::E2BIG)?;
        list.try_push(string)?;
    }
    Err(Errno::EFAULT)
}

/// Runs another program in place of this one, with the caller as its only thread.
pub fn execve(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [path, arguments, environment, ..] = frame.x;
    let mut path = files::own(thread, copy::read_string(path)?)?;
    let mut room = STRINGS;
    let arguments = strings(arguments, &mut room)?;
    let environment = strings(environment, &mut room)?;
    if !path.starts_with(b"/") {
        let here = thread.process().files.lock().directory;
        let mut whole = with_files(|files| files.path_of(here))?;
        whole.try_push(b'/')?;
        whole.try_extend(&path)?;
        path = whole;
    }
    let loaded = Loaded::new(Start::Root, &Command { path, arguments, environment })?;
    let process = thread.process();
    if !process.keep_only(thread) {
        return Err(Errno::EINTR);
    }
    let Loaded { image, space, entry, sp } = loaded;
    let old = process.replace(image, space);
    thread.begin_again(frame, entry.get(), sp.get());
    // Nothing uses it here any more.
    drop(old);
    process.release_lender();
    Ok(0)
}

fn which(id: i32) -> Option<u32> {
    // There are no groups: a child is the only one of its own, and none is in the caller's but by chance of
    // its number.
    match id {
        -1 | 0 => None,
        id => Some(id.unsigned_abs()),
    }
}

pub fn wait4(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [id, status, options, usage, ..] = frame.x;
    if options & !(WNOHANG | NO_EFFECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let ended = processes::wait(thread, which(id as i32), options & WNOHANG != 0, false)?;
    let Some(Ended { id, end, used }) = ended else { return Ok(0) };
    let word = match end {
        End::Exited(status) => u32::from(status) << 8,
        End::Killed(signal) => signal,
    };
    copy::write_if(status, &word)?;
    copy::write_if(usage, &super::time::rusage(time::frequency().ticks_to_ns(used), 0))?;
    Ok(u64::from(id))
}

pub fn waitid(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [kind, id, info, options, usage, ..] = frame.x;
    if options & !(WNOHANG | WEXITED | WNOWAIT | NO_EFFECT) != 0 || options & WEXITED == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match kind {
        P_ALL => None,
        P_PID => Some(id as u32),
        _ => return Err(Errno::EINVAL),
    };
    let ended = processes::wait(thread, which, options & WNOHANG != 0, options & WNOWAIT != 0)?;
    // `siginfo_t`: signal, errno, code, padding; number, user, status.
    let mut words = [0_u32; 32];
    if let Some(ended) = ended {
        let (code, status) = match ended.end {
            End::Exited(status) => (processes::CLD_EXITED, u32::from(status)),
            End::Killed(signal) => (processes::CLD_KILLED, signal),
        };
        (words[0], words[2]) = (crate::user::signal::SIGCHLD, code as u32);
        (words[4], words[6]) = (ended.id, status);
        copy::write_if(usage, &super::time::rusage(time::frequency().ticks_to_ns(ended.used), 0))?;
    }
    copy::write_if(info, &words)?;
    Ok(0)
}
