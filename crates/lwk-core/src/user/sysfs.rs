//! Processors, as `/sys/devices/system` and `/proc/cpuinfo` describe them. The text is made when a file is
//! opened.

use super::image::hwcaps;
use crate::{
    arch,
    percore::{self, CoreIndex, PerCore},
};
use alloc::{vec, vec::Vec};
use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicU64, Ordering};
use fallible::{OutOfMemory, Text};
use machine::{CorePlace, Machine};
use spin::Once;

/// `MIDR_EL1` and `REVIDR_EL1` of each core, 0 if it has never been online.
static IDENTITIES: [[AtomicU64; 2]; 128] = [const { [const { AtomicU64::new(0) }; 2] }; 128];

/// Records what the calling core is.
pub fn record_identity() {
    if let Some(identity) = IDENTITIES.get(usize::from(percore::this().index().0)) {
        let (midr, revidr) = arch::main_id();
        identity[0].store(midr, Ordering::Relaxed);
        identity[1].store(revidr, Ordering::Relaxed);
    }
}

fn identity(core: CoreIndex) -> [u64; 2] {
    IDENTITIES
        .get(usize::from(core.0))
        .map_or([0; 2], |identity| identity.each_ref().map(|word| word.load(Ordering::Relaxed)))
}

/// Cores as Linux lists them, `0-2,5`: those that take tasks and of which `included` is true.
fn list(text: &mut Text, included: impl Fn(&PerCore) -> bool) -> fmt::Result {
    let chosen = |core: &&&PerCore| core.takes_tasks() && included(core);
    let mut cores = percore::all().iter().filter(chosen).map(|core| core.index().0).peekable();
    let mut comma = "";
    while let Some(first) = cores.next() {
        let mut last = first;
        while let Some(next) = cores.next_if_eq(&(last + 1)) {
            last = next;
        }
        write!(text, "{comma}{first}")?;
        if first != last {
            write!(text, "-{last}")?;
        }
        comma = ",";
    }
    text.write_str("\n")
}

/// The same cores as a bit mask in hexadecimal words of 32 bits, the highest first.
fn mask(text: &mut Text, included: impl Fn(&PerCore) -> bool) -> fmt::Result {
    let mut words = [0_u32; 4];
    for core in percore::all().iter().filter(|core| core.takes_tasks() && included(core)) {
        if let Some(word) = words.get_mut(usize::from(core.index().0) / 32) {
            *word |= 1 << (core.index().0 % 32);
        }
    }
    let count = percore::all().len().div_ceil(32).clamp(1, 4);
    for (at, word) in words[..count].iter().enumerate().rev() {
        if at + 1 == count { write!(text, "{word:x}") } else { write!(text, ",{word:08x}") }?;
    }
    text.write_str("\n")
}

/// The place of each core in the device tree's `cpu-map`; unset if there is no map that has them all.
static PLACES: Once<Vec<CorePlace>> = Once::new();

/// Reads the topology of the cores. As in Linux a map that breaks its binding, or lacks a core, counts as
/// none: all cores are in one package then.
#[expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "at boot, before there are programs"
)]
pub fn read_topology(machine: &Machine<'_>) {
    let cores = percore::all();
    let mut places = vec![None; cores.len()];
    let mut repeated = false;
    let outcome = machine.for_each_core_place(&mut |mpidr, place| {
        if let Some(at) = cores.iter().position(|core| core.mpidr() == mpidr) {
            repeated |= places[at].replace(place).is_some();
        }
    });
    if let Err(error) = outcome {
        log::warn!("ignoring cpu-map of the device tree: {error}");
    } else if repeated {
        log::warn!("ignoring cpu-map of the device tree: it names a core twice");
    } else if let Some(places) = places.iter().copied().collect() {
        PLACES.call_once(|| places);
    } else if places.iter().any(Option::is_some) {
        log::warn!("ignoring cpu-map of the device tree: it lacks a core");
    }
}

fn place(core: &PerCore) -> Option<CorePlace> {
    PLACES.get()?.get(usize::from(core.index().0)).copied()
}

/// The places of two processors, if there is a topology.
fn places(one: &PerCore, other: &PerCore) -> Option<(CorePlace, CorePlace)> {
    place(one).zip(place(other))
}

fn in_one_package(one: &PerCore, other: &PerCore) -> bool {
    places(one, other).is_none_or(|(one, other)| one.socket == other.socket)
}

/// Whether two processors are threads of one core: by the topology, or else by `MPIDR_EL1.MT` (Aff0 is the
/// thread then).
fn are_siblings(one: &PerCore, other: &PerCore) -> bool {
    if let Some((one, other)) = places(one, other) {
        return (one.socket, one.cluster, one.core) == (other.socket, other.cluster, other.core);
    }
    let (one, other) = (one.mpidr().raw(), other.mpidr().raw());
    one == other || arch::has_threads() && one >> 8 == other >> 8
}

/// Whether `cluster_cpus` of one processor names the other. Like Linux' it names the threads of the core
/// where a package is one cluster.
fn are_clustered(one: &PerCore, other: &PerCore) -> bool {
    let share = |other: &PerCore| {
        places(one, other)
            .is_some_and(|(one, other)| (one.socket, one.cluster) == (other.socket, other.cluster))
    };
    let is_part = percore::all().iter().any(|other| in_one_package(one, other) && !share(other));
    are_siblings(one, other) || is_part && share(other)
}

/// Writes the text of a file below `cpuN`, if there is such a file (Linux,
/// `Documentation/ABI/stable/sysfs-devices-system-cpu`).
fn of_core(text: &mut Text, core: &PerCore, name: &str) -> Result<bool, fmt::Error> {
    let siblings = |other: &PerCore| are_siblings(core, other);
    let clustered = |other: &PerCore| are_clustered(core, other);
    let package = |other: &PerCore| in_one_package(core, other);
    let [midr, revidr] = identity(core.index());
    match name {
        "topology/core_id" if let Some(place) = place(core) => writeln!(text, "{}", place.core),
        "topology/core_id" => {
            let first = percore::all().iter().find(|other| siblings(other)).map_or(0, |core| core.index().0);
            writeln!(text, "{first}")
        }
        "topology/physical_package_id" => writeln!(text, "{}", place(core).map_or(0, |place| place.socket)),
        "topology/cluster_id" => match place(core) {
            Some(place) => writeln!(text, "{}", place.cluster),
            None => text.write_str("-1\n"),
        },
        "topology/thread_siblings_list" | "topology/core_cpus_list" => list(text, siblings),
        "topology/thread_siblings" | "topology/core_cpus" => mask(text, siblings),
        "topology/cluster_cpus_list" => list(text, clustered),
        "topology/cluster_cpus" => mask(text, clustered),
        "topology/core_siblings_list" | "topology/package_cpus_list" => list(text, package),
        "topology/core_siblings" | "topology/package_cpus" => mask(text, package),
        "regs/identification/midr_el1" => writeln!(text, "{midr:#018x}"),
        "regs/identification/revidr_el1" => writeln!(text, "{revidr:#018x}"),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// `/proc/cpuinfo`.
fn cpuinfo(text: &mut Text) -> fmt::Result {
    for core in percore::all().iter().filter(|core| core.takes_tasks()) {
        let [midr, _] = identity(core.index());
        write!(text, "processor\t: {}\nFeatures\t:", core.index().0)?;
        for name in hwcaps().names().chain(["CPUID"]) {
            text.write_str(" ")?;
            name.chars().try_for_each(|letter| text.write_char(letter.to_ascii_lowercase()))?;
        }
        write!(
            text,
            "\nCPU implementer\t: {:#04x}\nCPU architecture: 8\n\
             CPU variant\t: {:#x}\nCPU part\t: {:#05x}\nCPU revision\t: {}\n\n",
            midr >> 24 & 0xff,
            midr >> 20 & 0xf,
            midr >> 4 & 0xfff,
            midr & 0xf,
        )?;
    }
    Ok(())
}

fn write_any(path: &str, text: &mut Text) -> Result<bool, fmt::Error> {
    if path == "/proc/cpuinfo" {
        return cpuinfo(text).map(|()| true);
    }
    let Some(name) = path.strip_prefix("/sys/devices/system/") else { return Ok(false) };
    match name {
        "cpu/online" | "node/node0/cpulist" => return list(text, |_| true).map(|()| true),
        "node/online" | "node/possible" | "node/has_cpu" => return text.write_str("0\n").map(|()| true),
        _ => {}
    }
    let core = || {
        let (number, name) = name.strip_prefix("cpu/cpu")?.split_once('/')?;
        let core = percore::get(CoreIndex(number.parse().ok()?))?;
        core.takes_tasks().then_some((core, name))
    };
    core().map_or(Ok(false), |(core, name)| of_core(text, core, name))
}

/// Writes the text of a file about processors. False if there is no such file.
///
/// # Errors
/// There is no memory for it.
pub fn write_text(path: &[u8], text: &mut Text) -> Result<bool, OutOfMemory> {
    core::str::from_utf8(path).map_or(Ok(false), |path| write_any(path, text)).map_err(|_| OutOfMemory)
}
