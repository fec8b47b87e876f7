//! `cargo xtask bench`: counted instructions per path, beside other systems' figures, against a committed
//! baseline.
//!
//! With `-icount shift=0` and a 1 GHz counter one tick is one instruction, and every run gives the same
//! figures: a path that grows is a regression, not noise.

use crate::{
    artefacts,
    board::{self, Board, Gic},
    build,
    bundle::Spec,
    console::{self, Line, Said},
    image, paths,
    program::Program,
    qemu::{End, Machine},
    setup, table,
    toolchain::Toolchain,
};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The board that `cargo xtask test` measures.
pub const BOARD: &str = "qemu-virt";
/// Sets `CNTFRQ_EL0`, which most processors of QEMU have at 62.5 MHz: 16 instructions a tick.
const ONE_GHZ: [&str; 2] = ["-global", "arm-cpu.cntfrq=1000000000"];
/// How much a path may grow over its baseline.
const TOLERANCE: f64 = 1.02;
/// The bundle of the measured stack.
const STACK: &str = include_str!("../bench-bundle.toml");
const PEERS: &str = include_str!("../bench-peers.toml");

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board to measure
    #[arg(long, default_value = BOARD)]
    board: String,
    /// Make these figures the baseline
    #[arg(long)]
    update_baseline: bool,
}

/// Instructions by path.
type Figures = BTreeMap<String, f64>;

/// The size of the hypervisor, among the paths: its code and constants, in bytes.
const SIZE: &str = "hypervisor-bytes";
/// The same of the one that gives VMs a GIC.
const SIZE_WITH_GIC: &str = "hypervisor-with-gic-bytes";
/// The paths that are measured on the last core of the largest machine too, which must cost the same there as
/// on core 0: they share no lock, and nothing that grows with the number of cores.
const ON_ANY_CORE: [&str; 3] = ["hypercall-primary", "hypercall-unknown", "run-yield"];
const LARGE: u32 = 64;

/// The size of the kernel that runs programs.
const SIZE_OF_LWK: &str = "lwk-bytes";

/// What else is known about a path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Peer {
    about: String,
    /// More than this is a fault, whatever the baseline says. The counter's own two instructions are in it.
    must: Option<f64>,
    /// The limit is not met yet: that is shown, and is no fault as long as the figure does not grow.
    #[serde(default)]
    missed: bool,
    /// What would be good.
    aim: Option<f64>,
    hafnium_main: Option<f64>,
    hafnium_best: Option<f64>,
}

type Peers = BTreeMap<String, Peer>;

/// The committed figures, by board and compiler: another compiler makes other instructions.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Baseline(BTreeMap<String, BTreeMap<String, Figures>>);

/// What has been measured, and what it is to be compared with.
struct Measured {
    figures: Figures,
    /// The baseline for this board and compiler.
    known: Option<Figures>,
    peers: Peers,
    compiler: String,
    /// What differs on the last core.
    uneven: Vec<String>,
}

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let board = board::find(&args.board)?;
    let toolchain = setup::ensure_toolchain()?;
    setup::ensure_qemu()?;
    let lock = artefacts::lock()?;
    build::images(board, &toolchain, &[])?;
    artefacts::freeze(lock, &[board.name])?;
    let measured = measure_all(board, &toolchain)?;
    println!("\n{}", report(&measured));
    println!(
        "Instructions counted by QEMU (-icount shift=0, one core); what caches and TLBs cost is not in them."
    );
    let compiler = &measured.compiler;
    if measured.known.is_none() {
        println!("There is no baseline for {compiler}: figures are held against the limits only.");
    }
    if args.update_baseline {
        let mut baseline = read_baseline()?;
        let boards = baseline.0.entry(board.name.into()).or_default();
        boards.insert(compiler.clone(), measured.figures);
        return write_baseline(&baseline);
    }
    let faults = measured.faults();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

/// For `cargo xtask test`: measures what has been built for every board; what is wrong with it, and a remark.
pub fn check() -> Result<(Vec<String>, String)> {
    let toolchain = setup::ensure_toolchain()?;
    let (mut faults, mut figures, mut baselines) = (Vec::new(), 0, 0);
    for board in board::BOARDS {
        let measured = measure_all(board, &toolchain)?;
        figures += measured.figures.len();
        baselines += usize::from(measured.known.is_some());
        faults.extend(measured.faults().into_iter().map(|fault| format!("{}: {fault}", board.name)));
    }
    let (compiler, boards) = (toolchain.compiler(), board::BOARDS.len());
    Ok((faults, format!("{figures} figures; {baselines} of {boards} boards have a baseline for {compiler}")))
}

/// Boots what measures, and looks at the hypervisor's size.
fn measure_all(board: &'static Board, toolchain: &Toolchain) -> Result<Measured> {
    let mut peers: Peers = toml::from_str(PEERS).context("cannot understand xtask/bench-peers.toml")?;
    if board.name != BOARD {
        // The limits are those of the default board's processor and interrupt controller.
        for peer in peers.values_mut() {
            peer.must = None;
        }
    }
    let mut spec: Spec = toml::from_str(STACK).context("cannot understand xtask/bench-bundle.toml")?;
    let compiler = toolchain.compiler();
    let known = read_baseline()?.0.get(board.name).and_then(|by| by.get(&compiler)).cloned();

    let mut native = machine(board, "native.img")?;
    native.bootargs.clone_from(&spec.native.bootargs);
    let stack = |spec: &Spec, file: &str| {
        let mut stack = machine(board, "hv.img")?;
        let bundle = paths::images(board.name).join(file);
        paths::write(&bundle, &spec.build(&paths::images(board.name))?)?;
        stack.initrd = Some(bundle);
        Ok::<_, anyhow::Error>(stack)
    };
    let mut figures = measure("native", &native)?;
    figures.extend(measure("stack", &stack(&spec, "bench.cpio")?)?);

    // What the kernel costs a program, native and in a VM.
    let costs = Program { name: "costs".into(), ..Program::default() };
    let mut programs = machine(board, "lwk.img")?;
    let root = paths::images(board.name).join("bench-programs.cpio");
    paths::write(&root, &costs.root()?)?;
    // The program measures its own core; some machines always have four.
    (programs.initrd, programs.bootargs) = (Some(root), costs.bootargs("cores=1")?);
    figures.extend(measure("programs", &programs)?);
    let one = Spec::of_program("one", 1, 512, &costs.bootargs("")?, costs.root()?);
    for (path, count) in measure("programs-vm", &stack(&one, "bench-programs-vm.cpio")?)? {
        figures.insert(format!("guest-{path}"), count);
    }

    // The same machine with the hypervisor that gives VMs a GIC, and a guest that has one.
    let mut virtual_gic = spec.clone();
    virtual_gic.vm[0].bootargs = Some("exit-when=all-stopped".into());
    virtual_gic.vm[1].kernel = Some("guest-bench-gic.img".into());
    virtual_gic.vm[1].bootargs = None;
    virtual_gic.vm[1].properties.insert("margay,gic".into(), true.into());
    let mut with_gic = stack(&virtual_gic, "bench-gic.cpio")?;
    with_gic.kernel = build::image_path(board, "hv-gic.img")?;
    figures.extend(measure("gic", &with_gic)?);

    // A guest whose para-virtual interrupts come by list registers, which only GICv3 has for that.
    let has_lists = board.machine.gic == Gic::Version(3);
    if !has_lists {
        println!("left out: paths by list registers, which need a GICv3");
    }
    let mut lists = virtual_gic.clone();
    lists.vm[1].kernel = Some("guest-bench-lists.img".into());
    lists.vm[1].properties.clear();
    lists.vm[1].properties.insert("margay,list-registers".into(), true.into());
    let mut with_lists = stack(&lists, "bench-lists.cpio")?;
    with_lists.kernel = build::image_path(board, "hv-gic.img")?;
    if has_lists {
        figures.extend(measure("lists", &with_lists)?);
    }

    // A guest that interrupts itself, across two cores.
    for (title, from, kernel) in [
        ("ipi", &spec, "hv.img"),
        ("gic-ipi", &virtual_gic, "hv-gic.img"),
        ("lists-ipi", &lists, "hv-gic.img"),
    ] {
        if title == "lists-ipi" && !has_lists {
            continue;
        }
        let mut two = from.clone();
        two.vm[0].bootargs = Some("exit-when=all-stopped".into());
        two.vm[1].vcpus = Some(2);
        let mut machine = stack(&two, &format!("bench-{title}.cpio"))?;
        machine.kernel = build::image_path(board, kernel)?;
        machine.cores = 2;
        figures.extend(measure(title, &machine)?);
    }

    // A device's interrupt, straight to the VM that has the device, and by way of the primary.
    let has_rtc = board.package == board::find(BOARD)?.package;
    if !has_rtc {
        println!("left out: interrupts of a device, the PL031 real-time clock of QEMU's virt");
    }
    for (path, forward) in [("device-interrupt", false), ("device-interrupt-forwarded", true)] {
        if !has_rtc {
            continue;
        }
        let mut device = spec.clone();
        device.vm[0].bootargs = Some("exit-when=all-stopped".into());
        device.vm[1].bootargs = Some(format!("device={path}"));
        device.vm[1].properties.insert("margay,kind".into(), "super-secondary".into());
        if forward {
            device.hypervisor.insert("margay,forward-interrupts".into(), true.into());
        }
        figures.extend(measure(path, &stack(&device, &format!("bench-{path}.cpio"))?)?);
    }

    let uneven = if board.machine.fixed.is_none() && board.machine.most_cores >= LARGE {
        let line = spec.vm[0].bootargs.get_or_insert_default();
        *line = format!("{line} bench-core={}", LARGE - 1);
        let mut large = stack(&spec, "bench-large.cpio")?;
        large.cores = LARGE;
        let there = measure("large", &large)?;
        ON_ANY_CORE.iter().filter_map(|path| uneven(path, &figures, &there)).collect()
    } else {
        println!("left out: the last core of {LARGE}, which this board does not have");
        Vec::new()
    };

    let elf = paths::read(&build::image_path(board, "hv.elf")?)?;
    figures.insert(SIZE.into(), image::text_and_rodata(&elf).context("hv.elf")? as f64);
    let elf = paths::read(&build::image_path(board, "hv-gic.elf")?)?;
    figures.insert(SIZE_WITH_GIC.into(), image::text_and_rodata(&elf).context("hv-gic.elf")? as f64);
    let elf = paths::read(&build::image_path(board, "lwk.elf")?)?;
    figures.insert(SIZE_OF_LWK.into(), image::text_and_rodata(&elf).context("lwk.elf")? as f64);
    Ok(Measured { figures, known, peers, compiler, uneven })
}

/// Whether a path costs something else on the last core.
fn uneven(path: &str, here: &Figures, there: &Figures) -> Option<String> {
    let show = |figures: &Figures| figures.get(path).map_or_else(|| "nothing".into(), |n| table::figure(*n));
    (here.get(path) != there.get(path) || !here.contains_key(path)).then(|| {
        format!("{path} costs {} on core 0 and {} on core {} of {LARGE}", show(here), show(there), LARGE - 1)
    })
}

impl Measured {
    fn faults(&self) -> Vec<String> {
        let mut faults = self.uneven.clone();
        for (path, peer) in &self.peers {
            match (self.figures.get(path), peer.must) {
                (Some(now), Some(must)) if *now > must && !peer.missed => {
                    faults.push(format!(
                        "{path} is {}, above its limit of {}",
                        table::figure(*now),
                        table::figure(must)
                    ));
                }
                (None, Some(_)) => faults.push(format!("{path} was not measured")),
                _ => {}
            }
        }
        faults.extend(self.known.iter().flat_map(|known| regressions(&self.figures, known)));
        faults
    }
}

fn machine(board: &'static Board, image: &str) -> Result<Machine> {
    let mut machine = Machine::new(board, build::image_path(board, image)?);
    machine.cores = 1;
    machine.icount = true;
    machine.devices = ONE_GHZ.map(str::to_owned).into();
    machine.limit = Duration::from_mins(5);
    Ok(machine)
}

/// The figures that a machine says.
fn measure(title: &str, machine: &Machine) -> Result<Figures> {
    eprintln!("... measuring: {title}");
    let log = paths::logs().join(format!("bench-{title}.log"));
    let outcome = machine.run(|_| None)?;
    paths::write(&log, (outcome.lines.join("\n") + "\n").as_bytes())?;
    let log = paths::shown(&log);
    ensure!(
        outcome.end == End::PowerOff,
        "{title}: the machine {}; its console is in {log}",
        outcome.end.describe(machine.limit)
    );
    let status = console::exit_status(&outcome.lines);
    ensure!(status == Some(0), "{title}: it did not end with @exit status=0; its console is in {log}");
    let figures: Figures = outcome
        .lines
        .iter()
        .filter_map(|line| match Line::of(line).said() {
            Some(Said::Bench { path, instructions }) => Some((path, instructions)),
            _ => None,
        })
        .collect();
    ensure!(!figures.is_empty(), "{title}: the machine measured nothing; its console is in {log}");
    Ok(figures)
}

fn report(measured: &Measured) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), table::figure);
    let rows: Vec<Vec<String>> = measured
        .figures
        .iter()
        .map(|(path, count)| {
            let peer = measured.peers.get(path);
            vec![
                path.clone(),
                table::figure(*count),
                show(measured.known.as_ref().and_then(|known| known.get(path).copied())),
                show(peer.and_then(|peer| peer.aim)),
                show(peer.and_then(|peer| peer.must)),
                show(peer.and_then(|peer| peer.hafnium_best)),
                show(peer.and_then(|peer| peer.hafnium_main)),
                peer.map(|peer| peer.about.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    let head =
        ["path", "instructions", "baseline", "aim", "must", "Hafnium best", "Hafnium main", "what it is"];
    table::render(&head, &rows)
}

/// Paths that grew, and paths that are gone.
fn regressions(figures: &Figures, known: &Figures) -> Vec<String> {
    let fault = |(path, before): (&String, &f64)| match figures.get(path) {
        None => Some(format!("{path} was not measured")),
        Some(now) if *now > before * TOLERANCE => {
            Some(format!("{path} grew from {} to {}", table::figure(*before), table::figure(*now)))
        }
        Some(_) => None,
    };
    known.iter().filter_map(fault).collect()
}

fn baseline_path() -> PathBuf {
    paths::root().join("xtask/bench-baseline.toml")
}

fn read_baseline() -> Result<Baseline> {
    let path = baseline_path();
    if !path.exists() {
        return Ok(Baseline::default());
    }
    let text = String::from_utf8(paths::read(&path)?).context("the baseline is UTF-8 text")?;
    toml::from_str(&text).with_context(|| format!("cannot understand {}", paths::shown(&path)))
}

fn write_baseline(baseline: &Baseline) -> Result<()> {
    let text = toml::to_string(baseline).context("cannot write the baseline")?;
    let head = "# Counted instructions (and the hypervisor's size in bytes) that a path may not outgrow by more than 2 %,\n\
                # by board and compiler.\n\
                # Written by `cargo xtask bench --update-baseline`.\n\n";
    paths::write(&baseline_path(), (head.to_owned() + &text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, f64)]) -> Figures {
        list.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect()
    }

    #[test]
    fn reports_growth_beyond_tolerance() {
        let known = figures(&[("same", 100.0), ("grown", 100.0), ("gone", 1.0)]);
        let now = figures(&[("same", 102.0), ("grown", 103.0), ("new", 5.0)]);
        assert_eq!(regressions(&now, &known), ["gone was not measured", "grown grew from 100 to 103"]);
    }

    #[test]
    fn limits_hold_whatever_the_baseline_says() {
        let peers = toml::from_str(
            "a = { about = 'x', must = 100.0 }\nb = { about = 'y', must = 1.0 }\n\
             m = { about = 'z', must = 1.0, missed = true }",
        )
        .unwrap();
        let known = Some(figures(&[("a", 200.0), ("m", 2.0)]));
        let (compiler, uneven) = (String::new(), vec!["c is uneven".into()]);
        let measured =
            Measured { figures: figures(&[("a", 150.0), ("m", 2.0)]), known, peers, compiler, uneven };
        assert_eq!(
            measured.faults(),
            ["c is uneven", "a is 150, above its limit of 100", "b was not measured"]
        );
    }

    #[test]
    fn every_core_must_count_the_same() {
        let here = figures(&[("a", 10.0), ("b", 10.0)]);
        let there = figures(&[("a", 10.0), ("b", 11.0)]);
        assert_eq!(uneven("a", &here, &there), None);
        let sentence = "b costs 10 on core 0 and 11 on core 63 of 64";
        assert_eq!(uneven("b", &here, &there).as_deref(), Some(sentence));
        assert!(uneven("c", &here, &there).is_some());
    }

    #[test]
    fn the_committed_files_are_well_formed() {
        let peers: Peers = toml::from_str(PEERS).unwrap();
        assert!(peers.values().all(|peer| !peer.about.is_empty()));
        let spec: Spec = toml::from_str(STACK).unwrap();
        assert_eq!(spec.vm.len(), 2);
        read_baseline().unwrap();
    }
}
