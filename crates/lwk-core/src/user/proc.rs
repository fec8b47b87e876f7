//! What `/proc`, `/sys` and `/dev` tell run-times: processors, memory, the program itself.

use super::{
    errno::{Errno, Result},
    files::{self, CONSOLE, FULL, LOG, NULL, OF_IMAGE, RANDOM, ZERO},
    sysfs,
    thread::UserThread,
};
use crate::{
    memory,
    percore::{self, CoreIndex, PerCore},
    smp::{self, PlugError},
};
use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt::Write as _;
use memfs::{FileSystem, Start};

/// Adds the files that stay as they are.
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
    let list = if cores == 1 { String::from("0\n") } else { format!("0-{}\n", cores - 1) };
    // What is online is told when the file is opened.
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

/// The name that such a file has now.
pub fn name_of(thread: &UserThread) -> Vec<u8> {
    let name = thread.name();
    let mut text: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
    text.push(b'\n');
    text
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

/// The text of a file that is made when it is opened.
pub fn text(thread: &UserThread, path: &[u8]) -> Option<Vec<u8>> {
    let process = thread.process();
    if let Some(named) = named_thread(thread, path) {
        return Some(name_of(&named));
    }
    let name = own_file(thread, path);
    let mut text = String::new();
    match name {
        Some(b"maps") => {
            let regions = process.with_space(|space| Ok(space.regions().iter().copied().collect::<Vec<_>>()));
            for region in regions.unwrap_or_default() {
                let (start, end) = (region.range.start.get(), region.range.end.get());
                let flag = |set: bool, name: char| if set { name } else { '-' };
                let access = region.access;
                let (r, w, x) = (flag(access.read, 'r'), flag(access.write, 'w'), flag(access.execute, 'x'));
                let what = match region.purpose {
                    address_space::Purpose::Program => {
                        String::from_utf8_lossy(&process.image().path).into_owned()
                    }
                    address_space::Purpose::Heap => "[heap]".into(),
                    address_space::Purpose::Stack => "[stack]".into(),
                    address_space::Purpose::Kernel if access.execute => "[vdso]".into(),
                    address_space::Purpose::Kernel => "[vvar]".into(),
                    _ => String::new(),
                };
                let _ = writeln!(text, "{start:08x}-{end:08x} {r}{w}{x}p 00000000 00:00 0 {what}");
            }
        }
        Some(b"status") => {
            let backed = process.with_space(|space| Ok(space.backed())).unwrap_or(0) >> 10;
            let _ = writeln!(
                text,
                "Name:\t{}\nState:\tR (running)\nTgid:\t{}\nPid:\t{}\nPPid:\t{}\nVmRSS:\t{backed} kB\nThreads:\t{}",
                String::from_utf8_lossy(&process.comm()).trim_end_matches('\0'),
                process.id(),
                process.id(),
                process.parent(),
                process.threads().len()
            );
        }
        _ if path == b"/proc/interrupts" => {
            let cores = || percore::all().iter().filter(|core| core.takes_tasks());
            for core in cores() {
                let _ = write!(text, "{:>7}{:<4}", "CPU", core.index().0);
            }
            text.push_str("\nall:");
            for core in cores() {
                let _ = write!(text, "{:>11}", core.interrupts());
            }
            text.push('\n');
        }
        _ if let Some(about) = sysfs::text(path) => text = about,
        _ if let Some(core) = switch(path) => {
            let on = percore::get(core).is_some_and(PerCore::takes_tasks);
            text.push_str(if on { "1\n" } else { "0\n" });
        }
        _ if path == b"/proc/meminfo" => {
            let free = memory::free_bytes() >> 10;
            let total = super::memory_bytes() >> 10;
            let _ = writeln!(
                text,
                "MemTotal: {total:>15} kB\nMemFree: {free:>16} kB\nMemAvailable: {free:>11} kB"
            );
        }
        _ => return None,
    }
    Some(text.into_bytes())
}
