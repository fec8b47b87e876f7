//! Contents of `/proc`, `/sys` and `/dev` for run-times: processors, memory, the program itself.

use super::{
    errno::{Errno, Result},
    files::{self, CONSOLE, FULL, LOG, NULL, OF_IMAGE, RANDOM, ZERO},
    lossy::Lossy,
    sysfs,
    thread::UserThread,
};
use crate::{
    memory,
    percore::{self, CoreIndex, PerCore},
    smp::{self, PlugError},
};
use address_space::{Purpose, Region};
use alloc::format;
use alloc::vec::Vec;
use fallible::{Arc, Text};
use memfs::{FileSystem, Start};

/// Adds the files that stay as they are.
#[expect(clippy::disallowed_macros, reason = "at boot, before there are programs")]
pub fn provide(root: &mut FileSystem) -> memfs::Result<()> {
    for directory in [&b"/dev/shm"[..], b"/proc/self", b"/tmp", b"/sys/devices/system/cpu", b"/etc"] {
        root.provide_directory(directory)?;
    }
    let devices = [
        (&b"/dev/null"[..], NULL),
        (b"/dev/zero", ZERO),
        (b"/dev/full", FULL),
        (b"/dev/random", RANDOM),
        (b"/dev/urandom", RANDOM),
        (b"/dev/kmsg", LOG),
        (b"/dev/console", CONSOLE),
        (b"/dev/tty", CONSOLE),
        (b"/dev/stdin", CONSOLE),
        (b"/dev/stdout", CONSOLE),
        (b"/dev/stderr", CONSOLE),
    ];
    let own = files::special().map(|path| (path, OF_IMAGE));
    for (path, device) in devices.into_iter().chain(own) {
        if root.find(Start::Root, path, false).is_err() {
            root.create_device(Start::Root, path, device, 0o666)?;
        }
    }
    let cores = percore::all().iter().filter(|core| core.takes_tasks()).count();
    let list = if cores == 1 { "0\n".into() } else { format!("0-{}\n", cores - 1) };
    // Which cores are online is read when the file is opened.
    for name in ["online", "possible", "present"] {
        root.provide(format!("/sys/devices/system/cpu/{name}").as_bytes(), list.as_bytes())?;
    }
    for core in 0..cores {
        root.provide_directory(format!("/sys/devices/system/cpu/cpu{core}").as_bytes())?;
        if smp::can_be_unplugged(CoreIndex(core as u16)) {
            root.provide(format!("{CORES}/cpu{core}/online").as_bytes(), b"1\n")?;
        }
    }
    // Its text is made when it is opened.
    root.provide(b"/proc/cpuinfo", b"")?;
    root.provide(b"/proc/sys/vm/overcommit_memory", b"1\n")?;
    root.provide(b"/proc/sys/kernel/osrelease", concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes())?;
    let version = concat!("Margay LWK ", env!("CARGO_PKG_VERSION"), "\n");
    root.provide(b"/proc/version", version.as_bytes())
}

const CORES: &str = "/sys/devices/system/cpu";

/// The core that is switched on and off by a file.
pub fn switch(path: &[u8]) -> Option<CoreIndex> {
    let path = core::str::from_utf8(path).ok()?;
    let number = path.strip_prefix(CORES)?.strip_prefix("/cpu")?.strip_suffix("/online")?;
    let core = CoreIndex(number.parse().ok()?);
    smp::can_be_unplugged(core).then_some(core)
}

/// Does what is written to such a file.
pub fn switch_core(core: CoreIndex, word: u8) -> Result<()> {
    let done = match word {
        b'0' => smp::unplug(core),
        b'1' => smp::plug(core),
        _ => return Err(Errno::EINVAL),
    };
    done.map_err(|error| match error {
        PlugError::NoCore => Errno::ENODEV,
        PlugError::Unsupported => Errno::EOPNOTSUPP,
        PlugError::Busy => Errno::EBUSY,
        PlugError::Failed(_) => Errno::EIO,
    })
}

/// The thread whose name a file has: `/proc/self/comm`, `/proc/self/task/TID/comm`, `/proc/thread-self/comm`.
pub fn named_thread(thread: &UserThread, path: &[u8]) -> Option<Arc<UserThread>> {
    if path == b"/proc/thread-self/comm" {
        return Some(thread.shared());
    }
    let process = thread.process();
    let name = core::str::from_utf8(own_file(thread, path)?).ok()?;
    let id = match name.strip_prefix("task/") {
        Some(rest) => rest.strip_suffix("/comm")?.parse().ok()?,
        None if name == "comm" => process.id(),
        None => return None,
    };
    process.thread(id)
}

/// The text of such a file: the name, and the end of the line.
pub fn name_of(thread: &UserThread) -> heapless::Vec<u8, 16> {
    let mut text = heapless::Vec::from_array(thread.name());
    text.truncate(shown(&text).len());
    // A name ends with a zero.
    let _ = text.push(b'\n');
    text
}

/// A thread's name without the zeros behind it.
fn shown(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The rest of a path in the directory of the thread's own process.
fn own_file<'a>(thread: &UserThread, path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(b"/proc/")?;
    if let Some(rest) = rest.strip_prefix(b"self/") {
        return Some(rest);
    }
    let end = rest.iter().position(|byte| *byte == b'/')?;
    let id: u32 = core::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    (id == thread.process().id()).then_some(&rest[end + 1..])
}

/// Returns whether a path is that of the directory of the process's threads.
pub fn is_tasks(thread: &UserThread, path: &[u8]) -> bool {
    matches!(own_file(thread, path), Some(b"task" | b"task/"))
}

/// The text of a file that is made when it is opened.
pub fn text(thread: &UserThread, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut text = Text::new();
    let known = write_text(thread, path, &mut text)?;
    Ok(known.then(|| text.into_bytes()))
}

fn write_text(thread: &UserThread, path: &[u8], text: &mut Text) -> Result<bool> {
    let process = thread.process();
    if let Some(named) = named_thread(thread, path) {
        text.try_extend(&name_of(&named))?;
        return Ok(true);
    }
    match own_file(thread, path) {
        Some(b"maps") => {
            let image = process.image();
            process.with_space(|space| {
                space.regions().iter().try_for_each(|region| write_region(text, region, &image.path))
            })?;
        }
        Some(b"status") => {
            let backed = process.with_space(|space| Ok(space.backed())).unwrap_or(0) >> 10;
            text.try_format(format_args!(
                "Name:\t{}\nState:\tR (running)\nTgid:\t{id}\nPid:\t{id}\nPPid:\t{}\nVmRSS:\t{backed} kB\nThreads:\t{}\n",
                Lossy(shown(&process.comm())),
                process.parent(),
                process.thread_count(),
                id = process.id(),
            ))?;
        }
        _ if path == b"/proc/interrupts" => {
            let cores = || percore::all().iter().filter(|core| core.takes_tasks());
            for core in cores() {
                text.try_format(format_args!("{:>7}{:<4}", "CPU", core.index().0))?;
            }
            text.try_format(format_args!("\nall:"))?;
            for core in cores() {
                text.try_format(format_args!("{:>11}", core.interrupts()))?;
            }
            text.try_format(format_args!("\n"))?;
        }
        _ if sysfs::write_text(path, text)? => {}
        _ if let Some(core) = switch(path) => {
            let on = percore::get(core).is_some_and(PerCore::takes_tasks);
            text.try_format(format_args!("{}\n", u8::from(on)))?;
        }
        _ if path == b"/proc/meminfo" => {
            let free = memory::free_bytes() >> 10;
            let total = super::memory_bytes() >> 10;
            text.try_format(format_args!(
                "MemTotal: {total:>15} kB\nMemFree: {free:>16} kB\nMemAvailable: {free:>11} kB\n"
            ))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A line of `maps`.
fn write_region(text: &mut Text, region: &Region, program: &[u8]) -> Result<()> {
    let (start, end) = (region.range.start.get(), region.range.end.get());
    let flag = |set: bool, name: char| if set { name } else { '-' };
    let access = region.access;
    let (r, w, x) = (flag(access.read, 'r'), flag(access.write, 'w'), flag(access.execute, 'x'));
    let what = match region.purpose {
        Purpose::Program => program,
        Purpose::Heap => b"[heap]",
        Purpose::Stack => b"[stack]",
        Purpose::Kernel if access.execute => b"[vdso]",
        Purpose::Kernel => b"[vvar]",
        _ => b"",
    };
    Ok(text.try_format(format_args!("{start:08x}-{end:08x} {r}{w}{x}p 00000000 00:00 0 {}\n", Lossy(what)))?)
}
