//! Processors, as `/sys/devices/system` and `/proc/cpuinfo` describe them. The text is made when a file is opened.

use super::image::hwcaps;
use crate::{
    arch,
    percore::{self, CoreIndex, PerCore},
};
use alloc::{format, string::String};
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU64, Ordering};

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
pub fn list(included: impl Fn(&PerCore) -> bool) -> String {
    let mut text = String::new();
    let chosen = |core: &&&PerCore| core.takes_tasks() && included(core);
    let mut cores = percore::all().iter().filter(chosen).map(|core| core.index().0).peekable();
    while let Some(first) = cores.next() {
        let mut last = first;
        while let Some(next) = cores.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
    }
    text.push('\n');
    text
}

/// The same cores as a bit mask in hexadecimal words of 32 bits, the highest first.
fn mask(included: impl Fn(&PerCore) -> bool) -> String {
    let mut words = [0_u32; 4];
    for core in percore::all().iter().filter(|core| core.takes_tasks() && included(core)) {
        if let Some(word) = words.get_mut(usize::from(core.index().0) / 32) {
            *word |= 1 << (core.index().0 % 32);
        }
    }
    let count = percore::all().len().div_ceil(32).clamp(1, 4);
    let mut text = String::new();
    for (at, word) in words[..count].iter().enumerate().rev() {
        let _ = if at + 1 == count { write!(text, "{word:x}") } else { write!(text, ",{word:08x}") };
    }
    text.push('\n');
    text
}

/// Whether two processors are threads of one core (`MPIDR_EL1.MT`: Aff0 is the thread then).
fn are_siblings(one: &PerCore, other: &PerCore) -> bool {
    let (one, other) = (one.mpidr().raw(), other.mpidr().raw());
    one == other || arch::has_threads() && one >> 8 == other >> 8
}

/// The text of a file below `cpuN`. All cores are in one package: neither affinities nor device trees say more.
fn of_core(core: &PerCore, name: &str) -> Option<String> {
    let siblings = |other: &PerCore| are_siblings(core, other);
    let [midr, revidr] = identity(core.index());
    Some(match name {
        "topology/core_id" => {
            let first = percore::all().iter().find(|other| are_siblings(core, other))?;
            format!("{}\n", first.index().0)
        }
        "topology/physical_package_id" => "0\n".into(),
        "topology/thread_siblings_list" | "topology/core_cpus_list" => list(siblings),
        "topology/thread_siblings" | "topology/core_cpus" => mask(siblings),
        "topology/core_siblings_list" | "topology/package_cpus_list" => list(|_| true),
        "topology/core_siblings" | "topology/package_cpus" => mask(|_| true),
        "regs/identification/midr_el1" => format!("{midr:#018x}\n"),
        "regs/identification/revidr_el1" => format!("{revidr:#018x}\n"),
        _ => return None,
    })
}

/// `/proc/cpuinfo`.
fn cpuinfo() -> String {
    let mut features = String::new();
    for name in hwcaps().names().chain(["CPUID"]) {
        let _ = write!(features, " {}", name.to_ascii_lowercase());
    }
    let mut text = String::new();
    for core in percore::all().iter().filter(|core| core.takes_tasks()) {
        let [midr, _] = identity(core.index());
        let _ = writeln!(
            text,
            "processor\t: {}\nFeatures\t:{features}\nCPU implementer\t: {:#04x}\nCPU architecture: 8\n\
             CPU variant\t: {:#x}\nCPU part\t: {:#05x}\nCPU revision\t: {}\n",
            core.index().0,
            midr >> 24 & 0xff,
            midr >> 20 & 0xf,
            midr >> 4 & 0xfff,
            midr & 0xf,
        );
    }
    text
}

/// The text of a file about processors.
pub fn text(path: &[u8]) -> Option<String> {
    let path = core::str::from_utf8(path).ok()?;
    if path == "/proc/cpuinfo" {
        return Some(cpuinfo());
    }
    let name = path.strip_prefix("/sys/devices/system/")?;
    match name {
        "cpu/online" | "node/node0/cpulist" => return Some(list(|_| true)),
        "node/online" | "node/possible" | "node/has_cpu" => return Some("0\n".into()),
        _ => {}
    }
    let (number, name) = name.strip_prefix("cpu/cpu")?.split_once('/')?;
    let core = percore::get(CoreIndex(number.parse().ok()?))?;
    if core.takes_tasks() { of_core(core, name) } else { None }
}
