//! System calls: which there are, and who does them.
#![expect(
    clippy::unnecessary_wraps,
    reason = "calls of the table have one type, also those that cannot fail"
)]

mod directories;
mod files;
mod identity;
mod memory;
mod physical;
mod policies;
mod poll;
mod processes;
mod signals;
mod threads;
mod time;

use super::{
    errno::{Errno, Result},
    thread::{UserThread, work},
};
use crate::{arch::UserFrame, sync::IrqMutex};
use core::sync::atomic::Ordering;
use syscalls::aarch64::Sysno;

/// What a system call is given: its thread, and the program's registers. Arguments are in x0 to x5.
type Call = fn(&UserThread, &mut UserFrame) -> Result<u64>;

/// The same as `user.S` calls it: what comes back is for x0, an error as a negative number.
type RawCall = extern "C" fn(&UserThread, &mut UserFrame) -> u64;

/// More than the highest number of a call that there is.
const NUMBERS: usize = 440;

/// Margay's own calls, beyond what Linux will have: `docs/lwk.md`.
const OWN: usize = 0x4d00;

macro_rules! table {
    ($($(#[$attribute:meta])* $name:ident => $call:expr),* $(,)?) => {{
        let mut table = [lwk_unknown_call as RawCall; NUMBERS];
        $({
            $(#[$attribute])*
            extern "C" fn call(thread: &UserThread, frame: &mut UserFrame) -> u64 {
                in_register($call(thread, frame))
            }
            table[Sysno::$name as usize] = call;
        })*
        table
    }};
}

/// All calls, for `user.S`.
static LWK_SYSTEM_CALLS: [RawCall; NUMBERS] = table! {
    // Memory.
    brk => memory::brk,
    mmap => memory::mmap,
    munmap => memory::munmap,
    mprotect => memory::mprotect,
    mremap => memory::mremap,
    madvise => memory::madvise,
    membarrier => memory::membarrier,
    mlock => memory::mlock,
    mlock2 => memory::mlock2,
    munlock => memory::munlock,
    msync => memory::msync,
    mlockall => memory::pinned,
    munlockall => memory::pinned,
    // Files.
    openat => files::openat,
    close => files::close,
    read => files::read,
    write => files::write,
    readv => files::readv,
    writev => files::writev,
    pread64 => files::pread64,
    pwrite64 => files::pwrite64,
    lseek => files::lseek,
    fstat => files::fstat,
    fstatat => files::newfstatat,
    statx => files::statx,
    readlinkat => files::readlinkat,
    faccessat => files::faccessat,
    faccessat2 => files::faccessat2,
    getdents64 => directories::getdents64,
    unlinkat => files::unlinkat,
    mkdirat => files::mkdirat,
    renameat => files::renameat,
    renameat2 => files::renameat,
    symlinkat => files::symlinkat,
    ftruncate => files::ftruncate,
    fsync => files::nothing_to_write,
    fdatasync => files::nothing_to_write,
    ioctl => files::ioctl,
    fcntl => files::fcntl,
    dup => files::dup,
    dup3 => files::dup3,
    pipe2 => files::pipe2,
    getcwd => files::getcwd,
    chdir => files::chdir,
    umask => files::umask,
    ppoll => poll::ppoll,
    pselect6 => poll::pselect6,
    // Time.
    clock_gettime => time::clock_gettime,
    clock_getres => time::clock_getres,
    gettimeofday => time::gettimeofday,
    nanosleep => time::nanosleep,
    clock_nanosleep => time::clock_nanosleep,
    times => time::times,
    getrusage => time::getrusage,
    // Threads.
    clone => threads::clone,
    clone3 => threads::clone3,
    #[unsafe(link_section = ".text.hot")]
    futex => threads::futex,
    set_tid_address => threads::set_tid_address,
    set_robust_list => threads::set_robust_list,
    get_robust_list => threads::get_robust_list,
    rseq => threads::rseq,
    gettid => threads::gettid,
    exit => threads::exit,
    exit_group => threads::exit_group,
    #[unsafe(link_section = ".text.hot")]
    sched_yield => threads::sched_yield,
    sched_setaffinity => threads::sched_setaffinity,
    sched_getaffinity => threads::sched_getaffinity,
    sched_getscheduler => policies::sched_getscheduler,
    sched_getparam => policies::sched_getparam,
    sched_setscheduler => policies::sched_setscheduler,
    sched_setparam => policies::sched_setparam,
    sched_setattr => policies::sched_setattr,
    setpriority => policies::setpriority,
    sched_get_priority_max => policies::priority_max,
    sched_get_priority_min => policies::priority_min,
    getcpu => threads::getcpu,
    // Processes.
    execve => processes::execve,
    wait4 => processes::wait4,
    waitid => processes::waitid,
    // Signals.
    rt_sigaction => signals::rt_sigaction,
    rt_sigprocmask => signals::rt_sigprocmask,
    rt_sigreturn => signals::rt_sigreturn,
    rt_sigpending => signals::rt_sigpending,
    rt_sigsuspend => signals::rt_sigsuspend,
    rt_sigtimedwait => signals::rt_sigtimedwait,
    sigaltstack => signals::sigaltstack,
    kill => signals::kill,
    tkill => signals::tkill,
    tgkill => signals::tgkill,
    rt_sigqueueinfo => signals::rt_sigqueueinfo,
    rt_tgsigqueueinfo => signals::rt_tgsigqueueinfo,
    // Identity and limits.
    getpid => identity::getpid,
    getppid => identity::getppid,
    getuid => identity::root,
    geteuid => identity::root,
    getgid => identity::root,
    getegid => identity::root,
    getpgid => identity::getpid,
    getsid => identity::getpid,
    uname => identity::uname,
    prlimit64 => identity::prlimit64,
    getrandom => identity::getrandom,
    sysinfo => identity::sysinfo,
    syslog => super::kmsg::syslog,
    prctl => identity::prctl,
};

pub(super) use physical::release as release_physical;

/// Names of all numbers, separated by blanks.
const NAMES: &str = include_str!(concat!(env!("OUT_DIR"), "/system-calls.txt"));

/// Numbers that have been named on the console, up to the highest that has a name.
static NAMED: IrqMutex<[u64; 8]> = IrqMutex::new([0; 8]);

/// A call that does not exist here: it is named once.
fn unknown(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let number = frame.x[8] as usize;
    let known = NAMED.lock().get_mut(number / 64).is_none_or(|word| {
        let bit = 1 << (number % 64);
        let known = *word & bit != 0;
        *word |= bit;
        known
    });
    if !known {
        let name =
            NAMES.split(' ').nth(number).filter(|name| !name.is_empty()).unwrap_or("a call without a name");
        log::warn!("{}: unimplemented system call {name} ({number})", thread.process().name());
    }
    Err(Errno::ENOSYS)
}

#[inline]
fn in_register(result: Result<u64>) -> u64 {
    match result {
        Ok(value) => value,
        Err(error) => error.in_register(),
    }
}

/// A number that is not in the table, or has no call there.
extern "C" fn lwk_unknown_call(thread: &UserThread, frame: &mut UserFrame) -> u64 {
    let number = frame.x[8] as usize;
    let call = physical::find(number.wrapping_sub(OWN)).unwrap_or(unknown);
    in_register(call(thread, frame))
}

/// A call that a signal interrupted ([`Errno::RESTART`]), from `user.S`: what comes of it is decided when the
/// signal is delivered.
#[cold]
extern "C" fn lwk_interrupted_call(thread: &UserThread, frame: &mut UserFrame) {
    thread.argument.store(frame.x[0], Ordering::Relaxed);
    thread.restarts.store(true, Ordering::Relaxed);
    thread.add_work(work::SIGNAL);
    frame.x[0] = Errno::EINTR.in_register();
}

core::arch::global_asm!(
    include_str!("../../arch/aarch64/syscall.S"),
    CALLS = sym LWK_SYSTEM_CALLS,
    NUMBERS = const NUMBERS,
    UNKNOWN = sym lwk_unknown_call,
    INTERRUPTED = sym lwk_interrupted_call,
    RESTART = const 512,
);
