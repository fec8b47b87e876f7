//! All processes, and who started whom.

use super::{
    account,
    errno::{Errno, Result},
    files,
    process::{End, Process},
    signal::{self, Info},
    thread::UserThread,
};
use crate::sync::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use fallible::{Arc, TryVec as _};

/// The most processes at a time, those included that are over and have not been waited for.
const MOST: usize = 1024;

/// `si_code` of SIGCHLD.
pub const CLD_EXITED: i32 = 1;
pub const CLD_KILLED: i32 = 2;

/// By their numbers, which only grow.
static ALL: IrqMutex<Vec<Arc<Process>>> = IrqMutex::new(Vec::new());

fn position(all: &[Arc<Process>], id: u32) -> Option<usize> {
    all.binary_search_by_key(&id, |process| process.id()).ok()
}

/// Takes a process on.
pub fn enter(process: &Arc<Process>) -> Result<()> {
    let mut all = ALL.lock();
    if all.len() >= MOST || !account::has_room(process) {
        return Err(Errno::EAGAIN);
    }
    let at = all.partition_point(|other| other.id() < process.id());
    Ok(all.try_insert(at, process.clone())?)
}

/// Forgets a process.
pub fn leave(id: u32) {
    drop(take(id));
}

/// Takes a process out.
fn take(id: u32) -> Option<Arc<Process>> {
    let mut all = ALL.lock();
    let at = position(&all, id)?;
    Some(all.remove(at))
}

/// The process with the lowest number from `id` on.
pub fn from(id: u32) -> Option<Arc<Process>> {
    let all = ALL.lock();
    all.get(all.partition_point(|process| process.id() < id)).cloned()
}

/// Does something with each process, without the list's lock: those that there are all the time, and perhaps
/// others.
pub fn each(mut f: impl FnMut(&Arc<Process>)) {
    let mut next = 0;
    while let Some(process) = from(next) {
        f(&process);
        next = process.id() + 1;
    }
}

/// A process by its number.
pub fn get(id: u32) -> Option<Arc<Process>> {
    let all = ALL.lock();
    position(&all, id).map(|at| all[at].clone())
}

/// A thread of any process.
pub fn thread(id: u32) -> Option<Arc<UserThread>> {
    if let Some(thread) = get(id).and_then(|process| process.thread(id)) {
        return Some(thread);
    }
    let mut found = None;
    each(|process| found = found.take().or_else(|| process.thread(id)));
    found
}

/// The number of the first process, which the kernel has started.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// Says which process is the first.
pub fn set_first(id: u32) {
    FIRST.store(id, Ordering::Release);
}

/// Returns whether a process is the first.
pub fn is_first(id: u32) -> bool {
    FIRST.load(Ordering::Acquire) == id
}

/// The first process, if it is not over: it inherits the children of those that are.
fn first() -> Option<Arc<Process>> {
    get(FIRST.load(Ordering::Acquire)).filter(|process| !process.is_over())
}

/// A process is over: its children get another parent, and its own is notified.
pub fn ended(process: &Process) {
    let heir = first().filter(|heir| heir.id() != process.id());
    each(|child| {
        if child.parent() == process.id() {
            child.set_parent(heir.as_ref().map_or(0, |heir| heir.id()));
            if child.is_over() {
                notify_parent(child);
            }
        }
    });
    notify_parent(process);
}

/// Notifies a process's parent of its end; whoever has none, or one that does not care, is forgotten.
fn notify_parent(process: &Process) {
    let parent = get(process.parent()).filter(|parent| !parent.is_over());
    match parent {
        Some(parent) if !parent.signals.lock().forgets_children() => {
            let (code, status) = match process.how() {
                Some(End::Killed(signal)) => (CLD_KILLED, signal),
                Some(End::Exited(status)) => (CLD_EXITED, u32::from(status)),
                None => (CLD_EXITED, 0),
            };
            parent.signal(Info {
                number: signal::SIGCHLD,
                code,
                value: u64::from(process.id()),
                more: u64::from(status),
                syndrome: 0,
            });
        }
        _ => leave(process.id()),
    }
    files::something_happened();
}

/// Ends all processes but one.
pub fn end_others(but: u32) {
    let others = |f: fn(&Process)| {
        each(|process| {
            if process.id() != but {
                f(process);
            }
        });
    };
    others(|process| process.end(End::Killed(signal::SIGKILL)));
    others(|process| {
        process.join();
    });
}

/// A child that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub id: u32,
    pub end: End,
    /// Ticks that it has had cores.
    pub used: u64,
}

/// Waits for a child, the one with a number or any, to be over. `None` if it is not and the caller does not
/// want to wait.
pub fn wait(thread: &UserThread, which: Option<u32>, now: bool, keep: bool) -> Result<Option<Ended>> {
    let own = thread.process();
    let attempt = || {
        let (mut any, mut over) = (false, None);
        each(|child| {
            if child.parent() == own.id() && which.is_none_or(|id| id == child.id()) {
                any = true;
                if over.is_none() && child.is_over() {
                    over = Some(child.clone());
                }
            }
        });
        if !any {
            return Err(Errno::ECHILD);
        }
        let Some(child) = over else {
            // As if it had been found, and nobody.
            return Ok(now.then_some(None));
        };
        let used = child.used_ticks() + child.used_by_children.load(Ordering::Relaxed);
        let ended = Ended { id: child.id(), end: child.how().unwrap_or(End::Exited(0)), used };
        if !keep {
            if take(child.id()).is_none() {
                return Ok(None);
            }
            own.used_by_children.fetch_add(used, Ordering::Relaxed);
        }
        Ok(Some(Some(ended)))
    };
    Ok(files::wait_until(thread, None, attempt)?.flatten())
}
