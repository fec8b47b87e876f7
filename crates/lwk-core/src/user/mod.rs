//! Unmodified static Linux programs, at EL0.
//!
//! | module | what |
//! |---|---|
//! | `process`, `thread` | address space and files of a program; its threads, each a kernel task of one core |
//! | `account` | what they take from the kernel's memory |
//! | `processes`, `image` | who started whom; what a process runs, loaded from its file |
//! | `space`, `page_map`, `user_tables`, `mapped_files` | its memory: regions and physical memory, translation tables; the files that it maps |
//! | `syscall` | the system calls; [`docs/lwk.md`] lists them with their limits |
//! | `signal`, `pending`, `rseq`, `futex`, `files`, `pipe`, `proc`, `sysfs` | what several of them share |
//! | `copy`, `pieces` | the only way to a program's memory; piece by piece, between files and it |
//! | `output` | its lines, on their way to the console |
//! | `kmsg` | the kernel's log, as programs read it |
//! | `vms` | `/dev/margay`: VMs, for the control task of a primary |
//! | `fault`, `report` | what a program did wrong, and how that is reported |
//!
//! Programs exist in kernels that are built without FP/SIMD of their own (`aarch64-unknown-none-softfloat`):
//! a system call then saves general registers alone.
//!
//! [`docs/lwk.md`]: https://github.com/margay-os/margay/blob/main/docs/lwk.md

mod account;
mod copy;
mod errno;
mod fault;
mod files;
mod futex;
mod image;
mod kmsg;
mod lossy;
mod mapped_files;
mod output;
mod page_map;
mod pending;
mod pieces;
mod pipe;
mod proc;
mod process;
mod processes;
mod random;
mod report;
mod rseq;
mod signal;
mod space;
mod syscall;
mod sysfs;
mod thread;
mod user_tables;
mod vms;

use crate::{
    app::{App, Status},
    arch,
    fault::fatal,
    memory::{self, Phys},
    smp, time,
};
use alloc::{vec, vec::Vec};
use errno::Errno;
use image::{Command, Loaded};
use memfs::FileSystem;
use process::{End, Process};
use spin::Once;

pub(crate) use files::something_happened;
pub(crate) use kmsg::log_grew;
pub(crate) use vms::{had_device, provide as provide_device};

/// The virtual counter when the kernel's image was entered: when programs' monotonic clock was 0.
static BOOT: Once<u64> = Once::new();
/// Nanoseconds from 1970 to then.
static EPOCH: Once<u64> = Once::new();
/// Bytes of memory of the machine.
static MEMORY: Once<u64> = Once::new();

/// Whether programs may have the kernel's allocations fail.
static FAILS: Once<()> = Once::new();

fn may_fail_allocations() -> bool {
    FAILS.is_completed()
}

fn boot_ticks() -> u64 {
    BOOT.get().copied().unwrap_or(0)
}

fn epoch_ns() -> u64 {
    EPOCH.get().copied().unwrap_or(0)
}

fn memory_bytes() -> u64 {
    MEMORY.get().copied().unwrap_or(0)
}

/// Seconds since 1970.
fn seconds() -> u64 {
    (process::clock().nanoseconds(time::stopwatch()) + epoch_ns()) / 1_000_000_000
}

/// Makes the root file system of the machine's initrd, and of the kernel's own files.
fn mount_root(app: &App) {
    let mut root = FileSystem::new();
    let mut seed = [0; 8];
    random::fill(&mut seed);
    root.set_hash_seed(u64::from_le_bytes(seed));
    if let Some(initrd) = app.machine().initrd() {
        // SAFETY: the linear map holds all memory; that of the initrd was taken out of what is free, for
        // good.
        let bytes = unsafe {
            core::slice::from_raw_parts(Phys(initrd.base).linear().cast_const(), initrd.size as usize)
        };
        if let Err(error) = root.add_archive(bytes) {
            fatal(format_args!("the initrd makes no root file system: {error}"));
        }
    }
    if let Err(error) = proc::provide(&mut root) {
        fatal(format_args!("the initrd leaves no place for /proc, /sys and /dev: {error}"));
    }
    root.set_room(memory::free_bytes() / 2);
    files::mount(root);
}

/// The environment: `env.NAME=value` of the command line, and what programs expect to find.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "at boot, before there are programs"
)]
fn environment(app: &App) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        vec![b"HOME=/".to_vec(), b"PATH=/bin:/usr/bin".to_vec(), b"TERM=linux".to_vec()];
    for word in app.command_line().words() {
        let Some(variable) = word.strip_prefix("env.") else { continue };
        let Some((name, _)) = variable.split_once('=') else { continue };
        let is_same =
            |old: &Vec<u8>| old.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        all.retain(|old| !is_same(old));
        all.push(variable.as_bytes().to_vec());
    }
    all
}

/// Sets the calling core up for programs.
pub(crate) fn init_core() {
    arch::init_programs();
    sysfs::record_identity();
}

/// How the first process has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstEnded {
    /// Its number.
    pub(crate) id: u32,
    /// The exit status as a shell reports it.
    pub(crate) status: Status,
    /// By a signal.
    pub(crate) crashed: bool,
}

/// Nanoseconds from 1970 to boot, if the machine has a real-time clock (PL031, DDI 0224, `RTCDR`).
fn epoch_by_rtc(app: &App) -> Option<u64> {
    let registers = memory::map_device(app.machine().device("arm,pl031")?).ok()?;
    let register = core::ptr::with_exposed_provenance::<u32>(registers);
    // SAFETY: the device tree has such a clock; it has just been mapped as a device, and this is its first
    // register, which only counts.
    let seconds = unsafe { register.read_volatile() };
    let since_boot = time::frequency().ticks_to_ns(time::stopwatch().saturating_sub(boot_ticks()));
    Some((u64::from(seconds) * 1_000_000_000).saturating_sub(since_boot))
}

/// Makes ready for programs: once, before the first.
pub(crate) fn set_up(app: &App) {
    BOOT.call_once(|| app.entry_ticks());
    let given =
        app.command_line().number::<u64>("epoch").map(|seconds| seconds.saturating_mul(1_000_000_000));
    let epoch = given.or_else(|| epoch_by_rtc(app)).unwrap_or(0);
    EPOCH.call_once(|| epoch);
    if app.command_line().has("fail-allocations") {
        FAILS.call_once(|| ());
    }
    MEMORY.call_once(|| app.machine().memory().map(|region| region.size).sum());
    smp::on_leave(|core| {
        processes::each(|process| {
            process.each_thread(|thread| {
                if thread.core() == core {
                    thread.leave();
                }
            });
        });
    });
    sysfs::read_topology(app.machine());
    mount_root(app);
}

/// Runs the program that `init=` names from the initrd to its end.
#[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "before its first thread runs")]
pub(crate) fn run_first(app: &App) -> FirstEnded {
    let line = app.command_line();
    let path = line.get("init").unwrap_or("/init");
    let mut arguments = vec![path.as_bytes().to_vec()];
    arguments.extend(line.arguments().map(|argument| argument.as_bytes().to_vec()));
    let command = Command { path: path.as_bytes().to_vec(), arguments, environment: environment(app) };
    let loaded = match Loaded::new(memfs::Start::Root, &command) {
        Ok(loaded) => loaded,
        Err(error) => fatal(format_args!("{path}: {error}")),
    };
    let first = match Process::start(loaded, thread::all_cores()) {
        Ok(first) => first,
        Err(Errno::ENOMEM) => fatal(format_args!("{path}: out of memory")),
        Err(_) => fatal(format_args!("{path}: none of its cores takes a thread")),
    };
    let end = first.join();
    processes::end_others(first.id());
    FirstEnded { id: first.id(), status: Status(end.status()), crashed: matches!(end, End::Killed(_)) }
}

/// The main function of an image without one of its own: runs the first program, and ends with it.
pub fn main(app: &App) -> Status {
    set_up(app);
    run_first(app).status
}
